"""No engine in particular: exact weights and caches, and for the rest a band wide enough for the engines that are known.

The band's ends are what the leanest and the greediest engine take: llama.cpp's compute buffers at a physical batch of
512, and vLLM's profile run before 0.17. What it does not know is the engine, and how many images a request carries; name
an engine (`--engine`) for a narrower band.
"""

from collections.abc import Sequence

from vram.engines.base import Demand, Engine
from vram.hardware.gpu import Gpu
from vram.memory.kv import breakpoints, rank_caches, sequence_bytes
from vram.memory.part import Part, Parts
from vram.memory.placement import Placement
from vram.memory.weights import rank_weights
from vram.model.cache import CacheFormats
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component
from vram.units import GIB, MIB, gib

# Batches at which working memory is taken: llama.cpp's default physical batch, and the chunk of a chunked prefill.
LEAN_TOKENS, USUAL_TOKENS, GREEDY_TOKENS = 512, 2048, 8192
# vLLM profiles its sampler with max_num_seqs rows: 1,024 by default on cards of 70 GiB and more, 256 on others
# (vllm/engine/arg_utils.py, defaults by usage context); bytes per logit 38 up to 0.16 and 14 since (98 start-ups).
GREEDY_SEQUENCES, GREEDY_SEQUENCES_LARGE, LARGE_CARD = 256, 1024, 70 * GIB
GREEDY_LOGIT_BYTES, LOGIT_BYTES = 38, 4
# Encoders of images and sound add 0.2 to 7 GiB to the profile run (Gemma 3 0.2, Qwen2.5-VL 4.4-6.9; one report of 36.6).
TOWER_WORKING = 7 * GIB

