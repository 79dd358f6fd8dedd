"""How fast a plan runs: properties that any clock must have."""

import random
from dataclasses import replace

import pytest

import vram
from vram.engines.base import Demand, Settings
from vram.engines.registry import ENGINE_NAMES
from vram.errors import UsageError
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.memory.workload import Workload
from vram.model.quantization.named import requantize
from vram.speed.calibration import CardClass, card_class, entry_for
from vram.speed.clock import clock, clock_over
from vram.speed.draft import Drafting
from vram.speed.era import build_age, day_age
from vram.speed.estimate import estimate, prefill_seconds, reading_seconds, why_unknown
from vram.speed.spread import Spread
from vram.speed.unpacking import unpacking
from vram.speed.work import work_of

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "google/gemma-3-27b-it",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3-30B-A3B",
    "openai/gpt-oss-120b",
    "Qwen/Qwen3.5-397B-A17B",
)


def demand(name: str, gpu: str = "H100", *, tp: int = 1, pp: int = 1, context: int = 8192, concurrency: int = 8, quant: str | None = None) -> Demand:
    model = vram.load_model(name, offline=True)
    model = requantize(model, quant) if quant else model
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


def test_a_lone_prompt_passes_the_stages_one_after_the_other():
    """Two stages read a prompt of one step no sooner than one card does, a very long one nearly twice as fast."""
    d = demand(MODELS[0], "H200")
    for prompt, least, most in ((4000, 0.95, 1.25), (200_000, 0.5, 0.6)):
        one, two = (prefill_seconds(clock(replace(d, placement=Placement(pp=pp)), "vllm"), prompt, chunk=8192) for pp in (1, 2))
        assert least <= two / one <= most, prompt
        assert reading_seconds(clock(replace(d, placement=Placement(pp=2)), "vllm"), prompt, chunk=8192) < 0.65 * one


def test_arithmetic_binds_only_many_sequences():
    """The crossover lies where it must: far above one sequence, earlier on a card of less arithmetic."""
    s = estimate(demand(MODELS[0], context=1024), "vllm")
    assert s is not None
    assert s.crossover_sequences is None or s.crossover_sequences > 16


def test_a_draft_that_is_never_kept_only_costs():
    """More kept drafts are never slower, none kept is slower than none drafted, and k + 1 tokens are the most that a step yields."""
    d = demand(MODELS[0], concurrency=1)
    small = vram.load_model("meta-llama/Llama-3.2-1B-Instruct", offline=True)
    plain = estimate(d, "vllm")
    rates = [estimate(d, "vllm", drafting=Drafting(model=small, tokens=4, acceptance=a)).decode_tokens_per_second.value for a in (0.0, 0.5, 0.9, 1.0)]
    assert rates == sorted(rates)
    assert rates[0] < plain.decode_tokens_per_second.value < rates[-1] < 5 * plain.decode_tokens_per_second.value
    assert Drafting(tokens=4, acceptance=1.0).gained_tokens == 5
    assert Drafting(tokens=1, acceptance=0.85).gained_tokens == pytest.approx(1.85)  # DeepSeek-V3's report, section 5.4.3: 1.8 at 85 to 90 %


@pytest.mark.parametrize(("tokens", "acceptance"), [(0, 0.5), (65, 0.5), (2, -0.1), (2, 1.5)])
def test_a_draft_that_makes_no_sense_is_refused_with_a_hint(tokens, acceptance):
    """A number of tokens or a chance out of range."""
    with pytest.raises(UsageError) as e:
        Drafting(tokens=tokens, acceptance=acceptance)
    assert e.value.hint


