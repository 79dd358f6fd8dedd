"""What one rank takes beside weights and KV pool: the profile run's peak, workspaces, CUDA graphs, the CUDA context.

The forms follow vLLM's code (gpu_model_runner.profile_run: encoder, forward pass of max_num_batched_tokens, sampler of
max_num_seqs); their coefficients are measured (constants.py). But for drafts: no log was found that prints their terms.
"""

from dataclasses import dataclass, replace

from vram.engines.base import RankGap, Settings
from vram.engines.vllm import constants as c
from vram.engines.vllm.buffers import layered_width
from vram.engines.vllm.release import Release
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.model.cache import LatentCache
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component, Role
from vram.units import GIB

# vllm/engine/arg_utils.py, get_batch_defaults: cards by memory.
_LARGE_CARD, _HUGE_CARD = 70 * GIB, 160 * GIB
_BETWEEN = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How many sequences and tokens one step takes, and whether the user said so."""

    sequences: int
    tokens: int
    stated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Expected, least and most bytes, and what they are made of."""

    bytes: int
    low: int
    high: int
    why: str


def batch_of(settings: Settings, gpu: Gpu, release: Release, max_model_len: int) -> Batch:
    """The batch that vLLM profiles: as asked for, else its defaults for the card (`vllm serve`)."""
    total = gpu.engine_total_bytes
    large = release.v1 and not release.cpu and total >= _LARGE_CARD and not (release.small_a100 and "A100" in gpu.name.upper())
    if not release.v1:
        # V0: prefill in chunks is on by default only past 32k tokens; else the longest prompt is one step.
        tokens = 2048 if max_model_len > 32_768 else max(max_model_len, 2048)
    elif large:
        tokens = 16_384 if release.huge_batches and total >= _HUGE_CARD else 8192
    else:
        tokens = 2048
    sequences = 1024 if large else 128 if release.cpu else 256
    tokens = settings.max_batched_tokens or min(tokens, sequences * max_model_len)
    sequences = settings.max_num_seqs or min(sequences, tokens)
    return Batch(sequences=sequences, tokens=tokens, stated=settings.max_num_seqs is not None and settings.max_batched_tokens is not None)


def activation_peak(model: Model, placement: Placement, stage: int, batch: Batch, release: Release, gpu: Gpu) -> Band:
    """Torch's peak above the weights in the profile run."""
    g, width = model.geometry, max(model.dtype.block_bytes, 2)
    if not g.vocab_size or not g.hidden_size:
        return Band(bytes=GIB, low=0, high=4 * GIB, why="the model's widths are not known: a guess that covers common ones")
    last, light = stage == placement.pp - 1, release.light_sampler
    fitted, copies = (c.SAMPLER_LOGIT_BYTES, c.RESIDUAL_COPIES) if light else (c.OLD_SAMPLER_LOGIT_BYTES, c.OLD_RESIDUAL_COPIES)
    logit = fitted.value + width - c.LOGIT_TYPE_BYTES
    stream = width * batch.tokens * g.hidden_size
    rows = min(batch.sequences, batch.tokens)
    sampler = int(rows * g.vocab_size * logit)
    fixed = int(c.TOKEN_BYTES.value * batch.tokens) if light else 0
    handed = 2 * stream if placement.pp > 1 else 0
    experts = _expert_workspace(model, placement, batch, release, gpu)
    sampling = sampler + int(copies.value * stream) + fixed + handed + experts if last else 0
    inner = 0 if g.experts else 3 * g.intermediate_size // placement.tp
    # Per-layer embeddings (Gemma 3n and 4) are looked up, projected and added: three tensors of all layers' widths.
    layered = 3 * width * batch.tokens * layered_width(model)
    forward = width * batch.tokens * inner + c.FORWARD_RESIDUALS * stream + handed + experts + layered + int(c.FORWARD_BASE_GIB.value * GIB)
    peak = max(sampling, forward)
    tower, tower_most = _towers(model, batch)
    latent = any(isinstance(kept, LatentCache) for kept, _ in model.cache_counts)
    sure = light and batch.stated and not g.experts
    doubt = int(0.02 * peak) + int(0.06 * GIB) if sure else int(0.10 * peak) + int(0.20 * GIB)
    doubt += int(0.4 * GIB) + experts // 2 if g.experts or latent else 0
    most = peak + tower_most + doubt + layered + 2 * experts + (int(1.2 * GIB) if g.experts and not light else 0)
    least = peak - doubt
    if release.version >= c.START_GAP_SINCE and is_nvidia(gpu):
        most, least = most + int(c.START_GAP_GIB.value * GIB), least - int(c.START_GAP_GIB.value * GIB)
    if last and not light and not batch.stated:
        # Four start-ups of 0.11.0 and of a build of 0.13 took what the later sampler takes, for reasons that their logs do not tell.
        later = int(rows * g.vocab_size * c.SAMPLER_LOGIT_BYTES.value)
        least = min(least, max(later, forward - experts) - doubt)
    if sampling >= forward:
        why = f"profile run: sampler of {rows:,} x {g.vocab_size:,} logits at {logit:.0f} B, {batch.tokens:,} tokens of residual stream"
    else:
        why = f"profile run: forward pass of {batch.tokens:,} tokens"
    why += ("; experts' workspace" if experts else "") + ("; encoder" if tower else "") + f" ({fitted.rows} rows)"
    return Band(bytes=peak + tower, low=max(0, least), high=most, why=why)


