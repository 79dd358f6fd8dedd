"""`vram up` with a real llama-server b11434: planned is measured, nothing is left behind, a killed engine comes back.

The server is that of `make oracle-llama-cpp`, or the one that VRAM_LLAMA_SERVER names. The model is made on the spot, its words are noise.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]
pytest.importorskip("httptools", reason="the gateway's extra is not installed")
from upping import environment, gone, processes_with, up, vram  # noqa: E402  (beside the fast tests)

from vram.api import load_model  # noqa: E402  (as above)
from vram.errors import ExitCode  # noqa: E402  (as above)
from vram.runtime.choosing import fleet_of  # noqa: E402  (as above)
from vram.runtime.driver import Start  # noqa: E402  (as above)
from vram.runtime.engines.base import Address  # noqa: E402  (as above)
from vram.runtime.engines.llama_server import LlamaServer  # noqa: E402  (as above)
from vram.runtime.local import LocalDriver  # noqa: E402  (as above)
from vram.runtime.measured import beside, read_start  # noqa: E402  (as above)
from vram.runtime.placing import Placed, replan  # noqa: E402  (as above)
from vram.runtime.tiny import Shape, write_tiny  # noqa: E402  (as above)
from vram.runtime.unit import free_port  # noqa: E402  (as above)
from vram.runtime.wanted import Wanted  # noqa: E402  (as above)
from vram.settings import settings  # noqa: E402  (as above)

CACHED = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vram-ci/llama-cpp-b11434/build/bin"
SERVER = Path(os.environ.get("VRAM_LLAMA_SERVER") or Path(os.environ.get("VRAM_LLAMA_CPP") or CACHED) / "llama-server")
SEED = int(os.environ.get("VRAM_ORACLE_SEED") or 20261127)
pytestmark = pytest.mark.skipif(not SERVER.exists(), reason="no llama-server of b11434; `make oracle-llama-cpp` makes one")


@pytest.fixture
def env(tmp_path):
    return environment(tmp_path, VRAM_LLAMA_SERVER=str(SERVER))


def started(placed: Placed) -> list[str]:
    """The first lines of a real start, up to where it says that it listens."""
    made = placed.engine.line(placed.launch, placed.here, Address(port=free_port(), name="m"))
    handle = LocalDriver().start(Start(name="m", words=made.words, variables={**placed.variables, **made.variables}))
    ends = time.monotonic() + 120
    while handle.exit is None and not any("listening" in line for line in handle.head()):
        assert time.monotonic() < ends, handle.tail()
        time.sleep(0.05)
    handle.stop(5.0)
    assert handle.wait(20) is not None
    return handle.head()


def test_every_buffer_is_as_planned(tmp_path):
    """Shapes and settings drawn from a seed: weights, caches and logits to the printed digit, compute buffers inside the plan's band."""
    draw = random.Random(SEED)  # noqa: S311  (settings to try, no secrets)
    engine = LlamaServer()
    here = engine.find(replace(settings(), llama_server=SERVER))
    assert here is not None
    assert here.version == "b11434"
    seen = 0
    for number in range(6):
        shape = Shape(
            # The last layer computes only the rows that are asked for: a model of one layer takes less than any formula here says.
            layers=draw.choice([2, 3, 6]),
            hidden=draw.choice([64, 128, 512]),
            mlp=draw.choice([256, 1024]),
            heads=draw.choice([4, 8]),
            kv_heads=draw.choice([1, 2, 4]),
            vocabulary=draw.choice([512, 2048]),
        )
        path = write_tiny(tmp_path / f"{number}.gguf", shape, seed=number)
        model = load_model(str(path))
        for _ in range(2):
            wanted = Wanted(
                name="m",
                model=str(path),
                context_tokens=draw.choice([300, 1024, 2000, 4096]),
                concurrency=draw.choice([1, 3, 5]),
                parallel=draw.choice([None, 2, 6]),
                ubatch=draw.choice([None, 64, 256]),
                kv_dtype=draw.choice([None, "q8_0", "q4_0", "f32"]),
            )
            fleet = fleet_of("cpu", dry=False)
            placed = replan(Placed(wanted=wanted, model=model, engine=engine, here=here, fleet=fleet, plan=None), wanted)
            found = beside(placed.plan, read_start(started(placed), "llama.cpp"))
            print(wanted, [(b.name, b.planned.bytes, b.measured) for b in found])
            assert {b.name for b in found} == {"weights", "kv_cache", "output", "compute"}
            assert [b for b in found if b.inside is not True] == []
            seen += len(found)
    assert seen == 48


