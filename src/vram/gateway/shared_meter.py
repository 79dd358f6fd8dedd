"""A replica's meter that several workers keep together: the shared bytes are dealt among the requests of all of them.

The same arithmetic as `Meter`, on words that all see. Each worker writes what its own running requests come to in two sums that grow
with time by themselves, so that a worker that dies is struck out in one go: what its requests used is then nobody's, and idle.
"""

from collections.abc import Hashable
from typing import TYPE_CHECKING

from vram.costs.vram_time import NS_PER_HOUR, Balance, Held, Meter
from vram.gateway.block import COUNT, EACH_OWN, KV, KV_OWN, SHARED, TILL, Block

if TYPE_CHECKING:
    from vram.gateway.shared import SharedLedger

# Long numbers of a place's till.
BEGAN, NOW, EACH, LEFT, BUSY, KV_NS, BILLED, TOLD_RENT, TOLD_IDLE = range(TILL, TILL + 18, 2)


def bring_to(block: Block, place: int, now_ns: int) -> int:
    """Deal what is shared since the last time among those that run. Returns the time of the till: never before what it was."""
    before = block.long(place + NOW)
    if now_ns <= before:
        return before
    words, count, kv = block.words, 0, 0
    for worker in range(block.workers):
        row = block.row(place, worker)
        count += words[row + COUNT]
        kv += words[row + KV]
    # First the time: who dies amid this leaves something idle, and charges nobody twice.
    block.put_long(place + NOW, now_ns)
    if count:
        span = now_ns - before
        part, left = divmod(block.long(place + LEFT) + span * words[place + SHARED], count)
        block.put_long(place + LEFT, left)
        block.put_long(place + EACH, block.long(place + EACH) + part)
        block.put_long(place + BUSY, block.long(place + BUSY) + span)
        block.put_long(place + KV_NS, block.long(place + KV_NS) + span * kv)
    return now_ns


class _Mine:
    """A request of this worker's: as the meter's own, with what it adds to its worker's two sums."""

    __slots__ = ("kv_byte_ns", "kv_bytes", "seen_ns", "seen_shared")

    def __init__(self, kv_bytes: int, now_ns: int, each: int) -> None:
        self.kv_bytes = kv_bytes
        self.kv_byte_ns = 0
        self.seen_ns = now_ns
        self.seen_shared = each


class SharedMeter(Meter):
    """The meter of one worker. What changes it is done inside a visit to the ledger.

    Its worker's sums: KV_OWN = what its requests' caches came to, less their bytes times when that was counted, so that with KV times
    now added it is what they come to now; EACH_OWN = the sum of the shares at which they began.
    """

    def __init__(self, ledger: "SharedLedger", place: int, *, nanodollars_per_hour: int, usable_bytes: int, shared_bytes: int, began_ns: int) -> None:
        super().__init__(nanodollars_per_hour=nanodollars_per_hour, usable_bytes=usable_bytes, shared_bytes=shared_bytes, began_ns=began_ns)
        self._ledger = ledger
        self._block = block = ledger.block
        self._place = place
        self._row = block.row(place, ledger.number)
        self._mine: dict[Hashable, _Mine] = {}
        block.words[place + SHARED] = shared_bytes
        if not block.long(place + BEGAN):
            block.put_long(place + BEGAN, began_ns)
            block.put_long(place + NOW, began_ns)

    def start(self, key: Hashable, now_ns: int, kv_bytes: int = 0) -> None:
        """A request begins to run here."""
        if key in self._mine or kv_bytes < 0:
            raise ValueError(f"{key!r} runs already" if key in self._mine else "bytes are 0 or more")
        now = bring_to(self._block, self._place, now_ns)
        each = self._block.long(self._place + EACH)
        self._mine[key] = _Mine(kv_bytes, now, each)
        self._add(kv_bytes, 1, -kv_bytes * now, each)

    def resize(self, key: Hashable, now_ns: int, kv_bytes: int) -> None:
        """From now on it holds so many bytes."""
        if kv_bytes < 0:
            raise ValueError("bytes are 0 or more")
        request = self._mine[key]
        now = bring_to(self._block, self._place, now_ns)
        before = request.kv_bytes
        request.kv_byte_ns += before * (now - request.seen_ns)
        request.seen_ns = now
        request.kv_bytes = kv_bytes
        self._add(kv_bytes - before, 0, (before - kv_bytes) * now, 0)

    def end(self, key: Hashable, now_ns: int) -> Held:
        """It ends."""
        request = self._mine[key]
        block = self._block
        now = bring_to(block, self._place, now_ns)
        own = request.kv_byte_ns + request.kv_bytes * (now - request.seen_ns)
        shared = block.long(self._place + EACH) - request.seen_shared
        del self._mine[key]
        self._add(-request.kv_bytes, -1, request.kv_bytes * request.seen_ns - request.kv_byte_ns, -request.seen_shared)
        held = Held(kv_byte_ns=own, shared_byte_ns=shared, nanodollars=self._price(own + shared))
        block.put_long(self._place + BILLED, block.long(self._place + BILLED) + held.nanodollars)
        return held

    def balance(self, now_ns: int) -> Balance:
        """The books of all workers together."""
        self._ledger.enter()
        try:
            return self._balance(now_ns)
        finally:
            self._ledger.leave()

    def _balance(self, now_ns: int) -> Balance:
        block, place = self._block, self._place
        now = bring_to(block, place, now_ns)
        each, used = block.long(place + EACH), 0
        for worker in range(block.workers):
            row = block.row(place, worker)
            if block.words[row + COUNT]:
                used += block.long(row + KV_OWN) + block.words[row + KV] * now + block.words[row + COUNT] * each - block.long(row + EACH_OWN)
        span = now - block.long(place + BEGAN)
        return Balance(
            rent_nanodollars=self.nanodollars_per_hour * span // NS_PER_HOUR,
            billed_nanodollars=block.long(place + BILLED),
            running_nanodollars=self._price(used),
            kv_byte_ns=block.long(place + KV_NS),
            shared_byte_ns=block.long(place + BUSY) * self.shared_bytes,
            whole_byte_ns=span * self.usable_bytes,
        )

    def untold(self, now_ns: int) -> tuple[int, int]:
        """Rent and idle nanodollars since any worker last asked; they are this one's to tell."""
        block, place = self._block, self._place
        balance = self._balance(now_ns)
        rent, idle = balance.rent_nanodollars, balance.idle_nanodollars
        found = rent - block.long(place + TOLD_RENT), idle - block.long(place + TOLD_IDLE)
        block.put_long(place + TOLD_RENT, rent)
        block.put_long(place + TOLD_IDLE, idle)
        return found

    def _price(self, byte_ns: int) -> int:
        return byte_ns * self.nanodollars_per_hour // (NS_PER_HOUR * self.usable_bytes)

    def _add(self, kv_bytes: int, count: int, own: int, each: int) -> None:
        words, row = self._block.words, self._row
        words[row + KV] += kv_bytes
        words[row + COUNT] += count
        self._block.put_long(row + KV_OWN, self._block.long(row + KV_OWN) + own)
        self._block.put_long(row + EACH_OWN, self._block.long(row + EACH_OWN) + each)
