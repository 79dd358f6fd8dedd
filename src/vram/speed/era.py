"""How old a build of llama.cpp is. It knows build numbers and days; what age costs is the calibration's."""

import re
from itertools import pairwise
from typing import Final

NEWEST: Final = 2026.8
"""The year that the constants are for, with its share that had gone by: what is newer counts as new."""
# Builds and when they were made, as logs and rows tell; others lie between.
_BUILDS: Final = (
    (1382, 2023.79),
    (2416, 2024.20),
    (3215, 2024.48),
    (4327, 2024.95),
    (5163, 2025.31),
    (6077, 2025.59),
    (7361, 2025.94),
    (8038, 2026.12),
    (9464, 2026.42),
    (11006, 2026.72),
    (11434, NEWEST),
)


def build_age(version: str) -> float:
    """Years between a build (`b4327`, `4327`) and the builds that the constants are for; 0 where no build is named."""
    found = re.fullmatch(r"b?(\d{3,6})", version)
    if not found:
        return 0.0
    number = int(found[1])
    for (low, then), (high, later) in pairwise(_BUILDS):
        if number <= high:
            return max(0.0, NEWEST - then - (later - then) * max(0, number - low) / (high - low))
    return 0.0


def day_age(date: str) -> float:
    """The same of a day (`2024-12-14`), 0 where none is told."""
    if not date:
        return 0.0
    year, month, day = map(int, date.split("-"))
    return max(0.0, NEWEST - (year + (month - 1) / 12 + (day - 1) / 365))
