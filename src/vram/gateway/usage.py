"""Usage on its way to the store: summed by groups in the event loop, written by a thread of its own, at least once a second.

So at most one second of usage is lost when the process is killed; none when it stops. A full disk or a locked file loses nothing
either while the process lives: what could not be written waits, bounded, and the loss beyond that is counted and told.
"""

import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, Final

from vram.gateway.group import Groups

if TYPE_CHECKING:
    from vram.gateway.idle import Rents
    from vram.gateway.store import Store
    from vram.gateway.used import Used

FLUSH_SECONDS: Final = 0.5
MOST_WAITING: Final = 500_000
"""Groups kept in memory while the file cannot be written: some 400 MB at most, weeks of a gateway with a handful of keys."""

log = logging.getLogger("vram.gateway")


class UsageWriter:
    """Takes ended requests from the loop and writes them down.

    Attributes:
        lost: requests that found no room in memory while the file could not be written.
        failing: whether the last try to write failed.
    """

    def __init__(self, store: "Store", *, most_waiting: int = MOST_WAITING) -> None:
        self._store = store
        self._most = most_waiting
        self._waiting = Groups(most=most_waiting)
        self._rents: Rents = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._writes = threading.Thread(target=self._run, name="usage", daemon=True)
        self.lost = 0
        self.failing = False

    @property
    def waiting(self) -> int:
        """Requests that are not written down yet."""
        return self._waiting.requests

    def start(self) -> None:
        """Begin to write."""
        self._writes.start()

    def add(self, record: "Used") -> None:
        """Take a record; never waits for the disk."""
        with self._lock:
            if self._waiting.add(record):
                return
            self.lost += 1
        if self.lost == 1:
            log.error("usage is lost: %s groups of it wait already for a file that cannot be written", f"{self._most:,}")

    def add_rents(self, rents: "Rents") -> None:
        """Take what replicas cost and how much of it was idle; never waits for the disk."""
        with self._lock:
            for at, (rent, idle) in rents.items():
                before = self._rents.get(at, (0, 0))
                self._rents[at] = before[0] + rent, before[1] + idle

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write what waits; on failure it goes on waiting."""
        with self._lock:
            groups, self._waiting = self._waiting, Groups(most=self._most)
            rents, self._rents = self._rents, {}
        if not groups and not rents:
            return
        try:
            if groups:
                self._store.add_usage(groups)
                groups = Groups()
            if rents:
                self._store.add_rents(rents)
        except (sqlite3.Error, OSError) as e:
            if not self.failing:
                log.error("usage cannot be written, it is kept in memory: %s", e)  # noqa: TRY400  (the reason is enough; it comes again and again)
            self.failing = True
            with self._lock:
                self._waiting.take_back(groups)
            self.add_rents(rents)
            return
        if self.failing:
            log.warning("usage is written again%s", f"; {self.lost:,} requests were lost" if self.lost else "")
        self.failing = False

    def close(self) -> None:
        """Write the rest and end."""
        self._stop.set()
        self._writes.join(10)
