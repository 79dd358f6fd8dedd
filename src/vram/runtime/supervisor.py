"""All units of one `vram up`, and the gateway in front of them: started in order, kept alive, ended without a trace."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from vram.admission.line import Line
from vram.admission.residency import TurnRules
from vram.engines.logs.base import EngineLog
from vram.errors import UsageError, VramError, printable
from vram.gateway.assemble import Assembled, PoolPlan
from vram.gateway.options import Options
from vram.gateway.seats import Seat
from vram.gateway.server import Gateway
from vram.planner.plan import Plan
from vram.readers.pools import Limits, PoolsFile
from vram.runtime import others
from vram.runtime.control import Control
from vram.runtime.driver import Driver
from vram.runtime.gentler import MOST_STEPS, Step, steps
from vram.runtime.learned import learn
from vram.runtime.measured import beside, measured_row, read_start
from vram.runtime.placing import Placed, replan
from vram.runtime.pools import pools_of
from vram.runtime.probe import UnprovedError, prove
from vram.runtime.residence import Residence
from vram.runtime.restarts import Restarts
from vram.runtime.runs import Entry, runs
from vram.runtime.together import Household, gpu_bytes
from vram.runtime.unit import StartError, State, Unit
from vram.sources.calibration import append_row
from vram.units import gib

log = logging.getLogger("vram.runtime")

RUNS: Final = "run"
"""Folder, in the state's, of what runs."""
OTHERS_SECONDS: Final = 10.0
"""How often the driver is asked what others hold of the GPUs."""
LAST_WORDS: Final = 50
"""Lines in which an engine that died is taken to have said why."""
HUNG_SECONDS: Final = 60.0
"""An engine that lives and fails its probes for so long is ended and started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """How a supervisor runs.

    Attributes:
        folder: where logs, state and socket lie.
        gateway: the gateway's options; its `read` is the supervisor's own.
        ready_seconds: how long an engine may take until it answers.
        dollars_per_hour: what an hour of each model's GPUs costs; None: not known.
        probe_seconds: how long an engine may take for what its plan admits at most; 0: it is not asked.
        step_down: whether a start that runs out of memory is tried again with gentler settings.
        calibration: file that keeps measured starts for later plans; None: they are not kept.
        turns: how long a model stays that others wait for, and when one that nobody asks for is unloaded.
        pinned: models that are never unloaded.
        queue_seconds: how long a request may wait, for a model to be loaded, too.
    """

    folder: Path
    gateway: Options
    ready_seconds: float = 600.0
    dollars_per_hour: float | None = None
    probe_seconds: float = 300.0
    step_down: bool = True
    calibration: Path | None = None
    turns: TurnRules = field(default_factory=TurnRules)
    pinned: frozenset[str] = frozenset()
    queue_seconds: float = 300.0


@dataclass(slots=True)
class Kept:
    """A unit with what keeps it alive."""

    unit: Unit
    restarts: Restarts = field(default_factory=Restarts)
    task: "asyncio.Task[None] | None" = None
    failing_since: float | None = None
    told: bool = False


class Supervisor:
    """One `vram up`.

    Attributes:
        units: by name.
        gateway: in front of them.
        ready: whether all have been ready once.
        control: takes commands of others on this machine.
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
        self.stopping = self.ready = False
        runs(options.folder / RUNS)
        self.control = Control(self, Entry(options.folder / RUNS))
        self.done = asyncio.Event()
        self.began = time.time()
        self._watch: asyncio.Task[None] | None = None
        # What was started in spite of its plan holds more than there is by that plan, and stays.
        held = [gpu_bytes(p, len(household.fleet)) for p in household.first.values()]
        capacity = tuple(max(c, sum(h[g] for h in held)) for g, c in enumerate(household.capacity))
        self.residence = Residence(self, household.ways, capacity, rules=options.turns, pinned=options.pinned)
        self._residing: asyncio.Task[None] | None = None
        self._others: asyncio.Task[None] | None = None

    @property
    def units(self) -> dict[str, Unit]:
        """By name."""
        return {name: kept.unit for name, kept in self.kept.items()}

    def seats(self, name: str) -> list[Seat]:
        """A unit's replicas at the gateway's desk."""
        return self._assembled.seats.get(name, []) if self._assembled is not None else []

    def _pools(self) -> tuple[PoolsFile, dict[str, PoolPlan]]:
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
                kept.unit.enter(State.UNLOADED, "loaded when it is asked for")
        for name in self.household.first:
            began = time.monotonic()
            await self._bring_up(self.kept[name].unit)
            self.kept[name].task = asyncio.create_task(self._keep(self.kept[name]))
            self.residence.loaded(name, self.kept[name].unit.ready_after_seconds or time.monotonic() - began)
        self._watch = asyncio.create_task(self._look())
        self._residing = asyncio.create_task(self.residence.run())
        if others.watchable(self.household.fleet):
            self._others = asyncio.create_task(self._see_others())
        self.ready = True

    async def _bring_up(self, unit: Unit, *, first: bool = True) -> None:
        """Start, prove, let clients in. Where memory runs out though the plan fits, one setting goes down and it is tried again.

        Raises:
            StartError: it did not start, or failed what its plan admits, and no setting helps.
        """
        asked, told = unit.placed.plan, ""
        for _ in range(MOST_STEPS):
            try:
                await self._prove(unit, first=first or bool(told))
            except StartError as e:
                await unit.end(0.0)
                step = self._gentler(unit, e)
                if step is None:
                    raise
                told = e.message
                self.say(f"{e.message}; tried again with {step.flag}")
                unit.placed = replan(unit.placed, step.wanted)
                await self.gateway.read_again()
                continue
            if told:
                learn(self.options.folder, asked, unit.placed.wanted, f"with {_told(asked)}: {told}")
            unit.enter(State.READY)
            return
        raise unit.failed(f"{unit.name}: it has too little memory with {MOST_STEPS} gentler settings, too")

    async def _prove(self, unit: Unit, *, first: bool) -> None:
        await unit.start()
        log = read_start(unit.handle.head() if unit.handle is not None else [], unit.placed.engine.rules)
        unit.measured = beside(unit.placed.plan, log)
        if not first or not self.options.probe_seconds:
            return
        unit.enter(State.PROVING)
        w = unit.placed.plan.workload
        self.say(f"{unit.name}: started; now the most that its plan admits, {w.concurrency} x {w.context_tokens:,} tokens")
        try:
            unit.proof = await prove(unit, seconds=self.options.probe_seconds)
        except UnprovedError as e:
            plan = unit.placed.plan
            with suppress(TimeoutError):
                # An engine that dies of what it was asked dies a moment after it dropped the connection.
                await asyncio.wait_for(unit.ended.wait(), 2.0)
            what = f"{plan.workload.concurrency} x {plan.workload.context_tokens:,} tokens, as its plan admits"
            raise unit.failed(f"{unit.name}: {unit.placed.engine.name} failed {what}: {e}") from None
        self._keep_measured(unit, log)

    def _keep_measured(self, unit: Unit, log: EngineLog) -> None:
        """Later plans of the same model, engine, GPU and settings on this machine use what was measured."""
        plan = unit.placed.plan
        if self.options.calibration is None or not unit.measured or any(p.source == "measured" for _, p in plan.gpus[0].parts.items()):
            return
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        row = measured_row(plan, log, unit.measured, model=unit.placed.wanted.model, source=f"vram up {when}")
        # A full disk: it is measured again at the next start.
        with suppress(OSError):
            append_row(row, self.options.calibration)

    def _gentler(self, unit: Unit, error: StartError) -> Step | None:
        """The first gentler setting that really takes less by its plan; None where memory was not what failed."""
        if error.short is None or not self.options.step_down:
            return None
        placed = unit.placed
        for step in steps(placed.wanted, placed.plan, error.short):
            with suppress(VramError):
                changed = replan(placed, step.wanted).plan
                less = [
                    (new.parts.high_bytes, new.kv_needed_bytes) < (old.parts.high_bytes, old.kv_needed_bytes)
                    for new, old in zip(changed.gpus, placed.plan.gpus, strict=False)
                ]
                if any(less):
                    return step
        return None

    def _changed(self, unit: Unit) -> None:
        if unit.handle is not None:
            self.control.entry.write(u.handle.mark for u in self.units.values() if u.handle is not None)
        self.serves(unit, ready=unit.state is State.READY)

    def serves(self, unit: Unit, *, ready: bool) -> None:
        """Let the gateway send requests to a unit, or keep them away from it: they wait for one that is on its way, or comes when it is asked for."""
        if self._assembled is None:
            return
        for seat in self.seats(unit.name):
            seat.replica.health.drain(draining=not ready)
            seat.replica.health.coming = unit.state not in {State.STOPPED, State.OUT}
            if ready:
                seat.replica.health.good(self.gateway.house.now())
        self._assembled.desk.refresh()

    def _taken(self, assembled: Assembled) -> None:
        self._assembled = assembled
        for unit in self.units.values():
            self.serves(unit, ready=unit.state is State.READY)

    # --- models on demand (what `Residence` asks for)

    def line(self, name: str) -> Line | None:
        """The requests that wait for a unit."""
        counter = self._assembled.desk.counters.get(name) if self._assembled is not None else None
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
            await self._bring_up(unit, first=unit.proof is None)
        except VramError as e:
            if unit.state is State.STOPPED:
                return False
            wait = kept.restarts.died(time.monotonic(), 0.0)
            if wait is None:
                self._out(kept, e.message)
            else:
                unit.enter(State.UNLOADED, e.message)
                self.residence.uses[unit.name].not_before = time.monotonic() + wait
                self.say(f"{e.message}; {unit.name} is tried again in {wait:g} s")
            return False
        kept.task = asyncio.create_task(self._keep(kept))
        return True

    async def unload(self, unit: Unit) -> None:
        """End a unit that nobody uses; it comes back when it is asked for."""
        task = self.kept[unit.name].task
        if task is not None:
            task.cancel()
        unit.enter(State.ENDING, "makes room")
        await unit.end()
        unit.enter(State.UNLOADED, "loaded when it is asked for")

    async def _see_others(self) -> None:
        """Other programs' memory is theirs: what is ours shrinks and grows with it."""
        while True:
            await asyncio.sleep(OTHERS_SECONDS)
            used = await asyncio.to_thread(others.used_now)
            held = self.residence.held()
            if not used or held is None:
                continue
            found = others.ours(self.household.fleet, used, held)
            if found != self.residence.capacity:
                self.say(f"for these models there are now {', '.join(gib(b) for b in found)}: other programs hold the rest")
                self.residence.capacity = found

    # --- going on

    async def _keep(self, kept: Kept) -> None:
        """Start a unit again whenever it dies, until that is of no use."""
        unit = kept.unit
        while True:
            await unit.ended.wait()
            if self.stopping or unit.state in {State.STOPPED, State.OUT}:
                return
            ended = unit.handle.exit if unit.handle is not None else None
            why = ended.words if ended is not None else "ended"
            lower = await self._lowered(unit)
            while True:
                wait = kept.restarts.died(time.monotonic(), time.time() - unit.since if unit.state is State.READY else 0.0)
                if wait is None:
                    self._out(kept, f"its engine {why}")
                    return
                unit.enter(State.WAITING, why)
                self.say(f"{unit.name}: its engine {why}; it is started again in {wait:g} s")
                await asyncio.sleep(wait)
                try:
                    await self._bring_up(unit, first=lower)
                except VramError as e:
                    why = e.message
                else:
                    self.say(f"{unit.name} is back, {unit.ready_after_seconds or 0:.1f} s after its start")
                    break

    def _out(self, kept: Kept, why: str) -> None:
        unit = kept.unit
        unit.enter(State.OUT, f"{why}; {kept.restarts.deaths} times in ten minutes")
        self.say(f"{unit.name} is out: {why}, {kept.restarts.deaths} times in ten minutes. Its last lines:")
        for line in unit.last_lines():
            self.say(f"  {line}")
        self.say(f"all of them: vram logs {unit.name}")

    async def _lowered(self, unit: Unit) -> bool:
        """Where it died of memory by its own last words, go on with a gentler setting. Returns whether that is so."""
        short = unit.placed.engine.short_of(unit.handle.tail(LAST_WORDS)) if unit.handle is not None else None
        step = self._gentler(unit, StartError("", short=short)) if short is not None else None
        if short is None or step is None:
            return False
        asked = unit.placed.plan
        self.say(f"{unit.name}: its engine ran out of memory ({printable(short.said, 160)}); it goes on with {step.flag}")
        unit.placed = replan(unit.placed, step.wanted)
        learn(self.options.folder, asked, step.wanted, f"with {_told(asked)} it ran out of memory under requests")
        await self.gateway.read_again()
        return True

    async def _look(self) -> None:
        """Once a second: an engine that lives and no longer generates is ended; `_keep` starts it again."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for kept in self.kept.values():
                unit = kept.unit
                trouble = unit.handle.trouble if unit.handle is not None else ""
                if trouble and not kept.told:
                    self.say(f"{unit.name}: what its engine prints is not kept ({trouble}); it goes on")
                kept.told = bool(trouble)
                seats = self.seats(unit.name)
                failing = (
                    unit.state is State.READY and bool(seats) and not any(s.replica.health.usable() for s in seats) and seats[0].replica.health.failures > 0
                )
                if not failing:
                    kept.failing_since = None
                elif kept.failing_since is None:
                    kept.failing_since = now
                elif now - kept.failing_since > HUNG_SECONDS:
                    kept.failing_since = None
                    self.say(f"{unit.name} runs, but has not generated for {HUNG_SECONDS:g} s: it is ended")
                    await unit.end(0.0)

    # --- ending

    async def stop_one(self, name: str) -> None:
        """End one unit for good; its requests go on being refused, the others go on.

        Raises:
            UsageError: there is none of that name.
        """
        kept = self.kept.get(name)
        if kept is None:
            raise UsageError(f"no model {name!r} runs here", hint=f"those that do: {', '.join(self.kept)}")
        kept.unit.enter(State.STOPPED, "stopped by hand")
        if kept.task is not None:
            kept.task.cancel()
        await self._emptied(name)
        await kept.unit.end()

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
        self.stopping = True
        for task in (self._watch, self._residing, self._others, *(k.task for k in self.kept.values())):
            if task is not None:
                task.cancel()
        if hasattr(self.gateway, "house"):
            await self.gateway.stop()
        await asyncio.gather(*(unit.end() for unit in self.units.values()), return_exceptions=True)
        for unit in self.units.values():
            if unit.state is not State.OUT:
                unit.state = State.STOPPED
        await self.control.stop()


def _told(plan: Plan) -> str:
    """A plan's settings in a few words."""
    w = plan.workload
    return f"{w.concurrency} x {w.context_tokens:,} tokens, {w.kv_dtype} cache"


async def serve(supervisor: Supervisor, *, told: Callable[[Supervisor], None]) -> None:
    """Start, run until a signal (SIGTERM, SIGINT) or a command says so, end.

    Raises:
        StartError: an engine did not start; all others are ended.
        UsageError: a port is taken.
    """
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(supervisor.start())

    def ask_to_end() -> None:
        if supervisor.done.is_set():
            supervisor.hurry()
        supervisor.done.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, ask_to_end)
    ended = asyncio.ensure_future(supervisor.done.wait())
    try:
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            told(supervisor)
            await ended
    finally:
        starting.cancel()
        ended.cancel()
        with suppress(asyncio.CancelledError, VramError):
            await starting
        await supervisor.stop()


def run(make: Callable[[], Supervisor], *, told: Callable[[Supervisor], None]) -> None:
    """`serve` on uvloop where it is there, else on asyncio's own loop."""

    async def live() -> None:
        await serve(make(), told=told)

    if sys.platform != "win32":
        try:
            import uvloop  # noqa: PLC0415  (an extra)
        except ImportError:
            pass
        else:
            uvloop.run(live())
            return
    asyncio.run(live())


__all__ = ["StartError", "Supervisor", "Up", "run", "serve"]
