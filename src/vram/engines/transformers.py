"""Hugging Face transformers: tensors of exactly the tokens seen, nothing paged or reserved, and a prompt that passes whole.

Sources: `cache_utils.py`, `generation/utils.py` and the models' files of transformers 5.23 (Apache-2.0). Caches are held against
those that transformers filled (tests/test_caches_transformers.py), working memory against its own forward passes
(truth/transformers_peaks.jsonl). With several GPUs `device_map` deals out whole layers. Not planned: static and quantised caches,
offloading, assisted decoding; what torch's allocator keeps beyond what is in use is a guess.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from vram.engines.base import Demand, Engine
from vram.engines.generic import RUNTIME, RUNTIME_UNIFIED
from vram.engines.transformers_peaks import decode_bytes, prefill_bytes, shape
from vram.memory.part import Part, Parts
from vram.memory.placement import layer_count, stages
from vram.memory.weights import rank_weights
from vram.model.cache import Cache, CacheFormats, ChunkedCache, CompressedCache, LatentCache, StateCache, WindowCache
from vram.model.layer import Layer
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component
from vram.units import GIB, MIB

WINDOW_COUNTER_BYTES: Final = 8
"""`DynamicSlidingWindowLayer._sliding_window_tensor`: one int64 a layer, however many sequences."""


def held_bytes(layers: Iterable[Layer], tokens: int, sequences: int, formats: CacheFormats) -> int:
    """Bytes that a `DynamicCache` holds after a prefill of `sequences` prompts of `tokens` tokens each.

    `DynamicSlidingWindowLayer` keeps one token fewer than the window, because the next token brings its own key; it also
    serves chunked attention, with the chunk as its window. `DynamicIndexedLayer` keeps the indexer's keys in the type of
    the cache, where serving engines keep them in 8 bits with a scale.
    """
    return sum(_held(cache, tokens, sequences, formats) for layer in layers for cache in layer.caches)


def _held(cache: Cache, tokens: int, sequences: int, formats: CacheFormats) -> int:
    match cache:
        case WindowCache(window=width) | ChunkedCache(chunk=width):
            return min(tokens, width - 1) * cache.row_bytes(formats) * sequences + WINDOW_COUNTER_BYTES
        case LatentCache(window=width) if width:
            return min(tokens, width - 1) * cache.row_bytes(formats) * sequences + WINDOW_COUNTER_BYTES
        case LatentCache(index_bytes=index) if index:
            return (cache.nbytes(tokens, formats) + tokens * (formats.key.nbytes(cache.index_dim) - index)) * sequences
        case CompressedCache():
            return _compressed_elements(cache, tokens) * formats.key.nbytes(1) * sequences
        case _:
            return cache.nbytes(tokens, formats) * sequences


def _compressed_elements(cache: CompressedCache, tokens: int) -> int:
    """What `DeepseekV4HCACache` and `DeepseekV4CSACache` hold of one sequence beside their window.

    Whole entries; values and gates of the tokens of the open one, in two series where entries overlap; and with overlap
    one series of the last whole entry's tokens.
    """
    width = cache.entry_dim + cache.index_dim
    whole, still_open = divmod(tokens, cache.ratio)
    series = 2 if cache.overlap else 1
    carried = cache.ratio if cache.overlap and whole else 0
    return width * (whole + 2 * series * still_open + 2 * carried)


def prefilled_bytes(layers: Iterable[Layer], tokens: int, sequences: int, formats: CacheFormats) -> int:
    """Bytes that the cache pins from a prefill to the next token: a window is then a view of all the prompt's keys and values.

    `DynamicSlidingWindowLayer.update` keeps the last tokens as a slice; the memory beneath it goes when the next token's are
    joined to it (34 layers of Gemma 3 in truth/transformers_peaks.jsonl).
    """
    return sum(_pinned(cache, tokens, sequences, formats) for layer in layers for cache in layer.caches)


def _pinned(cache: Cache, tokens: int, sequences: int, formats: CacheFormats) -> int:
    match cache:
        case WindowCache() | ChunkedCache():
            return tokens * cache.row_bytes(formats) * sequences + WINDOW_COUNTER_BYTES
        case LatentCache(window=width) if width:
            return tokens * cache.row_bytes(formats) * sequences + WINDOW_COUNTER_BYTES
        case _:
            return _held(cache, tokens, sequences, formats)


# Models without SDPA: eager attention holds their scores unless a flash kernel is installed (`_supports_sdpa`).
_EAGER: Final = frozenset(
    {"deepseek_v4", "flint", "gemma2", "gpt_oss", "granite_swa", "granitemoe_swa", "hy_v4", "inkling2", "mimo_v2_flash", "t5gemma", "vaultgemma"}
)
# `generate` asks for the last token's logits alone since 4.45; before, all were kept, and copied in 32 bits.
_LAST_LOGITS_SINCE: Final = (4, 45)
_UNKNOWN_WORKING: Final = (GIB // 2, 0, 4 * GIB)
# torch's allocator hands out memory in segments of 2 to 20 MiB and more, and a cache that grows by a token leaves holes.
_SEGMENTS: Final = 192 * MIB


class Transformers(Engine):
    """Weights, a cache that grows token by token, and one forward pass of the whole prompt."""

    name = "transformers"
    heeds = frozenset({"version", "gpu_memory_utilization", "flash_attention", "kv_pool_bytes"})
    layer_split = True

    def kv_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """What the cache pins right after a prefill of the whole context: its fullest instant."""
        return prefilled_bytes(_layers(demand, stage), context_tokens, sequences, demand.workload.formats)

    def breakpoints(self, demand: Demand, stage: int) -> Sequence[int]:  # noqa: ARG002
        """Where a window needs a mask; scores and masks bend the line everywhere, which the solver takes in its stride."""
        window = shape(demand.model).window
        return (window, window + 1) if window else ()

    def working_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """The worse of the prefill and of a step of decoding, as `generate` does them."""
        if not demand.model.geometry.hidden_size:
            return _UNKNOWN_WORKING[0]
        return _working(demand, stage, context_tokens, sequences, fused=_fused(demand))

    def parts(self, demand: Demand, stage: int) -> Parts:
        """All that one GPU holds when the whole context passes as one prompt."""
        w = demand.workload
        held = rank_weights(demand.model, demand.placement)[stage]
        why = "headers of the files" if demand.model.source == "header" else "tensors that the config describes"
        if demand.model.quantization:
            why += f", {demand.model.quantization}"
        resident = held.bytes - held.draft_bytes
        # `Mxfp4Config` falls back to 16-bit weights where its kernels are missing.
        unpacked = sum(2 * t.parameters for t in demand.model.tensors) // demand.placement.gpus if demand.model.quantization.startswith("mxfp4") else 0
        if unpacked:
            why += "; unpacked to 16 bits where the kernels for it are not installed"
        weights = Part(bytes=resident, low=resident, high=max(resident, unpacked), source="header" if demand.model.source == "header" else "formula", why=why)
        layers = _layers(demand, stage)
        full = self.kv_bytes(demand, stage, w.context_tokens, w.concurrency)
        kept = held_bytes(layers, w.context_tokens, w.concurrency, w.formats)
        cache = Part(
            bytes=full,
            low=min(kept, full),
            high=full,
            source="formula",
            why=f"DynamicCache of {w.concurrency} x {w.context_tokens:,} tokens, {w.kv_dtype}"
            + ("; windows pin the whole prompt until the next token" if full - kept > MIB else ""),
        )
        expected, low, high = RUNTIME_UNIFIED if demand.gpu.unified_memory else RUNTIME
        return Parts(
            weights=weights,
            kv_cache=cache,
            activations=_activations(self, demand, stage, full),
            cuda_graphs=Part.exact(0, "formula", "none are captured"),
            runtime=Part(bytes=expected, low=low, high=high, source="formula", why="driver context, kernels and library workspaces; 0.51 GiB on an H100"),
            communication=Part.exact(0, "formula", "layers hand one token's state from GPU to GPU"),
        )


def _activations(engine: Transformers, demand: Demand, stage: int, cache_bytes: int) -> Part:
    w, model = demand.workload, demand.model
    if not model.geometry.hidden_size:
        expected, low, high = _UNKNOWN_WORKING
        return Part(bytes=expected, low=low, high=high, source="formula", why="the model's widths are not known: a guess that covers common ones")
    fused = _fused(demand)
    expected = engine.working_bytes(demand, stage, w.context_tokens, w.concurrency)
    lean = _working(demand, stage, w.context_tokens, w.concurrency, fused=True)
    low, high = working_band(expected, lean, cache_bytes, uncounted=_uncounted(model))
    why = f"a prompt of {w.context_tokens:,} tokens at once, {'fused' if fused else 'eager'} attention, the last token's logits"
    if not _keeps_all_logits(demand.settings.version):
        every = prefill_bytes(model, w.context_tokens, w.concurrency, fused_attention=fused, all_logits=True)
        why += f"; a plain forward() that returns all logits takes {every / GIB:.2f} GiB"
    else:
        why = why.replace("the last token's logits", "the logits of all tokens in 32 bits (before 4.45)")
    return Part(bytes=expected, low=low, high=high, source="calibrated", why=why + "; 79 prompts of 18 models")


@once_per_model
def _uncounted(model: Model) -> bool:
    """Scans of recurrent layers and encoders of pictures run kernels that are not counted here."""
    return any(isinstance(c, (StateCache, CompressedCache)) for c, _ in model.cache_counts) or any(t.component is not Component.TEXT for t in model.tensors)


def working_band(expected: int, lean: int, cache_bytes: int, *, uncounted: bool) -> tuple[int, int]:
    """The least and the most working memory."""
    return min(lean, expected) * 3 // 4, expected * (2 if uncounted else 1) + expected // 8 + cache_bytes // 16 + _SEGMENTS


def _working(demand: Demand, stage: int, tokens: int, sequences: int, *, fused: bool) -> int:
    return working_of(demand, {c: 1 for layer in _layers(demand, stage) for c in layer.caches}, tokens, sequences, fused=fused)


def working_of(demand: Demand, caches: Iterable[Cache], tokens: int, sequences: int, *, fused: bool) -> int:
    """The worse of prefill and decoding where these kinds of caches lie."""
    model = demand.model
    every = _keeps_all_logits(demand.settings.version)
    formats = demand.workload.formats
    largest = max((_held(c, tokens, sequences, formats) for c in caches if not isinstance(c, StateCache)), default=0)
    return max(
        prefill_bytes(model, tokens, sequences, fused_attention=fused, all_logits=every, upcast=every),
        decode_bytes(model, tokens, sequences, largest, fused_attention=fused),
    )


def _layers(demand: Demand, stage: int) -> Sequence[Layer]:
    found = stages(layer_count(demand.model), demand.placement.pp)[stage]
    return demand.model.layers[found.first : found.last]


def _fused(demand: Demand) -> bool:
    return demand.settings.flash_attention and demand.model.model_type not in _EAGER


def _keeps_all_logits(version: str) -> bool:
    found = re.match(r"\s*v?(\d{1,3})\.(\d{1,3})", version)
    return found is not None and (int(found[1]), int(found[2])) < _LAST_LOGITS_SINCE
