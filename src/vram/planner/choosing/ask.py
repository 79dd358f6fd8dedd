"""What somebody asks of a choice: the need, the load, and the bounds that a row has to keep. Knows no model and no card."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vram.errors import UsageError
from vram.planner.choosing.quality import Need


class Order(StrEnum):
    """What choices are ranked by first."""

    QUALITY = "quality"
    SPEED = "speed"
    COST = "cost"


# Tokens of one sequence and sequences at once where nobody says: a conversation, a repository's worth of files, a long chain of
# thought, a page with pictures; embedding models read passages, many at a time.
LOADS: Final = {Need.CHAT: (8192, 1), Need.CODE: (32768, 1), Need.REASONING: (32768, 1), Need.VISION: (8192, 1), Need.EMBEDDING: (512, 32)}

PERMISSIVE: Final = frozenset({"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "unlicense"})
"""What `--licence permissive` stands for: licences that ask for no more than attribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question.

    Attributes:
        need: what the model is for; None where the model is named.
        context_tokens: tokens of one sequence, prompt and output together.
        concurrency: sequences held at the same time.
        min_tokens_per_second: least decode rate of each sequence at that concurrency; of embedding models, tokens read.
        budget_usd_per_hour: most that the GPUs used may cost.
        licences: the licences that will do, in lower case; none: any, known or not.
        order: what is ranked by first.
        limit: most choices.
        every: every row that fits, not the best one of each model.
        cards: cards are looked for: the best row of each kind of card, not of each model.
        most_lost: doublings that a quantization may lose at most; None: any.
        unmeasured: quantizations whose loss nobody cited has measured are let in, as if nothing were lost: one was named.
    """

    need: Need | None
    context_tokens: int
    concurrency: int
    min_tokens_per_second: float | None = None
    budget_usd_per_hour: float | None = None
    licences: frozenset[str] = frozenset()
    order: Order = Order.QUALITY
    limit: int = 5
    every: bool = False
    cards: bool = False
    most_lost: float | None = None
    unmeasured: bool = False

    @property
    def reads(self) -> bool:
        """Whether the rate that counts is of tokens read: embedding models write none."""
        return self.need is Need.EMBEDDING


def need_named(name: str) -> Need:
    """The need of that name.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    from difflib import get_close_matches  # noqa: PLC0415  (only a slip of the fingers pays for it)

    known = [n.value for n in Need]
    word = name.strip().lower()
    if word in known:
        return Need(word)
    near = get_close_matches(word, known, n=1)
    raise UsageError(f"no need is called {name!r}", hint=f"did you mean {near[0]}?" if near else f"needs: {', '.join(known)}")


def order_named(name: str) -> Order:
    """The order of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return Order(name.strip().lower())
    except ValueError:
        raise UsageError(f"choices cannot be sorted by {name!r}", hint=f"by {', '.join(o.value for o in Order)}") from None


def licences_named(text: str | None, known: Collection[str] = ()) -> frozenset[str]:
    """`"apache-2.0, mit"` or `"permissive"` as licences; nothing for nothing.

    Args:
        text: what was typed.
        known: licences that some model has; any will do when there are none.

    Raises:
        UsageError: a licence that no model has; the hint names the nearest.
    """
    words = {w.strip().lower() for w in (text or "").split(",") if w.strip()}
    for word in sorted(words - {"permissive", *known}) if known else ():
        from difflib import get_close_matches  # noqa: PLC0415  (only a slip of the fingers pays for it)

        near = get_close_matches(word, ["permissive", *sorted(known)], n=3)
        raise UsageError(
            f"no model of the catalogue has the licence {word!r}",
            hint=f"did you mean {' or '.join(near)}?" if near else f"licences: {', '.join(sorted(known))}",
        )
    return frozenset(words - {"permissive"}) | (PERMISSIVE if "permissive" in words else frozenset())
