"""Replays of a load on replicas of a candidate, held against the levels; what was replayed once is not replayed again."""

from collections import OrderedDict
from itertools import accumulate
from typing import Final

from vram.planner.simulate.outcome import Outcome, Served
from vram.planner.simulate.request import End
from vram.planner.simulate.run import simulate
from vram.planner.simulate.spec import PoolSpec
from vram.planner.size.candidate import Candidate
from vram.planner.size.levels import Levels, Metric, Verdict, judge
from vram.planner.size.load import Load, Window

KEPT: Final = 4
"""Whole outcomes that are remembered: the answer's and its neighbours' are asked for again when the answer is told."""
PART: Final = 16
"""The stretch that is replayed first is one in so many of the requests."""


class Replayer:
    """The replays of one load."""

    def __init__(self, load: Load, levels: Levels) -> None:
        """Nothing is replayed yet."""
        self._load, self._levels = load, levels
        # A stretch can only tell when more of its requests can be late than may be on the whole.
        n = len(load.requests)
        most = max((level.allows(n) for level in levels.times), default=0)
        self._size = max(n // PART, 4 * most, 50)
        self._part = load.part(load.densest(self._size)) if self._size < n // 2 else None
        self._verdicts: dict[tuple[int, int], tuple[Candidate, Verdict]] = {}
        self._outcomes: OrderedDict[tuple[int, int], Outcome] = OrderedDict()

    def full(self, candidate: Candidate, replicas: int) -> Verdict:
        """The whole load."""
        key = (id(candidate), replicas)
        if key not in self._verdicts:
            outcome = self.outcome(candidate, replicas)
            verdict = verdict_of(outcome, self._levels)
            self._verdicts[key] = candidate, verdict
            if not verdict.met and self._part is not None:
                # The stretch did not show it: from now on the one that did is looked at first.
                self._part = self._load.part(self._worst(outcome))
        return self._verdicts[key][1]

    def part(self, candidate: Candidate, replicas: int) -> Verdict:
        """A stretch of it that presses hard; the whole where that is not much longer."""
        if self._part is None or (id(candidate), replicas) in self._verdicts:
            return self.full(candidate, replicas)
        return verdict_of(simulate(self._part.requests, [pool_of(candidate, replicas)]), self._levels)

    def _worst(self, outcome: Outcome) -> Window:
        """The stretch in which most requests were late, with what came shortly before it."""
        sums = [0, *accumulate(late(s, self._levels) for s in outcome.served)]
        n, size = len(outcome.served), self._size * 3 // 4
        first = max(range(n - size + 1), key=lambda i: sums[i + size] - sums[i])
        return Window(first=max(first - self._size // 4, 0), last=first + size, seconds=0.0)

    def outcome(self, candidate: Candidate, replicas: int) -> Outcome:
        """All that a replay of the whole load gives."""
        key = (id(candidate), replicas)
        if key not in self._outcomes:
            self._outcomes[key] = simulate(self._load.requests, [pool_of(candidate, replicas)])
            while len(self._outcomes) > KEPT:
                self._outcomes.popitem(last=False)
        return self._outcomes[key]


def pool_of(candidate: Candidate, replicas: int) -> PoolSpec:
    """So many replicas of a candidate, for whatever model the requests name."""
    return PoolSpec(name=candidate.name, replica=candidate.spec, replicas=replicas)


def late(served: Served, levels: Levels) -> bool:
    """Whether a request was refused, cut short, or took longer than any level."""
    if served.end is not End.FINISHED:
        return True
    for level in levels.times:
        seconds = served.ttft_seconds if level.metric is Metric.TTFT else served.tpot_seconds
        if seconds is not None and seconds > level.seconds:
            return True
    return False


def verdict_of(outcome: Outcome, levels: Levels) -> Verdict:
    """A replay held against the levels; an answer that was cut short counts as refused."""
    served = outcome.served
    return judge(
        levels,
        {
            Metric.TTFT: [s.ttft_seconds for s in served if s.ttft_seconds is not None],
            Metric.TPOT: [s.tpot_seconds for s in served if s.tpot_seconds is not None],
        },
        refused=sum(s.end is not End.FINISHED for s in served),
        requests=len(served),
    )
