"""How many bytes of weights lie on each rank: what is split, and what every rank holds whole.

The rules are those that the common engines share (Megatron-style tensor parallelism, arXiv:1909.08053): linears and the
vocabulary are split, norms, routers, MLA's latents and towers are held whole, and KV heads are repeated when there are
more ranks than heads. Engines that differ say so in their own file.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from vram.memory.placement import Placement, Stage, layer_count, stages
from vram.model.cache import FullCache, LatentCache, SharedCache
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component, Role
from vram.model.tensor import Tensor


class Split(Enum):
    """How tensor parallelism divides a tensor."""

    WHOLE = "whole"
    EVEN = "even"
    DENSE = "dense"
    """Evenly, too; over all copies of attention where an engine does so (`Placement.dense_over_all`)."""
    KV_HEADS = "kv_heads"
    QKV = "qkv"
    EXPERT = "expert"


_EVEN = frozenset(
    {
        Role.EMBEDDING,
        Role.QUERY,
        Role.ATTENTION_OUT,
        Role.ATTENTION,
        Role.MIXER,
    }
)
_DENSE = frozenset({Role.LM_HEAD, Role.MLP, Role.SHARED_EXPERT})
_SPLIT_COMPONENTS = frozenset({Component.TEXT, Component.ENCODER, Component.DRAFT})


def split_of(tensor: Tensor, *, latent: bool) -> Split:
    """How a tensor is divided; in a `latent` (MLA) layer the up-projection of keys and values has one part per query head."""
    if tensor.component not in _SPLIT_COMPONENTS:
        return Split.WHOLE
    if tensor.role is Role.EXPERT:
        return Split.EXPERT
    if tensor.role is Role.KEY_VALUE:
        return Split.EVEN if latent else Split.KV_HEADS
    if tensor.role is Role.QKV:
        return Split.QKV
    return Split.EVEN if tensor.role in _EVEN else Split.DENSE if tensor.role in _DENSE else Split.WHOLE


def unlisted_bytes(model: Model) -> int:
    """What the publisher's checkpoints of a type hold and this config does not tell: an upper bound, 0 where nothing is known.

    Gemma 4 with per-layer embeddings (E2B, E4B): an audio tower of about 300 million parameters (its model card) where the config
    has none, and keys and values of the layers that share others' (E4B: 14.89 GiB on disk are 0.10 more than its tensors in use).
    """
    shared = sum(isinstance(c, SharedCache) for layer in model.layers for c in layer.caches)
    if not shared or not model.model_type.startswith("gemma4"):
        return 0
    keys = [t.nbytes for t in model.tensors if t.role is Role.KEY_VALUE and t.component is Component.TEXT]
    return unlisted_ear(model) + shared * 2 * max(keys, default=0)


def unlisted_ear(model: Model) -> int:
    """Gemma 4's audio tower where the config of a model with eyes and per-layer embeddings has none: its first configs left it out."""
    towers = {t.component for t in model.tensors}
    if not model.model_type.startswith("gemma4") or Component.VISION not in towers or Component.AUDIO in towers:
        return 0
    return _GEMMA4_EAR if any(t.name.endswith("embed_tokens_per_layer.weight") for t in model.tensors) else 0


_GEMMA4_EAR: Final = 304_825_280 * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """Bytes of one kind of split in one layer (or outside of the layers), with the KV heads that divide them."""

    bytes: int
    layer: int | None
    split: Split
    kv_heads: int
    end: str
    draft: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWeights:
    """Weights on one rank.

    Attributes:
        bytes: all that it holds.
        replicated_bytes: of which every rank of its stage holds a copy.
        draft_bytes: of which only speculative decoding uses (multi-token-prediction layers).
    """

    bytes: int
    replicated_bytes: int
    draft_bytes: int


