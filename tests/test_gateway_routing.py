"""Where the gateway sends requests within a pool: those that begin alike to one replica, and what it does about replicas that fail."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
pytest.importorskip("prometheus_client", reason="the test extra is not installed")

from test_gateway import ask, chat, pools, run, running
from test_gateway_admin import TOKEN, admin
from test_gateway_metrics import scrape, total


@asynccontextmanager
async def fleet(tmp_path, count, *, extra="", per_pool="", **options):
    """One pool of so many engines behind a gateway."""
    gateways = {name: options.pop(name) for name in ("admin_port", "admin_token") if name in options}
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(MockEngine(**options)) for _ in range(count)]
        urls = ", ".join(f'"{e.url}"' for e in engines)
        text = pools(engines[0], extra=extra, per_pool=per_pool).replace(f'["{engines[0].url}"]', f"[{urls}]")
        yield await stack.enter_async_context(running(tmp_path, text, **gateways)), engines


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


# --- requests that kill engines


def test_a_poison_request_kills_two_engines_and_no_more(tmp_path):
    """Those who were with it are answered elsewhere; it is refused with a code and a time, also when it comes again, until it is cleared."""

    async def test():
        async with fleet(tmp_path, 4, delay_seconds=0.3, poison="poison", down_seconds=0.3, admin_port=0, admin_token=TOKEN) as (gateway, engines):
            innocents = [asyncio.create_task(ask(gateway, chat(words=3 + i))) for i in range(12)]
            await asyncio.sleep(0.1)
            poison = {"model": "m", "messages": [{"role": "user", "content": "poison"}]}
            status, headers, body = await ask(gateway, poison)
            assert (status, json.loads(body)["error"]["code"]) == (422, "quarantined")
            assert 590 <= int(headers["retry-after"]) <= 600
            assert [status for status, _, _ in await asyncio.gather(*innocents)] == [200] * 12
            assert sum(e.deaths for e in engines) == 2
            for _ in range(3):
                assert (await ask(gateway, poison))[0] == 422
            assert (await ask(gateway, {**poison, "messages": [{"role": "user", "content": "antidote"}]}))[0] == 200
            assert sum(e.deaths for e in engines) == 2
            found = await scrape(gateway)
            assert total(found, "vram_quarantine_shapes", state="quarantined") == 1
            assert total(found, "vram_quarantine_shapes", state="suspected") == 0
            assert total(found, "vram_refusals_total", code="quarantined", status="422") == 4
            page = (await admin(gateway, "/v1/quarantine")).body
            assert [(s["state"], s["deaths"]) for s in page["shapes"]] == [("quarantined", 2)]
            assert "poison" not in json.dumps(page)
            assert (await admin(gateway, "/v1/quarantine/clear", method="POST")).body == {"cleared": 1}
            assert (await admin(gateway, "/v1/quarantine")).body["shapes"] == []

    run(test())


def test_who_kills_mid_stream_is_found_out_too(tmp_path):
    """A stream that its engine dies of is told so; the second time it is alone and is quarantined; the quarantine's length is the file's."""

    async def test():
        async with fleet(tmp_path, 2, extra="[limits]\nquarantine_seconds = 30\n", chunks=5, delay_seconds=0.01) as (gateway, engines):
            assert [(await ask(gateway, chat(words=i)))[0] for i in range(12)] == [200] * 12
            for engine in engines:
                engine.behaviour = "die-mid-stream"
            codes = []
            for _ in range(4):
                status, headers, body = await ask(gateway, chat(stream=True))
                codes.append(status if status != 200 else json.loads(body.split(b"data: ")[-1].split(b"\n")[0])["error"]["code"])
                await asyncio.sleep(1.1)
                for engine in engines:
                    engine.behaviour = "honest"
                assert [(await ask(gateway, chat(words=i)))[0] for i in range(12)] == [200] * 12
                for engine in engines:
                    engine.behaviour = "die-mid-stream"
            assert codes == ["engine_lost", "engine_lost", 422, 422]
            assert int(headers["retry-after"]) <= 30

    run(test())


def test_an_engine_that_is_broken_for_all_blames_nobody(tmp_path):
    """A lone engine that drops every request: 502 as ever, no quarantine, whatever the request."""

    async def test():
        async with fleet(tmp_path, 1, behaviour="die-before-head") as (gateway, _):
            for i in range(4):
                status, _, body = await ask(gateway, chat(words=i))
                assert (status, json.loads(body)["error"]["code"]) in {(502, "engine_unreachable"), (503, "no_replica")}
            assert gateway.assembled.desk.suspects.quarantine.begun == 0

    run(test())


def test_no_retry_without_budget(tmp_path):
    """While there is budget a failure is tried again; when it is spent an engine's 503 is its client's, and a lost request is told so, once."""

    async def test():
        async with fleet(tmp_path, 2, extra="[limits]\nretry_share = 0\n") as (gateway, engines):
            budget = gateway.assembled.seats["p0"][0].bench.retries
            while not all(e.probes for e in engines):  # noqa: ASYNC110  (a few looks)
                await asyncio.sleep(0.05)

            async def failing(behaviour, words):
                for engine in engines:
                    engine.behaviour = behaviour
                before = sum(len(e.bodies) for e in engines)
                status, _, body = await ask(gateway, chat(words=words))
                for engine in engines:
                    engine.behaviour = "honest"
                for i in range(6):
                    assert (await ask(gateway, chat(words=i)))[0] == 200
                return status, sum(len(e.bodies) for e in engines) - before - 6, json.loads(body)

            status, tries, _ = await failing("busy-503", 10)
            assert (status, tries) == (503, 3)
            left = budget.left()
            while budget.take():
                left -= 1
            assert left == 0
            status, tries, body = await failing("busy-503", 11)
            assert (status, tries, body) == (503, 1, {"error": {"message": "no"}})
            status, tries, body = await failing("die-before-head", 12)
            # A connection that had waited is dialled anew: that is no retry.
            assert tries <= 2
            assert (status, body["error"]["code"]) == (502, "engine_unreachable")
            found = await scrape(gateway)
            assert total(found, "vram_retries_total", pool="p0") == 2
            assert total(found, "vram_retries_denied_total", pool="p0") >= 1
            assert total(found, "vram_retry_budget", pool="p0") == 0

    run(test())


def test_a_trace_goes_on_to_the_engine(tmp_path):
    """A `traceparent` that is one reaches the engine as it came; anything else in that header does not."""
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async def test():
        async with fleet(tmp_path, 1) as (gateway, (engine,)):
            for given in (good, good.upper(), good + "-x", "00-" + "0" * 32 + good[35:], "ff" + good[2:], ""):
                engine.heads.clear()
                assert (await ask(gateway, chat(), headers=f"traceparent: {given}\r\n"))[0] == 200
                (head,) = [h for h in engine.heads if h.startswith(b"POST /v1/chat")]
                lines = [line for line in head.decode().split("\r\n") if line.lower().startswith("traceparent")]
                assert lines == ([f"traceparent: {good}"] if given == good else [])

    run(test())


def test_a_replica_that_comes_back_is_ramped_up(tmp_path):
    """Right after its return a crowd comes to it by and by, and nobody is refused."""

    async def test():
        async with fleet(tmp_path, 1, extra="[limits]\nslow_start_seconds = 5\n", chunks=4, delay_seconds=0.1) as (gateway, (engine,)):
            (seat,) = gateway.assembled.seats["p0"]
            seat.replica.health.bad(gateway.house.now(), "for this test", probe=True)
            seat.books.usable = False
            while not seat.books.usable:  # noqa: ASYNC110  (until its probe)
                await asyncio.sleep(0.05)
            asked = [asyncio.create_task(ask(gateway, chat(words=i, stream=True))) for i in range(20)]
            await asyncio.sleep(0.15)
            assert engine.running < 10
            assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 20

    run(test())
