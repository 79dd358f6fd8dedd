"""vLLM's buffers for LoRA adapters: `max_loras` slots of `max_lora_rank` for every linear that it wraps, whatever is loaded.

Source (0.32): `create_lora_weights` of vllm/lora/layers/*.py: A of a column-parallel linear is whole on every rank and B is split
like the linear; of a row-parallel one A is split and B is whole; a fused linear has an A for each of its slices; the embedding
and the head are whole on every rank. Held against vLLM's own modules in tests/test_vllm_beside.py.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vram.engines.vllm.profile import expert_width
from vram.errors import UsageError
from vram.memory.placement import Placement, layer_count, stages
from vram.model.adapter import Adapter
from vram.model.model import Model
from vram.model.role import Component, Role
from vram.model.tensor import Tensor

RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""`MaxLoRARanks` (vllm/config/lora.py)."""
MOST_VOCABULARY: Final = 258_048
"""`LogitsProcessorWithLoRA.create_lora_weights` refuses more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """What `--max-loras` and `--max-lora-rank` have to be."""

    count: int
    rank: int


def slots_of(adapters: tuple[Adapter, ...]) -> Slots:
    """A slot for each adapter that serves at once, all of the greatest rank, in the steps that vLLM has.

    Raises:
        UsageError: vLLM takes no such rank.
    """
    return slots_for(tuple(a.rank for a in adapters))


def slots_for(ranks: tuple[int, ...]) -> Slots:
    """The same for ranks alone.

    Raises:
        UsageError: vLLM takes no such rank.
    """
    most = max(ranks, default=1)
    if most > RANKS[-1]:
        raise UsageError(f"vLLM takes adapters of rank {RANKS[-1]} at most, not {most}", hint="plan with a smaller rank: --lora 64")
    return Slots(count=max(len(ranks), 1), rank=next(r for r in RANKS if r >= most))


# Types whose class takes adapters of the embedding and the head, of the embedding alone (`embedding_modules` of
# vllm/model_executor/models/*.py; Transformers' own classes take that of the embedding); the others of neither.
_BOTH_ENDS: Final = (
    "apertus ernie4_5 exaone exaone4 exaone_moe falcon_h1 granite granite_swa granitemoe granitemoehybrid granitemoeshared hyperclovax jamba lfm2 lfm2_moe"
    " llama minicpm minicpm3 mixtral nemotron nemotron_h nemotron-nas phi3 phimoe qwen3 qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text qwen3_moe solar"
)
_ONE_END: Final = "arcee cohere cohere2 cwm glm hunyuan_v1_dense jais2 ministral olmo olmo2 olmo3 persimmon phi seed_oss smollm3 starcoder2 vaultgemma"
_ENDS, _EMBEDDING = frozenset(_BOTH_ENDS.split()), frozenset(_ONE_END.split())
# Types whose experts' gate and up are one slice (`is_3d_moe_weight`).
_ONE_SLICE: Final = frozenset({"gpt_oss", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_omni_moe", "qwen3_vl_moe", "qwen3_vl_moe_text"})
# Row-parallel linears take the slices that column-parallel ones give (vllm/model_executor/layers/linear.py, RowParallelLinear).
_ROWS: Final = re.compile(r"\b(o_proj|out_proj|down_proj|c_proj|dense_4h_to_h|fc2|w2|fc_out|dense|proj_out|wo|output_linear)\b")
_SLICES: Final = (("in_proj_qkvz", 4), ("in_proj_qkv.", 3), ("in_proj_ba", 2))
"""Tensors that fill several slices of one linear, each with an A of its own."""
_WHOLE: Final = frozenset({Role.LATENT, Role.ROUTER})
_WRAPPED: Final = frozenset({Role.QUERY, Role.KEY_VALUE, Role.QKV, Role.ATTENTION_OUT, Role.LATENT, Role.MLP, Role.SHARED_EXPERT, Role.ROUTER, Role.MIXER})


@lru_cache(maxsize=128)
def lora_bytes(model: Model, placement: Placement, stage: int, slots: Slots) -> int:
    """Bytes of all adapters' buffers on one rank of a stage, in the model's type.

    Raises:
        PlacementError: more stages than layers.
    """
    part = stages(layer_count(model), placement.pp)[stage]
    numbers, experts = 0, set()
    for t in model.tensors:
        if t.component is not Component.TEXT or not t.packed or t.name.endswith("bias"):
            continue
        if t.layer is None:
            numbers += _ends(t, model, slots.rank, is_first=part.is_first, is_last=part.is_last)
        elif part.first <= t.layer < part.last:
            if t.role is Role.EXPERT:
                experts.add(t.layer)
            elif t.role in _WRAPPED and len(t.shape) == 2:
                numbers += _pair(t, model, placement, slots.rank)
            elif "linear_attn.conv1d" in t.name and len(t.shape) == 3:
                # A convolution is a linear to vLLM, as wide as its kernel.
                numbers += slots.rank * (t.shape[-1] + -(-t.shape[0] // placement.tp))
    numbers += len(experts) * _experts(model, placement, slots.rank)
    return slots.count * numbers * max(model.dtype.block_bytes, 2)


def _ends(t: Tensor, model: Model, rank: int, *, is_first: bool, is_last: bool) -> int:
    """The embedding and the head where the class takes adapters of them: whole on every rank."""
    if len(t.shape) != 2 or t.shape[0] != model.geometry.vocab_size:
        return 0
    both = model.model_type in _ENDS
    if t.role is Role.LM_HEAD:
        return rank * sum(t.shape) if both and is_last else 0
    if t.role is not Role.EMBEDDING:
        return 0
    tied = both and is_last and not any(x.role is Role.LM_HEAD and x.component is Component.TEXT for x in model.tensors)
    return rank * sum(t.shape) * ((is_first and (both or model.model_type in _EMBEDDING)) + tied)


def _experts(model: Model, placement: Placement, rank: int) -> int:
    """Gate, up and down of the experts that one rank holds of a layer: slices of each, or whole ones."""
    g, tp = model.geometry, placement.ranks
    width = expert_width(model)
    local, inner = (-(-g.experts // tp), width) if placement.ep else (g.experts, -(-width // tp))
    first = 1 if model.model_type in _ONE_SLICE else 2
    return local * rank * (first * g.hidden_size + 2 * inner + inner + g.hidden_size)


def _pair(t: Tensor, model: Model, placement: Placement, rank: int) -> int:
    """Numbers of A and B of one tensor's slices."""
    tp = placement.tp
    rows, columns = t.shape[0], int(t.shape[1] * t.packed)
    if t.role in _WHOLE:
        return t.count * rank * (rows + columns)
    if t.role is Role.ATTENTION_OUT or _ROWS.search(t.name):
        return t.count * rank * (rows + -(-columns // tp))
    slices = next((n for word, n in _SLICES if word in t.name), 2 if "gate_up_proj" in t.name and model.model_type == "glm4" else 1)
    if t.role is Role.KEY_VALUE:
        heads = model.geometry.kv_heads or tp
        return t.count * rank * (columns + rows * -(-heads // tp) // heads)
    return t.count * rank * (slices * columns + -(-rows // tp))
