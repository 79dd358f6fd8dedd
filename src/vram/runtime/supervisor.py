"""All units of one `vram up`, and the gateway in front of them: started in order, kept alive, ended without a trace."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vram.errors import UsageError, VramError
from vram.gateway.assemble import PoolPlan
from vram.gateway.options import Options
from vram.gateway.server import Gateway
from vram.readers.pools import PoolsFile
from vram.runtime.driver import Driver
from vram.runtime.placing import Placed
from vram.runtime.pools import pools_of
from vram.runtime.restarts import Restarts
from vram.runtime.unit import StartError, State, Unit

log = logging.getLogger("vram.runtime")

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
    """

    folder: Path
    gateway: Options
    ready_seconds: float = 600.0
    dollars_per_hour: float | None = None


@dataclass(slots=True)
class Kept:
    """A unit with what keeps it alive."""

    unit: Unit
    restarts: Restarts = field(default_factory=Restarts)
    task: "asyncio.Task[None] | None" = None
    failing_since: float | None = None


class Supervisor:
    """One `vram up`.

    Attributes:
        units: by name.
        gateway: in front of them.
        say: told what people should read.
    """

    def __init__(self, placed: Sequence[Placed], driver: Driver, options: Up, *, say: Callable[[str], None] = lambda _: None) -> None:
        self.options = options
        self.say = say
        self.kept: dict[str, Kept] = {}
        for one in placed:
            unit = Unit(one, driver, options.folder / "logs", ready_seconds=options.ready_seconds, on_change=self._changed)
            self.kept[unit.name] = Kept(unit)
        self.gateway = Gateway(_with_read(options.gateway, self._pools))
        self.stopping = False
        self.done = asyncio.Event()
        self.began = time.time()
        self._watch: asyncio.Task[None] | None = None

    @property
    def units(self) -> dict[str, Unit]:
        """By name."""
        return {name: kept.unit for name, kept in self.kept.items()}

    def _pools(self) -> tuple[PoolsFile, dict[str, PoolPlan]]:
        return pools_of(self.units.values(), dollars_per_hour=self.options.dollars_per_hour)

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
        for unit in self.units.values():
            self._serves(unit, ready=False)
        for kept in self.kept.values():
            await self._bring_up(kept.unit)
            kept.task = asyncio.create_task(self._keep(kept))
        self._watch = asyncio.create_task(self._look())

    async def _bring_up(self, unit: Unit) -> None:
        """Start, prove, and let clients in."""
        await unit.start()
        unit.enter(State.READY)

    def _changed(self, unit: Unit) -> None:
        self._serves(unit, ready=unit.state is State.READY)

    def _serves(self, unit: Unit, *, ready: bool) -> None:
        """Let the gateway send requests to a unit, or keep them away from it."""
        if not hasattr(self.gateway, "assembled"):
            return
        for seat in self.gateway.assembled.seats.get(unit.name, []):
            seat.replica.health.drain(draining=not ready)
            if ready:
                seat.replica.health.good(self.gateway.house.now())
        self.gateway.assembled.desk.refresh()

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
            while True:
                wait = kept.restarts.died(time.monotonic(), time.time() - unit.since if unit.state is State.READY else 0.0)
                if wait is None:
                    unit.enter(State.OUT, f"{why}; {kept.restarts.deaths} times in ten minutes")
                    self.say(f"{unit.name} is out: its engine {why}, {kept.restarts.deaths} times in ten minutes. Its last lines:")
                    for line in unit.last_lines():
                        self.say(f"  {line}")
                    self.say(f"all of them: vram logs {unit.name}")
                    return
                unit.enter(State.WAITING, why)
                self.say(f"{unit.name}: its engine {why}; it is started again in {wait:g} s")
                await asyncio.sleep(wait)
                try:
                    await self._bring_up(unit)
                except VramError as e:
                    why = e.message
                else:
                    self.say(f"{unit.name} is back, {unit.ready_after_seconds or 0:.1f} s after its start")
                    break

    async def _look(self) -> None:
        """Once a second: an engine that lives and no longer generates is ended; `_keep` starts it again."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for kept in self.kept.values():
                unit = kept.unit
                seats = self.gateway.assembled.seats.get(unit.name, [])
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
        while time.monotonic() < ends and any(s.books.leases for s in self.gateway.assembled.seats.get(name, [])):  # noqa: ASYNC110  (a few looks a second in the last seconds of a unit)
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """End everything: first what clients ask, then the engines."""
        self.stopping = True
        for task in (self._watch, *(k.task for k in self.kept.values())):
            if task is not None:
                task.cancel()
        if hasattr(self.gateway, "house"):
            await self.gateway.stop()
        await asyncio.gather(*(unit.end() for unit in self.units.values()), return_exceptions=True)
        for unit in self.units.values():
            if unit.state is not State.OUT:
                unit.state = State.STOPPED


def _with_read(options: Options, read: Callable[[], Any]) -> Options:
    from dataclasses import replace  # noqa: PLC0415  (once a process)

    return replace(options, read=read)


async def serve(supervisor: Supervisor, *, told: Callable[[Supervisor], None]) -> None:
    """Start, run until a signal (SIGTERM, SIGINT) or a command says so, end.

    Raises:
        StartError: an engine did not start; all others are ended.
        UsageError: a port is taken.
    """
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(supervisor.start())

    def ask_to_end() -> None:
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
