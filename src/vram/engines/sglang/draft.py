"""Speculative decoding in SGLang: the draft worker's weights, its pool of as many tokens as the target's, its graphs.

Sources (github.com/sgl-project/sglang, Apache-2.0): server_args.py (`reserved_mem` for `speculative_algorithm`: 6 GiB for a model of its own,
2 GiB else, until #23862), pool_configurator.py (from #23862 on a token's bytes grow by the drafter's share of the layers),
kv_cache_configurator.py (from #28855 on the drafter's weights count in the static share), eagle_worker (`set_embed_and_head`: an
EAGLE head and multi-token-prediction layers take the target's embedding, and its head unless they have a smaller one; their own copies
are there until the pool is sized, #36452). Releases are those of the pull requests' dates and may be one off.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from vram.engines.base import Demand
from vram.engines.draft import Draft, is_head, mtp_layers
from vram.memory.placement import Placement
from vram.memory.weights import split_bytes
from vram.model.cache import CacheFormats, FullCache, LatentCache
from vram.model.model import Model
from vram.model.role import Role
from vram.units import GIB

BUDGETED_SINCE: Final = (0, 5, 12)
"""#23862, May 2026: the drafter's pool is part of the static share."""
WEIGHED_SINCE: Final = (0, 5, 14)
"""#28855, June 2026: so are its weights."""
OWN_MODEL_MIB: Final = 6144
HEAD_MIB: Final = 2048
# "Capture draft cuda graph end. mem usage": 0.21 GB (FA3, #10088); decode and prefill graphs of an EAGLE-3 head 0.47 GB (B300, #30891);
# one of DeepSeek-V4 on a B200 needed 4.5 GB (#30944), which lies above.
GRAPHS: Final = (int(0.35 * GIB), 0, int(1.5 * GIB))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafter:
    """What the draft worker takes on one rank.

    Attributes:
        name: in words.
        weight_bytes: weights that stay.
        copy_bytes: of the embedding and the head, until the pools are sized.
        cell_bytes: of one token in its pool.
        layers: of its pool.
        reserved_mib: what a default share sets apart for it.
        budgeted: whether its pool is part of the static share.
        weighed: whether its weights are.
    """

    name: str
    weight_bytes: int
    copy_bytes: int
    cell_bytes: int
    layers: int
    reserved_mib: int
    budgeted: bool
    weighed: bool


def drafter_of(demand: Demand) -> Drafter | None:
    """The draft worker of a demand; None where nothing drafts.

    Raises:
        UsageError: the model has no multi-token-prediction layers.
    """
    draft = demand.settings.draft
    return None if draft is None else _drafter(demand.model, draft, demand.placement, demand.workload.formats, demand.settings.version)


@lru_cache(maxsize=64)
def _drafter(model: Model, draft: Draft, placement: Placement, formats: CacheFormats, version: str) -> Drafter:
    alone, ends = replace(placement, pp=1), (Role.EMBEDDING, Role.LM_HEAD)
    if draft.model is None:
        found = mtp_layers(model)
        tensors, caches, source, shares = found.tensors, [c for layer in found.caches for c in layer], model, True
    else:
        source, shares = draft.model, is_head(draft.model)
        tensors, caches = source.tensors, [c for layer in source.layers for c in layer.caches]
    held, copies = sum(split_bytes(t, source, alone) for t in tensors if not shares or t.role not in ends), 0
    for role in ends if shares else ():
        own = [t for t in tensors if t.role is role]
        size = sum(split_bytes(t, source, alone) for t in own)
        if draft.model is not None and role is Role.LM_HEAD and any(t.shape[:1] != (model.geometry.vocab_size,) for t in own):
            held += size  # EAGLE-3's smaller head is its own.
        else:
            # Layers without their own ends get some, too, before they take the target's.
            copies += size or sum(split_bytes(t, model, alone) for t in model.tensors if t.role is role and t.layer is None)
    kept = [c.split(placement.tp) for c in caches if isinstance(c, (FullCache, LatentCache))]
    number = _number(version)
    return Drafter(
        name="the multi-token-prediction layers" if draft.model is None else draft.name,
        weight_bytes=held,
        copy_bytes=copies,
        cell_bytes=sum(c.row_bytes(formats) for c in kept),
        layers=len(kept),
        reserved_mib=0 if number >= BUDGETED_SINCE else HEAD_MIB if shares else OWN_MODEL_MIB,
        budgeted=number >= BUDGETED_SINCE,
        weighed=number >= WEIGHED_SINCE,
    )


def _number(version: str) -> tuple[int, int, int]:
    """The version as three numbers; the newest that is known where it names none."""
    found = re.match(r"\s*v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?", version)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else WEIGHED_SINCE
