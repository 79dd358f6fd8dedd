"""What is reserved for a model that was measured, instead of its plan's high end; and what of past requests there is room for. Pure.

A plan's high end holds for every machine: of a tiny model in main memory it is mostly what some process may take at most. One that was put to
the most that its plan admits (`vram.runtime.probe`) has shown what it takes here. What may still grow is what is computed in and the process
itself – allocators' fragments, a client's buffers –, never the weights or the cache: a quarter of that, and 64 MiB at least, is kept beside it.
So is what an engine keeps of requests that are over: the worst one leaves a little of it, and the rest comes with every one after it.
"""

from collections.abc import Sequence
from typing import Final

from vram.engines.registry import engine
from vram.planner.plan import GpuPlan, Plan
from vram.units import MIB

GROWTH_SHARE: Final = 0.25
GROWTH_BYTES: Final = 64 * MIB


def planned_bytes(gpu: GpuPlan) -> int:
    """What is reserved by the plan alone: its high end, or what its engine reserves there."""
    return gpu.total_bytes if gpu.pool is not None else min(gpu.parts.high_bytes, max(gpu.usable_bytes, gpu.total_bytes))


def beyond_plan(plan: Plan, reserved: Sequence[int]) -> bool:
    """Whether more is reserved on any GPU than the plan alone would: what was measured lies outside its band."""
    return any(size > planned_bytes(gpu) for gpu, size in zip(plan.gpus, reserved, strict=False))


def later_bytes(plan: Plan) -> int:
    """What comes on each GPU with later requests, at most."""
    kept = engine(plan.engine).kept(plan.demand, plan.workload.context_tokens, plan.workload.concurrency)
    return kept.high if kept is not None else 0


def kept_that_fit(plan: Plan, most: int) -> int:
    """How many times what `plan` keeps of past requests fits beside all else at its most: `most` at most, and 1 at least.

    Args:
        plan: planned with one of each.
        most: no more than so many.
    """
    one = later_bytes(plan)
    room = min(g.usable_bytes - g.parts.high_bytes for g in plan.gpus) + one
    return max(1, min(most, room // one)) if one else most


def reserved_bytes(gpu: GpuPlan, peak_bytes: int, held_bytes: int, coming_bytes: int = 0) -> int:
    """What is reserved on one GPU.

    Args:
        gpu: its plan there.
        peak_bytes: the most that was held of it, from the start to the end of the worst request.
        held_bytes: what is held now.
        coming_bytes: what comes with later requests, at most.

    Returns:
        No less than is held now, and no less than the plan's low end; no more than the plan alone reserves, but where more than that is held. Then
        it is what is held and what may still grow, no more than the plan's high end if that holds it.
    """
    most, least = planned_bytes(gpu), max(peak_bytes, held_bytes, sum(part.low for _, part in gpu.parts.items()))
    fixed = gpu.parts.weights.bytes + gpu.parts.kv_cache.bytes
    if held_bytes > most:
        # A reservation that nobody could grant, made of a margin alone, would take a model away that fits.
        return max(min(held_bytes + _growth(held_bytes - fixed), max(most, min(gpu.parts.high_bytes, gpu.usable_bytes))), held_bytes)
    return min(least + _growth(least - fixed) + coming_bytes, most)


def _growth(working_bytes: int) -> int:
    return max(GROWTH_BYTES, int(max(working_bytes, 0) * GROWTH_SHARE))
