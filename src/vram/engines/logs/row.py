"""A log as a row of the corpus' schema (truth/README.md), so that `vram accuracy` and later plans can read it."""

from typing import Any

from vram.engines.logs.base import EngineLog, Reading
from vram.units import GIB

# Which rank speaks for all: the fullest, but for the pool, where the poorest decides.
_LEAST = {"kv_cache", "free_at_init", "kv_tokens", "kv_blocks", "max_concurrency"}
# With pipeline stages the first rank's: the last one also runs the sampler, and what follows from it is the pool's business.
_FIRST = {"activation_peak", "non_torch", "total_non_kv"}
_WHOLE = ("tp", "pp", "dp", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "block_size", "ubatch", "parallel", "n_ctx")
_ARGUMENTS = ("kv_cache_memory_bytes", "enable_prefix_caching", "language_model_only", "speculative_config")
_COUNTS = {
    "kv_tokens",
    "kv_blocks",
    "max_concurrency",
    "max_concurrency_tokens",
    "est_max_len",
    "attention_block_tokens",
    "mamba_page_padding_pct",
    "mamba_slots",
}


def deciding(log: EngineLog, name: str) -> Reading | None:
    """The rank whose figure counts for all."""
    found = log.of(name)
    if not found:
        return None
    if name in _LEAST:
        return min(found, key=lambda r: r.value)
    if log.settings.get("pp", "1") != "1" and name in _FIRST:
        return min(found, key=lambda r: r.rank)
    return max(found, key=lambda r: r.value)


def row_of(log: EngineLog, source: str, *, model: str = "", gpu: str = "") -> dict[str, Any]:
    """The row. What the log does not hold is null; `model` and `gpu` are what the user said beside it."""
    settings = log.settings
    measured: dict[str, float | int | None] = {}
    for name in dict.fromkeys(r.name for r in log.readings):
        reading = deciding(log, name)
        if reading is None or name in {"gpu_total", "free_at_init_number", "ignored"}:
            continue
        if name == "kv_cache_plain":
            measured["kv_cache_gib"] = reading.value / GIB
        elif reading.is_bytes:
            measured[f"{name}_gib"] = round(reading.value / GIB, 4)
        elif name in _COUNTS:
            measured[name] = int(reading.value) if reading.value == int(reading.value) else reading.value
    if "peak_torch_gib" in measured and "initial_gib" in measured and "weights_gib" in measured:
        measured.setdefault("activation_peak_gib", round((measured["peak_torch_gib"] or 0.0) - (measured["initial_gib"] or 0.0), 4))
    total = deciding(log, "gpu_total")
    ranks = len(log.of("weights"))
    return {
        "id": "",
        "engine": log.engine,
        "engine_version": settings.get("engine_version"),
        "model_id": model or settings.get("model_id") or settings.get("model_file"),
        "architecture": settings.get("architecture"),
        "dtype": settings.get("dtype"),
        "quant": settings.get("quant"),
        "kv_cache_dtype": settings.get("kv_cache_dtype"),
        **{name: _whole(log.setting(name)) for name in _WHOLE},
        "tp": _whole(settings.get("tp")) or (ranks if log.engine != "llama.cpp" and ranks > 1 and not settings.get("pp") else 1),
        "pp": _whole(settings.get("pp")) or 1,
        "ep": settings.get("ep") == "True" or None,
        "gpu": gpu or settings.get("gpu"),
        "gpu_total_gib": round(total.value / GIB, 2) if total is not None else None,
        "gpu_memory_utilization": _share(log.setting("gpu_memory_utilization")),
        "enforce_eager": {"True": True, "False": False}.get(settings.get("enforce_eager", "")),
        "settings": {name: settings[name] for name in _ARGUMENTS if name in settings},
        "outcome": "oom" if any("out of memory" in f.lower() or "OutOfMemory" in f for f in log.failures) else "other_failure" if log.failures else "ok",
        "error": list(log.failures) or None,
        "measured": measured,
        "per_gpu": True,
        "source": source,
        "quote": "; ".join(f"{r.name} {r.value / GIB:.4g} GiB" if r.is_bytes else f"{r.name} {r.value:g}" for r in log.readings[:40]),
        "note": "",
        "check_circular": False,
    }


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 15 and int(text) > 0 else None


def _share(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 < value <= 1 else None
