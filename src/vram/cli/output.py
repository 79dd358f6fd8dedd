"""Where words go: data to stdout, everything else to stderr; progress only where somebody watches."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


def terminal_width() -> int:
    """Columns to draw for: the terminal's, COLUMNS where it is set, 120 into a file or a pipe."""
    return _columns(sys.stdout) or 120


def error_width() -> int:
    """The same for stderr, which may be a terminal where stdout is none: `--json > file`."""
    return _columns(sys.stderr) or 120


def table_width() -> int:
    """The same for a table; 0, as many as it needs, into a file or a pipe: there each row stays one line."""
    return _columns(sys.stdout)


def troubled(message: str, hint: str = "") -> str:
    """An error and what to do about it. In a window of few columns the rest of each stands below its beginning, no word cut; elsewhere each is one line."""
    from textwrap import wrap

    rows, width = [], _columns(sys.stderr)
    for head, text in (("error: ", message), ("hint: ", hint)):
        if text:
            one = head + text
            # A word that is longer than the window, a path or an address, is to be copied whole.
            rows += wrap(one, max(width, 20), subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False) if width else [one]
    return "\n".join(rows)


def _columns(stream: TextIO) -> int:
    """COLUMNS, else those of the terminal behind a stream; 0 where there is neither."""
    from shutil import get_terminal_size

    if "COLUMNS" in os.environ:
        return get_terminal_size((120, 24)).columns
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80 if stream.isatty() else 0
    except OSError:
        return 0


def print_styled(text: str) -> None:
    """Print text with ANSI styles; they are left out for NO_COLOR, for a dumb terminal, and when nobody watches."""
    import click

    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    click.echo(text, color=False if plain else None)


def print_json(document: Any) -> None:
    """One JSON document and a newline on stdout."""
    # Names come from strangers' files: what a terminal could take for a command is escaped, as JSON allows for any character.
    import json

    text = json.dumps(document, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f")
    _printed.append(True)
    sys.stdout.write(text + "\n")


_printed: list[bool] = []


def begin_json() -> None:
    """A command that is asked for one document begins: it has printed none."""
    _printed.clear()


def print_trouble(message: str, hint: str, exit_code: int) -> None:
    """The document of a command that was asked for one and failed, schema vram.error/1; none where it printed its own already."""
    if not _printed:
        print_json({"schema": "vram.error/1", "error": {"message": message, "hint": hint, "exit_code": int(exit_code)}})
    sys.stdout.flush()


Progress = Callable[[int, int, int], None]
"""Called with parts done, parts in all, and bytes read so far."""


@contextmanager
def progress(what: str) -> Iterator[Progress | None]:
    """A progress line on stderr for reads that take long; None, so silence, where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from time import monotonic

    start, shown = monotonic(), False

    def report(done: int, total: int, read_bytes: int) -> None:
        nonlocal shown
        seconds = monotonic() - start
        # What is over in a blink needs no progress.
        if seconds < 0.5 and not shown:
            return
        left = f", {seconds / done * (total - done):.0f} s left" if done else ""
        sys.stderr.write(f"\r\x1b[K{what}: {done} of {total}, {read_bytes / 1e6:.1f} MB, {read_bytes / 1e6 / max(seconds, 1e-3):.1f} MB/s{left}")
        sys.stderr.flush()
        shown = True

    try:
        yield report
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
