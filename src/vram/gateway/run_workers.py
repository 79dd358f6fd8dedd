"""Several workers in processes of their own, from their start to the signal that ends them."""

import asyncio
import signal
from collections.abc import Callable

from vram.errors import UsageError
from vram.gateway.descriptors import raise_limit
from vram.gateway.run import Started
from vram.gateway.supervisor import Supervisor


def run_workers(supervisor: Supervisor, *, told: Callable[[Started], None]) -> None:
    """Run workers until a signal ends them.

    Raises:
        VramError: the pools file is wrong, the port is taken, or a worker cannot start.
    """
    raise_limit()
    asyncio.run(_serve(supervisor, told=told))


async def _serve(supervisor: Supervisor, *, told: Callable[[Started], None]) -> None:
    """SIGTERM and SIGINT stop all workers, SIGHUP reads the pools file again."""
    options = supervisor.options
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    start = asyncio.create_task(supervisor.start())
    stopped = asyncio.create_task(ended.wait())
    await asyncio.wait({start, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if ended.is_set():
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        return
    stopped.cancel()
    try:
        await start
    except OSError as e:
        raise UsageError(
            f"cannot listen on {options.host}:{options.port}: {e.strerror or e}", hint="is another gateway running? choose another port: --port 8081"
        ) from None
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(supervisor.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    models = tuple(route.model for route in supervisor.file.all_routes)
    told(
        Started(
            models=models,
            port=supervisor.port,
            admin_port=supervisor.admin_port,
            keys_required=supervisor.keys_required,
            workers=tuple(w.process.pid for w in supervisor.workers if w.process is not None),
        )
    )
    try:
        await ended.wait()
    finally:
        await supervisor.stop()
