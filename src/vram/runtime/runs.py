"""Which `vram up` runs on this machine: a file and a socket for each, in a folder that only its owner enters.

The file is locked as long as its process lives, so that one whose process was killed is known at once: whatever is left of its engines
is then found by their marks and ended. The socket takes one line of JSON and answers with one.
"""

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vram.errors import VramError
from vram.runtime.local import kill_marked
from vram.sources.private import check_owner, own_folder

MOST_BYTES: Final = 4 * 2**20
SOCKET_PATH: Final = 100
"""Bytes that the path of a socket may have on every system (sun_path: 108 on Linux, 104 on macOS)."""
FILE_BYTES: Final = 4096
"""What a run's file takes from the beginning: the marks of some 200 engines are written over it, also when the disk is full by then."""
ELSEWHERE: Final = "free some space, or name a folder of your own for what programs keep of their runs: XDG_STATE_HOME"
SOCKET_FOLDER: Final = "vram-"
"""How the name of a folder begins that is made for a socket alone, with letters after it that nobody can foresee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One `vram up` that runs.

    Attributes:
        pid: its process.
        socket: where it takes commands.
        file: its file.
    """

    pid: int
    socket: Path
    file: Path

    def ask(self, request: dict[str, Any], *, seconds: float = 30.0) -> dict[str, Any]:
        """Send a command; its answer.

        Raises:
            VramError: it gives none.
        """
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(seconds)
                one.connect(str(self.socket))
                one.sendall(json.dumps(request).encode() + b"\n")
                data = b""
                while not data.endswith(b"\n") and len(data) < MOST_BYTES and (more := one.recv(65536)):
                    data += more
            found = json.loads(data)
        except (OSError, ValueError) as e:
            raise VramError(f"vram up with process {self.pid} does not answer: {e}", hint=f"is it still there? ps {self.pid}") from None
        return found if isinstance(found, dict) else {}


class Entry:
    """This process among those that run: made when it begins, gone when it ends."""

    def __init__(self, folder: Path) -> None:
        """Make it.

        Raises:
            UsageError: the folder is another user's.
            VramError: it cannot be written to: nobody would find what this run starts.
        """
        self.folder = folder
        own_folder(folder.parent, hint=ELSEWHERE)
        own_folder(folder, hint=ELSEWHERE)
        try:
            self._handle, self.file = _own(folder)
        except OSError as e:
            raise VramError(f"{folder}: {e.strerror or e}", hint=ELSEWHERE) from None
        self.socket = self.file.with_suffix(".sock")
        try:
            if len(str(self.socket).encode()) > SOCKET_PATH:
                self.socket = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER)) / "up.sock"
            self._write(self._told(()).ljust(FILE_BYTES))
        except OSError as e:
            self.close()
            raise VramError(f"{self.file}: {e.strerror or e}", hint=ELSEWHERE) from None

    def write(self, marks: Iterable[str]) -> None:
        """Tell what is there; on a full disk, what was there stays."""
        with suppress(OSError):
            self._write(self._told(marks).ljust(os.fstat(self._handle).st_size))

    def _told(self, marks: Iterable[str]) -> bytes:
        return json.dumps({"pid": os.getpid(), "socket": str(self.socket), "marks": list(marks)}).encode()

    def _write(self, data: bytes) -> None:
        written = os.pwrite(self._handle, data, 0)
        if written < len(data):
            # A disk that fills up takes a part first, and says no to the rest.
            os.pwrite(self._handle, data[written:], written)

    def close(self) -> None:
        """Be gone."""
        for path in (self.file, self.socket):
            with suppress(OSError):
                path.unlink()
        if self.socket.parent != self.folder:
            with suppress(OSError):
                self.socket.parent.rmdir()
        with suppress(OSError):
            os.close(self._handle)


def runs(folder: Path) -> list[Run]:
    """Those that run, the oldest first. What a killed one left behind – its file, its socket, processes of its engines – is removed.

    Raises:
        UsageError: the folder is another user's.
    """
    for one in (folder.parent, folder):
        check_owner(one, hint=ELSEWHERE)
    found = []
    for file in sorted(folder.glob("*.json"), key=_age):
        try:
            handle = os.open(file, os.O_RDWR)
        except OSError:
            continue
        try:
            told = json.loads(os.read(handle, MOST_BYTES) or b"null")
            if _lock(handle):
                if isinstance(told, dict) and sys.platform == "linux":
                    kill_marked({m for m in told.get("marks", ()) if isinstance(m, str) and m})
                left = Path(str(told["socket"])) if isinstance(told, dict) and told.get("socket") else file.with_suffix(".sock")
                if left.parent.name.startswith(SOCKET_FOLDER) and left.name == "up.sock":
                    with suppress(OSError):
                        left.unlink(missing_ok=True)
                        left.parent.rmdir()
                for path in (file, file.with_suffix(".sock")):
                    path.unlink(missing_ok=True)
            elif isinstance(told, dict):
                found.append(Run(pid=int(told["pid"]), socket=Path(str(told["socket"])), file=file))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        finally:
            os.close(handle)
    return found


def _own(folder: Path) -> tuple[int, Path]:
    """A file that we have locked, and its path. Another of our number has it already where containers share the folder."""
    number = 0
    while True:
        file = folder / (f"{os.getpid()}-{number}.json" if number else f"{os.getpid()}.json")
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(handle):
            with suppress(OSError):
                if os.path.samestat(os.fstat(handle), file.stat()):
                    return handle, file
            # Who looked at what runs took it for one that was left behind, and removed it before we held it.
        else:
            number += 1
        os.close(handle)


def _age(file: Path) -> float:
    try:
        return file.stat().st_ctime
    except OSError:
        return 0.0


def _lock(handle: int) -> bool:
    """Whether nobody else holds the file; it is held from then on."""
    import fcntl  # noqa: PLC0415  (POSIX only, as is all that starts engines)

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
