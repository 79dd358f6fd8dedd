"""What each key used, for all workers together: one number a key in the shared block, so that fairness is that of one process.

A key is known by its name, as everywhere in admission. It is asked and charged inside the ledger.
"""

import logging
from typing import TYPE_CHECKING

from vram.admission.line import Shares
from vram.gateway.block import FAIR, FLOOR, LEAST

if TYPE_CHECKING:
    from vram.gateway.shared import SharedLedger


class SharedShares(Shares):
    """One worker's view of the shares."""

    __slots__ = ("_keys", "_ledger")

    def __init__(self, ledger: "SharedLedger") -> None:
        super().__init__()
        self._ledger = ledger
        self._keys: dict[str, int] = {}

    def place(self, key: str) -> int:
        """Where a key's words are; 0 where there were none left: then each worker counts it for itself."""
        found = self._keys.get(key)
        if found is None:
            self._ledger.enter()
            try:
                found = max(self._ledger.block.key(b"share of " + key.encode()), 0)
            finally:
                self._ledger.leave()
            if not found:
                self._ledger.log(
                    logging.ERROR, f"the workers' ledger has no place left for key {key}: each worker counts its share for itself until the gateway starts anew"
                )
            self._keys[key] = found
        return found

    def used(self, key: str) -> float:
        """What counts against the key."""
        at = self.place(key)
        return self.used_at(at) if at else super().used(key)

    def used_at(self, at: int) -> float:
        """What counts against the key whose words are there."""
        reals = self._ledger.block.reals
        used, floor = reals[at + FAIR], reals[FLOOR]
        return max(floor, used)

    def charge(self, key: str, byte_seconds: float) -> None:
        """The key used so much."""
        at = self.place(key)
        if at:
            self._ledger.block.reals[at + FAIR] = self.used_at(at) + byte_seconds
        else:
            super().charge(key, byte_seconds)

    def raise_floor(self, least: float) -> None:
        """The least that any key used that waits here: it counts as far as no worker has one that used less."""
        super().raise_floor(least)
        block = self._ledger.block
        for worker in range(block.workers):
            theirs = block.reals[block.worker(worker) + LEAST]
            if theirs > 0.0 and theirs - 1.0 < least:
                least = theirs - 1.0
        block.reals[FLOOR] = max(block.reals[FLOOR], least)

    def waits(self, least: float) -> None:
        """The least that any key used of all that wait at this worker; below 0: nobody waits."""
        block = self._ledger.block
        # Of a block with nothing in it, nobody waits.
        block.reals[block.worker(self._ledger.number) + LEAST] = least + 1.0 if least >= 0.0 else 0.0

    def joins(self, key: str) -> None:
        """A request of this key waits at this worker from now on."""
        block = self._ledger.block
        at, used = block.worker(self._ledger.number) + LEAST, self.used(key) + 1.0
        if block.reals[at] == 0.0 or used < block.reals[at]:
            block.reals[at] = used
