"""How a process of the gateway logs, and who is told of its requests: set up once, the same in each process."""

import logging
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from vram.gateway.lines import Lines
from vram.gateway.log import JsonLines, TextLines, request_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from vram.gateway.after import Begin, Listener

PIECE_BYTES: Final = 4096
"""What POSIX lets several processes write to one pipe without mixing their lines (PIPE_BUF on Linux)."""


class Told(NamedTuple):
    """Who is told of requests.

    Attributes:
        listeners: of their ends.
        begin_span: of their beginnings; None: nobody.
        end: ends it all.
    """

    listeners: "tuple[Listener, ...]" = ()
    begin_span: "Begin | None" = None
    end: "Callable[[], object]" = lambda: None


def set_up(*, log_json: bool, quiet: bool, otel: bool, several: bool = False) -> Told:
    """Log to stderr. Returns who is told of requests; `several`: other processes write to the same stderr.

    Raises:
        UsageError: the packages that traces need are not installed.
    """
    handler = to_stderr()
    handler.setFormatter(JsonLines() if log_json else TextLines())
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler])
    listeners = [request_lines(sys.stderr, piece_bytes=PIECE_BYTES if several else None)] if log_json else []
    if not otel:
        return Told(tuple(listeners))
    from vram.gateway.spans import otlp_spans  # noqa: PLC0415  (an extra)

    spans, end = otlp_spans()
    return Told((*listeners, spans), spans.begin, end)


def to_stderr() -> logging.Handler:
    """A handler that writes to stderr, and never waits for who reads it."""
    try:
        return Lines(sys.stderr.fileno())
    except (AttributeError, OSError):
        # None, or nothing that a file is behind.
        return logging.StreamHandler()
