"""What `/metrics` says is well-formed by Prometheus' own parser, adds up, and names no key."""

import asyncio
import json

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
parser = pytest.importorskip("prometheus_client.parser", reason="the test extra is not installed")

from test_gateway import ENGINE_METRICS, MODEL, ask, chat, pools, run, running  # noqa: E402

from vram.cli.render.top import frame  # noqa: E402
from vram.gateway.admin_pages import pools as pools_page  # noqa: E402
from vram.gateway.admin_pages import workers as workers_page  # noqa: E402
from vram.gateway.store import Store  # noqa: E402
from vram.memory.curve import KvCurve, Term  # noqa: E402

HOSTILE = 'm"\\x\nvram_requests_total{model=\\"z\\"} 7 # {}é' + "\u2028"


def families(text):
    return {f.name: f for f in parser.text_string_to_metric_families(text.decode())}


def total(found, name, **labels):
    return sum(s.value for f in found.values() for s in f.samples if s.name == name and labels.items() <= s.labels.items())


async def scrape(gateway, headers=""):
    status, got, body = await ask(gateway, None, path="/metrics", headers=headers)
    assert status == 200
    assert got["content-type"].startswith("text/plain; version=0.0.4")
    return families(body)


def test_counts_are_what_happened(tmp_path):
    """Requests, refusals, tokens, times and failures: Prometheus' parser reads what the clients saw and the store holds."""

    async def test():
        async with MockEngine(chunks=6, delay_seconds=0.01) as engine, running(tmp_path, pools(engine)) as gateway:
            for i in range(5):
                assert (await ask(gateway, chat(stream=i % 2 == 0)))[0] == 200
            assert (await ask(gateway, chat("nobody")))[0] == 404
            assert (await ask(gateway, chat(words=200_000)))[0] == 400
            engine.behaviour = "die-mid-stream"
            await ask(gateway, chat(stream=True))
            engine.behaviour = "honest"
            found = await scrape(gateway)
            assert total(found, "vram_requests_total", model="m", pool="p0", outcome="ok") == 5
            assert total(found, "vram_requests_total", outcome="engine_lost") == 1
            assert total(found, "vram_requests_total", outcome="refused", pool="") == 1
            assert total(found, "vram_refusals_total", code="model_not_found", status="404") == 1
            assert total(found, "vram_refusals_total", code="context_length_exceeded") == 1
            assert total(found, "vram_upstream_failures_total", replica=engine.url) == 1
            assert total(found, "vram_request_seconds_count") == 5
            assert total(found, "vram_time_to_first_token_seconds_count") == total(found, "vram_time_per_output_token_seconds_count") == 3
            # Six events 10 ms apart: the first at 10 ms or later, each token no faster than that.
            assert 0.03 <= total(found, "vram_time_to_first_token_seconds_sum") < 3
            assert total(found, "vram_time_per_output_token_seconds_bucket", le="0.0075") == 0
            assert total(found, "vram_request_seconds_bucket", le="+Inf") == 5
            assert total(found, "vram_leases") == total(found, "vram_kv_held_bytes") == 0
            assert total(found, "vram_replica_state", state="up") == 1
            assert total(found, "vram_rent_dollars_total") >= total(found, "vram_idle_dollars_total") > 0
            assert all(s.value >= 0 for f in found.values() for s in f.samples)
            assert {f.type for f in found.values()} <= {"counter", "gauge", "histogram"}
        store = Store(tmp_path / "gateway.db")
        used = store.usage(())[0]
        store.close()
        assert total(found, "vram_output_tokens_total") == used.completion_tokens
        assert total(found, "vram_prompt_tokens_total") == used.prompt_tokens
        assert total(found, "vram_paid_dollars_total") == pytest.approx(used.nano_dollars / 1e9)

    run(test())


def test_histograms_never_fall_and_end_at_their_count(tmp_path):
    """Buckets of one series grow with their bound; the last is the count (the rule of the text form)."""

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            await asyncio.gather(*(ask(gateway, chat(stream=True)) for _ in range(20)))
            found = await scrape(gateway)
            for family in (f for f in found.values() if f.type == "histogram"):
                buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
                assert buckets == sorted(buckets)
                assert [v for _, v in buckets] == sorted(v for _, v in buckets)
                assert buckets[-1] == (float("inf"), next(s.value for s in family.samples if s.name.endswith("_count")))

    run(test())


def test_hostile_names_stay_names(tmp_path):
    """A model whose public name holds quotes, backslashes, newlines and a whole sample of its own is one label value, byte for byte."""

    async def test():
        async with MockEngine() as engine:
            text = pools(engine) + f'[[routes]]\nmodel = {json.dumps(HOSTILE)}\npools = ["p0"]\n'
            async with running(tmp_path, text) as gateway:
                assert (await ask(gateway, chat(HOSTILE)))[0] == 200
                found = await scrape(gateway)
                (sample,) = [s for s in found["vram_requests"].samples if s.labels["model"] != "m"]
                assert sample.labels["model"] == HOSTILE
                assert sample.value == 1

    run(test())


