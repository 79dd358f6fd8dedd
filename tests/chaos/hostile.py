"""An engine that does what its requests tell it to: answer, die, stall, truncate, reset, lie, send a line without end.

    python hostile.py PORT[:BLOCKS] ...

Each port is a replica; BLOCKS is the size of its KV cache as it says in /metrics. `GET /stats` tells what it saw.
A behaviour whose name ends in -once is shown to the first try of a request only: the next one is answered.
"""

import asyncio
import json
import socket
import struct
import sys

from words import ORDER, document, event, usage

METRICS = (
    'vllm:cache_config_info{block_size="16",num_gpu_blocks="%d"} 1.0\nvllm:num_requests_running %d\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc %s\n'
)
USED = "1e-06"
"""Of its cache, as it says while anything runs: as if nearly all were shared."""
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STATS = {"answered": 0, "left": 0, "running": 0, "most": 0, "connections": 0}
SEEN: dict[bytes, int] = {}
LINE = b"x" * 65536


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Engine(asyncio.Protocol):
    """A connection of the gateway's."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.buffer = b""
        self.served = 0
        self.running = self.paused = False
        self.timer: asyncio.TimerHandle | None = None
        self.left = 0
        self.then = b""

    def connection_made(self, transport):
        self.transport = transport
        STATS["connections"] += 1

    def connection_lost(self, _):
        STATS["connections"] -= 1
        if self.running:
            STATS["running"] -= 1
            STATS["left"] += 1
            self.running = False
        if self.timer is not None:
            self.timer.cancel()

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        if self.left:
            self.endless()

    def data_received(self, data):
        self.buffer += data
        while not self.running and not self.transport.is_closing():
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            low = self.buffer[:end].lower()
            at = low.find(b"content-length:")
            length = int(low[at + 15 :].partition(b"\r\n")[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            head, body, self.buffer = self.buffer[:end], self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self.asked(head, body)

    def text(self, status, text):
        self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text))

    def asked(self, head, body):
        if head.startswith(b"GET /metrics"):
            self.text(200, (METRICS % (self.blocks, STATS["running"], USED if STATS["running"] else "0.0")).encode())
            return
        if head.startswith(b"GET /stats"):
            self.text(200, json.dumps(STATS).encode())
            return
        found = ORDER.search(body)
        if found is None:
            # A probe, or what else the gateway asks for itself.
            self.text(200 if head.startswith(b"POST") else 404, b'{"choices":[]}')
            return
        name, kind = found[1], found[2].decode()
        count, first_ms, pace_ms = int(found[3]), int(found[4]), int(found[5])
        if kind.endswith("-once"):
            SEEN[name] = SEEN.get(name, 0) + 1
            kind = kind[:-5] if SEEN[name] == 1 else "honest"
            if kind == "honest":
                del SEEN[name]
        if kind == "close-under-request":
            kind = "die-before-head" if self.served else "honest"
        self.served += 1
        self.running = True
        STATS["running"] += 1
        STATS["most"] = max(STATS["most"], STATS["running"])
        stream = b'"stream":true' in body
        if first_ms:
            self.timer = asyncio.get_running_loop().call_later(first_ms / 1000, self.begin, name.decode(), kind, count, pace_ms / 1000, stream)
        else:
            self.begin(name.decode(), kind, count, pace_ms / 1000, stream)

    def ended(self):
        self.timer = None
        if self.running:
            self.running = False
            STATS["running"] -= 1
            STATS["answered"] += 1
        self.data_received(b"")

    def gone(self, *, reset=False):
        """Die on this request."""
        self.running = False
        STATS["running"] -= 1
        if reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()

    def begin(self, name, kind, count, pace, stream):
        write = self.transport.write
        if kind == "die-before-head":
            self.gone()
        elif kind == "reset-before-head":
            self.gone(reset=True)
        elif kind == "die-in-head":
            write(STREAM[:30])
            self.gone()
        elif kind == "stall":
            pass
        elif kind == "broken-head":
            write(b"HTP/1.1 OK\r\n\r\n")
            self.gone()
        elif kind in {"error-500", "busy-503"}:
            self.text(int(kind[-3:]), b'{"error":{"message":"no","id":"%b"}}' % name.encode())
            self.ended()
        elif kind in {"endless-line", "endless-head", "endless-size"}:
            start = {"endless-line": STREAM, "endless-head": b"HTTP/1.1 200 OK\r\nX-A: ", "endless-size": STREAM}[kind]
            write(start)
            self.left, self.chunked = count * 1024, kind == "endless-line"
            self.endless()
        elif not stream:
            self.document(name, kind, count)
        else:
            write((b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" if kind == "hints" else b"") + STREAM)
            self.event(name, kind, count, pace, 0)

    def endless(self):
        """A line without an end, as fast as it is taken; after its bytes the answer's end, where it can have one."""
        while self.left and not self.paused and not self.transport.is_closing():
            piece = LINE[: min(self.left, len(LINE))]
            self.left -= len(piece)
            self.transport.write(chunk(piece) if self.chunked else piece.replace(b"x", b"1"))
        if not self.left and self.running:
            if self.chunked:
                self.transport.write(b"0\r\n\r\n")
                self.ended()
            else:
                self.gone()

    def document(self, name, kind, count):
        text = document(name, count, usage(count, lies=kind == "lie"))
        more = b"Connection: close\r\n" if kind == "close-after" else b""
        if kind == "until-close":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + text)
            self.ended()
            self.transport.close()
            return
        length = len(text) + (100 if kind == "truncate" else 0)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (more, length, text))
        if kind == "truncate":
            self.gone()
            return
        self.last(kind)

    def last(self, kind):
        self.ended()
        if kind == "extra":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnever")
        elif kind in {"close-after", "close-unsaid"}:
            self.transport.close()

    def event(self, name, kind, count, pace, i):
        write = self.transport.write
        while True:
            if i == count // 2:
                if kind == "die-mid-stream":
                    self.gone()
                    return
                if kind == "reset-mid-stream":
                    self.gone(reset=True)
                    return
                if kind == "die-mid-chunk":
                    write(chunk(event(name, i))[:40])
                    self.gone()
                    return
                if kind == "broken-chunk":
                    write(b"xyz\r\n")
                    self.gone()
                    return
                if kind == "stall-mid-stream":
                    return
            if i >= count:
                break
            write(chunk(event(name, i)))
            i += 1
            if pace:
                self.timer = asyncio.get_running_loop().call_later(pace, self.event, name, kind, count, pace, i)
                return
        if kind != "no-usage":
            write(chunk(b'data: {"id":"%b","choices":[],"usage":%b}\n\n' % (name.encode(), usage(count, lies=kind == "lie"))))
        write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        self.last(kind)


async def main() -> None:
    loop = asyncio.get_running_loop()
    for word in sys.argv[1:]:
        port, _, blocks = word.partition(":")
        await loop.create_server(lambda blocks=int(blocks or 4096): Engine(blocks), "127.0.0.1", int(port), backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
