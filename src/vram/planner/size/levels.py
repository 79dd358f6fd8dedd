"""What service is asked for, and how far a replay was from it. It counts requests; it does not know why one was late."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, floor, isfinite

from vram.errors import UsageError


class Metric(StrEnum):
    """What is timed."""

    TTFT = "ttft"
    """From a request's arrival to its first token."""
    TPOT = "tpot"
    """Per token after the first, on average over the answer; answers of one token have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """At least `share` of the requests take at most `seconds`.

    Raises:
        UsageError: a share or a time that makes no sense.
    """

    metric: Metric
    share: float
    seconds: float

    def __post_init__(self) -> None:
        """Refuse what nothing could be held against."""
        if self.metric not in set(Metric):
            raise UsageError(f"no metric {self.metric!r}", hint=f"known: {', '.join(Metric)}")
        object.__setattr__(self, "metric", Metric(self.metric))  # a plain word will do
        if not 0 < self.share <= 1:
            raise UsageError(f"a service level for {self.share:g} of the requests", hint="a share above 0 and up to 1 is possible: 0.99 for p99")
        if not isfinite(self.seconds) or self.seconds <= 0:
            raise UsageError(f"{self.name} of {self.seconds:g} s", hint="give seconds above 0: 2, 0.5, 200ms")

    @property
    def name(self) -> str:
        """As people write it: `p99 TTFT`."""
        return f"p{self.share * 100:g} {self.metric.upper()}"

    def allows(self, requests: int) -> int:
        """How many of so many requests may take longer."""
        return floor(requests * (1 - self.share) + 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """All that is asked for.

    Attributes:
        times: levels of times.
        refused_share: share of the requests that may be refused or cut short, 0 to 1.

    Raises:
        UsageError: nothing is asked for, or a share that makes no sense.
    """

    times: tuple[Level, ...]
    refused_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a level that any pool would meet."""
        if not self.times:
            raise UsageError("no service level: any pool would do", hint="ask for one: --ttft-p99 2s, --tpot-p99 100ms")
        if not 0 <= self.refused_share < 1:
            raise UsageError(f"--max-refusals {self.refused_share:g}", hint="a share from 0 up to, not including, 1 is possible: 0.01 for 1 %")

    def refusals(self, requests: int) -> int:
        """How many of so many requests may be refused or cut short."""
        return floor(requests * self.refused_share + 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """One level beside what a replay gave.

    Attributes:
        level: what was asked for.
        seconds: the time that `level.share` of the requests took at most; None when no request has one.
        late: requests that took longer than the level.
        allowed: how many may.
    """

    level: Level
    seconds: float | None
    late: int
    allowed: int

    @property
    def met(self) -> bool:
        """Whether the level holds."""
        return self.late <= self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A replay held against all levels.

    Attributes:
        reached: level by level.
        refused: requests refused or cut short.
        refusals_allowed: how many may be.
        requests: all of them.
    """

    reached: tuple[Reached, ...]
    refused: int
    refusals_allowed: int
    requests: int

    @property
    def met(self) -> bool:
        """Whether everything that was asked for holds."""
        return self.refused <= self.refusals_allowed and all(r.met for r in self.reached)

    @property
    def worst(self) -> str:
        """In words: what misses its level by the greatest factor, or comes nearest to missing it."""
        if self.refused > self.refusals_allowed:
            return f"{self.refused:,} of {self.requests:,} requests refused or cut short"
        known = [r for r in self.reached if r.seconds is not None]
        if not known:
            return "no request has a time"
        worst = max(known, key=lambda r: (not r.met, (r.seconds or 0.0) / r.level.seconds))
        return f"{worst.level.name} {worst.seconds:.3g} s of {worst.level.seconds:g} s"


def at_share(values: Sequence[float], share: float) -> float | None:
    """The least value that at least `share` of `values` do not exceed (nearest rank); None without values."""
    if not values:
        return None
    return sorted(values)[max(ceil(len(values) * share - 1e-9) - 1, 0)]


def judge(levels: Levels, times: dict[Metric, Sequence[float]], *, refused: int, requests: int) -> Verdict:
    """Hold the times of a replay against the levels.

    Args:
        levels: what is asked for.
        times: seconds of every request that has them, by metric, in any order.
        refused: requests refused or cut short.
        requests: all of them.
    """
    reached = []
    for level in levels.times:
        values = times[level.metric]
        late = sum(v > level.seconds for v in values)
        reached.append(Reached(level=level, seconds=at_share(values, level.share), late=late, allowed=level.allows(len(values))))
    return Verdict(reached=tuple(reached), refused=refused, refusals_allowed=levels.refusals(requests), requests=requests)
