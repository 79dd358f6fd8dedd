"""`vram up` with a real vLLM on the CPU, random weights: its pool is the planned one to the token, and nothing of it is left behind.

Runs when VRAM_VLLM_PYTHON names the Python of an environment with vLLM 0.32 for the CPU (`make oracle-vllm`): two minutes.
"""

import json
import os
import signal
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]
pytest.importorskip("httptools", reason="the gateway's extra is not installed")
import vllm_cpu  # noqa: E402  (beside the fast tests)
from upping import environment, gone, up  # noqa: E402  (the same)

from vram.runtime.local import MARK  # noqa: E402  (as above)

PYTHON = Path(os.environ.get("VRAM_VLLM_PYTHON") or "/nonexistent")
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="VRAM_VLLM_PYTHON names no vLLM; `make oracle-vllm` does")
FIXED = ("--load-format", "dummy", "--dtype", "bfloat16", "--skip-tokenizer-init")


def marked() -> list[int]:
    """Every process that an engine of ours started, by the mark in its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}=".encode() in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.timeout(500)
def test_vllm_is_planned_proved_served_and_leaves_nothing(tmp_path):
    """Tokens of the pool as planned, the worst request answered, then SIGKILL of `vram up`: server and engine core are gone in five seconds."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(vllm_cpu.CASES[0]["config"]))
    env = environment(tmp_path, VRAM_VLLM_PYTHON=str(PYTHON), VLLM_NO_USAGE_STATS="1", VLLM_HOST_IP="127.0.0.1")
    args = (
        str(folder),
        "--gpu",
        "cpu",
        "--engine",
        "vllm",
        "--context",
        "2k",
        "--concurrency",
        "3",
        "--max-num-seqs",
        "8",
        "--kv-pool-bytes",
        "256MiB",
        "--enforce-eager",
        "--json",
    )
    with up(tmp_path, *args, *(f"--engine-arg={word}" for word in FIXED), env=env) as running:
        said = running.until("serving", 400)
        document = json.JSONDecoder().raw_decode(said[said.index('{\n  "schema"') :])[0]
        jsonschema.validate(document, json.loads((files("vram") / "schemas/up.json").read_text()))
        (model,) = document["models"]
        pool = {(m["name"], m["unit"]): m for m in model["measured"]}
        print(pool)
        assert pool["kv_cache", "tokens"]["measured"] == pool["kv_cache", "tokens"]["planned"] == model["plan"]["kv_pool"]["capacity_tokens"]
        assert all(m["inside"] is not False for m in model["measured"])
        assert "proved: 3 x 2,044 tokens at once" in said
        status, body = running.post("/v1/completions", {"model": "small", "prompt": [5, 6, 7], "max_tokens": 5, "ignore_eos": True})
        assert status == 200, body
        assert json.loads(body)["usage"]["completion_tokens"] == 5
        pids = marked()
        assert len(pids) >= 2  # the server and its engine core
        running.end(signal.SIGKILL)
        assert gone(pids, 5)
