"""Rows held against plans as the JSON object `vram.accuracy/1` (schema: vram/schemas/accuracy.json)."""

from collections.abc import Iterable
from typing import Any

from vram.accuracy.check import Checked
from vram.accuracy.comparison import Comparison
from vram.accuracy.row import Unread
from vram.accuracy.speed_check import SpeedComparison
from vram.accuracy.summary import Line, speed_table, table

SCHEMA = "vram.accuracy/1"


def accuracy_document(checked: Checked, name: str) -> dict[str, Any]:
    """The whole result; bytes and counts as whole figures, shares from 0 to 1."""
    figures: tuple[Comparison | SpeedComparison, ...] = (*checked.comparisons, *checked.speeds)
    doubtful: tuple[Comparison | SpeedComparison, ...] = (*checked.flagged_comparisons, *checked.flagged_speeds)
    return {
        "schema": SCHEMA,
        "file": name,
        "rows": checked.rows,
        "quantities": [_line(line) for line in (*table(checked.comparisons), *speed_table(checked.speeds))],
        "flagged_quantities": [_line(line) for line in (*table(checked.flagged_comparisons), *speed_table(checked.flagged_speeds))],
        "comparisons": [_comparison(c) for c in figures],
        "flagged_comparisons": [_comparison(c) for c in doubtful],
        "unread": _unread(checked.unread),
        "flagged": _unread(checked.flagged),
        "failed_otherwise": _unread(checked.failed_otherwise),
        "failures": [{"id": f.id, "engine": f.engine, "how": f.how, "verdict": f.verdict or None, "reason": f.reason} for f in checked.failures],
        "failures_judged_fits": sum(f.verdict == "fits" for f in checked.failures),
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "engine": line.engine,
        "quantity": line.quantity.value,
        "settings": line.settings or None,
        "unit": line.unit,
        "n": line.n,
        "median": line.median,
        "p90": line.p90,
        "p95": line.p95,
        "max": line.worst,
        "max_id": line.worst_id,
        "inside_band": line.inside,
        "band_width": line.width,
    }


def _comparison(c: Comparison | SpeedComparison) -> dict[str, Any]:
    return {
        "id": c.id,
        "engine": c.engine,
        "family": c.family,
        "quantity": c.quantity.value,
        "settings_printed": c.settings_printed if isinstance(c, Comparison) else True,
        "measured": c.measured,
        "predicted": c.predicted,
        "low": c.low,
        "high": c.high,
        "error": c.error,
        "inside": c.inside,
    }


def _unread(found: Iterable[Unread]) -> list[dict[str, Any]]:
    return [{"id": u.id, "engine": u.engine, "quantity": u.quantity or None, "reason": u.reason} for u in found]
