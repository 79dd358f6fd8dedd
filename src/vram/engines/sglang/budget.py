"""The share of a card that SGLang gives to weights and pools, and what that share leaves for the pools.

Sources: `ServerArgs._handle_gpu_memory_settings` and `adjust_mem_fraction_for_vlm` (server_args.py), `_profile_available_bytes`
(kv_cache_configurator.py). SGLang measures what is free before and after it loads the weights; here both are planned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from vram.engines.sglang.release import Release, Reserve
from vram.memory.placement import Placement
from vram.model.cache import LatentCache
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component
from vram.units import MIB

_GIB_IN_MIB: Final = 1024
# Where the defaults change, MiB of the card: (below, tokens of a prefill chunk, largest decode graph with fewer than 4 ranks, with 4 or more).
_BATCHES: Final = ((20 * 1024, 2048, 8, 8), (35 * 1024, 2048, 24, 80), (60 * 1024, 4096, 32, 160), (160 * 1024, 8192, 256, 512), (1 << 62, 16384, 512, 512))
# Reserve.BY_TP: (at least so many ranks, share).
_SHARES: Final = ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87), (1, 0.88))
# Reserve.BY_CARD: (below MiB, GiB set apart, GiB more for every rank).
_RESERVES: Final = ((35 * 1024, 2.8, 0.1), (90 * 1024, 9.5, 0.5), (160 * 1024, 12.0, 0.5), (1 << 62, 32.0, 0.0))
_MIB_PER_PREFILL_TOKEN, _MIB_PER_GRAPH_ROW, _MIB_PER_PREFILL_GRAPH = 1.5, 2, 8
# With copies of attention: MiB for each row of the largest graph and copy, half more past 300 rows; by card a flat sum.
_MIB_PER_COPY_ROW, _MANY_ROWS, _COPIES_MIB = 3, 300, 4096
_LARGE_CARD_MIB, _LARGE_FLOOR_MIB = 60 * 1024, 10 * 1024
_LATENT_PREFILL_GRAPH_MIB = 1.5 * 1024
# A vision tower takes 5 % off the share, and 10 % more for every time it is as complex as ViT-L/14 (24 layers x 1,024 squared).
_VISION_SHARE, _VISION_STEP, _VISION_LEAST, _VISION_MOST = 0.95, 0.1, 0.8, 1.05
# Parameters of a transformer layer are 12 x hidden squared, so that the tower's parameters stand for layers x hidden squared.
_VISION_BASE = 12 * 24 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Batch sizes that are in force.

    Attributes:
        chunk_tokens: tokens of one prefill chunk (`--chunked-prefill-size`).
        graph_rows: sequences of the largest decode graph (`--cuda-graph-max-bs`).
    """

    chunk_tokens: int
    graph_rows: int


@lru_cache(maxsize=256)
def batches(total_bytes: int, placement: Placement, chunk_tokens: int | None) -> Batches:
    """The batch sizes that SGLang chooses for a card of `total_bytes`."""
    total = total_bytes // MIB
    _, chunk, few, many = next(row for row in _BATCHES if total < row[0])
    return Batches(chunk_tokens=chunk_tokens or chunk, graph_rows=few if placement.ranks < 4 else many)


@lru_cache(maxsize=256)
def default_share(model: Model, total_bytes: int, placement: Placement, chosen: Batches, rules: Release, *, towers: bool = True, draft_mib: int = 0) -> float:
    """The default of `--mem-fraction-static`, to three decimals as SGLang rounds it.

    `towers`: with what a vision tower takes off it; `draft_mib`: what is set apart for a drafter.
    """
    ranks, total = placement.gpus, total_bytes // MIB
    if rules.reserve is Reserve.BY_TP:
        return next(share for at_least, share in _SHARES if placement.ranks >= at_least)
    if rules.reserve is Reserve.BY_CARD:
        _, base, more = next(row for row in _RESERVES if total < row[0])
        reserved = (base + more * ranks) * _GIB_IN_MIB + (_COPIES_MIB if placement.dp > 1 else 0)
    else:
        reserved = rules.constant_mib + max(chosen.chunk_tokens, 2048) * _MIB_PER_PREFILL_TOKEN
        reserved += chosen.graph_rows * _MIB_PER_GRAPH_ROW + ranks / 8 * _GIB_IN_MIB
        if placement.dp > 1:
            reserved += chosen.graph_rows * placement.dp * _MIB_PER_COPY_ROW * (1.5 if chosen.graph_rows > _MANY_ROWS else 1)
        if rules.prefill_graphs:
            latent = any(isinstance(c, LatentCache) for c, _ in model.cache_counts)
            reserved += _LATENT_PREFILL_GRAPH_MIB if latent else prefill_graphs(chosen.chunk_tokens) * _MIB_PER_PREFILL_GRAPH
        if rules.floor and total > _LARGE_CARD_MIB:
            reserved = max(reserved, _LARGE_FLOOR_MIB)
    reserved += draft_mib
    return round(max(total - reserved, 0) / max(total, 1), 3) * (_vision_factor(model) if towers else 1.0)


@once_per_model
def _vision_factor(model: Model) -> float:
    vision = sum(t.parameters for t in model.tensors if t.component is Component.VISION)
    if not vision:
        return 1.0
    return _VISION_SHARE * max(_VISION_LEAST, min(_VISION_MOST, 1 - _VISION_STEP * (vision / _VISION_BASE - 1)))


def static_pool(free_bytes: Any, share: Any, weights_bytes: Any, *, most: Callable[[Any, int], Any] = max, integer: Callable[[Any], Any] = int) -> Any:
    """Bytes for the pools: the share of what was free before the weights were read, less the weights; 0 when they leave none.

    Numbers, or arrays with the `max()` and `int()` of arrays.
    """
    return most(integer(free_bytes * share) - weights_bytes, 0)


def prefill_graphs(most_tokens: int) -> int:
    """How many sizes of prefill are captured up to `most_tokens` (`_generate_piecewise_cuda_graph_tokens`)."""
    steps = (range(4, 33, 4), range(48, 257, 16), range(288, 513, 32), range(576, 1025, 64), range(1280, 4097, 256), range(4608, most_tokens + 1, 512))
    return sum(1 for sizes in steps for size in sizes if size <= most_tokens)


def decode_graphs(most_rows: int) -> int:
    """How many sizes of decode are captured up to `most_rows` (`_generate_cuda_graph_batch_sizes`)."""
    steps = ((1, 2, 4, 8, 12), range(16, 257, 8), range(272, 512, 16), range(512, most_rows + 1, 32))
    return sum(1 for sizes in steps for size in sizes if size <= most_rows)
