"""Where requests that begin alike meet: each key ranks a pool's replicas by a hash of both, and goes to the first that is not loaded far above the others.

Rendezvous hashing (Thaler and Ravishankar, 1998, https://doi.org/10.1109/90.663936): who leaves takes only its own keys along, and gets
back exactly those when it returns. With bounded load (Mirrokni, Thorup and Zadimoghaddam, 2016, https://arxiv.org/abs/1608.01350): a
replica that holds more than `LOAD_BOUND` times its share takes no more by key, so that a prefix that everybody has spreads over as many
replicas as it needs. It knows no prompts: a key is a number.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vram.admission.books import Books

LOAD_BOUND: Final = 1.25
"""Most that a replica may hold of its fair share, for those who come by key (SGLang's router has the same for its `prefix_hash`)."""
CALM_SEQUENCES: Final = 4
"""So few sequences are no load: nobody is sent away from its prefix for them."""
_WORD: Final = 2**64 - 1


def seed_of(name: str) -> int:
    """The number that stands for a replica: the same in every process, whatever its place in a file."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def rank(key: int, seed: int) -> int:
    """How much a key likes a replica: the finalizer of SplitMix64 (https://prng.di.unimi.it/splitmix64.c) over both."""
    z = (key * 0x9E3779B97F4A7C15 + seed) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)


def overload(books: "Sequence[Books]", more_bytes: int, now: float) -> float:
    """The share of its cache past which a replica takes no more by key: `LOAD_BOUND` times that of all usable ones with `more_bytes`."""
    held = capacity = 0
    for one in books:
        if one.usable:
            held += one.promised_bytes + one.foreign_bytes(now) - one.saved_bytes(now)
            capacity += one.capacity_bytes
    return LOAD_BOUND * (held + more_bytes) / capacity if capacity > 0 else 0.0


def bearable(books: "Books", sequences: int, bound: float, now: float) -> bool:
    """Whether a replica may take so many sequences more by key."""
    if books.sequences + sequences <= CALM_SEQUENCES:
        return True
    return books.promised_bytes + books.foreign_bytes(now) - books.saved_bytes(now) <= bound * books.capacity_bytes
