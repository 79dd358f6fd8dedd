"""All prices that are known here, and which one is taken when nobody says. Knows documents, not where they lie."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from vram.costs.price import Price
from vram.errors import UsageError, printable

_FIELDS: Final = frozenset(f.name for f in fields(Price))
_NEEDED: Final = ("gpu", "usd_per_gpu_hour", "provider", "kind", "as_of", "source")
MOST_PRICES: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """The prices asked for one GPU.

    Attributes:
        taken: the one that is reckoned with: the lower median, so that neither a bargain nor a rip-off decides.
        low: the lowest of all considered.
        high: the highest.
        count: how many were considered.
    """

    taken: Price
    low: Price
    high: Price
    count: int

    @property
    def told(self) -> str:
        """One line: what is taken, and out of what."""
        if self.count == 1:
            return self.taken.told
        return f"{self.taken.told}; the median of {self.count} offers from ${self.low.usd_per_gpu_hour:g} to ${self.high.usd_per_gpu_hour:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Prices by GPU; the later ones of a provider replace its earlier ones (`over`)."""

    prices: tuple[Price, ...]

    def of(self, gpu: str, *, provider: str | None = None, kind: str | None = None) -> tuple[Price, ...]:
        """The prices of a GPU, the cheapest first; of one provider or kind where asked."""
        wanted = None if provider is None else _key(provider)
        found = (p for p in self.prices if p.gpu == gpu and (kind is None or p.kind == kind) and (wanted is None or _key(p.provider) == wanted))
        return tuple(sorted(found, key=lambda p: (p.usd_per_gpu_hour, p.provider)))

    def offers(self, gpu: str, *, provider: str | None = None, kind: str = "on-demand") -> Offers | None:
        """What an hour of `gpu` is taken to cost; None where no price is known: nothing stands in for it."""
        found = self.of(gpu, provider=provider, kind=kind)
        if not found:
            return None
        return Offers(taken=found[(len(found) - 1) // 2], low=found[0], high=found[-1], count=len(found))

    @property
    def providers(self) -> tuple[str, ...]:
        """Everybody who asks a price."""
        return tuple(sorted({p.provider for p in self.prices}))

    def check_provider(self, name: str) -> None:
        """Refuse a provider of whom no price is known.

        Raises:
            UsageError: with the nearest name.
        """
        names = {_key(p): p for p in self.providers}
        if _key(name) not in names:
            from difflib import get_close_matches  # noqa: PLC0415  (only a slip of the fingers pays for it)

            near = get_close_matches(_key(name), names, n=1)
            hint = f"did you mean {names[near[0]]!r}?" if near else f"known: {', '.join(self.providers)}"
            raise UsageError(f"no prices of a provider {printable(name, 60)!r}", hint=hint)

    def over(self, other: "PriceBook") -> "PriceBook":
        """This book laid over `other`: whose prices it holds, of them the other's are dropped."""
        mine = {_key(p.provider) for p in self.prices}
        return PriceBook(prices=(*self.prices, *(p for p in other.prices if _key(p.provider) not in mine)))


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def read_book(document: object, where: str) -> PriceBook:
    """The book that a document `{"sources": {key: words}, "rental": [price …]}` states; a price's source is a key of `sources` or words.

    Raises:
        UsageError: something is missing, unknown or makes no sense; the place is named.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("rental"), Sequence) or isinstance(document["rental"], str):
        raise UsageError(f"{where} holds no prices", hint='it needs {"rental": [{"gpu": …, "usd_per_gpu_hour": …}]}; vram prices refresh writes it anew')
    rows = document["rental"]
    if len(rows) > MOST_PRICES:
        raise UsageError(f"{where} holds {len(rows):,} prices", hint=f"at most {MOST_PRICES:,} are read")
    sources = document.get("sources", {})
    return PriceBook(prices=tuple(_price(row, sources if isinstance(sources, Mapping) else {}, f"{where}: rental[{i}]") for i, row in enumerate(rows)))


def _price(row: Any, sources: Mapping[str, Any], where: str) -> Price:
    if not isinstance(row, Mapping) or not all(isinstance(k, str) for k in row):
        raise UsageError(f"{where} is no price", hint="vram prices refresh writes the file anew")
    missing, unknown = [n for n in _NEEDED if n not in row], [n for n in row if n not in _FIELDS]
    if missing or unknown:
        raise UsageError(f"{where}: {f'{missing[0]} is missing' if missing else f'{unknown[0]!r} is unknown'}", hint=f"a price has {', '.join(_NEEDED)}")
    for name, value in row.items():
        if name != "usd_per_gpu_hour" and not isinstance(value, str):
            raise UsageError(f"{where}: {name} is {printable(repr(value), 60)}", hint="text is needed")
    try:
        told: dict[str, Any] = {n: printable(v, 400) if isinstance(v, str) else v for n, v in row.items()}
        return Price(**{**told, "source": printable(str(sources.get(row["source"], row["source"])), 400)})
    except UsageError as e:
        raise UsageError(f"{where}: {e.message}", hint=e.hint) from None


def book_document(prices: Iterable[Price]) -> dict[str, Any]:
    """Prices as the document that `read_book` reads."""
    return {"rental": [{f.name: getattr(p, f.name) for f in fields(Price)} for p in prices]}
