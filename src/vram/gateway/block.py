"""The memory that all workers of one gateway share: who holds what of which replica, what keys used of their rates. Plain words in a file.

It is an anonymous file, mapped by every process. A lock in it lets one process in at a time; the kernel takes the lock from a process
that dies. What a worker wrote stands in rows of its own, so that whoever buries it strikes them out, whatever it was doing.
Nothing here knows what the words mean to admission or money: that is for those who keep books, meters, keys and counters in them.

    header | workers | places: one for each replica, with a row and slots for each worker | keys | models: one for each, with a row for each worker
"""

import hashlib
import mmap
import os
import sys
import tempfile
from typing import Final
from zlib import crc32

from vram.admission.learn import LENGTH_EDGES, RATIO_EDGES
from vram.admission.life_table import CELLS
from vram.errors import VramError
from vram.gateway.lock import MUTEX_BYTES, make_lock
from vram.gateway.outcomes import CLASSES

MOST_WORKERS: Final = 32
_WORD: Final = 8
_BITS: Final = 2**64 - 1

# Words of the header.
WORKERS, PLACES, SLOTS, KEYS, CHANGES, FREED, RESTARTS, HOLDER, HUNG, FLOOR, MODELS, VISITS, LAYOUT = range(13)
_LOCK: Final = 16
_HEADER: Final = _LOCK + MUTEX_BYTES // 8

# Words of a worker.
PID, GENERATION, BEGAN, BEAT, LOOKED_AT, LEAST = range(6)
_WORKER: Final = 8

# Words of a place: after the four of its name.
VERSION, USERS, KEPT, DRAINED, GOOD, OUT, PROBE, CAPACITY, CONTEXT, MOST_SEQUENCES, STEPS, SHARED = range(4, 16)
TILL: Final = 16
"""Where the meter's long numbers begin, two words each."""
HELD_OUT, CAUSE = 34, 35
"""Until when no good answer brings it back, and why it is out; behind the meter's."""
_PLACE: Final = 40

# Words of a worker's row at a place, and of a lease's slot.
HELD, PROMISED, SEQUENCES, LEASES, USED_SLOTS, UNLISTED, KV, COUNT, KV_OWN, EACH_OWN = 0, 1, 2, 3, 4, 5, 6, 7, 8, 10
WAITS, FIRST_PRIORITY, FIRST_KEY, LOOKED, OUTCOMES = range(12, 17)
"""From `OUTCOMES` on: what the worker's requests came to there: answered, failed, then first tokens and the logarithms of their seconds by class."""
SOURCES: Final = OUTCOMES + 2 + 2 * CLASSES
"""From here on: who was failed most there: so many clients with their requests and failures, then so many groups with their failures."""
TOLD_SOURCES: Final = 8
ROW: Final = SOURCES + 5 * TOLD_SOURCES
SLOT: Final = 9
"""To go, held, promised, tokens, sequences, the step of the replica that was last seen of it, produced, most, whether it streams: a
lease's growth."""
EMPTY: Final = -1
"""Stands in a slot's first word where no lease is in it."""

# Words of a key: after the four of its digest.
AT, REQUESTS, TOKENS, SPENT, MONTH, FAIR = range(4, 10)
_KEY: Final = 10

# Words of a model: after the four of its name; then its tables of what was learned, each with its sum before it.
RATE, SAMPLES, SEEN = range(4, 7)
RATIOS: Final = 8
LENGTHS: Final = RATIOS + 1 + len(RATIO_EDGES) + 1
ENDED: Final = LENGTHS + 1 + len(LENGTH_EDGES) + 1
CUT: Final = ENDED + CELLS
_MODEL: Final = CUT + CELLS
# Of a worker's row there.
WAITING, RUNNING = range(2)
MODEL_ROW: Final = RUNNING + CELLS

_LAYOUT: Final = crc32(
    repr(
        (_HEADER, _WORKER, GOOD, CAUSE, TILL, _PLACE, LOOKED, OUTCOMES, CLASSES, SOURCES, TOLD_SOURCES, ROW, SLOT, _KEY, RATIOS, CUT, _MODEL, MODEL_ROW)
    ).encode()
)
"""Where things stand, as a number. A worker that is started after an upgrade in place may see it otherwise than those who run: it would
write into what is theirs."""


