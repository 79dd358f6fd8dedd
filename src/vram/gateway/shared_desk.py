"""The desk of one worker among several: each of its deeds is one visit to the ledger, and who waits hears of room that others freed."""

import random
from typing import TYPE_CHECKING, Final

from vram.gateway.desk import Desk
from vram.gateway.prefix import PREFIX
from vram.gateway.shared_books import SharedBooks
from vram.gateway.shared_health import add_outcomes, agree, tell_outcomes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from vram.admission.line import Shares
    from vram.admission.need import Need
    from vram.gateway.bench import Bench
    from vram.gateway.exchange import Exchange
    from vram.gateway.seats import Counter
    from vram.gateway.shared import SharedLedger

LOOK_SECONDS: Final = 0.002
"""How often a worker in whose lines somebody waits looks whether another freed room: one word is read. By chance a little sooner or later,
so that whose look comes first after an end is nobody's privilege."""


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
        self._looks = self._turn = self._told = False

    # --- deeds, each a visit

    def come(self, x: "Exchange") -> None:
        """A request is here."""
        self.ledger.enter()
        try:
            super().come(x)
            self._tell()
        finally:
            self.ledger.leave()
        if x.ticket is not None and x.ticket.lease is None:
            self._begin(x)

    def go(self, need: "Need", counter: "Counter", now: float) -> None:
        """A request goes, waits, or is refused."""
        x: Exchange = need.owner
        self.ledger.enter()
        try:
            super().go(need, counter, now)
            self._tell()
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
            self._tell()
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
            self._tell()
        finally:
            self.ledger.leave()
        self._begin(x)
        return found

    def tick(self, now: float) -> None:
        """About once a second."""
        self.ledger.enter()
        try:
            super().tick(now)
            self._tell()
        finally:
            self.ledger.leave()
        for counter in self.counters.values():
            if len(counter.line):
                # Who came over from a desk of before has nobody here yet who looks for them.
                self._begin(next(iter(counter.line)).owner)
                return

    def _judge(self, bench: "Bench", now: float) -> bool:
        """All workers' requests count; what another found out is known before, and what is found here is told at once."""
        due = bench.move_on(now)
        block, found = self.ledger.block, []
        for seat in bench.seats:
            sums = seat.sums(now)
            if isinstance(seat.books, SharedBooks):
                tell_outcomes(block, seat.books, sums)
                add_outcomes(block, seat.books, sums)
                agree(block, seat.books, seat.replica.health)
            found.append(sums)
        judged = due and bench.judge(found, now)
        if judged:
            for seat in bench.seats:
                if isinstance(seat.books, SharedBooks):
                    agree(block, seat.books, seat.replica.health)
        return judged

    # --- turns

    def _is_next(self, counter: "Counter") -> bool:
        return not len(counter.line) and not self._others_wait(counter)

    def _others_wait(self, counter: "Counter") -> bool:
        for route in (counter.route, *counter.route.others):
            for pool in route.pools:
                for books in pool.books:
                    if isinstance(books, SharedBooks) and books.others_wait:
                        return True
        return False

    def _pump(self, counters: "Iterable[Counter]", now: float) -> None:
        """Room that became free here is not ours alone where others wait for it: all look for it in their turns, whoever freed it."""
        super()._pump(counters if self._turn else [counter for counter in counters if len(counter.line) and not self._others_wait(counter)], now)

    def _tell(self) -> None:
        """Tell the others how many wait here for which replica."""
        waiting = False
        for counter in self.counters.values():
            if len(counter.line):
                waiting = True
                break
        if not waiting and not self._told:
            return
        self._told = waiting
        for books, counters in self._lines.items():
            if isinstance(books, SharedBooks):
                number = 0
                for counter in counters:
                    number += len(counter.line)
                books.tell_waiting(number)

    def _begin(self, x: "Exchange") -> None:
        if not self._looks:
            self._looks = True
            self._freed = -1
            loop = x.house.loop
            loop.call_later(_soon(), self._look, loop)

    def _look(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Our turn: ask the lines again when somebody freed room, as long as there is anybody in them."""
        freed = self.ledger.freed()
        if freed != self._freed:
            self._freed = freed
            self.ledger.enter()
            self._turn = True
            try:
                self._pump(self.counters.values(), loop.time())
                self._tell()
            finally:
                self._turn = False
                self.ledger.leave()
        for counter in self.counters.values():
            if len(counter.line):
                loop.call_later(_soon(), self._look, loop)
                return
        self._looks = False


def _soon() -> float:
    return LOOK_SECONDS * (0.5 + random.random())  # noqa: S311  (a turn, no secret)
