"""One client connection: bytes in, whole requests out, one at a time; strict about what it reads.

llhttp (by httptools) judges and frames: it refuses Content-Length beside Transfer-Encoding, two lengths, folded headers and bare
line feeds. The few headers that matter are then picked out of the very bytes that it judged sound. Counted here: hosts, header lines,
bytes, seconds. What a client sends before its answer is out is not executed: the connection ends after that answer (RFC 9112, 9.3.2),
so no second request can hide behind a first one.
It knows nothing of models and engines: the house it belongs to does.
"""

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast
from zlib import crc32

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from vram.gateway.known import Known, known
from vram.gateway.pieces import Pieces
from vram.gateway.refusal import HEAD_TOO_LARGE, STOPPING, TOO_SLOW, Refusal, bad_request, too_large
from vram.gateway.request import Request

if TYPE_CHECKING:
    from vram.gateway.house import Handler, House

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# Sent ahead of an answer: read and dropped, so that a client that leaves is still noticed; past this much it is cut off.
AHEAD_BYTES: Final = 2**20
_NO_PARSER: Final = HttpRequestParser(object())
"""Stands where a connection is gone."""


class Front(asyncio.Protocol):
    """A client. One request at a time is with a handler; `finished` lets the next one be read.

    Attributes:
        ahead: bytes and requests that came ahead of an answer: that answer is the last one.
    """

    __slots__ = (
        "_body",
        "_broken",
        "_deadline",
        "_head",
        "_known",
        "_low",
        "_parser",
        "_path",
        "_reading",
        "_source",
        "_turn",
        "_want",
        "ahead",
        "closed",
        "handler",
        "house",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, house: "House") -> None:
        self.house = house
        self.handler: Handler | None = None
        self.closed = False
        self.write_paused = False
        self._parser = HttpRequestParser(self)
        self._broken = False
        self.ahead = 0
        # b"" between requests; bytes of the head while it arrives; `_reading` is True from its end to the end of the body.
        self._head = self._low = b""
        self._reading = False
        # Whether a request came out of this read already: what follows it in the same read came ahead.
        self._turn = False
        self._path = b""
        self._body = Pieces()
        self._deadline = 0.0
        self._source = 0
        # The last head, and bytes of its body that are to come, where it came again: of those llhttp hears nothing.
        self._known: Known | None = None
        self._want = 0

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        # uvloop's transports have the methods, not the base class.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=256 * 1024)
        self._deadline = self.house.now() + self.house.limits.idle_seconds
        self.house.fronts.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (why it left does not matter)
        """The client left: whatever runs for it ends now."""
        self.closed = True
        self.house.fronts.discard(self)
        # The parser knows this connection, and this connection its parser: taken apart here, no circle is left for the collector.
        self._parser = _NO_PARSER
        if self.handler is not None:
            handler, self.handler = self.handler, None
            handler.client_left()

    def eof_received(self) -> bool:
        """A client that will send no more has left: nobody can tell whether it still reads."""
        return False

    def pause_writing(self) -> None:
        """The client reads too slowly: the engine waits."""
        self.write_paused = True
        if self.handler is not None:
            self.handler.pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self.write_paused = False
        if self.handler is not None:
            self.handler.resume()

    def overdue(self, now: float) -> None:
        """Called about once a second: end what takes too long to arrive, or is not taken."""
        if self.handler is not None or now <= self._deadline:
            return
        if self._broken:
            # Closed long ago, but its last answer is still here: the client does not read.
            self.transport.abort()
        elif self._head or self._reading:
            self._refuse(TOO_SLOW)
        else:
            self._close()

    # --- bytes in

    def data_received(self, data: bytes) -> None:
        """Parse; a whole request comes out at `on_message_complete`."""
        if self._broken:
            return
        if self.handler is not None or self.write_paused:
            # An answer that is not taken yet is not out: who asks on and reads nothing would fill the house with answers.
            # Line ends between two requests mean nothing (RFC 9112, 2.2).
            self.ahead += len(data.strip(b"\r\n"))
            if self.ahead > AHEAD_BYTES:
                self.transport.abort()
            elif self.ahead and self._answered():
                self._close()
            return
        if self._want:
            self._more(data, 0)
            return
        if not self._reading:
            if self._known is not None and not self._head and self._again(self._known, data):
                return
            if self._head:
                self._head += data
            elif head := data if data[:1] not in b"\r\n" else data.lstrip(b"\r\n"):
                self._head = head
                self._deadline = self.house.now() + self.house.limits.head_seconds
        self._turn = False
        try:
            self._parser.feed_data(data)
        except (HttpParserUpgrade, HttpParserError) as e:
            if self._refused():
                # It was refused at its head; what else is wrong with it is not told as well.
                return
            if self._turn:
                # What follows a whole request breaks HTTP: that request is answered all the same, as the last one.
                self.ahead += 1
                if self._answered():
                    self.finished(keep_alive=False)
            elif isinstance(e, HttpParserUpgrade):
                self._refuse(bad_request("no other protocol is spoken here: send no Upgrade", "upgrade"))
            else:
                self._refuse(bad_request("that breaks HTTP as RFC 9112 has it", "bad_http"))
        else:
            # A head that goes on without ever ending is told by its bytes alone.
            if len(self._head) > self.house.limits.head_bytes and not self._reading and not self._broken:
                self._refuse(HEAD_TOO_LARGE)
            elif self.ahead and self._answered() and not self._broken:
                self.finished(keep_alive=False)

    def _again(self, known: Known, data: bytes) -> bool:
        """Whether this begins with the head that came before. Its body is followed here, by its length."""
        at = known.body_at(data)
        if at < 0 or self.house.stopping:
            return False
        length = known.length
        limits = self.house.limits
        if length > limits.body_bytes:
            return False
        if len(data) - at == length:
            self.house.serve(self, Request(known.method, known.path, known.head, known.low, data[at:], known, keep_alive=True))
            return True
        self._reading = True
        self._deadline = self.house.now() + limits.body_seconds
        self._want = length
        self._more(data, at)
        return True

    def _more(self, data: bytes, at: int) -> None:
        """Bytes of such a body, from `at` on; what is more than that came ahead."""
        want, known = self._want, self._known
        got = len(data) - at
        if got > want:
            self.ahead += len(data[at + want :].strip(b"\r\n"))
            got = want
        if got:
            self._body.add(data[at : at + got] if at or got < len(data) else data)
        self._want = want = want - got
        if want or known is None:
            return
        body = self._body.whole()
        self._reading = False
        if self.house.stopping:
            self._refuse(STOPPING)
            return
        self.house.serve(self, Request(known.method, known.path, known.head, known.low, body, known, keep_alive=True))
        if self.ahead and self._answered() and not self._broken:
            self.finished(keep_alive=False)

    def _answered(self) -> bool:
        """Whether nobody works on an answer. Asked anew: parsing calls back, and what it changed, no type checker sees."""
        return self.handler is None

    def _refused(self) -> bool:
        """Whether nothing more is read of it; asked anew for the same reason."""
        return self._broken

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._turn:
            self.ahead += 1

    def on_url(self, url: bytes) -> None:
        """The request target, perhaps in pieces."""
        self._path += url

    def on_headers_complete(self) -> None:
        """All headers are in: judge them before a byte of the body is kept."""
        if self._turn or self._broken:
            return
        limits = self.house.limits
        end = self._head.find(b"\r\n\r\n") + 2
        self._head = head = self._head[:end]
        self._low = low = head.lower()
        self._reading = True
        self._deadline = self.house.now() + limits.body_seconds
        first = head.find(b"\n")
        version = head[first - 10 : first + 1]
        if version != b" HTTP/1.1\r\n" and version != b" HTTP/1.0\r\n":  # noqa: PLR1714  (once a request: a tuple would be built)
            # llhttp takes a line without a version, too, with a bare line feed at its end, and what HTTP/2 begins with.
            self._refuse(bad_request("HTTP/1.1 is spoken here", "bad_http"))
        elif end > limits.head_bytes or low.count(b"\r\n") > limits.headers:
            self._refuse(HEAD_TOO_LARGE)
        elif low.count(b"\r\nhost:") != 1 and version == b" HTTP/1.1\r\n":
            self._refuse(bad_request("exactly one Host header is needed", "bad_host"))
        elif low.find(b"\r\nexpect:") >= 0:
            self.transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._turn or self._broken:
            return
        if self._body.size + len(body) > self.house.limits.body_bytes:
            self._refuse(too_large("the body", self.house.limits.body_bytes))
            return
        self._body.add(body)

    def on_message_complete(self) -> None:
        """A request is whole: it has its turn."""
        if self._turn or self._broken or self.closed:
            return
        self._turn = True
        body = self._body.whole()
        head, low, path = self._head, self._low, self._path
        self._reading = False
        self._head = self._path = b""
        if self.house.stopping:
            self._refuse(STOPPING)
            return
        # llhttp knows the versions and tokens of Connection; only a head that has something to ask is worth the question.
        asks = low.find(b"\r\nconnection:") >= 0 or head.find(b" HTTP/1.0\r\n") >= 0
        keep_alive = self._parser.should_keep_alive() if asks else True
        method = self._parser.get_method()
        self._known = again = known(method, path, head, low) if keep_alive else None
        self.house.serve(self, Request(method, path, head, low, body, again, keep_alive=keep_alive))

    def source(self) -> int:
        """A number that stands for its address, the same in every process; of IPv6 for the network, of which one client has many addresses."""
        if not self._source:
            try:
                peer = self.transport.get_extra_info("peername")
            except OSError:
                # It left just now.
                peer = None
            self._source = _source_of(peer)
        return self._source

    # --- turns

    def finished(self, *, keep_alive: bool) -> None:
        """The answer is out: the next request may come, or the connection ends."""
        self.handler = None
        if self.closed:
            return
        if not keep_alive or self._broken or self.ahead or self.house.stopping:
            self._close()
            return
        self._deadline = self.house.now() + self.house.limits.idle_seconds

    def _refuse(self, refusal: Refusal) -> None:
        """What cannot be read ends the connection."""
        self.house.refused(refusal)
        self.transport.write(refusal.response(keep_alive=False))
        self._close()

    def _close(self) -> None:
        """End the connection once the client took what was written, within bounds."""
        self._broken = True
        self._deadline = self.house.now() + self.house.limits.linger_seconds
        self.transport.close()


def _source_of(peer: object) -> int:
    host = peer[0] if isinstance(peer, tuple) and peer else ""
    if ":" in host:
        with suppress(OSError):
            return crc32(socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]) | 1 << 32
    return crc32(host.encode()) | 1 << 32
