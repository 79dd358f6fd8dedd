"""SGLang: what a rank holds. Weights and pools share `mem_fraction_static` of the card; graphs and working memory the rest.

`Settings.gpu_memory_utilization` is `--mem-fraction-static`, `max_batched_tokens` is `--chunked-prefill-size`,
`max_num_seqs` is `--max-running-requests`, `block_size` is `--page-size`, and a given `kv_pool_bytes` is what "KV Cache is
allocated" prints: the pools of tokens without the slots of state. Drafts are in draft.py.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from vram.engines.base import Capacity, Demand, Engine
from vram.engines.sglang import constants as c
from vram.engines.sglang.budget import Batches, batches, decode_graphs, default_share, static_pool
from vram.engines.sglang.draft import GRAPHS, drafter_of
from vram.engines.sglang.pools import STATE_RATIO, Layout, layout
from vram.engines.sglang.release import NEWEST, Release, release
from vram.memory.part import Part, Parts
from vram.memory.placement import layer_count
from vram.memory.weights import rank_weights, unlisted_bytes, unlisted_ear
from vram.units import GIB

_LOGIT_BYTES: Final = 4


class Sglang(Engine):
    """Static pools of tokens, windows and states."""

    name = "sglang"
    pools = True
    newest = ".".join(map(str, NEWEST))
    copies_in_tp = True
    dense_over_all = True
    heeds = frozenset({"version", "gpu_memory_utilization", "max_num_seqs", "max_batched_tokens", "block_size", "kv_pool_bytes", "enforce_eager", "draft"})

    def kv_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """What the pools must have, all together, for neither tokens nor slots of state to run out."""
        return _layout(demand, stage).needed_bytes(context_tokens, sequences)

    def capacity(self, demand: Demand, stage: int, pool_bytes: int) -> Capacity:
        """The tokens that SGLang prints, and the sequences that tokens and slots of state allow."""
        held = _layout(demand, stage)
        tokens = held.tokens(held.token_bytes(pool_bytes))
        limits = []
        if held.cell_bytes:
            limits.append(tokens / held.sequence_tokens(demand.workload.context_tokens))
        if held.state_bytes:
            limits.append(held.slots(pool_bytes) / held.state_slots)
        return Capacity(tokens=tokens if held.cell_bytes else None, concurrency=min(limits) if limits else None)

    def breakpoints(self, demand: Demand, stage: int) -> Sequence[int]:
        """Where the window pool stops to decide."""
        held = _layout(demand, stage)
        edges = {held.window_tokens + held.page, int((held.window_tokens + held.page) * 1.25) + 1} if held.window_bytes else set()
        return sorted({*edges, _batches(demand).chunk_tokens})

    def working_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:  # noqa: ARG002
        """Residual stream, attention and widest MLP of one prefill chunk, and the logits of a decode batch."""
        g, chosen = demand.model.geometry, _batches(demand)
        if not g.hidden_size:
            return c.UNKNOWN_WORKING
        tp = demand.placement.tp
        per_token = demand.model.dtype.block_bytes * (4 * g.hidden_size + ((g.attention_heads + 2 * g.kv_heads) * g.head_dim + 3 * g.intermediate_size) // tp)
        rows = min(demand.settings.max_num_seqs or chosen.graph_rows, chosen.graph_rows)
        # Copies of attention share a chunk between them.
        return chosen.chunk_tokens // demand.placement.dp * per_token + rows * g.vocab_size * _LOGIT_BYTES * 2

    def parts(self, demand: Demand, stage: int) -> Parts:
        """All that one rank holds once it serves."""
        weights = _weights(demand, stage)
        runtime, talk = _runtime(demand), _communication(demand)
        expected = self.working_bytes(demand, stage, demand.workload.context_tokens, demand.workload.concurrency)
        chosen = _batches(demand)
        _, low, high = activation_band(expected)
        activations = Part(
            bytes=expected,
            low=low,
            high=high,
            source="formula",
            why=f"one prefill chunk of {chosen.chunk_tokens:,} tokens and the logits of {chosen.graph_rows} rows; no log prints it, so the band is wide",
        )
        return Parts(
            weights=weights,
            kv_cache=_pool(demand, stage, weights, runtime, talk),
            activations=activations,
            cuda_graphs=_graphs(demand, chosen),
            runtime=runtime,
            communication=talk,
        )


NEWEST_RULES: Final = release("")


def activation_band(expected: Any) -> tuple[Any, Any, Any]:
    """Expected, least and most working memory: a number's, or an array's."""
    return expected, expected // 3, 2 * expected + GIB // 2


def _rules(demand: Demand) -> Release:
    return release(demand.settings.version)


def _batches(demand: Demand) -> Batches:
    return batches(demand.gpu.capacity_bytes, demand.placement, demand.settings.max_batched_tokens)


def _layout(demand: Demand, stage: int) -> Layout:
    # One token a page unless the attention kernels ask for more (16 to 128 of them on some cards).
    found = layout(demand.model, demand.placement, stage, demand.workload.formats, _rules(demand), demand.settings.block_size or 1)
    beside = drafter_of(demand)
    # The drafter's pool has as many tokens as the target's.
    return found if beside is None else replace(found, full_bytes=found.full_bytes + beside.cell_bytes)


def share(demand: Demand) -> float:
    """The share of the card that weights and pools may take: as given, or SGLang's default for this version and card."""
    if demand.settings.gpu_memory_utilization is not None:
        return demand.settings.gpu_memory_utilization
    beside = drafter_of(demand)
    draft_mib = 0 if beside is None else beside.reserved_mib
    return default_share(demand.model, demand.gpu.capacity_bytes, demand.placement, _batches(demand), _rules(demand), draft_mib=draft_mib)


