"""A unit's way to its clients: started, put to the most that its plan admits, and with gentler settings where memory runs out."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from vram.engines.logs.base import EngineLog
from vram.errors import VramError, printable
from vram.planner.plan import Plan
from vram.runtime.gentler import MOST_STEPS, Step, steps
from vram.runtime.learned import learn
from vram.runtime.measured import beside, measured_row, read_start
from vram.runtime.options import Up
from vram.runtime.placing import replan
from vram.runtime.probe import UnprovedError, prove
from vram.runtime.reserving import measure
from vram.runtime.unit import StartError, State, Unit
from vram.sources.calibration import append_row

log = logging.getLogger("vram.runtime")

LAST_WORDS: Final = 50
"""Lines in which an engine that died is taken to have said why."""


class Starter:
    """Brings units up.

    Attributes:
        options: of the run.
        say: told what people should read.
        bringing: names of the units that are on their way up.
    """

    def __init__(self, options: Up, say: Callable[[str], None], replanned: Callable[[], Awaitable[object]]) -> None:
        """`replanned` is called when a unit goes on by another plan, for the gateway to read it."""
        self.options = options
        self.say = say
        self._replanned = replanned
        self.bringing: set[str] = set()

    async def bring_up(self, unit: Unit, *, first: bool = True) -> None:
        """Start, prove, let clients in. Where memory runs out though the plan fits, one setting goes down and it is tried again.

        Raises:
            StartError: it did not start, or failed what its plan admits, and no setting helps.
        """
        self.bringing.add(unit.name)
        try:
            await self._bring_up(unit, first=first)
        finally:
            self.bringing.discard(unit.name)

    async def _bring_up(self, unit: Unit, *, first: bool) -> None:
        asked, told = unit.placed.plan, ""
        for _ in range(MOST_STEPS):
            try:
                if unit.moved():
                    await self._replanned()
                await self._prove(unit, first=first or bool(told))
            except VramError as e:
                await unit.end(0.0)
                if not isinstance(e, StartError) or unit.state is State.STOPPED:
                    raise
                step = self._gentler(unit, e)
                if step is None:
                    raise
                told = e.message
                self.say(f"{e.message}; tried again with {step.flag}")
                unit.placed = replan(unit.placed, step.wanted)
                await self._replanned()
                continue
            except Exception as e:
                # A defect of ours, in what reads an engine's words for instance, leaves no engine behind and no request waiting for ever.
                log.exception("%s", unit.name)
                await unit.end(0.0)
                raise StartError(f"{unit.name}: {type(e).__name__}: {e}") from None
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
        if not unit.proof.cut:
            await asyncio.to_thread(measure, unit, self.options.folder)

    def _keep_measured(self, unit: Unit, log: EngineLog) -> None:
        """Later plans of the same model, engine, GPU and settings on this machine use what was measured."""
        plan = unit.placed.plan
        if self.options.calibration is None or not unit.measured or any(p.source == "measured" for _, p in plan.gpus[0].parts.items()):
            return
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        row = measured_row(plan, log, unit.measured, model=unit.placed.wanted.model, source=f"vram up {when}")
        # A full disk, a folder of another user: it is measured again at the next start.
        with suppress(OSError, VramError):
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

    async def lowered(self, unit: Unit) -> bool:
        """Where it died of memory by its own last words, go on with a gentler setting. Returns whether that is so."""
        short = unit.placed.engine.short_of(unit.handle.tail(LAST_WORDS)) if unit.handle is not None else None
        step = self._gentler(unit, StartError("", short=short)) if short is not None else None
        if short is None or step is None:
            return False
        asked = unit.placed.plan
        self.say(f"{unit.name}: its engine ran out of memory ({printable(short.said, 160)}); it goes on with {step.flag}")
        unit.placed = replan(unit.placed, step.wanted)
        learn(self.options.folder, asked, step.wanted, f"with {_told(asked)} it ran out of memory under requests")
        await self._replanned()
        return True


def _told(plan: Plan) -> str:
    """A plan's settings in a few words."""
    w = plan.workload
    return f"{w.concurrency} x {w.context_tokens:,} tokens, {w.kv_dtype} cache"
