"""How the ranks of a placement share one engine step. It knows numbers of ranks, and nothing of models."""

from dataclasses import dataclass

from vram.memory.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How ranks share one step. Experts may be dealt wider than attention is split.

    Attributes:
        tp: ranks that split attention and dense layers.
        pp: pipeline stages.
        dp: copies of attention, each with its own sequences, that share the experts (`data-parallel attention`).
        ep: whether whole experts are dealt to the `tp * dp` ranks, instead of slices of each.
        sequential: stages take turns on every step and nothing overlaps (llama.cpp's layer split).
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: bool = False
    sequential: bool = False

    @classmethod
    def of(cls, placement: Placement, *, dp: int | None = None, sequential: bool = False) -> "Spread":
        """That of a plan's placement."""
        return cls(tp=placement.tp, pp=placement.pp, dp=placement.dp if dp is None else dp, ep=placement.ep, sequential=sequential)

    @property
    def expert_ranks(self) -> int:
        """Ranks that the experts of a layer lie on."""
        return self.tp * self.dp
