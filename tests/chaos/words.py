"""What clients and engines of the chaos run agree on: how a request says what its engine shall do, and the exact bytes of an answer."""

import re
from typing import Final

ORDER: Final = re.compile(rb"chaos ([a-z0-9-]+) ([a-z0-9-]+) (\d+) (\d+) (\d+) ")
"""Id, behaviour, events (or, of endless lines, KiB), milliseconds before the first byte, milliseconds between two events."""


def order(name: str, behaviour: str, count: int, first_ms: int, pace_ms: int) -> str:
    """The words in a prompt that tell its engine what to do."""
    return f"chaos {name} {behaviour} {count} {first_ms} {pace_ms} "


def event(name: str, number: int) -> bytes:
    """One event of a stream: it names its request and its place, so that none can be another's or missing."""
    return b'data: {"id":"%b","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"w%d "}}]}\n\n' % (name.encode(), number)


def events(name: str, count: int) -> bytes:
    """All events of a stream with its end."""
    return b"".join(event(name, i) for i in range(count)) + b"data: [DONE]\n\n"


def usage(count: int, *, lies: bool = False) -> bytes:
    """The engine's count of tokens."""
    if lies:
        return b'{"prompt_tokens":999999999999,"completion_tokens":888888888888,"total_tokens":-1}'
    return b'{"prompt_tokens":40,"completion_tokens":%d,"total_tokens":%d}' % (count, 40 + count)


def document(name: str, count: int, told: bytes) -> bytes:
    """A whole answer that is no stream."""
    text = b" ".join(b"w%d" % i for i in range(count))
    return b'{"id":"%b","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"%b"}}],"usage":%b}' % (
        name.encode(),
        text,
        told,
    )
