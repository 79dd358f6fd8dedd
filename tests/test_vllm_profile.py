"""What vLLM's profile run takes beside the text model's usual step: prompts in one step, encoders, cards that share the host's memory; and what it refuses."""

import json
from pathlib import Path

import pytest

from vram.accuracy.row import parse_row
from vram.api import load_model, plan
from vram.engines.base import Settings
from vram.engines.vllm.profile import batch_of
from vram.engines.vllm.release import release_of
from vram.hardware.spelling import parse_fleet, parse_gpu
from vram.planner.make import make_plan
from vram.planner.plan import Verdict
from vram.units import GIB

TRUTH = Path(__file__).parents[1] / "truth"
ROWS = {r["id"]: r for r in map(json.loads, (TRUTH / "engine_logs.jsonl").read_text().splitlines())}


@pytest.mark.parametrize(("version", "length", "tokens"), [("0.6.6", 8192, 8192), ("0.6.6", 32_768, 32_768), ("0.6.6", 65_536, 2048), ("0.19", 32_768, 2048)])
def test_prompts_were_one_step_before_they_came_in_chunks(version, length, tokens):
    """The old engine profiles the longest prompt whole up to 32k tokens; the new one, and longer ones, chunks of 2,048 on a small card."""
    assert batch_of(Settings(), parse_gpu("L4").gpu, release_of(version), length).tokens == tokens


def test_a_prompt_in_one_step_takes_more():
    """Activations of an unchunked 32k prompt are several times those of a chunk."""
    peaks = [
        plan("Qwen/Qwen2.5-7B-Instruct", gpu="A100 80GB", engine=f"vllm@{v}", context_tokens=32_768, offline=True).gpus[0].parts.activations.bytes
        for v in ("0.6.6", "0.10.2+v0")
    ]
    short = plan("Qwen/Qwen2.5-7B-Instruct", gpu="A100 80GB", engine="vllm@0.6.6", context_tokens=4096, offline=True).gpus[0].parts.activations.bytes
    assert min(peaks) > 2 * short


def test_encoders_are_profiled_with_their_largest_item():
    """Llama 3.2 Vision with 128 sequences took 35 GiB more in 0.6.7, Qwen2.5-VL 3.5: the eye's share is in the peak and said so."""
    row = parse_row(ROWS["c-071"])
    model = load_model(str(TRUTH / row.config))
    many, few = (
        make_plan(model, parse_fleet("H100-SXM"), engine="vllm", context_tokens=8192, settings=Settings(version="0.6.6", max_num_seqs=n)).gpus[0].parts
        for n in (128, 8)
    )
    assert many.activations.bytes - few.activations.bytes > 30 * GIB
    assert "encoder" in many.activations.why
    seeing = plan("Qwen/Qwen2.5-VL-7B-Instruct", gpu="H100-SXM", engine="vllm@0.10.2", offline=True).gpus[0].parts.activations
    reading = plan("Qwen/Qwen2.5-7B-Instruct", gpu="H100-SXM", engine="vllm@0.10.2", offline=True).gpus[0].parts.activations
    assert seeing.bytes - reading.bytes > 3 * GIB


def test_memory_that_the_host_shares_widens_the_pool():
    """On a GB10 other programs' memory counts: the pool's band is at least a twentieth of the memory to either side."""
    pools = {card: plan("Qwen/Qwen3-8B", gpu=card, engine="vllm@0.20.0", offline=True).gpus[0] for card in ("GB10", "H100-SXM")}
    shared, own = pools["GB10"].pool, pools["H100-SXM"].pool
    assert shared.bytes - shared.low > 5 * GIB
    assert shared.high - shared.bytes > 5 * GIB
    assert own.high - own.low < 5 * GIB
    assert "shares" in pools["GB10"].parts.runtime.why


@pytest.mark.parametrize("name", ["c-126", "c-177"])
def test_the_length_that_vllm_says_would_fit(name):
    """What vLLM refuses ("To serve at least one request …"): what is needed to two digits, and the longest request, as near as the pool's printed digits allow."""
    row = parse_row(ROWS[name])
    made = make_plan(
        load_model(str(TRUTH / row.config)),
        parse_fleet("A100 80GB"),
        engine="vllm",
        context_tokens=row.max_model_len,
        settings=Settings(version=row.version, kv_pool_bytes=row.measured["kv_cache"].bytes),
    )
    assert made.verdict is Verdict.DOES_NOT_FIT
    assert made.cache.bytes_per_sequence / GIB == pytest.approx(row.measured["needed_kv"].gib, abs=0.01)
    # 0.9 estimated with a coarser search: 5,632 of 5,808.
    assert made.limits.max_context_tokens == pytest.approx(row.counts["est_max_len"], rel=0.04)


@pytest.mark.parametrize(("card", "gib"), [("H100-SXM", 0.51), ("A100 80GB", 0.41), ("L40S", 0.49), ("A10G", 0.34), ("RTX 5090", 0.51)])
def test_a_context_is_its_generations(card, gib):
    """What is in use before vLLM counts differs by generation; of those that nobody measured the H100's is taken, and the band says so."""
    runtime = plan("Qwen/Qwen2.5-7B-Instruct", gpu=card, engine="vllm@0.19.0", offline=True).gpus[0].parts.runtime
    assert runtime.bytes == int(gib * GIB)
    assert runtime.low <= 0.23 * GIB
    assert runtime.high >= GIB