def test_from_a_name_to_an_answer_with_the_openai_client(env, tmp_path):
    """The whole way: planned, proved, served; usage and money are written; SIGTERM leaves nothing."""
    openai = pytest.importorskip("openai")
    with up(tmp_path, "talk=demo", "--concurrency", "2", "--dollars-per-hour", "3.6", env=env) as running:
        said = running.until("serving", 120)
        assert "proved: 2 x 2,044 tokens at once" in said
        assert said.count("in the band") + said.count("as far as it prints") == 4
        client = openai.OpenAI(base_url=running.url + "/v1", api_key="none")
        answer = client.chat.completions.create(model="talk", messages=[{"role": "user", "content": "hi"}], max_tokens=8)
        assert answer.usage.completion_tokens == 8
        parts = list(client.completions.create(model="talk", prompt="hello", max_tokens=16, stream=True, stream_options={"include_usage": True}))
        assert parts[-1].usage.completion_tokens == 16
        assert [m.id for m in client.models.list()] == ["talk"]
        assert running.end(signal.SIGTERM) == ExitCode.OK
    assert not processes_with("--alias talk")
    used = json.loads(vram("usage", "--json", env=env).stdout)
    assert used["total"]["completion_tokens"] == 24
    assert used["total"]["dollars"] > 0


def test_a_killed_engine_ends_its_stream_with_a_typed_error_and_comes_back(env, tmp_path):
    """SIGKILL in mid-stream: that stream ends with `engine_lost`, the next request is answered after the restart, no lease is left."""
    openai = pytest.importorskip("openai")
    with up(tmp_path, "talk=demo", "--no-probe", env=env) as running:
        running.until("serving", 120)
        client = openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0)
        stream = client.completions.create(model="talk", prompt="hello", max_tokens=1900, stream=True, extra_body={"ignore_eos": True})
        next(stream)
        (engine,) = [p for p in processes_with("--alias talk") if "guard.py" not in Path(f"/proc/{p}/cmdline").read_text()]
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(openai.APIError) as lost:
            for _ in stream:
                pass
        assert lost.value.code == "engine_lost"
        running.until("talk is back", 60)
        assert client.completions.create(model="talk", prompt="hello", max_tokens=4).usage.completion_tokens == 4


def test_a_killed_supervisor_leaves_nothing(env, tmp_path):
    """SIGKILL of `vram up` with requests under way: within five seconds neither engine nor guard is there."""
    with up(tmp_path, "talk=demo", "--no-probe", env=env) as running:
        running.until("serving", 120)
        long = {"model": "talk", "prompt": "x", "max_tokens": 1900, "ignore_eos": True}

        def post():
            try:
                running.post("/v1/completions", long)
            except OSError:
                return

        threads = [threading.Thread(target=post) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        pids = processes_with("--alias talk")
        assert len(pids) == 2
        running.end(signal.SIGKILL)
        assert gone(pids, 5)
        for thread in threads:
            thread.join(30)


def test_a_file_that_only_looks_whole_is_a_clear_error(env, tmp_path):
    """Headers that are right and data that is cut off: the engine's own words, a clean end."""
    path = write_tiny(tmp_path / "cut.gguf")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    done = vram("up", str(path), "--port", "0", "--admin-port", "0", env=env)
    assert done.returncode in {ExitCode.ERROR, ExitCode.MODEL_UNREADABLE}
    assert "cut" in done.stderr
    assert "Traceback" not in done.stderr
    assert not processes_with("--alias cut")
