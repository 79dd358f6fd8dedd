"""Requests whose head came before on their connection: the same answers, the same strictness, and keys that are ended end there, too."""

import asyncio
import json

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

import test_gateway_wire
from test_gateway_wire import KEY, Running

from vram.gateway.keys import KeyTerms, digest
from vram.gateway.limits import WireLimits


def request(text="hi", *, length=None, headers="", body=None):
    data = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode() if body is None else body
    size = str(len(data)) if length is None else length
    return f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{headers}Content-Length: {size}\r\n\r\n".encode() + data


OPENED = []


def run(test):
    async def all_closed():
        try:
            await test
        finally:
            while OPENED:
                OPENED.pop().close()
            await asyncio.sleep(0.01)

    test_gateway_wire.run(all_closed())


class Talk:
    """A client on one connection."""

    async def open(self, house):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", house.port)
        OPENED.append(self.writer)
        return self

    async def status(self, *pieces):
        """Send, and read one answer whole; 0 where the connection ended instead."""
        for piece in pieces:
            self.writer.write(piece)
            await asyncio.sleep(0.005 if len(pieces) > 1 else 0)
        try:
            head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 3)
        except asyncio.IncompleteReadError:
            return 0
        await self.reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        return int(head[9:12])

    async def ended(self):
        return await asyncio.wait_for(self.reader.read(), 3) == b""


def test_bodies_of_any_length_and_in_any_pieces():
    """Heads that differ in the digits of their length alone, whole, cut anywhere, and with bodies larger than one read."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            client = await Talk().open(house)
            texts = ["a", "b" * 9, "c" * 99, "d" * 200_000, "e", "f" * 70_000, "g" * 1000]
            for text in texts:
                assert await client.status(request(text)) == 200
            for cut in (1, 40, 80, 120, len(request("x")) - 60, len(request("x")) - 52, len(request("x")) - 1):
                data = request("x")
                assert await client.status(data[:cut], data[cut:]) == 200
            assert [b["messages"][0]["content"] for b in engine.bodies] == texts + ["x"] * 7
            assert len(house.replicas[0].open) == 1

    run(test())


@pytest.mark.parametrize("length", ["-1", "+60", "0x10", "6 0", "60, 60", "", "99999999999999999999999"])
def test_a_length_that_breaks_http_breaks_it_the_second_time_as_well(length):
    """After a sound request, one with a broken length is refused, and nothing of it reaches the engine."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            client = await Talk().open(house)
            assert await client.status(request()) == 200
            assert await client.status(request(length=length)) in {400, 413}
            assert await client.ended()
            assert len(engine.bodies) == 1

    run(test())


def test_nothing_hides_behind_a_head_that_came_before():
    """A second request behind a body, whole or cut, is not executed: the first is answered, and the connection ends."""

    async def test():
        for behind in (request("hidden"), b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\0", request("hidden")[:30]):
            for cut in (None, 150, 200):
                async with MockEngine() as engine, Running(engine) as house:
                    client = await Talk().open(house)
                    assert await client.status(request()) == 200
                    data = request("seen") + behind
                    assert await client.status(*([data] if cut is None else [data[:cut], data[cut:]])) == 200
                    assert await client.ended()
                    assert [b["messages"][0]["content"] for b in engine.bodies] == ["hi", "seen"]

    run(test())


@pytest.mark.parametrize("headers", ["Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n", "Host: y\r\n", "X-A : 1\r\n", "X-A: 1\r\n 2\r\n"])
def test_a_head_that_is_longer_is_judged_anew(headers):
    """What another server could read otherwise is refused behind a sound request as it is in front of it."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            client = await Talk().open(house)
            assert await client.status(request()) == 200
            assert await client.status(request(headers=headers)) == 400
            assert await client.ended()
            assert len(engine.bodies) == 1

    run(test())


def test_a_key_that_ends_ends_for_connections_that_showed_it():
    """A key that is revoked, or renamed, is so for the next request of a connection that used it."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            client = await Talk().open(house)
            for name in ("test", "test"):
                assert await client.status(request()) == 200
                assert house.desk.left[-1].key.name == name
            house.ring.replace({digest(KEY.encode()): KeyTerms(name="renamed")})
            assert await client.status(request()) == 200
            assert house.desk.left[-1].key.name == "renamed"
            house.ring.replace({})
            assert await client.status(request()) == 401

    run(test())


def test_limits_hold_for_a_head_that_came_before():
    """A body past the limit is 413 and the end; one that does not come in time is 408."""

    async def test():
        async with MockEngine() as engine, Running(engine, limits=WireLimits(body_bytes=2000, body_seconds=0.2)) as house:
            client = await Talk().open(house)
            assert await client.status(request()) == 200
            assert await client.status(request("x" * 3000)) == 413
            slow = await Talk().open(house)
            assert await slow.status(request()) == 200
            slow.writer.write(request("y" * 500)[:-400])
            await asyncio.sleep(0.3)
            house.house.tick()
            assert await slow.status() == 408
            assert await slow.ended()
            assert len(engine.bodies) == 2

    run(test())


def test_headers_of_a_client_that_sends_the_same_again_are_heeded_again():
    """Its request id, its session and its haste stay its own with each request."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            client = await Talk().open(house)
            mine = "X-Request-Id: mine-1\r\nX-Session-Id: s\r\nX-Vram-Deadline-Seconds: 7\r\nConnection: keep-alive\r\n"
            for text in ("a", "b" * 20):
                assert await client.status(request(text, headers=mine)) == 200
                x = house.desk.left[-1]
                assert (x.request_id, x.session, x.deadline - x.arrived) == (b"mine-1", b"s", pytest.approx(7))
            assert await client.status(request(headers="Connection: close\r\n")) == 200
            assert await client.ended()
            assert len(engine.bodies) == 3

    run(test())
