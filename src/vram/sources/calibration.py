"""The user's own measured starts: one JSON object a line, only ever added to, never written anew."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from vram.settings import settings
from vram.sources.private import add_line, last_lines, own_folder

MAX_BYTES: Final = 32 * 2**20
MAX_ROWS: Final = 20_000
ELSEWHERE: Final = "free some space, or name a folder of your own for measured starts: XDG_DATA_HOME"


def calibration_file() -> Path:
    """Where they lie: vram/calibration.jsonl in the XDG data directory."""
    return _file(os.environ.get("XDG_DATA_HOME", ""), os.environ.get("HOME", ""))


@lru_cache(maxsize=8)
def _file(data_home: str, home: str) -> Path:  # noqa: ARG001  (what the answer hangs on; every plan asks)
    return settings().calibration


def append_row(row: dict[str, Any], path: Path | None = None) -> Path:
    """Add one row, in a folder and a file for their owner alone. Rows of processes at the same time never mix, and nothing that was there is touched.

    Raises:
        UsageError: the folder is another user's, or none.
        VramError: the folder can't be made or closed to others.
        OSError: the file can't be written.
    """
    path = path or calibration_file()
    own_folder(path.parent, hint=ELSEWHERE)
    add_line(path, msgspec.json.encode(row))
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
        for line in last_lines(path, MAX_BYTES)[-MAX_ROWS:]:
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
