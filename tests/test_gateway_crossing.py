"""No byte of an engine's answer reaches a client whose answer it is not: what a connection must show before it serves the next one."""

import asyncio
import contextlib
import json
import random
import socket
import ssl
import threading

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from gateway_loops import LOOPS
from httptools import HttpResponseParser
from mock_engine import MockEngine
from scripted_engine import ScriptedEngine
from test_gateway_wire import KEY, PassDesk, Running, run

from vram.gateway.back import Back
from vram.gateway.call import Call
from vram.gateway.head import Head
from vram.gateway.replica import Replica


@pytest.fixture(autouse=True, params=LOOPS)
def _loop(request, monkeypatch):
    monkeypatch.setenv("VRAM_GATEWAY_LOOP", request.param)


def answer(text, status=200, more=b""):
    return b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, more, len(text), text)


def ask(marker, size=0):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * size}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nX-Request-Id: {marker}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def marker_of(head):
    return head.lower().partition(b"x-request-id: ")[2].partition(b"\r\n")[0]


class HeadReader:
    """An engine that answers at once a head that it refuses, and takes the body, which it left unread, for the next request."""

    def __init__(self):
        self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"POST /v1"):
                    writer.write(answer(b"what is that?", 400))
                elif marker_of(head).startswith(b"refused"):
                    writer.write(answer(marker_of(head), 413))
                else:
                    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                    writer.write(answer(marker_of(head)))
        writer.close()


@pytest.mark.parametrize("size", [0, 8_000_000])
def test_a_refusal_before_the_body_was_read_is_the_last_of_its_connection(size):
    """Whether all of it was sent or not: what the engine did not read must not stand in front of the next client's request."""

    async def test():
        async with HeadReader() as engine, Running(engine) as house:
            assert b" 413 " in (await house.talk(ask("refused", size)))[0]
            got, _ = await house.talk(ask("mine"))
            assert got.startswith(b"HTTP/1.1 200")
            assert got.endswith(b"\r\n\r\nmine")
            assert engine.connections == 2

    run(test())


def test_an_answer_before_the_whole_request_is_the_last_of_its_connection():
    """Of a success as well: bytes of the one request are still to go out there."""

    async def test():
        engine = socket.create_server(("127.0.0.1", 0))
        engine.settimeout(0)
        loop = asyncio.get_running_loop()
        async with Running(_Of(engine)) as house:
            talk = asyncio.create_task(house.talk(ask("early", 12_000_000)))
            peer, _ = await loop.sock_accept(engine)
            await loop.sock_recv(peer, 1000)
            await loop.sock_sendall(peer, answer(b"early"))
            assert (await talk)[0].endswith(b"early")
            assert not house.replicas[0].idle
            assert not house.replicas[0].open
            peer.close()
        engine.close()

    run(test())


class _Of:
    def __init__(self, listening):
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"


@pytest.mark.parametrize("strays", [True, False])
def test_what_lies_unread_before_a_request_is_no_answer_to_it(strays):
    """A second answer came, or an end, and the loop did not hear of it yet: the next request goes elsewhere, and gets its own.

    An engine that strays has no connection used twice; one that only closes is asked as ever.
    """

    async def test():
        engine = socket.create_server(("127.0.0.1", 0))
        engine.settimeout(0)
        loop = asyncio.get_running_loop()
        async with Running(_Of(engine)) as house:
            replica = house.replicas[0]
            first = Call(house.house, 1000)
            replica.send(first, replica.head(b"/a", b"vram", 0, b"GET"), b"")
            peer, _ = await loop.sock_accept(engine)
            await loop.sock_recv(peer, 1000)
            await loop.sock_sendall(peer, answer(b"first"))
            assert (await first.done).body == b"first"
            assert len(replica.idle) == 1
            # From here to the next request the loop has no turn.
            peer.settimeout(3)
            if strays:
                peer.sendall(answer(b"stray"))
            else:
                peer.shutdown(socket.SHUT_RDWR)
            second = Call(house.house, 1000)
            replica.send(second, replica.head(b"/b", b"vram", 0, b"GET"), b"")
            other, _ = await asyncio.wait_for(loop.sock_accept(engine), 3)
            assert b"GET /b " in await loop.sock_recv(other, 1000)
            await loop.sock_sendall(other, answer(b"second"))
            assert (await second.done).body == b"second"
            assert len(replica.idle) == (0 if strays else 1)
            peer.close()
            other.close()
        engine.close()

    run(test())


