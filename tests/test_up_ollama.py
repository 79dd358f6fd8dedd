"""Ollama under `vram up`, against a stand-in: its environment, the request that loads, its log beside the plan, its end."""

import json
import sys
import time
from dataclasses import replace

import pytest
from data.make_gguf import preset
from ollama_store import keep, llama_3b
from upping import alive, environment, gone, processes_with, stand_in, up, vram

from vram.api import load_model, parse_gpus
from vram.cli.render.up import command_text
from vram.errors import ExitCode, UsageError
from vram.hardware.probe.cpu import cpu_fleet
from vram.planner.launch import layers_dealt
from vram.runtime.choosing import Finder, choose_engine
from vram.runtime.engines.base import Address, Installed
from vram.runtime.engines.registry import program
from vram.runtime.placing import Placed, line_of
from vram.runtime.planning import plan_one
from vram.runtime.tiny import write_tiny
from vram.runtime.wanted import Wanted, wanted_of
from vram.settings import settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")

AT = Address(port=7000, name="llama3.2:3b")
REFERENCE = "ollama:llama3.2:3b"
# Lines of Ollama's sources (llm/llama_server.go, server/sched.go, v0.32.15) around what llama-server prints beneath it; the buffers are those of
# a load of llama3.2:3b in Ollama's own tests (llm/llama_server_test.go, v0.30.0), the lines of the context those of writeragent#570 (September 2026).
LOAD = """time=2026-08-21T18:48:23.000Z level=INFO source=sched.go:611 msg="system memory" total="62.7 GiB" free="56.0 GiB" free_swap="8.0 GiB"
time=2026-08-21T18:48:23.001Z level=INFO source=llama_server.go:398 msg="starting llama-server" cmd="/usr/lib/ollama/llama-server --model /m -c 4096 -np 1"
time=2026-08-21T18:48:23.002Z level=INFO source=llama_server.go:1049 msg="loading model via llama-server" model=/m
llama_model_loader: loaded meta data with 30 key-value pairs and 255 tensors from /m (version GGUF V3 (latest))
load_tensors: offloaded 29/29 layers to GPU
load_tensors:        ROCm0 model buffer size =  1918.35 MiB
load_tensors:   CPU_Mapped model buffer size =   308.23 MiB
llama_context: n_seq_max     = 1
llama_context: n_ctx         = 4096
llama_context: n_ctx_seq     = 4096
llama_context: n_batch       = 512
llama_context: n_ubatch      = 512
llama_kv_cache:      ROCm0 KV buffer size =   448.00 MiB
sched_reserve:      ROCm0 compute buffer size =   256.50 MiB
sched_reserve:  ROCm_Host compute buffer size =    20.01 MiB
time=2026-08-21T18:48:25.000Z level=INFO source=llama_server.go:1357 msg="llama-server started in 2.00 seconds"
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv("OLLAMA_MODELS", str(folder))
    return folder


def placed(gpu="RTX 4090", version="0.32.15", **more):
    wanted, one, fleet = Wanted(name="m", model=REFERENCE, engine="ollama", **more), program("ollama"), parse_gpus(gpu) if isinstance(gpu, str) else gpu
    here, model = Installed(program=("ollama",), version=version, where="here"), load_model(REFERENCE)
    return Placed(wanted=wanted, model=model, engine=one, here=here, fleet=fleet, plan=plan_one(wanted, model, fleet, one, here))


def test_the_plan_stands_in_its_environment(store):
    """Every setting by the name of envconfig/config.go: where it listens, slots, context, cache, one model that stays, nothing fitted anew."""
    keep(store, llama_3b())
    one = placed(context_tokens=8192, concurrency=4, kv_dtype="q8_0")
    made = line_of(one, AT)
    assert made.words == ("ollama", "serve")
    assert {n: made.variables[n] for n in ("OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_NUM_PARALLEL", "OLLAMA_KV_CACHE_TYPE")} == {
        "OLLAMA_HOST": "127.0.0.1:7000",
        "OLLAMA_MODELS": str(store),
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
    }
    assert (made.variables["OLLAMA_FLASH_ATTENTION"], made.variables["OLLAMA_KEEP_ALIVE"], made.variables["OLLAMA_MAX_LOADED_MODELS"]) == ("1", "-1", "1")
    assert (made.variables["LLAMA_ARG_FIT"], made.variables["OLLAMA_NOPRUNE"], made.variables["OLLAMA_SCHED_SPREAD"]) == ("off", "1", "0")
    # A variable that the user has set for another server does not leak into the plan.
    assert line_of(placed(context_tokens=8192), AT).variables["OLLAMA_KV_CACHE_TYPE"] == "f16"
    assert line_of(placed("2x RTX 4090", context_tokens=8192), AT).variables["OLLAMA_SCHED_SPREAD"] == "1"
    assert "LLAMA_ARG_FIT" not in line_of(placed(version="0.17.6", context_tokens=8192), AT).variables
    assert one.alias == "llama3.2:3b"


@pytest.mark.parametrize(
    ("gpu", "context", "slots", "version", "batch"),
    # automaticGenerationBatch of server/sched.go: above 4,096 tokens of all slots 1,024, above 32,768 2,048, each only where the model leaves room.
    [
        ("RTX 4090", 4096, 1, "0.32.15", 512),
        ("RTX 4090", 4097, 1, "0.32.15", 1024),
        ("RTX 4090", 4096, 2, "0.32.15", 1024),
        ("RTX 4090", 32768, 2, "0.32.15", 2048),
        # 1.9 GiB and 3.5 GiB of cache are more than 60 % of 8 GiB, and leave no 768 MiB below 80 %.
        ("RTX 4060 8GB", 32768, 1, "0.32.15", 1024),
        ("RTX 4060 8GB", 49152, 1, "0.32.15", 512),
        ("RTX 4090", 32768, 2, "0.29.0", None),
    ],
)
def test_the_batch_that_it_chooses_is_planned(store, gpu, context, slots, version, batch):
    """Nobody can tell it another without reloading: the plan takes what it will take."""
    keep(store, llama_3b())
    assert placed(gpu, version, context_tokens=context, concurrency=slots).plan.settings.ubatch == batch


def test_what_it_would_not_follow_is_refused(store):
    """num_ctx of the Modelfile goes before the variable, a batch is its own to choose, some architectures get one slot."""
    keep(store, preset("llama3.2-1b"), parameters={"num_ctx": 16384})
    assert placed().plan.workload.context_tokens == 16384
    with pytest.raises(UsageError, match="num_ctx 16384") as caught:
        placed(context_tokens=4096)
    assert "--context 16384" in caught.value.hint
    with pytest.raises(UsageError, match="batch of 1024") as caught:
        placed(ubatch=256)
    assert "--ubatch" in caught.value.hint
    with pytest.raises(UsageError, match="ollama takes no --gpu-layers"):
        placed(gpu_layers=4)
    keep(store, preset("qwen3-next-80b"))
    with pytest.raises(UsageError, match="one request at a time"):
        placed("H100 SXM 80GB", context_tokens=4096, concurrency=2)


def test_no_layer_on_gpus_is_what_is_planned_for_main_memory(store):
    """A Modelfile's num_gpu 0 is refused on a GPU and followed without one; a number of layers is refused on both."""
    keep(store, llama_3b(), parameters={"num_gpu": 0})
    assert placed(cpu_fleet(), context_tokens=4096).plan.gpus[0].parts.weights.bytes > 0
    with pytest.raises(UsageError, match="num_gpu 0"):
        placed(context_tokens=4096)
    keep(store, llama_3b(), parameters={"num_gpu": 5})
    with pytest.raises(UsageError, match="num_gpu 5"):
        placed(cpu_fleet(), context_tokens=4096)


