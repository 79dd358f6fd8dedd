"""A real vLLM server on the CPU with a tight pool, 300 requests of the conversation trace, beside a replay of them: seven minutes.

Runs when VRAM_VLLM_PYTHON names the Python of an environment with vLLM 0.32 for the CPU (`make oracle-vllm`), the timed server on a machine
that does nothing else (`make oracle-replay`).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("VRAM_VLLM_PYTHON") or "/nonexistent")

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="VRAM_VLLM_PYTHON names no vLLM; `make oracle-vllm` does")


@pytest.mark.skipif(os.environ.get("VRAM_REPLAY") != "1", reason="it times a server, and other work on the machine shows: `make oracle-replay`")
@pytest.mark.timeout(1500)
def test_a_replay_is_near_a_real_server(tmp_path: Path) -> None:
    """With step times of other runs: preemptions and total time within 15 %, p50 and p90 TTFT within 25 %."""
    out = tmp_path / "run.jsonl"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, ROOT / "truth" / "simulate" / "vllm_cpu.py", "--out", out], env=env, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    row = json.loads(out.read_text())
    measured, simulated = row["measured"], row["simulated"]
    assert measured["preemptions"] >= 50
    for name, bar in (("seconds", 0.15), ("preemptions", 0.15), ("ttft_p50", 0.25), ("ttft_p90", 0.25)):
        assert simulated[name] == pytest.approx(measured[name], rel=bar), name


def test_the_scheduler_answers_as_recorded(tmp_path: Path) -> None:
    """The first 40 cases of truth/simulate/scheduler.jsonl.gz, asked again."""
    import gzip

    rows = gzip.decompress((ROOT / "truth" / "simulate" / "scheduler.jsonl.gz").read_bytes()).decode().splitlines()[:40]
    done = subprocess.run([PYTHON, ROOT / "truth" / "simulate" / "scheduler.py", "40"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] == [json.loads(line) for line in rows]