def _weights(demand: Demand, stage: int) -> Part:
    held = rank_weights(demand.model, demand.placement)[stage]
    resident = held.bytes - held.draft_bytes
    why = "headers of the files" if demand.model.source == "header" else "tensors that the config describes"
    if demand.model.quantization:
        why += f", {demand.model.quantization}"
    beside = drafter_of(demand)
    if beside is not None:
        resident += beside.weight_bytes
        why += f"; {beside.weight_bytes / GIB:.2f} GiB of {beside.name}"
    elif held.draft_bytes:
        why += f"; without {held.draft_bytes / GIB:.2f} GiB of multi-token prediction, which only speculative decoding loads"
    why += f"; {c.LOAD_EXTRA / GIB:.2f} GiB that loading leaves with the allocator ({c.LOAD_ROWS} rows)"
    ear = unlisted_ear(demand.model) if stage == 0 else 0
    if ear:
        why += "; the audio tower that the config leaves out"
    size, low, high = weight_band(
        resident,
        ear,
        unlisted_bytes(demand.model) if stage == 0 else 0,
        amd=demand.gpu.vendor.lower() == "amd",
        unified=demand.gpu.unified_memory,
        repacks=bool(demand.model.quantization and demand.model.geometry.experts),
    )
    return Part(bytes=size, low=low, high=high, source="calibrated", why=why)


