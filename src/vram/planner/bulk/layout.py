"""vLLM's KV layout as numbers: what a block costs, and how a request's blocks follow from its tokens and from those in flight."""

from typing import Final

from vram.engines.base import Settings
from vram.engines.vllm.engine import _laid_out
from vram.engines.vllm.kv_layout import Kind
from vram.engines.vllm.release import release_of
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.model.cache import CacheFormats
from vram.model.model import Model

NEWEST: Final = release_of("")
LayoutRow = tuple[int, tuple[tuple[int, int, int, int], ...]]
"""Bytes of a block; and of each group (block_size, most_tokens, extra, 1 where tokens in flight are added to most_tokens)."""
_IN_FLIGHT: Final = 1 << 40
"""Tokens in flight while layouts are asked for: what of a term is more is theirs."""
_LENGTH: Final = 8192
"""Tokens of a request while they are asked for; no page depends on it."""


def layout_row(model: Model, gpu: Gpu, placement: Placement, stage: int, formats: CacheFormats) -> LayoutRow | None:
    """One layout, the tokens in flight taken out of it; None where vLLM's pages are not known or nothing is kept."""
    steps = max(placement.pp, NEWEST.batches_in_flight)
    tokens = _IN_FLIGHT // steps
    found = _laid_out(model, gpu, placement, stage, Settings(), NEWEST, formats, tokens, _LENGTH)
    if found is None:
        return None
    terms = []
    for group, term in zip(found.groups, found.terms, strict=True):
        flying = group.spec.kind in {Kind.WINDOW, Kind.CHUNKED}
        terms.append((term.block_size, term.most_tokens - (tokens * steps if flying else 0), term.extra, int(flying)))
    return found.bytes_per_block, tuple(terms)
