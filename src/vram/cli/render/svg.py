"""Charts as SVG: lines, stacked areas, bars. Strings in, a string out.

No script, no font and no address outside of the picture; light or dark as the reader's system is; every series told by a dash
or a mark as well as by its colour; every name escaped, because names come from strangers' files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from textwrap import wrap

from vram.cli.render.axis import Axis, Scale, fit, thin
from vram.errors import printable

# Okabe and Ito's colours, which people with colour blindness tell apart, darkened for white and lightened for black until
# each has a contrast of at least 4.5 with what it stands on.
LIGHT = ("#0067a3", "#b84d00", "#007a59", "#a8447c", "#5b5bd6", "#8a6100", "#444444")
DARK = ("#5db7f0", "#ff9a4d", "#2fd3a0", "#f0a3cb", "#a9a9ff", "#e6b84d", "#cccccc")
DASHES = ("", "7 3", "2 3", "10 3 2 3", "5 5", "1 4", "12 4")
STYLE = (
    ".v-bg{fill:#fff}.v-ink{fill:#1c1c1c}.v-dim{fill:#555}.v-grid{stroke:#ddd}.v-axis{stroke:#888}.v-mark{stroke:#1c1c1c}.v-limit{stroke:#b00020}.v-limit-ink{fill:#b00020}"
    + "".join(f".v-l{i}{{stroke:{c}}}.v-f{i}{{fill:{c}}}" for i, c in enumerate(LIGHT))
    + "@media (prefers-color-scheme:dark){.v-bg{fill:#16181b}.v-ink{fill:#eee}.v-dim{fill:#aaa}.v-grid{stroke:#33363a}.v-axis{stroke:#777}.v-mark{stroke:#eee}"
    + ".v-limit{stroke:#ff7b86}.v-limit-ink{fill:#ff7b86}"
    + "".join(f".v-l{i}{{stroke:{c}}}.v-f{i}{{fill:{c}}}" for i, c in enumerate(DARK))
    + "}"
)
FONT = "font-family=\"system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif\""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line or layer.

    Attributes:
        name: what it is.
        points: x and y, ascending in x.
        note: what else the legend says of it.
        step: whether a value holds until the next point.
        band: x, low, high: drawn as a pale area behind the line.
    """

    name: str
    points: Sequence[tuple[float, float]]
    note: str = ""
    step: bool = False
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A value of the upright axis that must be kept: drawn across, with its name."""

    value: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: its name, its pieces (series name, value) from left to right, what stands behind it, its band and what there is room for, if it has one."""

    label: str
    pieces: tuple[tuple[str, float], ...]
    text: str = ""
    band: tuple[float, float] | None = None
    room: float | None = None


def words(text: str, limit: int = 200) -> str:
    """`text` as XML: control characters shown, markup escaped, length bounded."""
    return escape(printable(text, limit), quote=True)


def text_width(text: str, size: float) -> float:
    """About how many pixels `text` takes: wide enough for common fonts, because its real one is the reader's."""
    return sum(0.34 if c in "ilj.,:;'|! I" else 0.92 if c in "mwMW@%" else 0.68 if c.isupper() else 0.58 for c in text) * size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """The plot's box inside the picture."""

    left: float
    top: float
    right: float
    bottom: float

    def x(self, scale: Scale, value: float) -> float:
        return self.left + (self.right - self.left) * scale.at(value)

    def y(self, scale: Scale, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * scale.at(value)


def _open(title: str, summary: str, width: int, height: float) -> list[str]:
    told = f"<desc>{words(summary, 2000)}</desc>" if summary else ""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" role="img" aria-label="{words(title)}" {FONT} font-size="12">',
        f"<title>{words(title)}</title>{told}<style>{STYLE}</style>",
        f'<rect class="v-bg" width="{width}" height="{height:.0f}"/>',
    ]


def _title(title: str, left: float, width: int) -> tuple[list[str], float]:
    """The title, wrapped, and where it ends."""
    rows = wrap(printable(title, 200), max(int((width - left - 20) / 8.6), 20)) or [""]
    return [
        f'<text class="v-ink" x="{left:.0f}" y="{22 + 19 * i}" font-size="15" font-weight="600">{words(row)}</text>' for i, row in enumerate(rows)
    ], 10 + 19.0 * len(rows)


