"""Pictures: well formed whatever names hold, nothing lost between data and drawing, the same picture for the same data."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from math import fsum, inf, nan
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram.cli.render import page
from vram.cli.render.amounts import dollars, plain, seconds, share
from vram.cli.render.axis import Axis, fit, thin
from vram.cli.render.spark import Row, bars, columns, resample, sparkline
from vram.cli.render.svg import Bar, Limit, Series, area_chart, bar_chart, line_chart

HOSTILE = ["</text><script>alert(1)</script>", "a\x1b[31mred", "x" * 5000, "\u202egpj.exe", '" onload="x', "]]>&nbsp;", "\ud800", "\x00", "مرحبا", ""]
names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40))
finite = st.floats(min_value=0, max_value=1e12, allow_nan=False)
VOID = {"meta", "br", "hr"}


class Outline(HTMLParser):
    """Tags opened and closed, text seen."""

    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def check_svg(text):
    """Well formed, no way out of the picture, every figure a finite number."""
    root = ET.fromstring(text)  # noqa: S314  (our own text)
    local = [e.tag.rpartition("}")[2] for e in root.iter()]
    assert set(local) <= {"svg", "title", "desc", "style", "rect", "text", "tspan", "line", "polyline", "polygon", "path"}
    for e in root.iter():
        assert not [k for k in e.attrib if k.startswith("on") or k.rpartition("}")[2] in {"href", "src"}]
        for v in (e.get(k, "") for k in ("x", "y", "x1", "y1", "x2", "y2", "points", "d", "width", "height")):
            assert "nan" not in v
            assert "inf" not in v
    assert root.get("role") == "img"
    assert root.find("{*}title") is not None
    return root


@given(names, names, st.lists(st.tuples(finite, finite), max_size=30), st.booleans())
def test_lines_of_any_data_and_name_are_a_picture(title, name, points, step):
    """Whatever is drawn is well-formed SVG without scripts, links or numbers that are none."""
    series = [Series(name=name, points=sorted(points), step=step, band=[(x, y / 2, y) for x, y in sorted(points)])]
    check_svg(line_chart(title, series, x=Axis(label=name), y=Axis(label=title), limits=[Limit(value=3, name=name)], summary=name))


@given(names, st.lists(st.tuples(names, st.lists(finite, max_size=4), names), max_size=6))
def test_bars_of_any_data_and_name_are_a_picture(title, rows):
    """The same of bars."""
    check_svg(bar_chart(title, [Bar(label=a, pieces=tuple((f"p{i}", v) for i, v in enumerate(v)), text=t, band=(1, 2)) for a, v, t in rows], axis=Axis()))


@given(names, st.lists(st.lists(finite, min_size=5, max_size=5), min_size=1, max_size=9), st.booleans())
def test_areas_of_any_data_and_name_are_a_picture(title, layers, step):
    """The same of stacked areas."""
    series = [Series(name=title, points=list(enumerate(map(float, layer))), step=step) for layer in layers]
    check_svg(area_chart(title, series, x=Axis(time=True), y=Axis()))


def test_layers_of_different_x_are_refused():
    """A stack needs common places."""
    with pytest.raises(ValueError, match="same x"):
        area_chart("t", [Series(name="a", points=[(0, 1)]), Series(name="b", points=[(1, 1)])], x=Axis(), y=Axis())


def test_a_line_lies_where_its_values_say():
    """Half of the axis is half of the plot; above the axis is drawn at its edge."""
    text = line_chart("t", [Series(name="a", points=[(0, 0), (5, 50), (10, 200)])], x=Axis(low=0, high=10), y=Axis(low=0, high=100))
    points = [tuple(map(float, p.split(","))) for p in re.search(r'<polyline[^>]*points="([^"]*)"', text)[1].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert y0 - y2 == pytest.approx(300, abs=0.2)


def test_series_are_told_apart_without_colour():
    """No two of seven lines share a dash."""
    text = line_chart("t", [Series(name=str(i), points=[(0, i), (1, i)]) for i in range(7)], x=Axis(), y=Axis())
    dashes = [m[1] if (m := re.search(r'dasharray="([^"]*)"', line)) else "" for line in text.splitlines() if line.startswith("<polyline")]
    assert len(set(dashes)) == 7


@given(st.lists(names, min_size=8, max_size=8))
def test_a_page_of_any_text_is_closed_and_asks_for_nothing(words):
    """Every tag of a report is closed, no script, no address, and the strangers' text is only text."""
    a, b, c, d, e, f, g, h = words
    made = page.page(
        a,
        [page.heading(b), page.paragraph(c), page.facts([(d, e)]), page.table([f], [[g]], right=[f], caption=h, chosen=0), page.code(a), page.notes([b])],
        lead=c,
    )
    outline = Outline()
    outline.feed(made)
    outline.close()
    assert outline.stack == []
    assert not {t for t, _ in outline.tags} & {"script", "img", "link", "iframe", "a", "object"}
    assert not [k for _, attrs in outline.tags for k in attrs if k.startswith("on") or k in {"src", "href"}]
    assert "default-src 'none'" in made
    made.encode()


