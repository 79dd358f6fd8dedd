"""llama.cpp through the planner: every dry run and public log of the corpus as a plan, host and devices."""

from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_cpp_runs import LOGS, devices_of, dry_buffers, from_config, log_buffers, model_of, plans

import vram
from vram.engines.base import Settings
from vram.engines.llama_cpp_build import build_of
from vram.engines.registry import engine
from vram.errors import PlacementError, UsageError
from vram.hardware.fleet import Fleet
from vram.hardware.spelling import parse_gpu
from vram.model.model import Model
from vram.model.quantization.named import requantize
from vram.planner.document import plan_document
from vram.planner.make import make_plan
from vram.planner.plan import Plan
from vram.runtime.choosing import fleet_of
from vram.units import GIB, MIB


def test_every_dry_run_is_planned_to_the_byte() -> None:
    """Weights, caches and states of the host and of every GPU, and the logits, of all 709 runs."""
    found = [b for b in dry_buffers() if b.kind != "compute"]
    assert not [b for b in found if not b.exact]
    assert len(plans()) == sum(b.kind == "output" for b in found) == 709
    assert sum(b.kind == "model" for b in found) > 698
    assert sum(b.kind == "context" for b in found) > 700
    # The planner's one idle GPU is not in the runs on a CPU alone.
    assert not [row for row, plan in plans() if not devices_of(row) for g in plan.gpus if g.parts.weights.bytes or g.parts.kv_cache.bytes]


def test_compute_buffers_stay_in_their_bands() -> None:
    """Median error at most 0.5 %, 95 % within 10 %, none above the high end of its band, 95 % above the low end."""
    found = [b for b in dry_buffers() if b.kind == "compute"]
    errors = sorted(abs(b.planned - b.real) / b.real for b in found)
    assert not [b for b in found if b.real > b.high]
    assert median(errors) <= 0.005
    assert errors[int(0.95 * len(errors))] <= 0.10
    assert sum(b.real < b.low for b in found) <= 0.05 * len(found)
    assert len(found) == 852


RTX = parse_gpu("RTX 4090").gpu


def on(model: Model, gpus: int = 1, **more: Any) -> Plan:
    settings = {k: more.pop(k) for k in list(more) if k in Settings.__dataclass_fields__}
    return make_plan(model, Fleet.of([RTX] * gpus), engine="llama.cpp", settings=Settings(**settings), **more)


def test_older_builds_take_the_compute_buffers_of_their_logs() -> None:
    """Builds before June 2026, fully offloaded with flash attention: 258.50, 304.75, 307.00 and 522.62 MiB of public logs."""
    for name, mib in (("llama3.1-8b", 258.50), ("qwen3-8b", 304.75), ("qwen2.5-32b", 307.00), ("gemma3-27b", 522.62)):
        part = on(from_config(name, "Q4_K_M"), version="b5000", gpu_layers=99).gpus[0].parts.activations
        assert part.bytes / MIB == pytest.approx(mib, rel=0.003)
        assert part.low <= mib * MIB <= part.high


def test_older_builds_computed_on_a_gpu_without_layers() -> None:
    """-ngl 0 on CUDA, builds before June 2026: 248.54 MiB (Llama-2-13B Q8_0) and 548.18 MiB (Qwen2.5-3B Q4_K_M) of public logs."""
    from vram.api import load_model

    for m, mib in ((from_config("llama2-13b", "Q8_0"), 248.54), (requantize(load_model("Qwen/Qwen2.5-3B", offline=True), "Q4_K_M"), 548.18)):
        part = on(m, version="b5000", gpu_layers=0, context_tokens=512).gpus[0].parts.activations
        assert part.bytes / MIB == pytest.approx(mib, rel=0.005)
        assert part.low <= mib * MIB <= part.high


