"""vLLM in bulk (engines/vllm), its newest release."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from vram.engines.vllm import profile
from vram.engines.vllm.buffers import per_token
from vram.engines.vllm.engine import other_programs, pool_of, weight_band
from vram.hardware.gpu import Gpu
from vram.memory.kv import rank_caches, sequence_bytes
from vram.memory.placement import Placement
from vram.planner.bulk.batch import SETTINGS, Band, Batch, Cards, Ranks, whole
from vram.planner.bulk.engines.base import BulkEngine, numbers_of, rows_of, share_of
from vram.planner.bulk.facts import Ints, Subject, remember_caches
from vram.planner.bulk.layout import NEWEST, layout_row

_GRAPH_CARD = 100 * 2**30  # profile.graphs: cards of so much take a smaller share


def _major(gpu: Gpu) -> int:
    return int(gpu.compute_capability.split(".")[0]) if gpu.compute_capability[:1].isdigit() else 0


def _alike(gpu: Gpu, placement: Placement) -> Hashable:  # noqa: ARG001  (the table's shape)
    batch = profile.batch_of(SETTINGS, gpu, NEWEST, 1 << 20)
    return gpu.vendor.lower(), gpu.compute_capability, gpu.unified_memory, batch, gpu.engine_total_bytes >= _GRAPH_CARD


def _ranks(batch: Batch, cards: Cards) -> Ranks:
    facts, work, placement, gpu = batch.facts, batch.work, batch.placement, cards.gpu
    rows = rows_of(batch, facts.split, facts.split_before(placement))
    amd = profile.is_amd(gpu)
    card = ("vllm_amd",) if amd else ("vllm_blackwell",) if _major(gpu) >= 10 else ("vllm_hopper",) if _major(gpu) == 9 else ()
    steps = profile.batch_of(SETTINGS, gpu, NEWEST, work.context_tokens)
    size, low, high = weight_band(
        numbers_of(facts.split, rows, "used", "vllm", *card),
        numbers_of(facts.split, rows, "doubtful", *(("doubtful_amd",) if amd else ())),
        numbers_of(facts.split, rows, "possible", *(("possible_amd",) if amd else ())),
        batch.each(lambda s, stage: 0 if stage else steps.tokens * per_token(s.model)),
        amd=amd,
        copies=batch.quantised | (numbers_of(facts.split, rows, "absorbed") > 0),
        repacks=batch.quantised & batch.experts,
        choose=np.where,
        most=np.maximum,
        integer=whole,
    )
    weights = Band(bytes=size, low=low, high=high)

    def peak(s: Subject, stage: int) -> tuple[int, int, int, int, int, int]:
        found = profile.activation_peak(s.model, placement, stage, steps, NEWEST, gpu)
        layers = facts.stage_layers(s.body, placement.pp)[stage]
        graph = profile.graphs(s.model, placement, layers, NEWEST, gpu)
        return found.bytes, found.low, found.high, graph.bytes, graph.low, graph.high

    found = batch.each(peak)
    activations, graphs = Band(bytes=found[0], low=found[1], high=found[2]), Band(bytes=found[3], low=found[4], high=found[5])
    beside, around = profile.non_torch(placement, NEWEST, gpu), profile.context(placement, gpu)
    deducted = graphs.bytes, graphs.high, 0
    pool, down, up = pool_of(
        whole(cards.total * NEWEST.utilization),
        (weights.bytes, activations.bytes, beside.bytes, deducted[0]),
        (weights.high, activations.high, beside.high, deducted[1]),
        (weights.low, activations.low, beside.low, deducted[2]),
        other_programs(cards.total) if gpu.unified_memory else 0,
        real=lambda x: np.asarray(x, dtype=np.float64),
        root=np.sqrt,
        integer=whole,
    )
    keeps = batch.flags(lambda s: any(layer.caches for layer in s.model.layers))
    pool, down, up = (np.where(keeps, x, 0) for x in (pool, down, up))
    withheld = np.maximum(cards.capacity - cards.total, 0)
    needed, capacity = _kv(batch, *_layouts(batch, gpu, steps.tokens * max(placement.pp, NEWEST.batches_in_flight)))
    return Ranks(
        weights=weights,
        kv_cache=Band(bytes=np.maximum(pool, 0), low=np.maximum(pool - down, 0), high=np.maximum(pool + up, 0)),
        activations=activations,
        cuda_graphs=graphs,
        runtime=Band(bytes=around.bytes, low=around.low, high=around.high + withheld),
        communication=Band(bytes=beside.bytes, low=beside.low, high=beside.high),
        pool=True,
        needed=needed,
        capacity=capacity,
    )


def _kv(batch: Batch, block_bytes: Ints, per_request: Ints, one: Ints) -> tuple[Any, Any]:
    """What the workload needs, and what a pool holds; logical bytes where vLLM's pages are not known."""
    work, known = batch.work, block_bytes > 0
    needed = np.where(known, (work.concurrency * per_request + NEWEST.null_block) * block_bytes, work.concurrency * one)

    def capacity(room: Any) -> tuple[Any, Any]:
        blocks = np.maximum(room // np.maximum(block_bytes, 1), 0)
        sequences = blocks / np.maximum(per_request, 1)
        tokens = whole(sequences * work.context_tokens)
        if known.all():
            return tokens, sequences
        plain = np.where(one > 0, share_of(room, work.context_tokens, np.maximum(one, 1)), -1)
        return np.where(known, tokens, plain), np.where(known, sequences, np.where(one > 0, room / np.maximum(one, 1), np.nan))

    return needed, capacity


def _layouts(batch: Batch, gpu: Gpu, in_flight: int) -> tuple[Ints, Ints, Ints]:
    """Bytes of a block, blocks of a request, and its logical bytes where those are not known (0), shaped (variants, stages, 1)."""
    facts, context = batch.facts, batch.work.context_tokens
    block_class = 2 if not profile.is_nvidia(gpu) else 1 if gpu.compute_capability.startswith("1") else 0
    sizes, terms = facts.layout_table
    before = (facts.layout_starts + facts.split_before(batch.placement)).tolist()
    places = facts.layout_places[:, :, block_class]
    blocks: dict[int, tuple[int, int]] = {-1: (0, 0)}

    def blocks_of(row: tuple[tuple[int, int, int, int], ...]) -> int:
        return sum(extra - (-min(most + flying * in_flight, context) // size) for size, most, extra, flying in row)

    def asked(s: Subject, stage: int) -> tuple[int, int, int]:
        size, per_request = laid_out(s, stage)
        if size:
            return size, per_request, 0
        remember_caches(s.model, batch.placement)
        return 0, 0, sequence_bytes(rank_caches(s.model, batch.placement)[stage], context, batch.workload(s).formats)

    def laid_out(s: Subject, stage: int) -> tuple[int, int]:
        formats = batch.workload(s).formats
        key = formats.key
        which = 1 if key.block_bytes == s.model.dtype.block_bytes else 0
        if key != formats.value or key.block_elements != 1 or (not which and key.block_bytes != 1):
            row = layout_row(s.model, gpu, batch.placement, stage, formats)
            return (row[0], blocks_of(row[1])) if row else (0, 0)
        number = int(places[before[s.number] + stage, which])
        found = blocks.get(number)
        if found is None:
            found = blocks[number] = sizes[number], blocks_of(terms[number])
        return found

    size, per_request, one = batch.each(asked)
    return size, per_request, one


VLLM = BulkEngine(alike=_alike, ranks=_ranks, weights="split")
