"""How a process of the gateway logs, and who is told of its requests: set up once, the same in each process."""

import logging
import sys
from typing import TYPE_CHECKING, Final

from vram.gateway.log import JsonLines, TextLines, request_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from vram.gateway.after import Listener

PIECE_BYTES: Final = 4096
"""What POSIX lets several processes write to one pipe without mixing their lines (PIPE_BUF on Linux)."""


def set_up(*, log_json: bool, quiet: bool, otel: bool, several: bool = False) -> "tuple[tuple[Listener, ...], Callable[[], object] | None]":
    """Log to stderr. Returns the listeners to requests, and what ends them; `several`: other processes write to the same stderr.

    Raises:
        UsageError: the packages that traces need are not installed.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_json else TextLines())
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler])
    listeners = [request_lines(sys.stderr, piece_bytes=PIECE_BYTES if several else None)] if log_json else []
    if not otel:
        return tuple(listeners), None
    from vram.gateway.spans import otlp_spans  # noqa: PLC0415  (an extra)

    listener, end = otlp_spans()
    return (*listeners, listener), end
