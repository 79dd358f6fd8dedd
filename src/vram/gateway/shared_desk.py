"""The desk of one worker among several: each of its deeds is one visit to the ledger, and who waits hears of room that others freed.

Lines are each worker's own; that they are asked in one order is done by telling. Each worker tells who comes first of its own, by priority
and by what its key used. A worker whose next one comes after another worker's first one waits until that one was asked: a moment, for
each asks whenever room was freed. So a key has one share of the room, at however many workers it waits. Within a key it is chance which worker's
request goes first.
"""

import logging
import random
import time
from typing import TYPE_CHECKING, Final

from vram.gateway.block import FIRST_KEY, FIRST_PRIORITY, FREED, LOOKED, LOOKED_AT, WAITS
from vram.gateway.desk import Desk
from vram.gateway.prefix import PREFIX
from vram.gateway.seats import Counter
from vram.gateway.shared_books import SharedBooks
from vram.gateway.shared_counter import SharedCounter
from vram.gateway.shared_health import add_outcomes, agree, others_answered, tell_outcomes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from vram.admission.line import Shares
    from vram.admission.need import Need
    from vram.gateway.bench import Bench
    from vram.gateway.exchange import Exchange
    from vram.gateway.seats import Seat
    from vram.gateway.shared import SharedLedger

LOOK_SECONDS: Final = 0.002
"""How often a worker in whose lines somebody waits looks whether another freed room: one word is read. By chance a little sooner or later,
so that whose look comes first after an end is nobody's privilege."""
AWAITED_NS: Final = 25_000_000
"""A worker that did not look for so long is busy, or stuck: nobody waits for it."""