@once_per_model
def _shares(model: Model, dense: bool) -> tuple[_Share, ...]:  # noqa: FBT001  (a key, not a switch)
    """The model's tensors summed by what matters for a split: a few hundred entries instead of thousands; `dense` ones apart where that matters."""
    latent: dict[int, bool] = {}
    heads: dict[int, int] = {}
    for layer in model.layers:
        latent[layer.index] = any(isinstance(c, LatentCache) for c in layer.caches)
        heads[layer.index] = max((c.kv_heads for c in layer.caches if isinstance(c, FullCache)), default=0)
    tied = not any(t.role is Role.LM_HEAD and t.component is Component.TEXT for t in model.tensors)
    sums: dict[tuple[int | None, Split, int, str, bool], int] = {}
    for t in model.tensors:
        # Layers past the decoder's own are the multi-token-prediction layers that some checkpoints append.
        draft = t.component is Component.DRAFT or (t.layer is not None and bool(model.layers) and t.layer >= len(model.layers))
        held_in = None if draft else t.layer
        split = split_of(t, latent=latent.get(t.layer, False) if t.layer is not None else False)
        if split is Split.DENSE and not dense:
            split = Split.EVEN
        kv_heads = heads.get(t.layer, 0) if t.layer is not None else 0
        if draft:
            end = "last"
        elif held_in is not None:
            end = ""
        elif t.role is Role.LM_HEAD or (t.role is Role.NORM and t.component is Component.TEXT):
            end = "last"
        elif t.role is Role.EMBEDDING and t.component is Component.TEXT and tied:
            end = "both"
        else:
            end = "first"
        key = (held_in, split, kv_heads or model.geometry.kv_heads, end, draft)
        sums[key] = sums.get(key, 0) + t.nbytes
    return tuple(_Share(bytes=b, layer=k[0], split=k[1], kv_heads=k[2], end=k[3], draft=k[4]) for k, b in sums.items())


def _held(share: _Share, model: Model, placement: Placement) -> int:
    tp, ranks = placement.tp, placement.ranks
    if ranks == 1 or share.split is Split.WHOLE:
        return share.bytes
    if share.split is Split.EVEN:
        return -(-share.bytes // tp)
    if share.split is Split.DENSE:
        return -(-share.bytes // (ranks if placement.dense_over_all else tp))
    if share.split is Split.EXPERT:
        experts = model.geometry.experts
        if placement.ep and experts:
            return share.bytes * -(-experts // ranks) // experts
        return -(-share.bytes // ranks)
    if tp == 1:
        return share.bytes
    kv = share.kv_heads or tp
    kv_here = -(-kv // tp)
    if share.split is Split.KV_HEADS:
        return -(-share.bytes * kv_here // kv)
    q = model.geometry.attention_heads or kv
    return -(-share.bytes * (-(-q // tp) + 2 * kv_here) // (q + 2 * kv))


def split_bytes(tensor: Tensor, model: Model, placement: Placement) -> int:
    """Bytes of one tensor on a rank that holds its layer: of a layer like the model's last, wherever the tensor stands."""
    caches = model.layers[-1].caches if model.layers else ()
    latent = any(isinstance(c, LatentCache) for c in caches)
    heads = max((c.kv_heads for c in caches if isinstance(c, FullCache)), default=0)
    split = split_of(tensor, latent=latent)
    return _held(_Share(bytes=tensor.nbytes, layer=None, split=split, kv_heads=heads or model.geometry.kv_heads, end="", draft=False), model, placement)


def _on(share: _Share, stage: Stage) -> bool:
    if share.layer is not None:
        return stage.first <= share.layer < stage.last
    return (share.end in {"first", "both"} and stage.is_first) or (share.end in {"last", "both"} and stage.is_last)


@once_per_model
def rank_weights(model: Model, placement: Placement) -> tuple[RankWeights, ...]:
    """Weights of one rank of every pipeline stage (the ranks of a stage hold equally much).

    Raises:
        PlacementError: more stages than layers.
    """
    out = []
    for stage in stages(layer_count(model), placement.pp):
        total = whole = draft = 0
        for share in _shares(model, placement.dense_over_all):
            if not _on(share, stage):
                continue
            held = _held(share, model, placement)
            total += held
            whole += held if share.split is Split.WHOLE else 0
            draft += held if share.draft else 0
        out.append(RankWeights(bytes=total, replicated_bytes=whole, draft_bytes=draft))
    return tuple(out)
