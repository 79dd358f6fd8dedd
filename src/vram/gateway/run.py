"""A gateway in this process, from its start to the signal that ends it."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from vram.errors import UsageError
from vram.gateway.options import Options
from vram.gateway.server import Gateway


async def serve(options: Options, *, told: Callable[[Gateway], None]) -> None:
    """Run until a signal: SIGTERM and SIGINT stop it, SIGHUP reads the pools file again.

    Raises:
        UsageError: the pools file is wrong, or the port is taken.
    """
    gateway = Gateway(options)
    try:
        await gateway.start()
    except OSError as e:
        raise UsageError(
            f"cannot listen on {options.host}:{options.port}: {e.strerror or e}", hint="is another gateway running? choose another port: --port 8081"
        ) from None
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows has no such handlers: KeyboardInterrupt ends the loop there
            loop.add_signal_handler(number, ended.set)
    if hasattr(signal, "SIGHUP"):
        with suppress(NotImplementedError):
            loop.add_signal_handler(signal.SIGHUP, lambda: gateway.house.spawn(_reload(gateway)))
    told(gateway)
    try:
        await ended.wait()
    finally:
        await gateway.stop()


async def _reload(gateway: Gateway) -> None:
    await gateway.reload()


def run(options: Options, *, told: Callable[[Gateway], None]) -> None:
    """`serve` on uvloop where it is there, else on asyncio's own loop."""
    if sys.platform != "win32":
        try:
            import uvloop  # noqa: PLC0415  (an extra; Windows has none)
        except ImportError:
            pass
        else:
            uvloop.run(serve(options, told=told))
            return
    asyncio.run(serve(options, told=told))
