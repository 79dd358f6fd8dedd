"""The ledger that the workers of one machine share: they go in one at a time, and see what the others wrote before they decide.

A decision and the lease that comes of it are one visit, so no two workers take the last room. A worker that dies holds up nobody: the
kernel takes its lock away, and its supervisor strikes out its rows (`tenure.bury`) before another takes its number. What keys used and what was
learned of answers is one for all; a line is a worker's own, and who of all comes first is known by what each tells of its own (`SharedDesk`).
"""

import logging
import time
from typing import TYPE_CHECKING

from vram.admission.books import Books
from vram.costs.vram_time import Meter
from vram.errors import UsageError
from vram.gateway.block import (
    CAUSE,
    CHANGES,
    DRAINED,
    FREED,
    HELD_OUT,
    HOLDER,
    KEPT,
    STEPS,
    USERS,
    VERSION,
    VISITS,
    Block,
)
from vram.gateway.desk import Desk
from vram.gateway.idle import Idle, Rents
from vram.gateway.keys import Key, KeyTerms
from vram.gateway.ledger import Ledger
from vram.gateway.shared_books import SharedBooks
from vram.gateway.shared_counter import SharedCounter
from vram.gateway.shared_desk import SharedDesk
from vram.gateway.shared_health import agree, agree_on_sizes, may_probe, probed
from vram.gateway.shared_key import SharedKey
from vram.gateway.shared_meter import BEGAN, TOLD_IDLE, SharedMeter
from vram.gateway.shared_shares import SharedShares

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vram.admission.decide import Route
    from vram.admission.line import Shares
    from vram.gateway.seats import Counter, Seat
    from vram.memory.curve import KvRoom

log = logging.getLogger("vram.gateway")


