"""From a ranked table to an answer: the rows that are shown become values, and say why they stand there.

Knows no catalogue and no network: models, prices and speeds are handed in.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vram.planner.choosing.ask import Ask, Order
from vram.planner.choosing.choice import Choice, Merits, Pick, Rent
from vram.planner.choosing.helpers import Asked, Helpers, rate_of
from vram.planner.choosing.misses import misses_of
from vram.planner.choosing.quality import Quality
from vram.planner.choosing.rank import Ranking, Sieve, loss_name, rank, sift
from vram.planner.plan import Verdict
from vram.speed.estimate import Speed
from vram.units import count

if TYPE_CHECKING:
    from vram.planner.bulk import Table


def ranked(table: "Table", ask: Ask, helpers: Helpers) -> Ranking:
    """The rows of a table in the order of choice."""
    prices = [helpers.price(place.gpu) for place in table.places]
    sieve = sift(table, ask, helpers.quality, prices=[None if p is None else p.usd_per_hour for p in prices], rates=helpers.rates)
    return rank(table, ask, sieve)


def pick(
    table: "Table", ask: Ask, helpers: Helpers, ranking: Ranking, *, considered: int | None = None, fleet: str = "", model: str = "", notes: Sequence[str] = ()
) -> Pick:
    """The best rows of a table for what was asked, and near misses where they tell something.

    Args:
        table: rows, planned.
        ask: the question.
        helpers: what the arithmetic cannot know by itself.
        ranking: the rows in the order of choice.
        considered: rows that there were to plan; those of the table when None.
        fleet: the cards as a person would type them; empty where cards are looked for.
        model: the model that was named, if one was.
        notes: what to tell beside the answer.
    """
    prices = [helpers.price(place.gpu) for place in table.places]
    choices, refused = _choices(table, ranking, helpers, prices, ask, ask.limit)
    if ask.cards and choices and ask.order is Order.COST:
        choices = _with_fastest(table, ask, ranking.sieve, helpers, prices, choices)
    return Pick(
        ask=ask,
        model=model,
        fleet=fleet,
        considered=len(table) if considered is None else considered,
        planned=len(table),
        fitting=int((table.verdict[ranking.sieve.left] == 2).sum()),
        choices=tuple(choices),
        misses=misses_of(table, ask, ranking, helpers, tuple(choices), refused),
        notes=(*notes, *_notes(table, ask, ranking, helpers.quality)),
    )


def _choices(
    table: "Table", ranking: Ranking, helpers: Helpers, prices: Sequence[Asked | None], ask: Ask, limit: int
) -> tuple[list[Choice], list[tuple[int, str]]]:
    """The first rows that hold when they are planned again, and those that did not, with what they broke."""
    choices: list[Choice] = []
    refused: list[tuple[int, str]] = []
    for row, best in zip(ranking.rows, ranking.best, strict=True):
        if len(choices) == limit:
            break
        made = _choice(table, row, best, helpers, prices, ask)
        if isinstance(made, str):
            refused.append((row, made))
        else:
            choices.append(made)
    return choices, refused


def _with_fastest(table: "Table", ask: Ask, sieve: Sieve, helpers: Helpers, prices: Sequence[Asked | None], cheapest: list[Choice]) -> list[Choice]:
    """The cheapest cards, and after them the fastest: half of each."""
    speedy = replace(ask, order=Order.SPEED)
    fastest, _ = _choices(table, rank(table, speedy, sieve), helpers, prices, speedy, ask.limit)
    fastest = [c for c in fastest if rate_of(c.speed, reads=ask.reads) is not None]  # of the others nobody knows that they are fast
    fastest.sort(key=lambda c: -(rate_of(c.speed, reads=ask.reads) or 0.0))  # keeps the order where rates are alike
    half = (ask.limit + 1) // 2 if fastest else ask.limit
    out = [replace(c, why=f"{_by_price(i, c)}; {c.why}") for i, c in enumerate(cheapest[:half])]
    seen = {c.command for c in out}
    for i, c in enumerate(fastest[: ask.limit - half]):
        told = "the fastest that fits" if i == 0 else f"number {i + 1} by speed"
        if c.command in seen:
            out = [replace(o, why=f"{told}; {o.why}") if o.command == c.command else o for o in out]
        else:
            out.append(replace(c, why=f"{told}; {c.why}"))
    return out


def _by_price(i: int, choice: Choice) -> str:
    if choice.cost is None:
        return "no price known" if i else "the smallest that fits, no price known"
    return "the cheapest that fits" if i == 0 else f"number {i + 1} by price"


def _choice(table: "Table", row: int, best: float, helpers: Helpers, prices: Sequence[Asked | None], ask: Ask) -> Choice | str:
    """The row as a choice, or why it is none after all."""
    seen = helpers.shown(table, row)
    if seen.verdict is not Verdict.FITS:
        return "memory"
    speed, unknown = helpers.speed(table, row)
    rate = rate_of(speed, reads=ask.reads)
    if ask.min_tokens_per_second is not None and rate is not None and rate < ask.min_tokens_per_second:
        return "speed"
    entry, quant = table.models[table.model[row]], table.quants[table.quant[row]]
    name = loss_name(helpers.quality, entry.id, quant, entry.quantization)
    toll = helpers.quality.toll(name)
    fitness, loss = helpers.quality.models.get(entry.id), helpers.quality.losses.get(name)
    merits = Merits(
        points=helpers.quality.merit(entry.id, entry.parameters, entry.active_parameters) - (toll or 0.0),
        best_points=best,
        parameters=entry.parameters,
        active_parameters=entry.active_parameters,
        generation=fitness.generation if fitness else None,
        loss=None if loss is None else replace(loss, source=helpers.quality.cite(loss.source)),
        loss_known=toll is not None,
    )
    price = prices[table.place[row]]
    cost = None if price is None else _rent(price, seen.placement.gpus, None if ask.reads else speed)
    stored = quant or entry.quantization or table.facts.bodies[entry.body].dtype.lower()
    return Choice(
        model=entry.id,
        quant=quant or None,
        stored=stored,
        engine=table.engines[table.engine[row]],
        gpus=(table.places[table.place[row]].gpu.name,) * seen.placement.gpus,
        placement=seen.placement,
        verdict=seen.verdict,
        spare_bytes=seen.spare_bytes,
        limits=seen.limits,
        cards=seen.cards,
        merits=merits,
        licence=helpers.quality.licence(entry.id, entry.licence),
        speed=speed,
        speed_unknown=unknown,
        cost=cost,
        why=_why(merits, stored, quant, rate, cost),
        command=helpers.command(table, row),
        open=partial(helpers.plan, table, row),
    )


def _rent(price: Asked, cards: int, speed: Speed | None) -> Rent:
    hour = price.usd_per_hour * cards
    total = speed.decode_total_tokens_per_second.value if speed else 0.0
    return Rent(usd_per_hour=hour, usd_per_million_output_tokens=hour / 3600 / total * 1e6 if total else None, why=price.told)


def _why(merits: Merits, stored: str, quant: str, rate: float | None, cost: Rent | None) -> str:
    size = f"{count(merits.parameters)} parameters"
    if merits.active_parameters and merits.active_parameters != merits.parameters:
        size += f", {count(merits.active_parameters)} active"
    age = f"{merits.generation.name} of {merits.generation.released}" if merits.generation else "of no known date, so ranked as old"
    if not merits.loss_known:
        loss = f"what {stored} loses was not found"
    elif merits.loss is None:
        loss = "as published" if not quant else "nothing lost"
    else:
        share = f"{merits.loss.share:.1%}" if merits.loss.share >= 0.001 else "less than 0.1%"
        loss = f"{stored} loses {share} perplexity"
    words = [size, age, loss]
    if rate is None:
        words.append("speed not known")
    if cost is None:
        words.append("price not known")
    return "; ".join(words)


def _notes(table: "Table", ask: Ask, ranking: Ranking, quality: Quality) -> list[str]:
    """What was left out for want of a fact, and what order could not be kept."""
    notes = []
    if ask.licences:
        serve = [m for m in table.models if ask.need is None or (m.id in quality.models and ask.need in quality.models[m.id].needs)]
        left_out = {m.id for m in serve if not quality.licence(m.id, m.licence)}
        if left_out:
            notes.append(f"{len(left_out)} models are left out because their licence was not looked up: {_some(sorted(left_out))}")
    if ask.order is Order.COST and not bool((ranking.sieve.usd_per_hour > 0).any()):
        notes.append("no price is known for these cards, so cost decides nothing")
    return notes


def _some(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
