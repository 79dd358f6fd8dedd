"""The gateway whole: pools file in, requests through, books balanced, usage written down."""

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from gateway_loops import run_on_loop

import vram
from vram.gateway.limits import WireLimits
from vram.gateway.options import Options
from vram.gateway.server import Gateway
from vram.gateway.store import Store

MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
ENGINE_METRICS = 'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{blocks}"}} 1.0\nvllm:kv_cache_usage_perc 0.0\nvllm:num_requests_running 0\n'


def pools(*engines, extra="", per_pool="", names=None):
    """A pools file with one pool for each engine."""
    text = ""
    for i, engine in enumerate(engines):
        text += f'[[pools]]\nname = "p{i}"\nmodel = "{MODEL}"\nengine = "vllm"\ngpu = "RTX 4090"\nreplicas = ["{engine.url}"]\n'
        text += f'served_as = "{(names or ["m"] * 9)[i]}"\ndollars_per_hour = 0.5\n{per_pool}\n'
    return text + extra


@asynccontextmanager
async def running(tmp_path, text, *, limits=None, keys=None, store=True, **options):
    path = tmp_path / "pools.toml"
    path.write_text(text)
    gateway = Gateway(
        Options(
            pools=path,
            port=0,
            offline=True,
            keys_required=keys,
            store=tmp_path / "gateway.db" if store else None,
            limits=limits or WireLimits(drain_seconds=0.2),
            **options,
        )
    )
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()
        for seats in gateway.assembled.seats.values():
            for seat in seats:
                assert seat.books.held_bytes == seat.books.promised_bytes == seat.books.sequences == 0
                assert not seat.books.leases


async def ask(gateway, body, *, path="/v1/chat/completions", headers=""):
    """One request on a connection of its own: status, headers, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    data = json.dumps(body).encode() if body is not None else b""
    method = "POST" if body is not None else "GET"
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    try:
        got = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body


def chat(model="m", *, words=10, **more):
    return {"model": model, "messages": [{"role": "user", "content": "word " * words}], **more}


def run(test):
    run_on_loop(test, 60)


def test_a_request_through_the_whole(tmp_path):
    """Plan, admission, forwarding, usage: with the bytes of the lease told, and a line in the store."""

    async def test():
        async with MockEngine(chunks=7) as engine, running(tmp_path, pools(engine)) as gateway:
            status, headers, body = await ask(gateway, chat(max_tokens=100))
            assert status == 200
            assert headers["x-vram-pool"] == "p0"
            # 12 KiB a token (24 layers x 2 x 2 heads x 64 x 2 bytes), blocks of 16: the plan's own bytes.
            lease = int(headers["x-vram-lease-bytes"])
            assert lease % (16 * 12_288) == 0
            assert 100 * 12_288 <= lease <= 400 * 12_288
            assert json.loads(body)["usage"]["completion_tokens"] == 7
            status, _, body = await ask(gateway, chat(stream=True, max_tokens=50))
            assert status == 200
            assert b"[DONE]" in body
            # Usage was asked for on the client's behalf, and the event that tells it is not shown to a client that did not.
            assert engine.bodies[-1]["stream_options"] == {"include_usage": True}
            assert b'"usage":{' not in body
        rows = (
            sqlite3.connect(tmp_path / "gateway.db")
            .execute(
                "SELECT key, model, pool, outcome, counted, SUM(requests), SUM(prompt_tokens), SUM(completion_tokens), MIN(kv_byte_seconds) >= 0, MIN(nano_dollars) >= 0 "
                "FROM usage GROUP BY key, model, pool, outcome, counted"
            )
            .fetchall()
        )
        assert rows == [("anonymous", "m", "p0", "ok", 1, 2, 20, 14, 1, 1)]

    run(test())


def test_more_than_fits_waits_and_comes(tmp_path):
    """Ten requests on a cache for two: two run at a time, all are answered, none is refused."""

    async def test():
        async with MockEngine(chunks=4, delay_seconds=0.02) as engine:
            most = 0
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=21))
            async with running(tmp_path, pools(engine)) as gateway:
                (seat,) = gateway.assembled.seats["p0"]
                for _ in range(100):
                    await asyncio.sleep(0.02)
                    if seat.books.capacity_bytes == 20 * 16 * 12_288:
                        break
                assert seat.books.capacity_bytes == 20 * 16 * 12_288

                async def watch():
                    nonlocal most
                    while True:
                        most = max(most, engine.running)
                        assert seat.books.held_bytes <= seat.books.capacity_bytes
                        await asyncio.sleep(0.002)

                watcher = asyncio.create_task(watch())
                answers = await asyncio.gather(*(ask(gateway, chat(max_tokens=64, stream=i % 2 == 0)) for i in range(10)))
                watcher.cancel()
                assert [status for status, _, _ in answers] == [200] * 10
                assert any("x-vram-queue-seconds" in headers for _, headers, _ in answers)
                assert 1 <= most <= 3

    run(test())


def test_what_never_fits_is_told_at_once(tmp_path):
    """A prompt beyond any pool is 400 with the numbers; a model that is not served is 404."""

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            status, _, body = await ask(gateway, chat(words=200_000))
            assert status == 400
            error = json.loads(body)["error"]
            assert error["code"] == "context_length_exceeded"
            assert "32,768" in error["message"]
            assert (await ask(gateway, chat("nothing")))[0] == 404
            assert (await ask(gateway, chat(n=1000)))[0] == 400
            assert not engine.bodies

    run(test())


def test_the_ladder_of_fallbacks(tmp_path):
    """A down pool's requests go to the next; another model answers under the route's rule; a too long answer is cut where that is allowed."""
    extra = """
