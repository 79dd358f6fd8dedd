"""Which model lies on which GPUs when several share one machine: several on one card, or one over several.

Bin packing with choices: each model comes with ways to lie (one GPU or several, each with bytes for each GPU that it takes), the
preferred first. Most models first, by priority; then the ways that were preferred; then what leaves the largest holes free. A machine has
few GPUs and few models, so the search is exact up to `MOST_STEPS`, and beyond that the best that was found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Final

MOST_STEPS: Final = 20_000
"""Placements looked at, at most: some tens of milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way for a model to lie: bytes of each GPU that it takes, in the order of its ranks; `gpus`, where named, are the only ones it may take."""

    rank_bytes: tuple[int, ...]
    gpus: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A model to be placed: its name, its ways to lie with the preferred first, and how important it is."""

    name: str
    ways: tuple[Way, ...]
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A GPU: bytes that are free, and the `group` whose members one model may span (one kind of card in one host)."""

    free_bytes: int
    group: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a model lies: the index of its way, and the GPU of each rank."""

    way: int
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Packing:
    """What lies where, by name; `left` did not fit beside the others, though each may fit alone."""

    placed: dict[str, Placed]
    left: tuple[str, ...]


def pack(parcels: Sequence[Parcel], slots: Sequence[Slot], *, most_steps: int = MOST_STEPS) -> Packing:
    """Place as many as fit.

    Raises:
        ValueError: two parcels have one name.
    """
    if len({p.name for p in parcels}) != len(parcels):
        raise ValueError("each model has a name of its own")
    # The important first, then the large: they have the fewest places.
    order = sorted(parcels, key=lambda p: (-p.priority, -min((sum(w.rank_bytes) for w in p.ways), default=0), p.name))
    search = _Search(order, slots, most_steps)
    search.go(0, [s.free_bytes for s in slots], {}, ())
    return Packing(search.best, tuple(p.name for p in parcels if p.name not in search.best))


class _Search:
    """Depth first over parcels and their ways, cut where the rest cannot do better."""

    def __init__(self, order: Sequence[Parcel], slots: Sequence[Slot], most_steps: int) -> None:
        self.order = order
        self.slots = slots
        self.steps_left = most_steps
        self.best: dict[str, Placed] = {}
        self.best_score: tuple[tuple[int, ...], int, int] | None = None

    def go(self, place: int, free: list[int], placed: dict[str, Placed], ways: tuple[int, ...]) -> None:
        """`ways`: for each parcel so far, the index of its way; -1: left out."""
        if place == len(self.order):
            score = self._score(ways, free)
            if self.best_score is None or score > self.best_score:
                self.best, self.best_score = dict(placed), score
            return
        if self.steps_left <= 0 and self.best_score is not None:
            return
        if self.best_score is not None and self._bound(ways) < self.best_score[:2]:
            return
        parcel = self.order[place]
        for index, way in enumerate(parcel.ways):
            for gpus in self._places(way, free):
                self.steps_left -= 1
                rest = list(free)
                for gpu, nbytes in zip(gpus, way.rank_bytes, strict=True):
                    rest[gpu] -= nbytes
                placed[parcel.name] = Placed(index, gpus)
                self.go(place + 1, rest, placed, (*ways, index))
                del placed[parcel.name]
        self.go(place + 1, free, placed, (*ways, -1))

    def _score(self, ways: tuple[int, ...], free: list[int]) -> tuple[tuple[int, ...], int, int]:
        by_priority: dict[int, int] = {}
        for parcel, way in zip(self.order, ways, strict=True):
            by_priority[parcel.priority] = by_priority.get(parcel.priority, 0) + (way >= 0)
        counts = tuple(by_priority[p] for p in sorted(by_priority, reverse=True))
        return counts, -sum(max(w, 0) for w in ways), sum((f >> 20) ** 2 for f in free)

    def _bound(self, ways: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """The best that can still come of it: all others placed, each as preferred."""
        whole = (*ways, *(0 for _ in range(len(self.order) - len(ways))))
        return self._score(whole, [])[:2]

    def _places(self, way: Way, free: list[int]) -> list[tuple[int, ...]]:
        """GPUs for its ranks, in each group the tightest that do: the largest rank on the GPU with the most room. Equal GPUs are one choice."""
        found: list[tuple[int, ...]] = []
        seen: set[tuple[int, ...]] = set()
        if len(way.rank_bytes) == 1:
            for gpu in sorted(range(len(free)), key=lambda g: (free[g], g)):
                if free[gpu] >= way.rank_bytes[0] and (way.gpus is None or gpu in way.gpus):
                    sign = (free[gpu], self.slots[gpu].group, self._asked(gpu))
                    if sign not in seen:
                        seen.add(sign)
                        found.append((gpu,))
            return found
        groups: dict[int, list[int]] = {}
        for gpu, slot in enumerate(self.slots):
            if way.gpus is None or gpu in way.gpus:
                groups.setdefault(slot.group, []).append(gpu)
        for members in groups.values():
            for chosen in _combinations(sorted(members, key=lambda g: (free[g], g)), len(way.rank_bytes), free, self._asked):
                ranks = sorted(range(len(way.rank_bytes)), key=lambda r: way.rank_bytes[r])
                gpus = [0] * len(ranks)
                # Smallest rank on the fullest GPU: if any order fits, this one does.
                for rank, gpu in zip(ranks, chosen, strict=True):
                    gpus[rank] = gpu
                if all(free[g] >= b for g, b in zip(gpus, way.rank_bytes, strict=True)):
                    found.append(tuple(gpus))
        return found

    def _asked(self, gpu: int) -> int:
        """Which parcels name this GPU: those that do tell equal GPUs apart."""
        return sum(1 << n for n, p in enumerate(self.order) if any(w.gpus is not None and gpu in w.gpus for w in p.ways))


def _combinations(members: list[int], size: int, free: list[int], asked: Callable[[int], int]) -> list[tuple[int, ...]]:
    """Sets of so many GPUs, those that differ only in which of equal GPUs they take once."""
    found: dict[tuple[tuple[int, int], ...], tuple[int, ...]] = {}
    for chosen in islice(combinations(members, size), MOST_STEPS):
        found.setdefault(tuple((free[g], asked(g)) for g in chosen), chosen)
    return list(found.values())
