"""Prices of this machine's user, and what models cost with them: the built-in list, what was fetched since, and the user's own file.

Precedence: what the caller states, the user's own file, what `vram prices refresh` fetched, the built-in list.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vram.costs.book import PriceBook, read_book
from vram.costs.cost import Cost
from vram.costs.money import MOST_USD, check_usd
from vram.costs.price import Price
from vram.costs.rent import Rent, rent
from vram.errors import UsageError, VramError, printable
from vram.hardware.fleet import Fleet, Origin
from vram.model.model import Model
from vram.planner.plan import Plan, Verdict

if TYPE_CHECKING:
    from vram.costs.owned import OwnedCard

REFRESHED: Final = ("nebius", "lambda", "verda", "hyperstack", "runpod", "primeintellect")
"""Lists that `vram prices refresh` reads when none is named: those whose rows price a whole machine with its GPUs."""
NAMES: Final = {"lambda": "Lambda", "runpod": "RunPod", "primeintellect": "Prime Intellect", "aws": "AWS", "oci": "OCI", "do": "DigitalOcean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What one card costs to buy, with its day and source."""

    gpu: str
    usd: float
    as_of: str
    source: str
    dated: str = "stated"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPrices:
    """What the user's own file says.

    Attributes:
        prices: a price by the GPU's name.
        owned: cards that the user owns, by name.
    """

    prices: Mapping[str, Price]
    owned: "Mapping[str, OwnedCard]"

    @property
    def by_gpu(self) -> dict[str, Price]:
        """One price a GPU: the stated one before the reckoned one."""
        return {**{gpu: card.price(gpu) for gpu, card in self.owned.items()}, **self.prices}


def price_book() -> PriceBook:
    """All prices known here: what was fetched, laid over the built-in list.

    Raises:
        PriceListError: the fetched file can't be read.
        UsageError: it holds what is no price.
    """
    from vram.sources.price_lists import built_in_prices, refreshed_prices  # noqa: PLC0415  (files only when prices are asked for)

    book = read_book(built_in_prices(), "catalog/prices.json")
    found = refreshed_prices()
    return book if found is None else read_book(found[0], str(found[1])).over(book)


def purchases() -> tuple[Purchase, ...]:
    """What cards cost to buy, as far as somebody can be cited."""
    from vram.sources.price_lists import built_in_prices  # noqa: PLC0415  (the same)

    return tuple(Purchase(**row) for row in built_in_prices()["purchase"])


def purchase_usd(gpu: str) -> float:
    """What one card of that full name cost when it came out.

    Raises:
        UsageError: nobody is cited for it.
    """
    found = [p.usd for p in purchases() if p.gpu == gpu]
    if not found:
        raise UsageError(f"no purchase price is known of {gpu}", hint="give the price that you paid: --own 1500")
    return found[0]


def user_prices() -> UserPrices:
    """What `~/.config/vram/prices.toml` says; nothing where there is no such file.

    Raises:
        PriceListError: it can't be read.
        UsageError: it says what makes no sense; the place is named.
    """
    from vram.sources.price_lists import own_prices  # noqa: PLC0415  (the same)

    found = own_prices()
    if found is None:
        return UserPrices(prices={}, owned={})
    document, path = found
    _known(document, {"usd_per_kwh", "price", "owned"}, str(path))
    usd_per_kwh = document.get("usd_per_kwh", 0.0)
    prices: dict[str, Price] = {}
    owned: dict[str, OwnedCard] = {}
    for i, row in enumerate(_tables(document, "price", str(path))):
        with _named(where := f"{path}: price {i + 1}"):
            _known(row, {"gpu", "usd_per_gpu_hour", "note"}, where)
            gpu = _gpu(row, where)
            prices[gpu] = stated_price(gpu, row.get("usd_per_gpu_hour"), f"your prices.toml{_note(row)}")
    for i, row in enumerate(_tables(document, "owned", str(path))):
        with _named(where := f"{path}: owned {i + 1}"):
            _known(row, {"gpu", "purchase_usd", "lifetime", "resale_usd", "utilisation", "watts", "usd_per_kwh"}, where)
            gpu = _gpu(row, where)
            owned[gpu] = owned_card(gpu, **{"usd_per_kwh": usd_per_kwh, **{k: v for k, v in row.items() if k != "gpu"}})
    return UserPrices(prices=prices, owned=owned)


