"""A replica's books that several workers keep together: each writes its own leases into the shared block, and sees those of the others.

`held_bytes`, `promised_bytes` and `sequences` are the sums of all workers, so every rule of `Books` holds as it stands; `leases` are this
worker's. What others hold is taken over whenever the ledger is entered and something changed.
"""

from typing import TYPE_CHECKING, Final

from vram.admission.books import Books
from vram.admission.lease import Lease
from vram.admission.need import Need
from vram.admission.peak import Growth
from vram.gateway.block import (
    EMPTY,
    FIRST_KEY,
    FIRST_PRIORITY,
    HELD,
    KEPT,
    LEASES,
    LOOKED,
    OUTCOMES,
    PROMISED,
    ROW,
    SEQUENCES,
    SLOT,
    STEPS,
    UNLISTED,
    USED_SLOTS,
    USERS,
    VERSION,
    WAITS,
)
from vram.memory.curve import KvRoom

if TYPE_CHECKING:
    from vram.gateway.health import Cause
    from vram.gateway.shared import SharedLedger

FOR_EVER: Final = 2**40
"""Tokens to go of leases that are not listed one by one: they are taken to hold all that they promise to the end."""
ANOTHER: Final = Need(0, 0)
"""Stands for a request of another worker that a replica is kept for."""


