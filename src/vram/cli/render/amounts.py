"""Seconds and shares as a person reads them, and the marks of axes; bytes and counts are `vram.units`', money `vram.costs.money`'s."""

from vram.costs.money import show_usd


def seconds(value: float) -> str:
    """A span of time in the unit that keeps it short: 18.4 ms, 2.5 s, 3 min 20 s, 4 h 05 min, 2 d 3 h."""
    size = abs(value)
    if size < 0.9995:
        return f"{value * 1000:.3g} ms" if value else "0 s"
    if size < 99.95:
        return f"{value:.3g} s"
    whole = round(value)
    sign, whole = ("-", -whole) if whole < 0 else ("", whole)
    if whole < 3600:
        return f"{sign}{whole // 60} min" + (f" {whole % 60:02d} s" if whole % 60 else "")
    if whole < 2 * 86400:
        minutes = round(whole / 60)
        return f"{sign}{minutes // 60} h" + (f" {minutes % 60:02d} min" if minutes % 60 else "")
    hours = round(whole / 3600)
    return f"{sign}{hours // 24} d" + (f" {hours % 24} h" if hours % 24 else "")


def dollars(value: float) -> str:
    """US dollars as a mark of an axis: no cents where there are none."""
    return f"${value:,.0f}" if value == int(value) else show_usd(value)


def share(value: float) -> str:
    """A share of one as a percentage, with as many digits as tell it from 0 and from 100 %."""
    percent = value * 100
    if percent in {0, 100} or 10 <= abs(percent) < 99.5:
        return f"{percent:.0f}%"
    return f"{percent:.2g}%" if abs(percent) < 10 else f"{percent:.3g}%" if abs(percent) < 99.995 else f"{percent:.0f}%"


def plain(value: float) -> str:
    """A bare number of an axis: 0, 0.25, 12, 4,000."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"
