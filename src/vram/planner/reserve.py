"""What is reserved for a model that was measured, instead of its plan's high end. Pure.

A plan's high end holds for every machine: of a tiny model in main memory it is mostly what some process may take at most. One that was put to
the most that its plan admits (`vram.runtime.probe`) has shown what it takes here. What may still grow is what is computed in and the process
itself – allocators' fragments, a client's buffers –, never the weights or the cache: a quarter of that, and 64 MiB at least, is kept beside it.
"""

from typing import Final

from vram.planner.plan import GpuPlan
from vram.units import MIB

GROWTH_SHARE: Final = 0.25
GROWTH_BYTES: Final = 64 * MIB


def planned_bytes(gpu: GpuPlan) -> int:
    """What is reserved by the plan alone: its high end, or what its engine reserves there."""
    return gpu.total_bytes if gpu.pool is not None else min(gpu.parts.high_bytes, max(gpu.usable_bytes, gpu.total_bytes))


def reserved_bytes(gpu: GpuPlan, peak_bytes: int, held_bytes: int) -> int:
    """What is reserved on one GPU.

    Args:
        gpu: its plan there.
        peak_bytes: the most that was held of it, from the start to the end of the worst request.
        held_bytes: what is held now.

    Returns:
        No less than is held now, and no less than the plan's low end; no more than the plan alone reserves, but where more than that is held. Then
        it is what is held and what may still grow, no more than the plan's high end if that holds it.
    """
    most, least = planned_bytes(gpu), max(peak_bytes, held_bytes, sum(part.low for _, part in gpu.parts.items()))
    fixed = gpu.parts.weights.bytes + gpu.parts.kv_cache.bytes
    if held_bytes > most:
        # A reservation that nobody could grant, made of a margin alone, would take a model away that fits.
        return max(min(held_bytes + _growth(held_bytes - fixed), max(most, min(gpu.parts.high_bytes, gpu.usable_bytes))), held_bytes)
    return min(least + _growth(least - fixed), most)


def _growth(working_bytes: int) -> int:
    return max(GROWTH_BYTES, int(max(working_bytes, 0) * GROWTH_SHARE))
