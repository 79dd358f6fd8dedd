"""The gateway's own sockets, held against what asyncio's and uvloop's transports do for the same protocol."""

import asyncio
import contextlib
import os
import socket
import struct
import threading

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from gateway_loops import LOOPS, listen, run_on_loop

MIB = 2**20


class Ear:
    """A protocol that notes what it hears."""

    def __init__(self):
        self.heard = []
        self.bytes = b""
        self.ended = asyncio.get_running_loop().create_future()
        self.came = asyncio.Event()
        self.on_data = None

    def connection_made(self, transport):
        self.transport = transport
        self.heard.append("made")
        self.came.set()

    def data_received(self, data):
        self.bytes += data
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self):
        self.heard.append("eof")

    def pause_writing(self):
        self.heard.append("pause")

    def resume_writing(self):
        self.heard.append("resume")

    def connection_lost(self, exc):
        self.heard.append("lost" if exc is None else "broke")
        self.ended.set_result(exc)


@contextlib.asynccontextmanager
async def pair():
    """The ear of a connection that was accepted, and the client's plain socket, which blocks nobody."""
    loop, ears = asyncio.get_running_loop(), []

    def made():
        ears.append(Ear())
        return ears[-1]

    port, close = await listen(made)
    client = socket.socket()
    client.settimeout(0)
    await loop.sock_connect(client, ("127.0.0.1", port))
    while not ears:  # noqa: ASYNC110  (a factory tells nobody)
        await asyncio.sleep(0)
    await asyncio.wait_for(ears[0].came.wait(), 3)
    try:
        yield ears[0], client
    finally:
        client.close()
        close()


async def read_all(client):
    """What a client reads until the end."""
    got, loop = bytearray(), asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while more := await asyncio.wait_for(loop.sock_recv(client, MIB), 5):
            got += more
    return bytes(got)


@pytest.fixture(autouse=True, params=LOOPS)
def _loop(request, monkeypatch):
    monkeypatch.setenv("VRAM_GATEWAY_LOOP", request.param)


def run(test):
    run_on_loop(test, 30)


def reset(client):
    """Close with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_what_is_written_arrives_in_order_and_a_slow_reader_is_told_of():
    """Eight MiB in pieces of all sizes to a client that reads late: paused, resumed, every byte in its place, closed at the end."""

    async def test():
        async with pair() as (ear, client):
            sent = bytearray()
            for i in range(400):
                piece = bytes([i % 251]) * (i * 113 % 40_000 + 1)
                sent += piece
                ear.transport.writelines((piece[:5], piece[5:])) if i % 3 else ear.transport.write(piece)
            assert ear.heard == ["made", "pause"]
            assert ear.transport.get_write_buffer_size() > 0
            ear.transport.close()
            assert await read_all(client) == sent
            assert await asyncio.wait_for(ear.ended, 3) is None
            assert ear.heard == ["made", "pause", "resume", "lost"]

    run(test())


def test_a_body_larger_than_the_kernel_takes():
    """A head and a body of 20 MiB, written as two pieces: no byte is lost or doubled where the kernel stops in the middle."""

    async def test():
        async with pair() as (ear, client):
            head, body = b"h" * 1000, os.urandom(MIB) * 20
            ear.transport.writelines((head, body))
            ear.transport.writelines((b"end", b""))
            ear.transport.close()
            assert await read_all(client) == head + body + b"end"

    run(test())


def test_an_end_is_heard_once():
    """The client's end, its reset, our close and our abort, and two of them at once: `connection_lost` comes once, and never inside a call."""

    async def test():
        def double(transport):
            transport.close()
            transport.abort()
            transport.close()

        for ours in (None, "close", "abort", "both", "reset"):
            async with pair() as (ear, client):
                loop = asyncio.get_running_loop()
                if ours is None:
                    client.shutdown(socket.SHUT_WR)
                elif ours == "reset":
                    reset(client)
                else:
                    heard = len(ear.heard)
                    double(ear.transport) if ours == "both" else getattr(ear.transport, ours)()
                    assert len(ear.heard) == heard, "said inside the call"
                    assert ear.transport.is_closing()
                    ear.transport.write(b"nobody hears this")
                error = await asyncio.wait_for(ear.ended, 3)
                assert (error is not None) == (ours == "reset")
                await asyncio.sleep(0.01)
                assert sum(h in {"lost", "broke"} for h in ear.heard) == 1
                if ours not in {None, "reset"}:
                    assert await loop.sock_recv(client, 10) == b""

    run(test())


