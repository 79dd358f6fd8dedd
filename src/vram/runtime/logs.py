"""What a process prints: its first lines, its last ones, and a file that never grows without bound. A full disk is told once and survived."""

import os
import threading
from collections import deque
from pathlib import Path
from typing import Final

HEAD_LINES: Final = 4000
TAIL_LINES: Final = 1000
LINE_BYTES: Final = 8192
FILE_BYTES: Final = 8 * 2**20
"""Of one file; the one before it is kept beside it as NAME.1."""


class LogFile:
    """A file of lines with one older one beside it."""

    def __init__(self, path: Path, most_bytes: int = FILE_BYTES) -> None:
        self.path = path
        self.most_bytes = most_bytes
        self.trouble = ""
        """Why lines are missing from the file; empty while none are."""
        self._handle: int | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """Add lines; what cannot be written is left out."""
        try:
            if self._handle is None:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                # What engines print may hold what clients asked: for the owner alone.
                self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                self._size = os.fstat(self._handle).st_size
            if self._size + len(data) > self.most_bytes and self._size:
                os.close(self._handle)
                self._handle = None
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
                self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                self._size = 0
            while data:  # a disk that fills up takes a part first, and says no to the rest
                written = os.write(self._handle, data)
                self._size += written
                data = data[written:]
            self.trouble = ""
        except OSError as e:
            self.trouble = f"{self.path}: {e.strerror or e}"

    def close(self) -> None:
        """No more lines."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Lines:
    """Lines of one process. Written by the thread that reads its pipe, read by anybody."""

    def __init__(self, file: LogFile | None = None) -> None:
        self.file = file
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._rest = b""
        self._lock = threading.Lock()

    def feed(self, data: bytes) -> None:
        """Bytes out of the pipe."""
        *whole, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > LINE_BYTES:
            whole.append(rest)
            rest = b""
        self._rest = rest
        self._take(whole)

    def end(self) -> None:
        """The pipe is closed: what has no end counts as a line."""
        if self._rest:
            self._take([self._rest])
            self._rest = b""
        if self.file is not None:
            self.file.close()

    def say(self, text: str) -> None:
        """A line of our own, between the process'."""
        self._take([text.encode()])

    def _take(self, lines: list[bytes]) -> None:
        lines = [line[:LINE_BYTES] for line in lines if line.strip()]
        if not lines:
            return
        if self.file is not None:
            self.file.write(b"\n".join(lines) + b"\n")
        texts = [line.decode("utf-8", "replace") for line in lines]
        with self._lock:
            self._head += texts[: max(HEAD_LINES - len(self._head), 0)]
            self._tail.extend(texts)

    def head(self) -> list[str]:
        """The first lines."""
        with self._lock:
            return list(self._head)

    def tail(self, lines: int) -> list[str]:
        """The last lines."""
        with self._lock:
            return list(self._tail)[-lines:]
