"""The loops that a gateway runs on, for tests that do not start a process of their own."""

import asyncio
import select

from vram.gateway.run import loop_factory
from vram.settings import settings

LOOPS = [*(["sockets"] if hasattr(select, "epoll") else []), "uvloop", "asyncio"]
"""What VRAM_GATEWAY_LOOP names; where uvloop is not installed, asyncio's own stands in."""


def run_on_loop(test, seconds):
    """A coroutine, on the loop that the gateway would choose."""
    with asyncio.Runner(loop_factory=loop_factory(settings().gateway_loop)) as runner:
        return runner.run(asyncio.wait_for(test, seconds))


async def listen(made, host="127.0.0.1"):
    """A port where `made` makes a protocol for each who comes, as the gateway listens; and what closes it."""
    loop = asyncio.get_running_loop()
    sockets = getattr(loop, "sockets", None)
    server = await loop.create_server(made, host, 0, start_serving=sockets is None)
    port = server.sockets[0].getsockname()[1]
    if sockets is None:
        return port, server.close
    door = sockets.open(server.sockets[0].dup(), made)

    def close():
        door.close()
        server.close()

    return port, close
