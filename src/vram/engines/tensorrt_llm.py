"""TensorRT-LLM: a share of what is free once weights, context and buffers are there becomes the pool of KV blocks.

`Settings.gpu_memory_utilization` is `free_gpu_memory_fraction` (of the free memory, not of the card), `max_batched_tokens` is
`max_num_tokens`, `max_num_seqs` is `max_batch_size`, `block_size` is `tokens_per_block`.

Sources: `_cal_max_memory` (tensorrt_llm/_torch/pyexecutor/_util.py), `calculate_max_num_blocks` (resource_manager.py) and
kvCacheManager.cpp of github.com/NVIDIA/TensorRT-LLM (Apache-2.0), and the logs in truth/. Windows are kept in full, as the logs
show; per-layer windows must be asked for (`max_attention_window`) and are not planned. Nor are drafts and host offload; no log of a model with recurrent states was found, so their slots are counted as each sequence's own.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from vram.engines.base import Capacity, Demand, Engine
from vram.errors import UsageError
from vram.memory.kv import rank_caches
from vram.memory.part import Part, Parts
from vram.memory.placement import Placement
from vram.memory.weights import rank_weights
from vram.model.cache import CacheFormats, CompressedCache, CrossCache, FullCache, LatentCache, StateCache
from vram.model.model import Model
from vram.units import GIB

FRACTION: Final = 0.9
FAMILIES_LEFT_OUT: Final = frozenset({"qwen2", "qwen3"})
"""Families that set none of the measured constants below: those are from GPT-J, Llama 2, LLaVA and gpt-oss."""
_LOGIT_BYTES: Final = 4
_UNKNOWN_WORKING: Final = GIB // 2
# Decoder buffers of compiled engines: 4.35 GB for 4,096 rows of 50,400 logits, 5.3 copies of them in 32 bits (1 row).
_DECODER_COPIES: Final = 5.3
# What is used beside weights, buffers and pool: 0.68 GiB (A100), 0.7 to 0.95 (93 GiB card, two ranks), 0.5 (H100).
_RUNTIME_ROWS: Final = 4
_RUNTIME: Final = (int(0.6 * GIB), int(0.3 * GIB), int(1.3 * GIB))
# 49.3 GiB of a GB10's memory were in use outside of torch: page cache and other programs (1 row).
_RUNTIME_UNIFIED: Final = (8 * GIB, int(0.3 * GIB), 50 * GIB)
_COMMUNICATION_TP: Final = (int(0.5 * GIB), 0, int(2.3 * GIB))
_COMMUNICATION_PP: Final = (int(0.1 * GIB), 0, int(0.5 * GIB))
_GRAPHS: Final = (int(0.3 * GIB), 0, int(1.5 * GIB))


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version's rules.

    Attributes:
        compiled: the model is compiled to a TensorRT engine, with an execution context and decoder buffers; else PyTorch runs it.
        block_tokens: default of `tokens_per_block`.
        step_tokens: default of `max_num_tokens`.
        sequences: default of `max_batch_size`.
    """

    compiled: bool
    block_tokens: int
    step_tokens: int = 8192
    sequences: int = 2048


@lru_cache(maxsize=64)
def release(version: str) -> Release:
    """The rules of a version: PyTorch runs models by default from 1.0 on, in blocks of 32; the newest for an unknown one."""
    found = re.match(r"\s*v?(\d{1,2})\.(\d{1,3})", version)
    if found and int(found[1]) < 1:
        # `trtllm-build` made engines for one sequence of 1,024 tokens unless told otherwise; 0.12's log shows 8,192 tokens.
        small = int(found[2]) < 11
        return Release(compiled=True, block_tokens=64, step_tokens=1024, sequences=1) if small else Release(compiled=True, block_tokens=64)
    if re.match(r"\s*202[0-4]\b|\s*2025-0[1-6]", version):
        return Release(compiled=True, block_tokens=64)
    return Release(compiled=False, block_tokens=32)


