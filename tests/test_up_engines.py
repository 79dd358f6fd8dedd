"""Engines as programs: what their commands say for a plan, and their start from end to end against a scripted stand-in."""

import json
import re
import sys
from dataclasses import replace

import pytest
from upping import environment, stand_in, up, vram

from vram.api import parse_gpus, plan
from vram.errors import ExitCode, UsageError
from vram.hardware.fleet import Fleet, FleetGpu, Origin
from vram.hardware.probe.cpu import cpu_fleet
from vram.runtime.choosing import Finder, choose_engine
from vram.runtime.engines.base import Address, Installed, visible
from vram.runtime.engines.registry import PROGRAMS, program
from vram.runtime.placing import Placed, line_of
from vram.runtime.planning import plan_one
from vram.runtime.tiny import write_tiny
from vram.runtime.wanted import Wanted, wanted_of
from vram.settings import settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")

HERE = Installed(program=("engine",), version="", where="here")
AT = Address(port=7000, name="m")
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
# Start-up lines as SGLang prints them (docs/references and public logs of 2025); their figures are those of the row sgl-llama31-8b-24g-2025-07
# in truth/sglang_startups.jsonl.
SGLANG_LINES = """[2025-07-20 10:00:00] server_args=ServerArgs(model_path='meta-llama/Llama-3.1-8B-Instruct', mem_fraction_static=0.83, tp_size=1)
[2025-07-20 10:00:05] Init torch distributed ends. mem usage=0.00 GB
[2025-07-20 10:00:06] Load weight begin. avail mem=22.39 GB
[2025-07-20 10:00:20] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=7.37 GB, mem usage=15.02 GB.
[2025-07-20 10:00:21] KV Cache is allocated. #tokens: 38141, K size: 2.33 GB, V size: 2.33 GB
[2025-07-20 10:00:22] Memory pool end. avail mem=2.57 GB
[2025-07-20 10:00:30] Capture cuda graph end. Time elapsed: 6.04 s. mem usage=0.11 GB. avail mem=2.33 GB.
[2025-07-20 10:00:31] max_total_num_tokens=38141, chunked_prefill_size=2048, max_prefill_tokens=16384, max_running_requests=2048, context_len=131072
[2025-07-20 10:00:32] The server is fired up and ready to roll!
"""


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def placed(engine, reference, gpu, **more):
    wanted = Wanted(name="m", model=str(reference), engine=engine, **more)
    from vram.api import load_model

    found, one, fleet = load_model(str(reference)), program(engine), parse_gpus(gpu) if isinstance(gpu, str) else gpu
    return Placed(wanted=wanted, model=found, engine=one, here=HERE, fleet=fleet, plan=plan_one(wanted, found, fleet, one, HERE))


def after(words, flag):
    return words[words.index(flag) + 1]


def test_vllm_and_sglang_get_the_plans_settings(model):
    """Context, sequences, share and type of the cache stand in the flags by the engines' own names, and the name that clients ask for."""
    settings_of = {"context_tokens": 16384, "max_num_seqs": 64, "gpu_memory_utilization": 0.85, "kv_dtype": "fp8"}
    words = line_of(placed("vllm", model, "RTX 4090", **settings_of), AT).words
    assert words[:3] == ("engine", "serve", str(model))
    assert (after(words, "--max-model-len"), after(words, "--max-num-seqs"), after(words, "--gpu-memory-utilization")) == ("16384", "64", "0.85")
    assert (after(words, "--kv-cache-dtype"), after(words, "--port"), after(words, "--served-model-name")) == ("fp8", "7000", "m")
    words = line_of(placed("sglang", model, "RTX 4090", **settings_of), AT).words
    assert (after(words, "--context-length"), after(words, "--max-running-requests"), after(words, "--mem-fraction-static")) == ("16384", "64", "0.85")
    assert (after(words, "--kv-cache-dtype"), after(words, "--port"), after(words, "--served-model-name")) == ("fp8_e4m3", "7000", "m")


