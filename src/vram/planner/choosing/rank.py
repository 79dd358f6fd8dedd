"""Ranking a table of plans: which rows keep to what was asked, the best row of each model, and what came near. Arrays in, row numbers out.

No row becomes a Python object here: a table has hundreds of thousands, a choice a dozen. The rule is argued in docs/how-we-pick.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from vram.engines.supports import method_of
from vram.planner.choosing.ask import Ask, Order
from vram.planner.choosing.quality import Quality

if TYPE_CHECKING:
    from vram.planner.bulk import Table

SAME: Final = 0.1
"""Doublings that nobody would notice: within them a row of the same model is chosen by GPUs, speed and money, not by its loss."""
FAST_ENOUGH: Final = 0.5
"""Of rows at one price, this share of the fastest one's speed is enough: what is slower loses to it, what is not is chosen by its loss."""
ONE_PRICE: Final = 1.01
"""Prices within one of a hundred are one price."""
ENGINES: Final = ("vllm", "sglang", "tensorrt-llm", "llama.cpp", "ollama", "transformers")
"""Ties between engines fall in this order: servers that batch before those that serve one, libraries last."""

Rates = Callable[["Table", NDArray[np.intp]], NDArray[np.float64]]
"""Decode tokens a second of each sequence for rows of a table; nan where it is not known."""

# The published kind of loss behind a checkpoint's method of storage, see vram.engines.supports.
_LOSS_OF_METHOD: Final = {"fp8": "fp8", "fp8-block": "fp8-block", "int8": "int8", "awq": "awq", "gptq": "gptq-4bit", "w4a16": "w4a16", "nvfp4": "nvfp4"}

_FOUR_BITS: Final = frozenset({"w4a16", "awq", "gptq", "nvfp4", "mxfp4", "fp8-fp4", "bnb"})


