"""Where traces lie: a file, plain or gzipped, read line by line and never whole."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from vram.errors import UsageError
from vram.readers.trace import MAX_LINE_BYTES, TraceRow, parse_trace

MAX_BYTES: Final = 4 << 30
"""Of a trace, unpacked: a small file can hide a large one."""


def read_trace(path: str | Path, *, first: int | None = None, sort: bool = False, skip_bad: bool = False) -> tuple[list[TraceRow], int]:
    """The requests of a trace file in the order of their time, and how many lines were left out (see `parse_trace`).

    Args:
        path: CSV or JSON lines, plain or gzipped.
        first: take so many requests at most.
        sort: bring them in order instead of refusing what is not.
        skip_bad: leave out lines that cannot be used instead of refusing them.

    Raises:
        UsageError: there is no such file, it cannot be unpacked, or a line of it cannot be used.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            readline = gzip.GzipFile(fileobj=raw).readline if packed else raw.readline
            return parse_trace(_lines(readline, path.name), path.name, first=first, sort=sort, skip_bad=skip_bad)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UsageError(f"{path.name} cannot be unpacked", hint="the file is cut off or damaged; fetch it again") from None
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror or e}", hint="name a trace file: CSV with TIMESTAMP,ContextTokens,GeneratedTokens") from None


def _lines(readline: Callable[[int], bytes], where: str) -> Iterator[bytes]:
    read = 0
    while line := readline(MAX_LINE_BYTES + 1):
        read += len(line)
        if read > MAX_BYTES:
            raise UsageError(f"{where} has more than {MAX_BYTES:,} bytes", hint="--first takes the requests at its head; is it a trace?")
        yield line
