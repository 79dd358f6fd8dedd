"""The gateway's own sockets: one epoll for them and for the event loop, all that is ready handled in one go, without a loop's callbacks.

An event loop's transports cost a busy gateway more than its own work: each read is a handle in a queue, each write waits for a later
turn. Here `wait` – the loop's own wait for something to happen – reads what is there and gives it to the protocols itself; only what
else the loop watches goes back to it, with its timers and tasks as ever. `loop.py` puts it under asyncio's loop. Linux has epoll; where
there is none, and for TLS, asyncio's or uvloop's transports do the same for the same protocols.
"""

import errno
import logging
import select
import socket
from time import monotonic
from typing import TYPE_CHECKING, Final

from vram.gateway.descriptors import FULL
from vram.gateway.wire import Wire

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

ACCEPTS: Final = 64
"""Connections that one turn accepts at a door: those that are open go on meanwhile."""
EVENTS: Final = 512
"""Most that one turn handles before timers are looked at."""
DOOR_SHUT_SECONDS: Final = 1.0
"""How long nobody is let in after the process ran out of descriptors."""

log = logging.getLogger("vram.gateway")


class Door:
    """A listening socket, and what is made for each who comes."""

    __slots__ = ("_made", "_sock", "_sockets", "closed")

    def __init__(self, sockets: "Sockets", sock: socket.socket, made: "Callable[[], asyncio.Protocol]") -> None:
        self._sockets = sockets
        self._sock = sock
        self._made = made
        self.closed = False

    def open(self) -> None:
        """Let clients in."""
        if not self.closed:
            self._sockets.doors[self._sock.fileno()] = self
            self._sockets.epoll.register(self._sock.fileno(), select.EPOLLIN)

    def close(self) -> None:
        """Let nobody in any more."""
        if not self.closed:
            self.closed = True
            self._shut()
            self._sock.close()

    def _shut(self) -> None:
        if self._sockets.doors.pop(self._sock.fileno(), None) is not None:
            self._sockets.epoll.unregister(self._sock.fileno())

    def ready(self) -> None:
        """Clients are there."""
        for _ in range(ACCEPTS):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                if e.errno not in FULL:
                    raise
                log.error("no client is let in for %g s: %s", DOOR_SHUT_SECONDS, e.strerror)  # noqa: TRY400  (the reason is enough)
                self._shut()
                self._sockets.loop.call_later(DOOR_SHUT_SECONDS, self.open)
                return
            sock.settimeout(0)
            self._sockets.connect(sock, self._made())


class Sockets:
    """All sockets of one loop.

    Attributes:
        loop: the loop that waits through `wait`.
        epoll: what the kernel watches, for the loop as well.
        doors: by descriptor.
        asked: whether the loop was asked for something since it began to wait: then it has to go on.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.epoll = select.epoll()
        self.doors: dict[int, Door] = {}
        self._poll: Callable[[float, int], list[tuple[int, int]]] = self.epoll.poll
        self.asked = False
        self._wires: dict[int, Wire] = {}
        self._over: list[Wire] = []

    def __len__(self) -> int:
        """Connections that are open."""
        return len(self._wires)

    def open(self, sock: socket.socket, made: "Callable[[], asyncio.Protocol]", backlog: int = 4096) -> Door:
        """Listen on a bound socket, which is the door's from here on."""
        sock.settimeout(0)
        sock.listen(backlog)
        door = Door(self, sock, made)
        door.open()
        return door

    def connect(self, sock: socket.socket, protocol: "asyncio.Protocol") -> None:
        """Serve a connection that is there."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(self, sock, protocol)
        try:
            protocol.connection_made(wire)  # type: ignore[arg-type]  # what a transport is asked for is there
        except Exception as e:  # noqa: BLE001  (of one connection: the others go on)
            self._fault(wire, e)

    def dial(self, host: str, port: int, protocol: "asyncio.Protocol", failed: "Callable[[int], None]", seconds: float) -> Wire | None:
        """Connect to a numeric address. `failed` is called where nothing came of it in that time, never before this returns.

        It gets the errno of what failed, 0 where time ran out.

        Returns the connection that may come about, to give it up; None where nothing will.
        """
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        except OSError as e:
            self.loop.call_soon(failed, e.errno or errno.EIO)
            return None
        try:
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex((host, port))
        except OSError as e:
            code = e.errno or errno.EIO
        if code not in {0, errno.EINPROGRESS, errno.EAGAIN, errno.EINTR}:
            sock.close()
            self.loop.call_soon(failed, code)
            return None
        wire = Wire(self, sock, protocol, failed)
        self.loop.call_later(seconds, wire.give_up)
        return wire

    def watch(self, fd: int, wire: Wire, before: int, wanted: int) -> None:
        """Tell the kernel what a connection waits for."""
        if not before:
            self._wires[fd] = wire
            self.epoll.register(fd, wanted)
        elif not wanted:
            self.epoll.unregister(fd)
        else:
            self.epoll.modify(fd, wanted)

    def forget(self, fd: int, before: int) -> None:
        """A connection is about to be closed."""
        del self._wires[fd]
        if before:
            self.epoll.unregister(fd)

    def over(self, wire: Wire) -> None:
        """A connection is over: what ran for it hears so at the end of this turn."""
        self._over.append(wire)

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        """Wait at most so long (-1: without end), handle what is ready, and return what else the loop watches: descriptors and events.

        While nobody asks the loop for anything, it goes on here: a turn of the loop costs more than what a few reads do.
        """
        if self._over:
            self._bury()
            seconds = 0.0
        self.asked = False
        until = monotonic() + seconds if seconds > 0 else 0.0
        while True:
            others = self._turn(seconds)
            if others or self.asked or seconds == 0.0:
                return others
            if until:
                seconds = until - monotonic()
                if seconds <= 0:
                    return others

    def _turn(self, seconds: float) -> list[tuple[int, int]]:
        others: list[tuple[int, int]] = []
        wires = self._wires
        for fd, events in self._poll(seconds, EVENTS):
            wire = wires.get(fd)
            if wire is not None:
                try:
                    wire.ready(events)
                except Exception as e:  # noqa: BLE001  (of one connection: the others go on)
                    self._fault(wire, e)
            elif (door := self.doors.get(fd)) is not None:
                door.ready()
            else:
                others.append((fd, events))
        if self._over:
            self._bury()
        return others

    def _bury(self) -> None:
        while self._over:
            over, self._over = self._over, []
            for wire in over:
                try:
                    wire.finish()
                except Exception as e:  # noqa: BLE001  (the same)
                    self._fault(wire, e)

    def _fault(self, wire: Wire, error: Exception) -> None:
        self.loop.call_exception_handler({"message": "a connection's protocol failed", "exception": error})
        wire.abort(error)

    def close(self) -> None:
        """Drop every connection and door."""
        for door in list(self.doors.values()):
            door.close()
        for wire in list(self._wires.values()):
            wire.abort()
        self._bury()
        self.epoll.close()
