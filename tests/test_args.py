"""`vram args`: commands that shells take as they are, with flags that the engines have, saying what was planned."""

import json
import os
import shlex
import subprocess
import sys
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vram as package
from vram.engines.args.base import Launch
from vram.engines.args.registry import TARGETS, command_for, engine_of
from vram.engines.registry import ENGINE_NAMES
from vram.errors import UsageError
from vram.planner.launch import launch_of

SCHEMA = json.loads((files("vram") / "schemas" / "args.json").read_text())
SHELL = ("vllm", "sglang", "llama.cpp", "tgi")

# Flags as their engines document them.
FLAGS = {
    # EngineArgs of vllm/engine/arg_utils.py, 0.8.5 and 0.32.0
    "vllm": "--tensor-parallel-size --pipeline-parallel-size --enable-expert-parallel --max-model-len --gpu-memory-utilization --kv-cache-memory-bytes --max-num-seqs --max-num-batched-tokens --block-size --kv-cache-dtype --quantization --revision --model --enforce-eager --enable-prefix-caching --no-enable-prefix-caching",
    # docs.sglang.io/advanced_features/server_arguments.html
    "sglang": "--model-path --revision --tp-size --pp-size --ep-size --context-length --mem-fraction-static --max-total-tokens --max-running-requests --chunked-prefill-size --page-size --kv-cache-dtype --quantization --disable-cuda-graph",
    # common/arg.cpp of llama.cpp b11434
    "llama.cpp": "--model -hf --ctx-size --parallel --kv-unified --no-kv-unified --n-gpu-layers --split-mode --tensor-split --cache-type-k --cache-type-v --flash-attn --ubatch-size --batch-size",
    # huggingface.co/docs/text-generation-inference/reference/launcher
    "tgi": "--model-id --revision --num-shard --max-total-tokens --max-input-tokens --max-batch-prefill-tokens --max-batch-total-tokens --max-concurrent-requests --cuda-memory-fraction --kv-cache-dtype --quantize",
    # docs/modelfile.md of ollama/ollama
    "ollama": "FROM PARAMETER",
}
FLAGS["compose"] = FLAGS["vllm"]

LAUNCHES = st.builds(
    Launch,
    model=st.sampled_from(
        [
            "Qwen/Qwen3-8B",
            "./my model",
            "-x",
            "$(touch pwned)",
            "a'b\"c`d",
            "org/name:Q4_K_M",
            "ünïcode/модель",
            "# no comment",
            "a; rm -rf b",
            "${HOME}",
            "x" * 500,
        ]
    ),
    revision=st.sampled_from(["", "main", "v1.0'; echo"]),
    version=st.just(""),
    tp=st.sampled_from([1, 2]),
    pp=st.sampled_from([1, 2]),
    ep=st.booleans(),
    context_tokens=st.integers(1, 2**20),
    concurrency=st.integers(1, 2000),
    kv_dtype=st.sampled_from(["", "fp8", "bf16", "f16", "q8_0", "q8_0/q4_0"]),
    quant=st.sampled_from(["", "fp8", "awq", "Q4_K_M", "bnb-4bit"]),
    utilization=st.none() | st.floats(0.01, 1),
    max_num_seqs=st.none() | st.integers(1, 4096),
    max_batched_tokens=st.none() | st.integers(1, 65536),
    block_size=st.none() | st.sampled_from([16, 64]),
    kv_pool_bytes=st.none() | st.integers(0, 2**40),
    ubatch=st.none() | st.integers(1, 4096),
    parallel=st.none() | st.integers(1, 64),
    kv_unified=st.none() | st.booleans(),
    enforce_eager=st.booleans(),
    prefix_caching=st.none() | st.booleans(),
    gpu_layers=st.none() | st.integers(0, 100),
    tensor_split=st.sampled_from([(), (3.0, 1.0)]),
    flash_attention=st.booleans(),
    capacity_tokens=st.none() | st.integers(1, 10**7),
    vendor=st.sampled_from(["NVIDIA", "AMD"]),
    gpus=st.sampled_from([1, 2]),
    is_path=st.booleans(),
    is_gguf=st.booleans(),
)


def written(target, launch):
    try:
        return command_for(target, launch)
    except UsageError:
        return None


def run(*args):
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-m", "vram", "args", *args], capture_output=True, text=True, check=False, timeout=60, env=env)


