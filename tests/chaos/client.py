"""One connection of a client that may misbehave, and what came of its request: exactly one end, judged byte by byte.

Answers are read by llhttp (httptools), a parser that is none of the gateway's: framing that it refuses is an error of this run.
"""

import asyncio
import json
import re
from typing import Final

from dice import Throw
from httptools import HttpParserError, HttpResponseParser
from words import document, event, events, order, usage

KEYS: Final = {"plain": "vram-chaos-plain", "slow": "vram-chaos-slow", "wrong": "vram-chaos-wrong"}
PATIENCE_SECONDS: Final = 60.0
"""After so long without an end a request counts as hung, which is a failure of the run."""
_HIDDEN: Final = re.compile(rb'data: \{"id":"[a-z0-9]+","choices":\[\],"usage":\{[^}]*\}\}\n\n')
_CHAT: Final = (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: chaos\r\nAuthorization: Bearer {key}\r\nX-Request-Id: {name}\r\n{more}Content-Length: {length}\r\n\r\n"
)


def request(name: str, t: Throw) -> bytes:
    """The bytes of a request."""
    key = KEYS[t.key]

    def post(body: bytes, more: str = "") -> bytes:
        return _CHAT.format(key=key, name=name, more=more, length=len(body)).encode() + body

    said = order(name, t.behaviour, t.events, t.first_ms, t.pace_ms)
    whole = {"model": t.model, "messages": [{"role": "user", "content": said}], "max_tokens": 64, **({"stream": True} if t.stream else {})}

    def body(**more: object) -> bytes:
        return json.dumps({**whole, **more}, separators=(",", ":")).encode()

    match t.raw:
        case "":
            return post(body())
        case "ahead":
            return post(body()) * 2
        case "bad-json":
            return post(b'{"model":"m","messages":[')
        case "deep-json":
            return post(b'{"model":"m","messages":' + b"[" * 50_000)
        case "many":
            return post(body(n=10**6))
        case "negative":
            return post(body(max_tokens=-1))
        case "too-long":
            return post(body(messages=[{"role": "user", "content": "word " * 100_000}]))
        case "smuggled":
            return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        case "headers":
            return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + b"X-A: 1\r\n" * 10_000 + b"\r\n"
        case "no-path":
            return b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    raise AssertionError(t.raw)