def stated_price(gpu: str, usd: Any, source: str = "as you state it") -> Price:
    """A price that the user states.

    Raises:
        UsageError: no amount that makes sense.
    """
    return Price(gpu=gpu, usd_per_gpu_hour=usd, provider="yourself", kind="stated", as_of="", source=source)


def owned_card(
    gpu: str,
    *,
    purchase_usd: Any = None,
    lifetime: Any = None,
    resale_usd: Any = 0.0,
    utilisation: Any = 1.0,
    watts: Any = None,
    usd_per_kwh: Any = 0.0,
) -> "OwnedCard":
    """A card of that full name that the user owns; its draw is the catalogue's where none is given and electricity costs something.

    Raises:
        UsageError: an amount that makes no sense, or a draw that nobody tells.
    """
    from vram.costs.owned import DEFAULT_LIFETIME_YEARS, OwnedCard, parse_lifetime  # noqa: PLC0415  (most users rent)

    if watts is None:
        watts = _tdp_watts(gpu) if usd_per_kwh else 0.0
    if lifetime is None:
        years: Any = DEFAULT_LIFETIME_YEARS
    else:
        years = parse_lifetime(lifetime) if isinstance(lifetime, str) else lifetime
    return OwnedCard(
        purchase_usd=check_usd("the purchase price", purchase_usd, MOST_USD),
        lifetime_years=years,
        resale_usd=resale_usd,
        utilisation=utilisation,
        watts=watts,
        usd_per_kwh=usd_per_kwh,
    )


def gpu_name(text: str) -> str:
    """The catalogue's full name of the one card that `text` means.

    Raises:
        UnknownGpuError: there is none.
    """
    from vram.hardware.spelling import parse_gpu  # noqa: PLC0415  (reads the catalogue)

    return parse_gpu(text).gpu.name


def _tdp_watts(gpu: str) -> float:
    from vram.hardware.spelling import parse_gpu  # noqa: PLC0415  (the same)

    watts = parse_gpu(gpu).gpu.tdp_watts
    if watts is None:
        raise UsageError(f"what {gpu} draws is not known", hint="give --watts")
    return watts


def _known(table: Any, names: set[str], where: str) -> None:
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} is no table", hint="docs/what-a-token-costs.md shows one")
    for name in table:
        if name not in names:
            raise UsageError(f"{where}: {printable(str(name), 60)!r} is unknown", hint=f"known here: {', '.join(sorted(names))}")


def _tables(document: Mapping[str, Any], name: str, where: str) -> Sequence[Any]:
    found = document.get(name, [])
    if not isinstance(found, list):
        raise UsageError(f"{where}: {name} is no list of tables", hint=f"write [[{name}]] above each")
    return found


def _gpu(row: Mapping[str, Any], where: str) -> str:
    if not isinstance(row.get("gpu"), str):
        raise UsageError(f"{where} names no GPU", hint='write gpu = "RTX 4090"')
    return gpu_name(row["gpu"])


def _note(row: Mapping[str, Any]) -> str:
    return f": {printable(row['note'], 80)}" if isinstance(row.get("note"), str) else ""


@contextmanager
def _named(where: str) -> Iterator[None]:
    """What goes wrong within is said to be `where`."""
    try:
        yield
    except VramError as e:
        raise UsageError(e.message if e.message.startswith(where) else f"{where}: {e.message}", hint=e.hint) from None


