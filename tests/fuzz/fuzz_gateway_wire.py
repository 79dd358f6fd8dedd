"""Fuzz target of the gateway's wire (atheris, coverage-guided): bytes of a client into `Front`, bytes of an engine into `Back`.

Run: python tests/fuzz/fuzz_gateway_wire.py [CORPUS] -max_total_time=60 -rss_limit_mb=1024
Whatever the bytes, and however they are cut into reads: no exception; the same bytes are the same request, answer or refusal; a request is
what RFC 9112, read strictly (`strict` below), says it is, body and key included, and never two; what a client is given of an engine's
answer is one answer for llhttp, to the byte.
"""

import re
import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[2] / "src")]

with atheris.instrument_imports(include=["vram.gateway"]):
    from vram.gateway.back import Back
    from vram.gateway.call import unchunked
    from vram.gateway.front import Front
    from vram.gateway.head import Head
    from vram.gateway.limits import WireLimits

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser  # noqa: E402  (the path is set above)

# --- a client's bytes

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Spaces between the three words of the first line may be several (RFC 9112, 3).
LINE = re.compile(rb"(%b) +([\x21-\x7e]+) +HTTP/1\.([01])\r\n" % TOKEN)
FIELD = re.compile(rb"(%b):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\x20-\x7e\x80-\xff\t]*[\x21-\x7e\x80-\xff])?)?)[ \t]*\r\n" % TOKEN)
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\x20-\x7e\x80-\xff\t]*)?\r\n")
REQUESTS = [
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
]


