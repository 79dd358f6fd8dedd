"""Log lines: one JSON object each, or plain text; a line for each request, without prompts and without keys.

Whatever a stranger sent (a model's name, a request id) is escaped, so that no line can be forged and no terminal be told to do things.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from vram.errors import printable
from vram.gateway.after import Ended, Listener, TurnedAway

_NAME: Final = 200
"""Characters of a model's name that are logged: a client may send a million."""


class JsonLines(logging.Formatter):
    """Log records as JSON objects: time, level, event, message, and the exception's text where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "event": "message",
            "message": printable(record.getMessage(), 2000),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json(line)


class TextLines(logging.Formatter):
    """Log records as text with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; an exception's text follows it."""
        text = f"{_time(record.created)} {record.levelname} {printable(record.getMessage(), 2000)}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def request_lines(out: TextIO, *, piece_bytes: int | None = None) -> Listener:
    """A listener that writes a line for each request to `out`, in pieces of whole lines of at most so many bytes (a longer line is one of its own)."""

    def write(ended: list[Ended | TurnedAway]) -> None:
        lines = [request_line(e) + "\n" if isinstance(e, Ended) else _turned_away(e) + "\n" for e in ended]
        for piece in [lines] if piece_bytes is None else _pieces(lines, piece_bytes):
            out.write("".join(piece))
            out.flush()

    return write


def _pieces(lines: list[str], most: int) -> list[list[str]]:
    found: list[list[str]] = []
    size = most
    for line in lines:
        # Lines are ASCII.
        size += len(line)
        if size > most:
            found.append([])
            size = len(line)
        found[-1].append(line)
    return found


def request_line(e: Ended) -> str:
    """The line of one request."""
    used = e.used
    return _json(
        {
            "time": _time(used.at),
            "level": "info",
            "event": "request",
            "request_id": used.request_id.decode("ascii", "replace"),
            "key": used.key,
            "path": e.path,
            "model": used.model[:_NAME],
            "pool": used.pool,
            "replica": used.replica,
            "outcome": used.outcome,
            "status": used.status,
            "code": e.code,
            "fallback": used.fallback,
            "stream": e.stream,
            "tries": e.tries,
            "prompt_tokens": used.prompt_tokens,
            "completion_tokens": used.completion_tokens,
            "counted": used.counted,
            "kv_byte_seconds": used.kv_byte_seconds,
            "saved_byte_seconds": used.saved_byte_seconds,
            "gpu_seconds": used.gpu_microseconds / 1e6,
            "dollars": used.nano_dollars / 1e9,
            "queue_seconds": round(used.queue_seconds, 6),
            "ttft_seconds": round(used.ttft_seconds, 6) if used.ttft_seconds is not None else None,
            "total_seconds": round(used.total_seconds, 6),
        }
    )


def _turned_away(e: TurnedAway) -> str:
    return _json({"time": _time(e.at), "level": "info", "event": "turned_away", "code": e.code, "status": e.status})


def _json(line: dict[str, Any]) -> str:
    # JSON allows DEL as it is; terminals do not deserve it.
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
