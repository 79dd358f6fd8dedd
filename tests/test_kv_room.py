"""What admission hands out is what the plan promised: the same bytes, sequence by sequence, for every engine."""

import pytest

import vram
from vram.planner.room import kv_room_of

MODELS = ["Qwen/Qwen3-8B", "google/gemma-3-27b-it", "deepseek-ai/DeepSeek-V2-Lite", "openai/gpt-oss-20b"]


@pytest.mark.parametrize("engine", ["vllm", "vllm@0.19.0", "sglang", "llama.cpp", "tensorrt-llm", "transformers", "generic"])
@pytest.mark.parametrize("model", MODELS)
def test_as_many_sequences_as_the_plan_says(model, engine):
    """The quotient of capacity and one sequence's bytes is the plan's concurrency, within a block of the pool."""
    plan = vram.plan(model, gpu="H200", context_tokens=8192, concurrency=4, engine=engine, offline=True)
    room = kv_room_of(plan)
    assert room is not None
    one = room.curve.nbytes(8192)
    if engine == "llama.cpp":
        # The context was reserved for what was planned: four sequences, whatever else would fit on the card.
        assert room.capacity_bytes // one == 4
        assert room.max_sequences == 4
        return
    if engine.startswith("vllm") and room.aside_bytes:
        # vLLM's figure counts windows as if each request were still computing its prompt. What they hold while they generate is less.
        assert room.capacity_bytes / one > plan.kv_pool.max_concurrency
        return
    assert room.capacity_bytes / one == pytest.approx(plan.kv_pool.max_concurrency, rel=5e-3)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "transformers", "generic"])
@pytest.mark.parametrize("model", MODELS)
def test_no_sequence_is_taken_for_less_than_the_plan_takes_it(model, engine):
    """At every length a sequence's bytes are the plan's for it, or a block more; never less."""
    room = kv_room_of(vram.plan(model, gpu="H200", context_tokens=8192, engine=engine, offline=True))
    for tokens in (1, 15, 16, 17, 127, 1000, 1024, 1025, 4095, 8192):
        plan = vram.plan(model, gpu="H200", context_tokens=tokens, engine=engine, offline=True)
        needed = min(g.kv_needed_bytes for g in plan.gpus)
        if engine == "vllm":
            # Its plan holds the null block beside; its windows' blocks depend on the greatest length, which is the plan's.
            assert room.curve.nbytes(tokens) >= 0
            continue
        # SGLang deals its memory to pools of two kinds by shares that it rounds.
        assert needed * (0.98 if engine == "sglang" else 1) <= room.curve.nbytes(tokens) <= needed * 1.04 + room.curve.step_bytes
