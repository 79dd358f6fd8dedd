"""The generic engine in bulk (engines/generic.py)."""

from collections.abc import Hashable

from vram.engines import generic as scalar
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.planner.bulk.batch import Band, Batch, Cards, Ranks
from vram.planner.bulk.engines.base import BulkEngine, numbers_of, per_token, rows_of
from vram.planner.bulk.facts import Subject, remember_caches


def _alike(gpu: Gpu, placement: Placement) -> Hashable:  # noqa: ARG001  (the table's shape)
    # AMD's graphs are a share of the card.
    vendor = gpu.vendor.lower()
    return vendor, gpu.unified_memory, gpu.capacity_bytes >= scalar.LARGE_CARD, gpu.capacity_bytes if vendor == "amd" else 0


def _ranks(batch: Batch, cards: Cards) -> Ranks:
    facts, work, placement, gpu = batch.facts, batch.work, batch.placement, cards.gpu
    for s in batch.subjects:
        remember_caches(s.model, placement)
    rows = rows_of(batch, facts.split, facts.split_before(placement))
    used = numbers_of(facts.split, rows, "used")
    doubled = 1 + batch.flags(lambda s: s.model.dtype_doubtful)
    weights = Band(bytes=used, low=used, high=(used + numbers_of(facts.split, rows, "draft")) * doubled)

    def held(s: Subject, stage: int) -> tuple[int, int, int, int, int, int]:
        demand = batch.demand(s, gpu)
        kv = batch.rules.kv_bytes(demand, stage, work.context_tokens, work.concurrency)
        one = batch.rules.kv_bytes(demand, stage, work.context_tokens, 1)
        busy = batch.rules._activations(demand, stage)  # type: ignore[attr-defined]  # noqa: SLF001
        return kv, one, busy.bytes, busy.low, busy.high, scalar._most_graphs(s.model, gpu, placement)  # noqa: SLF001

    kv, one, expected, low, high, graphs = batch.each(held)
    return Ranks(
        weights=weights,
        kv_cache=Band.exact(kv),
        activations=Band(bytes=expected, low=low, high=high),
        cuda_graphs=Band(bytes=0, low=0, high=graphs),
        runtime=Band.of(scalar._runtime(gpu)),  # noqa: SLF001
        communication=Band.of(scalar._communication(placement)),  # noqa: SLF001
        pool=False,
        needed=kv,
        capacity=per_token(one, work.context_tokens),
    )


GENERIC = BulkEngine(alike=_alike, ranks=_ranks, weights="split")
