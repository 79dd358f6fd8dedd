"""How fast a plan runs: properties that any clock must have."""

from dataclasses import replace

import pytest

import vram
from vram.engines.base import Demand, Settings
from vram.errors import UsageError
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.memory.workload import Workload
from vram.speed.clock import clock
from vram.speed.estimate import estimate, why_unknown

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "google/gemma-3-27b-it",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3-30B-A3B",
    "openai/gpt-oss-120b",
    "Qwen/Qwen3.5-397B-A17B",
)


def demand(name: str, gpu: str = "H100", *, tp: int = 1, pp: int = 1, context: int = 8192, concurrency: int = 8) -> Demand:
    model = vram.load_model(name, offline=True)
    card = vram.parse_gpus(gpu).gpus[0].gpu
    workload = Workload(context_tokens=context, concurrency=concurrency, kv_dtype="bf16", formats=model.cache_formats)
    return Demand(model=model, gpu=card, placement=Placement(tp=tp, pp=pp), workload=workload, settings=Settings())


def faster(gpu: Gpu) -> Gpu:
    return replace(gpu, name=gpu.name, bandwidth_bytes_per_second=1.5 * gpu.bandwidth_bytes_per_second)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("engine", ["vllm", "llama.cpp", "sglang", "transformers"])
def test_a_step_never_gets_shorter_with_more_to_do(name, engine):
    """More sequences, more cached tokens, more prompt tokens: each costs time; more bandwidth saves some."""
    d = demand(name)
    c = clock(d, engine)
    base = c.seconds(0, 0, 4, 4096)
    assert base < c.seconds(0, 0, 8, 8192) < c.seconds(0, 0, 8, 65536)
    assert base < c.seconds(512, 512 * 513 // 2, 4, 4096) < c.seconds(1024, 1024 * 1025 // 2, 4, 4096)
    assert clock(replace(d, gpu=faster(d.gpu)), engine).seconds(0, 0, 4, 4096) < base


@pytest.mark.parametrize("name", MODELS)
def test_a_step_reads_at_least_its_active_weights(name):
    """No decode step is faster than the card can read the weights that one token uses."""
    d = demand(name)
    m = d.model
    least = m.active_parameters * 0.4 / d.gpu.bandwidth_bytes_per_second  # at 3.2 bits, fewer than any of these stores
    assert clock(d, "vllm").seconds(0, 0, 1, 1) > least


def test_estimate_is_the_clock():
    """One sequence alone decodes at the clock's own step."""
    d = demand(MODELS[0], concurrency=1)
    s = estimate(d, "vllm", prompt_tokens=1000, output_tokens=200)
    assert s is not None
    assert s.decode_tokens_per_second.value == pytest.approx(1 / clock(d, "vllm").seconds(0, 0, 1, 1100))
    assert s.tpot_seconds.value == pytest.approx(1 / s.decode_tokens_per_second.value)
    for f in (s.decode_tokens_per_second, s.tpot_seconds, s.ttft_seconds, s.prefill_tokens_per_second):
        assert f.low <= f.value <= f.high


def test_what_is_not_known_is_said():
    """A card without a bandwidth has no speed, and the reason is told."""
    d = demand(MODELS[0])
    blind = replace(d, gpu=replace(d.gpu, bandwidth_bytes_per_second=None))
    assert estimate(blind, "vllm") is None
    assert "bandwidth" in why_unknown(blind)
    with pytest.raises(UsageError, match="bandwidth"):
        clock(blind, "vllm")


def test_arithmetic_binds_only_many_sequences():
    """The crossover lies where it must: far above one sequence, earlier on a card of less arithmetic."""
    s = estimate(demand(MODELS[0], context=1024), "vllm")
    assert s is not None
    assert s.crossover_sequences is None or s.crossover_sequences > 16
