"""The gateway in front of a real vLLM on the CPU with a tight pool of small blocks, as on a GPU: many long answers, short ones among them.

Alone vLLM preempts, and short requests wait behind long ones; through the gateway neither. Runs when VRAM_VLLM_PYTHON names the Python
of an environment with vLLM 0.32 for the CPU (`make oracle-vllm`): about three minutes. The same load for minutes and several seeds, lengths
told and not told, is `make bench-vllm`.
"""

import asyncio
import copy
import json
import os
import re
import subprocess
import sys
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
ROOT = Path(__file__).parents[2]


def metric(port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    return sum(float(x) for x in re.findall(rf"^{name}(?:\{{[^\n]*\}})? ([0-9.e+-]+)$", page, re.MULTILINE))


async def ask(port, asked):
    """The status of one request, its answer read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(asked).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    got = await reader.read()
    writer.close()
    return int(got.split(b" ", 2)[1])


@pytest.mark.timeout(900)
def test_alone_it_preempts_and_behind_the_gateway_it_does_not(tmp_path):
    """The load of `make bench-vllm` for forty seconds, the first twenty of which fill the pool: what holds of it in every run.

    Seconds are those of the engine's stated steps, so other work on the machine shows little.
    """
    out = tmp_path / "runs.json"
    command = [sys.executable, ROOT / "benchmarks" / "gateway" / "vllm_load.py", "--seconds", "40", "--seed", "1", "--lengths", "told", "--json", out]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads(out.read_text())
    behind, alone = found["behind"], found["alone"]
    assert alone["preemptions"] >= 5
    assert behind["preemptions"] == 0
    assert behind["kv_mean"] >= 0.80
    assert behind["tokens_per_second"] >= 0.9 * alone["tokens_per_second"]
    assert 2 * behind["short_p50"] <= alone["short_p50"]
    assert behind["short_p99"] < alone["short_p99"]


@pytest.mark.timeout(600)
def test_several_answers_to_one_prompt_are_several_sequences(tmp_path):
    """In the gateway's books and in vLLM's; the pool is as large for both."""
    case = copy.deepcopy(next(c for c in vllm_cpu.CASES if c["name"] == "full"))
    case["settings"] |= {"block_size": 32, "max_num_seqs": 64, "max_model_len": 2048}
    layout, _ = vllm_cpu.planned(case, "")
    case["settings"]["kv_cache_memory_bytes"] = BLOCKS * layout.bytes_per_block
    model = "./full"
    with server(case, tmp_path) as (process, port, log):
        served = metrics(process, port)
        assert served, log.read_text(errors="replace")[-3000:]
        assert (int(served["num_gpu_blocks"]), int(served["block_size"])) == (BLOCKS, 32)
        pools = f"""
[[pools]]
name = "p"
model = "{tmp_path / "full"}"
engine = "vllm@{vllm_cpu.here()}"
gpu = "24GiB"
replicas = ["http://127.0.0.1:{port}"]
served_as = "{model}"
settings = {{ context_tokens = 2048, max_num_seqs = 64, block_size = 32 }}
capacity = {{ kv_bytes = {BLOCKS * layout.bytes_per_block} }}
"""

        async def guarded():
            async with running(tmp_path, pools) as gateway:
                (seat,) = gateway.assembled.seats["p"]
                assert seat.books.capacity_bytes == (BLOCKS - 1) * layout.bytes_per_block
                # How many run its page says late; what they made, in the end.
                before = await asyncio.to_thread(metric, port, "vllm:generation_tokens_total")
                prompt = [3 + k * 31 % 500 for k in range(60)]
                asked = {"model": model, "prompt": prompt, "max_tokens": 300, "ignore_eos": True, "stream": True, "temperature": 1, "n": 3}
                three, most = asyncio.create_task(ask(gateway.port, asked)), 0
                while not three.done():
                    most = max(most, seat.books.sequences)
                    await asyncio.sleep(0.005)
                assert await three == 200
                return most, await asyncio.to_thread(metric, port, "vllm:generation_tokens_total") - before

        assert asyncio.run(guarded()) == (3, 3 * 300)