class SharedBooks(Books):
    """One worker's view of the books.

    Attributes:
        place: where the replica's words are in the block.
        seen: version of the place that was taken over.
        others_wait: whether anybody waits for this replica at another worker.
        planned: its sizes by the plan.
        was_out: by what this worker had the replica out of service when all last agreed; None: it had not.
    """

    def __init__(self, ledger: "SharedLedger", place: int, url: str, name: str, room: KvRoom) -> None:
        super().__init__(name, room.curve, room.capacity_bytes, context_tokens=room.context_tokens, max_sequences=room.max_sequences, firm=room.firm, home=url)
        self.ledger = ledger
        self.place = place
        self.seen = -1
        self.others_wait = False
        self.planned = self.sizes()
        self.was_out: Cause | None = None
        self._row = ledger.block.row(place, ledger.number)
        self._slots_at = ledger.block.slots_of(place, ledger.number)
        self._slots: dict[Lease, int] = {}
        self._free: list[int] = []
        self._their_held = self._their_promised = self._their_sequences = 0

    def sizes(self) -> tuple[int, int, int]:
        """Capacity, longest sequence, most sequences."""
        return self.capacity_bytes, self.context_tokens, self.max_sequences

    # --- what others do

    def take_over(self) -> None:
        """See what the others hold now."""
        block, words = self.ledger.block, self.ledger.block.words
        self.seen = words[self.place + VERSION]
        held = promised = sequences = waiting = 0
        for worker in range(block.workers):
            if worker != self.ledger.number:
                row = block.row(self.place, worker)
                theirs = words[row : row + OUTCOMES].tolist()
                held += theirs[HELD]
                promised += theirs[PROMISED]
                sequences += theirs[SEQUENCES]
                waiting += theirs[WAITS]
        self.held_bytes += held - self._their_held
        self._top_held = max(self._top_held, self.held_bytes)
        self.promised_bytes += promised - self._their_promised
        self.sequences += sequences - self._their_sequences
        self._their_held, self._their_promised, self._their_sequences = held, promised, sequences
        self.others_wait = waiting > 0
        # What one stream shows of the engine's steps, at whatever worker, is true of all that run there.
        self.steps = max(self.steps, words[self.place + STEPS])
        self.outlook.forget()
        kept = words[self.place + KEPT]
        if kept and kept != self.ledger.number + 1:
            self.reserved = ANOTHER
        elif self.reserved is ANOTHER:
            self.reserved = None

    def elsewhere(self) -> list[Growth]:
        """Leases of the other workers."""
        found: list[Growth] = []
        if not self._their_sequences:
            return found
        block, words = self.ledger.block, self.ledger.block.words
        for worker in range(block.workers):
            row = block.row(self.place, worker)
            if worker == self.ledger.number or not words[row + LEASES]:
                continue
            at = block.slots_of(self.place, worker)
            listed = words[at : at + SLOT * words[row + USED_SLOTS]].tolist()
            for i in range(0, len(listed), SLOT):
                to_go, held, promised, tokens, sequences, step, produced, most, streams = listed[i : i + SLOT]
                if to_go != EMPTY:
                    one = Growth(to_go, held, promised, tokens, sequences, max(self.steps - step, 0))
                    one.produced, one.most, one.streams = produced, most, streams > 0
                    found.append(one)
            if unlisted := words[row + UNLISTED]:
                found.append(Growth(FOR_EVER, unlisted, unlisted, 0, 0))
        return found

    def keep(self) -> None:
        """Tell the others whether this replica is kept for one of ours; the ledger calls it before it lets them in."""
        words, at = self.ledger.block.words, self.place + KEPT
        mine = self.reserved is not None and self.reserved is not ANOTHER
        if mine != (words[at] == self.ledger.number + 1) and (mine or words[at] == self.ledger.number + 1):
            words[at] = self.ledger.number + 1 if mine else 0
            self.ledger.block.changed(self.place, freed=not mine)
            self.seen = words[self.place + VERSION]

    def tell_first(self, priority: int, key: int, *, if_better: bool = False) -> None:
        """Who comes first of those that wait for it here: its priority, and where its key's words are. To be called inside the ledger."""
        words, row = self.ledger.block.words, self._row
        if if_better and words[row + FIRST_KEY]:
            used = self.ledger.fair.used_at
            if (-words[row + FIRST_PRIORITY], used(words[row + FIRST_KEY])) <= (-priority, used(key)):
                return
        words[row + FIRST_PRIORITY], words[row + FIRST_KEY] = priority, key

    def tell_looked(self, freed: int) -> None:
        """All that wait for it here, up to the first that does not fit, were asked since so much was freed. To be called inside the ledger."""
        self.ledger.block.words[self._row + LOOKED] = freed

    def tell_waiting(self, number: int) -> None:
        """So many wait for this replica here. To be called inside the ledger."""
        words = self.ledger.block.words
        if not number:
            words[self._row + FIRST_KEY] = 0
        if words[self._row + WAITS] != number:
            words[self._row + WAITS] = number
            self.ledger.block.changed(self.place)
            self.seen = words[self.place + VERSION]

    # --- what we do

    def reserve(self, need: Need, output_tokens: int, most: int, now: float) -> Lease:
        """Let the request in."""
        self.ledger.enter()
        try:
            lease = super().reserve(need, output_tokens, most, now)
            self._list(lease)
            self._write(1)
        finally:
            self.ledger.leave()
        return lease

    def grow(self, lease: Lease, produced: int, now: float, expected: int | None = None) -> bool:
        """So many output tokens are there."""
        self.ledger.enter()
        try:
            enough = super().grow(lease, produced, now, expected)
            if lease.live:
                slot = self._slots[lease]
                if slot >= 0:
                    self._put(slot, lease)
                self._write(0)
        finally:
            self.ledger.leave()
        return enough

    def release(self, lease: Lease, now: float) -> bool:
        """End a lease."""
        self.ledger.enter()
        try:
            first = super().release(lease, now)
            if first:
                slot = self._slots.pop(lease)
                if slot >= 0:
                    self.ledger.block.words[self._slots_at + slot * SLOT] = EMPTY
                    self._free.append(slot)
                if not self._slots:
                    self._free.clear()
                    self.ledger.block.words[self._row + USED_SLOTS] = 0
                self._write(-1)
        finally:
            self.ledger.leave()
        return first

    def asked(self, *, shares: bool = True) -> None:
        """The engine is asked how much is used."""
        self.ledger.look()
        super().asked(shares=shares)

    def report(self, used_bytes: int, now: float) -> None:
        """The engine says how much is used: beside what all hold together."""
        self.ledger.look()
        super().report(used_bytes, now)

    def close(self) -> None:
        """This worker has no lease here any more and will get none. To be called inside the ledger."""
        words = self.ledger.block.words
        words[self.place + USERS] &= ~(1 << self.ledger.number)
        self.reserved = None
        self.keep()
        # Nobody asks for it here any more: the others would go on giving way.
        self.tell_waiting(0)
        # Where it is asked for again, later, what its requests came to now is long over.
        for at in range(self._row + OUTCOMES, self._row + ROW):
            words[at] = 0

    def _list(self, lease: Lease) -> None:
        words = self.ledger.block.words
        if self._free:
            slot = self._free.pop()
        else:
            slot = words[self._row + USED_SLOTS]
            if slot >= self.ledger.block.slots:
                self._slots[lease] = -1
                return
            words[self._row + USED_SLOTS] = slot + 1
        self._slots[lease] = slot
        self._put(slot, lease)

    def _put(self, slot: int, lease: Lease) -> None:
        at, words = self._slots_at + slot * SLOT, self.ledger.block.words
        growth = lease.growth()
        words[at], words[at + 1], words[at + 2] = growth.to_go, growth.held_bytes, growth.promised_bytes
        words[at + 3], words[at + 4], words[at + 5] = growth.tokens, growth.sequences, lease.began + lease.produced
        words[at + 6], words[at + 7], words[at + 8] = growth.produced, growth.most, growth.streams

    def _write(self, leases: int) -> None:
        words, row = self.ledger.block.words, self._row
        words[self.place + STEPS] = max(words[self.place + STEPS], self.steps)
        words[row + HELD] = self.held_bytes - self._their_held
        words[row + PROMISED] = self.promised_bytes - self._their_promised
        words[row + SEQUENCES] = self.sequences - self._their_sequences
        words[row + LEASES] += leases
        if len(self._slots) > self.ledger.block.slots or words[row + UNLISTED]:
            words[row + UNLISTED] = sum(lease.promised_bytes for lease, slot in self._slots.items() if slot < 0)
        self.ledger.block.changed(self.place, freed=leases < 0)
        self.seen = words[self.place + VERSION]