def strict(data: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Method, target, `Authorization` and body of the first request; None where RFC 9112 has none or an incomplete one there."""
    # Line ends in front of a request are passed over, halves too, as llhttp and nginx do: no byte of a request can hide in them.
    data = data.lstrip(b"\r\n")
    line = LINE.match(data)
    if line is None:
        return None
    at, fields = line.end(), []
    while data[at : at + 2] != b"\r\n":
        field = FIELD.match(data, at)
        if field is None:
            return None
        fields.append((field[1].lower(), field[2]))
        at = field.end()
    at += 2
    lengths = [v for k, v in fields if k == b"content-length"]
    codings = [v for k, v in fields if k == b"transfer-encoding"]
    if (lengths and codings) or len(lengths) > 1 or (line[3] == b"1" and sum(k == b"host" for k, _ in fields) != 1):
        return None
    body = b""
    if lengths:
        if not re.fullmatch(rb"[0-9]{1,18}", lengths[0]) or len(data) < at + int(lengths[0]):
            return None
        body = data[at : at + int(lengths[0])]
    elif codings:
        if b",".join(codings).rpartition(b",")[2].strip().lower() != b"chunked":
            return None
        while True:
            size = CHUNK.match(data, at)
            if size is None:
                return None
            at, length = size.end(), int(size[1], 16)
            if not length:
                break
            body += data[at : at + length]
            if data[at + length : at + length + 2] != b"\r\n":
                return None
            at += length + 2
        while data[at : at + 2] != b"\r\n":
            trailer = FIELD.match(data, at)
            if trailer is None:
                return None
            at = trailer.end()
    return line[1], line[2], next((v for k, v in fields if k == b"authorization"), b""), body


class Transport:
    """Takes what is written."""

    def __init__(self) -> None:
        self.written, self.closing = b"", False

    def set_write_buffer_limits(self, **_: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    abort = close


class House:
    """Keeps a client's requests, and never answers while bytes come."""

    stopping = False

    def __init__(self, **limits: int) -> None:
        self.limits = WireLimits(**limits)
        self.fronts: set[Front] = set()
        self.requests: list[object] = []
        self.refusals: list[str] = []

    def now(self) -> float:
        return 0.0

    def serve(self, front: Front, request: object) -> None:
        self.requests.append(request)
        front.handler = self

    def refused(self, refusal: object) -> None:
        self.refusals.append(refusal.code)

    def client_left(self) -> None:
        pass


def client(pieces: list[bytes], **limits: int) -> tuple[House, Front, Transport]:
    """What a house makes of a client that sends these pieces."""
    house, transport = House(**limits), Transport()
    front = Front(house)
    front.connection_made(transport)
    for piece in pieces:
        if not transport.closing:
            front.data_received(piece)
    return house, front, transport


def bounded(data: bytes) -> list[object]:
    """What a fresh connection makes of these bytes, under the limits as they are."""
    house, front, _ = client([data])
    return [*((r.method, r.path, r.header(b"authorization"), r.body, r.keep_alive) for r in house.requests), bool(house.refusals), bool(front.ahead)]


def check(*, held: bool, why: str) -> None:
    """One property."""
    if not held:
        raise AssertionError(why)


def clients(data: bytes, pieces: list[bytes]) -> None:
    """The properties of requests."""
    seen = []
    for cut in ([data], pieces, [data[i : i + 1] for i in range(len(data))]):
        house, front, transport = client(cut, head_bytes=10**6, headers=10**6)
        check(held=len(house.requests) + len(house.refusals) <= 1, why="two ends of one connection's first request")
        check(held=bool(house.refusals) == (transport.written.count(b"HTTP/1.1 4") == 1), why="a refusal that was not told, or twice")
        seen.append([(r.method, r.path, r.header(b"authorization"), r.body, r.keep_alive) for r in house.requests] + [bool(house.refusals), bool(front.ahead)])
        front.connection_lost(None)
        client(cut, head_bytes=64, headers=4, body_bytes=32)
    check(held=seen[0] == seen[1] == seen[2], why=f"cut otherwise, understood otherwise: {seen}")
    # As the second request of a connection, after one with the same head or another, it is what it is as the first.
    for first in (REQUESTS[0], data):
        for cut in ([data], pieces):
            house, front, _ = client([first])
            if len(house.requests) == 1 and not front.ahead and house.requests[0].keep_alive:
                front.finished(keep_alive=True)
                check(held=not front.ahead and front.handler is None, why="an answer that is not the last one ended the connection")
                for piece in cut:
                    if not front.transport.closing:
                        front.data_received(piece)
                again = [(r.method, r.path, r.header(b"authorization"), r.body, r.keep_alive) for r in house.requests[1:]]
                check(
                    held=[*again, bool(house.refusals), bool(front.ahead)] == bounded(data),
                    why=f"after another {again} {house.refusals}, alone {bounded(data)}",
                )
    if len(seen[0]) == 3:
        method, path, key, body, _ = seen[0][0]
        read = strict(data)
        check(held=read is not None, why=f"a request that RFC 9112 has not: {seen[0]}")
        check(held=read == (method, path, key, body), why=f"strictly read it is {read}, not {seen[0]}")


# --- an engine's bytes

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\ndata: {"choices":[\n\n\r\n23\r\ndata: {"choices":[],"usage":{}}\n\n  \r\n0\r\n\r\n',
    b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.0 200 OK\r\nConnection: close\r\nKeep-Alive: x\r\n\r\nhello",
    b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
]


HEADS = [Head(answer, answer.index(b"\r\n\r\n")) for answer in ANSWERS]


class Engine:
    """Stands for a replica and for who asks it."""

    over = False
    told = b""

    def __init__(self, *, hides: bool) -> None:
        self.house = self
        self.hides_usage = hides
        self.limits = WireLimits(engine_head_bytes=4096)
        self.back: Back | None = None
        self.head: object = None
        self.last_head: object = None
        self.got, self.end = b"", ""
        self.kept = True

    def leaving(self, _: Back) -> None:
        self.kept = False

    forget = leaving

    def strayed(self) -> None:
        pass

    def answered(self, head: object, *, more: bool) -> None:
        del more
        check(held=self.head is None, why="two heads")
        self.head = head

    def forward(self, data: bytes, _: int) -> None:
        check(held=self.head is not None and not self.end, why="bytes before a head or after an end")
        self.got += data

    def _ends(self, how: str) -> None:
        check(held=not self.end, why=f"{self.end} and {how}")
        self.end = how

    def ended(self, _: Back) -> None:
        self._ends("ended")

    def lost(self, *, stale: bool = False) -> None:
        del stale
        self._ends("lost")

    def broken(self) -> None:
        self._ends("broken")


class Answer:
    """llhttp's reading of what a client was given."""

    def __init__(self, data: bytes) -> None:
        self.body, self.whole, self.error = b"", 0, ""
        parser = HttpResponseParser(self)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as e:
            self.error = f"{e!r}"

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1


class Pipe:
    """A connection to an engine."""

    def writelines(self, _: object) -> None:
        pass

    def abort(self) -> None:
        pass


def engine(pieces: list[bytes], *, hides: bool, last_head: object = None) -> Engine:
    """What is made of an engine that sends these pieces and then closes; `last_head`: of its answer before."""
    asker = Engine(hides=hides)
    asker.last_head = last_head
    back = Back(asker)
    back.connection_made(Pipe())
    back.send(asker, b"", b"")
    for piece in pieces:
        if back.closed:
            break
        back.data_received(piece)
    if not asker.end and asker.head is not None and not asker.head.chunked and asker.head.length < 0:
        asker.end = "until it closes"
    return asker


def engines(data: bytes, pieces: list[bytes], *, hides: bool) -> None:
    """The properties of answers."""
    found = [engine(cut, hides=False) for cut in ([data], pieces, [data[i : i + 1] for i in range(len(data))])]
    # A head that came before is not read again: nothing may come out otherwise for that, nor for having had another one before.
    found += [engine([data], hides=False, last_head=before) for before in (found[0].last_head, *HEADS)]
    ends = {(a.end, a.head is not None, a.head.lines if a.head is not None else b"") for a in found}
    check(held=len(ends) == 1, why=f"cut otherwise, ended otherwise: {ends}")
    whole = found[0]
    for other in found[1:]:
        same = other.got.startswith(whole.got) if whole.end == "broken" else other.got == whole.got
        check(held=same, why=f"cut otherwise, forwarded otherwise: {whole.got!r} {other.got!r}")
    check(held=all(a.got in data for a in found), why="bytes that the engine did not send")
    if whole.end == "ended":
        read = Answer(whole.head.lines + b"\r\n\r\n" + whole.got)
        check(held=read.whole == 1 and not read.error, why=f"no whole answer for llhttp: {read.whole} {read.error} {whole.head.lines + whole.got!r}")
        if whole.head.chunked:
            check(held=unchunked(whole.got) == read.body, why=f"unchunked is {unchunked(whole.got)!r}, not {read.body!r}")
            hidden = engine([data], hides=hides)
            less = Answer(hidden.head.lines + b"\r\n\r\n" + hidden.got)
            check(held=less.whole == 1 and not less.error, why=f"with its usage hidden no whole answer: {hidden.got!r}")


def one(data: bytes) -> None:
    """One input: a first byte that says which side, a second where it is cut, and the bytes."""
    if len(data) < 2:
        return
    side, size, rest = data[0], data[1] % 40 + 1, data[2:]
    pieces = [rest[i : i + size] for i in range(0, len(rest), size)]
    if side & 1:
        engines(rest, pieces, hides=bool(side & 2))
    else:
        clients(rest, pieces)


def main() -> None:
    """Write the seeds into the first corpus folder given, or one that is thrown away, then fuzz."""
    folders = [Path(a) for a in sys.argv[1:] if not a.startswith("-")]
    if not folders:
        thrown = tempfile.TemporaryDirectory()
        folders = [Path(thrown.name)]
        sys.argv.append(thrown.name)
    seeds = {f"client{i}": b"\0\7" + raw for i, raw in enumerate(REQUESTS)} | {f"engine{i}": b"\3\7" + raw for i, raw in enumerate(ANSWERS)}
    for raw in seeds.values():
        one(raw)
    folders[0].mkdir(parents=True, exist_ok=True)
    for name, raw in seeds.items():
        (folders[0] / name).write_bytes(raw)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