def test_experts_are_visited_as_chance_has_it():
    """One token visits k of E, two no more than 2k, very many all; counted against draws."""
    work = work_of(vram.load_model("Qwen/Qwen3-30B-A3B", offline=True), Spread(), vram.load_model("Qwen/Qwen3-30B-A3B", offline=True).cache_formats)[0]
    assert work.expert_share(1) == pytest.approx(8 / 128)
    assert work.expert_share(2) <= 16 / 128
    draw = random.Random(7)  # noqa: S311  (nothing secret)
    seen = [len({e for _ in range(32) for e in draw.sample(range(128), 8)}) for _ in range(2000)]
    assert work.expert_share(32) == pytest.approx(sum(seen) / len(seen) / 128, rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_work_is_the_models_own(name):
    """What a step reads and computes adds up to the model: all weights but what is looked up, two operations a parameter that a token meets."""
    m = vram.load_model(name, offline=True)
    w = work_of(m, Spread(), m.cache_formats)[0]
    read = w.dense_bytes + w.head_bytes + w.expert_bytes
    assert 0.9 * m.weight_bytes < read <= m.weight_bytes
    assert w.dense_ops + w.head_ops + w.expert_ops == pytest.approx(2 * m.active_parameters, rel=0.16)
    split = work_of(m, Spread(tp=4), m.cache_formats)[0]
    assert read / 4 <= split.dense_bytes + split.head_bytes + split.expert_bytes < read


def test_what_one_sequence_reads_of_its_caches_is_what_it_keeps():
    """For plain attention the bytes read at a length are the bytes kept at that length."""
    m = vram.load_model(MODELS[0], offline=True)
    reads = work_of(m, Spread(), m.cache_formats)[0].reads
    for tokens in (1, 1000, 100_000):
        assert reads.at(tokens) == sum(cache.nbytes(tokens, m.cache_formats) * n for cache, n in m.cache_counts)


def test_a_plan_knows_its_speed_and_says_why_not():
    """Lazily, with the reason where there is none."""
    plan = vram.plan(MODELS[0], gpu="H100", engine="vllm", offline=True, concurrency=4)
    assert "speed" not in plan.__dict__
    assert plan.speed == estimate(plan.demand, "vllm")
    assert vram.plan(MODELS[2], gpu="RTX 4090", offline=True).speed is None
    assert "fit" in vram.plan(MODELS[2], gpu="RTX 4090", offline=True).speed_unknown
    half = vram.plan(MODELS[0], gpu="RTX 4090", engine="llama.cpp", gpu_layers=8, offline=True)
    assert half.speed is None
    assert "host" in half.speed_unknown


def test_a_card_without_rows_borrows_and_doubts_more():
    """The band of a borrowed class is wider, and the reason says so."""
    own, other = (estimate(demand(MODELS[0], gpu), "vllm") for gpu in ("H200", "M4 Max 128GB"))
    assert "borrowed" in other.tpot_seconds.why
    assert other.tpot_seconds.source == "formula"
    width = [s.tpot_seconds.high / s.tpot_seconds.low for s in (own, other)]
    assert width[1] > width[0]


@pytest.mark.parametrize(("measured", "other"), [("RX 7900 XT", "RX 7800 XT"), ("RTX 3090", "RTX 3080"), ("M4 Pro 24GB", "M4 Max 64GB")])
def test_a_card_with_rows_of_its_own_is_doubted_less(measured, other):
    """Its band is narrower than that of a card that only its class speaks for, and the reason names its rows."""
    own, its = (entry_for("llama.cpp", vram.parse_gpus(name).gpus[0].gpu, 4.5, experts=False) for name in (measured, other))
    assert own.doubt.decode < its.doubt.decode
    assert "itself" in own.why
    assert "itself" not in its.why


def test_what_memory_a_card_has_is_no_matter_to_its_constants():
    """Two sizes of one chip are one card."""
    small, large = (entry_for("llama.cpp", vram.parse_gpus(f"M4 Pro {size}GB").gpus[0].gpu, 4.5, experts=False) for size in (24, 48))
    assert small == large


@pytest.mark.parametrize(("gpu", "held_up"), [("GTX 1050 Ti", True), ("MI50", True), ("RTX 3090", False), ("RTX 5090", False)])
def test_little_arithmetic_holds_up_a_lone_sequence(gpu, held_up):
    """Beside 19 operations a byte (13 on the MI50) unpacking Q4_K_M binds before memory does, beside 38 and 59 hardly; a server's kernels are not asked."""
    d = demand(MODELS[0], gpu, concurrency=1, quant="Q4_K_M")
    free = replace(d, gpu=replace(d.gpu, vector_tflops=None))
    rates = [estimate(x, "llama.cpp").decode_tokens_per_second.value for x in (d, free)]
    assert (rates[1] > 1.2 * rates[0]) is held_up
    assert rates[1] >= rates[0]
    assert estimate(d, "vllm").decode_tokens_per_second == estimate(free, "vllm").decode_tokens_per_second


# ggml-org/llama.cpp#16900: Llama 3.1 8B on one Strix Halo, tokens/s with Vulkan's kernels and with ROCm's (truth/speed/found.jsonl, f0087 to f0092).
PAIRS = {"Q2_K": (60.17, 44.26), "Q3_K_S": (48.09, 34.70), "Q4_K_S": (43.42, 35.68)}


@pytest.mark.parametrize("quant", PAIRS)
def test_kernels_of_rocm_unpack_slower_where_it_is_told(quant):
    """One source measured both on one machine: the ratio that is predicted lies between none and the measured one, and a card of NVIDIA's knows none."""
    d = demand(MODELS[0], "Ryzen AI Max+ 395 128GB", concurrency=1, quant=quant)
    spread = Spread.of(d.placement, sequential=True)
    vulkan, rocm = (clock_over(d, "llama.cpp", spread, backend=b).seconds(0, 0, 1, 64) for b in ("Vulkan", "ROCm"))
    assert 1 < rocm / vulkan < PAIRS[quant][0] / PAIRS[quant][1]
    assert clock_over(d, "llama.cpp", spread).seconds(0, 0, 1, 64) == vulkan


def test_an_apple_chip_is_not_held_up_by_a_rate_that_apple_does_not_state():
    """What the catalogue reports of its vector units changes nothing, and M5, of which nothing is reported, stands as M4 does."""
    d = demand(MODELS[0], "M4 Pro 48GB", concurrency=1, quant="Q4_K_M")
    free = replace(d, gpu=replace(d.gpu, vector_tflops=None))
    assert estimate(d, "llama.cpp").decode_tokens_per_second == estimate(free, "llama.cpp").decode_tokens_per_second


@pytest.mark.parametrize(("gpu", "kind"), [("Ryzen AI Max+ 395 128GB", CardClass.RADEON), ("DGX Spark", CardClass.UNIFIED), ("M4 Max 64GB", CardClass.APPLE)])
def test_a_chip_on_a_hosts_memory_is_classed_by_whose_kernels_it_runs(gpu, kind):
    """AMD's runs the kernels of AMD's cards."""
    assert card_class(vram.parse_gpus(gpu).gpus[0].gpu) is kind


def test_sampling_from_a_large_vocabulary_takes_the_host_longer():
    """llama.cpp's server walks over all logits on the host: Gemma's 262,144 take eight times as long as Mistral's 32,768; its benchmark samples none."""
    taken = []
    for name in ("google/gemma-3-4b-it", "mistralai/Mistral-7B-Instruct-v0.3"):
        d = demand(name, "RTX 4090", concurrency=1, quant="Q4_K_M")
        spread = Spread.of(d.placement, sequential=True)
        served, bench = (clock_over(d, "llama.cpp", spread, samples=s).seconds(0, 0, 1, 64) for s in (True, False))
        taken.append(served - bench)
    assert 1e-4 < taken[0] < 1e-3
    assert taken[0] / taken[1] == pytest.approx(262_208 / 32_768, rel=1e-3)
    d = demand(MODELS[0], "RTX 4090", concurrency=1)
    at = [clock_over(d, "vllm", Spread.of(d.placement), samples=s).seconds(0, 0, 1, 64) for s in (True, False)]
    assert at[0] == at[1]


def test_a_recurrent_layer_is_launched_longer_where_kernels_are_launched_one_by_one():
    """Qwen3.5-9B, three layers of four with linear attention, beside Qwen3-8B: 24 layers more count for llama.cpp; a short convolution counts none."""
    d = demand("Qwen/Qwen3.5-9B", "RTX 4090", concurrency=1, quant="Q4_K_M")
    work = work_of(d.model, Spread.of(d.placement, sequential=True), d.workload.formats)[0]
    assert (work.layers, work.recurrent_layers) == (32, 24)
    c = clock(d, "llama.cpp")
    assert c.stages[0].fixed == pytest.approx(56 * c.entry.rates.layer_seconds)
    plain = demand("Qwen/Qwen3-8B", "RTX 4090", concurrency=1, quant="Q4_K_M")
    assert clock(plain, "llama.cpp").stages[0].fixed == pytest.approx(36 * clock(plain, "llama.cpp").entry.rates.layer_seconds)


def test_an_older_build_is_slower_and_says_so():
    """geerlingguy/ai-benchmarks measured one chip with llama3.2:3b in October 2024 (59.4 tokens/s) and in October 2025 (80.2): newer builds launch less."""
    d = demand("meta-llama/Llama-3.2-3B-Instruct", "M1 Max 64GB", concurrency=1, quant="Q4_K_M")
    rates = [estimate(replace(d, settings=Settings(version=v)), "llama.cpp").decode_tokens_per_second for v in ("b4008", "b6800", "b11434", "")]
    values = [r.value for r in rates]
    assert values[0] < values[1] < values[2] == values[3]
    assert "2.0 years old" in rates[0].why or "1.9 years old" in rates[0].why
    # What an age explains, it explains of small models: a large one waits for its bytes.
    large = demand("meta-llama/Llama-3.3-70B-Instruct", "M1 Max 64GB", concurrency=1, quant="Q4_K_M")
    old, new = (estimate(replace(large, settings=Settings(version=v)), "llama.cpp").decode_tokens_per_second.value for v in ("b4008", ""))
    assert new / old < values[3] / values[0]


@pytest.mark.parametrize(
    ("version", "date"), [("b3215", "2024-06-24"), ("b4327", "2024-12-14"), ("5589", "2025-06-05"), ("b8833", "2026-04-18"), ("b10549", "2026-08-22")]
)
def test_a_builds_age_is_its_days(version, date):
    """Builds whose day stands in llama.cpp's own threads, to a month; what is no build has no age."""
    assert build_age(version) == pytest.approx(day_age(date), abs=1 / 12)
    assert build_age("") == build_age("0.3.14") == build_age("nightly") == day_age("") == 0


def test_few_bits_are_not_as_fast_as_they_are_small():
    """P40, llama.cpp #4766: Llama-2-7B Q3_K_S (2.75 GiB) 30.7 tokens/s, Q2_K 33.4, Q4_0 (3.56 GiB) 56.3: unpacking holds few bits up."""
    rates = [
        estimate(demand("meta-llama/Llama-2-7b-hf", "P40", concurrency=1, quant=q), "llama.cpp").decode_tokens_per_second.value for q in ("Q3_K_S", "Q4_0")
    ]
    assert rates[0] < rates[1]
    # A server's kernels are not asked what llama.cpp's unpacking takes.
    d = demand(MODELS[0], "RTX 3090", concurrency=1)
    assert unpacking("Q3_K_M") > unpacking("Q4_K_M") > unpacking("Q4_0") == unpacking("") == unpacking("mxfp4") == 1
    assert estimate(d, "vllm").decode_tokens_per_second.value > 0


def test_the_table_is_complete():
    """Every engine that plans memory has constants for every class of card, weights and version."""
    for engine in (*ENGINE_NAMES, "mlx"):
        for card in ("H100", "RTX 4090", "P40", "GTX 1050 Ti", "RX 7900 XTX", "M4 Max 128GB", "M1 Max 64GB", "DGX Spark"):
            gpu = vram.parse_gpus(card).gpus[0].gpu
            for bits in (16.0, 8.0, 4.5):
                for experts in (False, True):
                    for version in ("", "0.6.3", "b9999", "nightly"):
                        entry = entry_for(engine, gpu, bits, experts=experts, version=version)
                        assert entry.why
                        assert min(entry.doubt.decode, entry.doubt.tpot, entry.doubt.prefill, entry.doubt.ttft, entry.doubt.ttft_less) > 1


def test_an_old_version_has_its_own_constants():
    """vLLM before 0.8 launched layer by layer: slower for small models than today's, and the reason names the version."""
    d = demand("Qwen/Qwen2.5-1.5B-Instruct", "A100 SXM 80GB", concurrency=1)
    new, old = (estimate(replace(d, settings=Settings(version=v)), "vllm") for v in ("", "0.6.3"))
    assert old.decode_tokens_per_second.value < new.decode_tokens_per_second.value
    assert "before 0.8" in old.decode_tokens_per_second.why
    # Qwen2.5's own speed benchmark, vLLM 0.6.3 on an A100, one sequence of 1 token in and 2,048 out.
    assert old.decode_tokens_per_second.low < 183.33 < old.decode_tokens_per_second.high
