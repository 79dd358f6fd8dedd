"""A request as a client's connection hands it on: its head judged sound, its body whole."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vram.gateway.known import Known


class Request:
    """A whole request of a client: the head as llhttp let it through, in lower case for looking things up, and the body.

    `known`: the same head, where it may come again or came before on this connection; then its Content-Length is not this body's.
    """

    __slots__ = ("body", "head", "keep_alive", "known", "low", "method", "path")

    def __init__(self, method: bytes, path: bytes, head: bytes, low: bytes, body: bytes, known: "Known | None", *, keep_alive: bool) -> None:
        self.known = known
        self.method = method
        self.path = path
        self.head = head
        self.low = low
        self.body = body
        self.keep_alive = keep_alive

    def header(self, name: bytes) -> bytes:
        """The value of the first header of that name (in lower case); empty when there is none."""
        at = self.low.find(b"\r\n%b:" % name)
        if at < 0:
            return b""
        start = at + len(name) + 3
        return self.head[start : self.head.find(b"\r\n", start)].strip()
