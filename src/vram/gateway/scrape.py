"""What engines say of themselves: how much KV cache they have, how full it is, how many requests run and wait.

Each kind of engine says it elsewhere and otherwise; all of it is bounded text of a program that may be broken, and a figure that is
not there is None, never zero.

- vLLM: `vllm:cache_config_info` (labels block_size, num_gpu_blocks), `vllm:kv_cache_usage_perc` (`gpu_cache_usage_perc` before 0.10),
  `vllm:num_requests_running`, `vllm:num_requests_waiting`, `vllm:num_preemptions_total` (docs/design/metrics.md of vLLM).
- SGLang: `/get_server_info` (later `/server_info`: `max_total_num_tokens`), `sglang:token_usage`, `sglang:num_running_reqs`,
  `sglang:num_queue_reqs` (python/sglang/srt/observability/metrics_collector.py).
- TGI: `/info` (`max_total_tokens`, `max_concurrent_requests`: router/src/lib.rs), `tgi_batch_max_total_tokens`, `tgi_batch_current_size`,
  `tgi_queue_size` (backends/v3/src).
- Ollama: `/api/ps` (`context_length` of each loaded model: api/types.go). It has no metrics, and does not tell how many it runs at once.
- llama.cpp: `/props` (`default_generation_settings.n_ctx`, `total_slots`), `/slots` (`is_processing`; `n_prompt_tokens`, which counts all
  cells of a slot, b11434's server-context.cpp), and with `--metrics` `llamacpp:requests_processing`, `llamacpp:requests_deferred`, and in
  builds before June 2025 `llamacpp:kv_cache_usage_ratio` (tools/server/README.md of llama.cpp).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

_SAMPLE: Final = re.compile(rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^\n]*)\})?[ \t]+(\S+)(?:[ \t]+\S+)?[ \t]*$", re.MULTILINE)
_LABEL: Final = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\.)*)"')
_PARTS: Final = re.compile(rb"^vllm:(?:kv|gpu)_cache_usage_perc[ {]", re.MULTILINE)
_JSON: Final = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one engine said; None is: it did not say.

    Attributes:
        kv_usage: share of the KV cache in use, 0 to 1.
        running: requests in the batch.
        waiting: requests that wait inside the engine.
        preemptions: how often a running request lost its cache so far.
        block_tokens: tokens of one block.
        blocks: blocks of the whole cache.
        capacity_tokens: tokens that the whole cache holds.
        held_tokens: tokens that running requests have in it.
        slots: requests that can run at once.
        context_tokens: the longest sequence.
        parts: engines behind this address that each have a cache of their own (vLLM's `--data-parallel-size`).
        engine: `vllm`, `sglang`, `llama.cpp`, `tgi` or `ollama`, as its own names tell; empty where they don't.
    """

    kv_usage: float | None = None
    running: int | None = None
    waiting: int | None = None
    preemptions: int | None = None
    block_tokens: int | None = None
    blocks: int | None = None
    capacity_tokens: int | None = None
    held_tokens: int | None = None
    slots: int | None = None
    context_tokens: int | None = None
    parts: int | None = None
    engine: str = ""


def samples(text: bytes) -> dict[str, tuple[float, Mapping[str, str]]]:
    """The last sample of each metric in Prometheus' text form, with its labels; several series of one name add up."""
    found: dict[str, tuple[float, Mapping[str, str]]] = {}
    for match in _SAMPLE.finditer(text):
        try:
            value = float(match[3])
        except ValueError:
            continue
        if not math.isfinite(value):
            continue
        name = match[1].decode()
        labels = {k.decode(): v.decode(errors="replace") for k, v in _LABEL.findall(match[2] or b"")}
        before = found.get(name)
        found[name] = (value + before[0], before[1]) if before is not None and not name.endswith("_info") else (value, labels)
    return found


def _whole(value: Any, most: float = 2**50) -> int | None:
    if isinstance(value, str):
        if not value.isdigit() or len(value) > 16:
            return None
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        return None
    return int(value)


