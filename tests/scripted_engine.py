"""An engine that sends exactly the bytes that a test wants, when it wants them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from listener import Listener

Script = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


class ScriptedEngine:
    """Serves on a free port of 127.0.0.1: `script(writer, number)` answers the request of that number; a closed writer ends the connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._listener = Listener(self._serve)
        self.asked = self.connections = self.open = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._listener.open()
        self.port = self._listener.port
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
                if head.startswith(b"get ") or b"x-request-id: vram\r\n" in head:
                    # The gateway's own questions.
                    writer.write(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n")
                    continue
                self.asked += 1
                await self.script(writer, self.asked)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
