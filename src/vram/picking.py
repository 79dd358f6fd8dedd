"""`vram.pick`: finds the cards, the facts and the prices, then asks the planner which models serve a need best on them."""

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from vram.api import catalogue_facts, catalogued, detect, load_model, parse_gpus, plan
from vram.costs.price import Price
from vram.engines.registry import engine as engine_named
from vram.errors import UsageError
from vram.hardware.fleet import Fleet, Origin
from vram.model.quantization.named import canonical
from vram.planner.choosing.ask import LOADS, Ask, Order, licences_named, need_named, order_named
from vram.planner.choosing.choice import Pick
from vram.planner.choosing.quality import Need, Quality
from vram.planner.make import DEFAULT_HEADROOM, MOST_SEQUENCES, MOST_TOKENS
from vram.planner.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vram.hardware.gpu import Gpu
    from vram.model.model import Model
    from vram.planner.bulk import Facts, Place, Table
    from vram.planner.choosing.helpers import Asked
    from vram.planner.choosing.rank import Rates

COUNTS: Final = (1, 2, 4, 8)
"""How many cards of a kind are tried where cards are looked for."""
LOSS_FLOOR: Final = 0.6
"""Where the cheapest card is looked for: quantizations that lose more doublings than this are left out unless one is named; 4-bit kinds are in."""


