"""The short form of the chaos run (`make chaos` is the long one): thousands of requests that misbehave, to engines that do, and no account is off."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

RUN = Path(__file__).parent / "chaos" / "run.py"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors and memory are read from /proc")
def test_nothing_is_left_after_chaos(tmp_path):
    """3,000 requests: each ends in exactly one way, log, metrics and usage agree on their number, ledgers end at 0, descriptors as at the start."""
    out = tmp_path / "chaos.json"
    done = subprocess.run(
        [sys.executable, str(RUN), "--requests", "3000", "--seed", "11", "--endless-mib", "16", "--json", str(out)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["requests"] == 3000
    assert found["faults"] == []
    assert found["usage"] == found["metrics"] <= found["logged"]
    # What it is about did happen.
    ends = {end.partition(": ")[2] for end in found["ends"]}
    assert {"whole", "left", "cut", "event engine_lost", "engine 500", "400 bad_http"} <= ends
    # Which of these it comes to is chance: a request that lost its engine is sent again, kept from others, or told.
    assert any(end.startswith(("502 ", "422 ")) for end in ends), ends
    assert found["most"]["waiting"] > 0
    # Most is answered all the same: engines that fail some requests are not left out for good.
    assert sum(n for end, n in found["ends"].items() if end.endswith(": whole")) > found["requests"] / 2
