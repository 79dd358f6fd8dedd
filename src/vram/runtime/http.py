"""One question to an engine on this machine, over a connection of its own. It knows no engine."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

MOST_BYTES: Final = 16 * 2**20
"""Of an answer are read; one that goes on is left there."""
PIECE_BYTES: Final = 64 * 2**10


class NoAnswerError(Exception):
    """Nobody listens, the connection broke, or the time ran out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


async def ask(
    port: int,
    method: str,
    path: str,
    document: Any = None,
    *,
    seconds: float = 10.0,
    host: str = "127.0.0.1",
    headers: str = "",
    keep_bytes: int = MOST_BYTES,
) -> Answer:
    """Ask and read the whole answer, of which `keep_bytes` are kept at most.

    HTTP/1.0: what comes back has no chunks, and its end is the connection's.

    Raises:
        NoAnswerError: there is none.
    """
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port, limit=PIECE_BYTES)
            body = b"" if document is None else json.dumps(document).encode()
            head = f"{method} {path} HTTP/1.0\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            data, seen = bytearray(), 0
            while seen < MOST_BYTES and (more := await reader.read(PIECE_BYTES)):
                seen += len(more)
                data += more[: max(keep_bytes - len(data), 0)]
    except TimeoutError:
        raise NoAnswerError(f"no answer within {seconds:g} s") from None
    except (OSError, ValueError) as e:
        raise NoAnswerError(str(e)) from None
    finally:
        if writer is not None:
            with suppress(Exception):
                writer.close()
    top, gap, body = bytes(data).partition(b"\r\n\r\n")
    words = top.split(b" ", 2)
    if not gap or len(words) < 2 or len(words[1]) != 3 or not words[1].isdigit():
        raise NoAnswerError("the connection ended before an answer")
    return Answer(int(words[1]), body)
