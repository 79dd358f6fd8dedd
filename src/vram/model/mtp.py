"""A checkpoint's own multi-token-prediction layers: how many, what they hold and what they cache.

Headers list their tensors; a config states only their number, and then they are drawn: one more layer like the last, two
norms and a projection that joins the last state with the next token's embedding (DeepSeek-V3, arXiv:2412.19437, figure 3).
The embedding and the head are the model's own, where a checkpoint does not store them again.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from vram.model.cache import Cache, FullCache, LatentCache, SharedCache, StateCache
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component, Role
from vram.model.tensor import Tensor

_NUMBER: Final = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block|blk)\.(\d{1,4})\.")
MOST_LAYERS: Final = 64
_LIKE_THE_FIRST: Final = frozenset({"ernie4_5_moe", "exaone_moe"})
"""Types whose draft layer is a dense one, like their first layer (vLLM's ernie_mtp.py, exaone_moe_mtp.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mtp:
    """Layers that draft the tokens after the next.

    Attributes:
        layers: how many.
        caches: what each keeps, layer by layer; empty where the model's caches are not known.
        tensors: their tensors, each with the number of its draft layer (0 on), None outside of them.
        drawn: whether the tensors are drawn, not listed by a header.
    """

    layers: int
    caches: tuple[tuple[Cache, ...], ...]
    tensors: tuple[Tensor, ...]
    drawn: bool

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(t.nbytes for t in self.tensors)

    @property
    def own_bytes(self) -> int:
        """The same without copies of the embedding and the head, which engines share with the model."""
        return sum(t.nbytes for t in self.tensors if t.role not in {Role.EMBEDDING, Role.LM_HEAD})


@once_per_model
def mtp_of(model: Model) -> Mtp | None:
    """The multi-token-prediction layers of a model, None when it has none."""
    trunk = len(model.layers)
    listed: list[Tensor] = []
    for t in model.tensors:
        past = t.layer is not None and bool(trunk) and t.layer >= trunk
        if t.component is not Component.DRAFT and not past:
            continue
        found = _NUMBER.search(t.path)
        number = int(found[1]) if found else None
        # `model.layers.61.` is the first layer past the model's own, `mtp.layers.0.` is the first, too.
        listed.append(replace(t, layer=number - trunk if number is not None and number >= trunk else number, component=Component.DRAFT))
    if listed:
        layers = 1 + max((t.layer for t in listed if t.layer is not None), default=0)
        if layers > MOST_LAYERS:
            return None
        return Mtp(layers=layers, caches=(_kept(model),) * layers if model.layers else (), tensors=tuple(listed), drawn=False)
    layers = model.geometry.draft_layers
    if not layers or not model.layers or not model.geometry.hidden_size:
        return None
    return Mtp(layers=layers, caches=(_kept(model),) * layers, tensors=tuple(_drawn(model, layers)), drawn=True)


def _kept(model: Model) -> tuple[Cache, ...]:
    """What a draft layer caches: the same as the last layer that attends with a cache of its own."""
    for layer in model.layers[:1] if model.model_type in _LIKE_THE_FIRST else reversed(model.layers):
        caches = tuple(c for c in layer.caches if isinstance(c, (FullCache, LatentCache)) and not isinstance(c, (StateCache, SharedCache)))
        if caches:
            # LongCat's layers are two in one; its draft layer is a single, dense one (vLLM's longcat_flash_mtp.py).
            return caches[:1] if model.model_type == "longcat_flash" else caches
    return ()


def _drawn(model: Model, layers: int) -> list[Tensor]:
    last = max((layer.index for layer in model.layers if any(isinstance(c, (FullCache, LatentCache)) for c in layer.caches)), default=len(model.layers) - 1)
    hidden, dtype = model.geometry.hidden_size, model.dtype
    last = 0 if model.model_type in _LIKE_THE_FIRST else last
    like = [t for t in model.tensors if t.layer == last and t.component is Component.TEXT]
    if model.model_type == "longcat_flash":
        like = [t for t in like if ".1." not in t.name and t.role not in {Role.EXPERT, Role.ROUTER, Role.BUFFER}]
    out = []
    for i in range(layers):
        out += [replace(t, layer=i, component=Component.DRAFT) for t in like]
        out.append(Tensor(name="mtp.#.eh_proj.weight", shape=(hidden, 2 * hidden), format=dtype, role=Role.OTHER, component=Component.DRAFT, layer=i))
        out += [
            Tensor(name=f"mtp.#.{n}.weight", shape=(hidden,), format=dtype, role=Role.NORM, component=Component.DRAFT, layer=i)
            for n in ("enorm", "hnorm", "norm")
        ]
    return out
