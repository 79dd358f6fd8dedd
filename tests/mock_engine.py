"""An OpenAI-compatible engine in one coroutine, honest or not, that counts what it is asked and what is taken from it."""

import asyncio
import json
from typing import TYPE_CHECKING, Self

from listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable


class MockEngine:
    """Serves on a free port of 127.0.0.1.

    `behaviour`: honest, die-before-head, die-mid-stream, reset-mid-stream, stall, no-answer, one-line-without-end, broken-head, broken-chunk,
    lying-usage, no-usage, error-500, busy-503, long-length, close-delimited, connection-close, spaced-json.
    """

    def __init__(self, *, chunks: int = 5, delay_seconds: float = 0.0, behaviour: str = "honest", poison: str = "", down_seconds: float = 0.5) -> None:
        self.chunks = chunks
        self.delay_seconds = delay_seconds
        self.behaviour = behaviour
        self.bodies: list[dict] = []
        self.heads: list[bytes] = []
        self.probes = 0
        self.running = 0
        self.aborted = 0
        # What kills it, a moment after it came; it is back after some time.
        self.poison = poison
        self.down_seconds = down_seconds
        self.deaths = 0
        self._listener = Listener(self._serve)
        self._tasks: set[asyncio.Task[None]] = set()
        self.closes_next = self.dies_once = False
        # What is wrong with requests that hold this word alone: to them it behaves as `choked` says, and goes on with all others.
        self.chokes_on, self.choked = "", "error-500"
        # What it answers to JSON sent to a path that is none of OpenAI's.
        self.tells: dict[str, Callable[[dict], str]] = {}
        self.pages: dict[str, tuple[int, str]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._listener.open()
        self.port = self._listener.port
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._listener.close()

    async def die(self) -> None:
        """Nobody listens any more, and every connection is gone."""
        await self._listener.die()

    async def _die(self) -> None:
        self.deaths += 1
        await self.die()
        await asyncio.sleep(self.down_seconds)
        await self._listener.open()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length)
                path = head.split(b" ")[1].decode()
                if path in self.pages:
                    status, text = self.pages[path]
                    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
                    continue
                if path in self.tells:
                    text = self.tells[path](json.loads(body))
                    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
                    continue
                if head.startswith(b"GET ") or not path.startswith("/v1/"):
                    writer.write(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n")
                    continue
                asked = json.loads(body or b"{}")
                if asked.get("prompt") == "1":
                    self.probes += 1
                else:
                    self.bodies.append(asked)
                    if self.closes_next:
                        # As if it had closed before this came: nothing of it was taken.
                        self.closes_next = False
                        self.bodies.pop()
                        return
                if self.poison and self.poison in body.decode():
                    await asyncio.sleep(0.05)
                    self._tasks.add(asyncio.create_task(self._die()))
                    await asyncio.sleep(1)
                if self.dies_once and asked.get("prompt") != "1":
                    self.dies_once = False
                    await asyncio.sleep(0.1)
                    return
                self.running += 1
                # A client that leaves is noticed while the engine works, as real engines do.
                gone = asyncio.create_task(reader.read(1))
                work = asyncio.create_task(self._answer(asked, writer))
                try:
                    await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
                except asyncio.CancelledError:
                    gone.cancel()
                    work.cancel()
                    raise
                self.running -= 1
                if not work.done() or isinstance(work.exception(), ConnectionError):
                    work.cancel()
                    self.aborted += 1
                    return
                gone.cancel()
                await asyncio.wait({gone})
                if work.result() == "close":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort() if self.behaviour == "one-line-without-end" else writer.close()

    async def _answer(self, asked: dict, writer: asyncio.StreamWriter) -> str:
        kind = self.choked if self.chokes_on and self.chokes_on in json.dumps(asked) else self.behaviour
        usage = {"prompt_tokens": 10, "completion_tokens": self.chunks, "total_tokens": 10 + self.chunks}
        if kind == "lying-usage":
            usage = {"prompt_tokens": -5, "completion_tokens": 10**30, "total_tokens": "many"}
        if kind == "die-before-head":
            return "close"
        if kind == "no-answer":
            await asyncio.sleep(3600)
        if kind == "broken-head":
            writer.write(b"HTP/1.1 OK\r\n\r\n")
            return "close"
        if kind in {"error-500", "busy-503"}:
            text = b'{"error":{"message":"no"}}'
            writer.write(b"HTTP/1.1 %b X\r\nContent-Length: %d\r\n\r\n%b" % (kind[-3:].encode(), len(text), text))
            return ""
        if not asked.get("stream"):
            await asyncio.sleep(self.delay_seconds)
            message = {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
            text = json.dumps(
                {**message, **({} if kind == "no-usage" else {"usage": usage})}, separators=None if kind == "spaced-json" else (",", ":")
            ).encode()
            if kind == "close-delimited":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + text)
                return "close"
            extra = b"Connection: close\r\n" if kind == "connection-close" else b""
            if kind == "long-length":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text) + 10, text))
                return "close"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (extra, len(text), text))
            return "close" if extra else ""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if kind == "broken-chunk":
            writer.write(b"zz\r\nhello\r\n")
            return ""
        if kind == "one-line-without-end":
            block = b"x" * 65536
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(block), block))
                await writer.drain()
        spaces = None if kind == "spaced-json" else (",", ":")
        for i in range(self.chunks):
            await asyncio.sleep(self.delay_seconds)
            if i == 2 and kind in {"die-mid-stream", "reset-mid-stream"}:
                if kind == "reset-mid-stream":
                    writer.transport.abort()
                return "close"
            if i == 2 and kind == "stall":
                await asyncio.sleep(3600)
            event = {
                "id": "c",
                "choices": [{"index": 0, "delta": {"content": f"w{i} "}, "finish_reason": None}],
                **({"usage": None} if asked.get("stream_options") else {}),
            }
            self._event(writer, json.dumps(event, separators=spaces))
            await writer.drain()
        if asked.get("stream_options") and kind != "no-usage":
            self._event(writer, json.dumps({"id": "c", "choices": [], "usage": usage}, separators=spaces))
        self._event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return ""

    @staticmethod
    def _event(writer: asyncio.StreamWriter, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