def load_from_metrics(text: bytes) -> Load:
    """Read `/metrics` of vLLM, SGLang, llama.cpp's server or TGI."""
    found = samples(text)

    def value(*names: str) -> float | None:
        return next((found[n][0] for n in names if n in found), None)

    engine = next(
        (e for e, p in (("vllm", "vllm:"), ("sglang", "sglang:"), ("llama.cpp", "llamacpp:"), ("tgi", "tgi_")) if any(n.startswith(p) for n in found)), ""
    )
    usage = value("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage", "llamacpp:kv_cache_usage_ratio")
    info = found.get("vllm:cache_config_info", (0.0, {}))[1]
    return Load(
        engine=engine,
        kv_usage=usage if usage is not None and 0 <= usage <= 1.001 else None,
        running=_whole(value("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing", "tgi_batch_current_size")),
        parts=len(_PARTS.findall(text)) or None,
        waiting=_whole(value("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred", "tgi_queue_size")),
        preemptions=_whole(value("vllm:num_preemptions_total")),
        block_tokens=_whole(info.get("block_size")) or None,
        blocks=_whole(info.get("num_gpu_blocks")) or None,
        capacity_tokens=_whole(value("sglang:max_total_num_tokens", "tgi_batch_max_total_tokens")) or None,
    )


def _decoded(body: bytes) -> Any:
    try:
        return _JSON.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _document(body: bytes) -> Mapping[str, Any]:
    found = _decoded(body)
    return found if isinstance(found, dict) else {}


def load_from_props(body: bytes) -> Load:
    """Read llama.cpp's `/props`: the context of one slot, and how many slots there are."""
    found = _document(body)
    slots = _whole(found.get("total_slots")) or None
    settings = found.get("default_generation_settings")
    context = _whole(settings.get("n_ctx")) if isinstance(settings, dict) else None
    if slots is None and context is None:
        return Load()
    return Load(engine="llama.cpp", slots=slots, context_tokens=context or None)


def load_from_slots(body: bytes) -> Load:
    """Read llama.cpp's `/slots`: which of them work, and what these have in the cache."""
    found = _decoded(body)
    if not isinstance(found, list) or not found or not all(isinstance(s, dict) and isinstance(s.get("is_processing"), bool) for s in found):
        return Load()
    busy = [s for s in found if s["is_processing"]]
    held = [_whole(s.get("n_prompt_tokens")) for s in busy]
    return Load(
        engine="llama.cpp",
        slots=len(found),
        running=len(busy),
        held_tokens=None if None in held else sum(h for h in held if h is not None),
        context_tokens=_whole(found[0].get("n_ctx")) or None,
    )


def load_from_server_info(body: bytes) -> Load:
    """Read SGLang's `/get_server_info` or `/server_info`: all of its arguments, those that nobody set among them as null."""
    found = _document(body)
    states = found.get("internal_states")
    inner = states[0] if isinstance(states, list) and states and isinstance(states[0], dict) else {}
    tokens = _whole(found.get("max_total_num_tokens") or inner.get("max_total_num_tokens")) or None
    if tokens is None:
        return Load()
    running = _whole(inner.get("effective_max_running_requests_per_dp") or found.get("max_running_requests")) or None
    return Load(engine="sglang", capacity_tokens=tokens, slots=running, context_tokens=_whole(found.get("context_length")) or None)


def load_from_info(body: bytes) -> Load:
    """Read TGI's `/info`: the longest sequence, and how many requests it takes at once."""
    found = _document(body)
    if not isinstance(found.get("router"), str) or "max_total_tokens" not in found:
        return Load()
    return Load(engine="tgi", context_tokens=_whole(found["max_total_tokens"]) or None, slots=_whole(found.get("max_concurrent_requests")) or None)


def load_from_ps(body: bytes, model: str) -> Load:
    """Read Ollama's `/api/ps`: the context that a model was loaded with; nothing where it is not loaded."""
    listed = _document(body).get("models")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("name") in {model, f"{model}:latest"} and "size_vram" in one:
            return Load(engine="ollama", context_tokens=_whole(one.get("context_length")) or None)
    return Load()


def load_from_models(body: bytes) -> Load:
    """Read `/v1/models`: vLLM tells `max_model_len` there."""
    listed = _document(body).get("data")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    return Load(context_tokens=_whole(first.get("max_model_len")) or None)


def merged(*loads: Load) -> Load:
    """What several answers say together: the first that says a thing counts."""
    said: dict[str, Any] = {f.name: next((v for load in loads if (v := getattr(load, f.name)) not in {None, ""}), f.default) for f in fields(Load)}
    return Load(**said)