def refresh_prices(providers: Sequence[str] = ()) -> tuple[tuple[Price, ...], tuple[str, ...], str]:
    """Fetch price lists and keep what they hold; lists that were fetched before and are not named stay.

    Args:
        providers: names of lists; `REFRESHED` when empty.

    Returns:
        The new prices, what a reader has to know, and where they were written.

    Raises:
        PriceListError: offline, a list that can't be fetched or read, or a file that can't be written. Nothing is changed then.
        UsageError: a list whose rows price GPUs apart from their machines.
    """
    from datetime import UTC, datetime  # noqa: PLC0415  (only here is it asked what day it is)

    from vram.costs.book import book_document  # noqa: PLC0415  (only here is anything written)
    from vram.costs.skypilot import parse  # noqa: PLC0415  (the same)
    from vram.settings import settings  # noqa: PLC0415  (the same)
    from vram.sources.price_lists import fetch_lists, keep_prices, refreshed_prices  # noqa: PLC0415  (the same)

    wanted = tuple(name.lower() for name in providers) or REFRESHED
    if "gcp" in wanted:
        raise UsageError("the list of gcp prices GPUs apart from the machines around them", hint="give --price for what you pay there")
    today = datetime.now(UTC).date().isoformat()
    new: list[Price] = []
    notes: list[str] = []
    for name, (url, data) in fetch_lists(wanted, settings()).items():
        shown = NAMES.get(name, name.capitalize())
        found = parse(data, shown, catalogue_name, as_of=today, source=url)
        new += found.prices
        notes.append(f"{shown}: {len(found.prices)} prices of {found.rows:,} rows")
        if found.unknown:
            names = ", ".join(printable(n, 40) for n in sorted(found.unknown)[:8])
            notes.append(f"{shown}: GPUs that the catalogue does not know: {names}{f' and {len(found.unknown) - 8} more' if len(found.unknown) > 8 else ''}")
        if found.odd:
            notes.append(f"{shown}: {found.odd:,} rows left out: no price, no machine, or no whole number of GPUs")
    before = refreshed_prices()
    book = PriceBook(prices=tuple(new))
    if before is not None:
        try:
            book = book.over(read_book(before[0], str(before[1])))
        except UsageError as e:
            notes.append(f"what was fetched before is dropped: {e.message}")
    return tuple(new), tuple(notes), str(keep_prices(book_document(book.prices)))


def catalogue_name(text: str, mib: int | None) -> str | None:
    """The catalogue's full name of a card as a price list calls it; None when it knows none of about that size."""
    from vram.hardware.spelling import find_entry  # noqa: PLC0415  (reads the catalogue)

    entry = find_entry(text, None if mib is None else mib * 2**20)
    if entry is None or (mib is not None and not 0.8 * mib <= entry.memory_gb * 1024 <= 1.25 * mib):
        return None
    return entry.name


