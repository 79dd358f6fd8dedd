"""The wire of the gateway: what it reads from clients, what it forwards, and what it says when an engine fails."""

import asyncio
import contextlib
import json

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from gateway_loops import LOOPS, listen, run_on_loop

from vram.gateway.front import Front
from vram.gateway.house import House
from vram.gateway.keys import KeyRing, KeyTerms, digest
from vram.gateway.limits import WireLimits
from vram.gateway.replica import Replica

KEY = "vram-test"


class PassDesk:
    """Admits everything, to the first replica, then to the next."""

    def __init__(self, replicas):
        self.replicas = replicas
        self.left = []
        self.failures = 0

    def come(self, exchange):
        exchange.send(self.replicas[0], b"x-vram-pool: p\r\n")

    def leave(self, exchange):
        self.left.append(exchange)

    def grow(self, _):
        pass

    def failed(self, _, **__):
        self.failures += 1

    def has_elsewhere(self, exchange):
        return exchange.tries < len(self.replicas)

    def elsewhere(self, exchange):
        if not self.has_elsewhere(exchange):
            return False
        exchange.send(self.replicas[exchange.tries], exchange.notes)
        return True

    def tick(self, _):
        pass


class Running:
    """A house behind a socket."""

    def __init__(self, *engines, limits=None, keys=True):
        self.engines = engines
        self.limits = limits or WireLimits()
        self.ring = KeyRing(required=keys)
        self.ring.replace({digest(KEY.encode()): KeyTerms(name="test")})

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.house = House(loop, self.ring, self.limits)
        self.replicas = [Replica(self.house, url=e.url, host="127.0.0.1", port=e.port) for e in self.engines]
        self.house.desk = self.desk = PassDesk(self.replicas)
        self.port, self.close = await listen(lambda: Front(self.house))
        return self

    async def __aexit__(self, *_):
        self.close()
        self.house.limits = WireLimits(drain_seconds=0)
        await self.house.stop()
        for replica in self.replicas:
            replica.close()

    def request(self, body=None, *, path="/v1/chat/completions", key=KEY, headers="", stream=False):
        data = json.dumps(body or {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
        auth = f"Authorization: Bearer {key}\r\n" if key else ""
        return f"POST {path} HTTP/1.1\r\nHost: x\r\n{auth}{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data

    async def talk(self, data, *, seconds=3.0):
        """What comes back for raw bytes, until the other side closes or says nothing for a while, and how it ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        got, end = b"", "open"
        with contextlib.suppress(TimeoutError, ConnectionError):
            while True:
                more = await asyncio.wait_for(reader.read(65536), seconds)
                if not more:
                    end = "closed"
                    break
                got += more
                if got.endswith(b"0\r\n\r\n") or (b"chunked" not in got and _whole(got)):
                    break
        writer.close()
        return got, end


def _whole(got):
    head, _, body = got.partition(b"\r\n\r\n")
    length = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(length) and len(body) == length[0]


@pytest.fixture(autouse=True, params=LOOPS)
def _loop(request, monkeypatch):
    monkeypatch.setenv("VRAM_GATEWAY_LOOP", request.param)


def run(test):
    run_on_loop(test, 30)


def error_of(got):
    return json.loads(got.partition(b"\r\n\r\n")[2])["error"]


def test_an_answer_comes_through_untouched():
    """Body, status and headers of the engine arrive as they are, with headers of ours added."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            got, _ = await house.talk(house.request())
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert b"x-vram-pool: p" in head
            assert b"x-request-id: " in head
            assert json.loads(body)["usage"]["completion_tokens"] == 5
            (exchange,) = house.desk.left
            assert (exchange.outcome, exchange.prompt_tokens, exchange.completion_tokens) == ("ok", 10, 5)

    run(test())


@pytest.mark.parametrize("behaviour", ["honest", "spaced-json"])
def test_a_stream_comes_through_and_is_counted(behaviour):
    """Every event arrives; the engine's usage is read."""

    async def test():
        async with MockEngine(chunks=20, behaviour=behaviour) as engine, Running(engine) as house:
            body = {"model": "m", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
            got, _ = await house.talk(house.request(body))
            assert got.count(b"data: ") == 22
            assert b'"usage"' in got
            (exchange,) = house.desk.left
            assert (exchange.prompt_tokens, exchange.completion_tokens) == (10, 20)

    run(test())


def test_a_connection_serves_one_request_after_another():
    """Keep-alive on both sides: ten requests, one connection to the engine."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            for _ in range(10):
                writer.write(house.request())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                assert json.loads(await reader.readexactly(length))["choices"]
            writer.close()
            assert len(engine.bodies) == 10
            assert len(house.replicas[0].open) == 1

    run(test())


@pytest.mark.parametrize("cut", [1, 3, 17, 60, 120])
def test_requests_in_any_pieces(cut):
    """A request that arrives in pieces of any size is the same request."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            data = house.request()
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            for at in range(0, len(data), cut):
                writer.write(data[at : at + cut])
                await asyncio.sleep(0)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
            assert head.startswith(b"HTTP/1.1 200")
            writer.close()
            assert engine.bodies[0]["model"] == "m"

    run(test())


SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "head", "body"),
    [
        ("CL+TE", b"Host: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
        ("TE+CL", b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n" + SMUGGLED),
        ("double CL", b"Host: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n", b"abcd"),
        ("CL list", b"Host: x\r\nContent-Length: 3, 3\r\n", b"abc"),
        ("negative CL", b"Host: x\r\nContent-Length: -1\r\n", b""),
        ("CL with plus", b"Host: x\r\nContent-Length: +3\r\n", b"abc"),
        ("obs-fold", b"Host: x\r\nX-A: 1\r\n 2\r\nContent-Length: 0\r\n", b""),
        ("bare LF", b"Host: x\nContent-Length: 0\n", b""),
        ("space before colon", b"Host: x\r\nContent-Length : 3\r\n", b"abc"),
        ("no Host", b"Content-Length: 0\r\n", b""),
        ("two Hosts", b"Host: x\r\nHost: y\r\nContent-Length: 0\r\n", b""),
        ("NUL in a header", b"Host: x\r\nX-A: a\x00b\r\nContent-Length: 0\r\n", b""),
        ("TE twice", b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n"),
        ("TE cow", b"Host: x\r\nTransfer-Encoding: cow\r\n", b"0\r\n\r\n"),
        ("chunk with a sign", b"Host: x\r\nTransfer-Encoding: chunked\r\n", b"+1\r\na\r\n0\r\n\r\n"),
    ],
)
def test_smuggling_is_refused(name, head, body):
    """What another server could read otherwise is 400 and the end of the connection; nothing of it reaches an engine."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            got, end = await house.talk(b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer vram-test\r\n" + head + b"\r\n" + body, seconds=1)
            assert got.startswith(b"HTTP/1.1 400"), name
            assert got.count(b"HTTP/1.1 4") == 1, name
            assert end == "closed" or _whole(got)
            assert not engine.heads, name

    run(test())


def test_what_comes_ahead_is_not_executed():
    """A second request in the same bytes is not answered: the connection ends after the first answer."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            got, end = await house.talk(house.request() + house.request())
            assert got.count(b"HTTP/1.1 200") == 1
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(house.request(key="wrong") + house.request())
            got = await asyncio.wait_for(reader.read(), 3)
            assert got.count(b"HTTP/1.1 4") == 1
            assert b" 401 " in got
            assert len(engine.bodies) == 1
            writer.close()
            # Also where it has hardly begun; line ends between two requests are none.
            for more, ends in ((b"GET ", True), (b"\r\n", False)):
                reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
                # The same of a second request, whose head came before.
                for _ in range(1 if ends else 3):
                    writer.write(house.request() + more)
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
                    assert (b"connection: close" in head.lower()) is ends
                    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                writer.close()
            del end

    run(test())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + b"X-A: 1\r\n" * 10_000 + b"\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", None),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 404),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        # Of other versions: none, none with a bare line feed behind it, and one that is refused at its head and breaks HTTP as well.
        (b"POST /v1/chat/completions\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST /v1/cha\nHost:t/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/2.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 0\r\n\r\n\xff\xff\xff", 400),
        (b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
)
def test_bad_heads(data, status):
    """Too much, too many, or another protocol: a status and the end."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            got, _ = await house.talk(data, seconds=0.5)
            assert (int(got[9:12]) if got else None) == status
            assert got.count(b"HTTP/1.1 4") == (status is not None)
            assert not engine.heads

    run(test())


def test_too_large_a_body_is_refused_while_it_arrives():
    """413 as soon as the limit is passed, whatever the framing."""

    async def test():
        async with MockEngine() as engine, Running(engine, limits=WireLimits(body_bytes=100_000)) as house:
            for framing in (
                b"Content-Length: 1000000\r\n\r\n" + b"a" * 200_000,
                b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"a" * 65536 + b"\r\n" + b"10000\r\n" + b"a" * 65536,
            ):
                got, _ = await house.talk(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer vram-test\r\n" + framing, seconds=1)
                assert got.startswith(b"HTTP/1.1 413")
            assert not engine.heads

    run(test())


def test_slow_requests_time_out():
    """A head that drips is 408 after its time; an idle connection is closed in silence."""

    async def test():
        async with MockEngine() as engine, Running(engine, limits=WireLimits(head_seconds=0.2, idle_seconds=0.2)) as house:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost:")
            await asyncio.sleep(0.3)
            house.house.tick()
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
            assert await idle.read() == b""
            writer.close()
            idle_writer.close()
            del engine

    run(test())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_json"),
        (b"[]", "invalid_request"),
        (b"{", "bad_json"),
        (b"[" * 100_000, "invalid_request"),
        (b'{"model": "m", "messages": ' + b"[" * 100_000, "bad_json"),
        (b'{"messages": []}', "invalid_request"),
        (b'{"model": 5, "messages": []}', "invalid_request"),
        (b'{"model": "m", "messages": [], "max_tokens": -1}', "bad_max_tokens"),
        (b'{"model": "m", "messages": [], "max_tokens": 0}', "bad_max_tokens"),
        (b'{"model": "m", "messages": [], "max_tokens": 1e400}', "invalid_request"),
        (b'{"model": "m", "messages": [], "max_tokens": 99999999999999999999}', "bad_max_tokens"),
        (b'{"model": "m", "messages": [], "n": 0}', "bad_n"),
        (b'{"model": "m", "messages": [], "n": 10000000}', "bad_n"),
        (b'{"model": "\xff", "messages": []}', "bad_json"),
    ],
)
def test_bad_bodies(body, code):
    """What is no request is 400 with a code, and the connection lives."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            data = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer vram-test\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            got, _ = await house.talk(data)
            assert got.startswith(b"HTTP/1.1 400")
            assert error_of(got)["code"] == code
            assert not engine.heads

    run(test())


def test_keys():
    """No key, a wrong key and another scheme are 401; a right one is served."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            for key in ("", "vram-tesT", "vram-test2", "x" * 5000):
                got, _ = await house.talk(house.request(key=key))
                assert got.startswith(b"HTTP/1.1 401"), key
            assert not engine.heads
            assert (await house.talk(house.request()))[0].startswith(b"HTTP/1.1 200")
            # Of a client's headers none goes to an engine, least of all its key.
            assert b"vram-test" not in engine.heads[0]

    run(test())


@pytest.mark.parametrize("behaviour", ["die-before-head", "broken-head", "busy-503"])
def test_before_the_first_byte_another_replica_is_tried(behaviour):
    """The client sees the second replica's answer."""

    async def test():
        async with MockEngine(behaviour=behaviour) as bad, MockEngine() as good, Running(bad, good) as house:
            got, _ = await house.talk(house.request())
            assert got.startswith(b"HTTP/1.1 200")
            assert len(good.bodies) == 1
            assert house.desk.failures == 1
            assert [x.outcome for x in house.desk.left] == ["ok"]

    run(test())


def test_an_engine_that_cannot_be_reached():
    """502 with a hint to come back, when there is no other."""

    async def test():
        engine = MockEngine()
        async with engine:
            pass
        async with Running(engine) as house:
            got, _ = await house.talk(house.request())
            assert got.startswith(b"HTTP/1.1 502")
            assert b"Retry-After" in got

    run(test())


@pytest.mark.parametrize("behaviour", ["die-mid-stream", "reset-mid-stream"])
def test_an_engine_that_dies_mid_stream_is_told(behaviour):
    """A typed event, the end of the chunks, and a connection that can go on."""

    async def test():
        async with MockEngine(behaviour=behaviour) as engine, Running(engine) as house:
            got, _ = await house.talk(house.request(stream=True))
            assert got.endswith(b"\n\n\r\n0\r\n\r\n")
            assert b'"code":"engine_lost"' in got
            assert b"[DONE]" not in got
            assert got.count(b'"content"') == 2
            assert [x.outcome for x in house.desk.left] == ["engine_lost"]
            del engine

    run(test())


def test_an_engine_that_stalls_is_given_up():
    """After the stall's time: a typed event mid-stream, 504 before the first byte."""

    async def test():
        async with MockEngine(behaviour="stall") as stalls, MockEngine(behaviour="no-answer") as silent:
            for engine, expected in ((stalls, b"engine_stalled"), (silent, b" 504 ")):
                async with Running(engine, limits=WireLimits(stall_seconds=0.2)) as house:
                    talk = asyncio.create_task(house.talk(house.request(stream=True)))
                    await asyncio.sleep(0.4)
                    house.house.tick()
                    got, _ = await talk
                    assert expected in got
                    await asyncio.sleep(0.05)
                    assert engine.aborted == 1

    run(test())


@pytest.mark.parametrize("behaviour", ["broken-chunk", "long-length"])
def test_an_engine_that_breaks_its_framing(behaviour):
    """The client's connection ends; nothing is made up."""

    async def test():
        async with MockEngine(behaviour=behaviour) as engine, Running(engine) as house:
            got, end = await house.talk(house.request(stream=behaviour == "broken-chunk"), seconds=1)
            assert end == "closed" or b"error" in got
            assert [x.outcome for x in house.desk.left] in (["engine_broken"], ["engine_lost"])
            del engine

    run(test())


@pytest.mark.parametrize("behaviour", ["close-delimited", "connection-close"])
def test_engines_that_close_after_an_answer(behaviour):
    """The answer is whole, the outcome is ok, and the next request gets a new connection."""

    async def test():
        async with MockEngine(behaviour=behaviour) as engine, Running(engine) as house:
            for _ in range(3):
                got, _ = await house.talk(house.request())
                assert b"Hello" in got
            assert [x.outcome for x in house.desk.left] == ["ok"] * 3
            del engine

    run(test())


def test_lies_in_usage_are_not_believed():
    """Numbers that cannot be are no usage; what was forwarded stays as it was."""

    async def test():
        async with MockEngine(behaviour="lying-usage") as engine, Running(engine) as house:
            await house.talk(house.request())
            (exchange,) = house.desk.left
            assert exchange.prompt_tokens == -1
            assert exchange.completion_tokens == -1
            del engine

    run(test())


@pytest.mark.parametrize(("stream", "behaviour"), [(True, "honest"), (True, "no-answer"), (False, "honest")])
def test_a_client_that_leaves_ends_the_engines_work(stream, behaviour):
    """Mid-stream, in prefill, and without a stream: the engine sees the end within 50 ms."""

    async def test():
        async with MockEngine(chunks=1000, delay_seconds=0.02 if stream else 30, behaviour=behaviour) as engine, Running(engine) as house:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(house.request(stream=stream))
            await asyncio.sleep(0.15)
            assert engine.running == 1
            writer.transport.abort()
            for _ in range(50):
                await asyncio.sleep(0.01)
                if engine.aborted:
                    break
            assert engine.aborted == 1
            assert [x.outcome for x in house.desk.left] == ["client_left"]
            assert not house.house.exchanges
            del reader

    run(test())


def test_a_slow_reader_is_waited_for_not_buffered():
    """An engine that sends without end to a client that does not read is held back, bounded."""

    async def test():
        async with MockEngine(behaviour="one-line-without-end") as engine, Running(engine) as house:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=65536)
            writer.write(house.request(stream=True))
            await asyncio.sleep(0.5)
            (front,) = house.house.fronts
            assert front.write_paused
            assert front.transport.get_write_buffer_size() < 2**20
            writer.transport.abort()
            await asyncio.sleep(0.1)
            assert engine.aborted == 1
            del reader

    run(test())
