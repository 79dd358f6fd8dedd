"""What strangers try: other upstreams, injected headers, slow bodies, numbers without measure; and engines whose framing could be read in two ways."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from mock_engine import MockEngine
from scripted_engine import ScriptedEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from test_gateway import ask, chat, pools, running
from test_gateway_wire import KEY, Running, run

from vram.cli.serve import command
from vram.errors import UsageError
from vram.gateway.addresses import address_of
from vram.gateway.keys import KeyRing, KeyTerms, digest
from vram.gateway.limits import WireLimits
from vram.gateway.server import Options


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255"),  # noqa: S104  (refused)
        *("fe80::1", "fe80::1%eth0", "fd00:ec2::254", "::", "ff02::1"),
        # The same behind names that IPv6 has for IPv4: mapped, compatible, 6to4, NAT64.
        *("::ffff:169.254.169.254", "::169.254.169.254", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe"),
    ],
)
def test_metadata_and_link_local_addresses_are_refused(address):
    """By their number or by a name that resolves to them, as the only address or as one of several."""
    for found in ([address], ["10.0.0.1", address]):
        with pytest.raises(UsageError, match="where no engine is"):
            address_of("http://engine.internal:8000", lambda *_, found=found: found)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::1", "192.168.1.5", "2001:db8::5", "64:ff9b::a00:1"])
def test_other_addresses_are_taken_and_pinned(address):
    """What a name resolved to is where its requests go, whatever it resolves to later."""
    assert address_of("http://engine.internal:8000/v1", lambda *_: [address]).host == address


def test_no_client_names_an_upstream(tmp_path):
    """Neither by an absolute target, nor by Host, nor by headers that proxies know: the engine gets its own name and none of a client's headers."""

    async def test():
        async with MockEngine() as engine, MockEngine() as other, running(tmp_path, pools(engine)) as gateway:
            for path in (f"{other.url}/v1/chat/completions", "//x/v1/chat/completions", "/v1/chat/completions/../../x", "/v1/chat/completions?url=http://x"):
                assert (await ask(gateway, chat(), path=path))[0] in {400, 404}
            names = f"X-Forwarded-Host: {other.url}\r\nForwarded: host=x\r\nX-Upstream: {other.url}\r\nCookie: a=b\r\n"
            assert (await ask(gateway, chat(), headers=names))[0] == 200
            assert not other.bodies
            (head,) = [h for h in engine.heads if h.startswith(b"POST /v1/chat")]
            assert f"Host: 127.0.0.1:{engine.port}\r\n".encode() in head
            assert not any(word in head.lower() for word in (b"forwarded", b"upstream", b"cookie"))

    run(test())


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"n": 10**6}, "too_many_sequences"),
        ({"n": -1}, "bad_n"),
        ({"max_tokens": -5}, "bad_max_tokens"),
        ({"max_tokens": 10**18}, "bad_max_tokens"),
        ({"model": "m\r\nSet-Cookie: a=b\r\n\r\nHTTP/1.1 200 OK"}, "model_not_found"),
        ({"model": "m\x00\x1b[2J"}, "model_not_found"),
        ({"model": "m" * 10**6}, "model_not_found"),
    ],
)
def test_values_without_measure_are_told(tmp_path, more, code):
    """Refused with a code; a name with line ends stays inside the JSON of one answer, and is told short."""

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            status, headers, body = await ask(gateway, {**chat(), **more}, headers="x-request-id: a\r\n")
            assert status in {400, 404}
            assert json.loads(body)["error"]["code"] == code
            assert len(body) < 3000
            assert "set-cookie" not in headers
            assert b"\x1b" not in body
            assert not engine.bodies

    run(test())


def test_a_body_that_drips_times_out():
    """408 after the time that a body may take, however often a byte comes."""

    async def test():
        async with MockEngine() as engine, Running(engine, limits=WireLimits(body_seconds=0.3)) as house:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(house.request()[:-20])
            for _ in range(2):
                await asyncio.sleep(0.1)
                writer.write(b" ")
                house.house.tick()
            await asyncio.sleep(0.2)
            house.house.tick()
            assert (await asyncio.wait_for(reader.read(), 3)).startswith(b"HTTP/1.1 408")
            writer.close()
            assert not engine.bodies

    run(test())


def test_keys_are_looked_up_by_their_digest():
    """No key is compared with a guess: what is kept, and what is looked up, is the SHA-256 of either, so time says nothing of a key's letters."""
    ring = KeyRing(required=True)
    ring.replace({digest(KEY.encode()): KeyTerms(name="test")})
    assert {len(kept) for kept in ring._keys} == {32}
    assert KEY.encode() not in ring._keys
    assert ring.find(f"Bearer {KEY}".encode()) is not None
    assert all(ring.find(b"Bearer " + guess) is None for guess in (KEY[:-1].encode(), KEY.encode() + b"x", digest(KEY.encode()), b""))


def test_both_doors_are_on_loopback_unless_told_otherwise():
    """Clients' and administrators' addresses are 127.0.0.1 by default, in the program and in Python."""
    given = {parameter.name: parameter.default for parameter in command.params}
    assert (given["host"], given["admin_host"]) == ("127.0.0.1", "127.0.0.1")
    assert (Options(pools="x").host, Options(pools="x").admin_host) == ("127.0.0.1", "127.0.0.1")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n 0\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\x07b\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"0_5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
        CHUNKED + b"5\r\nhello\rX0\r\n\r\n",
        CHUNKED + b"5" + b"0" * 20 + b"\r\nhello",
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 9, 13, 14, 15])
def test_an_answer_that_could_be_read_in_two_ways_is_none(answer, cut):
    """Header lines and chunks that a client could frame otherwise are broken, however they are cut into reads: no answer is made of them."""

    async def script(writer, _):
        writer.write(answer[: len(answer) - cut])
        await writer.drain()
        await asyncio.sleep(0.03 if cut else 0)
        writer.write(answer[len(answer) - cut :])
        await writer.drain()

    async def test():
        async with ScriptedEngine(script) as engine, Running(engine) as house:
            await house.talk(house.request(), seconds=1)
            assert [x.outcome for x in house.desk.left] == ["engine_broken"]
            assert not house.replicas[0].open

    run(test())


def test_every_test_that_the_behaviour_page_names_is_there():
    """docs/gateway-behaviour.md names a test for each row; none of them is gone."""
    here = Path(__file__).parent
    page = (here.parent / "docs" / "gateway-behaviour.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    there = {name for file in here.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)}
    assert len(named) > 30
    assert named <= there
    assert all((here.parent / file).exists() for file in re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)`", page))
