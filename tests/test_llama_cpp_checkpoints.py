"""Checkpoints that llama-server keeps of past prompts: as large as servers printed, in the verdict where main memory is the GPU's."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cpp_runs import from_config, model_of

from vram.api import load_model, parse_gpus, plan
from vram.cli.main import vram as main
from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu
from vram.planner.launch import launch_of
from vram.units import GIB, MIB

MAC = parse_gpus("M4 Max 128GB")
RTX = parse_gpus("RTX 4090")


def host_of(gib):
    """Main memory of a machine without a GPU."""
    gpu = Gpu(
        name="CPU", vendor="host", architecture="host", capacity_bytes=gib * GIB, capacity_source="stated", marketing_bytes=gib * GIB, unified_memory=True
    )
    return Fleet.of([gpu])


def planned(model, fleet=RTX, version="", **more):
    return plan(model, gpu=fleet, engine=f"llama.cpp@{version}" if version else "llama.cpp", **more)


@pytest.mark.parametrize(
    ("model", "version", "printed_mib", "doubt_mib"),
    [
        # "erasing old context checkpoint (…, size = 75.376 MiB)": Qwen3-Coder-Next, ggml-org/llama.cpp#19408.
        (lambda: model_of("qwen3-next-80b", "Q4_K_M"), "", 75.376, 0.0005),
        # "created context checkpoint 1 of 6 (…, n_tokens = 3072, size = 149.651 MiB": Qwen 3.6 27B, ikawrakow/ik_llama.cpp#2226; that fork adds 8 bytes a token.
        (lambda: load_model("Qwen/Qwen3.6-27B", offline=True), "", 149.651, 8 * 3072 / MIB + 0.0015),
        # "created context checkpoint 4 of 32 (pos_min = 13703, pos_max = 18310, …, size = 3600.054 MiB)": Gemma 4 31B, before only what windows see was saved;
        # kyuz0/amd-strix-halo-toolboxes#89.
        (lambda: load_model("google/gemma-4-31B-it", offline=True), "b8724", 3600.054, 0.0015),
    ],
    ids=["qwen3-coder-next", "qwen3.6-27b", "gemma-4-31b"],
)
def test_one_is_as_large_as_a_server_printed(model, version, printed_mib, doubt_mib):
    """States of linear layers, and windows as old builds saved them: logs of the models' users."""
    made = planned(model(), version=version, context_tokens=65536, ctx_checkpoints=1)
    part = dict(made.host)["checkpoints"]
    # Four slots, one of each.
    assert part.high / 4 / MIB == pytest.approx(printed_mib, abs=doubt_mib)
    assert part.low == 0 < part.bytes <= part.high


def test_there_are_32_a_slot_unless_told_otherwise_and_none_in_old_builds():
    """`--ctx-checkpoints` of b11434's README is 32; what is told counts; a model that keeps every token has none."""
    model = from_config("gemma3-27b", "Q4_K_M")
    default, told, none, old = (dict(planned(model, **more).host) for more in ({}, {"ctx_checkpoints": 8}, {"ctx_checkpoints": 0}, {"version": "b6000"}))
    assert default["checkpoints"].high == 4 * told["checkpoints"].high
    assert "checkpoints" not in none
    assert "checkpoints" not in old
    assert "prompt_cache" not in old
    assert "prompt_cache" in none
    assert "checkpoints" not in dict(planned(from_config("llama3.1-8b")).host)


@pytest.mark.parametrize("fleet", [MAC, host_of(128)], ids=["mac", "cpu"])
def test_where_main_memory_is_the_gpus_they_count(fleet):
    """What stands beside a card's plan is in a Mac's and in a processor's: band and expectation, in a part that no start-up log measures."""
    model = from_config("gemma3-27b", "Q4_K_M")
    beside = dict(planned(model, context_tokens=8192).host)["checkpoints"]
    with_them, without, told = (planned(model, fleet, context_tokens=8192, ctx_checkpoints=n).gpus[0].parts for n in (32, 0, None))
    assert with_them.runtime.high - without.runtime.high == beside.high
    assert with_them.runtime.bytes - without.runtime.bytes == beside.bytes
    assert with_them.runtime.low == without.runtime.low
    assert replace(with_them, runtime=without.runtime) == without
    assert "checkpoints" in with_them.runtime.why
    # Nobody says how many: one of each slot, as commands give the number that there is room for.
    assert 32 * (told.runtime.high - without.runtime.high) == beside.high
    # Commands for such machines switch the cache of prompts off.
    assert "prompt_cache" not in dict(planned(model, fleet).host)
    on_card = [planned(model, RTX, ctx_checkpoints=n).gpus for n in (None, 0)]
    assert on_card[0] == on_card[1]


