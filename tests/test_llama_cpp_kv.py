"""What llama.cpp reserves for caches, held against its own no-alloc runs and against public logs of real GPUs."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from data.hf_configs import CONFIGS
from data.make_gguf import preset
from hypothesis import given
from hypothesis import strategies as st
from llama_cpp_runs import LOGS, from_log

from vram.engines.llama_cpp import KvReservation, reserve_kv
from vram.errors import UsageError
from vram.model.families.config import Config
from vram.model.families.registry import build
from vram.model.format import GGML, KV_FORMATS
from vram.model.model import Model
from vram.readers.gguf import model_from_gguf, read_gguf
from vram.units import MIB

TRUTH = Path(__file__).parents[1] / "truth/llama_cpp"
ROWS = [json.loads(line) for line in (TRUTH / "dry_runs.jsonl").read_text().splitlines()]
# ggml's names of types that only files have, beside those that people give to caches.
TYPES = {**{f.name.lower(): f for f in GGML.values()}, **KV_FORMATS}


@cache
def from_gguf(name: str, quant: str) -> Model:
    made = preset(name, quant)
    return model_from_gguf([read_gguf(made.read, made.size, name)], name)


@cache
def from_config(name: str) -> Model:
    s = build(Config(CONFIGS[name]))
    return Model(
        name=name,
        architecture="",
        model_type=CONFIGS[name]["model_type"],
        tensors=tuple(s.tensors),
        layers=tuple(s.layers),
        geometry=s.geometry,
        source="config",
    )


def reserve(model: Model, row: dict[str, Any]) -> KvReservation:
    return reserve_kv(
        model,
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


@pytest.mark.parametrize("source", ["gguf", "config"])
def test_every_dry_run_is_matched_to_the_byte(source: str) -> None:
    """Caches and states of 709 contexts equal llama.cpp's own bytes, from a GGUF and from a config.json; 9 are refused as it refused them."""
    wrong, seen = [], Counter[str]()
    for row in ROWS:
        model = from_gguf(row["preset"], row["quant"]) if source == "gguf" else from_config(row["preset"])
        if not row["ok"]:
            with pytest.raises(UsageError):
                reserve(model, row)
            seen["refused"] += 1
            continue
        found = reserve(model, row)
        measured = sum(b["context"] for b in row["buffers_bytes"].values())
        cells = sorted({cells for cells, _ in row.get("caches", ())})
        if (found.context_bytes, round(found.output_bytes / MIB, 2), sorted({n for n in (found.cells, found.window_cells) if n})) != (
            measured,
            row["output_MiB"],
            cells,
        ):
            wrong.append((row["preset"], measured, found))
        seen["exact"] += 1
    assert not wrong
    assert seen == {"exact": 709, "refused": 9}


def test_public_gpu_logs_are_matched() -> None:
    """KV sizes that real GPUs printed are recomputed from the hyperparameters of the same log: all that print enough, to 0.02 MiB a device."""
    compared, wrong = 0, []
    for row in LOGS:
        model = from_log(row)
        if model is None or "kv_total_MiB" not in row or "n_ctx" not in row:
            continue
        type_k = TYPES[row.get("type_k", "f16")]
        found = reserve_kv(
            model,
            n_ctx=row["n_ctx"],
            n_parallel=row.get("n_parallel", 1),
            type_k=type_k,
            type_v=TYPES[row.get("type_v", row.get("type_k", "f16"))],
            n_batch=row.get("n_batch", 2048),
            n_ubatch=row.get("n_ubatch", 512),
            flash_attention=True,
            swa_full=True,  # the fork has no windowed caches
        )
        compared += 1
        if abs(found.attention_bytes / MIB - row["kv_total_MiB"]) > 0.02 * max(1, len(row.get("kv_MiB", ()))):
            wrong.append((row["source"], row["model"], row["kv_total_MiB"], found.attention_bytes / MIB))
    assert not wrong
    assert compared >= 38


LLAMA = from_config("llama3.1-8b")
GEMMA = from_config("gemma3-4b")


@given(n_ctx=st.integers(1, 200_000), slots=st.integers(1, 16), ubatch=st.integers(1, 4096), unified=st.booleans())
def test_a_reservation_holds_what_was_asked_for(n_ctx: int, slots: int, ubatch: int, unified: bool) -> None:  # noqa: FBT001
    """Never fewer cells than tokens asked for, whole multiples of 256, and windows never cost more than full layers."""
    r = reserve_kv(GEMMA, n_ctx=n_ctx, n_parallel=slots, n_ubatch=ubatch, unified=unified)
    assert r.cells % 256 == r.window_cells % 256 == 0
    assert r.streams == (1 if unified else slots)
    assert r.context_tokens >= n_ctx // slots * slots
    full = reserve_kv(GEMMA, n_ctx=n_ctx, n_parallel=slots, n_ubatch=ubatch, unified=unified, swa_full=True)
    assert r.attention_bytes <= full.attention_bytes
    more = reserve_kv(GEMMA, n_ctx=n_ctx + 256, n_parallel=slots, n_ubatch=ubatch, unified=unified)
    assert more.attention_bytes >= r.attention_bytes


def test_zero_context_is_the_models_longest() -> None:
    """`-c 0` takes the context that the model was trained for."""
    assert reserve_kv(LLAMA).cells == 131072
    assert reserve_kv(LLAMA).attention_bytes == 131072 * 2 * 32 * 8 * 128 * 2


def test_windows_that_llama_cpp_does_not_have_are_full() -> None:
    """Mistral 7B v0.1 states a window; llama.cpp's llama architecture keeps every token."""
    s = build(Config({"model_type": "mistral", "num_hidden_layers": 2, "sliding_window": 4096, "num_attention_heads": 32, "hidden_size": 4096}))
    m = Model(name="m", architecture="", model_type="mistral", tensors=tuple(s.tensors), layers=tuple(s.layers), geometry=s.geometry, source="config")
    assert reserve_kv(m, n_ctx=32768).attention_bytes == 2 * 32768 * 2 * 8 * 128 * 2


def test_refusals_are_llama_cpps() -> None:
    """Quantised values without flash attention, heads that are no whole blocks, two types for a latent."""
    with pytest.raises(UsageError, match="flash attention"):
        reserve_kv(LLAMA, n_ctx=512, type_v=TYPES["q8_0"], flash_attention=False)
    with pytest.raises(UsageError, match="latent"):
        reserve_kv(from_config("deepseek-v3"), n_ctx=512, type_k=TYPES["q8_0"])
    with pytest.raises(UsageError, match="256"):
        reserve_kv(LLAMA, n_ctx=512, type_k=TYPES["q4_k"])
    with pytest.raises(UsageError, match="at least one"):
        reserve_kv(LLAMA, n_ctx=512, n_parallel=0)
