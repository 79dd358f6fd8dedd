"""The gateway in front of a real vLLM on the CPU with a tight pool of small blocks, as on a GPU: long answers first, short ones among them.

Alone vLLM preempts, and short requests wait behind long ones; through the gateway neither. Runs when VRAM_VLLM_PYTHON names the Python
of an environment with vLLM 0.32 for the CPU (`make oracle-vllm`): about two minutes.
"""

import asyncio
import copy
import json
import re
import sys
import time
import urllib.request
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
pytest.importorskip("httptools", reason="the gateway's extra is not installed")
import vllm_cpu  # noqa: E402  (beside the fast tests)
from test_gateway import running  # noqa: E402  (the same)
from test_vllm_servers import PYTHON, metrics, server  # noqa: E402  (the same)

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="VRAM_VLLM_PYTHON names no vLLM; `make oracle-vllm` does")

BLOCKS = 201
"""One of them is vLLM's null block: 6,400 tokens are there."""
LONG, SHORT = (400, 450), (60, 24)
"""Prompt and answer: 27 blocks, and 3."""


def metric(port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    return sum(float(x) for x in re.findall(rf"^{name}(?:\{{[^\n]*\}})? ([0-9.e+-]+)$", page, re.MULTILINE))


def body(model, i, size):
    prompt = [3 + (i * 7919 + k * 31 + i * k) % 500 for k in range(size[0])]
    return {"model": model, "prompt": prompt, "max_tokens": size[1], "ignore_eos": True, "stream": True, "temperature": 0}


async def ask(port, asked):
    """Status, body and seconds until the first token of one request."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(asked).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    got, first = b"", 0.0
    while piece := await reader.read(65536):
        got += piece
        if not first and b"data: " in got:
            first = time.monotonic() - began
    writer.close()
    return int(got.split(b" ", 2)[1]), got.partition(b"\r\n\r\n")[2], first


async def offered(port, model, start):
    """Fourteen long requests at once (nearly twice what the pool holds), and twenty-four short ones, four a second, after them."""
    long = [asyncio.create_task(ask(port, body(model, start + i, LONG))) for i in range(14)]
    await asyncio.sleep(1)
    short = []
    for i in range(24):
        short.append(asyncio.create_task(ask(port, body(model, start + 100 + i, SHORT))))
        await asyncio.sleep(0.25)
    return await asyncio.gather(*long), await asyncio.gather(*short)


@pytest.mark.timeout(900)
def test_alone_it_preempts_and_behind_the_gateway_it_does_not(tmp_path):
    """All are answered both ways; only alone vLLM preempts, and there short requests wait behind the long ones."""
    case = copy.deepcopy(next(c for c in vllm_cpu.CASES if c["name"] == "full"))
    case["settings"] |= {"block_size": 32, "max_num_seqs": 64, "max_model_len": 2048}
    layout, _ = vllm_cpu.planned(case, "")
    case["settings"]["kv_cache_memory_bytes"] = BLOCKS * layout.bytes_per_block
    model = "./full"

    def said(port):
        return {n: metric(port, f"vllm:{n}") for n in ("num_preemptions_total", "generation_tokens_total", "iteration_tokens_total_count")}

    async def timed(port, at, start):
        before, began = await asyncio.to_thread(said, at), time.monotonic()
        long, short = await asyncio.wait_for(offered(port, model, start), 400)
        seconds = time.monotonic() - began
        for status, text, _ in long + short:
            assert status == 200, text[:500]
            assert b"[DONE]" in text
        found = {n: v - before[n] for n, v in (await asyncio.to_thread(said, at)).items()}
        return found, seconds, sorted(first for _, _, first in short)

    with server(case, tmp_path) as (process, port, log):
        served = metrics(process, port)
        assert served, log.read_text(errors="replace")[-3000:]
        assert (int(served["num_gpu_blocks"]), int(served["block_size"])) == (BLOCKS, 32)

        async def alone():
            # The first request of all compiles and allocates.
            await ask(port, body(model, 999, SHORT))
            return await timed(port, port, 0)

        bare = asyncio.run(alone())
        pools = f"""
[[pools]]
name = "p"
model = "{tmp_path / "full"}"
engine = "vllm@0.32.0+cpu"
gpu = "24GiB"
replicas = ["http://127.0.0.1:{port}"]
served_as = "{model}"
settings = {{ context_tokens = 2048, max_num_seqs = 64, block_size = 32 }}
capacity = {{ kv_bytes = {BLOCKS * layout.bytes_per_block} }}
[limits]
queue_seconds = 400
"""

        async def guarded():
            async with running(tmp_path, pools) as gateway:
                (seat,) = gateway.assembled.seats["p"]
                assert seat.books.capacity_bytes == (BLOCKS - 1) * layout.bytes_per_block
                peak = told = 0.0

                async def watch():
                    nonlocal peak
                    while True:
                        peak = max(peak, seat.books.held_bytes / seat.books.capacity_bytes)
                        await asyncio.sleep(0.01)

                async def scrape():
                    nonlocal told
                    while True:
                        told = max(told, await asyncio.to_thread(metric, port, "vllm:kv_cache_usage_perc"))
                        await asyncio.sleep(0.3)

                watchers = [asyncio.create_task(w()) for w in (watch, scrape)]
                found = await timed(gateway.port, port, 1000)
                for w in watchers:
                    w.cancel()
                # Several answers to one prompt are several sequences in both books. How many run its page says late; what they made, in the end.
                before = await asyncio.to_thread(metric, port, "vllm:generation_tokens_total")
                three, most = asyncio.create_task(ask(gateway.port, body(model, 2000, (60, 300)) | {"n": 3, "temperature": 1})), 0
                while not three.done():
                    most = max(most, seat.books.sequences)
                    await asyncio.sleep(0.005)
                assert (await three)[0] == 200
                made = await asyncio.to_thread(metric, port, "vllm:generation_tokens_total") - before
                return found, peak, told, [most, made]

        behind, peak, told, most = asyncio.run(guarded())
    for name, (counts, seconds, first) in (("alone", bare), ("behind the gateway", behind)):
        tokens, steps = counts["generation_tokens_total"], counts["iteration_tokens_total_count"]
        print(
            f"{name}: {counts['num_preemptions_total']:.0f} preemptions; {tokens:.0f} tokens in {steps:.0f} steps and {seconds:.1f} s, {tokens / seconds:.0f} a second; "
            f"first token of a short request after {first[len(first) // 2]:.2f} s, at worst {first[-1]:.2f}"
        )
    print(f"KV at the peak: {peak:.0%} leased, {told:.0%} by vLLM's own word")
    assert most == [3, 3 * 300]
    (alone, alone_seconds, alone_first), (guard, guard_seconds, guard_first) = bare, behind
    assert alone["num_preemptions_total"] > 0
    assert guard["num_preemptions_total"] == 0
    # What is aimed at – 85 % of the cache at the peak, first tokens of short requests in half the time, no fewer tokens a second – is printed
    # above, and differs from run to run: so short a load has few moments to be at its peak, and its page is often too late to tell of them.
    assert max(peak, told) >= 0.75
    # Of so few the 99th percentile is the last. Shares of one run: a machine that is busy is so for both.
    assert guard_first[-1] < alone_first[-1]
    assert guard["generation_tokens_total"] / guard_seconds >= 0.7 * alone["generation_tokens_total"] / alone_seconds