class SharedDesk(Desk):
    """Admission of one worker."""

    def __init__(
        self,
        ledger: "SharedLedger",
        counters: dict[str, Counter],
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
        # As if somebody waited until now: a desk of before, of another pools file, may have told so.
        self._told = True
        # What was freed when each line began to give way, where it does; and at whom it did.
        self._since: dict[Counter, int] = {}
        self._stopped: dict[Counter, Need] = {}

    # --- deeds, each a visit

    def come(self, x: "Exchange") -> None:
        """A request is here."""
        self.ledger.enter()
        try:
            super().come(x)
            self._tell()
            self._offer(x)
        finally:
            self.ledger.leave()
        if x.ticket is not None and x.ticket.lease is None:
            self._begin(x)

    def go(self, need: "Need", counter: Counter, now: float) -> None:
        """A request goes, waits, or is refused."""
        x: Exchange = need.owner
        self.ledger.enter()
        try:
            super().go(need, counter, now)
            self._tell()
            self._offer(x)
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

    def save(self, seat: "Seat", used_bytes: int, running: int, now: float) -> None:
        """An engine said what its sequences hold together: as far as this worker's leases alone are more, they save."""
        self.ledger.enter()
        try:
            super().save(seat, used_bytes, running, now)
            self._tell()
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

    def served_others(self, seat: "Seat", client: int) -> bool:
        """Whether a replica answered anybody but this client of late, at whatever worker: a client keeps to one as long as it keeps its connection."""
        if super().served_others(seat, client):
            return True
        books = seat.books
        if not isinstance(books, SharedBooks):
            return False
        self.ledger.enter()
        try:
            return others_answered(self.ledger.block, books, client)
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
            self._offer(x)
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
            for counter in self.counters.values():
                if isinstance(counter, SharedCounter):
                    counter.refresh()
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
        told = bench.judge(found, now) if due else []
        if told:
            for seat in bench.seats:
                if isinstance(seat.books, SharedBooks):
                    agree(block, seat.books, seat.replica.health)
        for text in told:
            self.ledger.log(logging.WARNING, text)
        return bool(told)

    # --- turns

    def _is_next(self, counter: Counter) -> bool:
        return not len(counter.line) and not self._others_wait(counter)

    def _others_wait(self, counter: Counter) -> bool:
        for route in (counter.route, *counter.route.others):
            for pool in route.pools:
                for books in pool.books:
                    if isinstance(books, SharedBooks) and books.others_wait:
                        return True
        return False

    def _pump(self, counters: "Iterable[Counter]", now: float) -> None:
        """Room that became free here is not ours alone where others wait for it: all look for it in their turns, whoever freed it."""
        super()._pump(counters if self._turn is not None else [counter for counter in counters if len(counter.line) and not self._others_wait(counter)], now)

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
        if not waiting:
            self.ledger.fair.waits(-1.0)
        for counter in self.counters.values():
            if isinstance(counter, SharedCounter):
                counter.tell_waiting()
        for books, counters in self._lines.items():
            if isinstance(books, SharedBooks):
                number = 0
                for counter in counters:
                    number += len(counter.line)
                books.tell_waiting(number)

    def _offer(self, x: "Exchange") -> None:
        """Tell the others of one who waits from now on, where it comes before all who wait here."""
        ticket = x.ticket
        if ticket is None or ticket.lease is not None or ticket.need not in ticket.counter.line:
            return
        need, fair = ticket.need, self.ledger.fair
        fair.joins(need.key)
        if at := fair.place(need.key):
            priority = ticket.counter.line.priority(need)
            for route in (ticket.counter.route, *ticket.counter.route.others):
                for pool in route.pools:
                    for books in pool.books:
                        if isinstance(books, SharedBooks):
                            books.tell_first(priority, at, if_better=True)
        # It may fit beside what the others wait for: the next look asks it.
        self._freed = -1

    def _tell_first(self, freed: int) -> None:
        """Tell the others who comes first here at each replica: who is to be asked next, where we gave way; else that all were asked.

        Each replica's for itself: two workers that give way to each other's lines for two of them would both wait for ever.
        """
        fair, least = self.ledger.fair, -1.0
        firsts: dict[Counter, tuple[int, float, int]] = {}
        for counter in self.counters.values():
            line = counter.line
            if len(line):
                mine = line.least()
                least = mine if least < 0.0 or mine < least else least
                need = self._stopped.get(counter)
                if need is None or need not in line:
                    need = next(line.in_order())
                firsts[counter] = (-line.priority(need), fair.used(need.key), fair.place(need.key))
        fair.waits(least)
        for books, counters in self._lines.items():
            if isinstance(books, SharedBooks):
                stopped = [counter for counter in counters if counter in self._stopped]
                if not stopped:
                    books.tell_looked(freed)
                # Of several lines for one replica, too, nobody waits for those that were asked.
                here = [firsts[counter] for counter in stopped or counters if counter in firsts]
                if here:
                    first = min(here)
                    books.tell_first(-first[0], first[2])

    def _comes(self, need: "Need") -> bool:
        """Whether its turn is now: nobody at another worker comes before it who was not asked since room was freed."""
        counter: Counter = need.owner.ticket.counter
        fair, block = self.ledger.fair, self.ledger.block
        words, priority, used = block.words, counter.line.priority(need), fair.used(need.key)
        for route in (counter.route, *counter.route.others):
            for pool in route.pools:
                for books in pool.books:
                    if not isinstance(books, SharedBooks) or not books.others_wait:
                        continue
                    for worker in range(block.workers):
                        row = block.row(books.place, worker)
                        key = words[row + FIRST_KEY]
                        if worker == self.ledger.number or not words[row + WAITS] or not key:
                            continue
                        first = words[row + FIRST_PRIORITY]
                        if (first > priority or (first == priority and fair.used_at(key) < used)) and self._awaits(counter, worker, words[row + LOOKED]):
                            self._stopped[counter] = need
                            return False
        return True

    def _awaits(self, counter: Counter, worker: int, looked: int) -> bool:
        """Whether it did not ask its lines for a replica yet since this line gave way, and soon will; `looked`: what was freed when it last did."""
        words = self.ledger.block.words
        if counter not in self._since:
            self._since[counter] = words[FREED]
        return looked < self._since[counter] and bool(time.monotonic_ns() - words[self.ledger.block.worker(worker) + LOOKED_AT] < AWAITED_NS)

    def _begin(self, x: "Exchange") -> None:
        if not self._looks:
            self._looks = True
            self._freed = -1
            self._here()
            loop = x.house.loop
            loop.call_later(_soon(), self._look, loop)

    def _here(self) -> None:
        """Tell the others that we look. The word is our own: no visit is needed."""
        self.ledger.block.words[self.ledger.block.worker(self.ledger.number) + LOOKED_AT] = time.monotonic_ns()

    def _look(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Our turn: ask the lines again when somebody freed room, as long as there is anybody in them."""
        self._here()
        try:
            if self.ledger.freed() != self._freed:
                self._ask_lines(loop.time())
        finally:
            self._looks = any(len(counter.line) for counter in self.counters.values())
            if self._looks:
                loop.call_later(_soon(), self._look, loop)

    def _ask_lines(self, now: float) -> None:
        self.ledger.enter()
        self._turn = self._comes
        self._stopped = {}
        try:
            freed = self.ledger.freed()
            self._pump(self.counters.values(), now)
            for counter in [counter for counter in self._since if counter not in self._stopped]:
                del self._since[counter]
            # Those who come before ours are asked first.
            self._freed = -1 if self._stopped else freed
            self._tell()
            self._tell_first(freed)
        finally:
            self._turn = None
            self.ledger.leave()


def _soon() -> float:
    return LOOK_SECONDS * (0.5 + random.random())  # noqa: S311  (a turn, no secret)
