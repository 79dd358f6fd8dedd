"""llama.cpp's dry runs and public logs as plans: what the tests hold, and what truth/REPORT.md tabulates."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data.hf_configs import CONFIGS
from data.make_gguf import make, preset

from vram.api import load_model
from vram.engines.base import Settings
from vram.errors import ModelNotFoundError
from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu
from vram.model.families.config import Config
from vram.model.families.registry import build
from vram.model.model import Model
from vram.model.quantization.named import requantize
from vram.planner.make import make_plan
from vram.planner.plan import Plan
from vram.readers.gguf import model_from_gguf, read_gguf
from vram.units import GIB, MIB

TRUTH = Path(__file__).parents[1] / "truth/llama_cpp"
ROWS = [row for row in map(json.loads, (TRUTH / "dry_runs.jsonl").read_text().splitlines()) if row["ok"]]
LOGS = [json.loads(line) for line in (TRUTH / "gpu_logs.jsonl").read_text().splitlines()]
# An RPC device stands in for a GPU in the dry runs: of no vendor, and as large as the largest model.
REMOTE = Gpu(name="remote", vendor="", architecture="", capacity_bytes=2**42, capacity_source="stated", marketing_bytes=2**42)
HOSTS = frozenset({"CPU", "CPU_Mapped", "CUDA_Host", "ROCm_Host"})


@dataclass(frozen=True)
class Buffer:
    """One buffer (or all of a kind in one log) as llama.cpp has it and as it is planned, in bytes."""

    run: str
    model: str
    kind: str
    real: float
    planned: float
    low: float
    high: float
    exact: bool


@cache
def model_of(name: str, quant: str) -> Model:
    made = preset(name, quant)
    return model_from_gguf([read_gguf(made.read, made.size, name)], name)


def devices_of(row: dict[str, Any]) -> int:
    return int(row["device"][0]) if "RPC" in row["device"] else 0


def measured(row: dict[str, Any], what: str) -> tuple[int, tuple[int, ...]]:
    buffers = row["buffers_bytes"]
    host = sum(b[what] for name, b in buffers.items() if name.startswith("CPU"))
    return host, tuple(buffers.get(f"RPC{i}", {}).get(what, 0) for i in range(devices_of(row)))


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


def from_log(row: dict[str, Any]) -> Model | None:
    """The model of a log from the hyperparameters that the log printed; None when it did not print enough."""
    s = row.get("shapes", {})
    if not {"n_layer", "n_head", "n_head_kv", "head_k", "n_embd"} <= s.keys() or "arch" not in row:
        return None
    a = row["arch"]
    keys: dict[str, Any] = {"block_count": s["n_layer"], "embedding_length": s["n_embd"], "attention.head_count": s["n_head"]}
    keys |= {"attention.head_count_kv": s["n_head_kv"], "attention.key_length": s["head_k"], "attention.value_length": s["head_k"], "context_length": 4096}
    if a == "deepseek2":
        # DeepSeek-V3 and R1: values of 128, a latent of 512 and 64 rotary dimensions.
        keys["attention.value_length"] = 128
        if row.get("mla") in {"2", "3"}:  # the fork's flag for what llama.cpp always does with files of 2025
            keys |= {"attention.head_count_kv": 1, "attention.key_length": 576, "attention.kv_lora_rank": 512}
            keys |= {"attention.key_length_mla": 192, "attention.value_length_mla": 128}
    if s.get("n_swa"):
        keys["attention.sliding_window"] = s["n_swa"]
    made = make({"general.architecture": a, **{f"{a}.{k}": v for k, v in keys.items()}}, [("token_embd.weight", (32, 1), "F16")])
    return model_from_gguf([read_gguf(made.read, made.size, "log")], "log")


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


def dry_buffers() -> Iterator[Buffer]:
    """Every buffer of every dry run: weights, caches and states, logits and compute, of the host and of each device."""
    for row, plan in plans():
        host, gpus = dict(plan.host), plan.gpus if devices_of(row) else ()
        held = {"model": ("weights", [g.parts.weights for g in gpus]), "context": ("kv_cache", [g.parts.kv_cache for g in gpus])}
        for kind, (name, parts) in held.items():
            # Weights that are really loaded on a CPU are held twice where they are repacked.
            if kind == "model" and row["mode"] != "no_alloc":
                continue
            on_host, on_devices = measured(row, kind)
            planned = [host[name].bytes if name in host else 0, *(p.bytes for p in parts)]
            for real, size in zip((on_host, *on_devices), planned, strict=True):
                if real or size:
                    yield Buffer(row["preset"], row["quant"], kind, real, size, size, size, real == size)
        logits = host["output"].bytes
        same = round(logits / MIB, 2) == row["output_MiB"]  # printed to a hundredth of a MiB
        yield Buffer(row["preset"], row["quant"], "output", logits if same else row["output_MiB"] * MIB, logits, logits, logits, same)
        on_host, on_devices = measured(row, "compute")
        for part, real in zip([host["compute"], *(g.parts.activations for g in plan.gpus)], (on_host, *on_devices), strict=False):
            yield Buffer(row["preset"], row["quant"], "compute", real, part.bytes, part.low, part.high, real == part.bytes)


def log_buffers() -> tuple[list[Buffer], list[tuple[str, str, str]]]:
    """Caches, weights and compute buffers of public logs beside their plans, and the logs that say too little, each with the reason."""
    found, told = [], []
    for row in LOGS:
        made = logged(row)
        name = row.get("model") or "not named"
        if isinstance(made, str):
            told.append((row["source"], name, made))
            continue
        plan, weights = made
        host = dict(plan.host)

        # A model that is known by its shapes alone has no MLP and no vocabulary to compute in.
        if plan.model.weight_bytes > GIB and "fa" in row and "compute_MiB" in row and "ngl" in row and not str(row["ngl"]).startswith("0"):
            devices = [mib * MIB for place, mib in row["compute_MiB"].items() if place not in HOSTS]
            parts = [g.parts.activations for g in plan.gpus]
            found += [Buffer(row["source"], name, "compute", r, p.bytes, p.low, p.high, r == p.bytes) for r, p in zip(devices, parts, strict=False)]
        if "kv_MiB" in row and "n_ctx" in row:
            real = row.get("kv_total_MiB", sum(row["kv_MiB"].values()))
            found.append(
                _printed(
                    row,
                    "context",
                    real,
                    sum(g.parts.kv_cache.bytes for g in plan.gpus) + (host["kv_cache"].bytes if "kv_cache" in host else 0),
                    len(row["kv_MiB"]),
                )
            )
        if weights:
            planned = sum(g.parts.weights.bytes for g in plan.gpus) + (host["weights"].bytes if HOSTS & row["model_MiB"].keys() else 0)
            found.append(_printed(row, "model", sum(row["model_MiB"].values()), planned, len(row["model_MiB"])))
    return found, told


def _printed(row: dict[str, Any], kind: str, mib: float, planned: int, places: int) -> Buffer:
    exact = abs(mib - planned / MIB) <= 0.1 * places
    return Buffer(row["source"], row.get("model") or "not named", kind, mib * MIB, planned, planned, planned, exact)