def weight_band(resident: Any, ear: Any, unlisted: Any, *, amd: bool, unified: bool, repacks: Any) -> tuple[Any, Any, Any]:
    """Weights expected, least and most: of numbers, or of arrays.

    Args:
        resident: bytes of the tensors.
        ear: a tower that the config leaves out.
        unlisted: what else a checkpoint may hold.
        amd: kernels for AMD pad experts and shuffle weights.
        unified: a difference of free memory that the files' page cache shares: 15.56 GiB for 14.9 on disk.
        repacks: kernels repack and pad quantised experts, as those of vLLM: 4 to 10 % in 9 rows.
    """
    slack = resident // 8 if amd else resident // 100 + repacks * (resident // 10 - resident // 100)
    return resident + ear + c.LOAD_EXTRA, resident, resident + c.LOAD_MOST + slack + unified * (resident // 20) + unlisted


def _pool(demand: Demand, stage: int, weights: Part, runtime: Part, talk: Part) -> Part:
    """What the static share leaves beside the weights, of the memory that was free before they were read."""
    held = _layout(demand, stage)
    given = demand.settings.kv_pool_bytes
    if given is not None:
        return Part.exact(
            held.pool_bytes(given), "formula", "the pool as it was given" + (", and slots of recurrent state beside it" if held.state_bytes else "")
        )
    part = share(demand)
    total = demand.gpu.engine_total_bytes
    beside = drafter_of(demand)
    counted, grown = 0, 1.0
    if beside is not None:
        # Weights that are not counted are outside of the share; copies of the embedding and the head are, until the pools are sized.
        counted = beside.copy_bytes if beside.weighed else -beside.weight_bytes
        own = held.cell_bytes - beside.cell_bytes
        ratio = beside.layers / max(layer_count(demand.model), 1) if beside.budgeted else 0.0
        grown = held.cell_bytes / (own * (1 + ratio)) if own else 1.0

    def left(before: int, weights_bytes: int) -> int:
        size: int = static_pool(total - before, part, weights_bytes + counted)
        return size if beside is None else int(size * grown)

    expected = left(runtime.bytes + talk.bytes, weights.bytes)
    kind = "given" if demand.settings.gpu_memory_utilization is not None else f"what SGLang since {_rules(demand).label} chooses for this card"
    why = f"{part:.3f} ({kind}) of what is free before the weights are read, less the weights"
    if beside is not None:
        why += f", with {beside.layers} layer{'s' if beside.layers > 1 else ''} of {beside.name}{'' if beside.budgeted else ' beside it'}"
    if held.state_bytes:
        why += f"; {held.slots(expected)} slots of recurrent state take {STATE_RATIO / (1 + STATE_RATIO):.0%} of it"
    # A default is SGLang's choice by version; a build that is not the assumed one may choose otherwise.
    doubt = 0 if demand.settings.gpu_memory_utilization is not None or demand.settings.version else int(0.03 * total)
    return Part(
        bytes=expected,
        low=max(left(runtime.high + talk.high, weights.high) - doubt, 0),
        high=left(runtime.low + talk.low, weights.low) + doubt,
        source="formula",
        why=why,
    )


def _graphs(demand: Demand, chosen: Batches) -> Part:
    if demand.gpu.vendor.lower() in {"apple", "intel"} or demand.model.geometry.encoder_only:
        return Part(bytes=0, low=0, high=c.GRAPHS[3], source="formula", why="no graphs are expected on this card")
    if demand.settings.enforce_eager:
        return Part.exact(0, "formula", "no graphs with --disable-cuda-graph")
    base, each, low, high = c.GRAPHS
    rows = min(demand.settings.max_num_seqs or chosen.graph_rows, chosen.graph_rows)
    expected = min(base + each * decode_graphs(rows), high)
    more = GRAPHS if demand.settings.draft is not None else (0, 0, 0)
    expected, low, high = (size + extra for size, extra in zip((expected, low, high), more, strict=True))
    return Part(
        bytes=expected,
        low=low,
        high=high,
        source="calibrated",
        why=f"decode graphs of up to {rows} sequences, outside the static share; {c.GRAPH_ROWS} rows of 0.07 to 1.91 GiB",
    )


def _runtime(demand: Demand) -> Part:
    why = f"driver context and libraries before the weights are read; {c.RUNTIME_ROWS} rows"
    expected, low, high = c.RUNTIME
    if demand.gpu.unified_memory:
        expected, low, high = (min(size, demand.gpu.engine_total_bytes // 8) for size in c.RUNTIME_UNIFIED)
        why = "what the system and its page cache hold of the shared memory; 3 rows of GB10"
    elif demand.gpu.vendor.lower() == "amd":
        expected, low, high = c.RUNTIME_AMD
        why = "driver context and libraries; 1 row of 4.0 GiB with eight ranks, so the band is wide"
    return Part(bytes=expected, low=low, high=high, source="calibrated", why=why)


def _communication(demand: Demand) -> Part:
    if demand.placement.gpus == 1:
        return Part.exact(0, "formula", "one GPU: none")
    link = demand.gpu.link
    if demand.placement.ranks == 1:
        expected, low, high = c.COMMUNICATION_PP
    else:
        expected, low, high = c.COMMUNICATION_PCIE if link is not None and "pcie" in link.kind.lower() else c.COMMUNICATION_TP
    return Part(bytes=expected, low=low, high=high, source="formula", why="NCCL buffers and all-reduce workspaces; no log separates them, so the band is wide")
