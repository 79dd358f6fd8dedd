"""Which rank holds what: tensor, pipeline, expert and data parallelism over a fleet."""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

from vram.errors import PlacementError
from vram.model.memo import once_per_model
from vram.model.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A model spread over `tp * dp * pp` GPUs: each of `pp` stages holds a run of layers, split over `tp` ranks.

    With `dp`, attention and its caches are there `dp` times, each copy with its own sequences, and the experts are spread over all
    of a stage's ranks. With `ep`, whole experts are dealt to them instead of slices of every expert. `dense_over_all`: MLPs and the
    head are split over all ranks of a stage, too, not only over those of one copy (SGLang).
    """

    tp: int = 1
    pp: int = 1
    ep: bool = False
    dp: int = 1
    dense_over_all: bool = False

    @property
    def gpus(self) -> int:
        """Number of GPUs that it takes."""
        return self.tp * self.dp * self.pp

    @property
    def ranks(self) -> int:
        """Ranks of one stage: all that its experts are spread over."""
        return self.tp * self.dp

    @property
    def label(self) -> str:
        """As people write it: TP2, TP4 PP2, TP8 EP."""
        words = [f"TP{self.tp}"] if self.tp > 1 else []
        words += [f"DP{self.dp}"] if self.dp > 1 else []
        words += [f"PP{self.pp}"] if self.pp > 1 else []
        words += ["EP"] if self.ep else []
        return " ".join(words) or "one GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage: layers `first` (included) to `last` (excluded), and whether it holds the model's two ends."""

    first: int
    last: int
    is_first: bool
    is_last: bool


@lru_cache(maxsize=256)
def stages(layers: int, pp: int) -> tuple[Stage, ...]:
    """Layers dealt to `pp` stages as evenly as possible; the middle stages take the odd ones.

    vLLM deals so (`get_pp_indices`): the first and the last stage also hold embedding and head.

    Raises:
        PlacementError: more stages than layers.
    """
    if pp > max(layers, 1):
        raise PlacementError(f"{layers} layers cannot be split into {pp} pipeline stages", hint=f"use --pp {max(layers, 1)} or less")
    sizes = [layers // pp] * pp
    for k in range(layers % pp):
        sizes[-(k + 2) if pp > 1 else 0] += 1
    out, start = [], 0
    for i, size in enumerate(sizes):
        out.append(Stage(first=start, last=start + size, is_first=i == 0, is_last=i == pp - 1))
        start += size
    return tuple(out)


def layer_count(model: Model) -> int:
    """Decoder layers, from the layers themselves or, where caches are unknown, from the tensors."""
    return len(model.layers) or layers_by_tensors(model)


@once_per_model
def layers_by_tensors(model: Model) -> int:
    """Layers that tensors name."""
    return 1 + max((t.layer for t in model.tensors if t.layer is not None), default=-1)


@lru_cache(maxsize=256)
def _one(tp: int, pp: int, ep: bool, dp: int = 1, dense_over_all: bool = False) -> Placement:  # noqa: FBT001, FBT002  (a key, not a switch)
    """One object a placement: results are looked up by it dozens of times a plan, and the same object needs no comparing."""
    return Placement(tp=tp, pp=pp, ep=ep, dp=dp, dense_over_all=dense_over_all)


def choose(model: Model, gpus: int, *, tp: int | None = None, pp: int | None = None, ep: bool = False, dp: int = 1, dense_over_all: bool = False) -> Placement:
    """The placement that the user asked for or, by default, tensor parallel over all GPUs.

    TP must divide the query heads; what it cannot use is left to pipeline stages. With `dp` copies of attention, `gpus` are dealt
    to them first.

    Raises:
        PlacementError: the model cannot be split so, or more GPUs are asked for than there are.
    """
    heads, given = model.geometry.attention_heads, gpus
    if dp > 1:
        if gpus < dp:
            raise PlacementError(f"--dp {dp} needs {dp} GPUs, {gpus} given", hint=f'name them: --gpu "{dp}x …"')
        gpus //= dp
    if tp is not None and heads and heads % tp:
        usable = ", ".join(str(n) for n in range(1, min(heads, 64) + 1) if heads % n == 0)
        raise PlacementError(f"{heads} attention heads cannot be split over --tp {tp}", hint=f"use one of {usable}")
    if tp is None and pp is None:
        tp = gcd(gpus, heads) if heads else 1
        pp = gpus // tp
        pp = max(n for n in range(1, min(pp, max(layer_count(model), 1)) + 1) if pp % n == 0)
    elif tp is None:
        tp = max(1, gpus // (pp or 1))
        tp = gcd(tp, heads) if heads else 1
    elif pp is None:
        pp = 1
    placement = _one(tp, pp or 1, ep) if dp == 1 else _one(tp, pp or 1, ep, dp, dense_over_all)
    if placement.gpus > given:
        raise PlacementError(
            f"TP {placement.tp}{f' x DP {dp}' if dp > 1 else ''} x PP {placement.pp} needs {placement.gpus} GPUs, {given} given",
            hint=f'name them: --gpu "{placement.gpus}x …"',
        )
    stages(layer_count(model), placement.pp)
    return placement
