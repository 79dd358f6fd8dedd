"""A worker as its supervisor sees it: a process, the socket to it, and what it said last."""

import asyncio
import json
import os
import socket
import sys
import time
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vram.gateway.channel import Channel, Handle
from vram.gateway.tenure import settle_in
from vram.gateway.watchdog import beat

if TYPE_CHECKING:
    from vram.errors import VramError
    from vram.gateway.block import Block
    from vram.gateway.together import Series
    from vram.gateway.worker import Order

START_SECONDS: Final = 60.0
"""What a worker gets to come to serve."""
# The same modules as here, and none that happen to lie where the gateway was started (-P).
_CODE: Final = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from vram.gateway.worker import main; main(int(sys.argv[1]))"


@dataclass(slots=True)
class Worker:
    """One worker, dead or alive.

    Attributes:
        number: from 0; the next one in its place has the same.
        generation: how many had that number.
        ready: set while it serves.
        failed: why it did not come to serve.
        began: when it was started, by the monotonic clock.
        planned: the pools file and plans that it was started with.
        said: its metrics when they were last asked for.
        hung: whether it was killed because its loop stood still.
    """

    number: int
    generation: int = 0
    process: asyncio.subprocess.Process | None = None
    channel: Channel | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failed: "VramError | None" = None
    began: float = 0.0
    planned: dict[str, Any] = field(default_factory=dict)
    said: "Series | None" = None
    hung: bool = False

    async def start(self, order: "Order", block: "Block", answer: Handle, clerk: Executor) -> None:
        """Start a process with these orders; `answer` is asked what it asks, `clerk` writes in the ledger: whoever is in there may be stuck.

        Raises:
            OSError: the system starts no more.
        """
        self.generation += 1
        self.ready = asyncio.Event()
        self.failed = self.said = None
        self.hung = False
        self.began = time.monotonic()
        self.planned = order.planned
        # "" is the folder that we run in.
        path = [os.path.realpath(p) for p in sys.path]  # noqa: ASYNC240  (a dozen names, once a worker)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-c", _CODE, str(theirs.fileno()), json.dumps(path)),
                pass_fds=(theirs.fileno(), block.descriptor),
                stdin=asyncio.subprocess.DEVNULL,
            )
        # It touches the ledger only after its orders.
        beat(block, self.number, START_SECONDS)
        await asyncio.get_running_loop().run_in_executor(clerk, settle_in, block, self.number, self.process.pid, self.generation, time.time())
        ours.settimeout(0)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        self.channel = Channel(reader, writer, answer)
        data = json.dumps(asdict(order)).encode()
        writer.write(len(data).to_bytes(8, "big") + data)

    def ended(self) -> None:
        """It is dead."""
        self.said = self.channel = None
        self.ready = asyncio.Event()
