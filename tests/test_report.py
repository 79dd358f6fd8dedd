"""truth/REPORT.md is about the rows that lie beside it, and the program is no worse than it says."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

TRUTH = Path(__file__).parents[1] / "truth"
TEXT = (TRUTH / "REPORT.md").read_text()
AGAIN = "make truth writes it anew"


@pytest.fixture(scope="module")
def report():
    sys.path.insert(0, str(TRUTH))
    try:
        import report as module
    finally:
        sys.path.remove(str(TRUTH))
    return module


@pytest.fixture(scope="module")
def result(report):
    return report.result()


def number(cell):
    return float(cell.rstrip(" GiB%")) / (100 if cell.endswith("%") else 1)


def test_the_report_is_about_these_rows(report):
    """The digest in the report is that of the rows and configs that lie here."""
    assert f"`{report.digest_of()}`" in TEXT, AGAIN


def test_every_row_stands_in_the_report_or_in_a_table(result):
    """Each row is compared, or named in the report with the reason why not."""
    compared = {c.id for c in (*result.checked.comparisons, *result.checked.flagged_comparisons)}
    for name in set(result.rows) - compared:
        assert name in TEXT, f"{name}: {AGAIN}"


def test_the_program_is_no_worse_than_the_report_says(report, result):
    """Per engine and quantity: as many rows, and medians and p90s no more than a quarter above the report's."""
    block = TEXT.split("## Per engine and quantity")[1].split("\n\n")[0]
    said = {}
    for line in block.splitlines()[3:]:
        engine, quantity, settings, n, median, p90, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        said[engine, quantity, settings] = int(n), number(median), number(p90)
    assert said
    now = {(x.engine, report.NAMES[x.quantity], x.settings): x for x in report.table(result.checked.comparisons)}
    for key, (n, median, p90) in said.items():
        line = now.get(key)
        assert line is not None, f"{key}: {AGAIN}"
        slack = 0.02 if line.unit == "GiB" else 0.002
        assert line.n >= n, f"{key}: {AGAIN}"
        assert line.median <= median * 1.25 + slack, f"{key}: worse than it was, or {AGAIN}"
        assert line.p90 <= p90 * 1.25 + slack, f"{key}: worse than it was, or {AGAIN}"


def test_no_start_that_ran_out_of_memory_is_judged_to_fit(result):
    """Of the starts that failed for want of memory none is said to fit."""
    assert [f.id for f in result.checked.failures if f.verdict == "fits"] == []


def test_pictures_are_there_and_well_formed():
    """Every picture that the report shows is an SVG without scripts, and none lies there unused."""
    shown = set(re.findall(r"!\[[^]]*\]\(report/([^)]+)\)", TEXT))
    assert shown == {p.name for p in (TRUTH / "report").glob("*")}
    for name in shown:
        root = ET.parse(TRUTH / "report" / name).getroot()  # noqa: S314  (our own files)
        assert root.tag.endswith("svg")
        assert not [e for e in root.iter() if e.tag.endswith(("script", "image", "a"))]


def test_writing_it_twice_gives_the_same(report, result):
    """The same rows give the same report, byte for byte."""
    images = report.pictures(result.checked)
    assert report.report(result, images) == report.report(report.result(), report.pictures(result.checked))


def test_bars_of_llama_cpp_and_of_found_rows_are_printed():
    """Dry runs and public logs of llama.cpp with their bars, all reached; the first comparison of found rows beside today's."""
    block = TEXT.split("## llama.cpp's buffers")[1].split("\n\n")[0]
    assert block.count("| yes |") == 5
    assert "**no**" not in block
    assert "with an importance matrix" in TEXT
    found = TEXT.split("## Rows found after the rules were set")[1].split("\n## ")[0]
    assert "| rows with every figure inside | 39 | | | 69.2% |" in found


def test_a_third_of_the_families_set_no_constant(report, result):
    """Of every engine whose constants are fitted, at least a third of the families in its rows set none."""
    for engine, names in report.left_out().items():
        every = {c.family for c in result.checked.comparisons if c.engine == engine}
        assert 3 * len(every & names) >= len(every), engine