def test_what_is_shown_of_a_model_of_the_store(store, tmp_path):
    """It is a GGUF also where no tensor is quantised, and where it will listen is not known yet."""
    keep(store, write_tiny(tmp_path / "t.gguf").read_bytes())
    one = placed(context_tokens=1024)
    assert {t.format.name for t in one.model.tensors} <= {"F32", "F16", "BF16"}
    shown = command_text(one)
    assert "GGUF" not in shown
    assert "OLLAMA_HOST=127.0.0.1:PORT" in shown


def test_who_runs_a_model_of_the_store(store, tmp_path):
    """Ollama where it is here, else llama-server with the file itself; never what takes no GGUF; and no file goes to Ollama."""
    keep(store, llama_3b())
    nowhere = {"VRAM_VLLM_PYTHON": "/nowhere/python", "VRAM_SGLANG_PYTHON": "/nowhere/python", "VRAM_LLAMA_SERVER": str(stand_in(tmp_path))}
    model, fleet = load_model(REFERENCE), parse_gpus("RTX 4090")
    both = Finder(settings({**nowhere, "VRAM_OLLAMA": str(stand_in(tmp_path, "ollama"))}))
    wanted = Wanted(name="m", model=REFERENCE)
    assert choose_engine(wanted, model, fleet, both, dry=False)[0].name == "ollama"
    one, here = choose_engine(wanted, model, fleet, Finder(settings({**nowhere, "VRAM_OLLAMA": "/nowhere/ollama"})), dry=False)
    assert one.name == "llama-server"
    made = Placed(wanted=wanted, model=model, engine=one, here=here, fleet=fleet, plan=plan_one(wanted, model, fleet, one, here))
    words = line_of(made, AT).words
    assert words[words.index("--model") + 1].startswith(str(store / "blobs" / "sha256-"))
    # Two cards: its layers are dealt in the command, as those of any other file.
    two = parse_gpus("2x RTX 4090")
    dealt = replace(made, fleet=two, plan=plan_one(wanted, model, two, one, here))
    words = line_of(dealt, AT).words
    assert words[words.index("--tensor-split") + 1] == ",".join(map(str, layers_dealt(dealt.plan)))
    with pytest.raises(UsageError, match="GGUF"):
        choose_engine(Wanted(name="m", model=REFERENCE, engine="vllm"), model, fleet, both, dry=True)
    with pytest.raises(UsageError, match="its own store"):
        choose_engine(Wanted(name="m", model=str(tmp_path / "x.gguf"), engine="ollama"), model, fleet, both, dry=True)
    assert wanted_of(REFERENCE) == ("llama3.2:3b", REFERENCE)
    assert wanted_of(f"chat={REFERENCE}") == ("chat", REFERENCE)


