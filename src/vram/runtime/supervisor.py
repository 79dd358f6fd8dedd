"""All units of one `vram up`, and the gateway in front of them: started in order, kept alive, ended without a trace."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vram.admission.line import Line
from vram.errors import UsageError, VramError
from vram.gateway.assemble import Assembled, PoolPlan
from vram.gateway.seats import Seat
from vram.gateway.server import Gateway
from vram.readers.pools import Limits, PoolsFile
from vram.runtime import others, reserving
from vram.runtime.control import Control
from vram.runtime.driver import Driver
from vram.runtime.options import Up
from vram.runtime.placing import Placed
from vram.runtime.pools import pools_of
from vram.runtime.residence import Residence
from vram.runtime.restarts import Restarts
from vram.runtime.runs import ELSEWHERE, Entry, runs
from vram.runtime.standing import refusal_of, standing
from vram.runtime.starter import Starter
from vram.runtime.together import Household, gpu_bytes
from vram.runtime.unit import StartError, State, Unit
from vram.runtime.watchdog import Kept, Watchdog
from vram.sources.private import own_folder

RUNS: Final = "run"
"""Folder, in the state's, of what runs."""


class Supervisor:
    """One `vram up`.

    Attributes:
        units: by name.
        gateway: in front of them.
        ready: whether all have been ready once.
        control: takes commands of others on this machine.
        starter: brings units up.
        watchdog: keeps them alive.
        residence: says which of them are loaded.
        say: told what people should read.
    """

    def __init__(self, household: Household, driver: Driver, options: Up, *, say: Callable[[str], None] = lambda _: None) -> None:
        self.options = options
        self.household = household
        self.say = say
        self.kept: dict[str, Kept] = {}
        for one in household.placed:
            unit = Unit(one, driver, options.folder / "logs", ready_seconds=options.ready_seconds, on_change=self._changed)
            self.kept[unit.name] = Kept(unit)
        self.gateway = Gateway(replace(options.gateway, read=self._pools, taken=self._taken))
        self._assembled: Assembled | None = None
        self.ready = False
        self.starter = Starter(options, say, self.gateway.read_again)
        self.watchdog = Watchdog(self.kept, self.starter, self.seats, say)
        runs(options.folder / RUNS)
        # What engines print may hold what clients asked.
        own_folder(own_folder(options.folder, hint=ELSEWHERE) / "logs", hint=ELSEWHERE)
        self.control = Control(self, Entry(options.folder / RUNS))
        self.done = asyncio.Event()
        self.began = time.time()
        # What was started in spite of its plan holds more than there is by that plan, and stays.
        held = [gpu_bytes(p, len(household.fleet)) for p in household.first.values()]
        capacity = tuple(max(c, sum(h[g] for h in held)) for g, c in enumerate(household.capacity))
        self.residence = Residence(self, household.ways, capacity, rules=options.turns, pinned=options.pinned)
        self._tasks: list[asyncio.Task[None]] = []
        # Those that could not be loaded when that was tried last.
        self._failing: set[str] = set()
        # How many wait for the end of which.
        self._ending: dict[str, int] = {}

    @property
    def units(self) -> dict[str, Unit]:
        """By name."""
        return {name: kept.unit for name, kept in self.kept.items()}

    def seats(self, name: str) -> list[Seat]:
        """A unit's replicas at the gateway's desk."""
        if self._assembled is None:
            return []
        url = self.kept[name].unit.url
        return [seat for seat in self._assembled.seats.get(self._pool(name), ()) if seat.replica.url == url]

    def _pool(self, name: str) -> str:
        filed = self.options.filed
        return filed.pools[name] if filed is not None else name

    def _pools(self) -> tuple[PoolsFile, dict[str, PoolPlan]]:
        if self.options.filed is not None:
            return self.options.filed.served(self.units.values())
        limits = Limits(queue_seconds=self.options.queue_seconds)
        return pools_of(self.units.values(), dollars_per_hour=self.options.dollars_per_hour, limits=limits)

    # --- beginning

    async def start(self) -> None:
        """Open the gateway's doors, then start every unit; those that are ready are served at once.

        Raises:
            StartError: an engine did not start.
            UsageError: a port is taken.
        """
        options = self.options.gateway
        try:
            await self.gateway.start()
        except OSError as e:
            raise UsageError(
                f"cannot listen on {options.host}:{options.port}: {e.strerror or e}", hint="is another vram running? choose another port: --port 8081"
            ) from None
        await self.control.start()
        for name, kept in self.kept.items():
            if name not in self.household.first:
                kept.unit.enter(State.ASLEEP, "loaded when it is asked for")
        for name in self.household.first:
            began = time.monotonic()
            try:
                await self.starter.bring_up(self.kept[name].unit)
            except StartError:
                if self.kept[name].unit.state is State.STOPPED:
                    continue
                raise
            self.watchdog.begin(self.kept[name])
            self.residence.loaded(name, self.kept[name].unit.ready_after_seconds or time.monotonic() - began)
        growing = reserving.watch(self.units.values, self.options.folder, self.say)
        self._tasks += [asyncio.create_task(c) for c in (self.watchdog.look(), self.residence.run(), growing)]
        if others.watchable(self.household.fleet):
            self._tasks.append(asyncio.create_task(others.watch(self.household.fleet, self.residence, self.say)))
        self.ready = True

    def _changed(self, unit: Unit) -> None:
        if unit.handle is not None:
            self.control.entry.write(u.handle.mark for u in self.units.values() if u.handle is not None)
        self.serves(unit, ready=self._open(unit))

    def _open(self, unit: Unit) -> bool:
        return unit.state is State.READY and self.residence.open(unit.name)

    def serves(self, unit: Unit, *, ready: bool) -> None:
        """Let the gateway send requests to a unit, or keep them away from it: they wait for one that is on its way, or comes when it is asked for."""
        if self._assembled is None:
            return
        for seat in self.seats(unit.name):
            health = seat.replica.health
            health.coming = unit.state not in {State.STOPPED, State.OUT} and not self.residence.never(unit.name)
            if ready:
                if health.come():
                    seat.replica.outcomes.clear()
                health.good(self.gateway.house.now())
            else:
                health.leave(*standing(unit), refusal_of(unit, never=self.residence.never(unit.name), failing=unit.name in self._failing))
        self._assembled.desk.refresh()

    def _taken(self, assembled: Assembled) -> None:
        self._assembled = assembled
        for unit in self.units.values():
            self.serves(unit, ready=self._open(unit))

    # --- models on demand (what `Residence` asks for)

    def line(self, name: str) -> Line | None:
        """The requests that wait for a unit, or for its pool under the first name that leads there."""
        if self._assembled is None:
            return None
        counters = self._assembled.desk.counters
        counter = counters.get(name)
        if self.options.filed is not None:
            pool = self._pool(name)
            counter = next((c for c in counters.values() if any(p.name == pool for p in c.route.pools)), None)
        return counter.line if counter is not None else None

    def waited(self, name: str) -> float:
        """Seconds that the oldest of them has waited."""
        line = self.line(name)
        return max((self.gateway.house.now() - n.arrived for n in line), default=0.0) if line is not None else 0.0

    def running(self, name: str) -> int:
        """Requests that a unit answers now."""
        return sum(len(s.books.leases) for s in self.seats(name))

    def ended(self, name: str) -> int:
        """Requests of a unit that have ended since the beginning."""
        return sum(sum(sums.outcomes.values()) for (model, _), sums in self.gateway.tally.sums.items() if model == name)

    async def load(self, unit: Unit, placed: Placed) -> bool:
        """Start a unit on the GPUs of `placed`; whether it is ready. One that fails too often is out."""
        kept = self.kept[unit.name]
        if placed is not unit.placed:
            unit.placed = placed
            await self.gateway.read_again()
        try:
            await self.starter.bring_up(unit, first=unit.proof is None)
        except VramError as e:
            if unit.state is State.STOPPED:
                return False
            self._failing.add(unit.name)
            wait = kept.restarts.died(time.monotonic(), 0.0)
            if wait is None:
                self.watchdog.out(kept, e.message)
            else:
                unit.enter(State.ASLEEP, e.message)
                self.residence.uses[unit.name].not_before = time.monotonic() + wait
                self.say(f"{e.message}; {unit.name} is tried again in {wait:g} s")
            return False
        self._failing.discard(unit.name)
        self.watchdog.begin(kept)
        return True

    async def unload(self, unit: Unit) -> None:
        """End a unit that nobody uses; it comes back when it is asked for."""
        task = self.kept[unit.name].task
        if task is not None:
            task.cancel()
            # One that died meanwhile may be on its way back: that is undone first.
            await asyncio.wait({task})
        unit.enter(State.ENDING, "makes room")
        await unit.end()
        while unit.handle is not None and unit.handle.exit is None:
            # A process that the kernel cannot end yet (a driver's call that hangs) still holds its memory: nobody is loaded into it.
            self.say(f"{unit.name} does not end; its memory is not free yet")
            await asyncio.to_thread(unit.handle.wait, 10.0)
        unit.enter(State.ASLEEP, "loaded when it is asked for")

    # --- ending

    async def stop_one(self, name: str) -> None:
        """End one unit for good; its requests go on being refused, the others go on.

        Raises:
            UsageError: there is none of that name.
        """
        kept = self.kept.get(name)
        if kept is None:
            raise UsageError(f"no model {name!r} runs here", hint=f"those that do: {', '.join(self.kept)}")
        kept.unit.enter(State.STOPPED, f"by hand; vram start {name} lets it come again")
        if kept.task is not None:
            kept.task.cancel()
        self._ending[name] = self._ending.get(name, 0) + 1
        try:
            await self._emptied(name)
            await kept.unit.end()
            # A start that was under way sees on its next look that it was stopped: until then it would take a model that is let in again for its own.
            while name in self.starter.bringing:  # noqa: ASYNC110  (a few looks, once for a stop)
                await asyncio.sleep(0.05)
        finally:
            self._ending[name] -= 1

    def start_one(self, name: str) -> None:
        """Let one that was stopped by hand, or failed too often, come again when it is asked for.

        Raises:
            UsageError: there is none of that name, it was not stopped, or its engine has not ended yet.
        """
        kept = self.kept.get(name)
        if kept is None:
            raise UsageError(f"no model {name!r} runs here", hint=f"those that do: {', '.join(self.kept)}")
        if kept.unit.state not in {State.STOPPED, State.OUT}:
            raise UsageError(f"{name} is {kept.unit.state.value}: it was not stopped", hint="vram ps shows what runs")
        handle = kept.unit.handle
        if self._ending.get(name) or (handle is not None and handle.exit is None):
            raise UsageError(f"{name} still ends", hint=f"in some seconds: vram start {name}")
        kept.restarts = Restarts()
        kept.unit.wake("loaded when it is asked for")

    async def _emptied(self, name: str) -> None:
        ends = time.monotonic() + self.options.gateway.limits.drain_seconds
        while time.monotonic() < ends and any(s.books.leases for s in self.seats(name)):  # noqa: ASYNC110  (a few looks a second in the last seconds of a unit)
            await asyncio.sleep(0.1)

    def hurry(self) -> None:
        """Wait for nobody: clients are cut off, engines killed. For who asks a second time."""
        if self._assembled is not None:
            for front in list(self.gateway.house.fronts):
                front.transport.abort()
        for unit in self.units.values():
            if unit.handle is not None:
                unit.handle.stop(0.0)

    async def stop(self) -> None:
        """End everything: first what clients ask, then the engines."""
        self.watchdog.stopping = True
        tasks = [*self._tasks, *(k.task for k in self.kept.values() if k.task is not None)]
        for task in tasks:
            task.cancel()
        if hasattr(self.gateway, "house"):
            await self.gateway.stop()
        # What was amid a start has ended what it started.
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(unit.end() for unit in self.units.values()), return_exceptions=True)
        for unit in self.units.values():
            if unit.state is not State.OUT:
                unit.state = State.STOPPED
        await self.control.stop()
