"""llama.cpp and Ollama in bulk (engines/llama_cpp_engine.py, engines/ollama.py): whole layers on equal cards, none on the host."""

from bisect import bisect_left
from collections.abc import Hashable
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from vram.engines import llama_cpp_engine as scalar
from vram.engines.base import Demand
from vram.engines.generic import RUNTIME, RUNTIME_UNIFIED
from vram.engines.llama_cpp import KvReservation
from vram.engines.llama_cpp_buffers import Offload
from vram.errors import UsageError
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.planner.bulk.batch import Band, Batch, Cards, Ranks
from vram.planner.bulk.engines.base import BulkEngine, band_of, rows_of, share_of
from vram.planner.bulk.facts import Subject


def _alike(gpu: Gpu, placement: Placement) -> Hashable:  # noqa: ARG001  (the table's shape)
    return (gpu.unified_memory,)


def _ranks(batch: Batch, cards: Cards) -> Ranks:
    facts, work, unified = batch.facts, batch.work, cards.gpu.unified_memory
    rules = batch.rules
    assert isinstance(rules, scalar.LlamaCpp)  # noqa: S101  (the registry's own table)
    rows = rows_of(batch, facts.gguf, facts.dealt_before(batch.placement))
    weights = band_of(facts.gguf, rows, "used", beyond=("unified",) if unified else ())
    asked = [_asked(batch, rules, s, cards.gpu) for s in batch.subjects]
    pp = batch.placement.pp
    found = np.array([a if a is not None else [(0,) * 7] * pp for a in asked], dtype=np.int64)[batch.subject_of]
    possible = np.array([a is not None for a in asked], dtype=np.bool_)[batch.subject_of]
    kv, many, size, low, high, kept, kept_high = (found[:, :, k, None] for k in range(7))
    expected = RUNTIME_UNIFIED if unified else RUNTIME
    slots = rules._run(batch.demand(batch.subjects[0], cards.gpu).settings, work.context_tokens, work.concurrency).slots  # noqa: SLF001

    def capacity(room: Any) -> tuple[Any, Any]:
        least = np.maximum(many, 1)
        return np.where(many > 0, share_of(room, work.context_tokens * slots, least), -1), np.where(many > 0, room * slots / least, np.nan)

    return Ranks(
        weights=weights,
        kv_cache=Band.exact(kv),
        activations=Band(bytes=size, low=low, high=high),
        cuda_graphs=Band.exact(0),
        runtime=Band(bytes=expected[0] + kept, low=expected[1], high=expected[2] + kept_high),
        communication=Band.exact(0),
        pool=False,
        needed=kv,
        capacity=capacity,
        possible=possible,
    )


def _asked(batch: Batch, rules: scalar.LlamaCpp, s: Subject, gpu: Gpu) -> list[tuple[int, int, int, int, int, int, int]] | None:
    """For each device: its caches, those of all slots, its compute buffer, what is kept of past prompts; None where llama.cpp refuses the context."""
    work, pp = batch.work, batch.placement.pp
    try:
        demand = batch.demand(s, gpu)
        where = rules.where(demand)
        slots = rules._run(demand.settings, work.context_tokens, work.concurrency).slots  # noqa: SLF001
        once, reserved = _by_device(batch, rules, demand, where, work.concurrency)
        full = once if slots == work.concurrency else _by_device(batch, rules, demand, where, slots)[0]
        spread = rules._compute(demand, work.context_tokens, work.concurrency, reserved=reserved)  # noqa: SLF001
        held = rules.kept(demand, work.context_tokens, work.concurrency)
    except UsageError:
        return None
    kept = (held.bytes, held.high) if held is not None else (0, 0)
    # Devices between the first and the last compute alike, but for how sure that is: few layers may have no wide one among them.
    parts: dict[tuple[int, bool, float], tuple[int, int, int]] = {}
    out = []
    for stage in range(pp):
        key = spread.devices[stage] if spread else 0, not stage, scalar.low_of(where, stage)
        found = parts.get(key)
        if found is None:
            part = rules.compute_part(demand, stage, spread)
            found = parts[key] = part.bytes, part.low, part.high
        out.append((once[stage], full[stage], *found, *kept))
    return out


def _by_device(batch: Batch, rules: scalar.LlamaCpp, demand: Demand, where: Offload, sequences: int) -> tuple[list[int], KvReservation]:
    """Caches of each device, whose layers lie in a row, and all that is reserved."""
    key = rules.name, id(demand.model), sequences
    found = batch.work.kept.get(key)
    if found is None:
        reserved = rules._reservation(demand, batch.work.context_tokens, sequences)  # noqa: SLF001
        found = batch.work.kept[key] = reserved, [0, *accumulate(reserved.layer_bytes)]
    reserved, ends = found
    if len(ends) == 1:
        return [0] * where.devices, reserved
    cut = _cuts(where)
    # Layers past the model's own, which draft, keep nothing here.
    return [ends[min(b, len(ends) - 1)] - ends[min(a, len(ends) - 1)] for a, b in pairwise(cut)], reserved


@lru_cache(maxsize=1024)
def _cuts(where: Offload) -> list[int]:
    """The first layer of each device, and the number of layers: none lies on the host."""
    return [bisect_left(where.layers, device) for device in range(where.devices + 1)]  # type: ignore[type-var]


LLAMA_CPP = BulkEngine(alike=_alike, ranks=_ranks, weights="gguf")
