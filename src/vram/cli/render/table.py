"""A table of columns: as wide as its cells, so that it can be read, searched and piped; where it is bounded, columns move below their row."""

import re
from collections.abc import Mapping, Sequence
from textwrap import wrap

from click import style

from vram.errors import printable

GAP = 2
_SIZE = re.compile(r"(?<=\d) (?=(?:[KMGT]i)?B\b)")
LEAST = 10
"""Characters that are left of a cell at least, where it is cut."""


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    width: int = 0,
    cut: Sequence[str] = (),
    below: Mapping[str, str] | None = None,
) -> str:
    """Lines of aligned cells under bold titles.

    Args:
        titles: one for each column.
        rows: a cell for each column.
        right: columns that are aligned there.
        width: most characters of a line; 0: as wide as it is.
        cut: columns of names: of each half a line is enough, cut in its middle, before anything goes below.
        below: columns that go below their row where there is no room, the first one first, each with the words that it has there: `"{} of weights"`.
    """
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(title), *(len(row[i]) for row in clean)) if clean else len(title) for i, title in enumerate(titles)]
    shown = list(range(len(titles)))
    if width:
        named, whole = [i for i in shown if titles[i] in cut], list(widths)
        _narrow(named, shown, widths, width, width // 2)
        for name in below or ():
            if _room(shown, widths, width) < 0:
                shown.remove(titles.index(name))
        # What is left is too long of its own accord: the longest gives first. What is over is theirs who gave.
        _narrow([i for i in shown if titles[i] not in right], shown, widths, width, LEAST)
        for i in named:
            widths[i] += max(min(_room(shown, widths, width), whole[i] - widths[i]), 0)

    def line(cells: Sequence[str]) -> str:
        fitted = ((clip(cells[i], widths[i]), widths[i], titles[i] in right) for i in shown)
        return (" " * GAP).join(f"{c:>{w}}" if to_right else f"{c:<{w}}" for c, w, to_right in fitted).rstrip()

    lines = [style(line(titles), bold=True)]
    hidden = [i for i in range(len(titles)) if i not in shown]
    indent = " " * (GAP if titles[0] else widths[0] + GAP)
    for row in clean:
        lines.append(line(row))
        words = [(below or {})[titles[i]].format(row[i]) for i in hidden if row[i]]
        lines += [style(indent + one, dim=True) for one in filled(words, width - len(indent), " · ")]
    return "\n".join(lines)


def filled(words: Sequence[str], width: int, between: str) -> list[str]:
    """Words in lines of at most `width` characters, broken between two of them wherever that is possible; 0: in one line."""
    if not width:
        return [between.join(words)]
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(between) + len(word) <= width:
            lines[-1] += between + word
        else:
            if lines and len(lines[-1]) + len(between.rstrip()) <= width:
                lines[-1] += between.rstrip()
            # What has no space in it – an address, a name – is no better in two pieces than without its middle.
            # A number and its unit stay together.
            rows = wrap(_SIZE.sub("\0", word), width, break_on_hyphens=False) if " " in word else [clip(word, width)]
            lines += [row.replace("\0", " ") for row in rows]
    return lines


def clip(text: str, width: int) -> str:
    """At most `width` characters: names differ at their beginnings and at their ends, so the ellipsis stands between."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]


def _room(shown: Sequence[int], widths: Sequence[int], width: int) -> int:
    """Characters of a line that are over; below 0: that are missing."""
    return width - sum(widths[i] for i in shown) - GAP * (len(shown) - 1)


def _narrow(columns: Sequence[int], shown: Sequence[int], widths: list[int], width: int, least: int) -> None:
    """Take characters of these columns, always of the widest one, until the line fits or all are as narrow as may be."""
    while columns and _room(shown, widths, width) < 0:
        widest = max(columns, key=lambda i: widths[i])
        if widths[widest] <= least:
            return
        widths[widest] -= 1
