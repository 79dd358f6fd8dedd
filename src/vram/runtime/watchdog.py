"""Units kept alive: started again when they die, ended when they hang, left out when neither helps."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from vram.errors import VramError
from vram.gateway.seats import Seat
from vram.runtime.restarts import Restarts
from vram.runtime.starter import Starter
from vram.runtime.unit import State, Unit

HUNG_SECONDS: Final = 60.0
"""An engine that lives and fails its probes for so long is ended and started again."""


@dataclass(slots=True)
class Kept:
    """A unit with what keeps it alive."""

    unit: Unit
    restarts: Restarts = field(default_factory=Restarts)
    task: "asyncio.Task[None] | None" = None
    failing_since: float | None = None
    told: bool = False


class Watchdog:
    """Keeps the units of one run alive.

    Attributes:
        kept: the units, by name.
        stopping: whether the run ends: who dies now is not started again.
    """

    def __init__(self, kept: Mapping[str, Kept], starter: Starter, seats: Callable[[str], list[Seat]], say: Callable[[str], None]) -> None:
        """`seats` gives a unit's replicas at the gateway's desk."""
        self.kept = kept
        self.stopping = False
        self._starter = starter
        self._seats = seats
        self._say = say

    def begin(self, kept: Kept) -> None:
        """Keep a unit that is ready, from now on."""
        kept.task = asyncio.create_task(self._keep(kept))

    async def _keep(self, kept: Kept) -> None:
        """Start a unit again whenever it dies, until that is of no use."""
        unit = kept.unit
        while True:
            await unit.ended.wait()
            if self.stopping or unit.state in {State.STOPPED, State.OUT}:
                return
            ended = unit.handle.exit if unit.handle is not None else None
            why = ended.words if ended is not None else "ended"
            lower = await self._starter.lowered(unit)
            while True:
                wait = kept.restarts.died(time.monotonic(), time.time() - unit.since if unit.state is State.READY else 0.0)
                if wait is None:
                    self.out(kept, f"its engine {why}")
                    return
                unit.enter(State.WAITING, why)
                self._say(f"{unit.name}: its engine {why}; it is started again in {wait:g} s")
                await asyncio.sleep(wait)
                try:
                    await self._starter.bring_up(unit, first=lower)
                except VramError as e:
                    why = e.message
                else:
                    self._say(f"{unit.name} is back, {unit.ready_after_seconds or 0:.1f} s after its start")
                    break

    def out(self, kept: Kept, why: str) -> None:
        """Give a unit up, and say what it said last."""
        unit = kept.unit
        unit.enter(State.OUT, f"{why}; {kept.restarts.deaths} times in ten minutes")
        self._say(f"{unit.name} is out: {why}, {kept.restarts.deaths} times in ten minutes. Its last lines:")
        for line in unit.last_lines():
            self._say(f"  {line}")
        self._say(f"all of them: vram logs {unit.name}")

    async def look(self) -> None:
        """Once a second: an engine that lives and no longer generates is ended; `_keep` starts it again."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for kept in self.kept.values():
                unit = kept.unit
                trouble = unit.handle.trouble if unit.handle is not None else ""
                if trouble and not kept.told:
                    self._say(f"{unit.name}: what its engine prints is not kept ({trouble}); it goes on")
                kept.told = bool(trouble)
                seats = self._seats(unit.name)
                # One that takes nobody because it is to make room is not hung: what it answers goes on.
                failing = unit.state is State.READY and bool(seats) and all(s.replica.health.out for s in seats) and seats[0].replica.health.failures > 0
                if not failing:
                    kept.failing_since = None
                elif kept.failing_since is None:
                    kept.failing_since = now
                elif now - kept.failing_since > HUNG_SECONDS:
                    kept.failing_since = None
                    self._say(f"{unit.name} runs, but has not generated for {HUNG_SECONDS:g} s: it is ended")
                    await unit.end(0.0)
