"""Bytes for people: GiB and GB spelled out and never mixed. Inside the program a size is always whole bytes."""

import re

from vram.errors import UsageError

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
KB, MB, GB, TB = 10**3, 10**6, 10**9, 10**12

_FACTORS = {
    "": 1,
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "kb": KB,
    "mb": MB,
    "gb": GB,
    "tb": TB,
}
_SECONDS = {"ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
_COUNT_FACTORS = {"": 1, "k": 1024, "m": 1024 * 1024}
# At most 18 digits before the point: anything longer is no size of anything.
_SIZE = re.compile(r"\s*(\d[\d_]{0,17}(?:\.\d{1,9})?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)


def gib(size_bytes: float) -> str:
    """`size_bytes` as a person reads it: binary units, two decimals from one GiB on."""
    if abs(size_bytes) >= 1024 * GIB:
        return f"{size_bytes / TIB:,.2f} TiB"
    if abs(size_bytes) >= GIB / 10:
        return f"{size_bytes / GIB:,.2f} GiB"
    if abs(size_bytes) >= MIB:
        return f"{size_bytes / MIB:,.1f} MiB"
    if abs(size_bytes) >= KIB:
        return f"{size_bytes / KIB:,.1f} KiB"
    return f"{size_bytes:,.0f} B"


def count(number: float) -> str:
    """A large count (parameters, tokens) with three digits: 8.03 B, 671 B, 135 M."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(number) >= limit:
            return f"{number / limit:.3g} {unit}" if number / limit < 1000 else f"{number / limit:.0f} {unit}"
    return f"{number:.0f}"


def parse_bytes(text: str) -> int:
    """Bytes from `"24GiB"`, `"80 GB"`, `"1073741824"`.

    Raises:
        UsageError: the text is no size, or its unit is unknown.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _FACTORS:
        msg = f"{text!r} is not a size"
        raise UsageError(msg, hint="write bytes or a unit: 17179869184, 16GiB (2^30), 16GB (10^9)")
    return int(float(match[1].replace("_", "")) * _FACTORS[match[2].lower()])


def parse_tokens(text: str) -> int:
    """Tokens from `"32768"`, `"32k"` (1k = 1024, as context lengths are named), `"1m"`.

    Raises:
        UsageError: the text is no number of tokens.
    """
    match = _SIZE.fullmatch(text.replace(",", "_"))
    if match is None or match[2].lower() not in _COUNT_FACTORS:
        msg = f"{text!r} is not a number of tokens"
        raise UsageError(msg, hint="write a whole number, or 32k for 32,768")
    tokens = int(float(match[1].replace("_", "")) * _COUNT_FACTORS[match[2].lower()])
    if tokens < 1:
        msg = f"{text!r}: at least one token is needed"
        raise UsageError(msg, hint="write a whole number of 1 or more, or 32k for 32,768")
    return tokens


def parse_seconds(text: str) -> float:
    """Seconds from `"2s"`, `"200ms"`, `"1.5"`, `"10min"`, `"1h"`.

    Raises:
        UsageError: the text is no span of time, or none above 0.
    """
    match = _SPAN.fullmatch(text)
    factor = _SECONDS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise UsageError(f"{text!r} is not a span of time", hint="write seconds or a unit: 2s, 200ms, 10min, 1h")
    seconds = float(match[1]) * factor
    if seconds <= 0:
        raise UsageError(f"{text!r}: more than no time is needed", hint="write a span above 0: 2s, 200ms")
    return seconds
