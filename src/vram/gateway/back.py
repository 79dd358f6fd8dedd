"""One connection to an engine: a request out, its answer forwarded as it comes, the framing followed to its exact end.

Bytes of the body go to the client untouched, one write for each read. The framing (length, chunks, or until the engine closes) is
followed without copies, so that the end is known and the connection can be used again. An engine is trusted to mean well, not to be
sound: its head, its chunk sizes and its silence are bounded.
"""

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final, cast

from vram.gateway.head import Head
from vram.gateway.hide import USAGE, without_usage
from vram.gateway.unread import has_bytes, poll_of

if TYPE_CHECKING:
    from vram.gateway.asker import Asker
    from vram.gateway.replica import Replica

IDLE: Final = 0
HEAD: Final = 1
LENGTH: Final = 2
CHUNKS: Final = 3
UNTIL_CLOSE: Final = 4

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,10})(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?)*\r\n")
# Of the line that says a chunk's size.
_SIZE_BYTES: Final = 64


class Back(asyncio.Protocol):
    """A connection to one replica. It serves one exchange at a time and goes back to its replica's idle ones after it.

    Attributes:
        exchange: its one owner; None while it waits.
        closed: it is gone, or nobody may use it any more.
        refused: whether its last answer was none of success: then the engine need not have read what was sent.
        waited: whether it was among the idle ones once: the engine may have closed it there, which is no failure.
    """

    __slots__ = (
        "_bodied",
        "_first",
        "_held",
        "_left",
        "_poll",
        "_silent",
        "_state",
        "chunks",
        "closed",
        "exchange",
        "idle_since",
        "refused",
        "replica",
        "transport",
        "waited",
        "whole",
    )

    transport: asyncio.Transport

    def __init__(self, replica: "Replica", first: "tuple[Asker, bytes, bytes] | None" = None) -> None:
        self.replica = replica
        self._first = first
        self.exchange: Asker | None = None
        self.closed = False
        self.idle_since = 0.0
        self.chunks = 0
        self.whole = False
        """Whether what was forwarded of a stream in chunks ends with a whole event: another may follow."""
        self._state = IDLE
        self._left = 0
        self._held = b""
        self._bodied = self.refused = self.waited = False
        # Whether not a byte came since the request went out.
        self._silent = True
        self._poll: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The engine answers its door."""
        # uvloop's transports have the methods, not the base class.
        self.transport = cast("asyncio.Transport", transport)
        if self.closed:
            # Given up while it came about: whoever it was dialled for was told so, and may be with another engine.
            self.transport.abort()
            return
        first, self._first = self._first, None
        if first is not None:
            # Sent from here, not by the task that dialled: on a busy loop that would be one or two turns later.
            self.replica.connected(self, *first)

    @property
    def made(self) -> bool:
        """Whether the connection came about, and with it the request that it was dialled for."""
        return self._first is None

    def send(self, exchange: "Asker", head: bytes, body: bytes) -> None:
        """Send a request; its answer goes to `exchange`.

        Raises:
            RuntimeError: it has an owner, or an answer is not at its end: two clients would get one's answer.
        """
        if self.exchange is not None or self._state != IDLE or self.closed:
            raise RuntimeError("a connection to an engine has one request at a time")
        self.exchange = exchange
        self._silent = True
        self._bodied = bool(body)
        self._state = HEAD
        self._left = self.chunks = 0
        self._held = b""
        self.whole = False
        self.transport.writelines((head, body))

    def rests(self) -> bool:
        """Whether nothing of an earlier request can still come or go here: its answer is whole, and so is what the engine took of it.

        An engine that refuses, or answers before all was sent, need not have read the body; it takes what is left of it for the next
        request, and the next client gets the answer.
        """
        if self.exchange is not None or self._state != IDLE or self.closed or self._held or self._left:
            return False
        return not (self.refused or self.transport.is_closing() or self.transport.get_write_buffer_size())

    def quiet(self) -> bool:
        """Whether nothing lies unread in the kernel, an end neither: what is there before a request is sent is no answer to it."""
        if self.closed or self.exchange is not None or self.transport.is_closing():
            return False
        if self._poll is None:
            sock = self.transport.get_extra_info("socket")
            self._poll = poll_of(sock.fileno()) if sock is not None else None
        if self._poll is None or not self._poll.poll(0):
            return True
        # Over TLS the bytes may be the engine's word that it closes (close_notify, RFC 8446 6.1): what they say cannot be seen here.
        if self.replica.tls is None and has_bytes(self.transport.get_extra_info("socket").fileno()):
            self.replica.strayed()
        return False

    def abort(self) -> None:
        """Drop the connection, so that the engine stops working for whoever left."""
        self.exchange = None
        self.closed = True
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The engine closed: the end of a body without length, or a loss (a reset is always one)."""
        self.closed = True
        self.replica.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if self._state == UNTIL_CLOSE and exc is None:
            exchange.ended(self)
        else:
            exchange.lost(stale=self.waited and self._silent)

    def data_received(self, data: bytes) -> None:
        """Forward, and follow the framing."""
        exchange = self.exchange
        if exchange is None:
            # An answer that nobody asked for: what it would be taken for cannot be known.
            self.abort()
            self.replica.forget(self)
            self.replica.strayed()
            return
        self._silent = False
        state = self._state
        if state == CHUNKS:
            self._chunks(exchange, data, 0)
        elif state == LENGTH:
            self._length(exchange, data)
        elif state == HEAD:
            self._head(exchange, data)
        else:
            exchange.forward(data, 0)

    def _head(self, exchange: "Asker", data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > exchange.house.limits.engine_head_bytes:
                    self._broken(exchange)
                else:
                    self._held = data
                return
            # Engines say the same again and again: of a head that came before, byte for byte, all is known.
            head = self.replica.last_head
            if head is None or not data.startswith(head.whole):
                try:
                    head = Head(data, end)
                except ValueError:
                    self._broken(exchange)
                    return
                self.replica.last_head = head
            data = data[end + 4 :]
            if head.status >= 200:
                break
        if head.chunked:
            self._state = CHUNKS
        elif head.length >= 0:
            self._state, self._left = LENGTH, head.length
        else:
            self._state = UNTIL_CLOSE
        if head.close:
            self.replica.leaving(self)
        self.refused = self._bodied and head.status >= 300
        exchange.answered(head, more=bool(data))
        if self.exchange is not exchange:
            return
        if self._state == LENGTH:
            self._length(exchange, data)
        elif data:
            if self._state == CHUNKS:
                self._chunks(exchange, data, 0)
            else:
                exchange.forward(data, 0)

    def _length(self, exchange: "Asker", data: bytes) -> None:
        if len(data) > self._left:
            # The answer is whole; what follows it is none of this client's, nor of the next one's: the connection ends with it.
            data = data[: self._left]
            self.replica.leaving(self)
            self.replica.strayed()
        self._left -= len(data)
        if data:
            exchange.forward(data, 0)
        if not self._left:
            self._done(exchange)

    def _chunks(self, exchange: "Asker", data: bytes, position: int) -> None:
        """Walk over the chunks of `data`: sizes are read, contents passed over, nothing copied."""
        raw = came = data
        if self._held:
            # A size line was cut in two: its first half went out already.
            data = self._held + data
            self._held = b""
        elif exchange.hides_usage and not self._left and USAGE.search(data):
            exchange.told = data
            raw = without_usage(data)
        size, left, chunks = len(data), self._left, 0
        while position < size:
            if left:
                after = position + left
                if after > size:
                    left = after - size
                    if left == 1 and data[-1:] != b"\r":
                        self._broken(exchange)
                        return
                    break
                # A line ends behind each chunk; of one that was cut inside of it its second half is here.
                if data[after - 2 : after] != b"\r\n" if left > 1 else data[after - 1 : after] != b"\n":
                    self._broken(exchange)
                    return
                position, left = after, 0
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                if size - position > _SIZE_BYTES + 1:
                    self._broken(exchange)
                    return
                self._held = data[position:]
                break
            said = _SIZE.match(data, position) if end - position <= _SIZE_BYTES else None
            if said is None:
                self._broken(exchange)
                return
            length = int(said[1], 16)
            if length == 0:
                # Trailers are none of ours, and none are sent by engines: only the plain end is taken.
                if size < end + 4:
                    self._held = data[position:]
                    break
                if data[end + 2 : end + 4] != b"\r\n":
                    self._broken(exchange)
                    return
                if size > end + 4:
                    # As after a length: nothing beyond the end is handed on, and the connection is not used again.
                    raw = came[: end + 4 - size]
                    self.replica.leaving(self)
                    self.replica.strayed()
                self._left = 0
                self.chunks += chunks
                exchange.forward(raw, chunks)
                self._done(exchange)
                return
            chunks += 1
            left = length + 2
            position = end + 2
        self._left = left
        self.chunks += chunks
        if raw:
            self.whole = not left and not self._held and raw[-4:] == b"\n\n\r\n"
        exchange.forward(raw, chunks)

    def _done(self, exchange: "Asker") -> None:
        self.exchange = None
        self._state = IDLE
        exchange.ended(self)

    def _broken(self, exchange: "Asker") -> None:
        self.abort()
        self.replica.forget(self)
        exchange.broken()