def test_a_running_stream_stands_in_the_gauges(tmp_path):
    """While a stream runs and another request waits: one lease, its bytes held, one in line; vLLM's names say the same of a llama.cpp replica."""

    async def test():
        async with MockEngine(chunks=100, delay_seconds=0.02) as engine:
            text = f'[[pools]]\nname = "l"\nmodel = "{MODEL}"\nengine = "llama.cpp"\ngpu = "RTX 4090"\nreplicas = ["{engine.url}"]\nserved_as = "m"\n'
            text += "settings = { context_tokens = 4096 }\n"
            engine.pages["/props"] = (200, '{"total_slots": 1, "default_generation_settings": {"n_ctx": 4096}}')
            async with running(tmp_path, text) as gateway:
                (seat,) = gateway.assembled.seats["l"]
                for _ in range(100):
                    await asyncio.sleep(0.02)
                    if seat.books.max_sequences == 1:
                        break
                first = asyncio.create_task(ask(gateway, chat(stream=True)))
                await asyncio.sleep(0.1)
                second = asyncio.create_task(ask(gateway, chat(stream=True)))
                await asyncio.sleep(0.1)
                found = await scrape(gateway)
                assert total(found, "vram_leases", pool="l") == total(found, "vllm:num_requests_running", model_name="m", replica=engine.url) == 1
                assert total(found, "vram_queue_requests", model="m") == total(found, "vllm:num_requests_waiting", model_name="m") == 1
                assert total(found, "vram_queue_oldest_seconds") > 0.05
                assert 0 < total(found, "vram_kv_held_bytes") <= total(found, "vram_kv_promised_bytes") <= total(found, "vram_kv_capacity_bytes")
                usage = total(found, "vllm:kv_cache_usage_perc", pool="l")
                assert usage == pytest.approx(total(found, "vram_kv_held_bytes") / total(found, "vram_kv_capacity_bytes"))
                (info,) = found["vllm:cache_config_info"].samples
                capacity = int(info.labels["block_size"]) * int(info.labels["num_gpu_blocks"])
                assert capacity == pytest.approx(seat.books.curve.most_tokens(seat.books.capacity_bytes), rel=0.01)
                for task in (first, second):
                    task.cancel()
                await asyncio.wait({first, second})

    run(test())


def test_vllm_blocks_pass_through(tmp_path):
    """A vLLM replica's own blocks come out as it stated them, less the null block that no sequence gets."""

    async def test():
        async with MockEngine() as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=101))
            async with running(tmp_path, pools(engine)) as gateway:
                await asyncio.sleep(0.3)
                (info,) = (await scrape(gateway))["vllm:cache_config_info"].samples
                assert (info.labels["block_size"], info.labels["num_gpu_blocks"]) == ("16", "100")

    run(test())


def test_what_nobody_knows_is_not_made_up(tmp_path):
    """An engine of unknown model and size: its leases are told, in tokens; no capacity, no share of it, no blocks, no longest sequence."""

    async def test():
        async with MockEngine(chunks=100, delay_seconds=0.02) as engine:
            text = f'[[pools]]\nname = "o"\nmodel = "nobody/knows-this"\nengine = "generic"\ngpu = "RTX 4090"\nreplicas = ["{engine.url}"]\nserved_as = "m"\n'
            async with running(tmp_path, text) as gateway:
                stream = asyncio.create_task(ask(gateway, chat(stream=True)))
                await asyncio.sleep(0.2)
                found = await scrape(gateway)
                assert total(found, "vram_kv_held_tokens", pool="o") > 0
                assert total(found, "vllm:num_requests_running") == 1
                assert not {
                    "vram_kv_capacity_tokens",
                    "vram_kv_capacity_bytes",
                    "vram_kv_held_bytes",
                    "vllm:kv_cache_usage_perc",
                    "vllm:cache_config_info",
                } & set(found)
                (model,) = json.loads((await ask(gateway, None, path="/v1/models"))[2])["data"]
                assert model["max_model_len"] is model["vram"]["kv_bytes_capacity"] is model["vram"]["kv_bytes_free"] is None
                document = pools_page(gateway)
                assert document["pools"][0]["replicas"][0]["kv"]["capacity"] is None
                leases = {"total": 0, "leases": []}
                text = frame({"pools": document, "queue": {"waiting": 0, "lines": []}, "leases": leases, "workers": workers_page(gateway)}, "x", "now")
                assert "capacity not known" in text
                stream.cancel()
                await asyncio.wait({stream})

    run(test())


def test_slots_of_one_size_are_counted_as_tokens_of_all(tmp_path):
    """llama.cpp's slots of 1,024 tokens each, four of them: 4,096 tokens of blocks, whatever one sequence may be."""

    async def test():
        async with MockEngine() as engine:
            text = pools(engine).replace('"vllm"', '"llama.cpp"')
            async with running(tmp_path, text) as gateway:
                (seat,) = gateway.assembled.seats["p0"]
                seat.books.curve = KvCurve(terms=(Term(1000, 1, 0, 1),))
                seat.books.capacity_bytes, seat.books.max_sequences, seat.books.context_tokens = 4000, 4, 1024
                (info,) = (await scrape(gateway))["vllm:cache_config_info"].samples
                assert int(info.labels["block_size"]) * int(info.labels["num_gpu_blocks"]) == 4096

    run(test())


def test_pages_of_models_are_for_those_who_may_ask_for_them(tmp_path):
    """No key, no metrics; a key with a list of models gets none either, and sees only its models; key names are no labels."""

    async def test():
        store = Store(tmp_path / "gateway.db")
        full, narrow = store.add_key("full-key-name"), store.add_key("narrow", models=["other"])
        store.close()
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            assert (await ask(gateway, None, path="/metrics"))[0] == 401
            assert (await ask(gateway, None, path="/metrics", headers=f"Authorization: Bearer {narrow}\r\n"))[0] == 404
            assert json.loads((await ask(gateway, None, path="/v1/models", headers=f"Authorization: Bearer {narrow}\r\n"))[2])["data"] == []
            bearer = f"Authorization: Bearer {full}\r\n"
            assert (await ask(gateway, chat(), headers=bearer))[0] == 200
            found = await scrape(gateway, headers=bearer)
            assert not any("full-key-name" in v for f in found.values() for s in f.samples for v in s.labels.values())

    run(test())
