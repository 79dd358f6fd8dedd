"""What an hour of a card that one owns costs: what it loses in value, and what it draws. Knows no rent, no staff and no building.

    $/hour = (purchase - resale) / (lifetime in hours x utilisation) + watts / 1000 x $ per kWh

Utilisation is the share of the lifetime's hours in which the card is switched on for this; an hour that is not worked is paid by those that
are. How busy it is in such an hour is the load, and stands apart: idle bytes are shown, not hidden in the price.
"""

import math
import re
from dataclasses import dataclass
from typing import Final

from vram.costs.money import MOST_USD, check_usd, show_usd
from vram.costs.price import Price
from vram.errors import UsageError, printable

HOURS_PER_YEAR: Final = 8766.0
"""365.25 days."""
DEFAULT_LIFETIME_YEARS: Final = 3.0
MOST_WATTS: Final = 100_000.0
_SPAN: Final = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*(y|years?|mo|months?|d|days?|h|hours?)?\s*", re.ASCII | re.IGNORECASE)
_IN_YEARS: Final = {"y": 1.0, "m": 1 / 12, "d": 1 / 365.25, "h": 1 / HOURS_PER_YEAR}


def parse_lifetime(text: str) -> float:
    """Years from `"3y"`, `"18mo"`, `"900d"`, `"20000h"`; a bare number is years.

    Raises:
        UsageError: no such span, or not above 0 and at most 50 years.
    """
    match = _SPAN.fullmatch(text)
    years = float(match[1]) * _IN_YEARS[(match[2] or "y")[0].lower()] if match else math.nan
    if not 0 < years <= 50:
        raise UsageError(f"{printable(text, 40)!r} is no lifetime of a card", hint="write 3y, 18mo, 900d or 20000h, at most 50y")
    return years


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedCard:
    """One card that its user owns.

    Attributes:
        purchase_usd: what it cost.
        lifetime_years: how long it serves.
        resale_usd: what it brings at the end.
        utilisation: share of the lifetime's hours in which it is switched on for this, above 0 and up to 1.
        watts: what it draws when it works, with what of the machine around it one wants to count.
        usd_per_kwh: the price of electricity.

    Raises:
        UsageError: an amount that makes no sense.
    """

    purchase_usd: float
    lifetime_years: float = DEFAULT_LIFETIME_YEARS
    resale_usd: float = 0.0
    utilisation: float = 1.0
    watts: float = 0.0
    usd_per_kwh: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no card is."""
        check_usd("the purchase price", self.purchase_usd, MOST_USD)
        check_usd("the resale value", self.resale_usd, self.purchase_usd)
        check_usd("the price of a kWh", self.usd_per_kwh, 100.0)
        for name, value, low, high in (
            ("the lifetime in years", self.lifetime_years, 1 / HOURS_PER_YEAR, 50),
            ("the utilisation", self.utilisation, 0.001, 1),
            ("the draw in watts", self.watts, 0, MOST_WATTS),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise UsageError(f"{name} is {printable(str(value), 60)}", hint=f"{low:.4g} to {high:,} is possible")

    @property
    def capital_usd_per_hour(self) -> float:
        """What it loses in value, by the hour worked."""
        return (self.purchase_usd - self.resale_usd) / (self.lifetime_years * HOURS_PER_YEAR * self.utilisation)

    @property
    def power_usd_per_hour(self) -> float:
        """What it draws."""
        return self.watts / 1000 * self.usd_per_kwh

    @property
    def usd_per_hour(self) -> float:
        """Both together."""
        return self.capital_usd_per_hour + self.power_usd_per_hour

    def price(self, gpu: str) -> Price:
        """The hour of this card as a price, with its reckoning as the source."""
        resale = f" less {show_usd(self.resale_usd)}" if self.resale_usd else ""
        worked = f" at {self.utilisation:.0%}" if self.utilisation < 1 else ""
        power = f" + {self.watts:,.0f} W at {show_usd(self.usd_per_kwh)}/kWh" if self.watts and self.usd_per_kwh else ", power not counted"
        source = f"owned: {show_usd(self.purchase_usd)}{resale} over {self.lifetime_years:g} years{worked}{power}"
        return Price(gpu=gpu, usd_per_gpu_hour=self.usd_per_hour, provider="yourself", kind="owned", as_of="", source=source)