[[routes]]
model = "m"
pools = ["p0"]
[routes.fallback]
models = ["big"]
[[routes]]
model = "big"
pools = ["p1"]
[[routes]]
model = "cut"
pools = ["p0"]
[routes.fallback]
least_output_tokens = 16
"""

    async def test():
        async with MockEngine() as small, MockEngine() as large:
            text = pools(small, large, extra=extra, names=["small", "large"])
            text = text.replace('name = "p0"', 'name = "p0"\nsettings = { context_tokens = 1024 }', 1)
            async with running(tmp_path, text) as gateway:
                status, headers, _ = await ask(gateway, chat(max_tokens=4000))
                assert (status, headers["x-vram-fallback"], headers["x-vram-pool"]) == (200, "other_model", "p1")
                assert large.bodies[-1]["model"] == "large"
                status, headers, _ = await ask(gateway, chat("cut", max_tokens=4000))
                assert (status, headers["x-vram-fallback"]) == (200, "shorter_output")
                assert small.bodies[-1]["max_tokens"] == int(headers["x-vram-max-tokens"]) < 1024

    run(test())


def test_a_dead_engine_is_taken_out_and_comes_back(tmp_path):
    """Its requests go elsewhere; after it answers a probe again it is asked again."""

    async def test():
        async with MockEngine(behaviour="die-before-head") as bad, MockEngine() as good:
            text = pools(bad).replace(f'["{bad.url}"]', f'["{bad.url}", "{good.url}"]')
            async with running(tmp_path, text) as gateway:
                for _ in range(6):
                    assert (await ask(gateway, chat()))[0] == 200
                bad_seat = next(s for s in gateway.assembled.seats["p0"] if s.replica.url == bad.url)
                for _ in range(100):
                    await asyncio.sleep(0.05)
                    if not bad_seat.books.usable:
                        break
                assert not bad_seat.books.usable
                status, _, body = await ask(gateway, None, path="/v1/models")
                assert status == 200
                assert json.loads(body)["data"][0]["vram"]["replicas_up"] == 1
                bad.behaviour = "honest"
                for _ in range(120):
                    await asyncio.sleep(0.05)
                    if bad_seat.books.usable:
                        break
                assert bad_seat.books.usable

    run(test())


def test_keys_limits_and_budgets(tmp_path):
    """Keys from the store: unknown ones are 401, rates are 429 with a time, models that a key has not are 404; revoked keys end."""

    async def test():
        store = Store(tmp_path / "gateway.db")
        plain = store.add_key("plain")
        slow = store.add_key("slow", requests_per_minute=2)
        narrow = store.add_key("narrow", models=["other"])
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:

            async def status(key):
                answer = await ask(gateway, chat(), headers=f"Authorization: Bearer {key}\r\n" if key else "")
                return answer[0], answer[1]

            assert (await status(""))[0] == 401
            assert (await status("vram-guess"))[0] == 401
            assert (await status(plain))[0] == 200
            assert [(await status(slow))[0] for _ in range(3)] == [200, 200, 429]
            assert 1 <= int((await status(slow))[1]["retry-after"]) <= 31
            assert (await status(narrow))[0] == 404
            store.revoke_key("plain")
            late = store.add_key("late")
            await asyncio.sleep(1.3)
            assert (await status(plain))[0] == 401
            assert (await status(late))[0] == 200
        assert {s.group[0]: s.requests for s in store.usage(("key",))}["slow"] == 2
        store.close()
        assert plain.encode() not in (tmp_path / "gateway.db").read_bytes()

    run(test())


def test_a_reload_drops_no_stream(tmp_path):
    """The file is read again while a stream runs: it goes on; a file with an error changes nothing; a new model is served."""

    async def test():
        async with MockEngine(chunks=30, delay_seconds=0.02) as engine, running(tmp_path, pools(engine)) as gateway:
            stream = asyncio.create_task(ask(gateway, chat(stream=True)))
            await asyncio.sleep(0.1)
            path = tmp_path / "pools.toml"
            path.write_text("nonsense = 1")
            assert not await gateway.reload()
            path.write_text(pools(engine, names=["renamed"]))
            assert await gateway.reload()
            assert (await ask(gateway, chat("renamed")))[0] == 200
            assert (await ask(gateway, chat()))[0] == 404
            status, _, body = await stream
            assert status == 200
            assert body.count(b"data: ") == 31

    run(test())


def test_pages(tmp_path):
    """Health, readiness and models, with what is free."""

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            assert (await ask(gateway, None, path="/health"))[0] == 200
            assert (await ask(gateway, None, path="/ready"))[0] == 200
            status, _, body = await ask(gateway, None, path="/v1/models")
            model = json.loads(body)["data"][0]
            assert (status, model["id"], model["max_model_len"]) == (200, "m", 32768)
            plan = vram.plan(MODEL, gpu="RTX 4090", engine="vllm", context_tokens=32768, offline=True)
            assert model["vram"]["kv_bytes_free"] == pytest.approx(plan.kv_pool.bytes_per_gpu, rel=1e-3)

    run(test())


def test_a_full_line_refuses_and_a_late_request_is_told(tmp_path):
    """Beyond the queue's length: 503 at once; beyond its time: 503 with a time to come back."""
    extra = "[limits]\nqueue_seconds = 0.5\nqueue_requests = 2\n"

    async def test():
        async with MockEngine(chunks=200, delay_seconds=0.05) as engine:
            text = pools(engine, extra=extra, per_pool="settings = { max_num_seqs = 1 }")
            async with running(tmp_path, text) as gateway:
                first = asyncio.create_task(ask(gateway, chat(stream=True)))
                await asyncio.sleep(0.1)
                others = [asyncio.create_task(ask(gateway, chat())) for _ in range(3)]
                answers = await asyncio.gather(*others)
                assert [status for status, _, _ in answers] == [503] * 3
                assert all("retry-after" in headers for _, headers, _ in answers)
                first.cancel()
                await asyncio.wait({first})

    run(test())


