"""What a request begins with, as a number: requests of one conversation, or of one session, have the same one and meet at one replica.

Those that begin alike at all (a system prompt) are of one kin: they are taken for those who share what their engine says is shared.

A conversation is known by its messages up to the first answer: they are the same in all its turns. Of them only the beginning, the end
and the length are looked at, so that a prompt of any size costs microseconds. It is no digest: two that are taken for one share a replica,
no more.
"""

from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from vram.gateway.ask import Ask

PREFIX: Final = "prefix"
SESSION: Final = "session"
OFF: Final = "off"

_LOOKED_AT: Final = 64 * 1024
"""A first turn is taken for no longer than this."""
_ENDS: Final = 1024
_TEXT: Final = 1024
"""Bytes of a plain prompt, or of an input that is no list of messages."""
_FOUND: Final = 1 << 32
_KIN_BYTES: Final = 2048
"""Shorter prompts share nothing that is worth a look."""


def affinity_of(ask: "Ask", session: bytes, by: str = PREFIX) -> int:
    """The key of a request; 0 where it has none. `session` is what its client named itself by; `by` says what counts."""
    if by == OFF:
        return 0
    if session:
        return crc32(session) | _FOUND
    if ask.cache_key:
        return crc32(ask.cache_key) | _FOUND
    if by == SESSION or not ask.text:
        return 0
    text = bytes(ask.text)
    if text[:1] != b"[":
        return crc32(text[:_TEXT]) | _FOUND
    end = min(len(text), _LOOKED_AT)
    answer = text.find(b'"assistant"', 0, end)
    # Up to the end of the message before it: what is between them stands in later turns only.
    end = text.rfind(b"}", 0, answer if answer >= 0 else end) + 1 or end
    found = crc32(text[: min(end, _ENDS)])
    return crc32(text[max(end - _ENDS, 0) : end], found) ^ end | _FOUND


def kin_of(ask: "Ask") -> int:
    """What requests with one beginning have in common; 0 where there is no text, or little."""
    if len(ask.text) < _KIN_BYTES:
        return 0
    return crc32(memoryview(ask.text)[:_TEXT]) | _FOUND
