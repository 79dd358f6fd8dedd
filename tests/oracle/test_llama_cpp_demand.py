"""Three real models on a budget that holds two: llama-server b11434, the `openai` client, 200 interleaved requests.

The server is that of `make oracle-llama-cpp`, or the one that VRAM_LLAMA_SERVER names.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
pytest.importorskip("httptools", reason="the gateway's extra is not installed")
openai = pytest.importorskip("openai", reason="the oracle's extra is not installed")
from test_llama_cpp_up import SERVER  # noqa: E402  (beside the fast tests)
from test_up_control import state_of  # noqa: E402  (the same)
from upping import environment, processes_with, up, vram  # noqa: E402  (the same)

pytestmark = pytest.mark.skipif(not SERVER.exists(), reason="no llama-server of b11434; `make oracle-llama-cpp` makes one")

REQUESTS, CLIENTS, CONTEXT = 200, 8, "2k"


def serving() -> int:
    """Servers that hold a model: no guard that names one, and none that is only asked for its flags."""
    found = 0
    for process in processes_with(f"{SERVER} --model "):
        with suppress(OSError):
            found += Path(f"/proc/{process}/exe").readlink() == SERVER.resolve()
    return found


@pytest.mark.timeout(300)
def test_three_models_share_what_two_fill(tmp_path):
    """All are answered; what is resident never passes the budget; loads are paid for by turns; what swapping took is told."""
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(SERVER))
    done = vram("up", "a=demo", "--gpu", "cpu", "--context", CONTEXT, "--concurrency", "2", "--dry-run", "--json", env=env)
    (gpu,) = json.loads(done.stdout)["models"][0]["plan"]["gpus"]
    budget = sum(part["high"] for part in gpu["parts"].values()) * 5 // 2
    # What is not proved reserves its plan's high end; measured, all three would fit.
    args = ("a=demo", "b=demo", "c=demo", "--gpu", "cpu", "--context", CONTEXT, "--concurrency", "2", "--budget", str(budget), "--no-probe")
    most, over = [0], threading.Event()

    def watch():
        while not over.wait(0.1):
            most[0] = max(most[0], serving())

    with up(tmp_path, *args, env=env) as running:
        running.until("serving a, b, c", 120)
        client = openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0, timeout=240)
        watcher = threading.Thread(target=watch)
        watcher.start()

        def ask(k):
            answer = client.chat.completions.create(model="abc"[k % 3], messages=[{"role": "user", "content": f"number {k}"}], max_tokens=8)
            return answer.usage.completion_tokens

        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as threads:
            made = list(threads.map(ask, range(REQUESTS)))
        seconds = time.monotonic() - began
        over.set()
        watcher.join()
        found = {name: state_of(env, name) for name in "abc"}
    loads, evictions = (sum(m[what] for m in found.values()) for what in ("loads", "evictions"))
    lost = sum(m["loading_seconds"] for m in found.values())
    print(f"{REQUESTS} requests of three models in {seconds:.1f} s: {loads} loads, {evictions} evictions, {lost:.1f} s of loading; {most[0]} servers at most")
    assert all(n > 0 for n in made)
    assert most[0] == 2
    assert loads == 2 + evictions
    # Loading one by one would have taken 200 loads: who has work has its turn, who has none lingers.
    assert 1 <= evictions <= REQUESTS // 4
