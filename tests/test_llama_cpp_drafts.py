"""Drafts and adapters in llama.cpp: what its own dry runs and servers allocated (truth/llama_cpp/draft_runs.jsonl) against the plans."""

import json
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from data.make_gguf import make, preset
from llama_cpp_drafts import REMOTE, adapter, differences, model_of, planned_mib, written

import vram
from vram.engines.base import Settings
from vram.engines.draft import Draft
from vram.errors import ModelFormatError, ModelNotFoundError, UsageError
from vram.hardware.fleet import Fleet
from vram.model.adapter import supposed
from vram.model.model import Model
from vram.planner.document import plan_document
from vram.planner.make import make_plan
from vram.sources.adapter import load_adapter

ROWS = [json.loads(line) for line in (Path(__file__).parents[1] / "truth/llama_cpp/draft_runs.jsonl").read_text().splitlines()]


@cache
def model(name: str) -> Model:
    return model_of(preset(name), name)


def test_drafting_layers_and_adapters_are_planned_to_the_byte() -> None:
    """Weights, caches and adapters of 192 dry runs; the second context's compute buffers lie in their bands, 0.1 % off in the median."""
    rows = [row for row in ROWS if "settings" in row]
    wrong, compute = [], []
    for row in rows:
        found, buffers = differences(row, model(row["preset"]))
        wrong += [(row["id"], w) for w in found]
        compute += buffers
    assert not wrong
    assert len(rows) == 192
    errors = sorted(abs(e) for e, *_ in compute)
    outside = [(real, low, high) for _, real, low, high in compute if not low <= real <= high]
    print(f"{len(compute)} compute buffers: median {median(errors):.3%}, p95 {errors[int(0.95 * len(errors))]:.1%}, most {errors[-1]:.1%}")
    assert not outside
    assert median(errors) <= 0.005
    assert errors[int(0.95 * len(errors))] <= 0.15


@pytest.mark.parametrize("row", [r for r in ROWS if "case" in r], ids=lambda r: r["id"])
def test_a_server_with_a_draft_model_prints_what_is_planned(row: dict[str, Any]) -> None:
    """Buffers of the target and of the draft beside it as llama-server b11434 printed them, to the hundredth of a MiB; compute within 5 %."""
    mine, lines = planned_mib(row["case"]), row["lines"]
    assert mine["load_tensors"] == [mib for what, mib in lines if what == "load_tensors"]
    assert mine["llama_context"] == [mib for what, mib in lines if what == "llama_context"]
    caches: list[float] = []
    for what, mib in lines:  # one sum for each of the two loads
        if what == "load_tensors":
            caches.append(0.0)
        elif what in {"llama_kv_cache", "llama_memory_recurrent"}:
            caches[-1] += mib
    assert mine["caches"] == pytest.approx(caches, abs=0.011)
    assert mine["compute"] == pytest.approx([mib for what, mib in lines if what == "sched_reserve"], rel=0.05)
    assert len(caches) == 2


def test_a_supposed_adapter_holds_a_real_one_in_its_band() -> None:
    """Of a rank alone: the band holds adapters of queries and values, and of every linear with the head; the middle is that of all linears."""
    for name in ("llama3.1-8b", "qwen2.5-7b"):
        base = make_plan(model(name), Fleet.of([REMOTE]), engine="llama.cpp").gpus[0].parts.weights
        guess = make_plan(model(name), Fleet.of([REMOTE]), engine="llama.cpp", settings=Settings(lora=(supposed(16),))).gpus[0].parts.weights
        for row in ROWS:
            if row["id"].startswith(f"lora|{name}|all|16") and row["settings"]["ngl"] == 99 and row["devices"] == 1:
                real = row["lora"]["device0"]
                head = 4 * 16 * (model(name).geometry.hidden_size + model(name).geometry.vocab_size)
                assert guess.bytes - base.bytes == real - head
                assert guess.low - base.low < real <= guess.high - base.high


