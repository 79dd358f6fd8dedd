"""One replica of a pool: where its engine listens, the connections kept to it, and what is known of its state.

Its address was resolved when the pools file was read: no name is looked up while requests run, so none can be turned elsewhere.
"""

import asyncio
import errno
import logging
import os
from typing import TYPE_CHECKING, Any, Final

from vram.gateway.back import Back
from vram.gateway.descriptors import OWN
from vram.gateway.health import Health
from vram.gateway.outcomes import Outcomes

if TYPE_CHECKING:
    from vram.gateway.asker import Asker
    from vram.gateway.call import Call
    from vram.gateway.exchange import Exchange
    from vram.gateway.head import Head
    from vram.gateway.house import House
    from vram.gateway.wire import Wire

IDLE_CONNECTIONS: Final = 2048
STRAY_SECONDS: Final = 600.0
"""How long no connection to an engine is used twice once it answered what nobody had asked."""
LACK_TOLD_SECONDS: Final = 10.0
"""How often the log says that connections to an engine cannot be opened."""

log = logging.getLogger("vram.gateway")


class Replica:
    """An engine behind one address.

    Attributes:
        url: its base URL, as the pools file has it.
        health: whether it may be asked.
        outcomes: what its requests came to of late.
        failed: requests that it failed since the gateway began.
        idle: connections that wait for a request, the last one used last.
        last_head: of its last answer.
        retired: whether the pools file names it no more: what runs there ends, and no connection is kept.
        tls: how connections to it are encrypted; None: they are not.
    """

    def __init__(self, house: "House", *, url: str, host: str, port: int, prefix: str = "", tls: Any = None, key: str = "") -> None:
        self.house = house
        self.url = url
        self.host = host
        self.port = port
        self.health = Health()
        self.outcomes = Outcomes()
        self.failed = 0
        self.retired = False
        self.tls = tls
        self._prefix = prefix.rstrip("/").encode()
        name = url.partition("//")[2].partition("/")[0]
        self._server_name = name.rsplit(":", 1)[0].strip("[]") if tls is not None else None
        auth = f"Authorization: Bearer {key}\r\n" if key else ""
        self._head = f"Host: {name}\r\nContent-Type: application/json\r\nAccept: */*\r\n{auth}Content-Length: ".encode()
        self.idle: dict[Back, None] = {}
        self.last_head: Head | None = None
        self.open: set[Back] = set()
        # Connections that may come about yet, on sockets of the gateway's own.
        self._dialled: dict[Back, Wire] = {}
        self._single_until = self._lack_told = float("-inf")

    def head(self, path: bytes, request_id: bytes, length: int, method: bytes = b"POST", trace: bytes = b"") -> bytes:
        """The head of a request to this engine: headers of ours only, of a client's none but where it stands in a trace."""
        if trace:
            request_id = b"%b\r\ntraceparent: %b" % (request_id, trace)
        return b"%b %b%b HTTP/1.1\r\n%b%d\r\nX-Request-Id: %b\r\n\r\n" % (method, self._prefix, path, self._head, length, request_id)

    def send(self, exchange: "Exchange | Call", head: bytes, body: bytes) -> None:
        """Send a request over an idle connection or a new one."""
        idle = self.idle
        while idle:
            back, _ = idle.popitem()
            if back.quiet():
                exchange.back = back
                back.send(exchange, head, body)
                return
            self.open.discard(back)
            if not back.closed:
                back.abort()
        self.dial(exchange, head, body)

    def dial(self, exchange: "Exchange | Call", head: bytes, body: bytes) -> None:
        """Send a request over a new connection."""
        sockets = self.house.sockets
        if sockets is None or self.tls is not None:
            self.house.spawn(self._dial(exchange, head, body))
            return

        def failed(code: int) -> None:
            self._dialled.pop(back, None)
            self._undialled(back, exchange, code)

        back = Back(self, (exchange, head, body))
        wire = sockets.dial(self.host, self.port, back, failed, self.house.limits.connect_seconds)
        if wire is not None:
            self._dialled[back] = wire

    async def _dial(self, exchange: "Exchange | Call", head: bytes, body: bytes) -> None:
        back = Back(self, (exchange, head, body))
        try:
            async with asyncio.timeout(self.house.limits.connect_seconds):
                await self.house.loop.create_connection(lambda: back, self.host, self.port, ssl=self.tls, server_hostname=self._server_name)
        except OSError as e:
            # Late by a turn of a busy loop, the connection may be there all the same: then its own loss is what is told.
            if not back.made:
                self._undialled(back, exchange, e.errno or 0)

    def _undialled(self, back: Back, exchange: "Exchange | Call", code: int) -> None:
        """No connection came about: by the engine's fault, or for want of something here."""
        back.closed = True
        # Of an address that never answered it is not known whether a port is wanting here or there is no such address.
        if code in OWN and (code != errno.EADDRNOTAVAIL or self.health.last_good is not None):
            now = self.house.now()
            if now - self._lack_told >= LACK_TOLD_SECONDS:
                self._lack_told = now
                log.error("no connection to %s can be opened: %s", self.url, os.strerror(code))
            if not exchange.over:
                exchange.unsent()
        elif not exchange.over:
            exchange.unreachable()

    def connected(self, back: Back, exchange: "Asker", head: bytes, body: bytes) -> None:
        """A new connection is there, with the request that it was made for."""
        self._dialled.pop(back, None)
        self.open.add(back)
        if exchange.over:
            self.give_back(back)
        else:
            exchange.back = back
            back.send(exchange, head, body)

    def leaving(self, back: Back) -> None:
        """The engine said that it will close this connection after its answer."""
        self.open.discard(back)

    def give_back(self, back: Back) -> None:
        """An answer is whole: the connection waits for the next request, where the engine keeps it."""
        if back.closed:
            return
        kept = back in self.open and not self.retired and self.house.now() >= self._single_until
        if kept and len(self.idle) < IDLE_CONNECTIONS and back.rests():
            back.waited = True
            self.idle[back] = None
        else:
            self.open.discard(back)
            back.abort()

    def forget(self, back: Back) -> None:
        """A connection is gone."""
        self.open.discard(back)
        self.idle.pop(back, None)

    def strayed(self) -> None:
        """The engine sent more than was asked of it: whose answer a byte is cannot be told, so for a while each request gets a connection of its own.

        An answer too many that comes *after* the next request went out looks like that one's: the next client would get it, and each
        client after that the answer of the one before. Only a connection that is never used twice cannot carry one over.
        """
        now = self.house.now()
        if now >= self._single_until:
            log.warning("%s answered what nobody had asked: its connections are not used twice for %d s", self.url, STRAY_SECONDS)
        self._single_until = now + STRAY_SECONDS
        self._drop_idle()

    def retire(self) -> None:
        """The pools file names it no more."""
        self.retired = True
        self._drop_idle()

    def _drop_idle(self) -> None:
        while self.idle:
            back, _ = self.idle.popitem()
            self.open.discard(back)
            back.abort()

    def close(self) -> None:
        """Drop every connection."""
        for back in list(self.open):
            back.abort()
        for wire in list(self._dialled.values()):
            wire.give_up()
        self.open.clear()
        self.idle.clear()
