"""How far a corpus of rows and its plans are apart, per engine and quantity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor

from vram.accuracy.comparison import Comparison, Quantity
from vram.accuracy.speed_check import SpeedComparison, SpeedQuantity

SPLIT = (Quantity.KV_POOL, Quantity.OTHER)
"""Quantities whose rows with every setting printed are counted apart: elsewhere a default had to be guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table.

    Attributes:
        engine: the engine.
        quantity: what is compared.
        settings: `printed`, `guessed`, or empty where the quantity does not hang on them.
        unit: of the errors: `ratio` of the measured figure, or `GiB`.
        n: rows.
        median: of the errors.
        p90: 90 of 100 errors are at most this.
        p95: 95 of 100.
        worst: the largest error, and in which row.
        worst_id: that row.
        inside: share of rows whose measured figure lies inside the stated band.
        width: median width of the band as a share of the plan's total.
    """

    engine: str
    quantity: Quantity | SpeedQuantity
    settings: str
    unit: str
    n: int
    median: float
    p90: float
    p95: float
    worst: float
    worst_id: str
    inside: float
    width: float


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of sorted `values` lie, linear between neighbours; 0 for none."""
    if not values:
        return 0.0
    place = (len(values) - 1) * share
    below = floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


def line_of(engine: str, quantity: Quantity | SpeedQuantity, settings: str, found: Sequence[Comparison | SpeedComparison]) -> Line:
    """The line of some comparisons of one quantity (at least one)."""
    errors = sorted(c.error for c in found)
    widest = max(found, key=lambda c: c.error)
    return Line(
        engine=engine,
        quantity=quantity,
        settings=settings,
        unit="GiB" if quantity is Quantity.OTHER else "ratio",
        n=len(found),
        median=percentile(errors, 0.5),
        p90=percentile(errors, 0.9),
        p95=percentile(errors, 0.95),
        worst=errors[-1],
        worst_id=widest.id,
        inside=sum(c.inside for c in found) / len(found),
        width=percentile(sorted(c.width for c in found), 0.5),
    )


def table(comparisons: Iterable[Comparison]) -> tuple[Line, ...]:
    """The lines of a table: engines in the order of their rows' number, quantities in their own order."""
    found = list(comparisons)
    sizes: dict[str, int] = {}
    for c in found:
        sizes[c.engine] = sizes.get(c.engine, 0) + 1
    lines = []
    for engine in sorted(sizes, key=lambda e: (-sizes[e], e)):
        for quantity in Quantity:
            mine = [c for c in found if c.engine == engine and c.quantity is quantity]
            if quantity not in SPLIT:
                if mine:
                    lines.append(line_of(engine, quantity, "", mine))
                continue
            for printed, name in ((True, "printed"), (False, "guessed")):
                some = [c for c in mine if c.settings_printed is printed]
                if some:
                    lines.append(line_of(engine, quantity, name, some))
    return tuple(lines)


def speed_table(comparisons: Iterable[SpeedComparison]) -> tuple[Line, ...]:
    """The same lines of speeds; the width of a band is a share of the expected figure."""
    groups: dict[tuple[str, SpeedQuantity], list[SpeedComparison]] = {}
    for c in comparisons:
        groups.setdefault((c.engine, c.quantity), []).append(c)
    order = list(SpeedQuantity)
    return tuple(line_of(engine, quantity, "", groups[engine, quantity]) for engine, quantity in sorted(groups, key=lambda k: (k[0], order.index(k[1]))))