def test_a_report_holds_its_pictures():
    """A picture inside a page is the same picture, with caption and figures."""
    svg = line_chart("use", [Series(name="a", points=[(0, 1), (1, 2)])], x=Axis(), y=Axis())
    made = page.page("t", [page.figure(svg, "what it shows", figures=page.table(["x"], [["1"]]))])
    assert svg in made
    assert "<figcaption>what it shows</figcaption><" in made
    assert "<details>" in made


@given(st.lists(finite, min_size=1, max_size=300), st.integers(1, 80))
def test_resampling_keeps_the_mean(values, width):
    """Spans of equal length: the mean of their means is the mean of all."""
    drawn = resample(values, width)
    assert len(drawn) == min(len(values), width)
    assert fsum(drawn) / len(drawn) == pytest.approx(fsum(values) / len(values), rel=1e-9, abs=1e-9)


def test_columns_say_how_full():
    """Nothing is empty, half is half, all is full; a little is never drawn as nothing; what is no number is drawn empty."""
    assert sparkline([0, 0.5, 1, 0.001, nan, -inf], 10, high=1) == " ▄█▁  "
    assert columns([0, 1, 2, 4], 4, 2, high=4) == ["   █", " ▄██"]
    assert sparkline([], 10) == ""
    assert sparkline([0, 0], 10) == "  "


def test_bars_are_as_long_as_their_values():
    """The longest fills the room, half is half as long, a little is seen; names are escaped."""
    lines = bars([Row("a\x1b[2J", 8, "8"), Row("b", 4, "4"), Row("c", 1e-9, "")], 40)
    lengths = [line.count("█") for line in lines]
    assert lengths[0] in {2 * lengths[1], 2 * lengths[1] + 1}
    assert lengths[1]
    assert "▏" in lines[2]
    assert not any("\x1b" in line for line in lines)
    assert bars([], 40) == []
    assert all(len(line) <= 40 for line in lines)


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_an_axis_spans_its_data(values, log, time):
    """Every value lies on the axis; its marks ascend, lie on it, and are not many."""
    scale = fit(Axis(log=log, time=time and not log), values)
    assert all(0 <= scale.at(v) <= 1 for v in values)
    assert scale.high >= max(values) * 0.999999
    assert list(scale.ticks) == sorted(scale.ticks)
    assert 1 <= len(scale.ticks) <= 21


@given(st.lists(finite, min_size=1, max_size=5000))
def test_thinning_keeps_the_peaks(values):
    """Few points, in order, with the lowest, the highest, the first and the last among them."""
    points = list(enumerate(values))
    few = thin(points, 100)
    assert len(few) <= 101
    assert all(a[0] < b[0] for a, b in pairwise(few))
    assert {points[0], points[-1]} <= set(few)
    assert {min(values), max(values)} <= {v for _, v in few}


def test_amounts_read_well():
    """Spans, money and shares as a person writes them."""
    said = [seconds(v) for v in (0, 0.0184, 0.2, 1, 2.5, 59, 100, 200, 3600, 14700, 200000)]
    assert said == ["0 s", "18.4 ms", "200 ms", "1 s", "2.5 s", "59 s", "1 min 40 s", "3 min 20 s", "1 h", "4 h 05 min", "2 d 8 h"]
    assert [dollars(v) for v in (0, 10, 2.5)] == ["$0", "$10", "$2.50"]
    assert [share(v) for v in (0, 0.001, 0.0234, 0.5, 0.996, 1, 1.2)] == ["0%", "0.1%", "2.3%", "50%", "99.6%", "100%", "120%"]
    assert [plain(v) for v in (0, 0.25, 4000)] == ["0", "0.25", "4,000"]
