"""llama.cpp through the planner: every dry run and public log of the corpus as a plan, host and devices."""

import json
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from data.hf_configs import CONFIGS
from hypothesis import given
from hypothesis import strategies as st
from test_llama_cpp_buffers import devices_of, measured, model_of
from test_llama_cpp_kv import from_log

from vram.engines.base import Settings
from vram.engines.llama_cpp_build import build_of
from vram.engines.registry import engine
from vram.errors import PlacementError, UsageError
from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu
from vram.hardware.spelling import parse_gpu
from vram.model.families.config import Config
from vram.model.families.registry import build
from vram.model.model import Model
from vram.model.quantization.named import requantize
from vram.planner.document import plan_document
from vram.planner.make import make_plan
from vram.planner.plan import Plan
from vram.units import GIB, MIB

TRUTH = Path(__file__).parents[1] / "truth/llama_cpp"
ROWS = [row for row in map(json.loads, (TRUTH / "dry_runs.jsonl").read_text().splitlines()) if row["ok"]]
# An RPC device stands in for a GPU in the dry runs: of no vendor, and as large as the largest model.
REMOTE = Gpu(name="remote", vendor="", architecture="", capacity_bytes=2**42, capacity_source="stated", marketing_bytes=2**42)


def plan_of(row: dict[str, Any]) -> Plan:
    """The plan of a dry run: runs on the CPU alone are runs with no layer offloaded."""
    devices, slots, unified = devices_of(row), row["n_parallel"], bool(row["kv_unified"])
    return make_plan(
        model_of(row["preset"], row["quant"]),
        Fleet.of([REMOTE] * max(devices, 1)),
        engine="llama.cpp",
        context_tokens=row["n_ctx"] if unified else -(-row["n_ctx"] // slots),
        concurrency=1 if unified else slots,
        kv_dtype=f"{row['type_k']}/{row['type_v']}",
        settings=Settings(
            max_batched_tokens=row["n_batch"],
            ubatch=row["n_ubatch"],
            parallel=slots,
            flash_attention=bool(row["fa"]),
            gpu_layers=row["ngl"] if devices else 0,
            kv_unified=unified,
            kv_offload=bool(row["offload_kqv"]),
            swa_full=bool(row["swa_full"]),
            output_rows=row["n_outputs_max"] or row["n_batch"],
        ),
    )


@cache
def plans() -> list[tuple[dict[str, Any], Plan]]:
    return [(row, plan_of(row)) for row in ROWS]


def test_every_dry_run_is_planned_to_the_byte() -> None:
    """Weights, caches and states of the host and of every GPU, and the logits, of all 709 runs."""
    wrong = []
    for row, plan in plans():
        host = dict(plan.host)
        weights = (host["weights"].bytes, tuple(g.parts.weights.bytes for g in plan.gpus))
        kept = (host["kv_cache"].bytes if "kv_cache" in host else 0, tuple(g.parts.kv_cache.bytes for g in plan.gpus))
        if not devices_of(row):
            # The planner's one idle GPU is not in the run; weights that were really loaded are held twice where repacked.
            assert not any(kept[1])
            assert not any(weights[1])
            weights, kept = (weights[0], ()), (kept[0], ())
        if row["mode"] == "no_alloc" and weights != measured(row, "model"):
            wrong.append((row["preset"], row["ngl"], "weights", weights))
        if kept != measured(row, "context") or round(host["output"].bytes / MIB, 2) != row["output_MiB"]:
            wrong.append((row["preset"], row["ngl"], "caches", kept))
    assert not wrong
    assert len(plans()) == 709


def test_compute_buffers_stay_in_their_bands() -> None:
    """Median error at most 0.5 %, 95 % within 10 %, none above the high end of its band, 95 % above the low end; median width at most 16 %."""
    errors, above, below, wide = [], [], 0, []
    for row, plan in plans():
        host, devices = measured(row, "compute")
        parts = [dict(plan.host)["compute"], *(g.parts.activations for g in plan.gpus)]
        for part, real in zip(parts, (host, *devices), strict=False):
            errors.append(abs(part.bytes - real) / real)
            wide.append((part.high - part.low) / real)
            below += real < part.low
            if real > part.high:
                above.append((row["preset"], row["ngl"], real, part))
    errors.sort()
    print(
        f"{len(errors)} compute buffers: median {median(errors):.4%}, p95 {errors[int(0.95 * len(errors))]:.2%}, most {errors[-1]:.1%}, {below} below their bands"
    )
    assert not above
    assert median(errors) <= 0.005
    assert errors[int(0.95 * len(errors))] <= 0.10
    assert below <= 0.05 * len(errors)
    assert len(errors) == 852


def from_config(name: str, quant: str = "") -> Model:
    s = build(Config(CONFIGS[name]))
    m = Model(
        name=name,
        architecture="",
        model_type=CONFIGS[name]["model_type"],
        tensors=tuple(s.tensors),
        layers=tuple(s.layers),
        geometry=s.geometry,
        source="config",
    )
    return requantize(m, quant) if quant else m


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
    plan = on(from_config("llama3.1-70b"), context_tokens=32768)
    flags = " ".join(m.flag for m in plan.mends)
    assert "Q4_K_M" in flags
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


# Logs that name a published model: what it is called in the built-in catalogue or in tests/data, and its quantization where
# the log tells one that llama-quantize makes without help.
NAMED = (
    ("google_gemma-3-27b-it-qat-Q4_K_M", "gemma3-27b", "Q4_K_M"),
    ("llama-2-13b-chat.Q8_0", "llama2-13b", "Q8_0"),
    ("Qwen3-8B Q4_K_M", "qwen3-8b", "Q4_K_M"),
    ("Reflection-Llama-3.1-70B Q4_K_S", "llama3.1-70b", "Q4_K_S"),
    ("Qwen3-30B-A3B (48L)", "qwen3-30b-a3b", ""),
    ("Qwen2.5-Coder-32B", "qwen2.5-32b", ""),
    ("Qwen2.5-7B-Instruct-1M Q8_0", "qwen2.5-7b", "Q8_0"),
    ("Qwen3-14B", "Qwen/Qwen3-14B", ""),
    ("qwen2.5-3b Q4_K_M", "Qwen/Qwen2.5-3B", "Q4_K_M"),
    ("Command-R 35B", "CohereLabs/c4ai-command-r-v01", ""),
    ("Yi-34B RP-Stew-V2 IQ4_XS", "01-ai/Yi-34B", "IQ4_XS"),
)


@cache
def named(name: str, quant: str) -> Model | None:
    from vram.api import load_model
    from vram.errors import ModelNotFoundError

    try:
        m = from_config(name) if name in CONFIGS else load_model(name, offline=True)
    except ModelNotFoundError:
        return None
    return requantize(m, quant) if quant else m


def logged(row: dict[str, Any]) -> tuple[Plan, bool] | str:
    """The plan of a public log, and whether its weights can be told; or why it can't be planned."""
    if row.get("layers_offload") is not None and "kv_MiB" not in row:
        return "an estimate of Ollama's own, no buffers"
    if not {"kv_MiB", "model_MiB"} & row.keys():
        return "prints neither weights nor caches"
    model, weights = None, False
    for start, name, quant in NAMED:
        if row.get("model", "").startswith(start):
            model = named(name, quant)
            weights = model is not None and bool(quant) and "model_MiB" in row
    model = model or from_log(row)
    if model is None:
        return "neither names a published model nor prints its shapes"
    if "n_ctx" not in row and not weights:
        return "prints no context length"
    if row["source"].endswith("issues/9390") or row["source"].endswith("issues/9170"):
        return "only some of its GPUs"
    gpus = max(sum(1 for k in row.get("kv_MiB", row.get("model_MiB", {})) if k not in HOSTS), 1)
    offloaded = row.get("ngl")
    plan = make_plan(
        model,
        Fleet.of([REMOTE] * gpus),
        engine="llama.cpp",
        context_tokens=row.get("n_ctx", 4096) // row.get("n_parallel", 1),
        concurrency=row.get("n_parallel", 1),
        kv_dtype=f"{row.get('type_k', 'f16')}/{row.get('type_v', row.get('type_k', 'f16'))}",
        settings=Settings(
            version="b4615",
            max_batched_tokens=row.get("n_batch"),
            ubatch=row.get("n_ubatch"),
            parallel=row.get("n_parallel", 1),
            flash_attention=bool(row.get("fa", row.get("type_k", "f16") != "f16")),
            gpu_layers=int(offloaded.split("/")[0]) if isinstance(offloaded, str) else offloaded,
        ),
    )
    return plan, weights


HOSTS = frozenset({"CPU", "CPU_Mapped", "CUDA_Host", "ROCm_Host"})


def test_public_logs_are_planned() -> None:
    """Of what real GPUs printed, at least 97 % of the comparable weights and caches are planned to 0.1 MiB a buffer; the rest is told with its reason."""
    right, wrong, told, bands = 0, [], [], []
    for row in map(json.loads, (TRUTH / "gpu_logs.jsonl").read_text().splitlines()):
        found = logged(row)
        if isinstance(found, str):
            told.append((row["source"], row.get("model"), found))
            continue
        plan, weights = found
        host = dict(plan.host)
        # A model that is known by its shapes alone has no MLP and no vocabulary to compute in.
        if plan.model.weight_bytes > GIB and "fa" in row and "compute_MiB" in row and "ngl" in row and not str(row["ngl"]).startswith("0"):
            devices = [mib for place, mib in row["compute_MiB"].items() if place not in HOSTS]
            bands += [g.parts.activations.low <= mib * MIB <= g.parts.activations.high for mib, g in zip(devices, plan.gpus, strict=False)]
        if "kv_MiB" in row and "n_ctx" in row:
            real = row.get("kv_total_MiB", sum(row["kv_MiB"].values()))
            planned = (sum(g.parts.kv_cache.bytes for g in plan.gpus) + (host["kv_cache"].bytes if "kv_cache" in host else 0)) / MIB
            ok = abs(real - planned) <= 0.1 * len(row["kv_MiB"])
            right += ok
            wrong += [] if ok else [(row["source"], row.get("model"), "caches", real, planned)]
        if weights:
            real = sum(row["model_MiB"].values())
            planned = sum(g.parts.weights.bytes for g in plan.gpus) / MIB
            if HOSTS & row["model_MiB"].keys():
                planned += host["weights"].bytes / MIB
            ok = abs(real - planned) <= 0.1 * len(row["model_MiB"])
            right += ok
            wrong += [] if ok else [(row["source"], row.get("model"), "weights", real, planned)]
    for line in (*wrong, *told):
        print(*line)
    print(f"{right} of {right + len(wrong)} buffers exact; {len(told)} rows are not comparable")
    print(f"{sum(bands)} of {len(bands)} compute buffers of published models inside their bands")
    assert right >= 40
    assert all(bands)
    assert len(bands) >= 4
    assert right >= 0.97 * (right + len(wrong))
