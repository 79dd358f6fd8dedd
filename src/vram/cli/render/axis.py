"""One axis of a chart: which values it spans, where its marks stand, and how they read. It knows no pixels but the length it is given."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log10

from vram.cli.render.amounts import plain

NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
# Spans of time that people count in, in seconds.
TIMES = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10800.0, 21600.0, 43200.0, 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """How values lie along one side.

    Attributes:
        label: what is counted, with its unit, beside the axis.
        show: a value as its mark reads.
        low: the least value; the least drawn, or 0 if that is less, when None.
        high: the most; a round value above all that is drawn when None.
        ticks: where marks stand; round values when empty.
        log: whether equal factors lie equally far apart.
        time: whether values are seconds, marked at whole minutes and hours.
    """

    label: str = ""
    show: Callable[[float], str] = plain
    low: float | None = None
    high: float | None = None
    ticks: tuple[float, ...] = ()
    log: bool = False
    time: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis fitted to data: from value to share of its length (0 to 1)."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool

    def at(self, value: float) -> float:
        """Where `value` lies, 0 at `low` and 1 at `high`; what lies beyond is drawn at the edge."""
        inside = min(max(value, self.low), self.high)
        if self.log:
            return (log10(inside) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (inside - self.low) / (self.high - self.low)


def _step(span: float, wanted: int, *, time: bool) -> float:
    raw = span / max(wanted, 1)
    if time and raw > 0.5:
        return next((t for t in TIMES if t >= raw), 86400.0 * ceil(raw / 86400))
    power = 10.0 ** floor(log10(raw))
    return power * next(n for n in NICE if n * power >= raw * 0.9999)


def fit(axis: Axis, values: Iterable[float], *, wanted: int = 5) -> Scale:
    """The scale of `axis` for data, with about `wanted` marks (fewer where their words would touch is the caller's to ask)."""
    finite = [v for v in values if isfinite(v) and (v > 0 or not axis.log)]
    least, most = min(finite, default=0.0), max(finite, default=1.0)
    if axis.log:
        low = 10.0 ** floor(log10(least)) if axis.low is None and least > 0 else axis.low or 1.0
        high = 10.0 ** ceil(log10(max(most, low * 1.0001))) if axis.high is None else axis.high
        decades = range(round(log10(low)), round(log10(high)) + 1)
        every = max(1, ceil(len(decades) / (wanted * 1.5)))
        return Scale(low=low, high=max(high, low * 10), ticks=axis.ticks or tuple(10.0**d for d in decades if d % every == 0), log=True)
    low = min(least, 0.0) if axis.low is None else axis.low
    high = axis.high if axis.high is not None else most
    if high <= low:
        high = low + 1.0
    step = _step(high - low, wanted, time=axis.time)
    if axis.high is None and not axis.time:
        high = step * ceil(high / step - 1e-9)
    if axis.low is None and low < 0:
        low = step * floor(low / step + 1e-9)
    first = ceil(low / step - 1e-9)
    ticks = axis.ticks or tuple(k * step for k in range(first, first + 200) if k * step <= high + step * 1e-6)
    return Scale(low=low, high=high, ticks=ticks, log=False)


def thin(points: list[tuple[float, float]], most: int = 800) -> list[tuple[float, float]]:
    """At most about `most` of the points (ordered by x): of each run its first, lowest, highest and last, so that no peak is lost."""
    if len(points) <= most:
        return points
    runs = max(most // 4, 1)
    edges = [len(points) * k // runs for k in range(runs + 1)]
    out: list[tuple[float, float]] = []
    for a, b in pairwise(edges):
        run = range(a, b)
        kept = {a, b - 1, min(run, key=lambda k: points[k][1]), max(run, key=lambda k: points[k][1])}
        out += [points[k] for k in sorted(kept)]
    return out
