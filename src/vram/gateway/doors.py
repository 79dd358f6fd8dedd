"""Where clients come in: the sockets that a gateway listens on, opened before the first of them is served."""

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Final

from vram.gateway.front import Front

if TYPE_CHECKING:
    from vram.gateway.house import House

DOORS: Final = 64
"""Connections accepted in one turn of a loop that takes one for each descriptor. A client that comes alone costs 17 us more than at one door."""


async def open_doors(house: "House", host: str, port: int) -> list[asyncio.Server]:
    """Sockets of that address under as many descriptors as the loop needs; none is served yet.

    libuv accepts one connection a turn for each descriptor (https://github.com/libuv/libuv/pull/3696); hundreds of clients that come at
    once while streams run flat out would else wait hundreds of busy turns. asyncio's own loop accepts as many as the backlog holds.

    Raises:
        OSError: the port is taken.
    """
    loop = house.loop
    first = await loop.create_server(lambda: Front(house), host, port, backlog=4096, start_serving=False)
    if isinstance(loop, asyncio.BaseEventLoop):
        return [first]
    doors = [socket.socket(fileno=os.dup(one.fileno())) for one in first.sockets for _ in range(DOORS - 1)]
    return [first, *[await loop.create_server(lambda: Front(house), sock=door, backlog=4096, start_serving=False) for door in doors]]
