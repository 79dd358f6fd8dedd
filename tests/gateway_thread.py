"""A whole gateway in a thread of its own, for tests whose clients are other programs."""

import asyncio
import threading
from contextlib import contextmanager

from gateway_loops import run_on_loop
from mock_engine import MockEngine

from vram.gateway.limits import WireLimits
from vram.gateway.options import Options
from vram.gateway.server import Gateway


@contextmanager
def serving(tmp_path, text, *, chunks=5, delay_seconds=0.0, **options):
    """The gateway of a pools file (made by `text` from its engine), and the engine; both end with the context."""
    ready, end = threading.Event(), asyncio.Event()
    found = {}

    async def live():
        async with MockEngine(chunks=chunks, delay_seconds=delay_seconds) as engine:
            path = tmp_path / "pools.toml"
            path.write_text(text(engine))
            more = {"store": tmp_path / "gateway.db", **options}
            gateway = Gateway(Options(pools=path, port=0, offline=True, limits=WireLimits(drain_seconds=0.2), **more))
            await gateway.start()
            found.update(gateway=gateway, engine=engine, loop=asyncio.get_running_loop())
            ready.set()
            await end.wait()
            await gateway.stop()

    thread = threading.Thread(target=lambda: run_on_loop(live(), 600))
    thread.start()
    try:
        assert ready.wait(30)
        yield found["gateway"], found["engine"]
    finally:
        found["loop"].call_soon_threadsafe(end.set)
        thread.join(30)
