"""TensorRT-LLM in bulk (engines/tensorrt_llm.py)."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from vram.engines import tensorrt_llm as scalar
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.planner.bulk.batch import Band, Batch, Cards, Ranks, whole
from vram.planner.bulk.engines.base import BulkEngine, numbers_of, rows_of
from vram.planner.bulk.facts import Subject, remember_caches


def _alike(gpu: Gpu, placement: Placement) -> Hashable:  # noqa: ARG001  (the table's shape)
    if gpu.vendor.lower() in {"amd", "apple", "intel"}:
        return None
    return gpu.unified_memory, gpu.engine_total_bytes if gpu.unified_memory else 0


def _ranks(batch: Batch, cards: Cards) -> Ranks:
    facts, work, gpu = batch.facts, batch.work, cards.gpu
    for s in batch.subjects:
        remember_caches(s.model, batch.placement)
    ask = batch.demand(batch.subjects[0], gpu)
    block = scalar._block(ask)  # noqa: SLF001  (the engine's own rule)

    def held(s: Subject, stage: int) -> tuple[int, int, int, int]:
        demand = batch.demand(s, gpu)
        return (
            scalar._cell(demand, stage)[0],  # noqa: SLF001
            batch.rules.kv_bytes(demand, stage, work.context_tokens, work.concurrency),
            batch.rules.kv_bytes(demand, stage, work.context_tokens, 1),
            batch.rules.working_bytes(demand, stage, work.context_tokens, work.concurrency),
        )

    cell, needed, one, working = batch.once(held)
    rows = rows_of(batch, facts.split, facts.split_before(batch.placement))
    size, low, high = scalar.weight_band(numbers_of(facts.split, rows, "used"), quantised=batch.quantised)
    weights = Band(bytes=size, low=low, high=high)
    runtime, talk = Band.of(scalar._runtime(ask)), Band.of(scalar._communication(ask))  # noqa: SLF001
    expected, low, high = scalar.activation_band(working)
    activations = Band(bytes=expected, low=low, high=high)
    graphs = Band(bytes=scalar._GRAPHS[0], low=scalar._GRAPHS[1], high=scalar._GRAPHS[2])  # noqa: SLF001
    fixed = (runtime, talk, weights, activations, graphs)

    def left(used: Any) -> Any:
        return scalar.pool_bytes(cards.total, used, scalar.FRACTION, most=np.maximum, integer=whole)

    def capacity(room: Any) -> tuple[Any, Any]:
        tokens = np.where(cell > 0, -(-(room // np.maximum(cell, 1)) // block) * block, -1)
        return tokens, np.where(one > 0, room / np.maximum(one, 1), np.nan)

    return Ranks(
        weights=weights,
        kv_cache=Band(bytes=left(sum(b.bytes for b in fixed)), low=left(sum(b.high for b in fixed)), high=left(sum(b.low for b in fixed))),
        activations=activations,
        cuda_graphs=graphs,
        runtime=runtime,
        communication=talk,
        pool=True,
        needed=needed,
        capacity=capacity,
    )


TENSORRT_LLM = BulkEngine(alike=_alike, ranks=_ranks, weights="split")