def with_verification(peak: Band, model: Model, batch: Batch) -> Band:
    """The peak with a drafter: the rejection sampler is profiled on two rows of logits for each sequence (`_dummy_sampler_run`).

    These are there beside the sampler's own copies, 2 x 16 bits each; with draft probabilities (32 bits, twice) at most.
    """
    rows = min(batch.sequences, batch.tokens) * model.geometry.vocab_size
    extra = rows * 2 * max(model.dtype.block_bytes, 2)
    return replace(peak, bytes=peak.bytes + extra, high=peak.high + 3 * extra + rows * 8, why=f"{peak.why}; two rows of logits a sequence to verify drafts")


def with_drafter(graphs: Band) -> Band:
    """Graphs with a drafter's own beside the model's: few layers, but captured for each batch, too."""
    return replace(graphs, high=graphs.high + GIB, why=f"{graphs.why}; a drafter's own, up to 1 GiB more")


def _expert_workspace(model: Model, placement: Placement, batch: Batch, release: Release, gpu: Gpu) -> int:
    """Inputs and outputs of all active experts, where the modular kernels keep them for good.

    vllm/model_executor/layers/fused_moe: workspace13 is tokens x top-k x max(2 x width, hidden), workspace2 tokens x top-k x width;
    DeepGEMM, for experts in blocks of fp8, has both as wide as the hidden size. Kept by every kernel but Marlin's from 0.17; up to
    0.12 by those of fp8; between them by DeepGEMM, which is off from 8 ranks on (quantization/fp8.py: "disabled by default when TP
    size is >= 8").
    """
    g, quantised = model.geometry, model.quantization
    if not g.experts or not g.experts_per_token or any(word in quantised for word in ("mxfp4", "w4a16", "awq", "gptq", "int4")):
        return 0
    blocks = "fp8" in quantised and _in_blocks(model)
    if not release.light_sampler:
        kept = "fp8" in quantised if release.version < (0, 13) else blocks and placement.tp < 8
        if not kept or not is_nvidia(gpu) or release.version < (0, 10):
            return 0
    if model.model_type in c.NO_EXPERT_WORKSPACE:
        return 0
    rows = batch.tokens * g.experts_per_token
    if blocks and placement.ep and placement.ranks > 1:
        # FlashInfer's CUTLASS kernels, which Hopper prefers for dealt experts, bring their own (fused_moe/oracle/fp8.py).
        return batch.tokens * g.hidden_size * 2
    if blocks:
        return rows * 2 * g.hidden_size * 2
    inner = expert_width(model) // (1 if placement.ep else placement.ranks)
    return rows * (max(2 * inner, g.hidden_size) + inner) * 2


