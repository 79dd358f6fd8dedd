"""A listening port of a test's own engine that leaves nothing open behind."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Listener:
    """Each who comes is served by a task of ours.

    asyncio's server accepts in one turn of its loop and makes the connection in the next: one that is closed in between fails to make it
    (`Server._attach` asserts that it is open) and leaves it to the collector, which tells of it in the midst of some later test. And until
    Python 3.12 a task of `asyncio.start_server`'s own that is cancelled before its first step never closes its connection.
    """

    def __init__(self, serve: "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]") -> None:
        self._serve = serve
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Future[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Listen, on a free port or on the one from before."""
        self._server = await asyncio.start_server(self._come, "127.0.0.1", self.port, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Neither listen nor keep any connection; those who serve hear of it as of any client that is gone."""
        self._abort()
        # First nobody more is accepted, then whoever was becomes a connection, and only then the server ends.
        for one in self._server.sockets:
            with suppress(NotImplementedError):
                asyncio.get_running_loop().remove_reader(one.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        self._server.close()
        self._abort()

    async def close(self) -> None:
        """End all of it, and whoever serves."""
        for task in self._tasks:
            task.cancel()
        await self.die()
        if tasks := set(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await asyncio.sleep(0)

    def _abort(self) -> None:
        """What was closed with bytes unsent would wait for its reader, so it is among these."""
        for writer in self._writers:
            writer.transport.abort()

    def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
