"""Where the gateway sends requests within a pool: those that begin alike to one replica, and what it does about replicas that fail."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
pytest.importorskip("prometheus_client", reason="the test extra is not installed")

from test_gateway import ask, chat, pools, run, running
from test_gateway_metrics import scrape, total


@asynccontextmanager
async def fleet(tmp_path, count, *, extra="", per_pool="", **options):
    """One pool of so many engines behind a gateway."""
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(MockEngine(**options)) for _ in range(count)]
        urls = ", ".join(f'"{e.url}"' for e in engines)
        text = pools(engines[0], extra=extra, per_pool=per_pool).replace(f'["{engines[0].url}"]', f"[{urls}]")
        yield await stack.enter_async_context(running(tmp_path, text)), engines


def conversation(topic, turns):
    messages = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": topic}]
    for i in range(turns):
        messages += [{"role": "assistant", "content": f"answer {i}"}, {"role": "user", "content": f"more {i}?"}]
    return {"model": "m", "messages": messages}


def where(engines, topic):
    return {i for i, e in enumerate(engines) for b in e.bodies if b["messages"][1]["content"] == topic}


def test_a_conversation_stays_at_its_replica(tmp_path):
    """Every turn of a conversation goes to one engine; twenty conversations use both; it is counted."""

    async def test():
        async with fleet(tmp_path, 2) as (gateway, engines):
            for turn in range(3):
                for topic in range(20):
                    assert (await ask(gateway, conversation(f"topic {topic}", turn)))[0] == 200
            homes = [where(engines, f"topic {topic}") for topic in range(20)]
            assert all(len(found) == 1 for found in homes)
            assert {min(found) for found in homes} == {0, 1}
            found = await scrape(gateway)
            assert total(found, "vram_affinity_requests_total", pool="p0", placed="together") == 60
            assert total(found, "vram_affinity_requests_total", pool="p0", placed="apart") == 0

    run(test())


def test_sessions_meet_and_affinity_can_be_left_out(tmp_path):
    """Different prompts of one session go to one engine; with affinity off they go where most room is."""

    async def test():
        async with fleet(tmp_path, 3) as (gateway, engines):
            for i in range(9):
                assert (await ask(gateway, chat(words=10 + i), headers="x-session-id: alice\r\n"))[0] == 200
            assert sorted(len(e.bodies) for e in engines) == [0, 0, 9]
        async with fleet(tmp_path, 2, extra='[limits]\naffinity = "off"\n', chunks=20, delay_seconds=0.02) as (gateway, engines):
            await asyncio.gather(*(ask(gateway, chat(stream=True), headers="x-session-id: alice\r\n") for _ in range(4)))
            assert [len(e.bodies) for e in engines] == [2, 2]
            assert total(await scrape(gateway), "vram_affinity_requests_total") == 0

    run(test())