def plan_cost(plan: Plan) -> Cost:
    """What the GPUs that a plan uses cost, at full load of its own concurrency, with requests that fill its context (an eighth is answer).

    Raises:
        UsageError: a price file of the user's says what makes no sense.
        PriceListError: it can't be read.
    """
    from vram.planner.costing import cost_of  # noqa: PLC0415  (prices alone need none of it)

    context = plan.workload.context_tokens
    output = max(1, min(1024, context // 8))
    return cost_of(plan, _used(plan), plan_rent(plan), prompt_tokens=max(1, context - output), output_tokens=output)


def plan_rent(plan: Plan) -> Rent:
    """What the GPUs that a plan uses cost an hour; those of this machine by the user's own word only, because they may be owned.

    Raises:
        UsageError: a price file of the user's says what makes no sense.
        PriceListError: it can't be read.
    """
    book = PriceBook(prices=()) if plan.fleet.origin is Origin.DETECTED else price_book()
    return rent([member.gpu.name for member in _used(plan).gpus], book, own=user_prices().by_gpu)


def _used(plan: Plan) -> Fleet:
    return plan.fleet.only(range(plan.placement.gpus)) if plan.placement.gpus < len(plan.fleet) else plan.fleet


def cost(
    model: str | Model,
    *,
    gpu: str | Fleet | None = None,
    prompt_tokens: int = 1024,
    output_tokens: int = 256,
    load: float = 1.0,
    context_tokens: int | None = None,
    concurrency: int | None = None,
    quant: str | None = None,
    kv_dtype: str | None = None,
    engine: str = "generic",
    tp: int | None = None,
    pp: int | None = None,
    price_usd: float | None = None,
    fleet_usd: float | None = None,
    prices: Mapping[str, Price] | None = None,
    provider: str | None = None,
    kind: str = "on-demand",
    revision: str | None = None,
    offline: bool | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Cost:
    """What a model costs on a fleet: by the hour, by the token, and by the bytes that tokens hold.

    The fleet holds as many replicas as go on it, each on the number of GPUs with which the fleet serves most tokens.

    Args:
        model: a path, hub id or catalogue name, or a model that was loaded before.
        gpu: all GPUs that are paid, by name or as a fleet; this machine's when None.
        prompt_tokens: tokens of a request's prompt.
        output_tokens: tokens of its answer.
        load: share of the time in which the replicas are busy, above 0 and up to 1.
        context_tokens: tokens of a sequence to leave room for; prompt and answer together when None.
        concurrency: sequences of each replica; as many as fit, at most 256, when None.
        quant: plan as if the weights were stored so.
        kv_dtype: type of the KV cache.
        engine: whose memory rules and speed to use, `name` or `name@version`.
        tp: tensor-parallel ranks of a replica.
        pp: pipeline stages of a replica.
        price_usd: dollars an hour for each GPU.
        fleet_usd: dollars an hour for all of them.
        prices: prices by the GPU's full name, before the user's file and the list.
        provider: take this provider's prices.
        kind: and this kind: on-demand, spot, reserved.
        revision: branch, tag or commit of a hub repository.
        offline: touch no network.
        progress: called with files read, files in all, and bytes read so far.

    Returns:
        The cost. Where a GPU has no price, its dollars are None and `rent.hint` says what to do; where the model does not fit or its speed
        is not known, its tokens are None and `why` says why. Formulas: docs/what-a-token-costs.md.

    Raises:
        UsageError: a number, name or price that makes no sense.
        ModelError: the model cannot be read.
        HardwareNotFoundError: no GPU was named and none found.
        PriceListError: a price file of the user's can't be read.
    """
    from vram.api import detect, load_model, parse_gpus, plan  # noqa: PLC0415  (prices alone need none of it)
    from vram.planner.costing import best, check_load, cost_of, replica_sizes, with_concurrency  # noqa: PLC0415  (the same)

    check_load(load, prompt_tokens, output_tokens)
    fleet = parse_gpus(gpu) if isinstance(gpu, str) else gpu or detect()
    own = {**user_prices().by_gpu, **(prices or {})}
    names = [g.gpu.name for g in fleet.gpus]
    paid = rent(names, price_book(), own=own, price_usd=price_usd, fleet_usd=fleet_usd, provider=provider, kind=kind)
    found = load_model(model, revision=revision, offline=offline, progress=progress) if isinstance(model, str) else model
    context = context_tokens or prompt_tokens + output_tokens

    def made(size: int, sequences: int) -> Plan:
        return plan(
            found,
            gpu=fleet.only(range(size)) if size < len(fleet) else fleet,
            context_tokens=context,
            concurrency=sequences,
            quant=quant,
            kv_dtype=kv_dtype,
            engine=engine,
            tp=tp,
            pp=pp,
        )

    costs = []
    for size in replica_sizes(fleet, tp, pp):
        one = made(size, concurrency or 1)
        sequences = with_concurrency(one.limits.max_concurrency, concurrency)
        full = one if sequences == one.workload.concurrency else made(size, sequences)
        while full.verdict is Verdict.DOES_NOT_FIT and concurrency is None and sequences > 1:
            sequences //= 2
            full = made(size, sequences)
        if full.placement.gpus == size:
            costs.append(cost_of(full, fleet, paid, prompt_tokens=prompt_tokens, output_tokens=output_tokens, load=load))
    if not costs:
        raise UsageError(f"no split of {found.name} takes {fleet.name}", hint="give --tp or --pp, or another number of GPUs")
    return best(costs)
