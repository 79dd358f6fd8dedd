"""The desk of one worker among several: each of its deeds is one visit to the ledger, and who waits hears of room that others freed."""

from typing import TYPE_CHECKING, Final

from vram.gateway.desk import Desk
from vram.gateway.prefix import PREFIX

if TYPE_CHECKING:
    import asyncio

    from vram.admission.line import Shares
    from vram.gateway.exchange import Exchange
    from vram.gateway.seats import Counter
    from vram.gateway.shared import SharedLedger

LOOK_SECONDS: Final = 0.002
"""How often a worker in whose lines somebody waits looks whether another freed room: one word is read."""


class SharedDesk(Desk):
    """Admission of one worker."""

    def __init__(
        self,
        ledger: "SharedLedger",
        counters: "dict[str, Counter]",
        shares: "Shares",
        *,
        queue_seconds: float = 60.0,
        queue_requests: int = 10_000,
        output_tokens: int | None = None,
        affinity: str = PREFIX,
    ) -> None:
        super().__init__(counters, shares, queue_seconds=queue_seconds, queue_requests=queue_requests, output_tokens=output_tokens, affinity=affinity)
        self.ledger = ledger
        self._freed = 0
        self._looks = False

    def come(self, x: "Exchange") -> None:
        """A request is here."""
        self.ledger.enter()
        try:
            super().come(x)
        finally:
            self.ledger.leave()
        if x.ticket is not None and x.ticket.lease is None:
            self._begin(x)

    def grow(self, x: "Exchange") -> None:
        """A stream made some more tokens."""
        self.ledger.enter()
        try:
            super().grow(x)
        finally:
            self.ledger.leave()

    def leave(self, x: "Exchange") -> None:
        """An exchange is over."""
        self.ledger.enter()
        try:
            super().leave(x)
        finally:
            self.ledger.leave()

    def has_elsewhere(self, x: "Exchange") -> bool:
        """Whether some other replica might take it."""
        self.ledger.enter()
        try:
            return super().has_elsewhere(x)
        finally:
            self.ledger.leave()

    def elsewhere(self, x: "Exchange") -> bool:
        """Send it to another replica, if there is one with room."""
        self.ledger.enter()
        try:
            found = super().elsewhere(x)
        finally:
            self.ledger.leave()
        self._begin(x)
        return found

    def tick(self, now: float) -> None:
        """About once a second."""
        self.ledger.enter()
        try:
            super().tick(now)
        finally:
            self.ledger.leave()
        for counter in self.counters.values():
            if len(counter.line):
                # Who came over from a desk of before has nobody here yet who looks for them.
                self._begin(next(iter(counter.line)).owner)
                return

    def _begin(self, x: "Exchange") -> None:
        if not self._looks:
            self._looks = True
            self._look(x.house.loop)

    def _look(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Ask the lines again whenever somebody freed room, as long as there is anybody in them."""
        freed = self.ledger.freed()
        if freed != self._freed:
            self._freed = freed
            self.ledger.enter()
            try:
                self._pump(self.counters.values(), loop.time())
            finally:
                self.ledger.leave()
        for counter in self.counters.values():
            if len(counter.line):
                loop.call_later(LOOK_SECONDS, self._look, loop)
                return
        self._looks = False
