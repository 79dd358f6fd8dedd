"""Transformers in bulk (engines/transformers.py): whole layers on equal cards."""

from collections.abc import Hashable

from vram.engines import transformers as scalar
from vram.engines.generic import RUNTIME, RUNTIME_UNIFIED
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.model.cache import Cache
from vram.planner.bulk.batch import Band, Batch, Cards, Ranks
from vram.planner.bulk.engines.base import BulkEngine, band_of, per_token, rows_of
from vram.planner.bulk.facts import Subject, stage_caches


def _alike(gpu: Gpu, placement: Placement) -> Hashable:  # noqa: ARG001  (the table's shape)
    return (gpu.unified_memory,)


def _ranks(batch: Batch, cards: Cards) -> Ranks:
    facts, work, gpu = batch.facts, batch.work, cards.gpu
    weights = band_of(facts.dealt, rows_of(batch, facts.dealt, facts.dealt_before(batch.placement)), "used")
    unknown = scalar._UNKNOWN_WORKING  # noqa: SLF001

    def held(s: Subject, stage: int) -> tuple[int, int, int, int, int, int]:
        caches = stage_caches(s.model, batch.placement.pp)[stage]
        demand = batch.demand(s, gpu)
        formats, tokens, many = demand.workload.formats, work.context_tokens, work.concurrency
        full = _sum(scalar._pinned, caches, tokens, many, formats)  # noqa: SLF001
        kept = _sum(scalar._held, caches, tokens, many, formats)  # noqa: SLF001
        one = _sum(scalar._pinned, caches, tokens, 1, formats)  # noqa: SLF001
        if not s.model.geometry.hidden_size:
            return full, min(kept, full), one, *unknown
        kinds, fused = [c for c, _ in caches], scalar._fused(demand)  # noqa: SLF001
        expected = scalar.working_of(demand, kinds, tokens, many, fused=fused)
        lean = expected if fused else scalar.working_of(demand, kinds, tokens, many, fused=True)
        low, high = scalar.working_band(expected, lean, full, uncounted=scalar._uncounted(s.model))  # noqa: SLF001
        return full, min(kept, full), one, expected, low, high

    full, kept, one, expected, low, high = batch.once(held)
    runtime = RUNTIME_UNIFIED if gpu.unified_memory else RUNTIME
    return Ranks(
        weights=weights,
        kv_cache=Band(bytes=full, low=kept, high=full),
        activations=Band(bytes=expected, low=low, high=high),
        cuda_graphs=Band.exact(0),
        runtime=Band(bytes=runtime[0], low=runtime[1], high=runtime[2]),
        communication=Band.exact(0),
        pool=False,
        needed=full,
        capacity=per_token(one, work.context_tokens),
    )


def _sum(of: object, caches: tuple[tuple[Cache, int], ...], tokens: int, sequences: int, formats: object) -> int:
    return sum(of(cache, tokens, sequences, formats) * n for cache, n in caches)  # type: ignore[operator]


TRANSFORMERS = BulkEngine(alike=_alike, ranks=_ranks, weights="dealt")