def test_vllm_on_a_cpu_is_planned_for_the_processor(model, tmp_path, monkeypatch):
    """AMX, AVX512-BF16, AVX-512 and less are four sets of rules; FP8 keys and values are refused where vLLM has no kernel, before it starts."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho version 0.32.0+cpu\n")
    python.chmod(0o755)
    found = {}
    for name, flags in {"amx": {"avx512f", "avx512_bf16", "amx_tile"}, "bf16": {"avx512f", "avx512_bf16"}, "avx512": {"avx512f"}, "old": {"avx2"}}.items():
        monkeypatch.setattr("vram.runtime.engines.vllm.instruction_sets", lambda flags=flags: frozenset(flags))
        found[name] = program("vllm").find(replace(settings(), vllm_python=python))
    assert [f.version for f in found.values()] == ["0.32.0+cpu.amx", "0.32.0+cpu", "0.32.0+cpu.avx512", "0.32.0+cpu.plain"]
    assert {f.release for f in found.values()} == {"0.32.0+cpu"}
    one = placed("vllm", model, cpu_fleet(), context_tokens=1024, kv_dtype="fp8")
    assert after(line_of(replace(one, here=found["avx512"]), AT).words, "--kv-cache-dtype") == "fp8"
    with pytest.raises(UsageError, match="AVX-512"):
        line_of(replace(one, here=found["old"]), AT)


def test_llama_cpp_gets_the_plans_slots_and_layers(tmp_path):
    """llama-server: slots that share a cache as planned, all layers on GPUs; llama_cpp.server: one slot, its own names."""
    path = write_tiny(tmp_path / "t.gguf")
    words = line_of(placed("llama-server", path, "RTX 4090", context_tokens=1024, concurrency=8, kv_dtype="q8_0", ubatch=256), AT).words
    assert (after(words, "--ctx-size"), after(words, "--parallel"), after(words, "--n-gpu-layers")) == ("8192", "8", "999")
    assert (after(words, "--cache-type-k"), after(words, "--ubatch-size"), after(words, "--host")) == ("q8_0", "256", "127.0.0.1")
    one = placed("llama_cpp.server", path, "RTX 4090", context_tokens=1024, kv_dtype="q8_0")
    words = line_of(one, AT).words
    assert one.plan.settings.parallel == 1
    assert (after(words, "--n_ctx"), after(words, "--type_k"), after(words, "--n_gpu_layers"), after(words, "--model_alias")) == ("1024", "8", "-1", "m")
    assert after(words, "--interrupt_requests") == "false"


def test_an_engine_sees_its_own_gpus_and_no_others(model):
    """By UUID where the driver gives one, by number else; named GPUs that are not of this machine hide nothing."""
    card = parse_gpus("RTX 4090").gpus[0].gpu
    here = Fleet(gpus=(FleetGpu(gpu=card, index=0, identifier="GPU-aaa"), FleetGpu(gpu=card, index=1, identifier="GPU-bbb")), origin=Origin.DETECTED)
    assert line_of(placed("vllm", model, here.only([1])), AT).variables["CUDA_VISIBLE_DEVICES"] == "GPU-bbb"
    both = line_of(placed("vllm", model, here, tp=2), AT)
    assert both.variables["CUDA_VISIBLE_DEVICES"] == "GPU-aaa,GPU-bbb"
    assert "CUDA_VISIBLE_DEVICES" not in line_of(placed("vllm", model, "RTX 4090"), AT).variables
    assert visible("AMD", ["0"]) == {"HIP_VISIBLE_DEVICES": "0"}
    assert visible("host", ["0"])["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("engine", "line", "part"),
    [
        ("vllm", "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.", "kv_cache"),
        (
            "vllm",
            "ValueError: To serve at least one request with the models's max seq len (8192), (1.0 GiB KV cache is needed, which is larger than",
            "kv_cache",
        ),
        ("vllm", "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try lowering", "activations"),
        ("vllm", "ValueError: Free memory on device (10.1/23.6 GiB) on startup is less than desired GPU memory utilization (0.9, 21.3 GiB).", "free"),
        ("vllm", "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free memory for weights", "weights"),
        ("sglang", "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.", "kv_cache"),
        ("sglang", "Exception: Capture cuda graph failed: CUDA out of memory.", "cuda_graphs"),
        ("sglang", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1002.00 MiB.", ""),
    ],
)
def test_what_was_short_is_read_from_each_engines_words(engine, line, part):
    """Their own messages, each of the part that it names."""
    short = program(engine).short_of(["INFO something else", line])
    assert short is not None
    assert short.part == part


def test_the_engine_that_is_here_and_can_load_the_model_is_chosen(tmp_path, model):
    """A GGUF goes to llama.cpp, safetensors to vLLM; where none is here the way to install one is told."""
    from vram.api import load_model

    gguf = write_tiny(tmp_path / "t.gguf")
    found = settings({"VRAM_LLAMA_SERVER": str(stand_in(tmp_path)), "VRAM_VLLM_PYTHON": "/nowhere/python", "VRAM_SGLANG_PYTHON": "/nowhere/python"})
    finder, fleet = Finder(found), parse_gpus("RTX 4090")
    chosen, here = choose_engine(Wanted(name="m", model=str(gguf)), load_model(str(gguf)), fleet, finder, dry=False)
    assert chosen.name == "llama-server"
    assert here is not None
    assert here.version == "b11434"
    with pytest.raises(UsageError) as missing:
        choose_engine(Wanted(name="m", model=str(model)), load_model(str(model)), fleet, finder, dry=False)
    assert "pip install vllm" in missing.value.hint
    assert choose_engine(Wanted(name="m", model=str(model)), load_model(str(model)), fleet, finder, dry=True)[0].name == "vllm"
    # Who refuses it is followed by who would take it, and by nobody else.
    with pytest.raises(UsageError, match="GGUF") as refused:
        choose_engine(Wanted(name="m", model=str(model), engine="llama-server"), load_model(str(model)), fleet, finder, dry=False)
    assert "pip install vllm" in refused.value.hint
    with pytest.raises(UsageError, match="GGUF") as refused:
        choose_engine(Wanted(name="m", model=str(gguf), engine="vllm"), load_model(str(gguf)), fleet, finder, dry=True)
    assert "--engine llama-server" in refused.value.hint
    assert not any(name in refused.value.hint for name in ("vllm", "sglang", "ollama"))
    # It is not here either: who would refuse the model is not to be installed for it.
    with pytest.raises(UsageError, match="GGUF") as refused:
        choose_engine(Wanted(name="m", model=str(gguf), engine="vllm"), load_model(str(gguf)), fleet, finder, dry=False)
    assert "pip install" not in refused.value.hint
    assert [program(name).name for name in PROGRAMS] == list(PROGRAMS)


def test_names_for_clients(tmp_path):
    """A path is called as its file, NAME=MODEL as its name, a hub id as it is; a file whose name holds `=` is a file."""
    path = tmp_path / "a=b.gguf"
    path.touch()
    assert wanted_of(str(path)) == ("a=b", str(path))
    assert wanted_of(f"chat={path}") == ("chat", str(path))
    assert wanted_of("org/name") == ("org/name", "org/name")
    assert wanted_of(str(tmp_path)) == (tmp_path.name, str(tmp_path))
    for bad in ("", "=x", "x=", "a\x1b=b"):
        with pytest.raises(UsageError):
            wanted_of(bad)


def test_sglang_is_started_read_and_served(tmp_path, model):
    """Its launch command, its start-up log beside the plan, its metrics' names: through the gateway to an answer."""
    says = tmp_path / "says"
    says.write_text(SGLANG_LINES)
    env = environment(tmp_path, VRAM_SGLANG_PYTHON=str(stand_in(tmp_path, "sglang")), STAND_IN_SAYS=str(says))
    args = ("chat=" + str(model), "--engine", "sglang", "--context", "8k", "--max-num-seqs", "16")
    dry = vram("up", *args, "--gpu", "RTX 4090", "--dry-run", env=env)
    assert dry.returncode in {ExitCode.OK, ExitCode.DOES_NOT_FIT}, dry.stderr
    assert "-m sglang.launch_server" in dry.stdout
    assert "--max-running-requests 16" in dry.stdout
    # The card of that log is not here: the program is told that it may use a card that is only named.
    with up(tmp_path, *args, "--gpu", "RTX 4090", "--assume-gpu", "--no-probe", "--json", env=env) as running:
        said = running.until("serving")
        assert "chat is ready" in said
        assert "15.02 GiB" in said
        assert running.post("/v1/chat/completions", {"model": "chat", "messages": []})[0] == 200


