"""Questions and answers between two processes of ours, over one socket: JSON with its length before it. Either side may ask."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from vram.errors import UsageError, VramError

ANSWER_SECONDS: Final = 5.0
_LENGTH: Final = 8

log = logging.getLogger("vram.gateway")

Handle = Callable[[str, Any], Awaitable[Any]]


class Channel:
    """One end.

    Attributes:
        ended: set when the other side is gone.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handle) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Read until the other side is gone."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
                message = json.loads(await self._reader.readexactly(length))
                if "ask" in message:
                    task = asyncio.get_running_loop().create_task(self._answer(message))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                elif (waiting := self._asked.pop(message["id"], None)) is not None and not waiting.done():
                    if "error" in message:
                        waiting.set_exception(_error(message["error"]))
                    else:
                        waiting.set_result(message["answer"])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended.set()
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(VramError("the other process is gone", hint="ask again: another takes its place"))
                    # Nobody may be waiting any more.
                    waiting.exception()
            self._asked.clear()
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()

    async def ask(self, what: str, asked: Any = None, *, seconds: float = ANSWER_SECONDS) -> Any:
        """Ask the other side.

        Raises:
            VramError: it answers with an error, not in time, or is gone.
        """
        if self.ended.is_set():
            raise VramError("the other process is gone", hint="ask again: another takes its place")
        number = next(self._numbers)
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = waiting
        try:
            self._send({"id": number, "ask": what, "with": asked})
            async with asyncio.timeout(seconds):
                return await waiting
        except TimeoutError:
            raise VramError(f"no answer in {seconds:g} s", hint="is the machine overloaded? ask again") from None
        finally:
            self._asked.pop(number, None)

    async def _answer(self, message: dict[str, Any]) -> None:
        try:
            answer = {"id": message["id"], "answer": await self._handle(message["ask"], message["with"])}
        except VramError as e:
            answer = {"id": message["id"], "error": [e.message, e.hint, isinstance(e, UsageError)]}
        except Exception:
            log.exception("answering another process")
            answer = {"id": message["id"], "error": ["another process of the gateway failed", "see its log", False]}
        with suppress(ConnectionError):
            self._send(answer)

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode()
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(_LENGTH, "big") + data)


def _error(told: list[Any]) -> VramError:
    message, hint, usage = told
    return UsageError(message, hint=hint) if usage else VramError(message, hint=hint)