def pick(
    need: str | None = None,
    *,
    model: str | None = None,
    gpu: str | Fleet | None = None,
    context_tokens: int | None = None,
    concurrency: int | None = None,
    min_tokens_per_second: float | None = None,
    budget_usd_per_hour: float | None = None,
    licence: str | None = None,
    quant: str | None = None,
    engine: str | None = None,
    kv_dtype: str | None = None,
    price_usd: float | None = None,
    prices: Mapping[str, Price] | None = None,
    sort: str | None = None,
    limit: int = 5,
    every: bool = False,
    headroom: float = DEFAULT_HEADROOM,
    offline: bool | None = None,
) -> Pick:
    """Which models of the catalogue serve a need best on some cards or, with `model` and no cards, which cards serve a model best.

    Args:
        need: `chat` (the default), `code`, `reasoning`, `vision` or `embedding`.
        model: a path, hub id or catalogue name: then only its rows are ranked, or cards are looked for where none is named. What the
            catalogue knows is planned from there; another model's headers are read, and its quantizations planned in a second or two.
        gpu: GPUs by name or as a fleet; this machine's when None and no model is named.
        context_tokens: tokens of one sequence; by need when None: 8,192 for chat and vision, 32,768 for code and reasoning, 512 for
            embedding (or what the model was made for, if that is less).
        concurrency: sequences at the same time; 1 when None, 32 for embedding.
        min_tokens_per_second: least decode rate of each sequence.
        budget_usd_per_hour: most that the cards used may cost in an hour.
        licence: licences that will do (`"apache-2.0,mit"`), or `"permissive"`.
        quant: only this quantization.
        engine: only this engine.
        kv_dtype: type of the KV cache; the engine's and the model's own when None.
        price_usd: dollars an hour for each card, whatever it is.
        prices: prices by the card's full name, before the user's file and the list.
        sort: `quality` (the default), `speed` or `cost`; cards are sorted by cost.
        limit: most choices.
        every: every row that fits, not the best one of each model.
        headroom: share of the weights to keep free above them.
        offline: touch no network for a model that the catalogue does not know.

    Returns:
        The choices, best first, every one with verdict `fits` and the command that opens it, and near misses with what kept them
        out. The rule is docs/how-we-pick.md.

    Raises:
        UsageError: an unknown need, order, engine, quantization or number (also UnknownGpuError).
        ModelError: the model named cannot be read (see `load_model`).
        HardwareNotFoundError: neither cards nor a model were named, and no card was found.
    """
    from vram.planner.bulk import candidates  # noqa: PLC0415  (arrays, which `import vram` must not pay for)
    from vram.planner.choosing.bounding import count_rows, stages  # noqa: PLC0415  (the same)
    from vram.planner.choosing.helpers import Helpers  # noqa: PLC0415  (the same)
    from vram.planner.choosing.pick import pick as pick_from  # noqa: PLC0415  (the same)
    from vram.planner.choosing.pick import ranked  # noqa: PLC0415  (the same)
    from vram.planner.choosing.shown import Shown  # noqa: PLC0415  (the same)

    wanted = need_named(need) if need is not None else None if model is not None else Need.CHAT
    order = order_named(sort or ("cost" if model is not None and gpu is None else "quality"))
    _in_range("--concurrency", concurrency, 1, MOST_SEQUENCES)
    _in_range("--context", context_tokens, 1, MOST_TOKENS)
    _in_range("--min-speed", min_tokens_per_second, 0, 1e9)
    _in_range("--budget", budget_usd_per_hour, 0, 1e9)
    _in_range("--limit", limit, 1, 100_000)
    named, loaded, facts = _named(model, offline=offline) if model is not None else ("", None, catalogue_facts())
    quality = _quality()
    if named:
        wanted = _served(quality, named, wanted)
    tokens, sequences = LOADS[wanted or Need.CHAT]
    if named:
        stated = next((m.max_context_tokens for m in facts.models if m.id == named), 0)
        tokens = min(tokens, stated or tokens)
    ask = Ask(
        need=wanted,
        context_tokens=context_tokens or tokens,
        concurrency=concurrency or sequences,
        min_tokens_per_second=min_tokens_per_second,
        budget_usd_per_hour=budget_usd_per_hour,
        licences=licences_named(licence, {k.lower() for m in facts.models if (k := quality.licence(m.id, m.licence))} if licence else ()),
        order=order,
        limit=limit,
        every=every,
        cards=bool(named) and gpu is None,
        unmeasured=quant is not None,
        most_lost=LOSS_FLOOR if named and gpu is None and quant is None else None,
    )
    fleet = None if gpu is None and named else parse_gpus(gpu) if isinstance(gpu, str) else gpu or detect()
    if fleet is not None:
        _known(fleet)
    places = _cards(fleet)
    models = [named] if named else [m.id for m in facts.models if wanted in _needs(quality, m.id)]
    only: dict[str, Any] = {
        "quants": None if quant is None else ["" if quant in {"", "none"} else canonical(quant)],
        "engines": None if engine is None else [_engine(engine)],
    }
    fleets = [sub for _, sub in places]

    made: dict[tuple[int, ...], Plan] = {}

    def planned(rows: "Table", row: int) -> Plan:
        """The row planned as its command would; models that share a config share the work."""
        entry = rows.models[rows.model[row]]
        key = (entry.body, *(int(column[row]) for column in (rows.quant, rows.engine, rows.place, rows.tp, rows.pp)))
        if key not in made:
            made[key] = plan(
                loaded or catalogued(entry.id),
                gpu=fleets[rows.place[row]],
                quant=rows.quants[rows.quant[row]] or None,
                engine=rows.engines[rows.engine[row]],
                kv_dtype=kv_dtype,
                context_tokens=ask.context_tokens,
                concurrency=ask.concurrency,
                tp=int(rows.tp[row]),
                pp=int(rows.pp[row]),
                headroom=headroom,
            )
        found = made[key]
        return found if found.model.name == entry.id else replace(found, model=replace(found.model, name=entry.id))

    def typed(rows: "Table", row: int) -> str:
        sub, tp, pp = fleets[rows.place[row]], int(rows.tp[row]), int(rows.pp[row])
        flags = ["--quant", q] if (q := rows.quants[rows.quant[row]]) else []
        flags += ["--engine", rows.engines[rows.engine[row]]]
        if sub.origin is Origin.NAMED:
            flags += ["--gpu", sub.name]
        flags += ["--context", str(ask.context_tokens)]
        flags += ["--concurrency", str(ask.concurrency)] if ask.concurrency != 1 else []
        flags += ["--kv-dtype", kv_dtype] if kv_dtype else []
        # A plan takes all cards that it sees unless it is told the split.
        more = sub.origin is not Origin.NAMED and fleet is not None and len(sub) < len(fleet)
        flags += ["--tp", str(tp)] if tp > 1 or more else []
        flags += ["--pp", str(pp)] if pp > 1 or more else []
        flags += ["--headroom", f"{headroom:g}"] if headroom != DEFAULT_HEADROOM else []
        seen = _visible(fleet, sub) if more and fleet is not None else ""
        # The catalogue's weights are the config's; headers of a hub would be the files' own.
        name, end = (str(model), ["--offline"] if offline else []) if loaded else (rows.models[rows.model[row]].id, ["--offline"])
        return seen + shlex.join(["vram", "plan", name, *flags, *end])

    helpers = Helpers(
        plan=planned,
        shown=lambda rows, row: Shown.of(planned(rows, row)),
        speed=lambda rows, row: (planned(rows, row).speed, planned(rows, row).speed_unknown),
        price=_prices(price_usd, prices),
        rates=_rates(ask),
        command=typed,
        quality=quality,
    )
    sets = [place for place, _ in places]
    # What is ranked by points first has a bound: no row is worth more than its model unquantised.
    bounded = order is Order.QUALITY and not every and not ask.cards
    for some, beyond in stages(facts, quality, models) if bounded else [(models, -math.inf)]:
        table = candidates(
            facts, sets, context_tokens=ask.context_tokens, concurrency=ask.concurrency, kv_dtype=kv_dtype, headroom=headroom, models=some, **only
        )
        ranking = ranked(table, ask, helpers)
        if not ranking.settles(limit, beyond):
            continue
        found = pick_from(
            table,
            ask,
            helpers,
            ranking,
            considered=len(table) if beyond == -math.inf else count_rows(facts, sets, models=models, **only),
            fleet="" if fleet is None else fleet.name,
            model=named,
            notes=_told(fleet, len(table)),
        )
        if beyond == -math.inf or len(found.choices) == limit:
            break
    return found