@once_per_model
def expert_width(model: Model) -> int:
    """Width of one routed expert, from its parameters: gate, up and down of hidden x width; 0 without experts."""
    g = model.geometry
    per_layer: dict[int, int] = {}
    for t in model.tensors:
        if t.role is Role.EXPERT and t.layer is not None and t.component is Component.TEXT:
            per_layer[t.layer] = per_layer.get(t.layer, 0) + t.parameters
    if not per_layer or not g.experts or not g.hidden_size:
        return 0
    return round(max(per_layer.values()) / (3 * g.experts * g.hidden_size))


@once_per_model
def _in_blocks(model: Model) -> bool:
    return any(t.name.endswith("weight_scale_inv") for t in model.tensors)


@once_per_model
def _has_towers(model: Model) -> bool:
    return any(t.component in {Component.VISION, Component.AUDIO} for t in model.tensors)


def _towers(model: Model, batch: Batch) -> tuple[int, int]:
    """Expected and greatest bytes that profiling the encoders adds."""
    known = c.TOWERS_GIB.get(model.model_type)
    if known is not None:
        share = min(1.0, batch.sequences / 128) if model.model_type == "mllama" else 1.0
        return int(known.value * share * GIB), int(known.value * 1.5 * GIB)
    if not _has_towers(model):
        return 0, 0
    return int(c.TOWER_GIB.value * GIB), int(1.5 * GIB)


def is_amd(gpu: Gpu) -> bool:
    """Whether ROCm's rules hold; a card of unknown make is taken for NVIDIA's, as nearly all are under vLLM."""
    return gpu.vendor.lower() == "amd"


def is_nvidia(gpu: Gpu) -> bool:
    """Whether CUDA's rules hold."""
    return gpu.vendor.lower() not in {"amd", "intel", "apple"}


def _by_ranks(table: tuple[float, float, float, float], tp: int) -> float:
    """The table's value for the nearest number of ranks that is not less."""
    return next((value for ranks, value in zip(_BETWEEN, table, strict=True) if tp <= ranks), table[-1])


def _fuses_all_reduce(gpu: Gpu) -> bool:
    """Whether FlashInfer's fused all-reduce, and so its workspace, is there: on Hopper and data-centre Blackwell only.

    vllm/compilation/passes/fusion/allreduce_rms_fusion.py, FI_ALLREDUCE_FUSION_MAX_SIZE_MB: capabilities 90, 100, 103 and 107. A card
    of unknown capability is taken for one of them.
    """
    major = gpu.compute_capability.split(".")[0]
    return major in {"", "9", "10"} or not major.isdigit()


def non_torch(placement: Placement, release: Release, gpu: Gpu) -> Band:
    """Memory in use beside torch's that grew during the profile run, inside the budget."""
    tp, amd = placement.ranks, is_amd(gpu)
    if amd:
        table = c.NON_TORCH_AMD
    elif not release.v1:
        table = c.NON_TORCH_V0
    else:
        table = c.NON_TORCH if release.version < (0, 18) or not _fuses_all_reduce(gpu) else c.NON_TORCH_FLASHINFER
    gib = c.NON_TORCH_PIPELINE.value if tp == 1 and placement.pp > 1 else _by_ranks(table, tp)
    # 0.8 counts everything that is in use on the card, the context too.
    gib += _by_ranks(c.CONTEXT, tp) if release.context_counts else 0
    spread = 0.06 if tp == 1 and not amd else 0.25 if not amd else 0.6
    most = gib + 2 * spread
    if not release.v1:
        # 0.6.5 counted what other processes and NCCL held twice: 1.79 and 3.58 GiB (vllm-project/vllm#10511).
        most = gib + 0.3 if tp == 1 else 3.6
    name = (
        "workspaces of RCCL and rocBLAS"
        if amd
        else "workspaces of NCCL, all-reduce and cuBLAS"
        if tp > 1
        else "kernels and workspaces loaded by the profile run"
    )
    return Band(bytes=int(gib * GIB), low=int(max(0.0, gib - spread) * GIB), high=int(most * GIB), why=f"{name}, vLLM {release.label} at TP{tp}")