class Client(asyncio.Protocol):
    """A connection. `ask` may be called again when the one before ended and `free` is true."""

    def __init__(self) -> None:
        self.free = False
        self.surplus = b""
        self.ending: asyncio.Future[str] | None = None
        self.parser = HttpResponseParser(self)
        self.closed = False
        self.since = 0.0

    # --- the connection

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.closed, self.free = True, False
        if self.ending is not None:
            self._end(self._verdict(whole=self.until_close and exc is None))

    def data_received(self, data):
        if self.ending is None:
            self.surplus += data[:200]
            return
        if self.throw.slow > 0 and not self.slowed:
            self.slowed = True
            self.transport.pause_reading()
            self.loop.call_later(self.throw.slow, self._read_on)
        try:
            self.parser.feed_data(data)
        except HttpParserError as e:
            self._end(f"WRONG {e}: {data[:200]!r}")
            return
        t = self.throw
        if (t.leaves == "done" and b"[DONE]" in data) or (t.leaves == "reading" and self.seen >= 1 + t.after * t.events):
            self._leave()
        if self.whole and self.ending is not None:
            self._end(self._verdict(whole=True))

    def _read_on(self):
        if not self.closed:
            self.transport.resume_reading()

    # --- the parser's words

    def on_message_begin(self):
        if self.whole:
            self.surplus += b"a second answer"

    def on_header(self, name, _):
        low = name.lower()
        if low in {b"content-length", b"transfer-encoding"}:
            self.until_close = False
        if low == b"set-cookie":
            self.surplus += b"a header of the client's"

    def on_body(self, body):
        self.size += len(body)
        self.seen += body.count(b"data: ") or len(body) // 65536 + 1
        if self.size <= 2**17:
            self.parts.append(body)
        elif body.strip(b"x"):
            self.strange = body[:200]

    def on_message_complete(self):
        self.whole = True
        self.status = self.parser.get_status_code()
        self.keeps = self.parser.should_keep_alive()

    def on_headers_complete(self):
        self.status = self.parser.get_status_code()

    # --- asking

    async def ask(self, name: str, t: Throw) -> str:
        """One request and its end."""
        self.loop = loop = asyncio.get_running_loop()
        self.name, self.throw, self.free = name, t, False
        self.parts: list[bytes] = []
        self.strange = b""
        self.size = self.seen = self.status = 0
        self.slowed = self.whole = self.keeps = False
        self.until_close = True
        # A line of a gibibyte takes its time.
        self.timers = [loop.call_later(PATIENCE_SECONDS + t.events / 2048, self._hung)]
        self.ending = ending = loop.create_future()
        data = request(name, t)
        if t.leaves == "half":
            head = data.index(b"\r\n\r\n") + 4
            at = head + int(t.after * (len(data) - head)) if t.after >= 0 else int(-t.after * (head - 1))
            self.transport.write(data[:at])
            self.timers.append(loop.call_later(0.1, self._leave))
        elif t.slow < 0:
            at = int(t.after * (len(data) - 1))
            self.transport.write(data[:at])
            self.timers.append(loop.call_later(-t.slow, self._rest, data[at:]))
        else:
            self.transport.write(data)
            if t.leaves == "sent":
                self._leave()
            elif t.leaves == "waiting":
                self.timers.append(loop.call_later(t.after, self._leave))
        try:
            return await ending
        finally:
            for timer in self.timers:
                timer.cancel()

    def _rest(self, data):
        if not self.closed:
            self.transport.write(data)

    def _leave(self):
        if self.ending is not None and not self.whole:
            self._end("left")
            self.transport.close()

    def _hung(self):
        if self.ending is not None:
            self._end("HUNG")
            self.transport.abort()

    def _end(self, verdict: str) -> None:
        ending, self.ending = self.ending, None
        if ending is not None and not ending.done():
            # After what came ahead of it an answer is the last one, whether it says so or not.
            self.free = self.whole and self.keeps and not self.closed and self.throw.raw != "ahead"
            if not self.free and not self.closed:
                self.transport.close()
            ending.set_result(verdict)

    # --- judging

    def _verdict(self, *, whole: bool) -> str:
        t, body = self.throw, b"".join(self.parts)
        if self.surplus:
            return f"WRONG surplus {self.surplus!r}"
        if not self.status:
            return "cut before its head"
        if self.status != 200:
            try:
                error = json.loads(body)["error"]
                return f"{self.status} {error['code']}" if "code" in error else f"engine {self.status}"
            except (ValueError, KeyError, TypeError):
                return f"WRONG {self.status} {body[:200]!r}" if whole else "cut"
        if t.behaviour.startswith("endless"):
            right = self.size == t.events * 1024 and not self.strange and t.behaviour == "endless-line"
            return "whole" if whole and right else f"WRONG {self.size} of {t.events} KiB {self.strange!r}" if whole else "cut"
        body = _HIDDEN.sub(b"", body)
        told = usage(t.events, lies=t.behaviour == "lie")
        expected = events(self.name, t.events) if t.stream else document(self.name, t.events, told)
        if whole and body == expected:
            return "whole"
        if expected.startswith(body):
            return "cut" if not whole or self.until_close else f"WRONG end after {len(body)} of {len(expected)}"
        before, _, last = body.rpartition(b'data: {"error":')
        told_events = before.count(b"\n\n")
        if whole and t.stream and last.endswith(b"\n\n") and before == b"".join(event(self.name, i) for i in range(told_events)):
            error = json.loads(b'{"error":' + last)["error"]
            return f"event {error['code']}"
        return f"WRONG {body!r}"[:4000] if whole or not expected.startswith(body[: len(expected)]) else "cut"
