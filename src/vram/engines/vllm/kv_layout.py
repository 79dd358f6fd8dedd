"""How vLLM lays out its KV cache: layers dealt to groups of equal pages, blocks, and how many requests they hold.

Read in `vllm/v1/core/kv_cache_utils.py` (`get_kv_cache_groups`, `unify_kv_cache_spec_page_size`,
`get_kv_cache_config_from_groups`, `get_max_concurrency_for_kv_cache_config`) and `vllm/v1/kv_cache_interface.py` of 0.32, and
held against what vLLM itself answered (truth/vllm/kv_layout.jsonl). It knows pages and blocks, not where their bytes come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil
from typing import Final, NamedTuple

from vram.model.cache import Cache, CacheFormats, ChunkedCache, CompressedCache, CrossCache, FullCache, LatentCache, SharedCache, StateCache, WindowCache

MOST_TOKENS: Final = 2**62
"""More tokens than any request has."""


class Kind(StrEnum):
    """What a layer's page holds."""

    FULL = "full_attention"
    WINDOW = "sliding_window"
    CHUNKED = "chunked_local_attention"
    LATENT = "mla_attention"
    STATE = "mamba"
    CROSS = "cross_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the layout depends on, resolved (no None).

    Attributes:
        max_model_len: tokens of the longest request.
        max_batched_tokens: most tokens in one step.
        block_size: tokens of a block as asked for or by default.
        kernel_block: smallest block that the attention kernels take (16 on CUDA, 32 on the CPU).
        prefix_caching: whether prefixes are kept (decides how states are kept, too).
        batches_in_flight: 1, or 2 with asynchronous scheduling.
        hybrid_manager: whether windows are kept as windows (`--disable-hybrid-kv-cache-manager` makes them full).
        speculative_tokens: tokens drafted per step, each with a state block of its own.
        retained_tokens: tokens that windows keep beyond their edge, for layers that draft one after the other.
        checkpoints: whether Mamba2 layers keep a checkpoint of their prefill (from 0.29).
        null_block: whether the start-up check leaves room for the null block (from 0.29).
        near_equal: kinds whose numbers of layers differ by less than this factor share the greater width (1.25, then 1.5).
    """

    max_model_len: int
    max_batched_tokens: int
    block_size: int
    kernel_block: int = 16
    prefix_caching: bool = True
    batches_in_flight: int = 1
    hybrid_manager: bool = True
    speculative_tokens: int = 0
    retained_tokens: int = 0
    checkpoints: bool = True
    null_block: bool = True
    near_equal: float = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One layer's page: what it holds, how many tokens, how many bytes."""

    kind: Kind
    block_size: int
    token_bytes: int = 0
    heads: tuple[int, ...] = ()
    """Heads and their widths: layers of other heads are of another kind, even where their pages are equally large."""
    window: int = 0
    retained: int = 0
    state_bytes: int = 0
    state_blocks: int = 0
    padded_bytes: int = 0
    """Bytes of a page that was padded to another's size; 0 for none."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one page of this layer."""
        return self.padded_bytes or (self.state_bytes if self.kind is Kind.STATE else self.block_size * self.token_bytes)

    def term(self, in_flight: int) -> "Term":
        """How the blocks of a request follow from its tokens while `in_flight` tokens are in flight."""
        if self.kind is Kind.WINDOW:
            return Term(block_size=self.block_size, most_tokens=self.window - 1 + self.retained + in_flight, extra=1)
        if self.kind is Kind.CHUNKED:
            return Term(block_size=self.block_size, most_tokens=self.window + in_flight, extra=0)
        if self.kind is Kind.STATE:
            return Term(block_size=1, most_tokens=0, extra=self.state_blocks)
        if self.kind is Kind.CROSS:
            return Term(block_size=1, most_tokens=0, extra=-(-self.window // self.block_size))
        return Term(block_size=self.block_size, most_tokens=MOST_TOKENS, extra=0)


class Term(NamedTuple):
    """Blocks of one request in one group: ceil(min(tokens, most_tokens) / block_size) + extra."""

    block_size: int
    most_tokens: int
    extra: int

    def blocks(self, tokens: int) -> int:
        """Blocks that one request of `tokens` tokens takes."""
        return -(-min(tokens, self.most_tokens) // self.block_size) + self.extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that share block tables; `layers` are indexes into the specs."""

    spec: Spec
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The groups, and what a block of all of them costs.

    Attributes:
        groups: layers by group.
        bytes_per_block: bytes of one block: the widest group's pages.
        block_size: tokens of a block as vLLM reports it (the smallest of any group).
        settings: what it was laid out for.
        terms: how the blocks of a request follow from its tokens, group by group.
    """

    groups: tuple[Group, ...]
    bytes_per_block: int
    block_size: int
    settings: Settings
    terms: tuple[Term, ...]

    def blocks_of(self, tokens: int) -> int:
        """Blocks that one request of `tokens` tokens takes, over all groups."""
        total = 0
        for size, most, extra in self.terms:  # a plan asks some fifty times
            total += extra - (-(min(most, tokens)) // size)
        return total

    def while_generating(self) -> tuple[tuple[Term, ...], int]:
        """How the blocks of a request that generates follow from its tokens; and the blocks that all prompts of a step have beside.

        vLLM frees what fell out of a window before each step (`remove_skipped_blocks`, single_type_kv_cache_manager.py): the blocks
        that the window and the tokens in flight touch are left.
        """
        s = self.settings
        flight = s.max_batched_tokens * s.batches_in_flight
        terms, beside = [], 0
        for found, term in zip(self.groups, self.terms, strict=True):
            spec = found.spec
            if spec.kind not in {Kind.WINDOW, Kind.CHUNKED}:
                terms.append(term)
                continue
            span = spec.window - 1 + spec.retained + (1 + s.speculative_tokens) * s.batches_in_flight
            size = spec.block_size
            touched = 1 if span < 2 else (span - 2) // size + 2
            terms.append(Term(block_size=size, most_tokens=touched * size, extra=0))
            # Prompts shorter than a window keep all that they have; of longer ones a step holds but so many, each with a block begun.
            beside += -(-flight // size) + flight // max(spec.window, 1) + 2
        return tuple(terms), beside

    @property
    def blocks_per_request(self) -> int:
        """Blocks that one request of the greatest length takes."""
        return self.blocks_of(self.settings.max_model_len)

    @property
    def bytes_per_request(self) -> int:
        """Bytes that one request of the greatest length takes."""
        return self.blocks_per_request * self.bytes_per_block

    def blocks(self, pool_bytes: int) -> int:
        """Blocks of a pool."""
        return pool_bytes // self.bytes_per_block

    def concurrency(self, blocks: int) -> float:
        """Requests of the greatest length that so many blocks hold: the figure that vLLM prints with an x."""
        return blocks / self.blocks_per_request

    def tokens(self, blocks: int) -> int:
        """The token count that vLLM prints from 0.11 on."""
        return int(self.concurrency(blocks) * self.settings.max_model_len)

    def held_bytes(self, tokens: int, sequences: int) -> int:
        """Bytes that a pool must have for so many requests of `tokens` tokens, the null block included."""
        return (sequences * self.blocks_of(tokens) + self.settings.null_block) * self.bytes_per_block

    def serves(self, pool_bytes: int) -> bool:
        """Whether vLLM starts: one request of the greatest length fits, and (from 0.29) a null block beside it."""
        return self.held_bytes(self.settings.max_model_len, 1) <= pool_bytes

    def longest(self, pool_bytes: int, most: int) -> int:
        """The longest request that a pool serves, up to `most` tokens; 0 for none: vLLM's "estimated maximum model length"."""
        if self.held_bytes(most, 1) <= pool_bytes:
            return most
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.held_bytes(middle, 1) <= pool_bytes else (low, middle)
        return low


class LayoutError(ValueError):
    """vLLM refuses this mix of layers and settings."""


def specs_of(caches: Sequence[tuple[int, Cache]], formats: CacheFormats, s: Settings, drafts: int = 0) -> tuple[tuple[int, ...], tuple[Spec, ...]]:
    """The page of every layer that keeps something of its own: (layer indexes, specs), in layer order; a drafter's `drafts` last."""
    owners: list[int] = []
    out: list[Spec] = []
    for index, cache in caches:
        spec = _spec(cache, formats, s)
        if spec is not None:
            owners.append(index)
            out.append(spec)
    own = len(out) - sum(1 for _, cache in caches[len(caches) - drafts :] if _spec(cache, formats, s) is not None) if drafts else len(out)
    return tuple(owners), tuple(_hybrid_blocks(out, s, own))


def _spec(cache: Cache, formats: CacheFormats, s: Settings) -> Spec | None:
    if isinstance(cache, SharedCache):
        return None
    if isinstance(cache, CrossCache):
        return Spec(kind=Kind.CROSS, block_size=s.block_size, token_bytes=cache.row_bytes(formats), window=cache.source_tokens)
    if isinstance(cache, StateCache):
        blocks = 3 if cache.mixer == "mamba2" and s.checkpoints else 2
        return Spec(kind=Kind.STATE, block_size=s.max_model_len, state_bytes=_state_bytes(cache, formats), state_blocks=blocks)
    if isinstance(cache, CompressedCache):
        raise LayoutError("pages of compressed caches (packed entries in aligned blocks) are not known")
    if isinstance(cache, LatentCache) and cache.window:
        return Spec(kind=Kind.WINDOW, block_size=s.block_size, token_bytes=cache.row_bytes(formats), window=cache.window)
    if isinstance(cache, LatentCache):
        return Spec(kind=Kind.LATENT, block_size=s.block_size, token_bytes=cache.row_bytes(formats))
    if isinstance(cache, (WindowCache, ChunkedCache)):
        window = cache.window if isinstance(cache, WindowCache) else cache.chunk
        kind = Kind.WINDOW if isinstance(cache, WindowCache) else Kind.CHUNKED
        # Windows choose the largest multiple of the kernel's block within the block that was asked for.
        block = max(s.kernel_block, s.block_size // s.kernel_block * s.kernel_block) if kind is Kind.WINDOW else s.block_size
        retained = s.retained_tokens if kind is Kind.WINDOW else 0
        return Spec(kind=kind, block_size=block, token_bytes=cache.row_bytes(formats), heads=_heads(cache), window=window, retained=retained)
    if isinstance(cache, FullCache):
        return Spec(kind=Kind.FULL, block_size=s.block_size, token_bytes=cache.row_bytes(formats), heads=_heads(cache))
    return None


def _heads(cache: FullCache) -> tuple[int, ...]:
    return cache.kv_heads, cache.key_dim, cache.value_dim


def _state_bytes(cache: StateCache, formats: CacheFormats) -> int:
    """VLLM keeps the last kernel - 1 columns of a convolution, one fewer than transformers."""
    conv = cache.conv_elements // cache.conv_kernel * (cache.conv_kernel - 1) if cache.conv_kernel else cache.conv_elements
    return formats.conv.nbytes(conv) + (cache.state_format or formats.state).nbytes(cache.state_elements)


def _hybrid_blocks(specs: list[Spec], s: Settings, own: int) -> list[Spec]:
    """States beside attention: the attention block grows until its page holds a state, and the state is padded to that page.

    The `own` first are the model's, whose attention decides; a drafter's takes the same block.
    """
    states = [x for x in specs if x.kind is Kind.STATE]
    attention = [x for x in specs[:own] if x.kind is not Kind.STATE]
    if not states:
        return specs
    if not attention:
        return [replace(x, block_size=s.max_model_len, state_blocks=1 + s.speculative_tokens) for x in specs]
    widest = max(x.state_bytes for x in states)
    token_bytes = max(x.token_bytes for x in attention) or 1
    step = max(s.kernel_block, s.block_size)
    block = max(step * ceil(widest / (step * token_bytes)), s.block_size)
    block = ceil(block / s.kernel_block) * s.kernel_block
    page = block * token_bytes
    out = []
    for x in specs:
        if x.kind is Kind.STATE:
            blocks = x.state_blocks if s.prefix_caching else 1
            out.append(replace(x, block_size=block if s.prefix_caching else s.max_model_len, padded_bytes=page, state_blocks=blocks + s.speculative_tokens))
        else:
            out.append(replace(x, block_size=block))
    return out


def lay_out(caches: Sequence[tuple[int, Cache]], formats: CacheFormats, s: Settings, drafts: int = 0) -> Layout:
    """Deal layers to groups of equal pages.

    Args:
        caches: (layer index, cache) of every cache in layer order.
        formats: how cached numbers are stored.
        s: resolved settings.
        drafts: how many of the caches, the last ones, are a drafter's.

    Raises:
        LayoutError: vLLM would refuse: pages that cannot be made equal, or nothing to keep.
    """
    owners, specs = specs_of(caches, formats, s, drafts)
    if not specs:
        raise LayoutError("no layer keeps anything")
    if not s.hybrid_manager:
        specs = _all_full(specs)
    if len(set(specs)) == 1 or _one_type(specs):
        per_block = sum(x.page_bytes for x in specs)
        # One table over pages of several sizes: vLLM reports their sum as the group's page.
        first = specs[0] if len(set(specs)) == 1 else replace(specs[0], padded_bytes=per_block)
        groups: tuple[Group, ...] = (Group(spec=first, layers=owners),)
    else:
        groups = _dealt(owners, _equal_pages(specs), near_equal=s.near_equal)
        per_block = max(len(g.layers) for g in groups) * groups[0].spec.page_bytes
    return Layout(
        groups=groups,
        bytes_per_block=per_block,
        block_size=min(g.spec.block_size for g in groups),
        settings=s,
        terms=tuple(g.spec.term(s.max_batched_tokens * s.batches_in_flight) for g in groups),
    )


def _one_type(specs: Sequence[Spec]) -> bool:
    """Whether one block table serves all: same type, block and window, pages of any size. A latent is a kind of full attention."""
    return len({(Kind.FULL if x.kind is Kind.LATENT else x.kind, x.block_size, x.window, x.state_blocks if x.kind is Kind.STATE else 0) for x in specs}) == 1


def _all_full(specs: Sequence[Spec]) -> tuple[Spec, ...]:
    """Without the hybrid manager windows and chunks are kept in full, if there is a full layer."""
    if any(x.kind is Kind.STATE for x in specs) and any(x.kind is not Kind.STATE for x in specs):
        raise LayoutError("states beside attention need the hybrid KV cache manager")
    full = next((x for x in specs if x.kind is Kind.FULL), None)
    if full is None:
        return tuple(specs)
    return tuple(replace(x, kind=Kind.FULL, window=0, retained=0, block_size=full.block_size) if x.kind in {Kind.WINDOW, Kind.CHUNKED} else x for x in specs)


def _equal_pages(specs: Sequence[Spec]) -> tuple[Spec, ...]:
    """All pages as large as the largest: by longer blocks where that divides, else by padding."""
    largest = max(x.page_bytes for x in specs)
    out = []
    for x in specs:
        if x.page_bytes == largest:
            out.append(x)
        elif x.kind is Kind.STATE:
            out.append(replace(x, padded_bytes=largest))
        elif largest % x.page_bytes == 0:
            out.append(replace(x, block_size=x.block_size * (largest // x.page_bytes)))
        elif x.kind is Kind.LATENT:
            raise LayoutError("pages of latent and other layers cannot be made equal")
        else:
            out.append(replace(x, padded_bytes=largest))
    return tuple(out)


def _dealt(owners: Sequence[int], specs: Sequence[Spec], *, near_equal: float) -> tuple[Group, ...]:
    """Equal specs in buckets, buckets cut to groups of about equal width.

    The width is the smallest bucket's, unless the largest is less than `near_equal` times as large: then it is the
    largest's, and the others waste a few layers instead of becoming many groups.
    """
    buckets: dict[Spec, list[int]] = {}
    for owner, spec in zip(owners, specs, strict=True):
        buckets.setdefault(spec, []).append(owner)
    least, most = min(map(len, buckets.values())), max(map(len, buckets.values()))
    width = most if most < near_equal * least else least
    groups = []
    for spec, layers in buckets.items():
        n = ceil(len(layers) / width)
        groups += [Group(spec=spec, layers=tuple(layers[i::n])) for i in range(n)]
    return tuple(groups)
