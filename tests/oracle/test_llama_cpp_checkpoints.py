"""Checkpoints of past prompts as a real llama-server b11434 prints them, and as its process grows by them, beside their plan.

The server is that of `make oracle-llama-cpp`, or the one that VRAM_LLAMA_SERVER names. Models are made on the spot, their words are noise.
"""

import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]
from tiny_gguf import text, write  # noqa: E402  (beside the fast tests)
from upping import environment, processes_with, up, vram  # noqa: E402  (as above)

from vram.api import plan  # noqa: E402  (as above)
from vram.units import MIB  # noqa: E402  (as above)

CACHED = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vram-ci/llama-cpp-b11434/build/bin"
SERVER = Path(os.environ.get("VRAM_LLAMA_SERVER") or Path(os.environ.get("VRAM_LLAMA_CPP") or CACHED) / "llama-server")
SEED = int(os.environ.get("VRAM_ORACLE_SEED") or 20261127)
pytestmark = pytest.mark.skipif(not SERVER.exists(), reason="no llama-server of b11434; `make oracle-llama-cpp` makes one")

WINDOWS = {"arch": "gemma3", "qk_norm": True, "tied": True}
STATES = {"d_conv": 4, "d_inner": 256, "d_state": 16, "n_group": 1, "dt_rank": 8}
SHAPES = {
    "windows": {**WINDOWS, "L": 6, "swa": 256},
    "more windows": {**WINDOWS, "L": 13, "swa": 128, "kv": 4, "hd": 64},
    "a window longer than any prompt": {**WINDOWS, "L": 6, "swa": 4096},
    "states": {"arch": "mamba2", "L": 5, **STATES},
    "states and caches": {"arch": "granitehybrid", "L": 6, "ff": 64, "n_exp": 4, "n_used": 2, "ff_exp": 64, "ff_shexp": 64, "attn_layers": [2, 4], **STATES},
    "every token kept": {"arch": "llama", "L": 4},
}
PRINTED = re.compile(r"slot create_check: id +(\d+) .* (?:created|erasing old) context checkpoint.*size = ([0-9.]+) MiB")


@contextmanager
def serving(path: Path, *flags: str):
    """A real server on the CPU: what asks it, what its process holds of its own, and what it printed."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = path.with_suffix(".log")
    words = [str(SERVER), "-m", str(path), "--port", str(port), "-ngl", "0", "--fit", "off", "-t", "1", "--no-webui", "--verbosity", "4", *flags]
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            ends = time.monotonic() + 60
            while "listening" not in log.read_text():
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < ends
                time.sleep(0.05)

            def ask(prompt: str, slot: int = -1) -> None:
                document = {"prompt": prompt, "n_predict": 1, "ignore_eos": True, "cache_prompt": True, "id_slot": slot}
                asked = HTTPConnection("127.0.0.1", port, timeout=60)
                asked.request("POST", "/completion", json.dumps(document), {"content-type": "application/json"})
                answer = asked.getresponse()
                said = answer.read()
                asked.close()
                assert answer.status == 200, said

            def held() -> int:
                return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[1]) * 1024

            yield ask, held, log.read_text
        finally:
            process.terminate()


@pytest.mark.parametrize("name", SHAPES)
def test_a_checkpoint_is_as_large_as_planned(tmp_path, name):
    """Of windows, of states, of both cache types, of prompts that fill a window and of those that don't: to the printed digit and a thousandth."""
    draw = random.Random(f"{SEED}{name}")  # noqa: S311  (settings to try, no secrets)
    path = write(tmp_path / "m.gguf", seed=draw.randrange(99), **SHAPES[name])
    # States are kept in 32 bits, whatever the type of the rest.
    kind = draw.choice(["f16", "q8_0"])
    most, slots, context = 4, 2, 1536
    made = plan(str(path), gpu="RTX 4090", engine="llama.cpp@b11434", context_tokens=context, kv_dtype=kind, parallel=slots, ctx_checkpoints=most)
    planned = dict(made.host).get("checkpoints")
    flags = ("-c", str(context * slots), "-np", str(slots), "-ctk", kind, "-ctv", kind, "-fa", "on", "--ctx-checkpoints", str(most), "--cache-ram", "0")
    with serving(path, *flags) as (ask, _, said):
        for slot in range(slots):
            for words in (300, 700, 1100, 1400, context - 4):
                ask(text(words), slot)
        printed = [(slot, float(size)) for slot, size in PRINTED.findall(said())]
        created = Counter(re.findall(r"created context checkpoint (\d+) of (\d+)", said()))
    if planned is None:
        assert name == "every token kept"
        assert not printed
        return
    one, largest = planned.high / (most * slots) / MIB, max(size for _, size in printed)
    print(name, kind, "planned", round(one, 4), "printed", largest)
    assert largest - 0.0005 <= one
    assert one <= (largest + 0.0005) * 1.001 if name != "a window longer than any prompt" else one <= largest * 1.01
    # No more than there may be; a full list is thinned before the next one comes, so that it may stay one short of it.
    assert most - 1 <= max(int(number) for number, _ in created) <= most == max(int(of) for _, of in created)
    assert {slot for slot, _ in printed} == {"0", "1"}
    assert 0 < planned.bytes <= planned.high


