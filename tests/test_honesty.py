"""What a plan must never do: pose as knowing, promise a mend that fails when typed, or let a stranger's bytes command the terminal."""

import json
import os
import shlex
import subprocess
import sys

import pytest

import vram
from vram.errors import ExitCode, UsageError
from vram.model.format import BF16
from vram.model.model import Model
from vram.model.tensor import Tensor

UNKNOWN = Model(
    name="unknown",
    architecture="",
    model_type="",
    tensors=(Tensor(name="layers.#.w", shape=(4096, 4096), format=BF16, layer=0),),
    caches_known=False,
)


def run(*args):
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "vram", *args], capture_output=True, timeout=60, check=False, env=env)


def test_an_unknown_cache_never_fits():
    """Whatever room is left, a model whose cache nobody knows is tight at best, without limits."""
    plan = vram.plan(UNKNOWN, gpu="8x B200")
    assert plan.verdict == "tight"
    assert plan.limits.max_context_tokens is None
    assert plan.limits.max_concurrency is None
    assert any("not known" in note for note in plan.notes)


def test_a_given_pool_decides():
    """A pool set apart by hand bounds verdict and limits, too large a one does not fit the card."""
    wanted = {"gpu": "H100", "context_tokens": 32_768, "concurrency": 8, "offline": True}
    small = vram.plan("Qwen/Qwen3-8B", kv_pool_bytes=2**30, **wanted)
    assert small.verdict == "does_not_fit"
    assert small.limits.max_concurrency == 0
    assert vram.plan("Qwen/Qwen3-8B", kv_pool_bytes=40 * 2**30, **wanted).limits.max_concurrency == 8
    assert vram.plan("Qwen/Qwen3-8B", kv_pool_bytes=1000 * 2**30, **wanted).verdict == "does_not_fit"


def test_a_stage_without_a_cache_does_not_hide_the_pool():
    """Layers that share others' caches may fill a whole stage; the pool is that of the stages that keep something."""
    plan = vram.plan("google/gemma-4-E2B-it", gpu="8x 4090", pp=2, tp=1, offline=True)
    assert plan.kv_pool.max_concurrency


@pytest.mark.parametrize(
    "command",
    [
        "meta-llama/Llama-3.3-70B-Instruct --tp 1 --gpu 'H100 80GB'",
        "meta-llama/Llama-3.1-70B-Instruct --gpu '4x 4090' --tp 2 --pp 2",
        "Qwen/Qwen3-8B --gpu 4070 --context 32k --concurrency 4",
        "nvidia/Llama-3.1-70B-Instruct-FP8 --gpu 4090",
        "openai/gpt-oss-20b --gpu '16GiB' --context 128k --concurrency 8",
        "Qwen/Qwen2.5-7B-Instruct-AWQ --gpu 3060 --context 128k",
        "deepseek-ai/DeepSeek-V3 --gpu 4090",
        "google/gemma-3-27b-it --gpu 'M4 Pro 24GB' --context 32k",
    ],
)
def test_every_mend_is_true_as_typed(command):
    """Typing a mend's flags behind the command gives the verdict and the context that the mend promised."""
    words = ["plan", *shlex.split(command), "--json"]
    plan = json.loads(run(*words).stdout)
    assert plan["mends"]
    for mend in plan["mends"]:
        typed = json.loads(run(*words, *shlex.split(mend["flag"])).stdout)
        assert (typed["verdict"], typed["limits"]["max_context_tokens"]) == (mend["verdict"], mend["max_context_tokens"]), mend["flag"]


def test_there_is_always_something_that_works():
    """What no single card holds is offered on machines that exist."""
    plan = vram.plan("deepseek-ai/DeepSeek-V3", gpu="4090", offline=True)
    assert plan.verdict == "does_not_fit"
    assert plan.mends[0].verdict == "fits"


@pytest.mark.parametrize("name", ["X\u009b31mEVIL\u202e\x7f\u200f", "\x1b]0;pwned\x07", "\ud800"])
def test_no_command_reaches_the_terminal(tmp_path, name):
    """Neither picture nor JSON prints a control character that a config's names carry."""
    config = {"model_type": "llama", "architectures": [name], "num_hidden_layers": 2, "dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for more in ((), ("--json",)):
        done = run("plan", str(tmp_path), "--gpu", "4090", *more)
        assert done.returncode == ExitCode.OK, done.stderr
        assert not {c for c in done.stdout.decode() if not c.isprintable() and c != "\n"}


@pytest.mark.parametrize(
    "args",
    [
        ("--context", "1.2.3k"),
        ("--context", "9" * 400),
        ("--context", "9999999999"),
        ("--kv-pool-bytes", "1.2.3GiB"),
        ("--concurrency", "1000000000"),
        ("--headroom", "nan"),
        ("--gpu-memory-utilization", "0.001"),
    ],
)
def test_nonsense_numbers_are_two_lines(args):
    """A number that makes no sense is an error and a hint, each with what has no room below it, never a traceback."""
    done = run("plan", "Qwen/Qwen3-8B", "--gpu", "4090", *args)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == ExitCode.USAGE
    assert [line.split(":")[0] for line in lines if not line.startswith("      ")] == ["error", "hint"]


@pytest.mark.parametrize("wanted", [{"context_tokens": "32k"}, {"context_tokens": 1.5}, {"concurrency": True}])
def test_the_api_refuses_what_is_no_number(wanted):
    """Python callers get the same errors as the command line's."""
    with pytest.raises(UsageError):
        vram.plan("Qwen/Qwen3-8B", gpu="4090", offline=True, **wanted)


def test_what_an_engine_does_not_heed_is_said():
    """A flag without effect is noted, not swallowed."""
    plan = vram.plan("Qwen/Qwen3-8B", gpu="4090", offline=True, ubatch=64, parallel=8)
    assert any("--ubatch" in note and "--parallel" in note for note in plan.notes)


def test_models_are_forgotten():
    """A long-running program that plans many models keeps none of them alive."""
    import gc
    import weakref

    model = vram.load_model("Qwen/Qwen3-0.6B", offline=True)
    vram.plan(model, gpu="4090")
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