def anonymous(protocol):
    """TLS without a certificate: a test needs the protocol, not its secrets."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context


def test_who_closes_as_tls_asks_for_it_does_not_stray(caplog):
    """An engine says close_notify and ends an idle connection while the loop has no turn: the next request goes elsewhere, and that one's connection is kept."""
    served = anonymous(ssl.PROTOCOL_TLS_SERVER)
    closes, closed, over = threading.Event(), threading.Event(), threading.Event()

    def take(engine):
        peer = served.wrap_socket(engine.accept()[0], server_side=True)
        peer.settimeout(5)
        peer.recv(1000)
        peer.sendall(answer(b"here"))
        return peer

    def serve(engine):
        first = take(engine)
        closes.wait(5)
        first.settimeout(0)
        # It sends its own, and does not wait for the other's.
        with contextlib.suppress(ssl.SSLWantReadError):
            first.unwrap()
        first.close()
        closed.set()
        second = take(engine)
        over.wait(5)
        second.close()

    async def test():
        with socket.create_server(("127.0.0.1", 0)) as engine:
            engine.settimeout(5)
            serving = threading.Thread(target=serve, args=(engine,))
            serving.start()
            async with Running() as house:
                port = engine.getsockname()[1]
                replica = Replica(house.house, url=f"https://127.0.0.1:{port}", host="127.0.0.1", port=port, tls=anonymous(ssl.PROTOCOL_TLS_CLIENT))
                for number in range(2):
                    asked = Call(house.house, 1000)
                    replica.send(asked, replica.head(b"/a", b"vram", 0, b"GET"), b"")
                    assert (await asyncio.wait_for(asked.done, 5)).body == b"here"
                    if not number:
                        # From here to the next request the loop has no turn.
                        closes.set()
                        assert closed.wait(5)
                assert len(replica.idle) == 1
                over.set()
                serving.join(5)
                replica.close()

    run(test())
    assert "answered what nobody had asked" not in caplog.text


def test_an_engine_that_began_to_answer_is_not_asked_again():
    """102 and then the end, on a connection that had waited: it was at work, so nothing is sent a second time to it."""

    async def script(writer, number):
        writer.write(answer(b"one") if number == 1 else b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        if number > 1:
            writer.close()

    async def test():
        async with ScriptedEngine(script) as engine, Running(engine) as house:
            assert (await house.talk(ask("a")))[0].endswith(b"one")
            assert (await house.talk(ask("b")))[0].startswith(b"HTTP/1.1 502")
            assert engine.asked == 2

    run(test())


class Written(asyncio.Transport):
    """A transport that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.out = b""
        self.over = False

    def write(self, data):
        self.out += data

    def writelines(self, parts):
        self.out += b"".join(parts)

    def abort(self):
        self.over = True

    def is_closing(self):
        return self.over

    def get_write_buffer_size(self):
        return 0


class LateLoop:
    """A loop whose connections fail, and come about after that."""

    def __init__(self, loop):
        self._loop = loop
        self.time = loop.time
        self.create_task = loop.create_task
        self.create_future = loop.create_future

    async def create_connection(self, made, *_, **__):
        self.made = made()
        raise TimeoutError


def test_a_connection_that_comes_about_after_it_was_given_up_sends_nothing():
    """Its exchange was told that it failed, and may be with another engine: two answers to it would be one too many."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            late = LateLoop(house.house.loop)
            house.house.loop, house.house.sockets = late, None
            replica = Replica(house.house, url="http://x", host="127.0.0.1", port=1)
            asked = Call(house.house, 1000)
            replica.send(asked, b"GET / HTTP/1.1\r\n\r\n", b"")
            with contextlib.suppress(Exception):
                await asyncio.wait_for(asked.done, 3)
            asked.over = False
            transport = Written()
            late.made.connection_made(transport)
            assert (transport.out, transport.over, asked.back) == (b"", True, None)
            assert not replica.idle

    run(test())


def test_a_connection_has_one_owner():
    """It takes no second request before the answer to the first is whole, and is among the idle ones once."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            replica = house.replicas[0]
            back = Back(replica)
            back.connection_made(Written())
            replica.open.add(back)
            first, second = Call(house.house, 1000), Call(house.house, 1000)
            back.send(first, b"GET / HTTP/1.1\r\n\r\n", b"")
            with pytest.raises(RuntimeError):
                back.send(second, b"GET / HTTP/1.1\r\n\r\n", b"")
            # In the middle of an answer it is no idle one, whoever says so.
            back.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
            replica.give_back(back)
            assert not replica.idle
            assert back.closed

    run(test())


def test_a_connection_that_waited_without_a_request_may_be_closed_there():
    """Dialled for somebody who left: that the engine closes it as the next one comes is no failure of that one."""

    class Asked(Call):
        def lost(self, *, stale=False):
            self.stale = stale

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            replica = house.replicas[0]
            gone, comes = Call(house.house, 1000), Asked(house.house, 1000)
            gone.over = True
            back = Back(replica, (gone, b"GET / HTTP/1.1\r\n\r\n", b""))
            back.connection_made(transport := Written())
            assert list(replica.idle) == [back]
            assert transport.out == b""
            replica.send(comes, b"GET / HTTP/1.1\r\n\r\n", b"")
            back.connection_lost(None)
            assert comes.stale

    run(test())


@pytest.mark.parametrize("head", [b"HTTP/1.1 101 X", b"HTTP/1.1 204 X\r\nContent-Length: 5", b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked"])
def test_answers_whose_end_a_client_could_see_elsewhere_are_broken(head):
    """RFC 9110, 15.2.2 and 8.6: no protocol was asked for, and 204 has no body and no length."""
    with pytest.raises(ValueError, match="status"):
        Head(head + b"\r\n\r\n", len(head))


def test_usage_of_an_answer_that_was_given_up_is_not_counted():
    """The first engine's stream breaks in its first bytes, behind its usage; the second's tells none: none is known."""

    class Hiding(PassDesk):
        def come(self, exchange):
            exchange.hides_usage = True
            super().come(exchange)

    def chunk(text):
        return b"%x\r\n%b\r\n" % (len(text), text)

    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def breaks(writer, _):
        writer.write(stream + chunk(b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}\n\n') + b"zz\r\n")

    async def answers(writer, _):
        writer.write(stream + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def test():
        async with ScriptedEngine(breaks) as bad, ScriptedEngine(answers) as good, Running(bad, good) as house:
            house.house.desk = house.desk = Hiding(house.replicas)
            got, _ = await house.talk(house.request(stream=True))
            assert b"[DONE]" in got
            (x,) = house.desk.left
            assert (x.outcome, x.prompt_tokens, x.completion_tokens) == ("ok", -1, -1)

    run(test())


# --- many at once


async def echo(reader, writer, chance):
    """Answers with the request's marker in its body, in every way that an engine may, and in some in which it must not."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            marker = marker_of(head)
            how = chance.choice(["length", "chunks", "pieces", "early", "surplus", "close", "unsaid", "until-close", "hints", "reset", "slow", "busy"])
            if how == "early":
                # What follows is read as the next request, whatever it is.
                writer.write(answer(marker, 413))
                continue
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            match how:
                case "length" | "unsaid":
                    writer.write(answer(marker))
                case "busy":
                    writer.write(answer(marker, 503))
                case "hints":
                    writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(marker))
                case "surplus":
                    writer.write(answer(marker) + answer(b"stray-" + marker))
                case "close":
                    writer.write(answer(marker, more=b"Connection: close\r\n"))
                case "until-close":
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + marker)
                case "chunks" | "pieces" | "slow":
                    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % c for c in marker) + b"0\r\n\r\n"
                    step = len(whole) if how == "chunks" else 7
                    for at in range(0, len(whole), step):
                        writer.write(whole[at : at + step])
                        await asyncio.sleep(0.002 if how == "slow" else 0)
                case "reset":
                    writer.write(answer(marker)[:-1])
                    await writer.drain()
                    writer.transport.abort()
                    return
            await writer.drain()
            if how in {"close", "unsaid", "until-close"}:
                break
    writer.close()


