"""What "Model loading took" counts on one rank: the weights as vLLM holds them, and the memory that their allocation wastes.

memory/weights.py says how tensors are split. Added here: layers that vLLM fuses (query, key and value; gate and up), the
vocabulary padded to 64, the rotary table, MLA's absorbed projections, MXFP4 experts padded for their kernels, and torch's
allocator. It does not know copies that a kernel makes of a quantised weight, other than those named.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vram.engines.vllm.buffers import key_value_copies, rotary_bytes
from vram.engines.vllm.constants import AMD_DENSE, AMD_QUANTISED_EXPERTS
from vram.engines.vllm.profile import expert_width, is_amd
from vram.engines.vllm.release import Release
from vram.engines.vllm.rocm import expert_padding, inner_width, is_padded
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement, Stage, layer_count, stages
from vram.memory.weights import Split, split_of, unlisted_ear
from vram.model.cache import FullCache, LatentCache
from vram.model.model import Model
from vram.model.role import Component, Role
from vram.model.tensor import Tensor
from vram.units import MIB

VOCAB_MULTIPLE: Final = 64
"""vllm/model_executor/layers/vocab_parallel_embedding.py: DEFAULT_VOCAB_PADDING_SIZE."""

# From 0.8 the linears of vision towers are split like those of the text (`--mm-encoder-tp-mode weights`, the default): 53.12 GiB of
# Llama 4 Scout at TP4 and 27.81 at TP8 are 200 GiB split and 2.5 of rotary angles; 8.41 of Qwen2.5-VL at TP2 in 0.7.2 are not.
TOWERS_SPLIT: Final = (0, 8)
_TOWER_SPLIT: Final = frozenset({Role.QUERY, Role.KEY_VALUE, Role.QKV, Role.ATTENTION_OUT, Role.MLP})
WHOLE_TOWERS: Final = frozenset({"kimi_k25"})
"""Types whose published launch commands keep the tower whole on each rank (`--mm-encoder-tp-mode data`)."""

# c10/cuda/CUDACachingAllocator.cpp: allocations of 10 MiB and more get segments of whole 2 MiB (kRoundLarge), and what is
# left of a segment is given to others only if it is more than 1 MiB (kSmallSize); else it counts as allocated.
_LARGE, _SEGMENT, _LEFT = 10 * MIB, 2 * MIB, MIB
_ROUND: Final = 512

_FUSED: Final = (
    (re.compile(r"\b[qkv]_proj\b"), "qkv_proj"),
    (re.compile(r"\b(gate|up)_proj\b|\bw[13]\b"), "gate_up_proj"),
    (re.compile(r"\b(q_a_proj|kv_a_proj_with_mqa)\b"), "fused_qkv_a_proj"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Weights on one rank, in bytes.

    Attributes:
        bytes: all that the load takes.
        stored_bytes: of which tensors, as the checkpoint stores them.
        whole_bytes: of which every rank of the stage holds a copy.
        absorbed_bytes: MLA's projections, kept a second time as 16-bit matrices.
        rotary_bytes: the table of rotary angles.
        copied_bytes: projections of keys and values that the checkpoint shares or does without.
        unlisted_bytes: a tower that the publisher's checkpoints have and this config leaves out.
        padded_bytes: what kernels pad.
        wasted_bytes: what torch's allocator cannot give to others.
        draft_bytes: layers that the checkpoint has and only speculative decoding loads: not in `bytes`.
        doubtful_bytes: of `bytes`, what some builds and kernels do not take.
        possible_bytes: what some take beside `bytes`.
    """

    bytes: int
    stored_bytes: int
    whole_bytes: int
    absorbed_bytes: int
    rotary_bytes: int
    padded_bytes: int
    wasted_bytes: int
    draft_bytes: int
    copied_bytes: int = 0
    unlisted_bytes: int = 0
    doubtful_bytes: int = 0
    possible_bytes: int = 0


