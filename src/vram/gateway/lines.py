"""Log lines on their way to a file that may be stuck: a terminal that was stopped, a pipe that nobody reads. A thread of its own writes them.

Who logs only appends, so no loop, and nobody who waits for it, stands still because of a line. What does not fit in the bounded queue
meanwhile is counted, and told with the next line that gets through.
"""

import logging
import os
import threading
from queue import SimpleQueue
from typing import Final

MOST_WAITING: Final = 10_000
END_SECONDS: Final = 2.0
"""How long the end of a process waits for its last lines."""
RETRY_SECONDS: Final = 0.05


class Lines(logging.Handler):
    """Writes records to a file.

    Attributes:
        lost: records that did not fit since it was last told.
    """

    def __init__(self, descriptor: int, *, most_waiting: int = MOST_WAITING) -> None:
        super().__init__()
        self.lost = 0
        self._descriptor = descriptor
        self._most = most_waiting
        self._waiting: SimpleQueue[str | threading.Event] = SimpleQueue()
        threading.Thread(target=self._run, name="lines", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one; never waits."""
        try:
            if self._waiting.qsize() < self._most:
                self._waiting.put(self.format(record))
            else:
                self.lost += 1
        except Exception:  # noqa: BLE001  (as every handler: a line that cannot be made ends nothing)
            self.handleError(record)

    def flush(self) -> None:
        """Wait for what was taken so far, for a bounded time."""
        written = threading.Event()
        self._waiting.put(written)
        written.wait(END_SECONDS)

    def _run(self) -> None:
        while True:
            one = self._waiting.get()
            if isinstance(one, threading.Event):
                one.set()
                continue
            if self.lost:
                lost, self.lost = self.lost, 0
                told = logging.makeLogRecord(
                    {"levelno": logging.WARNING, "levelname": "WARNING", "msg": f"{lost} lines were lost: the log is written too slowly"}
                )
                one = f"{self.format(told)}\n{one}"
            self._write(f"{one}\n".encode(errors="backslashreplace"))

    def _write(self, data: bytes) -> None:
        # Past the buffers of Python: one that is stuck in them as the process ends would abort it.
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Another process, at the same terminal, made it so.
                threading.Event().wait(RETRY_SECONDS)
            except OSError:
                # Nobody is there any more to be told.
                return