def _key(i: int, x: float, y: float, *, solid: bool) -> str:
    """The sample of series `i` in the legend: its line, or its filled box with the line as edge."""
    k, dash = i % len(LIGHT), DASHES[i % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    box = f'<rect class="v-f{k}" fill-opacity="{_opacity(i)}" x="{x:.1f}" y="{y - 9:.1f}" width="22" height="10"/>' if solid else ""
    at = y - 9 if solid else y - 4
    return f'{box}<line class="v-l{k}" stroke-width="2"{dashed} x1="{x:.1f}" x2="{x + 22:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'


def _opacity(i: int) -> float:
    """Neighbours differ in lightness too, so that layers stay apart without colour."""
    return (0.75, 0.4, 0.6)[i % 3]


def _legend(names: Sequence[tuple[str, str]], left: float, top: float, right: float, *, solid: bool) -> tuple[list[str], float]:
    """Samples with names and notes, as many in a row as there is room for; and where the last row ends."""
    out, x, y = [], left, top + 16
    for i, (name, note) in enumerate(names):
        wide = 28 + text_width(name, 12) + (6 + text_width(note, 12) if note else 0)
        if x > left and x + wide > right:
            x, y = left, y + 19
        noted = f'<tspan class="v-dim" dx="6">{words(note, 100)}</tspan>' if note else ""
        out += [_key(i, x, y, solid=solid), f'<text class="v-ink" x="{x + 28:.1f}" y="{y:.1f}">{words(name, 100)}{noted}</text>']
        x += wide + 18
    return out, y + 8 if names else top


def _axes(frame: _Frame, x: Axis, y: Axis, across: Scale, up: Scale) -> list[str]:
    out = []
    for tick in up.ticks:
        at = frame.y(up, tick)
        out.append(
            f'<line class="v-grid" x1="{frame.left:.1f}" x2="{frame.right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/><text class="v-dim" x="{frame.left - 7:.1f}" y="{at + 4:.1f}" text-anchor="end">{words(y.show(tick))}</text>'
        )
    for tick in across.ticks:
        at = frame.x(across, tick)
        out.append(
            f'<line class="v-grid" x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top:.1f}" y2="{frame.bottom:.1f}"/><text class="v-dim" x="{at:.1f}" y="{frame.bottom + 17:.1f}" text-anchor="middle">{words(x.show(tick))}</text>'
        )
    out.append(f'<line class="v-axis" x1="{frame.left:.1f}" x2="{frame.right:.1f}" y1="{frame.bottom:.1f}" y2="{frame.bottom:.1f}"/>')
    if x.label:
        out.append(f'<text class="v-ink" x="{(frame.left + frame.right) / 2:.1f}" y="{frame.bottom + 38:.1f}" text-anchor="middle">{words(x.label)}</text>')
    return out


def _frame(
    title: str, names: Sequence[tuple[str, str]], x: Axis, y: Axis, across: Scale, up: Scale, width: int, height: int, *, solid: bool
) -> tuple[list[str], _Frame, float]:
    """Title, legend, axes; the box that is left for the data; and the height of the whole."""
    margin = 16.0
    left = margin + max((text_width(y.show(t), 12) for t in up.ticks), default=20) + 9
    head, below = _title(title, margin, width)
    legend, below = _legend(names, margin, below, width - margin, solid=solid)
    if y.label:
        head.append(f'<text class="v-ink" x="{margin:.0f}" y="{below + 16:.1f}">{words(y.label)}</text>')
        below += 18
    last = max((text_width(x.show(t), 12) / 2 for t in across.ticks[-1:]), default=0)
    frame = _Frame(left=left, top=below + 14, right=width - max(margin, last + 6), bottom=below + 14 + height)
    total = frame.bottom + (52 if x.label else 32)
    return [*head, *legend, *_axes(frame, x, y, across, up)], frame, total


def _limits(limits: Sequence[Limit], frame: _Frame, up: Scale) -> list[str]:
    out = []
    for limit in limits:
        at = frame.y(up, limit.value)
        # The name stands above its line, or below it where the top of the picture is near.
        under = at - 5 if at - frame.top > 16 else at + 14
        out.append(
            f'<line class="v-limit" stroke-width="1.5" stroke-dasharray="6 4" x1="{frame.left:.1f}" x2="{frame.right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="v-limit-ink" x="{frame.right - 4:.1f}" y="{under:.1f}" text-anchor="end">{words(limit.name)}</text>'
        )
    return out


def _path(points: Iterable[tuple[float, float]], *, step: bool) -> str:
    out: list[str] = []
    last = ""
    for x, y in points:
        if step and last:
            out.append(f"{x:.1f},{last}")
        last = f"{y:.1f}"
        out.append(f"{x:.1f},{last}")
    return " ".join(out)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x: Axis,
    y: Axis,
    limits: Sequence[Limit] = (),
    summary: str = "",
    width: int = 860,
    height: int = 300,
) -> str:
    """Lines over a common axis. `height` is the plot's own, in pixels; title, legend and marks come on top.

    Args:
        title: what is shown.
        series: the lines, in the order of the legend.
        x: the axis across.
        y: the axis upright.
        limits: values that must be kept.
        summary: what it shows in words, for who cannot see it.
        width: of the picture in pixels.
        height: of the plot in pixels.
    """
    across = fit(x, (p[0] for s in series for p in (*s.points, *s.band)), wanted=7)
    up = fit(y, [*(p[1] for s in series for p in s.points), *(v for s in series for p in s.band for v in p[1:]), *(limit.value for limit in limits)])
    drawn, frame, total = _frame(title, [(s.name, s.note) for s in series], x, y, across, up, width, height, solid=False)
    for i, s in enumerate(series):
        if s.band:
            edge = [(frame.x(across, a), frame.y(up, low)) for a, low, _ in s.band] + [
                (frame.x(across, a), frame.y(up, high)) for a, _, high in reversed(s.band)
            ]
            drawn.append(f'<polygon class="v-f{i % len(LIGHT)}" fill-opacity="0.15" points="{_path(edge, step=False)}"/>')
    for i, s in enumerate(series):
        dash = f' stroke-dasharray="{DASHES[i % len(DASHES)]}"' if i % len(DASHES) else ""
        points = _path(((frame.x(across, a), frame.y(up, b)) for a, b in thin(list(s.points))), step=s.step)
        drawn.append(f'<polyline class="v-l{i % len(LIGHT)}" fill="none" stroke-width="2" stroke-linejoin="round"{dash} points="{points}"/>')
    return "\n".join([*_open(title, summary, width, total), *drawn, *_limits(limits, frame, up), "</svg>"]) + "\n"


