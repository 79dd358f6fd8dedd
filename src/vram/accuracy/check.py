"""Rows of a file held against plans, one by one: nothing is skipped in silence."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vram.accuracy.comparison import Comparison, compare, plan_of
from vram.accuracy.row import Row, Unread
from vram.accuracy.speed_check import Named, SpeedComparison, check_speed
from vram.accuracy.speed_row import SpeedRow
from vram.accuracy.subject import as_measured, fleet_of, gpu_of, other_readings, other_settings
from vram.engines.registry import engine as engine_named
from vram.errors import UsageError, VramError
from vram.model.model import Model

Loader = Callable[[Named], Model]
"""Finds the model of a row; raises VramError when there is none."""

NO_RULES = "no rules for this engine yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A start that ran out of memory, and the plan's verdict on it.

    Attributes:
        id: the row.
        engine: its engine.
        how: how it is known that it failed.
        verdict: the plan's verdict for one sequence of the full length; empty when it could not be planned.
        reason: why it could not be planned.
    """

    id: str
    engine: str
    how: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """All that a file of rows gave.

    Attributes:
        rows: rows read.
        comparisons: figures beside their plans, of rows that are evidence.
        unread: rows (empty `quantity`) and figures that could not be compared, with the reason.
        failures: starts that ran out of memory.
        flagged: rows that are no evidence, with the reason.
        flagged_comparisons: their figures, counted apart.
        failed_otherwise: starts that failed for a reason that is not the model's memory.
        speeds: speeds beside what was expected.
        flagged_speeds: those of rows that are no evidence, counted apart.
    """

    rows: int
    comparisons: tuple[Comparison, ...]
    unread: tuple[Unread, ...]
    failures: tuple[Failure, ...]
    flagged: tuple[Unread, ...]
    flagged_comparisons: tuple[Comparison, ...]
    failed_otherwise: tuple[Unread, ...]
    speeds: tuple[SpeedComparison, ...] = ()
    flagged_speeds: tuple[SpeedComparison, ...] = ()


def check(rows: Iterable[Row | SpeedRow | Unread], load: Loader, *, engine: str | None = None) -> Checked:
    """Hold rows against plans.

    Args:
        rows: as `parse_rows` gives them.
        load: finds the model of a row.
        engine: whose rules to use for every row; each row's own engine's when None.
    """
    comparisons: list[Comparison] = []
    unread: list[Unread] = []
    failures: list[Failure] = []
    flagged: list[Unread] = []
    doubtful: list[Comparison] = []
    otherwise: list[Unread] = []
    speeds: list[SpeedComparison] = []
    doubtful_speeds: list[SpeedComparison] = []
    count = 0
    for row in rows:
        count += 1
        if isinstance(row, Unread):
            unread.append(row)
            continue
        if isinstance(row, SpeedRow):
            found, why = check_speed(row, load, engine)
            if why:
                flagged.append(Unread(id=row.id, engine=row.engine, quantity="", reason=why))
            if isinstance(found, Unread):
                unread.append(found)
            else:
                (doubtful_speeds if why else speeds).append(found)
            continue
        if row.flag:
            flagged.append(Unread(id=row.id, engine=row.engine, quantity="", reason=row.flag))
        if row.other_failure:
            otherwise.append(Unread(id=row.id, engine=row.engine, quantity="", reason=row.other_failure))
        into = doubtful if row.flag else comparisons
        reason, verdict = _check_row(row, load, engine, into, unread)
        if reason:
            unread.append(Unread(id=row.id, engine=row.engine, quantity="", reason=reason))
        if row.failure:
            failures.append(Failure(id=row.id, engine=row.engine, how=row.failure, verdict=verdict, reason=reason))
    return Checked(
        rows=count,
        comparisons=tuple(comparisons),
        unread=tuple(unread),
        failures=tuple(failures),
        flagged=tuple(flagged),
        flagged_comparisons=tuple(doubtful),
        failed_otherwise=tuple(otherwise),
        speeds=tuple(speeds),
        flagged_speeds=tuple(doubtful_speeds),
    )


def _check_row(row: Row, load: Loader, engine: str | None, into: list[Comparison], unread: list[Unread]) -> tuple[str, str]:
    """Compare one row into the lists; the reason when it could not be planned at all, and the verdict where one is asked for."""
    try:
        rules = engine_named(engine or row.engine).name
    except UsageError:
        return NO_RULES, ""
    try:
        loaded = load(row)
        model, others = as_measured(loaded, row), other_readings(loaded, row)
        gpu, known = gpu_of(row)
        fleet = fleet_of(row, gpu)
        found = list(compare(row, model, fleet, engine=rules, gpu_known=known, others=others, settings=other_settings(model, row)))
        verdict = plan_of(row, model, fleet, rules).verdict.value if row.failure and known else ""
    except VramError as e:
        return e.message, ""
    into += [f for f in found if isinstance(f, Comparison)]
    unread += [f for f in found if isinstance(f, Unread)]
    if not found and not row.failure:
        return "it prints no figure that a plan has", ""
    return "", verdict or ("" if known or not row.failure else "unknown card")
