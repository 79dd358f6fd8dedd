"""The head of an engine's response, read far enough to follow its body and to be sent on. What breaks HTTP/1.1, or could be read in two ways, is none."""

import re
from typing import Final

_STATUS: Final = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,15})[ \t]*\r\n")
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n")
_CLOSE: Final = re.compile(rb"\r\nconnection:[^\r\n]*close")
_FIELDS: Final = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*")
_HOP_BY_HOP: Final = re.compile(rb"\r\n(?:connection|keep-alive|proxy-connection|upgrade|trailer|te|proxy-authenticate):[^\r\n]*", re.IGNORECASE)


class Head:
    """A response's head, read far enough to follow its body.

    Attributes:
        status: the status code.
        length: bytes of the body; -1 where the head does not say.
        chunked: whether the body comes in chunks.
        close: whether the engine will close after it.
        lines: status line and headers for the client, less those that are between the engine and us; ends without a CRLF.
        whole: all of it as it came, with its empty line.
    """

    __slots__ = ("chunked", "close", "length", "lines", "status", "whole")

    def __init__(self, data: bytes, end: int) -> None:
        """Read the head in `data[:end]` (without its empty line).

        Raises:
            ValueError: it breaks HTTP/1.1, or leaves the end of the body in doubt.
        """
        self.whole = data[: end + 4]
        lines = data[: end + 2]
        first = _STATUS.match(lines)
        if first is None:
            raise ValueError("no status line")
        # A client could read lines that are none otherwise than we do.
        if _FIELDS.fullmatch(lines, first.end()) is None:
            raise ValueError("a broken header line")
        low = lines.lower()
        self.status = status = int(first[2])
        self.close = first[1] == b"0"
        self.length = -1
        self.chunked = False
        # find, not `in`: on bytes `in` tries its left side as a number first, and raises inside.
        coded = low.find(b"\r\ntransfer-encoding") >= 0
        if low.find(b"\r\ncontent-length") >= 0:
            found = _LENGTH.search(low)
            if found is None or coded or low.count(b"\r\ncontent-length") > 1:
                raise ValueError("a broken Content-Length")
            self.length = int(found[1])
        elif coded:
            if _CHUNKED.search(low) is None or low.count(b"\r\ntransfer-encoding") > 1:
                raise ValueError("a transfer coding that is not chunked")
            self.chunked = True
        if status == 101 or (status == 204 and (self.chunked or self.length > 0)):
            # Nobody asked for another protocol; and a client may read a body that we pass over, and take what follows for it.
            raise ValueError("a status that this cannot be an answer with")
        if status == 204 or status == 304 or status < 200:  # noqa: PLR1714  (once a request: a set would be built or hashed)
            self.length, self.chunked = 0, False
        if low.find(b"\r\nconnection:") >= 0 or low.find(b"\r\nkeep-alive:") >= 0 or low.find(b"\r\nupgrade:") >= 0 or low.find(b"\r\ntrailer:") >= 0:
            self.close = self.close or _CLOSE.search(low) is not None
            lines = _HOP_BY_HOP.sub(b"", lines)
        self.lines = lines[:-2] if lines[:9] == b"HTTP/1.1 " else b"HTTP/1.1 " + lines[9:-2]