@pytest.mark.parametrize("target", SHELL)
@given(launch=LAUNCHES)
def test_a_shell_reads_exactly_the_words_that_were_meant(target, launch):
    """Whatever a model is called: a shell splits the text, comments left out, into program and flags, and into nothing else."""
    made = written(target, launch)
    if made is None:
        return
    words = shlex.split(made.text.replace(" \\\n", " "), comments=True)  # shlex knows no continued lines
    assert words == [*made.program, *(w for f in made.flags for w in f.words)]
    assert all(line.startswith(("#", " ", shlex.quote(made.program[0]))) for line in made.text.splitlines())


@pytest.mark.parametrize("target", TARGETS)
@given(launch=LAUNCHES)
def test_only_flags_that_the_engine_has(target, launch):
    """Every flag stands in the engine's own documentation; every one but the model's has its reason."""
    made = written(target, launch)
    if made is None:
        return
    for flag in made.flags:
        assert flag.words[0] in FLAGS[target].split()
        assert flag.reason or launch.model.lstrip("./-") in " ".join(flag.words) or flag.words[-1] == "/model"


@pytest.mark.parametrize("target", SHELL)
def test_a_real_shell_runs_nothing_of_a_hostile_name(target, tmp_path):
    """sh itself passes the name on as one word and runs no part of it."""
    name = "$(touch pwned)`touch pwned`;touch pwned\"'&|>pwned"
    made = command_for(target, Launch(model=name, context_tokens=8, concurrency=1, is_path=True))
    for program in {made.program[0], "python3"}:
        (tmp_path / program).write_text('#!/bin/sh\nfor a in "$@"; do printf "%s\\n" "$a"; done\n')
        (tmp_path / program).chmod(0o755)
    done = subprocess.run(["sh", "-c", made.text], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    assert name in done.stdout.splitlines()
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["a\nFROM evil", "a\x1b[31m", "", "a\x00b", "a\u2028b", "x" * 5000, "a\rb"])
def test_names_that_no_line_can_carry_are_refused(target, name):
    """Line breaks and control characters would start lines of their own."""
    with pytest.raises(UsageError):
        command_for(target, Launch(model=name, context_tokens=8, concurrency=1))


@given(launch=LAUNCHES)
def test_a_modelfile_has_one_line_for_each_instruction(launch):
    """An Ollama Modelfile: comments, FROM first, PARAMETER lines with one value."""
    made = written("ollama", launch)
    if made is None:
        return
    lines = [line for line in made.text.splitlines() if not line.startswith("#")]
    assert lines[0].startswith("FROM ")
    assert all(len(line.split()) == 3 and line.startswith("PARAMETER ") for line in lines[1:])


@given(launch=LAUNCHES)
def test_compose_quotes_every_word(launch):
    """Every word of the command is a JSON string, and no `$` is left that compose would read as a variable."""
    made = written("compose", launch)
    if made is None:
        return
    block = made.text.split("    command:\n")[1].split("    ipc:")[0]
    words = [json.loads(line.strip()[2:]) for line in block.splitlines() if line.strip().startswith("- ")]
    assert [w.replace("$$", "$") for w in words] == [w for f in made.flags for w in f.words]
    assert all(w.replace("$$", "").count("$") == 0 for w in words)


def test_every_target_plans_with_rules_that_exist():
    """The engine behind each target is one that has rules."""
    assert {engine_of(t) for t in TARGETS} <= set(ENGINE_NAMES)
    with pytest.raises(UsageError, match="no target"):
        engine_of("vlllm")


def test_flags_say_what_was_planned():
    """A plan's split, length, KV type, share and pool come back as flags, number by number."""
    plan = package.plan(
        "Qwen/Qwen3-8B",
        gpu="2x RTX 4090",
        engine="vllm@0.19.0",
        context_tokens=16384,
        concurrency=8,
        kv_dtype="fp8",
        gpu_memory_utilization=0.85,
        max_num_seqs=32,
        offline=True,
    )
    words = [w for f in command_for("vllm", launch_of(plan, model="Qwen/Qwen3-8B", kv_dtype="fp8")).flags for w in f.words]
    for flag, value in (
        ("--tensor-parallel-size", "2"),
        ("--max-model-len", "16384"),
        ("--kv-cache-dtype", "fp8"),
        ("--gpu-memory-utilization", "0.85"),
        ("--max-num-seqs", "32"),
    ):
        assert words[words.index(flag) + 1] == value