def area_chart(
    title: str,
    series: Sequence[Series],
    *,
    x: Axis,
    y: Axis,
    limits: Sequence[Limit] = (),
    summary: str = "",
    width: int = 860,
    height: int = 240,
) -> str:
    """Layers stacked on each other, the first at the bottom; all have their points at the same x. Arguments as of `line_chart`.

    Raises:
        ValueError: layers of different x.
    """
    places = [p[0] for p in series[0].points] if series else []
    if any([p[0] for p in s.points] != places for s in series):
        raise ValueError("stacked layers need the same x")
    sums = [[0.0] * len(places)]
    for s in series:
        sums.append([below + p[1] for below, p in zip(sums[-1], s.points, strict=True)])
    across, up = fit(x, places, wanted=7), fit(y, [*sums[-1], *(limit.value for limit in limits)])
    drawn, frame, total = _frame(title, [(s.name, s.note) for s in series] if len(series) > 1 else [], x, y, across, up, width, height, solid=True)
    for i, s in enumerate(series):
        edge = [(frame.x(across, a), frame.y(up, b)) for a, b in zip(places, sums[i + 1], strict=True)]
        floor = [(frame.x(across, a), frame.y(up, b)) for a, b in zip(places, sums[i], strict=True)]
        # A held value ends where the next begins: its lower edge is walked backwards, so steps are written out first.
        outline = _path(edge, step=s.step) + " " + " ".join(reversed(_path(floor, step=s.step).split()))
        k, dash = i % len(LIGHT), DASHES[i % len(DASHES)]
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        drawn.append(
            f'<polygon class="v-f{k}" fill-opacity="{_opacity(i)}" points="{outline}"/><polyline class="v-l{k}" fill="none" stroke-width="1.5"{dashed} points="{_path(edge, step=s.step)}"/>'
        )
    return "\n".join([*_open(title, summary, width, total), *drawn, *_limits(limits, frame, up), "</svg>"]) + "\n"


