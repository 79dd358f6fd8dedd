"""Folders and files for their owner alone: what a run keeps – sockets, logs, keys, a token – is nobody else's to read, to lay traps in or to remove."""

import os
import stat
from pathlib import Path

from vram.errors import UsageError, VramError


def own_folder(path: Path, *, hint: str) -> Path:
    """A folder that only we enter: made where it is not there, closed to others where it stands open.

    Args:
        path: the folder.
        hint: what to do where it cannot be had.

    Raises:
        UsageError: it is another user's, or no folder.
        VramError: it cannot be made or closed: a full disk, a read-only one, no permission.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_owner(path, hint=hint)
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o700)
    except FileExistsError:
        raise UsageError(f"{path} is no folder", hint=hint) from None
    except OSError as e:
        raise VramError(f"{e.filename or path}: {e.strerror or e}", hint=hint) from None
    return path


def check_owner(path: Path, *, hint: str) -> None:
    """Refuse what is there and is another user's.

    Raises:
        UsageError: it is.
    """
    if os.name != "posix":
        return
    try:
        owner = path.stat().st_uid
    except OSError:
        return
    if owner != os.geteuid():
        raise UsageError(f"{path} belongs to another user (number {owner}, this is {os.geteuid()})", hint=hint)


def make_file(path: Path) -> bool:
    """An empty file for its owner alone, never readable by others, not for a moment; False where there was one.

    Raises:
        OSError: it cannot be made.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def last_lines(path: Path, most_bytes: int) -> list[bytes]:
    """The lines of a file, in their order; of a file of more than `most_bytes` those that lie whole in its last ones: what was added last counts most.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        # A byte more: whether the first line is whole is told by the end of the one before it.
        skipped = max(0, stream.seek(0, os.SEEK_END) - most_bytes - 1)
        stream.seek(skipped)
        lines = stream.read(most_bytes + 1).split(b"\n")
    return lines[1:] if skipped else lines


def add_line(path: Path, line: bytes) -> None:
    """Add one line to a file for its owner alone, in a single write: lines of processes at the same time never mix.

    A line that was cut off before (a full disk, a crash) stays as it is; the new one starts on its own.

    Raises:
        OSError: it cannot be written.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line
        os.write(handle, line + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