def test_the_operators_words_are_added_as_they_are(tmp_path):
    """--engine-arg stands at the end of the command, unchanged."""
    stand_in(tmp_path)
    env = environment(tmp_path)
    done = vram("up", "demo", "--gpu", "cpu", "--dry-run", "--json", "--engine-arg=--threads", "--engine-arg=2", env=env)
    assert json.loads(done.stdout)["models"][0]["words"][-2:] == ["--threads", "2"]


def test_more_sequences_than_an_engine_has_slots_is_said(tmp_path):
    """llama_cpp.server answers one request at a time."""
    gguf = write_tiny(tmp_path / "t.gguf")
    done = vram("up", str(gguf), "--gpu", "cpu", "--engine", "llama_cpp.server", "--concurrency", "2", "--dry-run", env=environment(tmp_path))
    assert done.returncode == ExitCode.USAGE
    assert "one request at a time" in done.stderr


def test_a_plan_in_main_memory_reserves_no_more_than_is_needed(model):
    """vLLM on the host: a pool for the sequences that are wanted, not all of memory; the plan is that of the flag."""
    from vram.hardware.gpu import Gpu

    gpu = Gpu(name="CPU", vendor="host", architecture="host", capacity_bytes=2**36, capacity_source="stated", marketing_bytes=2**36, unified_memory=True)
    one = placed("vllm", model, Fleet.of([gpu]), context_tokens=4096, concurrency=3)
    # 128 KiB a token at 16 bits, as published for this shape.
    needed = 3 * 4096 * 128 * 1024
    words = line_of(one, AT).words
    assert needed <= int(after(words, "--kv-cache-memory-bytes")) <= 1.3 * needed
    assert "--gpu-memory-utilization" not in words
    assert plan(one.model, gpu="24GiB", engine="vllm", context_tokens=4096).kv_pool.bytes_per_gpu != one.plan.kv_pool.bytes_per_gpu


