"""One TCP connection of the gateway's own sockets: what asyncio calls a transport, as far as clients and engines need one.

Bytes go out at once, in the call that writes them; what the kernel has no room for is kept and sent when it has. A protocol hears the
same calls in the same order as from asyncio, and of an end exactly once, never inside a call of its own.
"""

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vram.gateway.sockets import Sockets

IN: Final = 1
OUT: Final = 4
"""EPOLLIN and EPOLLOUT."""
READ_BYTES: Final = 64 * 1024
"""Most that one read takes: a connection that sends without end leaves the others their turn."""
COPY_BYTES: Final = 16 * 1024
"""Below it, a copy is cheaper than a longer call of the kernel's."""

OPEN: Final = 0
CONNECTING: Final = 1
CLOSING: Final = 2
OVER: Final = 3


_NOBODY: Final = asyncio.Protocol()
"""Stands where a connection is gone."""


class Wire:
    """A connection, with the calls of `asyncio.Transport` that its protocols use."""

    __slots__ = (
        "_failed",
        "_fd",
        "_high",
        "_low",
        "_parts",
        "_paused",
        "_protocol",
        "_reading",
        "_receive",
        "_send",
        "_sock",
        "_sockets",
        "_state",
        "_unsent",
        "_watched",
        "_why",
    )

    def __init__(self, sockets: "Sockets", sock: socket.socket, protocol: "asyncio.Protocol", failed: "Callable[[int], None] | None" = None) -> None:
        """A connection that is there, or, with `failed`, one that comes about: else `failed` gets the errno, and the protocol never hears of it."""
        self._sockets = sockets
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._receive: Callable[[int], bytes] = sock.recv
        self._send: Callable[[bytes | memoryview], int] = sock.send
        # What the kernel did not take yet, and its bytes.
        self._parts: list[bytes | memoryview] = []
        self._unsent = 0
        self._high = 64 * 1024
        self._low = 16 * 1024
        self._paused = False
        self._reading = True
        self._failed = failed
        self._state = OPEN if failed is None else CONNECTING
        self._why: Exception | None = None
        self._watched = IN if failed is None else OUT
        sockets.watch(self._fd, self, 0, self._watched)

    # --- what a protocol calls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`socket`, or an address of either side."""
        if name == "socket":
            return self._sock
        if name == "peername":
            return self._sock.getpeername()
        return self._sock.getsockname() if name == "sockname" else default

    def is_closing(self) -> bool:
        """Whether it closes or is closed."""
        return self._state >= CLOSING

    def is_reading(self) -> bool:
        """Whether what comes is read."""
        return self._reading and self._state == OPEN

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The protocol is told to pause past `high` unsent bytes, and to go on at `low`."""
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """`low` and `high`."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._unsent

    def write(self, data: bytes) -> None:
        """Send, or keep for later what the kernel has no room for."""
        if self._state:
            # To a connection that is over, as with asyncio, nothing is said.
            return
        if not self._unsent:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as e:
                self._lose(e)
                return
            if sent == len(data):
                return
            self._keep(memoryview(data)[sent:] if sent else data)
        else:
            self._keep(data)

    def writelines(self, parts: "Sequence[bytes]") -> None:
        """Send several pieces as one: small ones are put together, of a large last one (a body) no copy is made."""
        last = parts[-1]
        if len(last) < COPY_BYTES or self._unsent or self._state:
            self.write(b"".join(parts))
            return
        try:
            sent = self._sock.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as e:
            self._lose(e)
            return
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
            else:
                self._keep(memoryview(part)[sent:])
                sent = 0

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._reading = False
        self._interest()

    def resume_reading(self) -> None:
        """Read again."""
        self._reading = True
        self._interest()

    def close(self) -> None:
        """Send what is unsent, then end."""
        if self._state >= CLOSING:
            return
        if self._unsent:
            self._state = CLOSING
            self._interest()
        else:
            self._lose(None)

    def abort(self, why: Exception | None = None) -> None:
        """End now; what is unsent is dropped. With `why` it is no end of the other's, which could be the end of an answer."""
        self._lose(why)

    # --- what the kernel says

    def ready(self, events: int) -> None:
        """Something can be read, or sent, or it is over."""
        if self._state == OPEN:
            if events & OUT:
                self._flush()
                if self._state or events == OUT:
                    return
            if not self._reading:
                # An error, or the other's end, while nobody reads: it is heard of when somebody does.
                self._interest(broken=True)
                return
            try:
                data = self._receive(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as e:
                self._lose(e)
                return
            if data:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()
        elif self._state == CLOSING:
            self._flush()
        elif self._state == CONNECTING:
            self._connected()

    def _connected(self) -> None:
        failed = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            self._lose(OSError(failed, "no connection came about"))
            return
        self._state = OPEN
        self._failed = None
        self._interest()
        self._protocol.connection_made(self)  # type: ignore[arg-type]  # what a transport is asked for is there

    def _flush(self) -> None:
        """Send what was kept."""
        parts = self._parts
        try:
            while parts:
                part = parts[0]
                sent = self._send(part)
                self._unsent -= sent
                if sent < len(part):
                    parts[0] = memoryview(part)[sent:]
                    break
                del parts[0]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as e:
            self._lose(e)
            return
        if not parts:
            self._interest()
        if self._paused and self._unsent <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if self._state == CLOSING and not parts:
            self._lose(None)

    def give_up(self) -> None:
        """It took too long to come about, if it did not."""
        if self._state == CONNECTING:
            self._lose(None)

    # --- inside

    def _keep(self, data: bytes | memoryview) -> None:
        self._parts.append(data)
        before = self._unsent
        self._unsent = before + len(data)
        if not before:
            self._interest()
        if self._unsent > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def _interest(self, *, broken: bool = False) -> None:
        """Tell the kernel what is waited for. What is broken and not read is not watched: it would be told again and again."""
        wanted = (IN if self._reading and self._state == OPEN else 0) | (OUT if self._unsent else 0)
        if self._state == OVER or (wanted == self._watched and not broken):
            return
        if broken:
            wanted = 0
        self._sockets.watch(self._fd, self, self._watched, wanted)
        self._watched = wanted

    def _lose(self, why: Exception | None) -> None:
        """It is over: the protocol hears it after the call that runs now."""
        if self._state == OVER:
            return
        self._state = OVER
        self._why = why
        self._parts.clear()
        self._unsent = 0
        self._sockets.over(self)

    def finish(self) -> None:
        """Tell the protocol, and close the socket; called once."""
        self._sockets.forget(self._fd, self._watched)
        try:
            if self._failed is None:
                self._protocol.connection_lost(self._why)
            else:
                self._failed(self._why.errno or 0 if isinstance(self._why, OSError) else 0)
        finally:
            self._sock.close()
            # A protocol knows its connection, and this its protocol: taken apart here, no circle is left for the collector.
            self._protocol = _NOBODY
            self._failed = self._why = None