def test_a_connection_that_closes_as_it_is_used_is_no_failure(tmp_path):
    """Engines close connections that wait; a request that meets that goes out again, and its replica is as good as before."""

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            (seat,) = gateway.assembled.seats["p0"]
            for _ in range(4):
                assert (await ask(gateway, chat()))[0] == 200
                # What the engine closed meanwhile and what is told of it cross: the next request is sent into that.
                engine.closes_next = True
            assert len(engine.bodies) == 4
            assert seat.replica.health.failures == 0

    run(test())


def test_who_is_failed_by_its_replica_stands_in_front_of_the_line(tmp_path):
    """Its room is not given to those who came later: it waits for it, and is answered."""

    async def test():
        async with MockEngine(chunks=3, delay_seconds=0.05) as engine:
            text = pools(engine, per_pool="settings = { max_num_seqs = 1 }")
            async with running(tmp_path, text) as gateway:
                engine.dies_once = True
                first = asyncio.create_task(ask(gateway, chat(stream=True)))
                await asyncio.sleep(0.02)
                others = [asyncio.create_task(ask(gateway, chat(stream=True))) for _ in range(3)]
                answers = await asyncio.gather(first, *others)
                assert [a[0] for a in answers] == [200] * 4

    run(test())


def test_sequences_of_one_stream_are_counted_apart(tmp_path):
    """Three answers in one stream of 90 events have 30 tokens each: that is what the books hold for them, not 90 each."""

    async def test():
        async with MockEngine(chunks=90, delay_seconds=0.004) as engine, running(tmp_path, pools(engine)) as gateway:
            (seat,) = gateway.assembled.seats["p0"]
            made = set()
            task = asyncio.create_task(ask(gateway, chat(n=3, max_tokens=40, stream=True)))
            while not task.done():
                made |= {(lease.need.sequences, lease.produced) for lease in seat.books.leases}
                await asyncio.sleep(0.002)
            assert (await task)[0] == 200
            assert {n for n, _ in made} == {3}
            assert 10 <= max(produced for _, produced in made) <= 31

    run(test())
