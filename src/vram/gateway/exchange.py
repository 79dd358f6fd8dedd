"""One request on its way through: from admission to the engine, its answer to the client, and one end, whatever happens.

An exchange ends exactly once (`_end`), and with it its lease, its connection and its line in the usage. Before the first byte of an
answer it may be sent elsewhere; after it, an engine's loss is told to the client as a typed event.
"""

from typing import TYPE_CHECKING, Any, Final

from vram.gateway.counts import output_tokens, prompt_tokens
from vram.gateway.refusal import ENGINE_BROKEN, ENGINE_LOST, ENGINE_STALLED, ENGINE_UNREACHABLE, NO_SOCKET, Refusal

if TYPE_CHECKING:
    from vram.gateway.ask import Ask
    from vram.gateway.back import Back
    from vram.gateway.front import Front
    from vram.gateway.head import Head
    from vram.gateway.house import House
    from vram.gateway.keys import Key
    from vram.gateway.replica import Replica
    from vram.gateway.ticket import Ticket

_TAIL_BYTES: Final = 4096
# Statuses with which an engine says that another may do better.
_ELSEWHERE: Final = frozenset({502, 503, 504})


class Exchange:
    """One request of one client.

    Attributes:
        outcome: how it ended: `ok`, `client_left`, `refused`, or an engine's failure by its code; empty while it runs.
        over: whether it ended.
        refusal: what the gateway answered in place of an engine; None where an engine answered.
        trace: the `traceparent` for the engine: the client's, or that of its span here; empty where there is neither.
        span: its span, where spans are sent.
    """

    __slots__ = (
        "_tail",
        "_unsent",
        "arrived",
        "ask",
        "back",
        "body",
        "chunks",
        "completion_tokens",
        "deadline",
        "first",
        "front",
        "grows_at",
        "hides_usage",
        "house",
        "keep_alive",
        "key",
        "last",
        "notes",
        "outcome",
        "over",
        "path",
        "priority",
        "prompt_tokens",
        "redialled",
        "refusal",
        "replica",
        "request_id",
        "sent",
        "session",
        "span",
        "started",
        "status",
        "ticket",
        "told",
        "trace",
        "tries",
    )

    def __init__(self, house: "House", front: "Front", key: "Key", ask: "Ask", path: bytes, body: bytes, *, keep_alive: bool, request_id: bytes) -> None:
        self.house = house
        self.front = front
        self.key = key
        self.ask = ask
        self.keep_alive = keep_alive
        self.request_id = request_id
        self.session = self.trace = b""
        self.span: Any = None
        self.back: Back | None = None
        self.replica: Replica | None = None
        self.ticket: Ticket | None = None
        self.arrived = self.last = house.now()
        self.sent = self.first = 0.0
        self.chunks = self.status = self.tries = 0
        self.prompt_tokens = self.completion_tokens = -1
        self.started = self.over = self.hides_usage = False
        self.grows_at = 2**62
        self.priority = key.terms.priority
        self.deadline: float | None = None
        self.outcome = ""
        self.redialled = False
        self.refusal: Refusal | None = None
        self.notes = b""
        self.path = path
        self.body = body
        # The answer's head, where its first bytes are at hand: both go out in one write.
        self._tail = self._unsent = b""
        self.told = b""
        """Bytes with the engine's usage that the client does not get to see."""

    def wish(self, priority: bytes, deadline_seconds: bytes) -> None:
        """What the client says of its haste; what is no number is no wish. It cannot go above its key's priority."""
        if priority.isdigit() and len(priority) <= 4:
            self.priority = min(int(priority), self.priority)
        if deadline_seconds[:8].replace(b".", b"", 1).isdigit() and len(deadline_seconds) <= 8:
            self.deadline = self.arrived + float(deadline_seconds)

    # --- what the desk says

    def send(self, replica: "Replica", notes: bytes, body: bytes | None = None) -> None:
        """Admitted: ask that replica. `notes` are header lines for the client; `body` replaces the client's where it was changed."""
        self.replica = replica
        self.notes = notes
        self.tries += 1
        self.redialled = False
        now = self.last = self.house.now()
        if not self.sent:
            self.sent = now
        if body is not None:
            self.body = body
        replica.send(self, replica.head(self.path, self.request_id, len(self.body), trace=self.trace), self.body)

    def refuse(self, refusal: Refusal, notes: bytes = b"") -> None:
        """Not admitted, or not served: say so and end."""
        self.status = refusal.status
        self.refusal = refusal
        if not self.front.closed:
            self.front.transport.write(refusal.response(b"x-request-id: %b\r\n%b" % (self.request_id, notes), keep_alive=self.keep_alive))
        self._end("refused" if not self.tries else refusal.code)

    # --- what the client does

    def client_left(self) -> None:
        """The client is gone: the engine's work ends now, in every phase."""
        self._end("client_left")

    def pause(self) -> None:
        """The client reads too slowly."""
        if self.back is not None:
            self.back.transport.pause_reading()

    def resume(self) -> None:
        """It reads again."""
        if self.back is not None:
            self.back.transport.resume_reading()

    # --- what the engine does

    def unreachable(self) -> None:
        """No connection came about."""
        self.back = None
        if not self.over:
            # Whose connection closed just before, and which cannot be dialled: it died of what was sent, or as it was.
            self._elsewhere(ENGINE_UNREACHABLE, died=self.redialled, refused=True)

    def unsent(self) -> None:
        """No connection could be opened, for want of the gateway's own descriptors or ports: of the engine that says nothing."""
        self.back = None
        # Another one may have a connection that waits, or a port that is free.
        if self.over or (self.tries < self.house.tries and self.house.desk.elsewhere(self)):
            return
        # The client's own connection is a descriptor that another has use for.
        self.keep_alive = False
        self.refuse(NO_SOCKET)

    def answered(self, head: "Head", *, more: bool) -> None:
        """The head of the answer is there; with `more`, `forward` follows at once."""
        self.last = self.house.now()
        self.status = head.status
        if head.status in _ELSEWHERE and self.tries < self.house.tries and self.house.desk.has_elsewhere(self):
            back, self.back = self.back, None
            if back is not None:
                back.abort()
                back.replica.forget(back)
            self._elsewhere(ENGINE_UNREACHABLE)
            return
        self.started = True
        if (not head.chunked and head.length < 0) or self.front.ahead:
            self.keep_alive = False
        close = b"" if self.keep_alive else b"Connection: close\r\n"
        lines = b"%b\r\nx-request-id: %b\r\n%b%b\r\n" % (head.lines, self.request_id, self.notes, close)
        if more:
            self._unsent = lines
        else:
            self.body = b""
            self.front.transport.write(lines)

    def forward(self, data: bytes, chunks: int) -> None:
        """Bytes of the body, as they came."""
        if self._unsent:
            self.front.transport.write(self._unsent + data)
            self._unsent = self.body = b""
        else:
            self.front.transport.write(data)
        now = self.last = self.house.now()
        if not self.first:
            self.first = now
        if chunks:
            self.chunks += chunks
            if self.chunks > self.grows_at:
                self.house.desk.grow(self)
            # Every event of a stream is short: the last reads hold its end.
            if not self._tail or data.find(b'"usage"') >= 0:
                self._tail = data
            return
        # Usage stands at the end of an answer; what was kept before it is not looked at until then.
        tail = self._tail
        if not tail or len(data) >= _TAIL_BYTES:
            self._tail = data
        else:
            self._tail = (tail + data)[-_TAIL_BYTES:] if len(tail) + len(data) > 2 * _TAIL_BYTES else tail + data

    def ended(self, back: "Back") -> None:
        """The answer is whole."""
        self.back = None
        if self.front.write_paused:
            # The next one on this connection has a client of its own.
            back.transport.resume_reading()
        back.replica.give_back(back)
        self._read_usage()
        self._end("ok" if self.status < 400 else "engine_error")

    def lost(self, *, stale: bool = False) -> None:
        """The engine closed before its answer was whole; `stale`: a connection that had waited, without a byte of an answer.

        Engines close connections that wait (uvicorn after five seconds), perhaps just as a request comes: that is no failure of the
        engine, and the request goes out again over a new connection.
        """
        back, self.back = self.back, None
        if stale and not self.started and not self.redialled and self.replica is not None:
            self.redialled = True
            self.replica.dial(self, self.replica.head(self.path, self.request_id, len(self.body), trace=self.trace), self.body)
        else:
            # Who was stopped by hand was not lost.
            told = self.replica.health.refusal if self.replica is not None else None
            self._failed(told or ENGINE_LOST, told or ENGINE_UNREACHABLE, back, died=told is None)

    def broken(self) -> None:
        """The engine's bytes break HTTP; the connection was dropped."""
        back, self.back = self.back, None
        self._failed(ENGINE_BROKEN, ENGINE_BROKEN, back)

    def overdue(self, now: float) -> None:
        """Called about once a second: an engine that went silent is given up, and a client that does not read."""
        if self.replica is None or self.over:
            return
        if self.front.write_paused:
            if now - self.last > self.house.limits.unread_seconds:
                self.front.transport.abort()
        elif now - self.last > self.house.limits.stall_seconds:
            back, self.back = self.back, None
            if back is not None:
                back.abort()
                back.replica.forget(back)
            if self.started:
                self._break(ENGINE_STALLED, whole=back is not None and back.whole)
            else:
                self.house.desk.failed(self)
                self.refuse(ENGINE_STALLED)

    # --- ends

    def _failed(self, after: Refusal, before: Refusal, back: "Back | None", *, died: bool = False) -> None:
        """What an engine's failure is called after the first byte of its answer, and before it."""
        if self.started and not self._unsent:
            self._break(after, whole=back is not None and back.whole, died=died)
        else:
            # A head that its client has not seen is none.
            self.started, self._unsent, self.told = False, b"", b""
            self._elsewhere(before, died=died)

    def _elsewhere(self, refusal: Refusal, *, died: bool = False, refused: bool = False) -> None:
        """Before the first byte: another replica, within the budget of tries."""
        never = self.house.desk.failed(self, died=died, refused=refused)
        if never is not None:
            self.refuse(never)
            return
        if self.tries < self.house.tries and self.house.desk.elsewhere(self):
            return
        self.refuse(refusal)

    def _break(self, refusal: Refusal, *, whole: bool, died: bool = False) -> None:
        """After the first byte: a typed event and a clean end where the last event of a stream in chunks is whole, else a cut."""
        self.house.desk.failed(self, died=died)
        if self.ask.stream and whole and not self.front.closed:
            self.front.transport.write(refusal.event())
        else:
            self.keep_alive = False
        self._end(refusal.code)

    def _read_usage(self) -> None:
        """The engine's own count of tokens, where it is one that can be: the last one that the answer tells."""
        tail = self.told or self._tail
        at = tail.rfind(b'"usage"')
        if at >= 0:
            self.prompt_tokens, self.completion_tokens = prompt_tokens(tail, at), output_tokens(tail, at)

    def _end(self, outcome: str) -> None:
        if self.over:
            return
        self.over = True
        self.outcome = outcome
        back, self.back = self.back, None
        if back is not None:
            back.abort()
            back.replica.forget(back)
        self.house.desk.leave(self)
        self.house.ended(self)
        front = self.front
        if front.handler is self:
            front.finished(keep_alive=self.keep_alive)