def test_a_write_to_who_has_gone():
    """An engine or client that vanished is found out by writing, and heard of once."""

    async def test():
        async with pair() as (ear, client):
            ear.transport.pause_reading()
            reset(client)
            for _ in range(50):
                ear.transport.write(b"x" * 1000)
                await asyncio.sleep(0.01)
                if ear.ended.done():
                    break
            assert await asyncio.wait_for(ear.ended, 3) is not None

    run(test())


def test_who_does_not_read_is_not_read():
    """While reading is paused nothing comes in and nothing spins; what was sent meanwhile, and the end, come after it."""

    async def test():
        async with pair() as (ear, client):
            ear.transport.pause_reading()
            client.sendall(b"late")
            client.shutdown(socket.SHUT_RDWR)
            began = os.times()
            await asyncio.sleep(0.3)
            spent = os.times()
            assert ear.bytes == b""
            assert spent.user + spent.system - began.user - began.system < 0.2
            ear.transport.resume_reading()
            await asyncio.wait_for(ear.ended, 3)
            assert ear.bytes == b"late"

    run(test())


def test_a_protocol_that_fails_fails_alone():
    """An error in one protocol ends its connection, is told to the loop, and leaves the others."""

    async def test():
        told = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        async with pair() as (bad, first), pair() as (good, second):

            def fail(_):
                raise RuntimeError("no")

            bad.on_data = fail
            first.sendall(b"a")
            second.sendall(b"b")
            await asyncio.wait_for(bad.ended, 3)
            assert [type(e) for e in told] == [RuntimeError]
            await asyncio.sleep(0.02)
            assert good.bytes == b"b"
            assert good.heard == ["made"]

    run(test())


def test_hundreds_come_at_once_and_leave_nothing():
    """Three hundred clients that come, write and go: each is heard, and no descriptor is left."""
    if not os.path.isdir("/proc/self/fd"):  # noqa: PTH112
        pytest.skip("descriptors cannot be counted here")

    async def test():
        loop = asyncio.get_running_loop()
        ears = []

        def made():
            ears.append(Ear())
            return ears[-1]

        port, close = await listen(made)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        clients = []
        for _ in range(300):
            client = socket.socket()
            client.settimeout(0)
            await loop.sock_connect(client, ("127.0.0.1", port))
            client.send(b"hello")
            clients.append(client)
        async with asyncio.timeout(5):
            while len(ears) < 300 or any(e.bytes != b"hello" for e in ears):  # noqa: ASYNC110  (bounded above)
                await asyncio.sleep(0.01)
        for client in clients:
            client.close()
        await asyncio.wait_for(asyncio.gather(*(e.ended for e in ears)), 5)
        await asyncio.sleep(0.02)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        close()

    run(test())


def test_the_loop_has_its_turn_while_sockets_are_served():
    """What a protocol asks of the loop, what another thread does, and timers come in time: with nothing else going on, and amid traffic."""

    async def test():
        loop = asyncio.get_running_loop()
        async with pair() as (ear, client):
            soon, later, other, task = (asyncio.Event() for _ in range(4))

            async def worked():
                task.set()

            def asks(_):
                ear.on_data = None
                loop.call_soon(soon.set)
                loop.call_later(0.01, later.set)
                tasks.append(loop.create_task(worked()))
                threading.Timer(0.02, loop.call_soon_threadsafe, (other.set,)).start()

            tasks = []
            ear.on_data = asks
            client.send(b"a")
            await asyncio.wait_for(asyncio.gather(*(e.wait() for e in (soon, later, other, task))), 3)

            # The client sends without end, and gets back what it sends: a wait that never returned would starve the timer.
            ear.on_data = ear.transport.write
            stop = threading.Event()
            client.settimeout(5)

            def traffic():
                while not stop.is_set():
                    client.send(b"x" * 100)
                    client.recv(1000)

            thread = threading.Thread(target=traffic)
            thread.start()
            began = loop.time()
            for _ in range(5):
                await asyncio.sleep(0.02)
            took = loop.time() - began
            stop.set()
            await asyncio.to_thread(thread.join)
            assert 0.099 <= took < 3

    run(test())
