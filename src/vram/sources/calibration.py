"""The user's own measured starts: one JSON object a line, only ever added to, never written anew."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from vram.settings import settings

MAX_BYTES: Final = 32 * 2**20
MAX_ROWS: Final = 20_000


def calibration_file() -> Path:
    """Where they lie: vram/calibration.jsonl in the XDG data directory."""
    return _file(os.environ.get("XDG_DATA_HOME", ""), os.environ.get("HOME", ""))


@lru_cache(maxsize=8)
def _file(data_home: str, home: str) -> Path:  # noqa: ARG001  (what the answer hangs on; every plan asks)
    return settings().calibration


def append_row(row: dict[str, Any], path: Path | None = None) -> Path:
    """Add one row: in a single write, so that rows of processes at the same time never mix. Nothing that was there is touched.

    Raises:
        OSError: the folder or the file can't be written.
    """
    path = path or calibration_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    line = msgspec.json.encode(row) + b"\n"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(handle).st_size
        # A line that was cut off (a full disk, a crash) stays as it is; the new one starts on its own.
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line
        os.write(handle, line)
        os.fsync(handle)
    finally:
        os.close(handle)
    return path


_known: dict[Path, tuple[int, int, tuple[dict[str, Any], ...]]] = {}


def read_rows(path: Path | None = None) -> tuple[dict[str, Any], ...]:
    """The rows that can be read, in their order; () when there is no file. Lines that are none are left where they are."""
    path = path or calibration_file()
    try:
        state = path.stat()
    except OSError:
        return ()
    before = _known.get(path)
    if before is not None and before[:2] == (state.st_mtime_ns, state.st_size):
        return before[2]
    rows = []
    try:
        with path.open("rb") as stream:
            for line in stream.read(MAX_BYTES).split(b"\n")[-MAX_ROWS:]:
                try:
                    row = msgspec.json.decode(line) if line.strip() else None
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue
                if isinstance(row, dict):
                    rows.append(row)
    except OSError:
        return ()
    _known[path] = (state.st_mtime_ns, state.st_size, tuple(rows))
    return _known[path][2]
