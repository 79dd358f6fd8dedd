"""What vLLM sets aside as a model loads beside the tensors that its config describes; "Model loading took" counts all of it.

Rotary tables, rows for every batched token, and projections that checkpoints share or leave out and vLLM holds all the same.
"""

from collections import Counter
from functools import lru_cache
from typing import Final

from vram.engines.vllm.release import Release
from vram.model.cache import FullCache, LatentCache, SharedCache, WindowCache
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component, Role

LOCAL_ROTARY: Final = ("gemma3", "gemma4")
"""Types whose layers with windows turn by a base of their own, and so have a second table (gemma3.py, gemma4.py)."""

MROPE: Final = ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qwen3_vl", "qwen3_omni", "qwen3_5", "glm4v", "glm_ocr", "paddleocr_vl", "keye", "ernie4_5_vl")
"""Types that turn images and videos in sections (`mrope_section`): rotary_embedding/mrope.py makes their table four times as long."""
MROPE_LONG: Final = 4
# 8.41 GiB of Qwen2.5-VL at TP2 in 0.7.2 have the plain table, 15.627 of 2025 the long one: "the maximum index value is related to the
# duration of the input video".
MROPE_SINCE: Final = (0, 8)

PARTIAL_ROTARY: Final = (("qwen3_5", 4), ("qwen3_next", 4), ("glm4", 2), ("minimax", 2))
"""Types that turn only one part in so many of a head (`partial_rotary_factor`), by the start of their name."""

_ALL_PROJECTIONS: Final = ("gemma3n", "gemma4")
"""Types whose every layer has a fused projection of query, key and value in vLLM (gemma3n.py, gemma4.py), whatever the checkpoint shares."""


def rotary_bytes(model: Model, release: Release) -> int:
    """Cosines and sines of every position, in the model's type: one table for all layers that turn alike (layers/rotary_embedding)."""
    g = model.geometry
    caches = [c for layer in model.layers for c in layer.caches]
    latent = max((c.rope_dim for c in caches if isinstance(c, LatentCache)), default=0)
    if not any(isinstance(c, (FullCache, LatentCache)) for c in caches) or any(
        t.role is Role.POSITION and t.component is Component.TEXT for t in model.tensors
    ):
        return 0
    width = latent or g.head_dim // next((part for start, part in PARTIAL_ROTARY if model.model_type.startswith(start)), 1)
    if model.model_type.startswith(LOCAL_ROTARY):
        width += max((c.key_dim for c in caches if isinstance(c, WindowCache)), default=0)
    long = MROPE_LONG if release.version >= MROPE_SINCE and model.model_type.startswith(MROPE) else 1
    return g.max_context_tokens * long * width * max(model.dtype.block_bytes, 2)


@once_per_model
def per_token(model: Model) -> int:
    """Bytes of each batched token that a model sets aside when it loads.

    Qwen3-VL's deepstack has a row of the hidden width for every level (qwen3_vl.py), Gemma 3n and 4 one of the per-layer embeddings
    (gemma3n_mm.py, gemma4_mm.py: `per_layer_embeddings`).
    """
    levels = sum(t.count for t in model.tensors if "deepstack_merger_list" in t.name and t.name.endswith("norm.weight"))
    return (levels * model.geometry.hidden_size + layered_width(model)) * max(model.dtype.block_bytes, 2)


@once_per_model
def layered_width(model: Model) -> int:
    """Numbers that the per-layer embeddings of one token are, all layers together; 0 for models without."""
    return sum(t.shape[-1] for t in model.tensors if t.name.endswith("embed_tokens_per_layer.weight"))


@lru_cache(maxsize=64)
def key_value_copies(model: Model) -> Counter[int]:
    """How many times more the keys' and values' projections of a layer are held than the checkpoint's list of used tensors says.

    Gemma 4's full attention may have no values of its own (`attention_k_eq_v`): vLLM loads the keys' projection into their place
    (58.90 GiB of the 31B are 58.70 and 10 layers' keys). Layers that read others' caches have projections that nothing uses.
    """
    found: Counter[int] = Counter()
    if not model.model_type.startswith(_ALL_PROJECTIONS):
        return found
    shared = Counter(c.of for layer in model.layers for c in layer.caches if isinstance(c, SharedCache))
    found.update(shared)
    own: dict[int, list[str]] = {}
    for t in model.tensors:
        if t.role is Role.KEY_VALUE and t.component is Component.TEXT and t.layer is not None and t.name.endswith("proj.weight"):
            own.setdefault(t.layer, []).append(t.name)
    for layer, names in own.items():
        if not any("v_proj" in name for name in names):
            found[layer] += 1 + found[layer]
    return found
