"""A request of the gateway's own to an engine: what it says of itself (`/metrics`, `/props`), or a probe. Bounded in bytes and seconds.

It uses the connections that clients' requests use, and stands in for an exchange on them.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vram.gateway.back import Back
    from vram.gateway.head import Head
    from vram.gateway.house import House
    from vram.gateway.replica import Replica


class CallError(Exception):
    """The engine could not be reached, broke off, took too long or said too much."""


class UnsentError(CallError):
    """The gateway had no descriptor or port left to ask it: that says nothing of the engine."""


class SilentError(CallError):
    """It took too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an engine answered."""

    status: int
    body: bytes


class Call:
    """Stands in for an `Exchange` on a `Back`."""

    hides_usage = False
    told = b""

    def __init__(self, house: "House", limit_bytes: int) -> None:
        self.house = house
        self.back: Back | None = None
        self.over = False
        self._limit = limit_bytes
        self._status = 0
        self._chunked = False
        self._parts: list[bytes] = []
        self._size = 0
        self.done: asyncio.Future[Answer] = house.loop.create_future()

    def unreachable(self) -> None:
        """No connection came about."""
        self._fail(CallError("it cannot be reached"))

    def unsent(self) -> None:
        """No connection could be opened, for want of the gateway's own descriptors or ports."""
        self._fail(UnsentError("the gateway has no descriptor or port left to ask it"))

    def answered(self, head: "Head", *, more: bool) -> None:  # noqa: ARG002  (it waits for the whole answer)
        """The head is there."""
        self._status, self._chunked = head.status, head.chunked

    def forward(self, data: bytes, chunks: int) -> None:  # noqa: ARG002  (the same call as an exchange's)
        """Bytes of the body."""
        self._size += len(data)
        if self._size > self._limit:
            self._drop()
            self._fail(CallError(f"it says more than {self._limit:,} bytes"))
        else:
            self._parts.append(data)

    def ended(self, back: "Back") -> None:
        """The answer is whole."""
        self.back = None
        back.replica.give_back(back)
        self.over = True
        body = b"".join(self._parts)
        if not self.done.done():
            self.done.set_result(Answer(status=self._status, body=unchunked(body) if self._chunked else body))

    def lost(self, *, stale: bool = False) -> None:  # noqa: ARG002  (the same call as an exchange's)
        """The engine closed."""
        self._fail(CallError("it broke off"))

    def broken(self) -> None:
        """Its bytes break HTTP."""
        self._fail(CallError("its answer breaks HTTP"))

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.over = True
        self._drop()

    def _drop(self) -> None:
        back, self.back = self.back, None
        if back is not None:
            back.abort()
            back.replica.forget(back)

    def _fail(self, why: CallError) -> None:
        self.over = True
        self.back = None
        if not self.done.done():
            self.done.set_exception(why)


async def call(replica: "Replica", method: bytes, path: bytes, *, body: bytes = b"", limit_bytes: int = 4 * 2**20, seconds: float = 5.0) -> Answer:
    """Ask an engine.

    Raises:
        CallError: no whole answer came in time.
    """
    made = Call(replica.house, limit_bytes)
    replica.send(made, replica.head(path, b"vram", len(body), method), body)
    try:
        async with asyncio.timeout(seconds):
            return await made.done
    except TimeoutError:
        made.cancel()
        raise SilentError(f"no answer in {seconds:g} s") from None
    except asyncio.CancelledError:
        made.cancel()
        raise


def unchunked(data: bytes) -> bytes:
    """A chunked body whose framing was followed already, without its framing."""
    position = 0
    out: list[bytes] = []
    while True:
        end = data.find(b"\r\n", position)
        length = int(data[position:end].partition(b";")[0] or b"0", 16)
        if end < 0 or not length:
            return b"".join(out)
        out.append(data[end + 2 : end + 2 + length])
        position = end + 2 + length + 2
