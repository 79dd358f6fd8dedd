"""Speculative decoding in vLLM: the drafter's weights on the last stage, its caches in the pool, and what it profiles.

Sources (0.32): vllm/v1/spec_decode (llm_base_proposer.py: multi-token-prediction layers, and EAGLE heads without their own, take
the target's embedding and head while there is one stage; draft_model.py: a draft model is split like the target),
v1/kv_cache_interface.py and model_executor/layers/mamba (states keep a block, and a convolution a column, for every drafted token),
v1/worker/gpu_model_runner.py (`_dummy_sampler_run`: the rejection sampler is profiled on two rows of logits a sequence).
"""

from dataclasses import dataclass, replace
from typing import Final

from vram.engines.draft import Draft, is_head, mtp_layers
from vram.engines.vllm.quirks import kept
from vram.memory.placement import Placement
from vram.memory.weights import split_bytes
from vram.model.cache import Cache, ChunkedCache, CrossCache, FullCache, StateCache, WindowCache
from vram.model.model import Model
from vram.model.role import Component, Role

TOKENS: Final = 3
"""Where nobody says how many: vLLM itself wants a number, except for multi-token-prediction layers, which it drafts with once each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """What a drafter adds to one rank.

    Attributes:
        weight_bytes: its weights there.
        shared_bytes: of its own tensors, the embedding and the head that it takes from the target instead.
        caches: what its layers keep, numbered after the target's.
        tokens: drafted at a time.
        modules: layers that draft one after the other.
    """

    weight_bytes: int
    shared_bytes: int
    caches: tuple[tuple[int, Cache], ...]
    tokens: int
    modules: int


def tokens_of(model: Model, draft: Draft | None) -> int:
    """Tokens drafted at a time; 0 where nothing drafts."""
    if draft is None:
        return 0
    return draft.tokens or (mtp_layers(model).layers if draft.model is None else TOKENS)


def drafted(model: Model, draft: Draft, placement: Placement) -> Drafted:
    """What the drafter of a model adds to a rank of the last stage; earlier stages hold nothing of it.

    Raises:
        UsageError: the model has no multi-token-prediction layers.
    """
    alone, first = replace(placement, pp=1), len(model.layers)
    if draft.model is None:
        found = mtp_layers(model)
        caches = tuple((first + i, cache.split(placement.tp)) for i, layer in enumerate(found.caches) for cache in layer)
        own = [t for t in found.tensors if placement.pp > 1 or t.role not in {Role.EMBEDDING, Role.LM_HEAD}]
        held = sum(split_bytes(t, model, alone) for t in own)
        everything = sum(split_bytes(t, model, alone) for t in found.tensors)
        return Drafted(weight_bytes=held, shared_bytes=everything - held, caches=caches, tokens=tokens_of(model, draft), modules=found.layers)
    head = is_head(draft.model) and placement.pp == 1
    held = shared = 0
    for t in draft.model.tensors:
        size = split_bytes(t, draft.model, alone)
        same = t.role is Role.EMBEDDING or (t.role is Role.LM_HEAD and t.shape[:1] == (model.geometry.vocab_size,))
        if head and same and t.component in {Component.TEXT, Component.DRAFT}:
            shared += size
        else:
            held += size
    window = _common_window(model)
    caches = tuple((first + i, _within(cache, window).split(placement.tp)) for i, cache in kept(draft.model))
    return Drafted(weight_bytes=held, shared_bytes=shared, caches=caches, tokens=tokens_of(model, draft), modules=1)


def _common_window(model: Model) -> int:
    """The window of a model all of whose layers have one: vLLM gives it to the drafter's, too (`cache_config.sliding_window`)."""
    windows = {c.window if isinstance(c, WindowCache) else 0 for _, c in kept(model)}
    return windows.pop() if len(windows) == 1 else 0


def _within(cache: Cache, window: int) -> Cache:
    if not window or not isinstance(cache, FullCache) or isinstance(cache, (WindowCache, ChunkedCache, CrossCache)):
        return cache
    return WindowCache(kv_heads=cache.kv_heads, key_dim=cache.key_dim, value_dim=cache.value_dim, window=window)


def with_columns(cache: Cache, tokens: int) -> Cache:
    """A state's convolution keeps a column more for every drafted token."""
    if not isinstance(cache, StateCache) or not cache.conv_kernel or not tokens:
        return cache
    return replace(cache, conv_elements=cache.conv_elements // cache.conv_kernel * (cache.conv_kernel + tokens), conv_kernel=cache.conv_kernel + tokens)