def started(tmp_path, **more):
    says = tmp_path / "says"
    says.write_text(LOAD)
    program = str(stand_in(tmp_path, "ollama"))
    base = {"VRAM_OLLAMA": program, "STAND_IN_SAYS": str(says), "STAND_IN_MODEL": "llama3.2:3b", "STAND_IN_VERSION": "ollama version is 0.30.0"}
    return environment(tmp_path, OLLAMA_MODELS=str(tmp_path / "models"), **base, **more)


def test_it_is_started_loaded_measured_proved_and_ended(store, tmp_path):
    """From the store to an answer: the load by a request, its log beside the plan, the worst request, its own name on the wire, and no process left."""
    keep(store, llama_3b())
    env = started(tmp_path, STAND_IN_SEEN=str(tmp_path / "seen"), STAND_IN_VARIABLES=str(tmp_path / "variables"), OLLAMA_KV_CACHE_TYPE="q4_0")
    args = (f"chat={REFERENCE}", "--context", "4k", "--gpu", "RX 7900 XTX")
    dry = vram("up", *args, "--dry-run", env=env)
    assert dry.returncode == ExitCode.OK, dry.stderr
    assert "OLLAMA_CONTEXT_LENGTH=4096" in dry.stdout
    assert "ollama serve" in dry.stdout
    with up(tmp_path, *args, "--assume-gpu", env=env) as running:
        said = running.until("serving")
        assert "1.87 GiB" in said
        assert "outside" not in said
        variables = json.loads((tmp_path / "variables").read_text())
        assert (variables["OLLAMA_CONTEXT_LENGTH"], variables["OLLAMA_KV_CACHE_TYPE"]) == ("4096", "f16")
        proof = json.loads((tmp_path / "seen").read_text().splitlines()[0])
        assert proof["path"] == "/v1/completions"
        status, body = running.post("/v1/chat/completions", {"model": "chat", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3})
        assert status == 200, body
        pids = [p for p in processes_with("stand_in.py") if any(str(tmp_path) in w for w in _words(p))]
        assert running.end() == 0
    assert gone(pids, 10)


def _words(pid):
    from pathlib import Path

    return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")


def test_a_model_that_only_embeds_is_loaded_by_another_request(store, tmp_path):
    """/api/generate refuses it (400); /api/embed without input loads it."""
    keep(store, llama_3b())
    with up(
        tmp_path, f"chat={REFERENCE}", "--context", "4k", "--gpu", "RX 7900 XTX", "--assume-gpu", "--no-probe", env=started(tmp_path, STAND_IN_EMBEDS="1")
    ) as running:
        assert "chat is ready" in running.until("serving")


def test_a_load_that_fails_says_why_and_leaves_nothing(store, tmp_path):
    """Its server lives on when its runner dies: the answer's words are told, a gentler setting is tried, and the server is ended each time."""
    keep(store, llama_3b())
    env = started(tmp_path, STAND_IN_LOAD_FAILS="1")
    args = (f"chat={REFERENCE}", "--context", "4k", "--gpu", "RX 7900 XTX", "--assume-gpu")
    began = time.monotonic()
    done = vram("up", *args, "--exact", "--port", "0", "--admin-port", "0", env=env)
    assert done.returncode == ExitCode.ERROR
    assert "did not load it" in done.stderr
    assert "out of memory" in done.stderr
    done = vram("up", *args, "--port", "0", "--admin-port", "0", env=env, seconds=120)
    assert "tried again with --kv-dtype q8_0" in done.stderr
    assert "--ubatch" not in done.stderr
    assert time.monotonic() - began < 100
    assert not [p for p in processes_with("stand_in.py") if any(str(tmp_path) in w for w in _words(p)) and alive(p)]


def test_a_model_that_the_store_lost_is_one_error(store, tmp_path):
    """`vram up` of what is not there: not found, with how it is fetched."""
    keep(store, llama_3b())
    done = vram("up", "ollama:llama3.2:1b", "--gpu", "RTX 4090", "--dry-run", env=started(tmp_path))
    assert done.returncode == ExitCode.MODEL_UNREADABLE
    assert "ollama pull llama3.2:1b" in done.stderr
