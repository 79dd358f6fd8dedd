"""What a fleet costs an hour: a price for each of its kinds of GPU, and the sum, or the names of those without one."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vram.costs.book import PriceBook
from vram.costs.money import MOST_USD_PER_GPU_HOUR, NANO, check_usd, nanodollars
from vram.costs.price import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class RentLine:
    """So many GPUs of one kind at one price.

    Attributes:
        gpu: their name.
        count: how many.
        price: what one of them costs an hour; None where no price is known.
        why: how that price was chosen, or what is known instead; empty for the user's own.
    """

    gpu: str
    count: int
    price: Price | None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rent:
    """What a fleet costs an hour.

    Attributes:
        lines: kind by kind.
        whole: a price of the whole fleet an hour in nanodollars that the user states; the lines then hold none.
    """

    lines: tuple[RentLine, ...]
    whole: int | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the GPUs without a price."""
        return () if self.whole is not None else tuple(line.gpu for line in self.lines if line.price is None)

    @property
    def nanodollars_per_hour(self) -> int | None:
        """Exactly; None as long as one GPU has no price."""
        if self.whole is not None:
            return self.whole
        prices = [(line.count, line.price) for line in self.lines]
        return None if any(price is None for _, price in prices) else sum(n * p.nanodollars_per_gpu_hour for n, p in prices if p is not None)

    @property
    def usd_per_hour(self) -> float | None:
        """For people."""
        exact = self.nanodollars_per_hour
        return None if exact is None else exact / NANO

    @property
    def hint(self) -> str:
        """What to do about what is missing; empty when nothing is."""
        other = next((line.why for line in self.lines if line.price is None and line.why), "")
        return f"no price known for {', '.join(self.missing)}: give --price{f' ({other})' if other else ''}" if self.missing else ""

    @property
    def told(self) -> tuple[str, ...]:
        """A line for each price: how much, who, when, out of what."""
        if self.whole is not None:
            return ("the fleet's price as you state it",)
        return tuple(_told(line) for line in self.lines)


def rent(
    gpus: Iterable[str],
    book: PriceBook,
    *,
    own: Mapping[str, Price] | None = None,
    price_usd: float | None = None,
    fleet_usd: float | None = None,
    provider: str | None = None,
    kind: str = "on-demand",
) -> Rent:
    """What GPUs of those names cost an hour together.

    The user's word goes first: the fleet's price, then one for every GPU, then those by name, then the book.

    Args:
        gpus: a name per GPU, as the catalogue has them.
        book: prices that are known.
        own: prices of the user's by name.
        price_usd: dollars an hour for each GPU.
        fleet_usd: dollars an hour for all together.
        provider: take this provider's price only.
        kind: and this kind.

    Raises:
        UsageError: an amount that makes no sense, or a provider that nobody knows.
    """
    counts = Counter(gpus)
    if fleet_usd is not None:
        most = MOST_USD_PER_GPU_HOUR * sum(counts.values())
        whole = nanodollars(check_usd("the price of the fleet", fleet_usd, most))
        return Rent(lines=tuple(RentLine(gpu=g, count=n, price=None) for g, n in counts.items()), whole=whole)
    if provider is not None and price_usd is None:
        book.check_provider(provider)
    return Rent(lines=tuple(_line(g, n, book, own or {}, price_usd, provider, kind) for g, n in counts.items()))


def _told(line: RentLine) -> str:
    if line.price is None:
        return f"{line.gpu}: no price known: give --price{f'; {line.why}' if line.why else ''}"
    return f"{line.gpu}: {line.why or line.price.told}"


def _line(gpu: str, count: int, book: PriceBook, own: Mapping[str, Price], price_usd: float | None, provider: str | None, kind: str) -> RentLine:
    if price_usd is not None:
        stated = Price(gpu=gpu, usd_per_gpu_hour=price_usd, provider="yourself", kind="stated", as_of="", source="as you state it")
        return RentLine(gpu=gpu, count=count, price=stated)
    if gpu in own:
        return RentLine(gpu=gpu, count=count, price=own[gpu])
    offers = book.offers(gpu, provider=provider, kind=kind)
    if offers is not None:
        return RentLine(gpu=gpu, count=count, price=offers.taken, why=offers.told)
    kinds = sorted({p.kind for p in book.of(gpu, provider=provider)})
    return RentLine(gpu=gpu, count=count, price=None, why=f"known are only prices of the kind {' and '.join(kinds)}: --kind {kinds[0]}" if kinds else "")
