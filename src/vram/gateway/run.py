"""A gateway in this process, from its start to the signal that ends it."""

import asyncio
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from vram.errors import UsageError
from vram.gateway.descriptors import raise_limit
from vram.gateway.options import Options
from vram.gateway.server import Gateway
from vram.settings import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a gateway says of itself once it serves.

    Attributes:
        models: public names.
        port: where clients come.
        admin_port: where administrators do; None: nowhere.
        keys_required: whether clients need a key.
        workers: process ids of the workers; empty where this process serves.
    """

    models: tuple[str, ...]
    port: int
    admin_port: int | None
    keys_required: bool
    workers: tuple[int, ...] = ()


async def serve(options: Options, *, told: Callable[[Started], None]) -> None:
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
    told(
        Started(
            models=tuple(gateway.assembled.public),
            port=gateway.port,
            admin_port=gateway.admin_port if gateway.admin is not None else None,
            keys_required=gateway.house.keys.required,
        )
    )
    try:
        await ended.wait()
    finally:
        await gateway.stop()


async def _reload(gateway: Gateway) -> None:
    await gateway.reload()


def run(options: Options, *, told: Callable[[Started], None]) -> None:
    """`serve` over the gateway's own sockets where the system has what they need, else on uvloop, else on asyncio's own loop."""
    raise_limit()
    with asyncio.Runner(loop_factory=loop_factory(settings().gateway_loop)) as runner:
        runner.run(serve(options, told=told))


def loop_factory(asked: str = "") -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """What makes the loop: the best that is here of `sockets`, `uvloop` and `asyncio`, from the one on that is asked for."""
    if asked in {"", "sockets"} and hasattr(select, "epoll"):
        from vram.gateway.loop import Loop  # noqa: PLC0415  (of Linux alone)

        return Loop
    if asked != "asyncio" and sys.platform != "win32":
        try:
            import uvloop  # noqa: PLC0415  (an extra; Windows has none)
        except ImportError:
            return None
        return uvloop.new_event_loop
    return None
