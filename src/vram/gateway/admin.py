"""The administrators' own door: pools, replicas, leases, queue and usage to read; draining and reloading to do. On a port of its own.

It speaks through the same `Front` as clients do, so that what is strict there is strict here, and needs no package more: a dozen pages
are no reason for a framework. Every path but `/health` and `/openapi.json` needs the administrators' token. What is slow (usage out of
the file, planning a pools file anew) runs in threads beside the loop.
"""

import asyncio
import hmac
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

from vram.errors import UsageError, VramError
from vram.gateway import admin_pages
from vram.gateway.exposition import TEXT, metrics
from vram.gateway.house import Answer, House, said
from vram.gateway.keys import KeyRing
from vram.gateway.limits import WireLimits
from vram.gateway.refusal import NOT_FOUND, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from vram.gateway.crew import Crew
    from vram.gateway.front import Front
    from vram.gateway.request import Request
    from vram.gateway.seats import Seat
    from vram.gateway.server import Gateway

JSON: Final = b"application/json"
MOST_ROWS: Final = 10_000
NO_TOKEN: Final = Refusal(
    status=401, kind="authentication_error", code="invalid_token", message="the administrators' token is needed: 'Authorization: Bearer <token>'"
)
LIMITS: Final = WireLimits(body_bytes=64 * 1024, body_seconds=10)

Query = dict[str, str]