def allocated(size: int) -> int:
    """Bytes that torch counts as allocated for a tensor of `size` bytes."""
    if size < _LARGE:
        return -(-size // _ROUND) * _ROUND
    segment = -(-size // _SEGMENT) * _SEGMENT
    return segment if segment - size <= _LEFT else -(-size // _ROUND) * _ROUND


@lru_cache(maxsize=64)
def resident(model: Model, placement: Placement, stage: int, release: Release, gpu: Gpu) -> Resident:
    """Weights of one rank of pipeline stage `stage`.

    Raises:
        PlacementError: more stages than layers.
    """
    part = stages(layer_count(model), placement.pp)[stage]
    latent = {layer.index for layer in model.layers if any(isinstance(c, LatentCache) for c in layer.caches)}
    heads = {layer.index: max((c.kv_heads for c in layer.caches if isinstance(c, FullCache)), default=0) for layer in model.layers}
    tied = not any(t.role is Role.LM_HEAD and t.component is Component.TEXT for t in model.tensors)
    pieces: Counter[tuple[int | None, str]] = Counter()
    stored = whole = absorbed = padded = draft = copied = 0
    copies = key_value_copies(model)
    experts: dict[int, int] = {}
    for t in model.tensors:
        is_draft = t.component is Component.DRAFT or (t.layer is not None and bool(model.layers) and t.layer >= len(model.layers))
        if is_draft:
            draft += t.nbytes // placement.tp if part.is_last else 0
            continue
        if not _lies_on(t, part, tied=tied):
            continue
        split = split_of(t, latent=t.layer in latent)
        if release.version >= TOWERS_SPLIT and t.component is Component.VISION and t.role in _TOWER_SPLIT and model.model_type not in WHOLE_TOWERS:
            split = Split.EVEN
        held = _held(t, split, heads.get(t.layer or 0) or model.geometry.kv_heads, model, placement)
        if t.role is Role.KEY_VALUE and t.component is Component.TEXT and t.layer is not None:
            copied += held * copies[t.layer]
        stored += held
        whole += held if split is Split.WHOLE else 0
        if t.layer in latent and t.role is Role.KEY_VALUE and t.packed:
            absorbed += -(-t.parameters * 2 // placement.tp)
        if is_amd(gpu) and t.layer is not None and is_padded(t):
            experts[t.layer] = experts.get(t.layer, 0) + held
        extra = _kernel_padding(t, held, model, placement, release, gpu)
        padded += extra
        pieces[t.layer, _fused(t.name)] += held + extra
    wasted = sum(allocated(size) - size for size in pieces.values())
    rotary = rotary_bytes(model, release)
    rocm = expert_padding(experts, model.geometry.hidden_size, inner_width(expert_width(model), model, placement) if experts else 0, release)
    padded += rocm.bytes
    ear = unlisted_ear(model) if part.is_first else 0
    return Resident(
        bytes=stored + absorbed + padded + wasted + rotary + copied + ear,
        stored_bytes=stored,
        whole_bytes=whole,
        absorbed_bytes=absorbed,
        rotary_bytes=rotary,
        padded_bytes=padded,
        wasted_bytes=wasted,
        draft_bytes=draft,
        copied_bytes=copied,
        unlisted_bytes=ear,
        doubtful_bytes=rocm.bytes + ear,
        possible_bytes=rocm.most - rocm.bytes,
    )


@lru_cache(maxsize=4096)
def _fused(name: str) -> str:
    for pattern, together in _FUSED:
        name, n = pattern.subn(together, name)
        if n:
            break
    return name


def _lies_on(t: Tensor, stage: Stage, *, tied: bool) -> bool:
    if t.layer is not None:
        return stage.first <= t.layer < stage.last
    if t.role is Role.LM_HEAD or (t.role is Role.NORM and t.component is Component.TEXT):
        return stage.is_last
    if t.role is Role.EMBEDDING and t.component is Component.TEXT and tied:
        return stage.is_first or stage.is_last
    return stage.is_first


def _held(t: Tensor, split: Split, kv_heads: int, model: Model, placement: Placement) -> int:
    """Bytes of a tensor on one rank."""
    tp, size = placement.tp, t.nbytes
    if t.role in {Role.EMBEDDING, Role.LM_HEAD} and t.component is Component.TEXT and len(t.shape) == 2 and t.shape[0] == model.geometry.vocab_size:
        rows = -(-t.shape[0] // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
        return size // t.shape[0] * -(-rows // tp)
    ranks = placement.ranks
    if ranks == 1 or split is Split.WHOLE:
        return size
    if split in {Split.EVEN, Split.DENSE}:
        return -(-size // tp)
    if split is Split.EXPERT:
        experts = model.geometry.experts
        return size * -(-experts // ranks) // experts if placement.ep and experts else -(-size // ranks)
    if tp == 1:
        return size
    kv = kv_heads or tp
    here = -(-kv // tp)
    if split is Split.KV_HEADS:
        return -(-size * here // kv)
    q = model.geometry.attention_heads or kv
    return -(-size * (-(-q // tp) + 2 * here) // (q + 2 * kv))


def _kernel_padding(t: Tensor, held: int, model: Model, placement: Placement, release: Release, gpu: Gpu) -> int:
    """What kernels add to a weight after the load."""
    amd = is_amd(gpu)
    expert = t.role is Role.EXPERT
    if amd and t.packed:
        if expert:
            return 0 if is_padded(t) else int(held * AMD_QUANTISED_EXPERTS.value)
        return int(held * AMD_DENSE.value) if t.format.block_bytes < 2 and t.role is not Role.EMBEDDING else 0
    if amd or not expert or "mxfp4" not in model.quantization or t.name.endswith("bias"):
        return 0
    return int(held * (_mxfp4_factor(t, model, placement, release, gpu) - 1))


def _mxfp4_factor(t: Tensor, model: Model, placement: Placement, release: Release, gpu: Gpu) -> float:
    """How kernels pad MXFP4 experts (vllm/model_executor/layers/quantization/mxfp4.py, create_weights).

    Marlin: the expert's width to 128 and the hidden width to 256. Triton on Hopper (from 0.12): the packed numbers of the hidden
    width to 256, its scales not. Blackwell: both widths to 256.
    """
    g = model.geometry
    inner = max(expert_width(model) // (1 if placement.ep else placement.ranks), 1)
    wide = -(-g.hidden_size // 256) * 256 / max(g.hidden_size, 1)
    major = int(gpu.compute_capability.split(".")[0]) if gpu.compute_capability[:1].isdigit() else 0
    if major >= 10:
        return wide * (-(-inner // 256) * 256 / inner)
    if major == 9 and release.version >= (0, 12):
        return wide if t.packed else 1.0
    return wide * (-(-inner // 128) * 128 / inner)