def _known(fleet: Fleet) -> None:
    """Refuse cards of which only the size was said.

    Raises:
        UsageError: which engines run on a card is told of its maker and generation, not of its size; the hint names cards of that size.
    """
    for member in fleet.gpus:
        if not member.gpu.name.startswith("custom:"):
            continue
        from vram.hardware.catalogue import catalogue  # noqa: PLC0415  (only for the hint)

        size = member.gpu.capacity_bytes
        alike = [g.name for g in catalogue().all_gpus() if abs(g.capacity_bytes - size) < 0.05 * size and g.bandwidth_bytes_per_second]
        raise UsageError(
            f"{member.gpu.name} is no card that is known: which engines run on it, and how fast, cannot be said",
            hint=f"name one of that size: {', '.join(alike[:6])}" if alike else "vram gpus lists the cards that are known",
        )


def _told(fleet: Fleet | None, plans: int) -> tuple[str, ...]:
    """What to tell beside the answer."""
    notes = [] if fleet is None else list(fleet.notes)
    if fleet is not None and not fleet.uniform:
        notes.append("cards of different kinds are not put together: each kind is chosen for alone")
    if not plans:
        notes.append("no plan could be made: no engine asked for is documented to run such weights on these cards")
    return tuple(notes)


def _served(quality: Quality, model: str, wanted: Need | None) -> Need | None:
    """The need that a named model is planned for: as asked; embedding where it is nothing else.

    Raises:
        UsageError: the model does not serve what was asked.
    """
    serves = _needs(quality, model)
    if wanted is not None and wanted not in serves:
        told = f"it serves {', '.join(sorted(serves))}" if serves else "nothing is known of what it serves"
        raise UsageError(f"{model} is not known to serve {wanted.value}", hint=f"{told}; leave the need out to plan it all the same")
    return Need.EMBEDDING if wanted is None and serves == {Need.EMBEDDING} else wanted


def _needs(quality: Quality, model: str) -> frozenset[Need]:
    fitness = quality.models.get(model)
    return frozenset(fitness.needs) if fitness else frozenset()


def _in_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and (isinstance(value, bool) or not low <= value <= high):
        raise UsageError(f"{name} is {value}", hint=f"{low:,} to {high:,} is possible")


@lru_cache(maxsize=1)
def _quality() -> Quality:
    from vram.catalog import quality  # noqa: PLC0415  (a file that nothing else reads)

    return Quality.of(quality())


def _named(model: str, *, offline: bool | None) -> "tuple[str, Model | None, Facts]":
    """A model's name, the model itself where the catalogue does not know it, and the facts that it is planned from.

    Raises:
        ModelError: it is no name of the catalogue, and cannot be read.
    """
    from vram.catalog import find  # noqa: PLC0415  (reads the catalogue)

    found = find(model)
    if found is not None:
        return found.id, None, catalogue_facts()
    from vram.planner.bulk.reduce import facts_of  # noqa: PLC0415  (asks every engine's rules; only for strangers)

    loaded = load_model(model, offline=offline)
    return loaded.name, loaded, facts_of([loaded])