# A CUDA context with its kernels and cuBLAS workspaces: 0.51 GiB on an H100, 0.5 on an L40S; 0.3-0.4 with lazy loading,
# 1.0-1.6 GiB on Titan V and RTX 3090 with old drivers (start-up logs and pytorch/pytorch#28394, #49877).
RUNTIME = (int(0.5 * GIB), int(0.25 * GIB), int(1.25 * GIB))
# What the driver of a device elsewhere holds is used already when its server says what is free; its pools grow under load (0.29 GiB on CUDA).
RUNTIME_REMOTE = (0, 0, int(0.3 * GIB))
RUNTIME_UNIFIED = (int(0.25 * GIB), 0, int(1.0 * GIB))
# NCCL buffers and all-reduce workspaces: 0.54 GiB at TP2 (vLLM 0.11), 2.06-2.21 GiB (vLLM 0.19, FlashInfer); 0.07 for PP.
COMMUNICATION_TP = (GIB, int(0.3 * GIB), int(2.3 * GIB))
COMMUNICATION_PP = (int(0.1 * GIB), int(0.05 * GIB), int(0.5 * GIB))
# Graphs: 0.34 GiB + 0.0165 a layer and 0.4 more for MoE on H100 (vLLM 0.19, 36 start-ups); other versions up to twice
# that. On MI300X 2.6-9 GiB: up to 5 % of the card. Other engines capture none.
GRAPH_BASE, GRAPH_LAYER, GRAPH_MOE, GRAPH_SPREAD, GRAPH_AMD_SHARE = 0.34 * GIB, 0.0165 * GIB, 0.4 * GIB, 2.0, 0.05
# Expected, least and most working memory of a model whose widths nobody tells.
UNKNOWN_WORKING = (GIB // 2, 0, 4 * GIB)


class Generic(Engine):
    """Logical caches, exact weights, wide bands for working memory and runtime."""

    name = "generic"
    heeds = frozenset({"gpu_memory_utilization", "max_num_seqs", "max_batched_tokens", "kv_pool_bytes"})

    def kv_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """The logical bytes: no padding, no blocks."""
        return sequences * sequence_bytes(rank_caches(demand.model, demand.placement)[stage], context_tokens, demand.workload.formats)

    def breakpoints(self, demand: Demand, stage: int) -> Sequence[int]:
        """Windows that fill up, and the step size at which working memory stops growing."""
        step = demand.settings.max_batched_tokens or USUAL_TOKENS
        if demand.model.geometry.encoder_only:
            step = max(GREEDY_TOKENS // demand.workload.concurrency, 1)
        return sorted({*breakpoints(rank_caches(demand.model, demand.placement)[stage]), step})

    def working_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:  # noqa: ARG002
        """Residual stream and widest MLP layer of one step, and two copies of its logits."""
        g, settings = demand.model.geometry, demand.settings
        if not g.hidden_size:
            return UNKNOWN_WORKING[0]
        per_token = _bytes_per_token(demand.model, demand.placement)
        if g.encoder_only:
            return min(context_tokens * sequences, GREEDY_TOKENS) * per_token
        vocab = -(-g.vocab_size // demand.placement.tp)
        return min(context_tokens, settings.max_batched_tokens or USUAL_TOKENS) * per_token + (settings.max_num_seqs or sequences) * vocab * 2 * LOGIT_BYTES

    def _activations(self, demand: Demand, stage: int) -> Part:
        g, settings, w = demand.model.geometry, demand.settings, demand.workload
        if not g.hidden_size:
            expected, low, high = UNKNOWN_WORKING
            return Part(bytes=expected, low=low, high=high, source="formula", why="the model's widths are not known: a guess that covers common ones")
        expected = self.working_bytes(demand, stage, w.context_tokens, w.concurrency)
        per_token = _bytes_per_token(demand.model, demand.placement)
        low = min(w.context_tokens, LEAN_TOKENS) * per_token // 2
        if g.encoder_only:
            high = 2 * expected + 128 * MIB
            why = f"residual stream and MLP of one step of at most {GREEDY_TOKENS:,} tokens"
        else:
            most = GREEDY_SEQUENCES_LARGE if demand.gpu.capacity_bytes >= LARGE_CARD else GREEDY_SEQUENCES
            rows = settings.max_num_seqs or max(w.concurrency, most)
            tokens = min(w.context_tokens * w.concurrency, settings.max_batched_tokens or GREEDY_TOKENS)
            # The sampler works on whole rows on every rank, hence the undivided vocabulary.
            high = tokens * per_token + rows * g.vocab_size * GREEDY_LOGIT_BYTES + 128 * MIB
            why = f"residual stream, MLP and logits of one step; at most {tokens:,} tokens and {rows} sampler rows"
            if _has_tower(demand.model):
                high += TOWER_WORKING
                why += ", and an encoder of images or sound"
        return Part(bytes=expected, low=min(low, expected), high=max(high, expected), source="formula", why=why)

    def parts(self, demand: Demand, stage: int) -> Parts:
        """All that one rank holds at the worst instant of the demand."""
        w = demand.workload
        weights, runtime, graphs, communication = _fixed(demand.model, demand.gpu, demand.placement, stage)
        return Parts(
            weights=weights,
            kv_cache=_kv_part(demand.model, demand.placement, stage, w.context_tokens, w.concurrency, w.formats, w.kv_dtype),
            activations=self._activations(demand, stage),
            cuda_graphs=graphs,
            runtime=runtime,
            communication=communication,
        )


def _kv_part(model: Model, placement: Placement, stage: int, tokens: int, sequences: int, formats: CacheFormats, kv_dtype: str) -> Part:
    if not model.caches_known:
        # The planner never calls such a plan a fit; a number here would only pose as knowledge.
        return Part.exact(0, "formula", "unknown: nothing tells what this architecture keeps per token")
    size = sequences * sequence_bytes(rank_caches(model, placement)[stage], tokens, formats)
    many = "1 sequence" if sequences == 1 else f"{sequences:,} sequences"
    return Part.exact(size, "formula", f"{many} of {tokens:,} tokens at {kv_dtype}, {_kinds(model, placement, stage)}")


@once_per_model
def _bytes_per_token(model: Model, placement: Placement) -> int:
    """Of one step: residual stream and its norm, query, key, value and output, and up, gate and down of the MLP."""
    g, tp = model.geometry, placement.tp
    return model.dtype.block_bytes * (4 * g.hidden_size + ((g.attention_heads + 2 * g.kv_heads) * g.head_dim + 3 * g.intermediate_size) // tp)


@once_per_model
def _has_tower(model: Model) -> bool:
    return any(part in {Component.VISION, Component.AUDIO} for part, _ in model.bytes_by_role)


@once_per_model
def _kinds(model: Model, placement: Placement, stage: int) -> str:
    counts: dict[str, int] = {}
    for cache, n in rank_caches(model, placement)[stage]:
        counts[cache.kind] = counts.get(cache.kind, 0) + n
    return ", ".join(f"{n} {kind} layer{'' if n == 1 else 's'}" for kind, n in counts.items()) or "no cache"


@once_per_model
def _fixed(model: Model, gpu: Gpu, placement: Placement, stage: int) -> tuple[Part, Part, Part, Part]:
    """The parts that no workload changes: weights, runtime, graphs, communication."""
    graphs = Part(bytes=0, low=0, high=_most_graphs(model, gpu, placement), source="formula", why="none unless the engine captures decode graphs")
    return _weights(model, placement, stage), _runtime(gpu), graphs, _communication(placement)


def _runtime(gpu: Gpu) -> Part:
    expected, low, high = RUNTIME_UNIFIED if gpu.unified_memory else RUNTIME
    return Part(bytes=expected, low=low, high=high, source="formula", why="driver context, kernels and library workspaces")


def _communication(placement: Placement) -> Part:
    if placement.tp > 1:
        expected, low, high = COMMUNICATION_TP
        return Part(bytes=expected, low=low, high=high, source="formula", why="NCCL buffers and all-reduce workspaces of tensor parallelism")
    if placement.pp > 1:
        expected, low, high = COMMUNICATION_PP
        return Part(bytes=expected, low=low, high=high, source="formula", why="NCCL buffers between pipeline stages")
    return Part.exact(0, "formula", "one GPU: none")


def _weights(model: Model, placement: Placement, stage: int) -> Part:
    held = rank_weights(model, placement)[stage]
    used = held.bytes - held.draft_bytes
    why = "headers of the files" if model.source == "header" else "tensors that the config describes"
    if model.quantization:
        why += f", {model.quantization}"
    if placement.tp > 1 and held.replicated_bytes >= 10 * MIB:
        why += f"; {gib(held.replicated_bytes)} of them on every rank of the stage"
    if held.draft_bytes:
        why += f"; {gib(held.draft_bytes)} more if an engine loads the multi-token-prediction layers"
    if model.dtype_doubtful:
        why += "; the config names no type: 16 bits assumed, float32 would take twice as much"
    high = held.bytes * (2 if model.dtype_doubtful else 1)
    return Part(bytes=used, low=used, high=high, source="header" if model.source == "header" else "formula", why=why)


def _most_graphs(model: Model, gpu: Gpu, placement: Placement) -> int:
    layers = len(model.layers) / placement.pp
    vendor = gpu.vendor.lower()
    if not layers or vendor not in {"nvidia", "amd"}:
        return 0
    if vendor == "amd":
        return int(gpu.capacity_bytes * GRAPH_AMD_SHARE)
    return int((GRAPH_BASE + GRAPH_LAYER * layers + (GRAPH_MOE if model.geometry.experts else 0)) * GRAPH_SPREAD)