class TensorrtLlm(Engine):
    """Blocks of every layer's keys and values in full length."""

    name = "tensorrt-llm"
    pools = True
    copies_in_tp = True
    heeds = frozenset({"version", "gpu_memory_utilization", "max_num_seqs", "max_batched_tokens", "block_size", "kv_pool_bytes"})

    def kv_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """Whole blocks of each sequence, and its states."""
        cell, state, fixed = _cell(demand, stage)
        block = _block(demand)
        return sequences * (-(-(context_tokens + fixed) // block) * block * cell + state if cell else state)

    def capacity(self, demand: Demand, stage: int, pool_bytes: int) -> Capacity:
        """Tokens as "Allocated … for max tokens in paged KV cache (N)" counts them: the last block is rounded up."""
        cell, _, _ = _cell(demand, stage)
        one = self.kv_bytes(demand, stage, demand.workload.context_tokens, 1)
        block = _block(demand)
        tokens = -(-(pool_bytes // cell) // block) * block if cell else None
        return Capacity(tokens=tokens, concurrency=pool_bytes / one if one else None)

    def breakpoints(self, demand: Demand, stage: int) -> Sequence[int]:  # noqa: ARG002
        """Nothing bends: every layer keeps every token."""
        return ()

    def working_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:  # noqa: ARG002
        """Residual stream, attention and widest MLP of one step, and the logits of a full batch."""
        g, settings, rules = demand.model.geometry, demand.settings, _rules(demand)
        if not g.hidden_size:
            return _UNKNOWN_WORKING
        per_token = demand.model.dtype.block_bytes * (
            4 * g.hidden_size + ((g.attention_heads + 2 * g.kv_heads) * g.head_dim + 3 * g.intermediate_size) // demand.placement.tp
        )
        logits = (settings.max_num_seqs or rules.sequences) * g.vocab_size * _LOGIT_BYTES
        return (settings.max_batched_tokens or rules.step_tokens) * per_token + int(logits * (_DECODER_COPIES if rules.compiled else 1))

    def parts(self, demand: Demand, stage: int) -> Parts:
        """All that one rank holds once it serves."""
        if demand.gpu.vendor.lower() in {"amd", "apple", "intel"}:
            raise UsageError(f"TensorRT-LLM runs on NVIDIA GPUs, not on {demand.gpu.name}", hint="choose another --engine or another --gpu")
        rules, settings = _rules(demand), demand.settings
        held = rank_weights(demand.model, demand.placement)[stage]
        resident = held.bytes - held.draft_bytes
        why = "headers of the files" if demand.model.source == "header" else "tensors that the config describes"
        if demand.model.quantization:
            why += f", {demand.model.quantization}"
        _, low, high = weight_band(resident, quantised=bool(demand.model.quantization))
        weights = Part(
            bytes=resident,
            low=low,
            high=high,
            source="header" if demand.model.source == "header" else "formula",
            why=why,
        )
        runtime, talk = _runtime(demand), _communication(demand)
        expected = self.working_bytes(demand, stage, demand.workload.context_tokens, demand.workload.concurrency)
        step = f"one step of {settings.max_batched_tokens or rules.step_tokens:,} tokens and {settings.max_num_seqs or rules.sequences:,} sequences"
        _, low, high = activation_band(expected)
        activations = Part(
            bytes=expected,
            low=low,
            high=high,
            source="formula",
            why=f"{'execution context and decoder buffers' if rules.compiled else 'peak of the profile run'}: {step}; agrees with 3 rows",
        )
        base, low, high = (0, 0, 0) if rules.compiled else _GRAPHS
        graphs = Part(bytes=base, low=low, high=high, source="formula", why="decode graphs, captured before the pool is sized; no log separates them")
        fixed = (runtime, talk, weights, activations, graphs)
        return Parts(
            weights=weights,
            kv_cache=_pool(demand, fixed),
            activations=activations,
            cuda_graphs=graphs,
            runtime=runtime,
            communication=talk,
        )


def weight_band(resident: Any, *, quantised: Any) -> tuple[Any, Any, Any]:
    """Weights expected, least and most: of numbers, or of arrays.

    Kernels for 4-bit experts pad their widths: 4.5 % more than the tensors of gpt-oss-120b (1 row).
    """
    return resident, resident - resident // 200, resident + resident // 50 + quantised * (resident // 20 - resident // 50) + GIB // 20


def activation_band(expected: Any) -> tuple[Any, Any, Any]:
    """Expected, least and most working memory: a number's, or an array's."""
    return expected, expected // 10, expected * 3 // 2 + GIB


def pool_bytes(total: Any, used: Any, fraction: float, *, most: Callable[[Any, int], Any] = max, integer: Callable[[Any], Any] = int) -> Any:
    """The fraction of what is left: of numbers, or of arrays with the `max()` and `int()` of arrays."""
    return integer(most(total - used, 0) * fraction)


def _pool(demand: Demand, fixed: Sequence[Part]) -> Part:
    given = demand.settings.kv_pool_bytes
    if given is not None:
        return Part.exact(given, "formula", "the pool as it was given")
    asked = demand.settings.gpu_memory_utilization
    fraction = FRACTION if asked is None else asked
    total = demand.gpu.engine_total_bytes

    def left(used: int) -> int:
        size: int = pool_bytes(total, used, fraction)
        return size

    why = f"{fraction:.3g} ({'default' if asked is None else 'given'}) of what weights, context and buffers leave free"
    return Part(
        bytes=left(sum(p.bytes for p in fixed)),
        low=left(sum(p.high for p in fixed)),
        high=left(sum(p.low for p in fixed)),
        source="formula",
        why=why,
    )


def _rules(demand: Demand) -> Release:
    return release(demand.settings.version)


def _block(demand: Demand) -> int:
    return demand.settings.block_size or _rules(demand).block_tokens


def _cell(demand: Demand, stage: int) -> tuple[int, int, int]:
    return _layout(demand.model, demand.placement, stage, demand.workload.formats)


@lru_cache(maxsize=256)
def _layout(model: Model, placement: Placement, stage: int, formats: CacheFormats) -> tuple[int, int, int]:
    """Bytes of one token, bytes of one sequence's states, and tokens that every sequence takes beside its own."""
    cell = state = fixed = 0
    for cache, count in rank_caches(model, placement)[stage]:
        match cache:
            case StateCache():
                columns = cache.conv_elements // cache.conv_kernel * (cache.conv_kernel - 1) if cache.conv_kernel else cache.conv_elements
                state += count * (formats.conv.nbytes(columns) + (cache.state_format or formats.state).nbytes(cache.state_elements))
            case FullCache():
                # Values have the width of keys: MiMo-V2's 128 become 192.
                width = max(cache.key_dim, cache.value_dim)
                cell += count * cache.kv_heads * (formats.key.nbytes(width) + (formats.value.nbytes(width) if cache.value_dim else 0))
                fixed = max(fixed, cache.source_tokens if isinstance(cache, CrossCache) else 0)
            case LatentCache():
                cell += count * cache.row_bytes(formats)
            case CompressedCache():
                cell += -(-count * cache.row_bytes(formats) // cache.ratio)
            case _:
                pass
    return cell, state, fixed


def _runtime(demand: Demand) -> Part:
    if demand.gpu.unified_memory:
        expected, low, high = (min(size, demand.gpu.engine_total_bytes // 2) for size in _RUNTIME_UNIFIED)
        return Part(
            bytes=expected, low=low, high=high, source="calibrated", why="what the system and other programs hold of the shared memory; 1 row of 49 GiB"
        )
    expected, low, high = _RUNTIME
    return Part(bytes=expected, low=low, high=high, source="calibrated", why=f"driver context and libraries; {_RUNTIME_ROWS} rows")


def _communication(demand: Demand) -> Part:
    if demand.placement.gpus == 1:
        return Part.exact(0, "formula", "one GPU: none")
    expected, low, high = _COMMUNICATION_TP if demand.placement.tp > 1 else _COMMUNICATION_PP
    return Part(bytes=expected, low=low, high=high, source="formula", why="NCCL buffers and all-reduce workspaces; no log separates them, so the band is wide")