class Block:
    """The words. Offsets are in words of eight bytes.

    Attributes:
        words: all of them, as signed whole numbers.
        reals: the same ones as floats.
        workers: how many workers there are rows for.
        slots: leases of one worker at one place that are listed one by one; more are counted in sum.
    """

    def __init__(self, descriptor: int, *, new: bool = False) -> None:
        """Map the file behind a descriptor, which `make` made in this process or in the one that handed it on.

        Raises:
            VramError: who made it lays it out otherwise: it is of another version.
        """
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, 0)
        raw = memoryview(self._map)
        self.words = raw.cast("q")
        self.reals = raw.cast("d")
        if self.words[LAYOUT] != _LAYOUT:
            raise VramError("the gateway that runs is of another version than what is installed now", hint="start it anew")
        # Wait until no other process is in; let others in.
        self.lock, self.unlock = make_lock(self._map, _LOCK * _WORD, descriptor, new=new)
        self.workers = self.words[WORKERS]
        self.slots = self.words[SLOTS]
        self.most_places = self.words[PLACES]
        self.most_keys = self.words[KEYS]
        self.most_models = self.words[MODELS]
        self.place_words = _PLACE + self.workers * (ROW + self.slots * SLOT)
        self._places_at = _HEADER + self.workers * _WORKER
        self._keys_at = self._places_at + self.most_places * self.place_words
        self._models_at = self._keys_at + self.most_keys * _KEY
        self._model_words = _MODEL + self.workers * MODEL_ROW

    @classmethod
    def make(cls, *, workers: int, places: int, slots: int, keys: int, models: int = 16) -> "Block":
        """A block with nothing in it. Memory is taken only where something is written."""
        words = _HEADER + workers * _WORKER + places * (_PLACE + workers * (ROW + slots * SLOT)) + keys * _KEY + models * (_MODEL + workers * MODEL_ROW)
        if sys.platform == "linux":
            descriptor = os.memfd_create("vram-ledger")
        else:
            with tempfile.TemporaryFile(prefix="vram-ledger-") as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, words * _WORD)
        for at, value in ((WORKERS, workers), (PLACES, places), (SLOTS, slots), (KEYS, keys), (MODELS, models), (LAYOUT, _LAYOUT)):
            os.pwrite(descriptor, value.to_bytes(_WORD, sys.byteorder), at * _WORD)
        return cls(descriptor, new=True)

    def close(self) -> None:
        """Let the memory go."""
        self.words.release()
        self.reals.release()
        os.close(self.descriptor)

    # --- where things are

    def worker(self, number: int) -> int:
        """Where a worker's own words are."""
        return _HEADER + number * _WORKER

    def row(self, place: int, worker: int) -> int:
        """Where a worker's row of a place is."""
        return place + _PLACE + worker * ROW

    def slots_of(self, place: int, worker: int) -> int:
        """Where a worker's slots of a place are."""
        return place + _PLACE + self.workers * ROW + worker * self.slots * SLOT

    def places(self) -> list[int]:
        """The places that have names."""
        found = [self._places_at + i * self.place_words for i in range(self.most_places)]
        return [at for at in found if self.words[at] or self.words[at + 1]]

    def place(self, name: bytes) -> int:
        """The place of that name; -1 where none is left. To be asked with the lock."""
        return self._find(name, self._places_at, self.most_places, self.place_words)

    def key(self, digest: bytes) -> int:
        """The words of a key; -1 where none are left. To be asked with the lock."""
        return self._find(digest, self._keys_at, self.most_keys, _KEY)

    def model(self, name: bytes) -> int:
        """The words of a model; -1 where none are left. To be asked with the lock."""
        return self._find(name, self._models_at, self.most_models, self._model_words)

    def models(self) -> list[int]:
        """The models that have names."""
        found = [self._models_at + i * self._model_words for i in range(self.most_models)]
        return [at for at in found if self.words[at] or self.words[at + 1]]

    def model_row(self, model: int, worker: int) -> int:
        """Where a worker's row of a model is."""
        return model + _MODEL + worker * MODEL_ROW

    def _find(self, name: bytes, begin: int, most: int, size: int) -> int:
        digest = hashlib.sha256(name).digest()
        wanted = [int.from_bytes(digest[i : i + 8], sys.byteorder, signed=True) for i in range(0, 32, 8)]
        first = wanted[0] % most
        for i in range(most):
            at = begin + (first + i) % most * size
            found = self.words[at : at + 4].tolist()
            if found == wanted:
                return at
            if found == [0, 0, 0, 0]:
                for j, word in enumerate(wanted):
                    self.words[at + j] = word
                return at
        return -1

    # --- long numbers, of two words

    def long(self, at: int) -> int:
        """A whole number of up to 127 bits."""
        return (self.words[at + 1] << 64) | (self.words[at] & _BITS)

    def put_long(self, at: int, value: int) -> None:
        """Write one down."""
        low = value & _BITS
        self.words[at] = low if low < 2**63 else low - 2**64
        self.words[at + 1] = value >> 64

    # --- changes

    def changed(self, place: int, *, freed: bool = False) -> None:
        """Something at a place is another than before; `freed`: somebody who waits may go now."""
        self.words[place + VERSION] += 1
        self.words[CHANGES] += 1
        if freed:
            self.words[FREED] += 1
