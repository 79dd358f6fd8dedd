"""What the chaos run found: connections, circles of references and requests that outlived their end, or ended as another's."""

import asyncio
import gc

import pytest
from mock_engine import MockEngine
from scripted_engine import ScriptedEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from test_gateway import ask, chat, pools, running
from test_gateway_wire import Running, run

from vram.gateway.back import Back
from vram.gateway.front import Front

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def until(true):
    for _ in range(200):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError


@pytest.mark.parametrize("behaviour", ["honest", "die-before-head", "die-mid-stream", "close-delimited", "connection-close", "broken-chunk"])
def test_connections_that_ended_are_nowhere(behaviour):
    """Neither among a replica's open or idle ones, nor as circles that wait for the collector, on either side."""

    async def test():
        async with MockEngine(behaviour=behaviour) as engine, Running(engine) as house:
            gc.collect()
            gc.disable()
            try:
                for i in range(20):
                    await house.talk(house.request(stream=i % 2 == 0))
                replica = house.replicas[0]
                await until(lambda: not house.house.fronts)
                await until(lambda: all(not back.closed for back in (*replica.open, *replica.idle)))
                assert len(replica.open) <= 1
                await asyncio.sleep(0.05)
                house.desk.left.clear()
                assert sum(isinstance(o, Front) for o in gc.get_objects()) == 0
                assert sum(isinstance(o, Back) for o in gc.get_objects()) <= 1
            finally:
                gc.enable()

    run(test())


def test_dead_connections_keep_no_live_ones_out():
    """What the engine closed while it waited is not counted among those that wait."""

    async def test():
        async with MockEngine() as engine, Running(engine) as house:
            talks = [asyncio.create_task(house.talk(house.request())) for _ in range(10)]
            await asyncio.gather(*talks)
            replica = house.replicas[0]
            assert replica.idle
            for back in list(replica.idle):
                back.transport.abort()
            await until(lambda: not replica.idle and not replica.open)

    run(test())


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", STREAM + b"5\r\nhello\r\n0\r\n\r\n", STREAM[:-2] + b"X: y\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
)
@pytest.mark.parametrize("cut", [0, 1, 3, 8])
def test_what_follows_an_answer_is_nobodys(answer, cut):
    """An answer is whole where its framing ends: bytes beyond it reach no client, and their connection serves no other request."""
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnever"

    async def more(writer, _):
        # The end of the answer in one read with the surplus, however its own bytes are cut.
        writer.write(answer[: len(answer) - cut])
        await writer.drain()
        await asyncio.sleep(0.05 if cut else 0)
        writer.write(answer[len(answer) - cut :] + surplus)
        await writer.drain()

    async def test():
        async with ScriptedEngine(more) as engine, Running(engine) as house:
            for _ in range(3):
                got, _ = await house.talk(house.request())
                assert got.endswith((b"\r\n\r\nhello", b"5\r\nhello\r\n0\r\n\r\n"))
                assert got.count(b"HTTP/1.1") == 1
            assert engine.connections == 3
            assert [x.outcome for x in house.desk.left] == ["ok"] * 3
            assert not house.replicas[0].open

    run(test())


def test_who_runs_over_a_reload_is_not_stranded(tmp_path):
    """Its replica fails it after the file was read again: it waits in the new line and is answered, or told at once where its model is gone."""

    async def silent(_, __):
        await asyncio.sleep(0.3)

    async def dies(writer, number):
        await silent(writer, number)
        writer.close()

    async def test():
        for gone in (False, True):
            async with ScriptedEngine(dies) as bad, MockEngine(chunks=200, delay_seconds=0.005) as good:
                text = pools(bad, per_pool="settings = { max_num_seqs = 1 }").replace(f'["{bad.url}"]', f'["{bad.url}", "{good.url}"]')
                async with running(tmp_path, text) as gateway:
                    first = [asyncio.create_task(ask(gateway, chat(stream=True))) for _ in range(2)]
                    await until(lambda: bad.asked == 1)
                    # Its next failure takes the replica out: then it has to wait for the other one.
                    gateway.assembled.seats["p0"][0].replica.health.failures = 2
                    (tmp_path / "pools.toml").write_text(
                        text.replace('served_as = "m"', 'served_as = "other"') if gone else text + "\n[limits]\nqueue_seconds = 9\n"
                    )
                    assert await gateway.reload()
                    answers = await asyncio.gather(*first)
                    assert sorted(a[0] for a in answers) == ([200, 502] if gone else [200, 200])

    run(test())
