"""The candidate and the number of replicas of least cost that keep the levels: bounds first, then replays, cheapest first.

A candidate that holds the lead sets a price; of every other one only the most replicas that would still be cheaper are
replayed, and it is out when they do not suffice. More replicas are taken never to serve worse; of the answer itself one replica
less is replayed, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from vram.planner.size.bounds import Floor, broken_floor, least_replicas
from vram.planner.size.candidate import Candidate
from vram.planner.size.levels import Levels, Verdict
from vram.planner.size.load import Load

MOST_REPLICAS: Final = 1024
_BUSY: Final = 0.6
"""The share of the time that replicas are expected to work, for the first number that is replayed; it decides no answer."""


class Replay(Protocol):
    """Replays the load on so many replicas of a candidate."""

    def full(self, candidate: Candidate, replicas: int) -> Verdict:
        """The whole load."""
        ...

    def part(self, candidate: Candidate, replicas: int) -> Verdict:
        """Its busiest stretch alone: what breaks the levels there breaks them on the whole."""
        ...


class Why(StrEnum):
    """Why a candidate is not the answer."""

    CHOSEN = "chosen"
    FLOOR = "floor"
    """No number of replicas keeps the levels."""
    COSTLY = "costly"
    """As few as could ever suffice cost as much as the answer or more."""
    SHORT = "short"
    """As many as would be cheaper than the answer break the levels."""
    BEATEN = "beaten"
    """It keeps the levels, and another does so for less."""
    MANY = "many"
    """Not even the most replicas that are tried keep the levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of a candidate.

    Attributes:
        candidate: the candidate.
        why: why it is not the answer, or that it is.
        replicas: of it: so many keep the levels (chosen, beaten), or are too few (short, many), or are the least that could ever
            suffice (costly); 0 for a floor.
        floor: the level that it can never keep.
        verdict: of the replay behind `replicas`, where there was one.
    """

    candidate: Candidate
    why: Why
    replicas: int
    floor: Floor | None = None
    verdict: Verdict | None = None

    @property
    def nanodollars_per_hour(self) -> int:
        """Of so many replicas."""
        return self.candidate.nanodollars_per_hour * self.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The outcome of a search.

    Attributes:
        best: the answer; None when no candidate keeps the levels.
        tried: every candidate, the answer first, then by what it would cost at least.
        replays: full replays that it took.
    """

    best: Tried | None
    tried: tuple[Tried, ...]
    replays: int


def search(
    load: Load,
    levels: Levels,
    candidates: Sequence[Candidate],
    replay: Replay,
    *,
    most_replicas: int = MOST_REPLICAS,
    progress: Callable[[str, int, int], None] | None = None,
) -> Found:
    """Find the answer.

    Args:
        load: the requests of one model.
        levels: what is asked for.
        candidates: what could serve it; of equally dear ones the earlier is preferred.
        replay: replays them.
        most_replicas: the most that are tried.
        progress: called before each replay with the candidate's name, its replicas, and replays so far.
    """
    counted = _Counted(replay, load, levels, progress)
    seconds = min((level.seconds for level in levels.times), default=1.0)
    busiest = load.busiest(seconds, load.exempt(levels))
    tried: list[Tried] = []
    ahead: list[tuple[float, int, int, Candidate]] = []
    for place, c in enumerate(candidates):
        floor = broken_floor(load, levels, c.spec)
        if floor is not None:
            tried.append(Tried(candidate=c, why=Why.FLOOR, replicas=0, floor=floor))
            continue
        least = least_replicas(load, levels, c.spec, busiest)
        # In the order of what they probably cost, so that the lead is soon near the answer.
        ahead.append((c.nanodollars_per_hour * max(1, round(least / _BUSY)), place, least, c))
    best: Tried | None = None
    for _, _, least, c in sorted(ahead, key=lambda item: item[:2]):
        price = max(c.nanodollars_per_hour, 1)
        most = most_replicas if best is None else min((best.nanodollars_per_hour - 1) // price, most_replicas)
        if least > most:
            why = Why.MANY if best is None else Why.COSTLY
            tried.append(Tried(candidate=c, why=why, replicas=least))
            continue
        guess = min(max(least, round(least / _BUSY)), most)
        replicas, verdict = _least_that_keeps(c, least, guess, most, counted)
        if not verdict.met:
            tried.append(Tried(candidate=c, why=Why.SHORT if best else Why.MANY, replicas=replicas, verdict=verdict))
            continue
        if best is not None:
            tried.append(Tried(candidate=best.candidate, why=Why.BEATEN, replicas=best.replicas, verdict=best.verdict))
        best = Tried(candidate=c, why=Why.CHOSEN, replicas=replicas, verdict=verdict)
    rest = sorted(tried, key=lambda t: (t.why is Why.FLOOR, t.nanodollars_per_hour, t.candidate.nanodollars_per_hour))
    return Found(best=best, tried=(*((best,) if best else ()), *rest), replays=counted.replays)


def _least_that_keeps(c: Candidate, least: int, guess: int, most: int, replay: "_Counted") -> tuple[int, Verdict]:
    """The fewest replicas from `least` to `most` that keep the levels, or `most` with the verdict that they do not."""
    low, high, tried = least - 1, most + 1, guess  # low is too few or below every bound; high keeps the levels or is unknown
    verdict: Verdict | None = None
    while high - low > 1:
        now = replay.keeps(c, tried)
        if now.met:
            high, verdict = tried, now
        else:
            low = tried
            if verdict is None and tried == most:
                return most, now
        # Until a number is found that keeps them the gap doubles, so that few steps lead far; then it is halved.
        tried = min(low + max(1, low - least + 1), most) if verdict is None else (low + high) // 2
    assert verdict is not None  # noqa: S101  (the loop ends with a number that keeps the levels, or returns)
    return high, verdict


class _Counted:
    """Replays with the stretch first, and counts."""

    def __init__(self, replay: Replay, load: Load, levels: Levels, progress: Callable[[str, int, int], None] | None) -> None:
        self._replay, self._progress, self.replays = replay, progress, 0
        self._requests, self._levels = len(load.requests), levels

    def keeps(self, c: Candidate, replicas: int) -> Verdict:
        """The verdict on the whole load, or on its busiest stretch where that alone breaks the levels."""
        if self._progress is not None:
            self._progress(c.name, replicas, self.replays)
        part = self._replay.part(c, replicas)
        if part.refused > self._levels.refusals(self._requests) or any(r.late > r.level.allows(self._requests) for r in part.reached):
            return part
        self.replays += 1
        return self._replay.full(c, replicas)