def test_slots_follow_the_build() -> None:
    """One slot until November 2025, four that share one cache since; four of their own when they are asked for."""
    m = from_config("llama3.1-8b")
    old, new, own = (on(m, context_tokens=4096, **s) for s in ({"version": "b6000"}, {}, {"parallel": 4}))
    token = 2 * 32 * 8 * 128 * 2
    assert [p.gpus[0].parts.kv_cache.bytes for p in (old, new, own)] == [4096 * token, 4096 * token, 4 * 4096 * token]
    assert dict(old.host)["output"].bytes * 4 == dict(new.host)["output"].bytes == 4 * 128256 * 4
    assert own.kv_pool.max_concurrency is not None
    assert new.kv_pool.max_concurrency == pytest.approx(own.kv_pool.max_concurrency, rel=0.2)


def test_layers_are_dealt_to_gpus_by_free_memory() -> None:
    """Two GPUs are two stages by default; shares follow what is free, or what is asked for; all layers lie somewhere, once."""
    m = from_config("llama3.1-8b", "Q4_K_M")
    even = on(m, 2)
    assert (even.placement.tp, even.placement.pp) == (1, 2)
    assert sum(g.parts.weights.bytes for g in even.gpus) == on(m).gpus[0].parts.weights.bytes
    mixed = make_plan(m, Fleet.of([parse_gpu("RTX 3060 12GB").gpu, RTX]), engine="llama.cpp")
    a, b = (g.parts.kv_cache.bytes for g in mixed.gpus)
    assert a * 20 == b * 12  # 12 layers of 33 (the output is one) end before a third of the memory, 20 lie behind
    assert a == on(m, 2, tensor_split=(1.0, 1.9)).gpus[0].parts.kv_cache.bytes
    with pytest.raises(UsageError, match="shares"):
        on(m, 2, tensor_split=(1.0,))
    with pytest.raises(PlacementError, match="whole layers"):
        on(m, 2, tp=2)


def test_what_does_not_go_on_the_gpu_goes_on_the_host() -> None:
    """Fewer GPU layers move bytes of weights and caches to the host, none is lost; -ngl 0 leaves nothing on the card."""
    m = from_config("llama3.1-8b", "Q4_K_M")
    full = on(m, context_tokens=8192)
    for layers in (0, 1, 17, 33):
        part = on(m, context_tokens=8192, gpu_layers=layers)
        host, device = dict(part.host), part.gpus[0].parts
        assert host["weights"].bytes + device.weights.bytes == pytest.approx(m.weight_bytes, rel=1e-4)
        assert (host["kv_cache"].bytes if "kv_cache" in host else 0) + device.kv_cache.bytes == full.gpus[0].parts.kv_cache.bytes
        assert (device.weights.bytes == 0) == (layers == 0)


def test_an_unquantised_config_is_planned_as_its_16_bit_gguf() -> None:
    """Qwen2.5-7B in bf16: what llama.cpp's converter writes, norms and biases in 32 bits, embedding on the host."""
    m = from_config("qwen2.5-7b")
    plan = on(m)
    held = plan.gpus[0].parts.weights.bytes + dict(plan.host)["weights"].bytes
    small = sum(t.elements for t in m.tensors if len(t.shape) == 1)
    assert held == m.weight_bytes + 2 * small


def test_image_encoders_lie_on_the_first_gpu() -> None:
    """The mmproj file of a composite goes to the first device, and its unknown compute buffer widens the band."""
    from vram.api import load_model

    m = load_model("Qwen/Qwen2.5-VL-7B-Instruct", offline=True)
    tower = sum(t.nbytes for t in m.tensors if t.component in {"vision", "projector"})
    assert tower > GIB
    first, second = on(m, 2, tensor_split=(1.0, 1.0)).gpus
    text = on(requantize(m, "Q4_K_M"), 2, tensor_split=(1.0, 1.0)).gpus
    assert first.parts.weights.bytes > tower
    assert text[0].parts.weights.bytes > tower
    assert first.parts.activations.high - first.parts.activations.bytes > GIB
    assert second.parts.activations.high - second.parts.activations.bytes < GIB // 4


