"""Rows that were found after the rules were set, for REPORT.md: what plans said of them at first, and what they say today."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vram.accuracy.check import Checked
from vram.accuracy.comparison import Comparison, Quantity
from vram.accuracy.summary import percentile

HERE = Path(__file__).parent
FILES = ("found_startups.jsonl", "found_again.jsonl")


def names(file: str) -> frozenset[str]:
    """Ids of the rows of one file."""
    return frozenset(json.loads(line)["id"] for line in (HERE / file).read_text(encoding="utf-8").splitlines())


def section(checked: Checked, titles: Mapping[Quantity, str]) -> list[str]:
    """Out-of-sample errors: the first comparison, which is kept as it was, beside today's rules."""
    out = [
        "Starts that were looked up in public and entered before any plan was held against them. `first` is what the rules said then",
        "(`found_first.json`), before anything was mended; where a row's own entry was corrected since, its `note` says so. Rules that were",
        "mended because of these rows make `today` no measure of rows that nobody has seen: `first` is.",
    ]
    for first in json.loads((HERE / "found_first.json").read_text(encoding="utf-8"))["rounds"]:
        ids = names(first["file"])
        out += ["", f"`{first['file']}`: {len(ids)} starts, first held against the rules of commit {first['rules_commit']}.", ""]
        out += _table(first, [c for c in checked.comparisons if c.id in ids], titles)
    return out


def _table(first: Mapping[str, Any], mine: list[Comparison], titles: Mapping[Quantity, str]) -> list[str]:
    rows: dict[str, bool] = {}
    for c in mine:
        rows[c.id] = rows.get(c.id, True) and c.inside
    out = [
        "| per GPU | first: n | median | p90 | inside its band | today: n | median | p90 | inside its band |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in first["lines"]:
        quantity = Quantity(line["quantity"])
        now = [c for c in mine if c.quantity is quantity]
        errors = sorted(c.error for c in now)
        f = (lambda e: f"{e:.3f} GiB") if quantity is Quantity.OTHER else (lambda e: f"{e:.3%}")
        today = f"{len(now)} | {f(percentile(errors, 0.5))} | {f(percentile(errors, 0.9))} | {sum(c.inside for c in now) / max(len(now), 1):.1%}"
        out.append(f"| {titles[quantity]} | {line['n']} | {f(line['median'])} | {f(line['p90'])} | {line['inside']:.1%} | {today} |")
    held = f"| rows with every figure inside | {first['rows_compared']} | | | {first['rows_inside'] / first['rows_compared']:.1%} "
    return [*out, held + f"| {len(rows)} | | | {sum(rows.values()) / max(len(rows), 1):.1%} |"]