def test_no_graphs_and_no_prefixes_are_planned_and_written():
    """Without CUDA graphs their memory is the pool's, in the plan and in the command; a hybrid's sequences take less without prefixes."""
    plain, eager = (package.plan("Qwen/Qwen3-8B", gpu="RTX 4090", engine="vllm@0.29", enforce_eager=e, offline=True) for e in (False, True))
    assert eager.gpus[0].parts.cuda_graphs.bytes == 0 < plain.gpus[0].parts.cuda_graphs.bytes
    assert eager.kv_pool.capacity_tokens > plain.kv_pool.capacity_tokens
    assert "--enforce-eager" in command_for("vllm", launch_of(eager, model="m")).text
    assert "--disable-cuda-graph" in command_for("sglang", launch_of(eager, model="m")).text
    kept, not_kept = (
        package.plan("Qwen/Qwen3.5-9B", gpu="RTX 5090", engine="vllm@0.20.0", prefix_caching=p, kv_pool_bytes=2**33, offline=True) for p in (True, False)
    )
    assert kept.kv_pool.max_concurrency < not_kept.kv_pool.max_concurrency
    assert "--enable-prefix-caching" in command_for("vllm", launch_of(kept, model="m")).text.split()
    assert "--no-enable-prefix-caching" in command_for("vllm", launch_of(not_kept, model="m")).text.split()


def test_defaults_of_the_version_are_written_down():
    """vLLM took 0.90 of a card by default until 0.20, 0.92 since (config/cache.py)."""
    for version, share in (("0.19.0", "0.9"), ("0.32.0", "0.92")):
        words = [w for f in command_for("vllm", Launch(model="m", version=version, context_tokens=8, concurrency=1)).flags for w in f.words]
        assert words[words.index("--gpu-memory-utilization") + 1] == share


def test_llama_cpp_shares_its_context_among_slots():
    """`-c` is the tokens of all slots together; slots of their own multiply it, shared ones hold the planned sequences."""
    own = command_for("llama.cpp", Launch(model="m.gguf", context_tokens=8192, concurrency=2, parallel=3, is_path=True, is_gguf=True)).text
    assert "--ctx-size 24576" in own
    assert "--no-kv-unified" in own
    shared = command_for("llama.cpp", Launch(model="m.gguf", context_tokens=8192, concurrency=2, is_path=True, is_gguf=True)).text
    assert "--ctx-size 16384" in shared
    assert "--parallel 4" in shared
    old = command_for("llama.cpp", Launch(model="m.gguf", version="b5000", context_tokens=8192, concurrency=1, is_path=True, is_gguf=True)).text
    assert "kv-unified" not in old
    assert "--flash-attn on" not in old


def test_the_command_prints_text_or_json():
    """Plain text that a shell takes; JSON of the published schema with the same text; the verdict as exit code."""
    asked = ("Qwen/Qwen3-8B", "--gpu", "H100 SXM 80GB", "--context", "8k", "--offline")
    plain = run(*asked)
    assert plain.returncode == 0, plain.stderr
    assert shlex.split(plain.stdout, comments=True)[:3] == ["vllm", "serve", "Qwen/Qwen3-8B"]
    for target in TARGETS:
        done = run(*asked, "--target", target, "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        jsonschema.validate(document, SCHEMA)
        assert document["target"] == target
    assert run("meta-llama/Llama-3.1-70B-Instruct", "--gpu", "RTX 4090", "--offline").returncode == 3
    short = run("qwen3-8b", "--gpu", "H100 SXM 80GB", "--offline", "--json")
    assert short.returncode != 0 or json.loads(short.stdout)["flags"]


@pytest.mark.parametrize(
    "more",
    [("--target", "vlm"), ("--target", "tgi", "--pp", "2"), ("--kv-dtype", "q8_0"), ("--target", "llama.cpp", "--kv-dtype", "fp8"), ("--target", "vllm@")],
)
def test_what_a_target_cannot_do_is_refused_with_a_hint(more):
    """An impossible wish ends as `error:` and `hint:` with exit code 2, never as a command that would not start."""
    done = run("Qwen/Qwen3-8B", "--gpu", "2x H100", "--offline", *more)
    assert done.returncode == 2 or more == ("--target", "vllm@")
    if done.returncode:
        assert "hint: " in done.stderr
        assert done.stdout == ""
