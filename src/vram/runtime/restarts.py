"""When an engine that died is started again, and when no more. Pure: time is given."""

from collections import deque
from typing import Final

FIRST_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 30.0
WINDOW_SECONDS: Final = 600.0
MOST_DEATHS: Final = 5
"""More than these within the window, and something is wrong that no restart mends."""
LIVED_SECONDS: Final = 300.0
"""Who lived so long begins with the shortest wait again."""


class Restarts:
    """The deaths of one engine, and what follows from them."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()
        self._wait = FIRST_SECONDS

    def died(self, now: float, lived_seconds: float) -> float | None:
        """It died. Returns how long to wait before it is started again; None: it is a crash loop, leave it out."""
        if lived_seconds >= LIVED_SECONDS:
            self._deaths.clear()
            self._wait = FIRST_SECONDS
        self._deaths.append(now)
        while self._deaths[0] < now - WINDOW_SECONDS:
            self._deaths.popleft()
        if len(self._deaths) > MOST_DEATHS:
            return None
        wait, self._wait = self._wait, min(self._wait * 2, LONGEST_SECONDS)
        return wait

    @property
    def deaths(self) -> int:
        """How many lately."""
        return len(self._deaths)