class SharedLedger(Ledger):
    """One worker's ledger.

    Attributes:
        block: the memory.
        number: the worker's, from 0.
        fair: what each key used.
    """

    def __init__(self, block: Block, number: int) -> None:
        self.block = block
        self.number = number
        self.workers = block.workers
        self._depth = 0
        self._changes = -1
        self._open: list[SharedBooks] = []
        self._over: list[SharedBooks] = []
        self._lines: list[tuple[int, str]] = []
        self.fair = SharedShares(self)

    # --- visits

    def enter(self) -> None:
        """Go in: nobody else decides until we leave. Visits inside a visit are the same one.

        Whatever is raised here or in `leave`, we are out: a visit that nobody ends would keep all others waiting for ever.
        """
        if self._depth > 0:
            self._depth += 1
            return
        self.block.lock()
        words = self.block.words
        # Who is in, and that it is another visit, is told to whoever looks for the one that stands still.
        words[HOLDER] = self.number + 1
        words[VISITS] += 1
        self._depth = 1
        try:
            if words[CHANGES] != self._changes:
                for books in self._open:
                    if words[books.place + VERSION] != books.seen:
                        books.take_over()
        except BaseException:
            self._out()
            raise

    def leave(self) -> None:
        """Go out."""
        if self._depth > 1:
            self._depth -= 1
            return
        try:
            for books in self._open:
                if books.reserved is not None or self.block.words[books.place + KEPT]:
                    books.keep()
            self._changes = self.block.words[CHANGES]
        finally:
            self._out()
        if self._lines:
            self._log()

    def log(self, level: int, text: str) -> None:
        """Log a line: at once outside the ledger, else when we are out of it, for a log may be stuck."""
        self._lines.append((level, text))
        if self._depth == 0:
            self._log()

    def _log(self) -> None:
        while self._lines:
            level, text = self._lines.pop(0)
            log.log(level, "%s", text)

    def _out(self) -> None:
        self._depth = 0
        self.block.words[HOLDER] = 0
        self.block.unlock()

    def look(self) -> None:
        """See what others wrote."""
        self.enter()
        self.leave()

    def freed(self) -> int:
        """A number that grows whenever room becomes free anywhere."""
        found: int = self.block.words[FREED]
        return found

    # --- what is one for all

    def books(self, url: str, name: str, room: "KvRoom") -> Books:
        """Books of a replica; those of another layout of the cache are others."""
        self.enter()
        try:
            place = self.block.place(f"{url} {room.curve.terms}".encode())
            if place < 0:
                raise UsageError("the workers' ledger has no place left for another replica", hint="start the gateway anew: it makes one that has")
            for known in self._open:
                if known.place == place:
                    # It was gone for a while and still has leases of then.
                    known.context_tokens, known.max_sequences = room.context_tokens, room.max_sequences
                    return known
            words = self.block.words
            if not words[place + USERS]:
                self._clear(place)
            words[place + USERS] |= 1 << self.number
            made = SharedBooks(self, place, url, name, room)
            agree_on_sizes(self.block, made)
            made.take_over()
            self._open.append(made)
        finally:
            self.leave()
        return made

    def _clear(self, place: int) -> None:
        words = self.block.words
        for at in range(KEPT, STEPS + 1):
            words[place + at] = 0
        for at in (*range(BEGAN, TOLD_IDLE + 2), HELD_OUT, CAUSE):
            words[place + at] = 0

    def meter(self, books: Books, *, nanodollars_per_hour: int, usable_bytes: int, shared_bytes: int, began_ns: int) -> Meter:
        """The meter beside these books."""
        if not isinstance(books, SharedBooks):
            return super().meter(books, nanodollars_per_hour=nanodollars_per_hour, usable_bytes=usable_bytes, shared_bytes=shared_bytes, began_ns=began_ns)
        self.enter()
        try:
            return SharedMeter(
                self,
                books.place,
                nanodollars_per_hour=nanodollars_per_hour,
                usable_bytes=usable_bytes,
                shared_bytes=shared_bytes,
                began_ns=began_ns,
            )
        finally:
            self.leave()

    def shares(self) -> "Shares":
        """What each key used at any worker."""
        return self.fair

    def counter(self, route: "Route", shares: "Shares") -> "Counter":
        """What is known of the requests for a public model at any worker."""
        self.enter()
        try:
            at = self.block.model(route.model.encode())
            if at >= 0:
                # Nobody waits here yet: who comes over from a desk of before is told at the next visit.
                self.block.words[self.block.model_row(at, self.number)] = 0
                return SharedCounter(self, at, route, shares)
        finally:
            self.leave()
        self.log(
            logging.ERROR, f"the workers' ledger has no place left for model {route.model}: each worker learns of it for itself until the gateway starts anew"
        )
        return super().counter(route, shares)

    def desk(
        self, counters: "dict[str, Counter]", shares: "Shares", *, queue_seconds: float, queue_requests: int, output_tokens: int | None, affinity: str
    ) -> Desk:
        """A desk whose every decision is a visit."""
        return SharedDesk(self, counters, shares, queue_seconds=queue_seconds, queue_requests=queue_requests, output_tokens=output_tokens, affinity=affinity)

    def key(self, digest: bytes, terms: KeyTerms) -> Key:
        """A key whose limits hold for all workers together."""
        if terms.requests_per_minute is None and terms.tokens_per_minute is None and terms.dollars_per_month is None:
            # Without limits nothing of it is shared; limits that it gets later make another of it.
            return UnlimitedKey(self, digest, terms)
        self.enter()
        try:
            at = self.block.key(digest)
        finally:
            self.leave()
        if at < 0:
            self.log(
                logging.ERROR,
                f"the workers' ledger has no place left for key {terms.name}: its limits hold for each worker alone until the gateway starts anew",
            )
            return Key(terms)
        return SharedKey(self, at, terms)

    def idle(self) -> Idle:
        """What reads the meters: each piece of idle money is told by one worker."""
        return SharedIdle(self)

    def drain(self, books: Books, *, draining: bool) -> None:
        """An operator takes a replica out of service, or back into it: each worker sees it at its next tick."""
        if isinstance(books, SharedBooks):
            self.enter()
            try:
                self.block.words[books.place + DRAINED] = int(draining)
                self.block.changed(books.place, freed=not draining)
            finally:
                self.leave()

    def may_probe(self, books: Books, now: float) -> bool:
        """Whether this worker is to probe a replica, and no other."""
        if not isinstance(books, SharedBooks):
            return True
        self.enter()
        try:
            return may_probe(self.block, books, books.owner.replica.health, now)
        finally:
            self.leave()

    def probed(self, books: Books) -> None:
        """Its probe is over."""
        if isinstance(books, SharedBooks):
            self.enter()
            try:
                probed(self.block, books, books.owner.replica.health)
            finally:
                self.leave()

    # --- time

    def seated(self, books: set[Books]) -> None:
        """These books are in use; the others' places are given up when their last lease is over."""
        self._over += [b for b in self._open if b not in books and b not in self._over]
        self._over = [b for b in self._over if b not in books]
        self.tick()

    def tick(self) -> None:
        """About once a second."""
        self.enter()
        try:
            for books in self._open:
                seat: Seat | None = books.owner
                if seat is not None:
                    seat.replica.health.drain(draining=bool(self.block.words[books.place + DRAINED]))
                    agree(self.block, books, seat.replica.health)
                    agree_on_sizes(self.block, books)
        finally:
            self.leave()
        if done := [b for b in self._over if not b.leases]:
            self.enter()
            try:
                for books in done:
                    self._over.remove(books)
                    self._open.remove(books)
                    books.close()
            finally:
                self.leave()


class UnlimitedKey(Key):
    """A key without limits; the one that it becomes when it gets some is shared."""

    def __init__(self, ledger: SharedLedger, digest: bytes, terms: KeyTerms) -> None:
        super().__init__(terms)
        self._ledger = ledger
        self._digest = digest

    def renewed(self, terms: KeyTerms) -> Key:
        """The same key under changed terms."""
        return self._ledger.key(self._digest, terms)


class SharedIdle(Idle):
    """Reads meters that are kept together: what one worker tells, no other tells again."""

    def __init__(self, ledger: SharedLedger) -> None:
        super().__init__()
        self._ledger = ledger

    def since(self, seats: "Iterable[tuple[str, Seat]]", now: float) -> Rents:
        """Rent and idle money since any worker last told it."""
        hour = int(time.time()) // 3600
        found: Rents = {}
        self._ledger.enter()
        try:
            for pool, seat in seats:
                meter = seat.meter
                if isinstance(meter, SharedMeter):
                    found[hour, pool, seat.replica.url] = meter.untold(int(now * 1e9))
        finally:
            self._ledger.leave()
        return found
