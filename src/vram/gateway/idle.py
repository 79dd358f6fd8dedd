"""What replicas cost while nobody used them: what each meter's books gained since they were last looked at, by hour.

A request pays for the bytes that it holds while it holds them; the rest of the rent is idle, and stands apart, so that what keys paid
and what was idle add up to the rent. A replica whose price or bytes are not known has no meter, and no idle money.
"""

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vram.costs.vram_time import Meter
    from vram.gateway.seats import Seat

IDLE_SECONDS: Final = 10.0
"""How often the meters are read: a killed process loses so much idle money at most."""

Rents = dict[tuple[int, str, str], tuple[int, int]]
"""(hour since 1970, pool, replica) to nanodollars of rent, and of that idle."""


class Idle:
    """What was read of each meter so far."""

    def __init__(self) -> None:
        self._read: dict[int, tuple[Meter, int, int]] = {}

    def since(self, seats: "Iterable[tuple[str, Seat]]", now: float) -> Rents:
        """Rent and idle money of the replicas (with the name of their pool) since the last call; `now` is the meters' clock."""
        hour = int(time.time()) // 3600
        found: Rents = {}
        read: dict[int, tuple[Meter, int, int]] = {}
        for pool, seat in seats:
            meter = seat.meter
            if meter is None:
                continue
            balance = meter.balance(int(now * 1e9))
            _, rent, idle = self._read.get(id(meter), (meter, 0, 0))
            read[id(meter)] = meter, balance.rent_nanodollars, balance.idle_nanodollars
            found[hour, pool, seat.replica.url] = balance.rent_nanodollars - rent, balance.idle_nanodollars - idle
        self._read = read
        return found
