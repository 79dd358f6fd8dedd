"""What a client may send and how long it may take: the bounds that keep one connection from holding the house.

Nothing here is about KV memory; that is admission's.
"""

from dataclasses import dataclass
from typing import Final

MIB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Bounds of one client connection. A request past one of them gets the status named beside it, and the connection ends.

    Attributes:
        head_bytes: request line and headers together (431).
        headers: number of header lines (431).
        body_bytes: body, after chunked coding is undone (413).
        head_seconds: from the first byte of a request to the end of its headers (408).
        body_seconds: from there to the end of its body (408).
        idle_seconds: between requests on one connection (closed in silence).
        unread_seconds: a client that takes nothing of its answer for so long is cut off: the engine's memory is held for it.
        linger_seconds: that a client gets to take its last answer before the connection is dropped.
        pipelined_bytes: requests sent ahead of an answer; past it the connection is not read until the answer is out.
        engine_head_bytes: response line and headers of an engine (502).
        stall_seconds: an engine that answers and then says nothing for so long is given up (typed error).
        connect_seconds: to reach an engine.
        drain_seconds: that open requests get when the gateway stops.
    """

    head_bytes: int = 32 * 1024
    headers: int = 100
    body_bytes: int = 64 * MIB
    head_seconds: float = 10
    body_seconds: float = 120
    idle_seconds: float = 75
    unread_seconds: float = 60
    linger_seconds: float = 30
    pipelined_bytes: int = 256 * 1024
    engine_head_bytes: int = 64 * 1024
    stall_seconds: float = 600
    connect_seconds: float = 5
    drain_seconds: float = 30
