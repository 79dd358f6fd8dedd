"""Speculative decoding in llama-server: a draft model with a context of its own, or one more context on the model's MTP layers.

Sources (b11434): `common_base_params_to_speculative` and `common_speculative_init_from_params` (common/speculative.cpp): the
draft's context is as long as the target's, has as many slots, a row of logits a slot and a 16-bit cache whatever the target's
is; `server_output_limits` (tools/server/server-context.cpp): the target reserves a row of logits for every token that is
verified; `llama_model::create_memory`: an MTP context keeps the MTP layers alone.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vram.engines.base import Demand
from vram.engines.llama_cpp_buffers import Offload
from vram.errors import UsageError
from vram.model.cache import CacheFormats
from vram.model.format import F16, F32
from vram.model.layer import Layer
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.mtp import mtp_of
from vram.model.role import Component, Role

if TYPE_CHECKING:
    from vram.engines.llama_cpp_engine import LlamaCpp

DRAFT_TOKENS: Final = 3
"""`--spec-draft-n-max` (common/common.h)."""
FORMATS: Final = CacheFormats(key=F16, value=F16, conv=F32, state=F32)
"""`-ctkd`, `-ctvd`: 16 bits unless they say otherwise."""
# llm_arch_supports_rs_rollback (src/llama-arch.cpp), and the same as configs name them.
_ROLLBACK: Final = frozenset(
    [
        "kimi-k3",
        "qwen35",
        "qwen35moe",
        "qwen4exp",
        "deepseek4",
        "glm5-next",
        "nemotron_h",
        "nemotron_h_moe",
        "lfm2",
        "lfm2moe",
        "bailingmoe3",
        "kimi_k3",
        "qwen3_5",
        "qwen3_5_text",
        "qwen3_5_moe",
        "qwen3_5_moe_text",
        "qwen4_exp",
        "qwen4_exp_text",
        "deepseek_v4",
        "glm5_next",
        "glm5_next_text",
        "lfm2_moe",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafter:
    """What drafts, as the engine is asked for it.

    Attributes:
        demand: the drafter's own.
        name: in words.
        within: where the target's layers lie, if the drafter is made of the target's own; None for a model of its own.
        layers: where those lie that it is made of.
    """

    demand: Demand
    name: str
    within: Offload | None = None
    layers: Offload | None = None


def rolls_back(model: Model) -> bool:
    """Whether a snapshot of every state is kept for each drafted token, so that a wrong draft is undone."""
    return model.model_type in _ROLLBACK or model.architecture in _ROLLBACK


def draft_demand(demand: Demand, draft: Model, free_bytes: tuple[int, ...]) -> Demand:
    """What the server asks of a draft model: the target's context and slots, its own layers, a 16-bit cache.

    Args:
        demand: the target's.
        draft: the draft model.
        free_bytes: what the target leaves free on each GPU, by which the draft's layers are dealt.
    """
    s = demand.settings
    wanted = s.draft.gpu_layers if s.draft is not None else None
    return replace(
        demand,
        model=draft,
        workload=replace(demand.workload, kv_dtype="f16", formats=FORMATS),
        settings=replace(s, draft=None, lora=(), gpu_layers=wanted, output_rows=None),
        free_bytes=free_bytes,
    )


@once_per_model
def mtp_context(model: Model) -> Model | None:
    """The MTP layers as a model of their own, with the embedding and the head that they use; None without such layers."""
    found = mtp_of(model)
    if found is None or not found.caches:
        return None
    tensors = [replace(t, component=Component.TEXT) for t in found.tensors if t.layer is not None]
    ends = [t for t in model.tensors if t.layer is None and t.component is Component.TEXT and t.role in {Role.EMBEDDING, Role.LM_HEAD}]
    layers = tuple(Layer(index=i, caches=caches) for i, caches in enumerate(found.caches))
    return replace(model, tensors=(*tensors, *ends), layers=layers)


def drafter(rules: "LlamaCpp", demand: Demand) -> Drafter:
    """What drafts for the model of a demand.

    Raises:
        UsageError: the model has no MTP layers, or the draft is no language model.
    """
    draft = demand.settings.draft
    if draft is None:
        raise UsageError("nothing drafts", hint="name a draft model: --draft MODEL, or --draft mtp")
    if draft.model is not None:
        if not draft.model.layers and draft.model.caches_known:
            raise UsageError(f"{draft.name} is no language model: it cannot draft", hint="give a small model with the same vocabulary")
        return Drafter(demand=draft_demand(demand, draft.model, _left(rules, demand)), name=f"the draft model {draft.name}")
    own = mtp_context(demand.model)
    if own is None:
        raise UsageError(f"{demand.model.name} has no multi-token-prediction layers that are known here", hint="name a draft model instead: --draft MODEL")
    where = rules.where(demand)
    trunk = len(demand.model.layers)
    return Drafter(
        demand=draft_demand(demand, own, demand.free_bytes),
        name="the multi-token-prediction layers",
        within=where,
        layers=Offload(layers=where.layers[trunk : trunk + len(own.layers)], output=where.output, devices=where.devices),
    )


def _left(rules: "LlamaCpp", demand: Demand) -> tuple[int, ...]:
    """Free memory of each GPU once the target is there."""
    if len(demand.free_bytes) < 2 or demand.settings.tensor_split:
        return demand.free_bytes
    target = replace(demand, settings=replace(demand.settings, draft=None))
    held = [rules.parts(target, stage) for stage in range(len(demand.free_bytes))]
    return tuple(max(free - p.weights.bytes - p.kv_cache.bytes - p.activations.bytes, 1) for free, p in zip(demand.free_bytes, held, strict=True))
