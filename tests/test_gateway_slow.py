"""Clients that read slowly or not at all, engines that break off inside of things, and connections that outlive their use."""

import asyncio
import socket
import struct
import sys

import pytest
from mock_engine import MockEngine
from scripted_engine import ScriptedEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from test_gateway import ask, chat, pools, running
from test_gateway_wire import KEY, Running, run

from vram.gateway.back import Back
from vram.gateway.house import House
from vram.gateway.keys import KeyRing
from vram.gateway.limits import WireLimits
from vram.gateway.replica import Replica

BIG = 8 * 2**20
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'12\r\ndata: {"choices":[\r\n'


async def until(true):
    for _ in range(200):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError


async def big(writer, number):
    """A first answer of 8 MB, and small ones."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG) if number == 1 else HELLO)
    await writer.drain()


async def reading_nothing(house, data):
    """A client that sends and does not read; its socket takes little, so that the gateway's buffer fills."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=1024)
    writer.transport.pause_reading()
    writer.write(data)
    await until(lambda: any(f.write_paused for f in house.house.fronts))
    return reader, writer


def end_what_runs(house):
    """As if the last byte of the engine's answer was in the gateway's buffer already."""
    (exchange,) = house.house.exchanges
    back = exchange.back
    back.exchange = None
    exchange.ended(back)


def test_a_slow_readers_engine_connection_serves_the_next_client():
    """Its answer ended while it was not read: the connection to the engine is read again for whoever has it next."""

    async def test():
        async with ScriptedEngine(big) as engine, Running(engine) as house:
            reader, writer = await reading_nothing(house, house.request())
            writer.transport.resume_reading()
            got = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
            assert b" 200 " in got
            assert len(await asyncio.wait_for(reader.readexactly(BIG), 10)) == BIG
            await until(lambda: house.replicas[0].idle)
            assert (await house.talk(house.request()))[0].endswith(b"hello")
            assert engine.connections == 1
            writer.close()

    run(test())


def test_an_answer_that_ends_while_the_client_is_full():
    """The same where the last bytes themselves fill the client's buffer, and nothing makes it be read again."""

    async def test():
        async with ScriptedEngine(big) as engine, Running(engine) as house:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(house.request())
            await until(lambda: house.house.exchanges)
            (exchange,) = house.house.exchanges
            await until(lambda: exchange.back is not None)
            back = exchange.back
            back.transport.pause_reading()
            exchange.front.write_paused = True
            back._left = 0
            back._done(exchange)
            assert back.transport.is_reading()
            assert back in back.replica.idle
            writer.close()
            del reader

    run(test())


def test_who_asks_on_without_reading_is_not_served_on():
    """A request that comes while the last answer is not taken is none: the connection ends, and no answers heap up."""

    async def test():
        async with ScriptedEngine(big) as engine, Running(engine) as house:
            _, writer = await reading_nothing(house, house.request())
            (front,) = house.house.fronts
            end_what_runs(house)
            for _ in range(20):
                writer.write(house.request())
                await asyncio.sleep(0.01)
            assert engine.asked == 1
            assert front.transport.get_write_buffer_size() < 2**20
            writer.close()

    run(test())


@pytest.mark.parametrize("phase", ["in the middle", "at the end"])
def test_who_does_not_read_is_cut_off(phase):
    """In the middle of an answer after `unread_seconds`, with its last answer after `linger_seconds`: lease, connections and bytes are free."""

    async def test():
        limits = WireLimits(unread_seconds=0.2, linger_seconds=0.2, idle_seconds=0.2)
        async with ScriptedEngine(big) as engine, Running(engine, limits=limits) as house:
            _, writer = await reading_nothing(house, house.request())
            if phase == "at the end":
                end_what_runs(house)
                (front,) = house.house.fronts
                assert front.handler is None
            for _ in range(4):
                await asyncio.sleep(0.25)
                house.house.tick()
            await asyncio.sleep(0.05)
            assert not house.house.fronts
            assert not house.house.exchanges
            assert len(house.desk.left) == 1
            writer.close()

    run(test())


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (EVENT + b"5\r\n", False),
        (EVENT + b"20\r\ndata: {", False),
        (EVENT, False),
        (b'14\r\ndata: {"choices":[\n\n\r\n', True),
        (b'14\r\ndata: {"choices":[\n\n\r\n1', False),
        (b'14\r\ndata: {"choices":[\n\n\r', False),
    ],
)
def test_an_error_event_stands_only_after_a_whole_event(sent, told):
    """An engine that dies inside a chunk or an event: what would be glued to half a chunk is no event; the connection ends without its last chunk."""

    async def dies(writer, _):
        writer.write(STREAM + sent)
        await writer.drain()
        writer.close()

    async def test():
        async with ScriptedEngine(dies) as engine, Running(engine) as house:
            got, end = await house.talk(house.request(stream=True))
            body = got.partition(b"\r\n\r\n")[2]
            assert body.startswith(sent)
            assert (b"engine_lost" in body, body.endswith(b"\r\n0\r\n\r\n")) == (told, told)
            assert end == ("open" if told else "closed")
            assert [x.outcome for x in house.desk.left] == ["engine_lost"]

    run(test())


