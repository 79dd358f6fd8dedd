"""What choosing needs and cannot know by itself: how a row is planned, how fast it runs, what its cards cost, what to type to open it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vram.planner.choosing.quality import Quality
from vram.speed.estimate import Speed

if TYPE_CHECKING:
    from collections.abc import Callable

    from vram.hardware.gpu import Gpu
    from vram.planner.bulk import Table
    from vram.planner.choosing.rank import Rates
    from vram.planner.choosing.shown import Shown
    from vram.planner.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A price of one card: dollars an hour, and whose price it is."""

    usd_per_hour: float
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Helpers:
    """What the arithmetic cannot know by itself.

    Attributes:
        plan: a row of the table, planned by the scalar planner as its command would.
        shown: the same row as it is shown.
        speed: how fast a row runs, or why that is not known.
        price: of a card; None where nobody asks one.
        rates: how fast rows of a table decode; None where only single plans can be asked.
        command: what to type to open a row.
        quality: facts about models and quantizations.
    """

    plan: "Callable[[Table, int], Plan]"
    shown: "Callable[[Table, int], Shown]"
    speed: "Callable[[Table, int], tuple[Speed | None, str]]"
    price: "Callable[[Gpu], Asked | None]"
    rates: "Rates | None"
    command: "Callable[[Table, int], str]"
    quality: Quality


def rate_of(speed: Speed | None, *, reads: bool = False) -> float | None:
    """Decode tokens a second of each sequence at the concurrency of a plan; of models that only read, tokens read a second."""
    if speed is None:
        return None
    if reads:
        return None if speed.prefill_tokens_per_second is None else speed.prefill_tokens_per_second.value
    return speed.decode_tokens_per_second.value if speed.concurrency == 1 else 1 / speed.tpot_seconds.value
