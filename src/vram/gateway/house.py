"""The house: what all connections of one process share, and where a request goes by its path.

It owns no policy: the desk admits, replicas answer, keys and the wire have files of their own.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from vram.errors import UsageError, VramError
from vram.gateway.ask import Ask, AskError, read_chat, read_completion, read_embeddings, read_responses
from vram.gateway.exchange import Exchange
from vram.gateway.keys import OPEN, digest_of
from vram.gateway.limits import WireLimits
from vram.gateway.refusal import NO_KEY, NOT_FOUND, WRONG_METHOD, Refusal, bad_request

if TYPE_CHECKING:
    from vram.gateway.after import Begin
    from vram.gateway.front import Front
    from vram.gateway.keys import Key, KeyRing
    from vram.gateway.request import Request
    from vram.gateway.seats import Seat
    from vram.gateway.sockets import Sockets

READERS: Final[dict[bytes, Callable[[bytes], Ask]]] = {
    b"/v1/chat/completions": read_chat,
    b"/v1/completions": read_completion,
    b"/v1/responses": read_responses,
    b"/v1/embeddings": read_embeddings,
}
# A client's own request id is kept where it can stand in a header and a log line as it is.
_TRACE: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ID_CHARACTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


class Handler(Protocol):
    """Who answers a request on a `Front`."""

    def client_left(self) -> None:
        """The client is gone."""

    def pause(self) -> None:
        """The client reads too slowly."""

    def resume(self) -> None:
        """It reads again."""


class Admission(Protocol):
    """Who lets exchanges in, and hears of their ends: the desk."""

    def come(self, x: Exchange) -> None:
        """A request is here."""

    def grow(self, x: Exchange) -> None:
        """A stream made some more tokens."""

    def save(self, seat: "Seat", used_bytes: int, running: int, now: float) -> None:
        """An engine said what its sequences hold together."""

    def leave(self, x: Exchange) -> None:
        """An exchange is over."""

    def failed(self, x: Exchange, *, died: bool = False, refused: bool = False) -> Refusal | None:
        """Its replica failed it; `died`: it closed while it served; `refused`: no connection came about. Returns why it must not be tried again."""

    def has_elsewhere(self, x: Exchange) -> bool:
        """Whether some other replica might take it."""

    def elsewhere(self, x: Exchange) -> bool:
        """Send it to another replica, if there is one with room."""

    def refresh(self) -> None:
        """Take over which replicas are usable."""

    def tick(self, now: float) -> None:
        """About once a second."""


Answer = tuple[int, bytes, bytes]
"""Status, content type, body."""
Page = Callable[["Request", "Key"], Answer | Coroutine[Any, Any, Answer] | None]
"""An answer that is at hand, or the work that makes it; None: not for that key."""


class House:
    """One process of the gateway.

    Attributes:
        now: the loop's clock, in seconds; only differences mean anything.
        fronts: connections of clients.
        stopping: no new request is taken.
        begin_span: begins the span of a request; None: none are made.
        tries: most replicas that one request is sent to before its first byte.
        pages: answers by path that need no engine.
        open_pages: of which these need no key.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, keys: "KeyRing", limits: WireLimits | None = None) -> None:
        self.loop = loop
        self.now: Callable[[], float] = loop.time
        # Of a loop that serves them itself (loop.py); on any other its own transports do.
        self.sockets: Sockets | None = getattr(loop, "sockets", None)
        self.limits = limits or WireLimits()
        self.keys = keys
        self.fronts: set[Front] = set()
        self.exchanges: set[Exchange] = set()
        self.stopping = False
        self.tries = 3
        self.begin_span: Begin | None = None
        self.desk: Admission
        self.pages: dict[bytes, Page] = {}
        self.open_pages: dict[bytes, Page] = {}
        self.on_end: Callable[[Exchange, float], None] = _nothing
        self.on_refusal: Callable[[Refusal], None] = _nothing
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._id_prefix = f"{id(self) & 0xFFFFFF:x}-".encode()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside everything else."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def serve(self, front: "Front", request: "Request") -> None:
        """Answer a request: at once, or with an exchange as the front's handler."""
        path = request.path
        reader = READERS.get(path)
        if reader is None:
            self._page(front, request)
            return
        if request.method != b"POST":
            self._refuse(front, request, WRONG_METHOD, b"Allow: POST\r\n")
            return
        known = request.known
        digested = known.digest if known is not None else None
        if digested is None:
            digested = digest_of(request.header(b"authorization"))
            if known is not None:
                known.digest = digested
        key = self.keys.of(digested)
        if key is None:
            self._refuse(front, request, NO_KEY, b"WWW-Authenticate: Bearer\r\n")
            return
        plain = known is not None and known.plain
        try:
            ask = reader(request.body)
        except AskError as e:
            self._refuse(front, request, bad_request(e.message, e.code))
            return
        self._count += 1
        exchange = Exchange(self, front, key, ask, path, request.body, keep_alive=request.keep_alive, request_id=self._request_id(request, plain=plain))
        if not plain and request.low.find(b"\r\nx-") >= 0:
            exchange.session = request.header(b"x-session-id")[:200]
            exchange.wish(request.header(b"x-vram-priority"), request.header(b"x-vram-deadline-seconds"))
        if request.low.find(b"\r\ntraceparent:") >= 0:
            given = request.header(b"traceparent")
            # https://www.w3.org/TR/trace-context/#traceparent-header: what is none is not passed on.
            exchange.trace = given if _TRACE.fullmatch(given) is not None else b""
        if self.begin_span is not None:
            exchange.span, exchange.trace = self.begin_span(path, ask.model, exchange.trace)
        front.handler = exchange
        self.exchanges.add(exchange)
        self.desk.come(exchange)

    def _request_id(self, request: "Request", *, plain: bool) -> bytes:
        if not plain and request.low.find(b"\r\nx-request-id:") >= 0:
            given = request.header(b"x-request-id")
            if 0 < len(given) <= 128 and _ID_CHARACTERS.issuperset(given):
                return given
        return b"%b%d" % (self._id_prefix, self._count)

    def _page(self, front: "Front", request: "Request") -> None:
        path = request.path.partition(b"?")[0]
        page, key = self.open_pages.get(path), OPEN
        if page is None:
            page = self.pages.get(path)
            if page is None:
                self._refuse(front, request, NOT_FOUND if READERS.get(path) is None else bad_request("this path takes no query"))
                return
            found = self.keys.find(request.header(b"authorization"))
            if found is None:
                self._refuse(front, request, NO_KEY, b"WWW-Authenticate: Bearer\r\n")
                return
            key = found
        if request.method not in {b"GET", b"HEAD"}:
            self._refuse(front, request, WRONG_METHOD, b"Allow: GET, HEAD\r\n")
            return
        answer = page(request, key)
        if answer is None:
            self._refuse(front, request, NOT_FOUND)
            return
        if isinstance(answer, tuple):
            self.answer(front, request, *answer)
        else:
            self.later(front, request, answer)

    def later(self, front: "Front", request: "Request", work: Coroutine[Any, Any, Answer]) -> None:
        """Send what some work answers, when it is done."""
        front.handler = _Waiting()
        self.spawn(self._answer_later(front, request, work))

    async def _answer_later(self, front: "Front", request: "Request", work: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await work
        except VramError as e:
            if not front.closed:
                self._refuse(front, request, said(e))
            return
        if not front.closed:
            self.answer(front, request, *answer)

    def answer(self, front: "Front", request: "Request", status: int, kind: bytes, body: bytes) -> None:
        """Send an answer that is at hand."""
        head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n%b\r\n" % (
            status,
            HTTPStatus(status).phrase.encode(),
            kind,
            len(body),
            b"" if request.keep_alive else b"Connection: close\r\n",
        )
        front.transport.write(head if request.method == b"HEAD" else head + body)
        front.finished(keep_alive=request.keep_alive)

    def _refuse(self, front: "Front", request: "Request", refusal: Refusal, headers: bytes = b"") -> None:
        self.on_refusal(refusal)
        front.transport.write(refusal.response(headers, keep_alive=request.keep_alive))
        front.finished(keep_alive=request.keep_alive)

    def refused(self, refusal: Refusal) -> None:
        """A connection sent what cannot be read."""
        self.on_refusal(refusal)

    def ended(self, exchange: Exchange) -> None:
        """An exchange is over: called once for each."""
        self.exchanges.discard(exchange)
        self.on_end(exchange, self.now())
        # Its need knows it as its owner: taken apart here, no circle is left for the collector.
        exchange.ticket = None

    def tick(self) -> None:
        """About once a second: end what is overdue."""
        now = self.now()
        for front in list(self.fronts):
            front.overdue(now)
        for exchange in list(self.exchanges):
            exchange.overdue(now)
        self.desk.tick(now)

    def drain_at_most(self, seconds: float) -> None:
        """What runs gets no more than so long when the house stops."""
        from dataclasses import replace  # noqa: PLC0415  (once, at the end)

        self.limits = replace(self.limits, drain_seconds=min(self.limits.drain_seconds, seconds))

    async def stop(self) -> None:
        """Take nothing new, give what runs its time, then end it."""
        self.stopping = True
        for front in list(self.fronts):
            if front.handler is None:
                front.transport.close()
        ends = self.now() + self.limits.drain_seconds
        while self.exchanges and self.now() < ends:  # noqa: ASYNC110  (twenty looks a second in the last seconds of a process)
            await asyncio.sleep(0.05)
        for front in list(self.fronts):
            front.transport.abort()
        for task in list(self._tasks):
            task.cancel()


class _Waiting:
    """Stands where an answer is made elsewhere."""

    def client_left(self) -> None:
        """What was begun goes on: reading harms nothing, and deeds are not half done."""

    def pause(self) -> None:
        """One answer is all there is."""

    def resume(self) -> None:
        """The same."""


def said(e: VramError) -> Refusal:
    """An error of the program's own, as an answer."""
    message = f"{e.message}; {e.hint}" if e.hint else e.message
    if isinstance(e, UsageError):
        return bad_request(message)
    return Refusal(status=503, kind="service_unavailable", code="unavailable", message=message, retry_after_seconds=5)


def _nothing(*_: object) -> None:
    """Nobody listens."""
