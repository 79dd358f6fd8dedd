"""A real vLLM asked afresh about drafters and adapters: shapes of no file, settings from the seed (VRAM_ORACLE_SEED draws others).

Runs when VRAM_VLLM_PYTHON names the Python of an environment with vLLM 0.32 for the CPU (`make oracle-vllm`): three to six minutes in
one process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]
import vllm_beside  # noqa: E402  (the comparison of the recorded rows)

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("VRAM_VLLM_PYTHON") or "/nonexistent")
SEED = int(os.environ.get("VRAM_ORACLE_SEED") or 20261127)
# Types whose adapters are known to differ (tests/test_vllm_beside.py).
KNOWN = ("lora|opt", "lora|phi|", "lora|lfm2", "lora|gpt_bigcode", "lora|gemma4_text", "lora|falcon_h1")
# falcon_h1: where a state space has fewer groups than there are ranks, vLLM pads them and takes adapters of the convolution, too: 3 % more.


pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="VRAM_VLLM_PYTHON names no vLLM; `make oracle-vllm` does")


@pytest.mark.timeout(1500)
def test_fresh_questions_about_drafters_and_adapters_are_answered_alike(tmp_path: Path) -> None:
    """Buffers of adapters, weights of drafters and layouts of the pool equal vLLM's on 100 questions and more."""
    asked = vllm_beside.questions(SEED, vllm_beside.own_architectures(PYTHON))
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    out = tmp_path / "rows.jsonl"
    script = ROOT / "truth" / "oracle" / "vllm_beside.py"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([PYTHON, script, out, tmp_path / "questions.json"], capture_output=True, text=True, check=False, timeout=1480, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    wrong = [(row["id"], found) for row in rows if not row["id"].startswith(KNOWN) and (found := vllm_beside.differences(row))]
    print(f"{len(rows)} of {len(asked)} questions answered, {len(wrong)} differ")
    assert not wrong, wrong[:5]
    assert len(rows) >= 100