class AdminHouse(House):
    """What all connections of administrators share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gateway: "Gateway", token: str) -> None:
        super().__init__(loop, KeyRing(required=True), LIMITS)
        self._gateway = gateway
        self._token = token.encode()
        document = (files("vram") / "schemas" / "gateway-admin.json").read_bytes()
        # path -> method -> what answers; a path that ends in / goes on with a replica's pool, number and deed.
        self._open: dict[str, Answer] = {"/health": (200, JSON, b'{"status":"ok"}'), "/openapi.json": (200, JSON, document)}
        self._reads: dict[str, tuple[frozenset[str], Callable[[Query], Answer]]] = {
            "/v1/pools": (frozenset(), lambda _: _json(admin_pages.pools(gateway))),
            "/v1/replicas": (frozenset(), lambda _: _json(admin_pages.replicas(gateway))),
            "/v1/leases": (frozenset({"limit"}), lambda q: _json(admin_pages.leases(gateway, _limit(q)))),
            "/v1/workers": (frozenset(), lambda _: _json(admin_pages.workers(gateway))),
            "/v1/queue": (frozenset({"limit"}), lambda q: _json(admin_pages.queue(gateway, _limit(q)))),
            "/v1/quarantine": (frozenset({"limit"}), lambda q: _json(admin_pages.quarantine(gateway, _limit(q)))),
            "/metrics": (frozenset(), lambda _: (200, TEXT, metrics(gateway))),
        }

    def serve(self, front: "Front", request: "Request") -> None:
        """Answer a request."""
        path, _, query = request.path.decode("ascii", "replace").partition("?")
        get = request.method in {b"GET", b"HEAD"}
        if path in self._open:
            if get:
                self.answer(front, request, *self._open[path])
            else:
                self._no(front, request, "GET, HEAD")
            return
        given = request.header(b"authorization")
        if given[:7].lower() != b"bearer " or not hmac.compare_digest(given[7:].strip(), self._token):
            self._refuse(front, request, NO_TOKEN, b"WWW-Authenticate: Bearer\r\n")
            return
        try:
            if path in self._reads:
                if not get:
                    self._no(front, request, "GET, HEAD")
                    return
                known, read = self._reads[path]
                asked = _query(query, known)
                if self._gateway.crew is None:
                    self.answer(front, request, *read(asked))
                else:
                    self.later(front, request, self._of_all(self._gateway.crew, path, {"limit": _limit(asked)} if known else {}))
            elif path == "/v1/usage":
                if not get:
                    self._no(front, request, "GET, HEAD")
                    return
                self.later(front, request, self._usage(_query(query, frozenset({"by", "since", "until", "key"}))))
            elif path in {"/v1/reload", "/v1/quarantine/clear"} or path.startswith("/v1/replicas/"):
                deed = self._deed(path)
                if deed is None:
                    self._refuse(front, request, NOT_FOUND)
                elif request.method != b"POST":
                    self._no(front, request, "POST")
                else:
                    _query(query, frozenset())
                    self.later(front, request, deed())
            else:
                self._refuse(front, request, NOT_FOUND)
        except UsageError as e:
            self._refuse(front, request, said(e))

    def tick(self) -> None:
        """About once a second: end what takes too long to arrive."""
        now = self.now()
        for front in list(self.fronts):
            front.overdue(now)

    def _no(self, front: "Front", request: "Request", allowed: str) -> None:
        refusal = Refusal(status=405, kind="invalid_request_error", code="method_not_allowed", message=f"this path takes {allowed}")
        self._refuse(front, request, refusal, f"Allow: {allowed}\r\n".encode())

    def _deed(self, path: str) -> "Callable[[], Coroutine[Any, Any, Answer]] | None":
        if path == "/v1/reload":
            return self._reload
        if path == "/v1/quarantine/clear":
            return self._clear
        words = path.split("/")[3:]
        if len(words) != 3 or words[2] not in {"drain", "undrain"} or not words[1].isdecimal() or len(words[1]) > 9:
            return None
        seats = self._gateway.assembled.seats.get(unquote(words[0]), [])
        number = int(words[1])
        if number >= len(seats):
            return None
        seat, draining = seats[number], words[2] == "drain"
        return lambda: self._drain(seat, draining=draining)

    async def _of_all(self, crew: "Crew", path: str, asked: dict[str, int]) -> Answer:
        """What all workers say together."""
        told = await crew.ask(path.rpartition("/")[2], asked)
        return (200, TEXT, told.encode(errors="replace")) if path == "/metrics" else _json(told)

    async def _drain(self, seat: "Seat", *, draining: bool) -> Answer:
        seat.replica.health.drain(draining=draining)
        self._gateway.options.ledger.drain(seat.books, draining=draining)
        self._gateway.assembled.desk.refresh()
        crew = self._gateway.crew
        if crew is None:
            return _json(admin_pages.replica(self._gateway, seat))
        await crew.ask("refresh")
        return _json(next(r for r in (await crew.ask("replicas"))["replicas"] if r["url"] == seat.replica.url))

    async def _clear(self) -> Answer:
        if self._gateway.crew is not None:
            return _json({"cleared": await self._gateway.crew.ask("clear")})
        shapes = self._gateway.assembled.desk.suspects.quarantine.shapes
        cleared = len(shapes)
        shapes.clear()
        return _json({"cleared": cleared})

    async def _reload(self) -> Answer:
        try:
            await self._gateway.read_again()
        except VramError as e:
            refusal = Refusal(status=409, kind="conflict", code="not_taken", message=f"the pools file has an error, nothing changed: {e.message}; {e.hint}")
            return 409, JSON, refusal.body
        return _json({"taken": True, "pools": len(self._gateway.assembled.plans)})

    async def _usage(self, query: Query) -> Answer:
        return _json(await asyncio.to_thread(admin_pages.usage, self._gateway.options.store, query))


def _json(document: Any) -> Answer:
    return 200, JSON, json.dumps(document, separators=(",", ":")).encode()


def _query(text: str, known: frozenset[str]) -> Query:
    found: Query = {}
    if text.count("&") >= 20:
        raise UsageError("more parameters than any path takes", hint=f"possible: {', '.join(sorted(known)) or 'nothing'}")
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in known or name in found:
            raise UsageError(f"{name!r} {'comes twice' if name in found else 'means nothing here'}", hint=f"possible: {', '.join(sorted(known)) or 'nothing'}")
        found[name] = value
    return found


def _limit(query: Query) -> int:
    text = query.get("limit", "1000")
    if not text.isascii() or not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= MOST_ROWS:
        raise UsageError(f"limit is {text!r}", hint=f"a whole number from 1 to {MOST_ROWS} is possible")
    return int(text)
