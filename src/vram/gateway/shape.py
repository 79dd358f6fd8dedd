"""What makes two requests the same in what they do to an engine: a number out of the body, the same in every process, not to be read back."""

from typing import Final
from zlib import crc32

_WHOLE: Final = 1024


def shape_of(body: bytes) -> int:
    """The same for the same body. Of a long one its ends, its length and every so-manieth byte count: it costs microseconds whatever its size."""
    size = len(body)
    found = crc32(body) if size <= _WHOLE else crc32(body[:: size // _WHOLE + 1], crc32(body[-256:], crc32(body[:256])))
    return found << 32 | size & 0xFFFFFFFF