def rank_gap(placement: Placement, gpu: Gpu) -> RankGap:
    """How much less the poorest rank's pool is than the printed one's: all pools are cut to the poorest."""
    if placement.tp == 1 or not is_amd(gpu):
        return RankGap()
    return RankGap(bytes=int(_by_ranks(c.RANK_GAP_AMD, placement.tp) * GIB), doubt_bytes=int(c.RANK_GAP_DOUBT_AMD_GIB * GIB))


def context(placement: Placement, gpu: Gpu) -> Band:
    """In use when the worker starts: the driver's context and NCCL's first buffers; outside the budget."""
    if gpu.unified_memory:
        return Band(bytes=int(0.5 * GIB), low=0, high=2 * GIB, why="driver context on memory that the host shares: other programs' use is counted with it")
    tp = placement.ranks
    gib = c.CONTEXT_PIPELINE_GIB if tp == 1 and placement.pp > 1 else _by_ranks(c.CONTEXT, tp)
    most = max(_by_ranks(c.CONTEXT_MOST, tp), gib + 0.2)
    known = c.CONTEXT_BY_CAPABILITY.get(gpu.compute_capability)
    rows = "38 rows on H100"
    if known is not None:
        # What NCCL adds was seen on H100 alone.
        gib += known.value - c.CONTEXT[0]
        rows = f"{known.rows} row{'s' if known.rows > 1 else ''} on cards of capability {gpu.compute_capability}"
    why = f"driver context and first buffers at start, outside vLLM's budget ({rows})"
    return Band(bytes=int(gib * GIB), low=int(min(0.2, gib / 2) * GIB), high=int(most * GIB), why=why)


def graphs(model: Model, placement: Placement, stage_layers: int, release: Release, gpu: Gpu) -> Band:
    """CUDA graphs as captured; from 0.20 vLLM takes its own estimate of them off the pool."""
    moe = bool(model.geometry.experts)
    if is_amd(gpu):
        gib = (c.GRAPH_AMD if release.version < (0, 18) else c.GRAPH_AMD_LATER).value
        return Band(bytes=int(gib * GIB), low=int(0.4 * gib * GIB), high=int((gib + 2) * GIB), why="HIP graphs on MI300X took 3 to 9 GiB")
    if not is_nvidia(gpu):
        return Band(bytes=0, low=0, high=GIB, why="not known to be captured on this card")
    usual = c.GRAPH_BASE.value + c.GRAPH_LAYER.value * stage_layers + (c.GRAPH_EXPERTS.value if moe else 0)
    if placement.tp > 1:
        usual -= 0.15  # 6 rows: Llama-3.1-8B 0.91, 0.76, 0.67 and Qwen2.5-7B 0.87, 0.71, 0.64 at TP 1, 2, 4
    if release.version < (0, 17):
        gib = (c.GRAPH_BEFORE_018 if not moe else c.GRAPH_EXPERTS_BEFORE_018).value
        low, high = 0.0, usual + 1.0
    else:
        gib = usual * (c.GRAPH_LARGE_CARD.value if gpu.engine_total_bytes >= 100 * GIB and not moe else 1.0)
        low, high = 0.15 * gib, usual + (1.2 if moe else 0.5)
    return Band(bytes=int(gib * GIB), low=int(low * GIB), high=int(high * GIB), why=f"decode graphs of {stage_layers} layers ({c.GRAPH_BASE.rows} rows)")
