"""What `vram up` says while it serves. A thread of its own writes it: a terminal that was stopped, a pipe that nobody reads, holds up no request."""

import logging
import os
import sys
from typing import Final

import click

from vram.gateway.log import TextLines
from vram.gateway.telling import to_stderr

_SAID: Final = "vram.said"


class _Words(TextLines):
    """What is said, as it is; what is logged, as it is everywhere."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or the lines that are said together."""
        return str(record.msg) if record.name == _SAID else super().format(record)


class Said:
    """Says text on stderr, in order with warnings that are logged, and never waits for who reads it."""

    def __init__(self) -> None:
        self._handler = to_stderr()
        self._handler.setFormatter(_Words())
        logging.basicConfig(level=logging.WARNING, handlers=[self._handler])
        self._plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        """Say it; styles are left out where nobody sees them."""
        self._handler.handle(logging.makeLogRecord({"name": _SAID, "levelno": logging.INFO, "msg": click.unstyle(text) if self._plain else text}))

    def end(self) -> None:
        """Wait, for a bounded time, until all was written: others write to stderr after this."""
        self._handler.flush()
