"""Dollars: sums are whole billionths (nanodollars), so that no cent drifts; estimates are floats. Knows no other currency."""

import math
from typing import Final

from vram.errors import UsageError, printable

NANO: Final = 10**9
"""Nanodollars in a dollar. A short request costs some 30 millionths, so millionths would round it by percents."""

MOST_USD_PER_GPU_HOUR: Final = 100.0
"""Above this nobody rents: in 2026 the dearest card of any list is some $14 an hour."""
MOST_USD: Final = 1e9


def nanodollars(usd: float) -> int:
    """Dollars in whole nanodollars; exact for amounts of at most nine decimals below a million dollars, whose products stay below 2^50."""
    return round(usd * NANO)


def check_usd(name: str, usd: object, most: float, *, least: float = 0.0) -> float:
    """`usd` if it is an amount from `least` to `most`.

    Raises:
        UsageError: no number, not-a-number, infinite, negative, or beyond what such a thing ever cost.
    """
    if isinstance(usd, bool) or not isinstance(usd, (int, float)) or not least <= usd <= most:
        raise UsageError(f"{name} is {printable(str(usd), 60)}", hint=f"an amount in dollars from {least:g} to {most:,.0f} is possible")
    return float(usd)


def parse_usd(text: str, name: str, most: float) -> float:
    """Dollars from `"2.5"` or `"$2.50"`.

    Raises:
        UsageError: the text is no amount, or it is out of range.
    """
    bare = text.strip().removeprefix("$").strip()
    try:
        value = float(bare) if len(bare) <= 40 and "_" not in bare else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise UsageError(f"{name} is {printable(text, 60)!r}, which is no amount", hint="write dollars, as 2.50 or $2.50")
    return check_usd(name, value, most)


def show_usd(usd: float) -> str:
    """Dollars for people: cents from a dollar on, three digits below."""
    if usd >= 1000:
        return f"${usd:,.0f}"
    if usd >= 1 or usd == 0:
        return f"${usd:,.2f}"
    digits = max(2, 2 - math.floor(math.log10(usd)))
    return f"${usd:.{min(digits, 12)}f}"