def test_a_reset_is_no_end():
    """A body that lasts until the engine closes is whole only where it closes in order."""

    async def resets(writer, _):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0))
        writer.transport.abort()

    async def test():
        async with ScriptedEngine(resets) as engine, Running(engine) as house:
            await house.talk(house.request())
            assert [x.outcome for x in house.desk.left] == ["engine_lost"]

    run(test())


def test_what_breaks_before_the_client_saw_a_byte_goes_elsewhere():
    """A head that came with nonsense in one read was not shown to the client: another replica answers."""

    async def nonsense(writer, _):
        writer.write(STREAM + b"zz\r\n")
        await writer.drain()

    async def test():
        async with ScriptedEngine(nonsense) as bad, MockEngine() as good, Running(bad, good) as house:
            got, _ = await house.talk(house.request())
            assert got.startswith(b"HTTP/1.1 200")
            assert got.count(b"HTTP/1.1") == 1
            assert b"Hello" in got
            assert good.bodies[0]["model"] == "m"

    run(test())


def test_a_connection_that_comes_with_its_time_out_is_lost_once():
    """On a loop that was busy the connection and the end of its time come in one turn: it is one failure, not two."""

    class Late:
        """Makes the connection, and says that it was too late."""

        def __init__(self, loop):
            self.time, self.create_task, self.create_future = loop.time, loop.create_task, loop.create_future

        async def create_connection(self, factory, *_, **__):
            factory().connection_made(Transport())
            raise TimeoutError

    class Transport:
        def writelines(self, _):
            pass

    class Asker:
        over = hides_usage = False
        told = b""
        back = None
        failures = 0

        def unreachable(self):
            self.failures += 1

    async def test():
        house = House(asyncio.get_running_loop(), KeyRing(required=False))
        house.loop, house.sockets = Late(house.loop), None
        asker = Asker()
        Replica(house, url="http://127.0.0.1:1", host="127.0.0.1", port=1).dial(asker, b"", b"")
        await asyncio.sleep(0.05)
        assert asker.failures == 0
        assert isinstance(asker.back, Back)

    run(test())


def test_a_replica_that_the_file_names_no_more_is_let_go(tmp_path):
    """After a reload without it no connection to it is kept; what runs there ends in peace."""

    async def test():
        async with MockEngine(chunks=20, delay_seconds=0.02) as old, MockEngine() as new, running(tmp_path, pools(old)) as gateway:
            (seat,) = gateway.assembled.seats["p0"]
            streams = [asyncio.create_task(ask(gateway, chat(stream=True))) for _ in range(3)]
            assert (await ask(gateway, chat()))[0] == 200
            assert seat.replica.idle
            (tmp_path / "pools.toml").write_text(pools(new))
            assert await gateway.reload()
            assert not seat.replica.idle
            assert (await ask(gateway, chat()))[0] == 200
            assert len(new.bodies) == 1
            for _, _, body in await asyncio.gather(*streams):
                assert b"[DONE]" in body
            await until(lambda: not seat.replica.open)
            assert not seat.books.leases

    run(test())


def test_a_body_in_tiny_chunks_takes_its_own_size():
    """Twenty thousand chunks of two bytes are kept in few pieces, and arrive as one body."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            text = b'{"model":"m","messages":[{"role":"user","content":"' + b"ab" * 20_000
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(head + b"".join(b"2\r\n%b\r\n" % (text[i : i + 2] if i + 1 < len(text) else text[i:] + b"c") for i in range(0, len(text), 2)))
            await until(lambda: any(f._body.size > 40_000 for f in house.house.fronts))
            (front,) = house.house.fronts
            assert len(front._body.parts) < 1200
            writer.write(b'4\r\n"}]}\r\n0\r\n\r\n')
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
            assert len(engine.bodies[0]["messages"][0]["content"]) >= 40_000
            writer.close()

    run(test())
