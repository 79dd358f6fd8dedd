"""Where clients come in: the sockets that a gateway listens on, opened before the first of them is served."""

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Final

from vram.gateway.front import Front

if TYPE_CHECKING:
    from vram.gateway.house import House
    from vram.gateway.sockets import Door

DOORS: Final = 64
"""Connections accepted in one turn of a loop that takes one for each descriptor. A client that comes alone costs 17 us more than at one door."""


class OwnDoors:
    """Listening sockets that the gateway's own sockets serve: of an `asyncio.Server`, what a gateway needs."""

    def __init__(self, house: "House", bound: asyncio.Server) -> None:
        self._house = house
        self._bound = bound
        self._doors: list[Door] = []
        self.sockets = bound.sockets

    async def start_serving(self) -> None:
        """Let clients in."""
        sockets, house = self._house.sockets, self._house
        if sockets is not None:
            self._doors = [sockets.open(one.dup(), lambda: Front(house)) for one in self.sockets]

    def close(self) -> None:
        """Let nobody in any more."""
        for door in self._doors:
            door.close()
        self._bound.close()


async def open_doors(house: "House", host: str, port: int, *, shared: bool = False) -> "list[asyncio.Server | OwnDoors]":
    """Sockets of that address under as many descriptors as the loop needs; none is served yet.

    libuv accepts one connection a turn for each descriptor (https://github.com/libuv/libuv/pull/3696); hundreds of clients that come at
    once while streams run flat out would else wait hundreds of busy turns. asyncio's own loop accepts as many as the backlog holds.
    `shared`: other processes of ours listen there, too, and the kernel deals connections out among them.

    Raises:
        OSError: the port is taken.
    """
    loop = house.loop
    first = await loop.create_server(lambda: Front(house), host, port, backlog=4096, reuse_port=shared or None, start_serving=False)
    if house.sockets is not None:
        return [OwnDoors(house, first)]
    if isinstance(loop, asyncio.BaseEventLoop):
        return [first]
    doors = [socket.socket(fileno=os.dup(one.fileno())) for one in first.sockets for _ in range(DOORS - 1)]
    return [first, *[await loop.create_server(lambda: Front(house), sock=door, backlog=4096, start_serving=False) for door in doors]]
