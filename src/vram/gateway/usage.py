"""Usage on its way to the store: appended in the event loop, written by a thread of its own, at least once a second.

So at most one second of usage is lost when the process is killed; none when it stops. A full disk or a locked file loses nothing
either while the process lives: what could not be written waits, bounded, and the loss beyond that is counted and told.
"""

import logging
import sqlite3
import threading
from typing import Final

from vram.gateway.store import Store, Used

FLUSH_SECONDS: Final = 0.5
MOST_WAITING: Final = 1_000_000
"""Records kept in memory while the file cannot be written: about 500 MB at most, hours of a busy gateway."""

log = logging.getLogger("vram.gateway")


class UsageWriter:
    """Takes ended requests from the loop and writes them down."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Used] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self.lost = 0
        self.failing = False

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def add(self, record: Used) -> None:
        """Take a record; never waits for the disk."""
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                self.lost += 1
            else:
                self._waiting.append(record)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write what waits; on failure it goes on waiting."""
        with self._lock:
            records, self._waiting = self._waiting, []
        if not records:
            return
        try:
            self._store.add_usage(records)
        except (sqlite3.Error, OSError) as e:
            if not self.failing:
                log.error("usage cannot be written, it is kept in memory: %s", e)  # noqa: TRY400  (the reason is enough; it comes again and again)
            self.failing = True
            with self._lock:
                self._waiting[:0] = records
            return
        if self.failing:
            log.warning("usage is written again")
        self.failing = False

    def close(self) -> None:
        """Write the rest and end."""
        self._stop.set()
        self._thread.join(10)