def test_a_draft_on_the_host_takes_nothing_of_the_gpu() -> None:
    """-ngld 0 leaves weights and caches of the draft on the host; the target's share is as without it."""
    gpu = vram.parse_gpus("RTX 4090")
    alone = make_plan(model("qwen2.5-7b"), gpu, engine="llama.cpp")
    there = make_plan(model("qwen2.5-7b"), gpu, engine="llama.cpp", settings=Settings(draft=Draft(model=model("qwen2.5-0.5b"))))
    here = make_plan(model("qwen2.5-7b"), gpu, engine="llama.cpp", settings=Settings(draft=Draft(model=model("qwen2.5-0.5b"), gpu_layers=0)))
    parts = [p.gpus[0].parts for p in (alone, there, here)]
    assert parts[0].weights.bytes == parts[2].weights.bytes < parts[1].weights.bytes
    assert parts[0].kv_cache.bytes == parts[2].kv_cache.bytes < parts[1].kv_cache.bytes
    assert dict(here.host)["draft_weights"].bytes > dict(there.host)["draft_weights"].bytes
    assert there.limits.max_context_tokens is not None
    assert plan_document(there)["workload"]["draft"] == {
        "name": "qwen2.5-0.5b",
        "weight_bytes": model("qwen2.5-0.5b").weight_bytes,
        "tokens": None,
        "gpu_layers": None,
    }


def test_what_is_no_adapter_is_refused_with_a_hint(tmp_path: Path) -> None:
    """A model, half a pair, a rank of nothing, a file that is not there, an adapter of another architecture."""
    whole = written(adapter("qwen2.5-7b", "qv", 8, "F32"), tmp_path / "a.gguf")
    assert (load_adapter(str(whole)).rank, load_adapter("8").rank, load_adapter(8).rank) == (8, 8, 8)
    base = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    bad = {
        "model.gguf": preset("qwen2.5-0.5b"),
        "half.gguf": make(base, [("blk.0.attn_q.weight.lora_a", (64, 8), "F32")]),
        "odd.gguf": make(base, [("blk.0.attn_q.weight", (64, 8), "F32")]),
        "empty.gguf": make(base, []),
        "control.gguf": make({**base, "adapter.type": "cvec"}, [("blk.0.attn_q.weight.lora_a", (64, 8), "F32")]),
    }
    for name, made in bad.items():
        with pytest.raises(ModelFormatError) as caught:
            load_adapter(str(written(made, tmp_path / name)))
        assert "--lora 16" in caught.value.hint
    for reference in ("0", "99999", True, "", "a\0b"):
        with pytest.raises(UsageError):
            load_adapter(reference)
    with pytest.raises(ModelNotFoundError):
        load_adapter(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="adapts a model of architecture qwen2"):
        make_plan(model("llama3.1-8b"), Fleet.of([REMOTE]), engine="llama.cpp", settings=Settings(lora=(load_adapter(str(whole)),)))
    (tmp_path / "adapter_config.json").write_text('{"r": 16, "rank_pattern": {"q_proj": 32}}')
    assert load_adapter(str(tmp_path)).rank == 32


def test_a_model_without_drafting_layers_says_so() -> None:
    """--draft mtp on a plain Llama names the other way."""
    with pytest.raises(UsageError, match="no multi-token-prediction layers") as caught:
        make_plan(model("llama3.1-8b"), Fleet.of([REMOTE]), engine="llama.cpp", settings=Settings(draft=Draft()))
    assert "--draft MODEL" in caught.value.hint


def test_engines_that_do_not_draft_say_so() -> None:
    """Ollama, TensorRT-LLM and the others plan as without it, and a note says what was not heeded."""
    gpu = vram.parse_gpus("H100")
    for engine in ("ollama", "transformers", "generic", "tensorrt-llm"):
        bare = make_plan(model("qwen2.5-7b"), gpu, engine=engine)
        asked = make_plan(model("qwen2.5-7b"), gpu, engine=engine, settings=Settings(draft=Draft(model=model("qwen2.5-0.5b"), tokens=4)))
        assert asked.gpus[0].parts == bare.gpus[0].parts
        assert any("does not heed --draft" in note for note in asked.notes)