@pytest.mark.parametrize("drafter", ["windows", "every token kept"])
def test_a_drafter_adds_its_own(tmp_path, drafter):
    """A draft model with windows adds what they see; one whose cache keeps every token adds all of that, as it was when the checkpoint was made."""
    path, draft = write(tmp_path / "m.gguf", **SHAPES["windows"]), write(tmp_path / "d.gguf", **SHAPES[drafter])
    most, context = 4, 1536
    made = plan(str(path), gpu="RTX 4090", engine="llama.cpp@b11434", context_tokens=context, parallel=1, ctx_checkpoints=most, draft=str(draft))
    one = dict(made.host)["checkpoints"].high / most / MIB
    flags = ("-c", str(context), "-np", "1", "--ctx-checkpoints", str(most), "--cache-ram", "0", "--model-draft", str(draft), "--spec-type", "draft-simple")
    with serving(path, *flags) as (ask, _, said):
        for words in (300, 900, context - 8):
            ask(text(words), 0)
        largest = max(float(size) for _, size in PRINTED.findall(said()))
    print(drafter, "planned", round(one, 4), "printed", largest)
    assert largest - 0.0005 <= one <= largest * 1.03


def test_a_server_without_a_gpu_grows_by_them(tmp_path):
    """Private memory with 20 checkpoints a slot, less that with none: no more than the plan's high end says, and most of it."""
    path = write(tmp_path / "m.gguf", arch="gemma3", L=12, swa=512, qk_norm=True, tied=True, kv=8, hd=128, h=8)
    most, context = 20, 4096
    grown = {}
    for number in (0, most):
        flags = ("-c", str(context), "-np", "1", "--ctx-checkpoints", str(number), "--cache-ram", "0")
        with serving(path, *flags) as (ask, held, _):
            for words in range(600, 600 + 140 * 25, 140):
                ask(text(min(words, context - 8)))
            grown[number] = held()
    more = grown[most] - grown[0]
    host = [plan(str(path), gpu="RTX 4090", engine="llama.cpp@b11434", context_tokens=context, parallel=1, ctx_checkpoints=n) for n in (0, most)]
    high = dict(host[1].host)["checkpoints"].high
    print("grown by", more / MIB, "planned at most", high / MIB)
    assert "checkpoints" not in dict(host[0].host)
    assert 0.9 * high <= more <= high + 16 * MIB


def test_vram_up_reserves_what_they_grow_to(tmp_path):
    """A chat in ever new turns: what the engine holds stays below what is reserved for it from the first look on, and the command says how many are kept."""
    pytest.importorskip("httptools", reason="the gateway's extra is not installed")
    path = write(tmp_path / "m.gguf", arch="gemma3", L=12, swa=512, qk_norm=True, tied=True, kv=8, hd=128, h=8, ctx=4096)
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(SERVER))
    # 20 MiB each, 32 of four slots: 2.5 GiB that nobody held when it was measured. A budget of less leaves room for some.
    with up(tmp_path, f"m={path}", "--gpu", "cpu", "--context", "4096", "--budget", "3GiB", env=env) as running:
        said = running.until("serving", 120)
        number = int(re.search(r"--ctx-checkpoints (\d+)", Path(f"/proc/{processes_with('--alias m')[-1]}/cmdline").read_text().replace("\0", " "))[1])
        for words in range(500, 500 + 130 * 26, 130):
            assert running.post("/v1/completions", {"model": "m", "prompt": text(words), "max_tokens": 1})[0] == 200
        (engine,) = [p for p in processes_with("--alias m") if "guard.py" not in Path(f"/proc/{p}/cmdline").read_text()]
        held = int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{engine}/status").read_text())[1]) * 1024
        (one,) = json.loads(vram("ps", "--json", env=env).stdout)["runs"][0]["models"]
        said = running.said
    print("checkpoints", number, "held at most", held / MIB, "reserved", one["reserved_bytes"][0] / MIB, one["reserved_by"])
    assert 1 <= number < 32
    assert one["reserved_by"] == "measured"
    assert held <= one["reserved_bytes"][0] <= 3 * 1024 * MIB
    assert "more than was reserved" not in said
    # It was not for lack of growth: what comes with later turns is more than any margin.
    assert number * 19 * MIB > 128 * MIB
