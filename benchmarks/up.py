"""What `vram up` costs beside the engine that it starts: time to the first token, and what it takes when nothing is asked.

    python benchmarks/up.py [--llama-server PATH] [--runs 5]

Both ways are run in turn on the same machine: llama-server alone with the flags of the plan, from its start to its first token, and
`vram up demo --no-probe`, from its start to the first token through the gateway. The difference is what we add: at most two seconds.
Idle, the supervisor with its gateway takes at most 1 % of a core and 60 MB of memory.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median

MOST_ADDED_SECONDS, MOST_CPU, MOST_MB = 2.0, 0.01, 60.0
IDLE_SECONDS = 20.0


def first_token(url: str, seconds: float = 120.0) -> float:
    """Ask until there is an answer; when its first token came."""
    body = json.dumps({"model": "demo", "prompt": "x", "max_tokens": 4, "stream": True}).encode()
    ends = time.monotonic() + seconds
    while True:
        try:
            request = urllib.request.Request(f"{url}/v1/completions", data=body, headers={"Content-Type": "application/json"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                while not answer.readline().startswith(b"data: {"):
                    pass
                return time.monotonic()
        except (urllib.error.URLError, OSError):
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure, tell, and say whether the bars are held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--llama-server", default=os.environ.get("VRAM_LLAMA_SERVER", ""))
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    alone, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, **{f"XDG_{name}_HOME": f"{folder}/{name.lower()}" for name in ("STATE", "DATA", "CACHE")}, "HF_HUB_OFFLINE": "1"}
        if given.llama_server:
            env["VRAM_LLAMA_SERVER"] = given.llama_server
        vram = [sys.executable, "-m", "vram", "up", "demo", "--gpu", "cpu", "--engine", "llama-server"]
        planned = json.loads(subprocess.run([*vram, "--dry-run", "--json"], env=env, check=True, capture_output=True).stdout)["models"][0]["words"]
        idle = (0.0, 0.0)
        for number in range(given.runs):
            words = list(planned)
            words[words.index("--port") + 1] = port = str(18_000 + os.getpid() % 10_000 + number)
            began = time.monotonic()
            with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as engine:
                alone.append(first_token(f"http://127.0.0.1:{port}") - began)
                engine.terminate()
            began = time.monotonic()
            with subprocess.Popen([*vram, "--no-probe", "--port", "0", "--admin-port", "0"], stderr=subprocess.PIPE, text=True, env=env) as up:
                url = next(found[1] for line in up.stderr or () if (found := re.search(r"on (http://\S+)/v1", line)))
                whole.append(first_token(url) - began)
                if number == given.runs - 1:
                    time.sleep(3.0)
                    before, at = cpu_seconds(up.pid), time.monotonic()
                    time.sleep(IDLE_SECONDS)
                    resident = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{up.pid}/status").read_text())[1]) / 1e3
                    idle = ((cpu_seconds(up.pid) - before) / (time.monotonic() - at), resident)
                up.terminate()
    added = median(whole) - median(alone)
    print(f"llama-server alone   {median(alone):6.2f} s to its first token (median of {given.runs}; {min(alone):.2f} to {max(alone):.2f})")
    print(f"vram up              {median(whole):6.2f} s to the first token through the gateway ({min(whole):.2f} to {max(whole):.2f})")
    held = [
        ("added to the start", added, MOST_ADDED_SECONDS, "s"),
        ("idle, of one core", idle[0] * 100, MOST_CPU * 100, "%"),
        ("idle, resident", idle[1], MOST_MB, "MB"),
    ]
    for what, value, bar, unit in held:
        print(f"{what:<20} {value:6.2f} {unit} (bar: {bar:g} {unit}) {'held' if value <= bar else 'NOT HELD'}")
    return 0 if all(value <= bar for _, value, bar, _ in held) else 1


if __name__ == "__main__":
    sys.exit(main())
