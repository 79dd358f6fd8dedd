"""SGLang in bulk (engines/sglang)."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from vram.engines.sglang import engine as scalar
from vram.engines.sglang.budget import batches, default_share, static_pool
from vram.engines.sglang.pools import STATE_RATIO
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.model.cache import LatentCache
from vram.planner.bulk.batch import Band, Batch, Cards, Ranks, whole
from vram.planner.bulk.engines.base import BulkEngine, numbers_of, on_first, rows_of
from vram.planner.bulk.facts import Subject, remember_caches


def _alike(gpu: Gpu, placement: Placement) -> Hashable:
    pcie = gpu.link is not None and "pcie" in gpu.link.kind.lower()
    # What the system holds of shared memory is a part of it.
    own = gpu.engine_total_bytes if gpu.unified_memory else 0
    return gpu.vendor.lower(), gpu.unified_memory, pcie, batches(gpu.capacity_bytes, placement, None), own


def _ranks(batch: Batch, cards: Cards) -> Ranks:
    facts, work, placement, gpu = batch.facts, batch.work, batch.placement, cards.gpu
    for s in batch.subjects:
        remember_caches(s.model, placement)

    def held(s: Subject, stage: int) -> tuple[int, ...]:
        found = scalar._layout(batch.demand(s, gpu), stage)  # noqa: SLF001  (the engine's own rule)
        context = work.context_tokens
        return found.needed_bytes(context, work.concurrency), found.sequence_tokens(context), found.state_bytes, found.state_slots

    needed, sequence, state, slots = batch.once(held)
    cell = batch.once(lambda s, stage: scalar._layout(batch.demand(s, gpu), stage).cell_bytes, dtype=np.float64)  # noqa: SLF001
    rows = rows_of(batch, facts.split, facts.split_before(placement))
    size, low, high = scalar.weight_band(
        numbers_of(facts.split, rows, "used"),
        on_first(batch, batch.column("ear_bytes")),
        on_first(batch, batch.column("unlisted_bytes")),
        amd=gpu.vendor.lower() == "amd",
        unified=gpu.unified_memory,
        repacks=batch.quantised & batch.experts,
    )
    weights = Band(bytes=size, low=low, high=high)
    ask = batch.demand(batch.subjects[0], gpu)
    runtime, talk = Band.of(scalar._runtime(ask)), Band.of(scalar._communication(ask))  # noqa: SLF001
    expected = batch.each(lambda s, stage: batch.rules.working_bytes(batch.demand(s, gpu), stage, work.context_tokens, work.concurrency))
    activations = scalar.activation_band(expected)
    graphs = {}
    for s in batch.subjects:
        if s.model.geometry.encoder_only not in graphs:
            graphs[s.model.geometry.encoder_only] = scalar._graphs(batch.demand(s, gpu), scalar._batches(ask))  # noqa: SLF001
    encoders = batch.flags(lambda s: s.model.geometry.encoder_only)
    without, drawn = graphs.get(True, graphs.get(False)), graphs.get(False, graphs.get(True))
    graph = [np.where(encoders, getattr(without, end), getattr(drawn, end)) for end in ("bytes", "low", "high")]
    total, share = cards.total, _share(batch, cards)

    def left(before: int, weight_bytes: Any) -> Any:
        return static_pool(total - before, share, weight_bytes, most=np.maximum, integer=whole)

    doubt = whole(0.03 * total)
    pool = Band(
        bytes=left(runtime.bytes + talk.bytes, weights.bytes),
        low=np.maximum(left(runtime.high + talk.high, weights.high) - doubt, 0),
        high=left(runtime.low + talk.low, weights.low) + doubt,
    )

    def capacity(room: Any) -> tuple[Any, Any]:
        held_slots = whole(np.where(state > 0, room * STATE_RATIO / (1 + STATE_RATIO) // np.maximum(state, 1), 0))
        tokens = whole(np.where(cell > 0, (room - held_slots * state) // np.maximum(cell, 1e-9), 0))
        by_tokens = np.where(cell > 0, tokens / np.maximum(sequence, 1), np.inf)
        by_slots = np.where(state > 0, held_slots / np.maximum(slots, 1), np.inf)
        sequences = np.minimum(by_tokens, by_slots)
        return np.where(cell > 0, tokens, -1), np.where(np.isinf(sequences), np.nan, sequences)

    return Ranks(
        weights=weights,
        kv_cache=pool,
        activations=Band(bytes=activations[0], low=activations[1], high=activations[2]),
        cuda_graphs=Band(bytes=graph[0], low=graph[1], high=graph[2]),
        runtime=runtime,
        communication=talk,
        pool=True,
        needed=needed,
        capacity=capacity,
    )


def _share(batch: Batch, cards: Cards) -> Any:
    """The default of `--mem-fraction-static`: it depends on the card's exact size, on latents and on a tower."""
    first: dict[bool, Subject] = {}
    latent = [any(isinstance(c, LatentCache) for c, _ in s.model.cache_counts) for s in batch.subjects]
    for flag, s in zip(latent, batch.subjects, strict=True):
        first.setdefault(flag, s)
    plain = {
        flag: [
            default_share(s.model, g.capacity_bytes, batch.placement, batches(g.capacity_bytes, batch.placement, None), scalar.NEWEST_RULES, towers=False)
            for g in cards.gpus
        ]
        for flag, s in first.items()
    }
    base = np.array([plain[flag] for flag in latent])[batch.subject_of][:, None, :]
    return base * np.array([s.body.vision_factor for s in batch.subjects])[batch.subject_of][:, None, None]


SGLANG = BulkEngine(alike=_alike, ranks=_ranks, weights="split")
