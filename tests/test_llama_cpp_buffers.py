"""Where llama.cpp puts weights and caches, and its compute buffer, held against its own no-alloc runs and real GPU logs."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from data.hf_configs import CONFIGS
from hypothesis import given
from hypothesis import strategies as st
from llama_cpp_runs import devices_of, measured, model_of

from vram.engines.llama_cpp import reserve_kv
from vram.engines.llama_cpp_buffers import cache_spread, offload, weight_spread
from vram.engines.llama_cpp_compute import compute_spread
from vram.model.families.config import Config
from vram.model.families.registry import build
from vram.model.format import F16, GGML, KV_FORMATS
from vram.model.geometry import Geometry
from vram.model.layer import Layer
from vram.model.model import Model
from vram.model.quantization.gguf_mix import gguf_tensors
from vram.units import MIB

ROWS = [
    row
    for row in map(json.loads, (Path(__file__).parents[1] / "truth/llama_cpp/dry_runs.jsonl").read_text().splitlines())
    # Weights that are really loaded on a CPU are held twice where they are repacked.
    if row["ok"] and row["mode"] == "no_alloc"
]
TYPES = {**{f.name.lower(): f for f in GGML.values()}, **KV_FORMATS}


def from_widths() -> Model:
    return Model(name="m", architecture="", model_type="", tensors=(), layers=(Layer(index=0),), geometry=Geometry())


def reservation(row: dict[str, Any]) -> Any:
    return reserve_kv(
        model_of(row["preset"], row["quant"]),
        n_ctx=row["n_ctx"],
        n_parallel=row["n_parallel"],
        unified=bool(row["kv_unified"]),
        type_k=TYPES[row["type_k"]],
        type_v=TYPES[row["type_v"]],
        n_ubatch=row["n_ubatch"],
        n_batch=row["n_batch"],
        swa_full=bool(row["swa_full"]),
        flash_attention=bool(row["fa"]),
    )


def test_weights_and_caches_lie_where_llama_cpp_puts_them() -> None:
    """Bytes on the host and on each of up to two devices, for every number of offloaded layers: all 698 runs to the byte."""
    wrong = []
    for row in ROWS:
        m = model_of(row["preset"], row["quant"])
        where = offload(len(m.layers), n_gpu_layers=row["ngl"], shares=(1.0,) * devices_of(row))
        weights, kept = weight_spread(m, where), cache_spread(reservation(row), where, offload_kqv=bool(row["offload_kqv"]))
        if (weights.host, weights.devices) != measured(row, "model") or (kept.host, kept.devices) != measured(row, "context"):
            wrong.append((row["preset"], row["ngl"], row["device"], weights, kept))
    assert not wrong
    assert len(ROWS) == 698


@pytest.mark.parametrize(
    ("name", "device_mib", "host_mib"),
    # "CUDA0 model buffer size" and "CPU_Mapped model buffer size" of public logs, all layers offloaded, Q4_K_M.
    [
        ("llama3.1-8b", 4403.49, 281.81),
        ("qwen3-8b", 4455.34, None),
        ("qwen2.5-7b", 4168.09, None),
        ("qwen3-32b", 18423.65, None),
        ("gemma3-27b", 15773.97, None),
    ],
)
def test_a_real_gpu_holds_as_much(name: str, device_mib: float, host_mib: float | None) -> None:
    """From a config.json and a mix's name to what CUDA allocated: to 0.01 MiB, Gemma with its tied output to 0.1."""
    s = build(Config(CONFIGS[name]))
    tensors = gguf_tensors(s.tensors, s.geometry, CONFIGS[name]["model_type"], "Q4_K_M")
    m = Model(name=name, architecture="", model_type="", tensors=tensors, layers=tuple(s.layers), geometry=s.geometry)
    spread = weight_spread(m, offload(len(m.layers)))
    assert spread.devices[0] / MIB == pytest.approx(device_mib, abs=0.1 if name.startswith("gemma") else 0.011)
    assert host_mib is None or spread.host / MIB == pytest.approx(host_mib, abs=0.011)


def compute(row: dict[str, Any]) -> Any:
    m = model_of(row["preset"], row["quant"])
    return compute_spread(
        m,
        reservation(row),
        offload(len(m.layers), n_gpu_layers=row["ngl"], shares=(1.0,) * devices_of(row)),
        n_parallel=row["n_parallel"],
        n_outputs=row["n_outputs_max"] or row["n_batch"],
        type_k=TYPES[row["type_k"]],
        flash_attention=bool(row["fa"]),
        offload_kqv=bool(row["offload_kqv"]),
    )


def test_compute_buffers_are_nearly_llama_cpps() -> None:
    """Host and every device of 698 runs, any split, latents and states too: hardly above, 19 of 20 within 3 %, the median exact to 0.1 %."""
    errors = []
    for row in ROWS:
        found, (host, devices) = compute(row), measured(row, "compute")
        errors += [f / real - 1 for f, real in zip((found.host, *found.devices), (host, *devices), strict=True) if real]
    assert len(errors) == 841
    assert max(errors) < 0.025
    assert median(abs(e) for e in errors) < 0.001
    assert sum(abs(e) < 0.03 for e in errors) > 0.95 * len(errors)
    assert sum(abs(e) < 0.10 for e in errors) >= len(errors) - 4


def test_no_closed_form_is_said() -> None:
    """What computes in widths that nobody tells is not guessed."""
    m = from_widths()
    assert compute_spread(m, reserve_kv(m, n_ctx=4096), offload(1), type_k=F16) is None


@given(layers=st.integers(1, 200), ngl=st.integers(-1, 250), shares=st.lists(st.floats(0.01, 100), max_size=8))
def test_every_layer_has_a_place(layers: int, ngl: int, shares: list[float]) -> None:
    """Offloaded layers are the last ones, devices follow each other, and no layer is lost."""
    where = offload(layers, n_gpu_layers=ngl, shares=shares)
    places = [*where.layers, where.output]
    on_device = [p for p in places if p is not None]
    assert len(places) == layers + 1
    assert len(on_device) == (min(max(ngl, 0), layers + 1) if shares else 0)
    assert places[layers + 1 - len(on_device) :] == on_device == sorted(on_device)