class Answers:
    """What llhttp reads of one answer."""

    def __init__(self):
        self.body, self.count, self.parser = b"", 0, HttpResponseParser(self)

    def on_body(self, data):
        self.body += data

    def on_message_complete(self):
        self.count += 1


async def client(port, name, chance, seen):
    """Requests on as few connections as it gets along with; it leaves some of them in the middle."""
    reader = writer = None
    for number in range(12):
        if writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        marker = f"{name}-{number}-end"
        data = ask(marker, chance.choice([0, 100, 100_000]))
        cut = chance.randrange(len(data)) if chance.random() < 0.3 else len(data)
        leaves = chance.random() < 0.15
        got = Answers()
        try:
            writer.write(data[:cut])
            if cut < len(data):
                await asyncio.sleep(0)
                writer.write(data[cut:])
            if leaves:
                await asyncio.sleep(chance.random() * 0.01)
                raise ConnectionAbortedError
            while not got.count:
                more = await asyncio.wait_for(reader.read(65536), 10)
                if not more:
                    raise ConnectionResetError
                got.parser.feed_data(more)
        except ConnectionError:
            writer.transport.abort()
            writer = None
        seen.append((marker.encode(), got.body, got.count))
        if writer is not None and not got.parser.should_keep_alive():
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_client_sees_its_own_marker_alone(seed):
    """Forty clients, 480 requests, two engines that answer early, twice, in pieces, and end in every way: never a byte of another's answer."""

    async def test():
        chance, seen = random.Random(seed), []  # noqa: S311  (which client leaves is no secret)
        servers = [await asyncio.start_server(lambda r, w: echo(r, w, chance), "127.0.0.1", 0, limit=2**20) for _ in range(2)]
        try:
            async with Running(*(_Of(s.sockets[0]) for s in servers)) as house:
                await asyncio.gather(*(client(house.port, f"c{i}", chance, seen) for i in range(40)))
                # Who left last is heard of a turn or two later.
                for _ in range(200):
                    if not house.house.exchanges:
                        break
                    await asyncio.sleep(0.01)
                assert not house.house.exchanges
        finally:
            # uvloop waits for ever when it is closed with some of these open.
            for server in servers:
                server.close()
            # The engines hear of their connections' ends.
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others, timeout=2.0)
        assert len(seen) == 480
        strange = [(marker, body) for marker, body, count in seen if count > 1 or (not marker.startswith(body) and b'{"error":' not in body)]
        assert strange == []
        assert sum(marker == body for marker, body, _ in seen) > 240

    run(test())