def test_the_verdict_turns_on_them():
    """A 27B of windows on a Mac of 48 GiB: it fits with few checkpoints, and with llama-server's own 32 of each slot only perhaps."""
    model = from_config("gemma3-27b", "Q4_K_M")
    mac = parse_gpus("M4 Pro 48GB")
    few, many = (planned(model, mac, context_tokens=8192, ctx_checkpoints=n) for n in (None, 32))
    assert (few.verdict, many.verdict) == ("fits", "tight")


@given(context=st.integers(256, 40_000), sequences=st.integers(1, 5), most=st.integers(0, 40), where=st.sampled_from(["mac", "cpu"]))
@settings(max_examples=25, deadline=None)
def test_limits_hold_with_them(context, sequences, most, where):
    """The longest context and the most sequences that a plan names do not fit any more with one more."""
    fleet, model = (parse_gpus("M4 Pro 24GB") if where == "mac" else host_of(16)), from_config("gemma3-12b", "Q4_K_M")
    asked = {"context_tokens": context, "concurrency": sequences, "ctx_checkpoints": most}
    limits = planned(model, fleet, **asked).limits
    if limits.max_context_tokens and limits.context_bound_by == "memory":
        at, past = (planned(model, fleet, **{**asked, "context_tokens": limits.max_context_tokens + n}) for n in (0, 1))
        assert at.verdict != "does_not_fit"
        assert past.verdict == "does_not_fit"
    if limits.max_concurrency:
        at, past = (planned(model, fleet, **{**asked, "concurrency": limits.max_concurrency + n}) for n in (0, 1))
        assert at.verdict != "does_not_fit"
        assert past.verdict == "does_not_fit"


def test_the_command_line_tells_and_takes_them():
    """`vram plan --json` has the part and the setting, `vram args` the flag."""
    common = ["google/gemma-3-27b-it", "--offline", "--gpu", "RTX 4090", "--ctx-checkpoints", "3"]
    made = json.loads(CliRunner().invoke(main, ["plan", *common, "--engine", "llama.cpp", "--quant", "Q4_K_M", "--json"]).stdout)
    assert made["workload"]["ctx_checkpoints"] == 3
    assert "--ctx-checkpoints" in made["host"]["parts"]["checkpoints"]["why"]
    said = CliRunner().invoke(main, ["args", *common, "--target", "llama.cpp", "--quant", "Q4_K_M"]).stdout
    assert "--ctx-checkpoints 3" in said
    assert "--cache-ram" not in said
    said = CliRunner().invoke(main, ["args", *common, "--gpu", "M4 Max 128GB", "--target", "llama.cpp", "--quant", "Q4_K_M"]).stdout
    assert "--cache-ram 0" in said
    assert "--ctx-checkpoints 3" in said


@pytest.mark.parametrize(("fleet", "most"), [("M4 Max 128GB", 32), ("M4 Pro 48GB", 31), ("M4 Pro 24GB", 1)])
def test_the_command_says_as_many_as_there_is_room_for(fleet, most):
    """Where nobody says how many: with the command's number all parts fit at their most, with one more they do not; never none."""
    model, fleet = from_config("gemma3-27b", "Q4_K_M"), parse_gpus(fleet)
    number = launch_of(planned(model, fleet, context_tokens=8192), model="m.gguf").ctx_checkpoints
    assert 1 <= number <= most
    with_it, more = (planned(model, fleet, context_tokens=8192, ctx_checkpoints=n).gpus[0] for n in (number, number + 1))
    assert with_it.short_bytes <= 0 or number == 1
    assert more.short_bytes > 0 or number == 32
    assert launch_of(planned(model, context_tokens=8192), model="m.gguf").ctx_checkpoints is None
    assert launch_of(planned(from_config("llama3.1-8b"), MAC), model="m.gguf").ctx_checkpoints is None