def loss_name(quality: Quality, model: str, quant: str, published: str) -> str:
    """Under which name of the table of losses a row's weights stand; empty for none lost.

    Args:
        quality: the facts.
        model: the model's id.
        quant: the quantization asked for, empty for the checkpoint as it is.
        published: the label of the checkpoint's own quantization.
    """
    if quant:
        return "" if quant in {"bf16", "fp16", "fp32"} else quant
    fitness = quality.models.get(model)
    if not published or fitness is None or fitness.of == model:
        return ""  # the publisher released it so: that is the model
    method = method_of(published)
    return _LOSS_OF_METHOD.get(method, method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sieve:
    """What every row is worth, and which bound it breaks first.

    Attributes:
        score: points of each row.
        family: which rows are the same model: its number.
        dropped: name of a bound -> the rows that it took and no earlier bound had.
        left: rows that keep to every bound, whatever their verdict.
        gpus: cards that each row uses.
        rate: decode tokens a second of each sequence; nan where not known or not asked for.
        usd_per_hour: price of the cards used; nan where not known.
    """

    score: NDArray[np.float64]
    family: NDArray[np.int64]
    dropped: Mapping[str, NDArray[np.intp]]
    left: NDArray[np.intp]
    gpus: NDArray[np.int64]
    rate: NDArray[np.float64]
    usd_per_hour: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Rows in the order of choice.

    Attributes:
        rows: row numbers, the best first.
        best: for each of them the points of the best row of its model that keeps to every bound.
        known: so many of the rows, the first ones, are known to keep to what was asked; of the others a speed or a price is not known.
        sieve: what every row is worth.
    """

    rows: Sequence[int]
    best: Sequence[float]
    known: int
    sieve: Sieve

    def settles(self, limit: int, beyond: float) -> bool:
        """Whether `limit` rows stand before whatever could come of models worth `beyond` points at most."""
        return beyond == -np.inf or (self.known >= limit and self.best[limit - 1] > beyond)


def _scores(table: "Table", ask: Ask, quality: Quality) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Points of each row, what its quantization takes of them, and which rows are alike: of one model or, where cards are looked for, of one kind of card."""
    merit = np.array([quality.merit(m.id, m.parameters, m.active_parameters) for m in table.models])
    families: dict[str, int] = {}
    family = np.array([families.setdefault(quality.models[m.id].of if m.id in quality.models else m.id, len(families)) for m in table.models], dtype=np.int64)
    unknown = 0.0 if ask.unmeasured else np.nan
    toll = np.empty((len(table.models), len(table.quants)))
    for j, name in enumerate(table.quants):
        of_each = [quality.toll(name)] if name else [quality.toll(loss_name(quality, m.id, "", m.quantization)) for m in table.models]
        toll[:, j] = [unknown if t is None else t for t in of_each]
    lost = toll[table.model, table.quant]
    if ask.cards:
        kinds: dict[str, int] = {}
        kind = np.array([kinds.setdefault(p.gpu.name, len(kinds)) for p in table.places], dtype=np.int64)
        return merit[table.model] - lost, lost, kind[table.place]
    return merit[table.model] - lost, lost, family[table.model]


def sift(table: "Table", ask: Ask, quality: Quality, *, prices: Sequence[float | None], rates: Rates | None) -> Sieve:
    """Judge every row by the bounds of `ask`, in the order in which a person would ask.

    Args:
        table: rows, planned.
        ask: the question.
        quality: facts about models and quantizations.
        prices: dollars an hour of one card of each place of the table; None where not known.
        rates: how fast rows decode; None: not known of any.
    """
    score, lost, family = _scores(table, ask, quality)
    gpus = table.tp.astype(np.int64) * table.pp
    each = np.array([np.nan if p is None else p for p in prices], dtype=float) if prices else np.empty(0)
    price = each[table.place] * gpus
    rows = np.arange(len(table))
    dropped: dict[str, NDArray[np.intp]] = {}

    def keep(name: str, good: NDArray[np.bool_], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        dropped[name] = rows[~good]
        return rows[good]

    def of_models(test: Callable[[Any], bool]) -> NDArray[np.bool_]:
        return np.array([test(m) for m in table.models], dtype=bool)

    # Nobody quantises a quantised checkpoint anew: the model that it was made from is in the table too.
    made = of_models(lambda m: m.id in quality.models and quality.models[m.id].of != m.id and bool(m.quantization))
    unquantised = np.array([not q for q in table.quants], dtype=bool)
    # Nor is one that its publisher released in four bits: only GGUF files are made of such.
    small = of_models(lambda m: bool(m.quantization) and method_of(m.quantization) in _FOUR_BITS)
    four = np.array([bool(q) and method_of(q) in _FOUR_BITS for q in table.quants], dtype=bool)
    anew = (made[table.model[rows]] & ~unquantised[table.quant[rows]]) | (small[table.model[rows]] & four[table.quant[rows]])
    rows = keep("requantised", ~anew, rows)
    if ask.need is not None:
        serves = of_models(lambda m: m.id in quality.models and ask.need in quality.models[m.id].needs)
        rows = keep("need", serves[table.model[rows]], rows)
    rows = keep("unmeasured", ~np.isnan(lost[rows]), rows)
    if ask.most_lost is not None:
        rows = keep("loss", lost[rows] <= ask.most_lost, rows)
    if ask.licences:
        free = of_models(lambda m: (quality.licence(m.id, m.licence) or "").lower() in ask.licences)
        rows = keep("licence", free[table.model[rows]], rows)
    long = of_models(lambda m: not m.max_context_tokens or m.max_context_tokens >= ask.context_tokens)
    rows = keep("context", long[table.model[rows]], rows)
    if ask.budget_usd_per_hour is not None:
        rows = keep("budget", ~(price[rows] > ask.budget_usd_per_hour), rows)
    rate = np.full(len(table), np.nan)
    fitting = rows[table.verdict[rows] > 0]
    if rates is not None and len(fitting):
        rate[fitting] = rates(table, fitting)
    if ask.min_tokens_per_second is not None:
        rows = keep("speed", ~(rate[rows] < ask.min_tokens_per_second), rows)
    return Sieve(score=score, family=family, dropped=dropped, left=rows, gpus=gpus, rate=rate, usd_per_hour=price)


def rank(table: "Table", ask: Ask, sieve: Sieve) -> Ranking:
    """The rows that fit and keep to every bound, in the order of choice: see docs/how-we-pick.md."""
    rows = sieve.left[table.verdict[sieve.left] == 2]
    if not len(rows):
        return Ranking(rows=(), best=(), known=0, sieve=sieve)
    # What is not known where it was asked for comes after all that is.
    doubt = np.zeros(len(rows), dtype=bool)
    if ask.min_tokens_per_second is not None or ask.order is Order.SPEED:
        doubt |= np.isnan(sieve.rate[rows])
    if ask.budget_usd_per_hour is not None or ask.order is Order.COST:
        doubt |= np.isnan(sieve.usd_per_hour[rows])
    known, unknown = rows[~doubt], rows[doubt]
    chosen, best = _ordered(table, ask, sieve, known)
    later, later_best = _ordered(table, ask, sieve, unknown)
    if not ask.every and len(later):
        fresh = ~np.isin(sieve.family[later], sieve.family[chosen])
        later, later_best = later[fresh], later_best[fresh]
    return Ranking(rows=[int(r) for r in (*chosen, *later)], best=[float(b) for b in (*best, *later_best)], known=len(chosen), sieve=sieve)


def _ordered(table: "Table", ask: Ask, sieve: Sieve, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The best row of each model (all rows with `every`), the best model first; with the best points of its model."""
    if not len(rows):
        return rows, np.empty(0)
    top = np.full(int(sieve.family.max()) + 1, -np.inf)
    np.maximum.at(top, sieve.family[rows], sieve.score[rows])
    if not ask.every and not ask.cards:
        rows = rows[sieve.score[rows] >= top[sieve.family[rows]] - SAME]
    family, score, rate, price = sieve.family[rows], sieve.score[rows], sieve.rate[rows], sieve.usd_per_hour[rows]
    slow, dear = -np.nan_to_num(rate, nan=-1.0), np.nan_to_num(price, nan=np.inf)
    place = {name: i for i, name in enumerate(ENGINES)}
    engine = np.array([place.get(name, len(ENGINES)) for name in table.engines])[table.engine[rows]]
    # The last key of lexsort is the first that counts.
    ties = (table.model[rows], table.quant[rows], -table.spare_bytes[rows], engine, _held(table, rows))
    within: tuple[Any, ...] = {
        Order.QUALITY: (dear, -score, slow, sieve.gpus[rows]),
        Order.SPEED: (dear, -score, sieve.gpus[rows], slow),
        Order.COST: (sieve.gpus[rows], -score, slow, dear),
    }[ask.order]
    if ask.cards and ask.order is Order.COST:
        within = (sieve.gpus[rows], -score, slow, *_worth_their_price(family, score, rate, dear))
    if ask.every:
        first = {Order.QUALITY: (slow, sieve.gpus[rows], -score), Order.SPEED: (-score, slow), Order.COST: (-score, slow, dear)}[ask.order]
        rows = rows[np.lexsort((*ties, dear, *first))]
        return rows, top[sieve.family[rows]]
    order = np.lexsort((*ties, *within, family))
    rows, family = rows[order], family[order]
    rows = rows[np.concatenate(([True], family[1:] != family[:-1]))]
    best = top[sieve.family[rows]]
    slow, dear = -np.nan_to_num(sieve.rate[rows], nan=-1.0), np.nan_to_num(sieve.usd_per_hour[rows], nan=np.inf)
    held = _held(table, rows)
    # Cards differ little in how well a model runs on them: their size tells more than its points.
    second = held if ask.cards else -best
    keys: tuple[Any, ...] = {Order.QUALITY: (dear, slow, -best), Order.SPEED: (dear, second, slow), Order.COST: (slow, second, dear)}[ask.order]
    order = np.lexsort((table.model[rows], held, *keys))
    return rows[order], best[order]


def _worth_their_price(
    family: NDArray[np.int64], score: NDArray[np.float64], rate: NDArray[np.float64], price: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """Keys of a sort, the last counts first: the price, then what is too slow beside another at that price, then what loses more than another that is not."""
    many = int(family.max()) + 1
    cheapest, fastest, best = np.full(many, np.inf), np.full(many, -np.inf), np.full(many, -np.inf)
    np.minimum.at(cheapest, family, price)
    known = np.nan_to_num(rate, nan=0.0)
    cheap = price <= ONE_PRICE * cheapest[family]
    np.maximum.at(fastest, family[cheap], known[cheap])
    slow = known < FAST_ENOUGH * fastest[family]
    good = cheap & ~slow
    np.maximum.at(best, family[good], score[good])
    return score < best[family] - SAME, slow, np.where(cheap, cheapest[family], price)


def _held(table: "Table", rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """Bytes of all cards of a row together: the smaller set first where nothing else tells."""
    sizes = np.array([p.gpu.capacity_bytes * p.count for p in table.places], dtype=np.int64)
    return sizes[table.place[rows]]
