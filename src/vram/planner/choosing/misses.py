"""What came near: rows that are only tight and would rank higher and, where nothing is left, the nearest row that each bound kept out, with what would let it in."""

from collections.abc import Sequence
from math import ceil, floor
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vram.planner.choosing.ask import Ask
from vram.planner.choosing.choice import Choice, Miss
from vram.planner.choosing.helpers import Helpers, rate_of
from vram.planner.choosing.rank import Ranking
from vram.planner.choosing.shown import Shown
from vram.planner.plan import Verdict
from vram.units import gib

if TYPE_CHECKING:
    from vram.planner.bulk import Table

NEAR: Final = 3
"""Near misses that are told of each kind."""


def misses_of(table: "Table", ask: Ask, ranking: Ranking, helpers: Helpers, choices: Sequence[Choice], refused: Sequence[tuple[int, str]]) -> tuple[Miss, ...]:
    """What came near: what would rank above the best choice if a little more fitted and, where nothing fits, the nearest of each kind."""
    nothing = not choices
    near = [(row, "memory") for row in _tight(table, ranking, choices) or (_nearest(table, ranking) if nothing else [])]
    if nothing:
        # What fits and only breaks a wish is nearer than what does not fit, or was never made for it.
        wishes = [(row, bound) for bound in ("speed", "budget", "licence") for row in _bound_by(table, ranking, bound)]
        near = [*refused[:NEAR], *(wishes or [*near, *((row, "context") for row in _bound_by(table, ranking, "context"))])]
    return tuple(_miss(table, row, bound, helpers, ask, ranking, mended=nothing) for row, bound in near)


def _one_each(ranking: Ranking, rows: Any, most: int = NEAR) -> list[int]:
    """The first row of each model."""
    seen: set[int] = set()
    out = []
    for row in rows:
        family = int(ranking.sieve.family[row])
        if family not in seen:
            seen.add(family)
            out.append(int(row))
            if len(out) == most:
                break
    return out


def _tight(table: "Table", ranking: Ranking, choices: Sequence[Choice]) -> list[int]:
    """Rows that would rank above the best choice, but are only tight."""
    sieve = ranking.sieve
    rows = sieve.left[table.verdict[sieve.left] == 1]
    if choices:
        known = np.array(sorted({int(f) for f in ranking.sieve.family[list(ranking.rows)]}))
        rows = rows[(sieve.score[rows] > choices[0].merits.best_points) & ~np.isin(sieve.family[rows], known)]
    rows = rows[np.lexsort((table.engine[rows], -table.spare_bytes[rows], -sieve.score[rows]))]
    return _one_each(ranking, rows)


def _nearest(table: "Table", ranking: Ranking) -> list[int]:
    """Rows that lack the fewest bytes."""
    rows = ranking.sieve.left
    return _one_each(ranking, rows[np.lexsort((table.model[rows], -table.spare_bytes[rows]))])


def _bound_by(table: "Table", ranking: Ranking, bound: str) -> list[int]:
    """Rows that fit and break this bound alone of those before it: the nearest to it first."""
    sieve = ranking.sieve
    rows = sieve.dropped.get(bound)
    if rows is None or not len(rows):
        return []
    rows = rows[table.verdict[rows] == 2]
    if bound == "context":
        longest = np.array([m.max_context_tokens or 0 for m in table.models])[table.model[rows]]
        nearest = -longest
    else:
        nearest = {"speed": -np.nan_to_num(sieve.rate[rows], nan=0.0), "budget": sieve.usd_per_hour[rows], "licence": -sieve.score[rows]}[bound]
    return _one_each(ranking, rows[np.lexsort((-sieve.score[rows], nearest))], 1 if bound == "speed" else NEAR)


def _miss(table: "Table", row: int, bound: str, helpers: Helpers, ask: Ask, ranking: Ranking, *, mended: bool) -> Miss:
    entry, quant, seen = table.models[table.model[row]], table.quants[table.quant[row]], helpers.shown(table, row)
    reason, mend = _memory(seen, table.question.headroom) if bound == "memory" else _reason(bound, table, row, ask, ranking, helpers)
    if bound == "memory" and mended:
        # Mends plan the row a dozen times over: only where there is nothing better to show.
        mend = next((m.flag for m in helpers.plan(table, row).mends if m.verdict is Verdict.FITS), "")
    return Miss(
        model=entry.id,
        quant=quant or None,
        engine=table.engines[table.engine[row]],
        gpus=(table.places[table.place[row]].gpu.name,) * seen.placement.gpus,
        verdict=seen.verdict,
        spare_bytes=seen.spare_bytes,
        bound=bound,
        reason=reason,
        mend=mend,
        command=helpers.command(table, row),
    )


def _memory(seen: Shown, headroom: float) -> tuple[str, str]:
    """How far a row is from fitting."""
    if seen.verdict is not Verdict.TIGHT:
        return f"lacks {gib(-seen.spare_bytes)}", ""
    over = max(card.short_bytes for card in seen.cards)
    told = f"{gib(over)} short if every part took its most" if over > 0 else f"less than {headroom:.0%} of its weights stays free"
    return f"fits as expected, but {told}", ""


def _reason(bound: str, table: "Table", row: int, ask: Ask, ranking: Ranking, helpers: Helpers) -> tuple[str, str]:
    """Which bound a row breaks, and what would let it in."""
    entry = table.models[table.model[row]]
    if bound == "context":
        return f"made for {entry.max_context_tokens:,} tokens, {ask.context_tokens:,} are asked for", f"--context {entry.max_context_tokens}"
    if bound == "licence":
        licence = helpers.quality.licence(entry.id, entry.licence)
        return f"its licence is {licence or 'not known here'}", f"--licence {licence}" if licence else "without --licence"
    if bound == "budget":
        hour = float(ranking.sieve.usd_per_hour[row])
        return f"costs ${hour:.2f} an hour, ${ask.budget_usd_per_hour:.2f} are allowed", f"--budget {ceil(hour * 100) / 100:g}"
    rate = rate_of(helpers.speed(table, row)[0], reads=ask.reads) or float(ranking.sieve.rate[row])
    fewer = ", fewer sequences at once" if ask.concurrency > 1 else ""
    return (
        f"{rate:.3g} tokens/s for each sequence is the most that is reached, {ask.min_tokens_per_second:g} are asked for",
        f"--min-speed {floor(rate * 10) / 10:g}; or faster cards, more of them, a shorter context{fewer}",
    )
