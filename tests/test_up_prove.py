"""Memory that runs out though the plan fits: what is tried, what is learned, what is said. A scripted stand-in fails as llama.cpp does."""

import json
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upping import environment, processes_with, stand_in, up, vram

from vram.errors import ExitCode
from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu
from vram.planner.make import make_plan
from vram.runtime.engines.base import Short
from vram.runtime.engines.llama_server import LlamaServer
from vram.runtime.gentler import steps
from vram.runtime.learned import learn, learned
from vram.runtime.measured import beside, read_start
from vram.runtime.placing import Placed, replan
from vram.runtime.restarts import Restarts
from vram.runtime.tiny import write_tiny
from vram.runtime.wanted import Wanted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")

# src/llama-kv-cache.cpp and src/llama-context.cpp of b11434, and a CUDA card's words before them.
KV_FAILED = "E llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache"
COMPUTE_FAILED = "E graph_reserve: failed to allocate compute buffers"
WEIGHTS_FAILED = "E llama_model_load: error loading model: unable to allocate CUDA0 buffer"
HOST = Gpu(name="CPU", vendor="host", architecture="host", capacity_bytes=2**36, capacity_source="stated", marketing_bytes=2**36, unified_memory=True)


@pytest.fixture
def env(tmp_path):
    stand_in(tmp_path)
    return environment(tmp_path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from vram.api import load_model

    return load_model(str(write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")))


def test_settings_step_down_until_it_holds_and_are_remembered(env, tmp_path):
    """The engine dies of the longest request: an 8-bit cache, then a shorter context; the next start begins with what worked."""
    dying = {**env, "STAND_IN_MOST_TOKENS": "1600", "STAND_IN_LAST": KV_FAILED, "STAND_IN_SEEN": str(tmp_path / "seen")}
    with up(tmp_path, "less=demo", "--gpu", "cpu", "--context", "2k", env=dying) as running:
        said = running.until("serving")
        assert "out of memory for the KV cache; tried again with --kv-dtype q8_0" in said
        assert "tried again with --context 1536" in said
        status, _ = running.post("/v1/completions", {"model": "less", "prompt": "hi", "max_tokens": 4})
        assert status == 200
        # Longer than what it was proved for: refused by the gateway, by the stepped-down plan, not tried on the engine.
        assert running.post("/v1/completions", {"model": "less", "prompt": "hi", "max_tokens": 1700})[0] == 400
    words = "--ctx-size 1536"
    with up(tmp_path, "less=demo", "--gpu", "cpu", "--context", "2k", env=dying) as running:
        said = running.until("serving")
        assert "as it worked here before" in said
        assert "tried again" not in said
        assert processes_with(words)
    rows = map(json.loads, (tmp_path / "state/vram/learned.jsonl").read_text().splitlines())
    row = next(row for row in rows if "works" in row)
    assert row["source"] == "measured"
    assert row["works"]["context_tokens"] == 1536
    sent = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert max(s["tokens"] for s in sent) >= 1536 - 16


def test_an_engine_that_dies_of_memory_under_requests_goes_on_with_less(env, tmp_path):
    """Not proved, and killed by a client's long request: it comes back with a gentler setting, and that is kept."""
    dying = {**env, "STAND_IN_MOST_TOKENS": "900", "STAND_IN_LAST": COMPUTE_FAILED}
    with up(tmp_path, "late=demo", "--gpu", "cpu", "--no-probe", env=dying) as running:
        running.until("serving")
        running.post("/v1/completions", {"model": "late", "prompt": list(range(10, 500)) * 2, "max_tokens": 4})
        running.until("it goes on with --ubatch 256")
        running.until("late is back")
        assert running.post("/v1/completions", {"model": "late", "prompt": "x", "max_tokens": 4})[0] == 200
    assert json.loads((tmp_path / "state/vram/learned.jsonl").read_text().splitlines()[0])["works"]["ubatch"] == 256


def test_an_exact_start_fails_and_says_what_was_short(env):
    """`--exact` tries nothing gentler: the part and its mend are named."""
    done = vram(
        "up", "x=demo", "--gpu", "cpu", "--port", "0", "--admin-port", "0", "--exact", env={**env, "STAND_IN_FAILS": "9", "STAND_IN_LAST": COMPUTE_FAILED}
    )
    assert done.returncode == ExitCode.ERROR
    assert "out of memory for working memory" in done.stderr
    assert "--ubatch" in done.stderr.split("hint:")[1]
    assert COMPUTE_FAILED in done.stderr


def test_weights_that_do_not_fit_are_no_matter_of_settings(env, tmp_path):
    """No setting makes a file smaller: one try, and the hint speaks of the model."""
    counter = tmp_path / "starts"
    more = {"STAND_IN_FAILS": "9", "STAND_IN_LAST": WEIGHTS_FAILED, "STAND_IN_COUNTER": str(counter)}
    done = vram("up", "x=demo", "--gpu", "cpu", "--port", "0", "--admin-port", "0", env={**env, **more})
    assert done.returncode == ExitCode.ERROR
    assert "out of memory for weights" in done.stderr
    assert "quantization" in done.stderr.split("hint:")[1]
    assert counter.read_text() == "1"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (KV_FAILED, "kv_cache"),
        (COMPUTE_FAILED, "activations"),
        (WEIGHTS_FAILED, "weights"),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4403.49 MiB on device 0: cudaMalloc failed: out of memory", ""),
        ("CUDA error: out of memory", ""),
    ],
)
def test_the_part_that_was_short_is_read_from_the_engines_words(line, part):
    """Each of llama.cpp's failures is of the part that it names."""
    short = LlamaServer().short_of(["all is well", line])
    assert short is not None
    assert short.part == part
    assert LlamaServer().short_of(["srv load_model: loading model", "llama_kv_cache: CPU KV buffer size = 3.00 MiB"]) is None


def placed_of(model, **more):
    wanted = Wanted(name="m", model="m.gguf", **more)
    first = Placed(
        wanted=wanted, model=model, engine=LlamaServer(), here=None, fleet=Fleet.of([HOST]), plan=make_plan(model, Fleet.of([HOST]), engine="llama.cpp")
    )
    return replan(first, wanted)


@settings(max_examples=60)
@given(
    context=st.integers(256, 4096),
    concurrency=st.integers(1, 9),
    ubatch=st.sampled_from([None, 64, 512, 2048]),
    parallel=st.sampled_from([None, 1, 8]),
    part=st.sampled_from(["weights", "kv_cache", "activations", "cuda_graphs", ""]),
)
def test_every_step_goes_down_and_the_steps_come_to_an_end(tiny, context, concurrency, ubatch, parallel, part):
    """However often it fails: no step asks for more than before in anything, and after a bounded number there is none left."""
    placed = placed_of(tiny, context_tokens=context, concurrency=concurrency, ubatch=ubatch, parallel=parallel)
    for _ in range(40):
        found = next(steps(placed.wanted, placed.plan, Short(part=part, said="")), None)
        if found is None:
            break
        after = replan(placed, found.wanted)
        old, new = placed.plan, after.plan
        assert new.workload.context_tokens <= old.workload.context_tokens
        assert new.workload.concurrency <= old.workload.concurrency
        assert new.gpus[0].parts.kv_cache.bytes <= old.gpus[0].parts.kv_cache.bytes
        assert after.wanted != placed.wanted
        placed = after
    else:
        pytest.fail("it never ends")


def test_what_was_learned_holds_for_the_same_plan_alone(tiny, tmp_path):
    """Found again for the plan that failed, not for another; damaged lines are passed over, a later line counts."""
    asked = placed_of(tiny, context_tokens=2048)
    other = placed_of(tiny, context_tokens=1024)
    assert learned(tmp_path, asked.plan, asked.wanted) is None
    learn(tmp_path, asked.plan, replace(asked.wanted, context_tokens=1024), "first")
    learn(tmp_path, asked.plan, replace(asked.wanted, context_tokens=768), "second")
    with (tmp_path / "learned.jsonl").open("a") as file:
        file.write('{"plan": {}\nnull\n[]\n{"plan": 1, "works": 2}\n')
    found = learned(tmp_path, asked.plan, asked.wanted)
    assert found is not None
    assert (found[0].context_tokens, found[1]) == (768, "second")
    assert learned(tmp_path, other.plan, other.wanted) is None


def test_buffers_are_judged_against_their_bands(tiny):
    """Lines as llama-server prints them: what lies in the band is told from what lies outside, and what is missing from both."""
    placed = placed_of(tiny, context_tokens=2048, concurrency=1)
    kv = placed.plan.gpus[0].parts.kv_cache.bytes
    lines = [
        "0.00.024.454 I load_tensors:   CPU_Mapped model buffer size =     1.63 MiB",
        f"0.00.025.544 I llama_kv_cache:        CPU KV buffer size =    {kv / 2**20 + 1:.2f} MiB",
        "0.00.045.246 I sched_reserve:        CPU compute buffer size =     6.00 MiB",
    ]
    found = {b.name: b for b in beside(placed.plan, read_start(lines, "llama.cpp"))}
    assert found["weights"].inside is True
    assert found["kv_cache"].inside is False
    assert found["output"].inside is None
    assert {b.place for b in found.values()} == {"host"}


def test_restarts_wait_longer_each_time_and_end():
    """Doubling waits, then none; who lived long begins anew; deaths of long ago are forgotten."""
    restarts = Restarts()
    waits = [restarts.died(float(i), 0.0) for i in range(6)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, None]
    assert restarts.died(10.0, 1000.0) == 0.5
    spread = Restarts()
    assert all(spread.died(i * 400.0, 10.0) is not None for i in range(50))
