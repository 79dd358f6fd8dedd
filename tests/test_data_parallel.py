"""Copies of attention that share the experts: what is there once, what several times, held against starts that printed it."""

import json
from pathlib import Path

import pytest

import vram
from vram.costs.book import PriceBook
from vram.costs.rent import rent
from vram.errors import PlacementError
from vram.planner.costing import cost_of
from vram.planner.document import plan_document
from vram.readers.config_json import model_from_config
from vram.speed.clock import clock

TRUTH = Path(__file__).parents[1] / "truth"
MOE = vram.load_model("Qwen/Qwen3-30B-A3B", offline=True)
R1 = vram.load_model("deepseek-ai/DeepSeek-R1", offline=True)


def test_experts_over_two_copies_weigh_what_vllm_printed() -> None:
    """Two data-parallel ranks with the experts dealt over both: 29.88 GiB of Qwen3-30B-A3B on each (row c-128), to the printed digit."""
    row = next(r for r in map(json.loads, (TRUTH / "engine_logs.jsonl").read_text().splitlines()) if r["id"] == "c-128")
    model = model_from_config(json.loads((TRUTH / row["config"]).read_text()), "row")
    plan = vram.plan(model, gpu="2x H100", engine="vllm@0.13.0", tp=1, dp=2, ep=True)
    assert {round(g.parts.weights.bytes / 2**30, 2) for g in plan.gpus} == {row["measured"]["weights_gib"]} == {29.88}


def test_a_step_of_copies_is_one_copys() -> None:
    """Eight copies with two sequences each step as long as with two asked of one, and write eight times as many tokens; the rent pays for all."""
    plan = vram.plan(R1, gpu="8x H200", engine="sglang", tp=8, dp=8, context_tokens=4096, concurrency=16)
    speed = plan.speed
    assert speed is not None
    step = clock(plan.demand, "sglang").seconds(0, 0, 2, 2 * 3840)
    assert step <= speed.tpot_seconds.value < 3 * step
    assert speed.decode_total_tokens_per_second.value == pytest.approx(16 / speed.tpot_seconds.value)
    paid = cost_of(plan, plan.fleet, rent([], PriceBook(prices=())), prompt_tokens=1, output_tokens=4000)
    assert paid.output_tokens_per_second == pytest.approx(16 / step, rel=0.1)


def test_latents_of_copies_are_not_shared() -> None:
    """SGLang with eight copies printed 161,488 tokens in 10.57 GiB on each (sgl-project/sglang#6017): a whole latent cache a copy."""
    pool = round(10.57 * 2**30)
    plan = vram.plan(R1, gpu="8x H200", engine="sglang", tp=8, dp=8, kv_pool_bytes=pool)
    assert plan.kv_pool.capacity_tokens == pytest.approx(161_488, rel=0.0005)
    assert plan.placement.label == "DP8"
    assert len(plan.gpus) == 8


def test_each_copy_has_its_share_of_the_sequences() -> None:
    """Sixteen sequences over eight copies need what two need in one; the most sequences are eight times one copy's."""
    one = vram.plan(R1, gpu="8x H200", engine="sglang", tp=8, dp=8, context_tokens=32_768, concurrency=2)
    all_ = vram.plan(R1, gpu="8x H200", engine="sglang", tp=8, dp=8, context_tokens=32_768, concurrency=16)
    assert one.gpus[0].kv_needed_bytes < all_.gpus[0].kv_needed_bytes
    assert all_.gpus[0].kv_needed_bytes == 2 * one.gpus[0].kv_needed_bytes
    assert one.limits.max_concurrency == all_.limits.max_concurrency
    assert one.limits.max_concurrency % 8 == 0
    assert plan_document(all_)["workload"]["concurrency"] == 16
    assert plan_document(all_)["placement"] == {"tp": 1, "pp": 1, "ep": False, "dp": 8}


@pytest.mark.parametrize("engine", ["generic", "vllm", "sglang", "tensorrt-llm"])
def test_copies_weigh_between_a_split_and_a_whole(engine: str) -> None:
    """On eight GPUs: split in eight < eight copies of attention with shared experts < a whole model each; one copy is none."""
    tp = 8 if engine in {"sglang", "tensorrt-llm"} else 1
    split, copies = (vram.plan(R1, gpu="8x H200", engine=engine, tp=t, dp=d).gpus[0].parts.weights.bytes for t, d in ((8, None), (tp, 8)))
    whole = vram.plan(R1, gpu="8x H200", engine=engine, tp=1).gpus[0].parts.weights.bytes
    assert split < copies < whole
    assert vram.plan(MOE, gpu="2x H100", engine=engine, tp=2, dp=1).gpus == vram.plan(MOE, gpu="2x H100", engine=engine, tp=2).gpus


def test_what_cannot_be_copied_is_refused_with_a_hint() -> None:
    """Too few GPUs, copies that do not divide the ranks, an engine of whole layers."""
    for engine, tp, dp, words in (("vllm", 1, 8, "needs 8 GPUs"), ("sglang", 6, 4, "does not divide"), ("llama.cpp", None, 2, "one copy of attention")):
        with pytest.raises(PlacementError, match=words) as caught:
            vram.plan(MOE, gpu="4x H100", engine=engine, tp=tp, dp=dp)
        assert caught.value.hint
