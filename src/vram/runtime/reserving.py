"""What is reserved for each unit: measured after its proof, kept for the next run, raised where it grows."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from vram.planner.reserve import beyond_plan, later_bytes, planned_bytes, reserved_bytes
from vram.runtime.footprint import gpu_held, host_held, processes
from vram.runtime.learned import held_before, keep_held
from vram.runtime.placing import Placed
from vram.runtime.together import gpu_bytes
from vram.runtime.unit import State, Unit
from vram.units import MIB, gib

LOOK_SECONDS: Final = 10.0
"""How often it is looked whether any holds more than is reserved for it."""
SLACK_BYTES: Final = 16 * MIB
"""So much more than is reserved is nothing: what is held goes up and down."""
Held = tuple[tuple[int, int], ...]
"""Of each GPU of a plan: the most bytes that were held so far, and those that are held now."""


def held(unit: Unit) -> Held | None:
    """What a unit's processes hold; None where the system does not tell.

    An engine that takes a pool of a GPU needs more room while it starts than it holds then (it looks at what is free, and tries its largest batch
    before it takes the pool): there the plan counts.
    """
    handle, placed = unit.handle, unit.placed
    if handle is None or handle.pid is None or handle.exit is not None:
        return None
    gpus = placed.gpus
    if gpus[0].gpu.vendor == "host":
        found = host_held(processes(handle.pid))
        return (found,) if found is not None else None
    if any(g.pool is not None for g in placed.plan.gpus) or not all(g.identifier for g in gpus):
        return None
    sizes = gpu_held(processes(handle.pid), [g.identifier for g in gpus])
    return tuple((size, size) for size in sizes) if sizes is not None else None


def with_reserve(placed: Placed, found: Held) -> Placed:
    """With what is to be reserved by what was measured."""
    coming = later_bytes(placed.plan)
    return replace(placed, reserved=tuple(reserved_bytes(g, peak, now, coming) for g, (peak, now) in zip(placed.plan.gpus, found, strict=True)))


def measure(unit: Unit, folder: Path) -> None:
    """After its worst request: reserve for a unit what it was seen to take, and keep that for the next run."""
    found = held(unit)
    if found is None or len(found) != len(unit.placed.plan.gpus):
        return
    unit.placed = with_reserve(unit.placed, found)
    keep_held(folder, unit.placed.plan, unit.placed.wanted, _known(unit.placed, found))


def _known(placed: Placed, found: Held) -> tuple[int, ...]:
    """What was held of each GPU for certain: a most that is a sum of several processes' counts no further than the plan goes, nor than what is held."""
    return tuple(min(peak, max(planned_bytes(g), now)) for g, (peak, now) in zip(placed.plan.gpus, found, strict=True))


def outgrown(placed: Placed, found: Held) -> Placed | None:
    """With more reserved, where more is held than is; None where it is not."""
    reserved = gpu_bytes(placed, max(placed.on) + 1)
    if len(found) != len(placed.plan.gpus) or all(now <= reserved[g] + SLACK_BYTES for g, (_, now) in zip(placed.on, found, strict=True)):
        return None
    return with_reserve(placed, tuple((now, now) for _, now in found))


def keep_grown(folder: Path, placed: Placed, found: Held) -> None:
    """Keep for the next run what one outgrew its reservation to: of each GPU the most that was ever seen."""
    before = held_before(folder, placed.plan, placed.wanted) or (0,) * len(found)
    keep_held(folder, placed.plan, placed.wanted, tuple(max(b, size) for b, size in zip(before, _known(placed, found), strict=True)))


async def watch(units: Callable[[], Iterable[Unit]], folder: Path, say: Callable[[str], None], *, look_seconds: float = LOOK_SECONDS) -> None:
    """Until cancelled: for one that holds more than is reserved for it, more is, in the next run too; who has to go for that is residence's to say."""
    while True:
        await asyncio.sleep(look_seconds)
        for unit in list(units()):
            if unit.state is not State.READY:
                continue
            before = unit.placed
            found = await asyncio.to_thread(held, unit)
            if found is None or unit.placed is not before or (more := outgrown(before, found)) is None:
                continue
            unit.placed = more
            await asyncio.to_thread(keep_grown, folder, more, found)
            beyond = ", outside its plan's band" if beyond_plan(more.plan, more.reserved) else ""
            say(f"{unit.name} holds {gib(sum(now for _, now in found))}, more than was reserved for it: {gib(sum(more.reserved))} are from now on{beyond}")
