"""Small pictures of numbers in a terminal: a sparkline, columns over several lines, labelled bars. Pure text, no colour needed."""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from vram.errors import printable

COLUMNS = " ▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Row(NamedTuple):
    """One bar: its name, how long it is, and what stands behind it."""

    label: str
    value: float
    text: str


def resample(values: Sequence[float], width: int) -> list[float]:
    """`values`, evenly spaced, as `width` means of equal spans (fewer values than `width` stay as they are)."""
    n = len(values)
    if n <= width:
        return list(values)
    out = []
    for i in range(width):
        # Spans begin and end between values: each value counts by its overlap, so that nothing is lost or counted twice.
        start, end = i * n / width, (i + 1) * n / width
        first, last = int(start), min(int(end), n - 1)
        total = sum(values[k] * (min(k + 1, end) - max(k, start)) for k in range(first, last + 1))
        out.append(total / (end - start))
    return out


def columns(values: Sequence[float], width: int, height: int = 1, *, low: float = 0.0, high: float | None = None) -> list[str]:
    """`height` lines of at most `width` characters: a column for each span of `values`, in eighths of a line.

    `high` is the value of a full column (the largest when None), `low` that of an empty one. What is above zero is never
    drawn empty, and what is not finite is drawn empty.
    """
    drawn = resample([v if isfinite(v) else low for v in values], width)
    top = max(drawn, default=low) if high is None else high
    span = top - low
    levels = []
    for v in drawn:
        level = min(max(round((v - low) / span * 8 * height), 0), 8 * height) if span > 0 else 0
        levels.append(1 if level == 0 and v > low else level)
    return ["".join(COLUMNS[min(max(level - 8 * line, 0), 8)] for level in levels) for line in reversed(range(height))]


def sparkline(values: Sequence[float], width: int, *, low: float = 0.0, high: float | None = None) -> str:
    """One line of columns."""
    return columns(values, width, 1, low=low, high=high)[0]


def bars(rows: Sequence[Row], width: int, *, high: float | None = None) -> list[str]:
    """A line for each row, label, bar and text, of at most about `width` columns; the longest bar is `high`, or the largest value."""
    if not rows:
        return []
    labels, texts = [printable(r.label, 60) for r in rows], [printable(r.text, 120) for r in rows]
    label_width, text_width = max(map(len, labels)), max(map(len, texts))
    room = min(max(width - label_width - text_width - 4, 8), 60)
    most = max((r.value for r in rows), default=0.0) if high is None else high
    lines = []
    for label, row, text in zip(labels, rows, texts, strict=True):
        eighths = min(max(round(row.value / most * room * 8), 1 if row.value > 0 else 0), room * 8) if most > 0 and isfinite(row.value) else 0
        bar = EIGHTHS[8] * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
        lines.append(f"{label:<{label_width}}  {bar:<{room}}  {text}".rstrip())
    return lines