@pytest.mark.parametrize("setting", [{"gpu_layers": 10}, {"gpu_layers": 0}, {"tensor_split": (3.0, 1.0)}], ids=str)
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_layers_are_not_dealt_by_engines_that_take_no_word_of_it(model, engine, setting):
    """vLLM and SGLang put all layers on GPUs: what they would not follow is refused, and who does is named."""
    (name,) = setting
    with pytest.raises(UsageError, match=f"{engine} takes no --{name.replace('_', '-')}") as caught:
        placed(engine, model, "2x H100 SXM 80GB", **setting)
    assert "llama-server and llama_cpp.server" in caught.value.hint


@pytest.mark.parametrize("engine", ["llama-server", "llama_cpp.server"])
def test_layers_on_gpus_are_refused_where_there_is_none(tmp_path, engine):
    """In main memory all layers lie there: shares and a number of layers on GPUs are errors, none on GPUs is what is planned; nor has one GPU two shares."""
    path = write_tiny(tmp_path / "t.gguf")
    for setting, flag in (({"gpu_layers": 1}, "--gpu-layers"), ({"tensor_split": (1.0,)}, "--tensor-split"), ({"tensor_split": (3.0, 1.0)}, "--tensor-split")):
        with pytest.raises(UsageError, match=f"{flag} has no effect without a GPU"):
            placed(engine, path, cpu_fleet(), context_tokens=1024, **setting)
    words = line_of(placed(engine, path, cpu_fleet(), context_tokens=1024, gpu_layers=0), AT).words
    assert after(words, "--n-gpu-layers" if engine == "llama-server" else "--n_gpu_layers") == "0"
    with pytest.raises(UsageError, match="2 shares for 1 GPU"):
        placed(engine, path, "RTX 4090", context_tokens=1024, tensor_split=(3.0, 1.0))


@pytest.mark.parametrize("engine", ["llama-server", "llama_cpp.server"])
def test_what_is_proposed_in_place_of_tp_is_an_option_of_up(tmp_path, engine):
    """llama.cpp deals layers: the hint names no option that `vram up` has not."""
    from vram.api import load_model
    from vram.cli.up import command

    gguf = write_tiny(tmp_path / "t.gguf")
    with pytest.raises(UsageError) as refused:
        plan_one(Wanted(name="m", model=str(gguf), engine=engine, tp=2), load_model(str(gguf)), parse_gpus("2x RTX 4090"), program(engine), None)
    known = {opt for p in command.params for opt in p.opts}
    assert set(re.findall(r"--[a-z-]+", refused.value.hint)) <= known


def test_a_card_is_named_by_its_number_as_elsewhere(monkeypatch):
    """`--gpu 4090` means the card here too; `--gpu 3` is the fourth of this machine, and where there is none it says what can be done."""
    from vram.errors import HardwareNotFoundError
    from vram.hardware import probe
    from vram.runtime import choosing

    def none():
        raise HardwareNotFoundError("none")

    monkeypatch.setattr(probe, "detect", none)
    assert choosing.fleet_of("4090", dry=True).gpus[0].gpu.name == "RTX 4090 24GB"
    with pytest.raises(UsageError, match="no RTX 4090 24GB"):
        choosing.fleet_of("4090", dry=False)
    with pytest.raises(UsageError, match="no 3") as refused:
        choosing.fleet_of("3", dry=False)
    assert "--gpu cpu" in refused.value.hint
