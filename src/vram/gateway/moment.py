"""A moment as one types it: `month`, `day`, `24h`, `7d`, a date, a date with its time, `all`."""

import re
from datetime import UTC, datetime
from typing import Final

from vram.errors import UsageError

_AGO: Final = re.compile(r"([0-9]{1,6})(min|h|d|w)")
_SECONDS: Final = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def moment(text: str, now: float, option: str) -> float:
    """Seconds since 1970 of a moment; dates are UTC where they say nothing else.

    Args:
        text: as it was typed.
        now: what is now, in seconds since 1970.
        option: which option it was given to, for the error.

    Raises:
        UsageError: it is none.
    """
    word = text.strip()
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if word == "all":
        return 0.0
    if word == "day":
        return today.timestamp()
    if word == "month":
        return today.replace(day=1).timestamp()
    if ago := _AGO.fullmatch(word):
        return max(now - int(ago[1]) * _SECONDS[ago[2]], 0.0)
    try:
        found = datetime.fromisoformat(word)
        return max((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp(), 0.0)
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {text!r} is no moment", hint="write month, day, 24h, 7d, 2026-11-01, 2026-11-01T12:00 or all") from None
