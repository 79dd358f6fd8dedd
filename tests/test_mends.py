"""Every mend is a command that works: over the catalogue and the engines it parses, its engine accepts it, and what is planned with it fits."""

import json
import os
import re
import shlex
from inspect import signature

import pytest
from upping import stand_in

import vram
from vram import catalog
from vram.cli.main import run
from vram.cli.plan import command
from vram.cli.types import shares

# What each engine takes as the type of its KV cache: CacheDType of vllm/config/cache.py (0.32), --kv-cache-dtype of
# sglang/srt/server_args.py, kv_cache_types of llama.cpp's common/arg.cpp (b11434), OLLAMA_KV_CACHE_TYPE of ollama's docs/faq,
# kv_cache_config.dtype of TensorRT-LLM's llm_args.py. transformers' DynamicCache holds what the model computes in.
CACHES = {
    "vllm": {"auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"},
    "sglang": {"auto", "bf16", "bfloat16", "fp8_e5m2", "fp8_e4m3", "fp8"},
    "tensorrt-llm": {"auto", "fp8", "nvfp4"},
    "transformers": set(),
    "llama.cpp": {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"},
    "ollama": {"f16", "q8_0", "q4_0"},
}
# How weights are stored that an engine loads: QuantizationMethods of vllm/model_executor/layers/quantization (0.32: no gguf there);
# llama.cpp and Ollama load GGUF files, and nobody else does.
GGUF_ALONE = {"llama.cpp", "ollama"}
NAMES = catalog.names()
SHARE = int(os.environ.get("MENDS_SHARE", "6"))


def typed(text):
    """What `vram plan` makes of these words: values of its options; refused words raise."""
    given = command.make_context("plan", [*shlex.split(text)], resilient_parsing=False).params
    given["flash_attention"] = given["flash_attention"] == "on"
    given["tensor_split"] = shares(given["tensor_split"])
    given["kv_offload"] = not given.pop("no_kv_offload")
    # What is left says how the plan is printed.
    planned = {name: value for name, value in given.items() if name in signature(vram.plan).parameters}
    return vram.plan(**{**planned, "offline": True})


@pytest.mark.parametrize("engine", sorted(CACHES))
def test_every_mend_parses_is_the_engines_and_fits(engine):
    """Every sixth model of the catalogue, others for each engine, on cards that are too small for most of them; one whose checkpoint has its own cache, too."""
    seen = 0
    for k, name in enumerate([*NAMES[sorted(CACHES).index(engine) :: SHARE], "nvidia/Qwen3.6-27B-NVFP4"]):
        words = f"{name} --engine {engine} --gpu '{('4090', '2x A100 40GB', '24GiB')[k % 3]}' --context 32k --concurrency 4"
        try:
            plan = typed(words)
        except vram.VramError:
            continue
        for mend in plan.mends[:6]:
            flags = shlex.split(mend.flag)
            asked = dict(zip(flags[::2], flags[1::2], strict=True))
            again = typed(f"{words} {mend.flag}")
            assert again.verdict == mend.verdict, (name, mend.flag)
            assert again.verdict in {"fits", "tight"}, (name, mend.flag)
            assert asked.get("--kv-dtype", "f16") in CACHES[engine] | {"f16"}, (name, mend.flag)
            if engine in GGUF_ALONE:
                assert asked.get("--quant", "Q8_0")[:1] in "QIb", (name, mend.flag)
            else:
                assert asked.get("--quant", "fp8") in {"bf16", "fp8", "awq"}, (name, mend.flag)
            seen += 1
    assert seen > 10


def test_a_given_gguf_files_weights_stay_as_they_are(tmp_path):
    """A file is stored as it is: no mend of it is another quantization, whoever is to load it, and its cache speaks ggml."""
    from vram.runtime.tiny import write_tiny

    path = write_tiny(tmp_path / "tiny.gguf")
    for engine in ("generic", "llama.cpp"):
        plan = vram.plan(str(path), engine=engine, gpu="1GiB", context_tokens=2**21, concurrency=8)
        assert plan.verdict != "fits"
        flags = " ".join(m.flag for m in plan.mends)
        assert "--kv-dtype q8_0" in flags
        assert "--quant" not in flags


def mended(capsys, *words):
    """What `vram up --dry-run` shows as mends, each as words to type behind the same command; and how it ended."""
    code = run(["up", *words, "--dry-run", "--offline"])
    out = capsys.readouterr().out
    found = re.findall(r"^.*: what would mend it(?:, each by itself)?: (.*)$", out, re.MULTILINE)
    return code, [shlex.split(flags) for line in found for flags in line.split(", or ")]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_mend_of_up_is_a_command_that_works(engine, capsys, monkeypatch):
    """What `vram up` proposes for a hub repository that does not fit is taken by it, and fits: no checkpoint that has to be found first."""
    monkeypatch.setenv("COLUMNS", "1000")
    seen = 0
    for k, name in enumerate(NAMES[:: 3 * SHARE]):
        words = (name, "--engine", engine, "--gpu", ("RTX 4090", "2x RTX 3090")[k % 2], "--context", "32k", "--concurrency", "4")
        code, flags = mended(capsys, *words)
        for more in flags:
            seen += 1
            assert code in {0, 3}, name
            assert "awq" not in more
            assert mended(capsys, *words, *more)[0] == 0, (name, more)
    assert seen > 10


@pytest.mark.parametrize("models", [("demo",), ("a=demo", "b=demo", "c=demo")])
@pytest.mark.parametrize("budget", ["200MiB", "320MiB", "700MiB"])
@pytest.mark.parametrize("more", [(), ("--context", "64k"), ("--concurrency", "8", "--context", "16k")])
def test_every_mend_of_a_files_budget_works(models, budget, more, capsys, monkeypatch, tmp_path):
    """A larger budget, a shorter context, an 8-bit cache: with each the same command ends well, and says no more of that model."""
    for name in ("STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("VRAM_LLAMA_SERVER", str(stand_in(tmp_path)))
    monkeypatch.setenv("COLUMNS", "1000")
    words = (*models, "--gpu", "cpu", "--engine", "llama-server", *more)
    code, flags = mended(capsys, *words, "--budget", budget)
    assert code in {0, 3}
    assert not code or flags
    for one in flags:
        assert "--quant" not in one
        given = one if "--budget" in one else ["--budget", budget, *one]
        again, left = mended(capsys, *words, *given)
        assert again == 0, one
        if "--budget" in one:
            assert not left


def test_the_budget_for_all_at_once_holds_all_at_once(capsys, monkeypatch, tmp_path):
    """Three models of which one fits: with the budget that is told they are all loaded at the start, and with 0.2 GiB less they are not."""
    for name in ("STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("VRAM_LLAMA_SERVER", str(stand_in(tmp_path)))
    words = ("up", "a=demo", "b=demo", "c=demo", "--gpu", "cpu", "--engine", "llama-server", "--dry-run", "--offline")
    run([*words, "--budget", "700MiB"])
    (tenths,) = re.findall(r"^all of them at once: --budget ([\d.]+)GiB$", capsys.readouterr().out, re.MULTILINE)
    for budget, most in ((float(tenths), 3), (float(tenths) - 0.2, 2)):
        assert run([*words, "--budget", f"{budget:.1f}GiB", "--json"]) == 0
        assert sum(m["loaded_first"] for m in json.loads(capsys.readouterr().out)["models"]) == most


def test_weights_that_nobody_makes_are_refused(capsys, tmp_path, monkeypatch):
    """A file is loaded as it is, and vLLM makes no AWQ: a plan for other weights would be true of nothing that is started."""
    for name in ("STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    for words in (("demo", "--engine", "llama-server", "--quant", "Q4_K_M"), ("Qwen/Qwen3-8B", "--engine", "vllm", "--quant", "awq")):
        assert run(["up", *words, "--gpu", "RTX 4090", "--dry-run", "--offline"]) == 2
        assert "leave --quant out" in capsys.readouterr().err
    assert run(["up", "Qwen/Qwen3-8B", "--engine", "vllm", "--quant", "fp8", "--gpu", "RTX 4090", "--dry-run", "--offline"]) == 0
