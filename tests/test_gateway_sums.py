"""Whatever happens to requests, every account says the same: usage, metrics, log lines, the clients' own count, and the rent."""

import asyncio
import io
import json
import random

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
parser = pytest.importorskip("prometheus_client.parser", reason="the test extra is not installed")

from test_gateway import ask, chat, pools, run, running  # noqa: E402

from vram.gateway.exposition import metrics  # noqa: E402
from vram.gateway.log import request_lines  # noqa: E402
from vram.gateway.store import Store  # noqa: E402

REQUESTS = 240
BEHAVIOURS = [
    "honest",
    "honest",
    "honest",
    "die-before-head",
    "die-mid-stream",
    "reset-mid-stream",
    "lying-usage",
    "no-usage",
    "error-500",
    "close-delimited",
    "broken-chunk",
]


@pytest.mark.parametrize("seed", [1, 2])
def test_all_accounts_agree(tmp_path, seed):
    """240 requests with engines that die, lie and break HTTP, and clients that leave: each leaves one line of usage, one log line and one count;
    their sums are equal, and what was paid and what was idle is the rent to the billionth."""  # noqa: D205, D209
    out, chance = io.StringIO(), random.Random(seed)  # noqa: S311  (a test's own dice)
    pages = []

    async def one(gateway, engines):
        await asyncio.sleep(chance.random() * 2)
        for engine in engines:
            engine.behaviour = chance.choice(BEHAVIOURS)
        body = chat(stream=chance.random() < 0.6, words=chance.choice([1, 100, 3000]), **({"max_tokens": 50} if chance.random() < 0.5 else {}))
        task = asyncio.create_task(ask(gateway, body))
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.05)
            task.cancel()
            await asyncio.wait({task})
        else:
            await task

    async def test():
        async with MockEngine(chunks=10, delay_seconds=0.002) as a, MockEngine(chunks=30, delay_seconds=0.002) as b:
            text = pools(a).replace(f'["{a.url}"]', f'["{a.url}", "{b.url}"]')
            async with running(tmp_path, text, listeners=(request_lines(out),)) as gateway:
                await asyncio.gather(*(one(gateway, (a, b)) for _ in range(REQUESTS)))
                # Clients that left before a byte of theirs was read never were requests.
                for _ in range(100):
                    if not gateway.house.exchanges:
                        break
                    await asyncio.sleep(0.02)
                pages.append(metrics(gateway).decode())

    run(test())
    store = Store(tmp_path / "gateway.db")
    total, rents, by = store.usage(())[0], store.rents(), store.usage(("outcome",))
    store.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    lines = [line for line in lines if line["event"] == "request"]
    samples = [s for f in parser.text_string_to_metric_families(pages[0]) for s in f.samples]

    def counted(name):
        return sum(s.value for s in samples if s.name == name)

    assert len({line["request_id"] for line in lines}) == len(lines) == total.requests == counted("vram_requests_total") <= REQUESTS
    assert total.requests > REQUESTS * 0.7
    assert {s.group[0]: s.requests for s in by} == {o: sum(line["outcome"] == o for line in lines) for o in {line["outcome"] for line in lines}}
    assert len(by) >= 4
    assert total.completion_tokens == sum(line["completion_tokens"] for line in lines) == counted("vram_output_tokens_total")
    assert total.prompt_tokens == sum(line["prompt_tokens"] for line in lines) == counted("vram_prompt_tokens_total")
    assert total.kv_byte_seconds == sum(line["kv_byte_seconds"] for line in lines) == counted("vram_kv_byte_seconds_total")
    assert total.nano_dollars == round(sum(round(line["dollars"] * 1e9) for line in lines)) == round(counted("vram_paid_dollars_total") * 1e9)
    assert total.nano_dollars + sum(r.idle_nano_dollars for r in rents) == sum(r.rent_nano_dollars for r in rents)
    assert counted("vram_leases") == counted("vram_kv_held_bytes") == counted("vram_requests_open") == 0