def bar_chart(title: str, bars: Sequence[Bar], *, axis: Axis, summary: str = "", width: int = 860) -> str:
    """Bars from left to right, one below the other, each of one or more pieces; a band is drawn as a whisker."""
    margin, row, thick = 16.0, 30, 18
    bars = [replace(b, label=printable(b.label, 120), text=printable(b.text, 80)) for b in bars]
    names: dict[str, int] = {}
    for bar in bars:
        for name, _ in bar.pieces:
            names.setdefault(name, len(names))
    across = fit(
        axis,
        [*(sum(max(v, 0.0) for _, v in b.pieces) for b in bars), *(v for b in bars if b.band for v in b.band), *(b.room for b in bars if b.room), 0.0],
        wanted=6,
    )
    head, below = _title(title, margin, width)
    legend, below = _legend([(name, "") for name in names] if len(names) > 1 else [], margin, below, width - margin, solid=True)
    left = margin + min(max((text_width(b.label, 12) for b in bars), default=0), width * 0.42) + 10
    right = width - margin - max((text_width(b.text, 12) for b in bars), default=0) - 10
    frame = _Frame(left=left, top=below + 12, right=max(right, left + 60), bottom=below + 16 + row * len(bars))
    out = [*head, *legend]
    for tick in across.ticks:
        at = frame.x(across, tick)
        out.append(
            f'<line class="v-grid" x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top:.1f}" y2="{frame.bottom:.1f}"/><text class="v-dim" x="{at:.1f}" y="{frame.bottom + 17:.1f}" text-anchor="middle">{words(axis.show(tick))}</text>'
        )
    for n, bar in enumerate(bars):
        y, done = frame.top + 4 + row * n, 0.0
        out.append(f'<text class="v-ink" x="{left - 10:.1f}" y="{y + 15:.1f}" text-anchor="end">{words(_cut(bar.label, left - margin - 10))}</text>')
        for name, value in bar.pieces:
            start, end, i = frame.x(across, done), frame.x(across, done + max(value, 0.0)), names[name]
            done += max(value, 0.0)
            if end > start:
                out.append(
                    f'<rect class="v-f{i % len(LIGHT)}" fill-opacity="{_opacity(i)}" x="{start:.1f}" y="{y + 1:.1f}" width="{end - start:.1f}" height="{thick}"/>'
                )
        if bar.band:
            low, high = (frame.x(across, v) for v in bar.band)
            mid = y + 1 + thick / 2
            out.append(
                f'<path class="v-mark" fill="none" stroke-width="1.5" d="M{low:.1f} {mid - 4:.1f}v8M{low:.1f} {mid:.1f}H{high:.1f}M{high:.1f} {mid - 4:.1f}v8"/>'
            )
        if bar.room is not None:
            at = frame.x(across, bar.room)
            out.append(f'<path class="v-limit" fill="none" stroke-width="2" d="M{at:.1f} {y - 3:.1f}v{thick + 8}"/>')
        if bar.text:
            out.append(f'<text class="v-ink" x="{width - margin:.1f}" y="{y + 15:.1f}" text-anchor="end">{words(bar.text)}</text>')
    out.append(f'<line class="v-axis" x1="{left:.1f}" x2="{left:.1f}" y1="{frame.top:.1f}" y2="{frame.bottom:.1f}"/>')
    total = frame.bottom + (52 if axis.label else 32)
    if axis.label:
        out.append(f'<text class="v-ink" x="{(frame.left + frame.right) / 2:.1f}" y="{frame.bottom + 38:.1f}" text-anchor="middle">{words(axis.label)}</text>')
    return "\n".join([*_open(title, summary, width, total), *out, "</svg>"]) + "\n"


def _cut(text: str, room: float) -> str:
    """`text` shortened in the middle until it takes no more than `room` pixels: models' names differ at both ends."""
    if text_width(text, 12) <= room:
        return text
    n = len(text)
    while n > 4 and text_width(text[:n], 12) > room - 8:
        n -= 1
    return f"{text[: (n + 1) // 2]}…{text[-(n // 2) :]}"
