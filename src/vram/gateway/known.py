"""The head of the last request of a connection: whoever sends it again, all but the digits of its length, need not be read again.

Clients that keep a connection send one head after another that differs in nothing but Content-Length. llhttp judged the first of them
byte by byte; of a head with the same bytes around other digits its verdict is the same. Compared with what the same connection sent
before, never with another's. It holds the client's key as long as the connection lives, as the head in the kernel's buffer did.
"""

from typing import Final

_LENGTH: Final = b"\r\ncontent-length: "
_DIGITS: Final = 9
# What makes a request depend on more than its own bytes, or its body on more than a length.
_OTHERWISE: Final = (b"\r\ntransfer-encoding", b"\r\nexpect:", b"\r\nupgrade:")


class Known:
    """A head, in two pieces around the digits of its length.

    Attributes:
        before: up to the digits.
        after: from there to its empty line.
        method: as llhttp read it.
        path: the same.
        head: with the digits of the first such request, as `Request` has it.
        low: the same in lower case.
        digest: of its key, once somebody asked; None: nobody did yet.
        length: of the body that was asked for last.
        plain: whether it has no header whose name begins with x-.
    """

    __slots__ = ("after", "before", "digest", "head", "length", "low", "method", "path", "plain")

    def __init__(self, method: bytes, path: bytes, head: bytes, low: bytes, at: int, end: int) -> None:
        self.method = method
        self.path = path
        self.head = head
        self.low = low
        self.before = head[:at]
        self.after = head[end:] + b"\r\n"
        self.length = 0
        self.digest: bytes | None = None
        self.plain = low.find(b"\r\nx-") < 0

    def body_at(self, data: bytes) -> int:
        """Where the body begins in bytes that begin with such a head, and `length` as its bytes; -1 where they do not."""
        before = self.before
        if not data.startswith(before):
            return -1
        start = at = len(before)
        most = min(len(data), start + _DIGITS)
        length = 0
        while at < most:
            digit = data[at] - 48
            if digit < 0 or digit > 9:
                break
            length = length * 10 + digit
            at += 1
        # A zero in front, as a head cut short, is llhttp's to judge.
        if at == start or data[start] == 48 or not data.startswith(self.after, at):
            return -1
        self.length = length
        return at + len(self.after)


def known(method: bytes, path: bytes, head: bytes, low: bytes) -> Known | None:
    """The head of a request as it may come again; None where a body without a plain length, or more than one request, depends on it.

    `head` and `low` end with the last header's CRLF.
    """
    at = low.find(_LENGTH)
    if at < 0:
        return None
    for word in _OTHERWISE:
        if low.find(word) >= 0:
            return None
    at += len(_LENGTH)
    end = low.find(b"\r\n", at)
    if not low[at:end].isdigit():
        return None
    return Known(method, path, head, low, at, end)