def _engine(name: str) -> str:
    """An engine's own name.

    Raises:
        UsageError: there is none of that name, or it is no engine that runs anything.
    """
    from vram.engines.supports import ENGINES  # noqa: PLC0415  (rules that only choices need)

    if "@" in name:
        raise UsageError(
            f"{name!r}: choices are made among the newest releases", hint=f"choose with --engine {name.partition('@')[0]}, then plan the row with {name}"
        )
    found = engine_named(name).name
    if found not in ENGINES:
        raise UsageError(f"the {found} rules are no engine that could be started", hint=f"one of {', '.join(ENGINES)}")
    return found


def _cards(fleet: Fleet | None) -> "list[tuple[Place, Fleet]]":
    """The sets of cards that rows are planned on, each with the fleet that a plan of such a row is made for.

    Of a fleet: 1, 2, 4, 8 or 16 of each kind, and 3 or 6 where there are so many. Without one: every card of the catalogue, 1 to 8 times, Macs and other machines whose
    memory is their own once.
    """
    from vram.planner.bulk import Place  # noqa: PLC0415  (arrays, which `import vram` must not pay for)
    from vram.planner.bulk.file import COUNTS as POSSIBLE  # noqa: PLC0415  (the same)

    out = []
    if fleet is None:
        from vram.hardware.catalogue import catalogue  # noqa: PLC0415  (reads the catalogue)

        for gpu in catalogue().all_gpus():
            out += [(Place(gpu=gpu, count=n), Fleet.of([gpu] * n)) for n in ((1,) if gpu.unified_memory else COUNTS)]
        return out
    kinds: dict[Gpu, list[int]] = {}
    for i, member in enumerate(fleet.gpus):
        kinds.setdefault(member.gpu, []).append(i)
    for gpu, members in kinds.items():
        for n in (c for c in POSSIBLE if c in {1, 2, 4, 8, 16, len(members)} and c <= len(members)):
            used = max(fleet.gpus[i].used_bytes for i in members[:n])
            sub = Fleet.of([gpu] * n) if fleet.origin is Origin.NAMED else fleet.only(members[:n])
            out.append((Place(gpu=gpu, count=n, used_bytes=used), sub))
    return out


def _rates(ask: Ask) -> "Rates":
    """The rate that counts, for rows of a table."""

    def rates(table: "Table", rows: "NDArray[np.intp]") -> "NDArray[np.float64]":
        found = table.speed(rows)
        if ask.reads:
            return found.prefill_tokens_per_second
        return found.decode_tokens_per_second if ask.concurrency == 1 else 1 / found.tpot_seconds

    return rates


def _visible(whole: Fleet, sub: Fleet) -> str:
    """What hides the other cards of this machine; empty where the first ones are meant, which a plan takes by itself."""
    names = [m.identifier for m in sub.gpus]
    at = [i for i, m in enumerate(whole.gpus) if m.identifier in names]
    if at == list(range(len(at))):
        return ""
    variable = "HIP_VISIBLE_DEVICES" if sub.gpus[0].gpu.vendor.upper() == "AMD" else "CUDA_VISIBLE_DEVICES"
    return f"{variable}={','.join(str(i) for i in at)} "


def _prices(price_usd: float | None, prices: Mapping[str, Price] | None) -> "Callable[[Gpu], Asked | None]":
    """What a card costs an hour: as the caller states it, else the user's own file, else the list."""
    from vram.costs.rent import rent  # noqa: PLC0415  (only choices and costs need prices)
    from vram.planner.choosing.helpers import Asked  # noqa: PLC0415  (arrays, which `import vram` must not pay for)
    from vram.pricing import price_book, user_prices  # noqa: PLC0415  (files only when prices are asked for)

    book, own = price_book(), {**user_prices().by_gpu, **(prices or {})}

    def price(gpu: "Gpu") -> "Asked | None":
        paid = rent([gpu.name], book, own=own, price_usd=price_usd)
        hour = paid.usd_per_hour
        return None if hour is None else Asked(usd_per_hour=hour, told=paid.told[0])

    return price
