"""A supervisor's life as a process: until a signal or a command ends it."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from vram.gateway.descriptors import raise_limit
from vram.runtime.supervisor import Supervisor


async def serve(supervisor: Supervisor, *, told: Callable[[Supervisor], None]) -> None:
    """Start, run until a signal (SIGTERM, SIGINT) or a command says so, end.

    Raises:
        StartError: an engine did not start; all others are ended.
        UsageError: a port is taken.
    """
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(supervisor.start())

    def ask_to_end() -> None:
        if supervisor.done.is_set():
            supervisor.hurry()
        supervisor.done.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, ask_to_end)
    ended = asyncio.ensure_future(supervisor.done.wait())
    try:
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            told(supervisor)
            await ended
    finally:
        starting.cancel()
        ended.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await starting
        await supervisor.stop()


def run(make: Callable[[], Supervisor], *, told: Callable[[Supervisor], None]) -> None:
    """`serve` on uvloop where it is there, else on asyncio's own loop."""

    async def live() -> None:
        await serve(make(), told=told)

    raise_limit()
    if sys.platform != "win32":
        try:
            import uvloop  # noqa: PLC0415  (an extra)
        except ImportError:
            pass
        else:
            uvloop.run(live())
            return
    asyncio.run(live())
