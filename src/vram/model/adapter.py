"""A LoRA adapter: its rank and, where its file was read, its pairs of tensors. Knows no engine's buffers."""

from dataclasses import dataclass, field
from functools import lru_cache

from vram.errors import UsageError
from vram.model.tensor import Tensor

MOST_RANK = 4096


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Adapter:
    """An adapter of low rank (LoRA). Two are equal only if they are one object, so that what they take can be cached.

    Attributes:
        name: the file or folder, or `rank 16` for one that is only supposed.
        rank: the greatest rank of its pairs.
        architecture: what the file says that it adapts, empty where it does not say.
        tensors: its tensors under their own names (`blk.#.attn_q.weight.lora_a`); empty for one that is only supposed.
    """

    name: str
    rank: int
    architecture: str = ""
    tensors: tuple[Tensor, ...] = field(default=())

    def __repr__(self) -> str:
        """One line."""
        return f"<Adapter {self.name}: rank {self.rank}, {len(self.tensors)} tensors>"

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors; 0 for one that is only supposed."""
        return sum(t.nbytes for t in self.tensors)


@lru_cache(maxsize=256)
def supposed(rank: int) -> Adapter:
    """An adapter of which only the rank is known: the same object for the same rank.

    Raises:
        UsageError: no such rank.
    """
    if not 1 <= rank <= MOST_RANK:
        raise UsageError(f"an adapter of rank {rank}", hint=f"ranks go from 1 to {MOST_RANK}: --lora 16")
    return Adapter(name=f"rank {rank}", rank=rank)