def test_unified_memory_holds_the_host_too() -> None:
    """On an Apple chip the embedding on the "host" takes from the same memory."""
    m = from_config("llama3.1-8b", "Q4_K_M")
    gpu = parse_gpu("M4 Max 128GB").gpu
    plan = make_plan(m, Fleet.of([gpu]), engine="llama.cpp")
    assert plan.gpus[0].parts.weights.bytes == pytest.approx(m.weight_bytes, rel=1e-4)


@pytest.mark.parametrize("spelled", ["llama.cpp", "llama-cpp", "llamacpp", "LLAMA_CPP"])
def test_spellings(spelled: str) -> None:
    """People's spellings of the name are one engine."""
    assert engine(spelled).name == "llama.cpp"


@pytest.mark.parametrize("version", ["latest", "b", "0.5.0", "b11434-cuda", "b99999999"])
def test_versions_that_are_none(version: str) -> None:
    """A version that is no build number is refused with a hint."""
    with pytest.raises(UsageError, match="no version") as caught:
        build_of(version)
    assert caught.value.hint


def test_caches_that_ggml_has_not_are_refused() -> None:
    """fp8 is no type of ggml; q8_0 is, for keys and values apart, too."""
    m = from_config("llama3.1-8b")
    with pytest.raises(UsageError, match="no cache of type"):
        on(m, kv_dtype="fp8")
    halves = on(m, kv_dtype="q8_0/f16", context_tokens=4096).gpus[0].parts.kv_cache.bytes
    assert halves == 4096 * 32 * 8 * (128 * 34 // 32 + 128 * 2)


def test_the_document_tells_the_host() -> None:
    """`--json` holds the host's parts for llama.cpp, and says null for engines whose rules do not tell."""
    m = from_config("llama3.1-8b")
    told = plan_document(on(m))
    assert set(told["host"]["parts"]) >= {"weights", "output", "compute", "runtime"}
    assert plan_document(make_plan(m, Fleet.of([RTX])))["host"] is None


def test_a_mend_speaks_ggml() -> None:
    """A model that does not fit gets mends that llama.cpp can do: q8_0 caches, GGUF types, more GPUs."""
    plan = on(from_config("gemma3-27b"), context_tokens=8192)
    flags = " ".join(m.flag for m in plan.mends)
    assert "--quant Q4_K_M --kv-dtype q8_0" in flags
    assert "fp8" not in flags
    assert "awq" not in flags


def test_a_mend_leaves_layers_on_the_host() -> None:
    """As many layers on the card as fit, and not one more: typed as told, the plan is what the mend said."""
    m = from_config("llama3.1-70b", "Q4_K_M")
    plan = on(m, context_tokens=8192)
    mend = next(x for x in plan.mends if x.flag.startswith("--gpu-layers"))
    layers = int(mend.flag.split()[1])
    as_typed = on(m, context_tokens=8192, gpu_layers=layers)
    assert as_typed.verdict == mend.verdict != "does_not_fit"
    assert as_typed.spare_bytes - plan.spare_bytes == mend.gains_bytes
    assert on(m, context_tokens=8192, gpu_layers=layers + 1).verdict == "does_not_fit"
    assert 0 < layers < 81


@given(
    name=st.sampled_from(["llama3.1-8b", "gemma3-4b", "qwen3-30b-a3b", "mamba2-2.7b", "deepseek-v2-lite", "qwen3-next-80b"]),
    context=st.integers(1, 100_000),
    sequences=st.integers(1, 9),
    parallel=st.none() | st.integers(1, 9),
    layers=st.none() | st.integers(0, 90),
    gpus=st.integers(1, 3),
    version=st.sampled_from(["", "b5000", "b8000"]),
)
def test_more_never_takes_less(name: str, context: int, sequences: int, parallel: int | None, layers: int | None, gpus: int, version: str) -> None:
    """A longer context or one more sequence never takes less on any GPU, bands hold their expected value, limits are kept."""
    m = model_of(name, "Q4_K_M")
    s: dict[str, Any] = {"parallel": parallel, "gpu_layers": layers, "version": version}
    plan = on(m, gpus, context_tokens=context, concurrency=sequences, **s)
    longer = on(m, gpus, context_tokens=context + 300, concurrency=sequences, **s)
    wider = on(m, gpus, context_tokens=context, concurrency=sequences + 1, **s)
    for a, b, c in zip(plan.gpus, longer.gpus, wider.gpus, strict=True):
        assert a.parts.kv_cache.bytes <= min(b.parts.kv_cache.bytes, c.parts.kv_cache.bytes)
        # One slot more may shrink a batch: it is dealt to slots in equal parts.
        # States that find room beside a full batch need their own beside a smaller one: 1.2 % of a Mamba's 456 rows.
        assert a.parts.activations.bytes <= b.parts.activations.bytes * (1.05 if name.startswith("mamba2") else 1)
    for parts in [g.parts.items() for g in plan.gpus] + [plan.host]:
        assert all(0 <= p.low <= p.bytes <= p.high for _, p in parts)


def test_a_plan_stays_quick() -> None:
    """A plan that was made before takes well under ten milliseconds, solver included."""
    from time import perf_counter

    m = model_of("llama3.1-70b", "Q4_K_M")
    on(m, 2)
    start = perf_counter()
    for context in range(4096, 4096 + 20):
        on(m, 2, context_tokens=context)
    assert (perf_counter() - start) / 20 < 0.02


def test_public_logs_are_planned() -> None:
    """Of what real GPUs printed, at least 97 % of the comparable weights and caches are planned to 0.1 MiB a buffer; the rest is told with its reason."""
    found, told = log_buffers()
    kept, computed = [b for b in found if b.kind != "compute"], [b for b in found if b.kind == "compute"]
    assert sum(b.exact for b in kept) >= max(40, 0.97 * len(kept))
    assert all(b.low <= b.real <= b.high for b in computed)
    assert len(computed) >= 4
    assert all(reason for _, _, reason in told)
    assert len({(b.run, b.model) for b in found}) + len(told) <= len(LOGS)


def test_the_one_log_that_differs_had_an_importance_matrix() -> None:
    """Yi-34B's IQ4_XS: llama-quantize makes the first eighth of the layers' `ffn_down` Q5_K, with an importance matrix it does not."""
    (wrong,) = [b for b in log_buffers()[0] if b.kind != "compute" and not b.exact]
    assert wrong.model.startswith("Yi-34B")
    layers = 60 // 8
    assert wrong.planned - wrong.real == pytest.approx(layers * 7168 * 20480 * (5.5 - 4.25) / 8, abs=0.1 * MIB)


@pytest.mark.parametrize(("engine", "draft"), [("llama.cpp", None), ("llama.cpp@b5000", None), ("ollama", None), ("llama.cpp", "Qwen/Qwen3-0.6B")])
@pytest.mark.parametrize("settings", [{"kv_offload": False}, {"gpu_layers": 7}, {"gpu_layers": 0}, {"gpu_layers": 7, "kv_offload": False}])
@pytest.mark.parametrize("gpu", ["M4 Pro 48GB", "cpu"])
def test_a_cache_takes_as_much_of_one_memory_whoever_works_on_it(engine: str, draft: str | None, settings: dict[str, Any], gpu: str) -> None:
    """Where the GPU's memory is the host's, no layer's cache leaves it by being kept on the host; on a card it does."""

    def kept(fleet: Fleet, **asked: Any) -> int:
        made = vram.plan("Qwen/Qwen3-8B", gpu=fleet, engine=engine, draft=draft, context_tokens=8192, offline=True, **asked)
        return made.gpus[0].parts.kv_cache.bytes

    fleet = fleet_of("cpu", dry=True) if gpu == "cpu" else vram.parse_gpus(gpu)
    assert kept(fleet, **settings) == kept(fleet) > 2**30
    assert kept(vram.parse_gpus("H100 SXM 80GB"), **settings) < kept(vram.parse_gpus("H100 SXM 80GB"))
