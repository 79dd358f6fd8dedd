"""One worker of several: a whole gateway in a process of its own, started by a supervisor and ended with it.

It listens where the others do (SO_REUSEPORT), decides with the ledger that all share, and asks the supervisor whenever all are to speak
as one. When the supervisor is gone it ends, too: nobody would bury it.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vram.errors import VramError
from vram.gateway.block import Block
from vram.gateway.channel import Channel
from vram.gateway.crew import Crew
from vram.gateway.descriptors import raise_limit
from vram.gateway.limits import WireLimits
from vram.gateway.options import Options
from vram.gateway.planned import planned_of
from vram.gateway.run import loop_factory
from vram.gateway.server import Gateway
from vram.gateway.shared import SharedLedger
from vram.gateway.telling import Told, set_up
from vram.gateway.watchdog import beat, beats
from vram.settings import settings

ORPHAN_DRAIN_SECONDS: Final = 2.0
"""What runs gets so long when the supervisor is gone."""
ORPHAN_SECONDS: Final = 4.0
"""After so long a worker without a supervisor is ended, whatever it does."""
END_SECONDS: Final = 20.0
"""What a worker gets to end when its loop has: lines and spans go out."""

log = logging.getLogger("vram.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a supervisor tells a new worker: plain values only.

    Attributes:
        number: of the worker, from 0.
        block: descriptor of the ledger's memory.
        planned: the pools file and its plans.
    """

    number: int
    block: int
    planned: dict[str, Any]
    pools: str
    host: str
    port: int
    store: str | None
    keys_required: bool | None
    admin_host: str
    admin_port: int | None
    admin_token: str
    limits: dict[str, Any]
    log_json: bool
    quiet: bool
    otel: bool


def main(descriptor: int) -> None:
    """Serve until told to stop; `descriptor` is this end of the socket to the supervisor."""
    # A terminal's Ctrl-C and hang-up go to all its processes: they are the supervisor's to answer.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    line = socket.socket(fileno=descriptor)
    try:
        order = Order(**json.loads(_read(line)))
    except (OSError, ValueError):
        return
    raise_limit()
    told = set_up(log_json=order.log_json, quiet=order.quiet, otel=order.otel, several=True)
    try:
        with asyncio.Runner(loop_factory=loop_factory(settings().gateway_loop)) as runner:
            runner.run(_serve(line, order, told))
    finally:
        told.end()


def _read(line: socket.socket) -> bytes:
    length = int.from_bytes(_exactly(line, 8), "big")
    return _exactly(line, length)


def _exactly(line: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = line.recv(length - len(parts))
        if not part:
            raise OSError("the supervisor is gone")
        parts += part
    return bytes(parts)


async def _serve(line: socket.socket, order: Order, told: Told) -> None:
    line.settimeout(0)
    reader, writer = await asyncio.open_unix_connection(sock=line)
    crew = Crew(order.number, planned_of(order.planned))
    crew.channel = channel = Channel(reader, writer, crew.answer)
    loop = asyncio.get_running_loop()
    running = loop.create_task(channel.run())
    try:
        block = Block(order.block)
    except VramError as e:
        await _failed(channel, e)
        return
    options = Options(
        pools=Path(order.pools),
        read=lambda: crew.planned,
        host=order.host,
        port=order.port,
        store=Path(order.store) if order.store is not None else None,
        keys_required=order.keys_required,
        listeners=told.listeners,
        begin_span=told.begin_span,
        admin_host=order.admin_host,
        admin_port=order.admin_port,
        admin_token=order.admin_token,
        limits=WireLimits(**order.limits),
        ledger=SharedLedger(block, order.number),
        crew=crew,
    )
    loop.add_signal_handler(signal.SIGTERM, crew.stops.set)
    gateway = crew.gateway = Gateway(options)
    try:
        await gateway.start()
    except (VramError, OSError) as e:
        await _failed(channel, e)
        return
    # From here on it is expected to go on.
    beat(block, order.number)
    beating = loop.create_task(beats(block, order.number))
    with contextlib.suppress(VramError):
        await channel.ask("ready")
    gone = loop.create_task(channel.ended.wait())
    stops = loop.create_task(crew.stops.wait())
    await asyncio.wait({gone, stops}, return_when=asyncio.FIRST_COMPLETED)
    if channel.ended.is_set():
        log.warning("the supervisor is gone: this worker ends, too")
        threading.Thread(target=_end_hard, daemon=True).start()
        gateway.house.drain_at_most(ORPHAN_DRAIN_SECONDS)
    await gateway.stop()
    for task in (running, gone, stops, beating):
        task.cancel()
    beat(block, order.number, END_SECONDS)
    writer.close()


async def _failed(channel: Channel, e: VramError | OSError) -> None:
    """Tell why this worker does not come to serve."""
    why = [e.message, e.hint] if isinstance(e, VramError) else [str(e), ""]
    with contextlib.suppress(VramError):
        await channel.ask("failed", why)
    gc.unfreeze()


def _end_hard() -> None:
    threading.Event().wait(ORPHAN_SECONDS)
    os._exit(1)
