"""What llama.cpp reserves for caches when a context is made. Rules of b11434 (October 2026), read from its source.

Sources: llama_context::llama_context (n_ctx, n_batch, padding), llama_kv_cache and llama_kv_cache_iswa (cells, streams),
llama_memory_recurrent (states), llama_context::output_reserve (logits). Held against llama.cpp's own figures in
tests/test_llama_cpp_kv.py. Weights and compute buffers are in llama_cpp_buffers.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vram.errors import UsageError
from vram.model.cache import Cache, ChunkedCache, CompressedCache, CrossCache, FullCache, LatentCache, StateCache, WindowCache
from vram.model.format import F16, F32, Format
from vram.model.model import Model

PADDING: Final = 256
"""Cells of a cache come in multiples of this (llama.cpp PR #17046)."""

# The types whose window llama.cpp honours, as their configs name them; others keep every token (src/models/*.cpp).
_WINDOWED: Final = (
    "afmoe cohere2 cohere2_moe deepseek_v4 dots3_note_text exaone4 exaone_moe gemma2 gemma3 gemma3_text gemma3n gemma3n_text gemma4 gemma4_text gpt_oss laguna lfm2 llama4"
    " llama4_text mellum mimo_v2_flash olmo3 olmo3_text plamo3 smallthinker step3p5 granite_swa granitemoe_swa"
)
_WINDOWED_TYPES: Final = frozenset(_WINDOWED.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class KvReservation:
    """What one context reserves, all layers together.

    Attributes:
        attention_bytes: keys, values, latents and indexer keys.
        recurrent_bytes: states of linear and short-convolution layers, always 32-bit.
        layer_bytes: both, layer by layer: they lie where the layer lies.
        output_bytes: logits, on the host.
        cells: cells of one stream of the layers that keep every token (0 without such layers).
        window_cells: cells of one stream of the layers with a window (0 without such layers).
        streams: caches side by side: one a slot, or a single one that slots share.
        context_tokens: tokens that the context holds after rounding, all slots together.
        ubatch: tokens of a physical batch after clamping.
    """

    attention_bytes: int
    recurrent_bytes: int
    layer_bytes: tuple[int, ...]
    output_bytes: int
    cells: int
    window_cells: int
    streams: int
    context_tokens: int
    ubatch: int

    @property
    def context_bytes(self) -> int:
        """What llama.cpp calls the context: caches and states, without the logits."""
        return self.attention_bytes + self.recurrent_bytes


def pad(tokens: int, multiple: int = PADDING) -> int:
    """`tokens` rounded up to a whole number of `multiple`."""
    return -(-tokens // multiple) * multiple


@lru_cache(maxsize=512)
def layer_kinds(model: Model) -> tuple[tuple[tuple[Cache, ...], ...], tuple[int, ...]]:
    """The distinct kinds of layers, as the caches that they keep, and each layer's kind: plans ask many times over."""
    numbers: dict[tuple[Cache, ...], int] = {}
    places = tuple(numbers.setdefault(layer.caches, len(numbers)) for layer in model.layers)
    return tuple(numbers), places


def windows_honoured(model: Model) -> bool:
    """Whether llama.cpp heeds the windows that a model states."""
    return is_gguf(model) or model.model_type in _WINDOWED_TYPES


@lru_cache(maxsize=128)
def is_gguf(model: Model) -> bool:
    """Whether the model was read from a GGUF, whose windows are those that llama.cpp honours."""
    return model.source == "header" and any(t.name.startswith(("blk.", "token_embd", "v.blk.")) for t in model.tensors)


def reserve_kv(
    model: Model,
    *,
    n_ctx: int = 0,
    n_parallel: int = 1,
    unified: bool = False,
    type_k: Format = F16,
    type_v: Format = F16,
    n_ubatch: int = 512,
    n_batch: int = 2048,
    swa_full: bool = False,
    flash_attention: bool = True,
    n_rs_seq: int = 0,
    padding: int = PADDING,
) -> KvReservation:
    """What llama.cpp reserves for the caches of `model` when it makes a context.

    Args:
        model: from a GGUF, or from a config.json of an architecture that llama.cpp has.
        n_ctx: `-c`, tokens of all slots together; 0 for the longest context of the model.
        n_parallel: `-np`, slots. llama-server's own default is 4 with a unified cache.
        unified: `-kvu`, one cache for all slots.
        type_k: `-ctk`.
        type_v: `-ctv`.
        n_ubatch: `-ub`.
        n_batch: `-b`.
        swa_full: `--swa-full`, windowed layers keep every token.
        flash_attention: `-fa`.
        n_rs_seq: snapshots of a state kept for rollback.
        padding: cells come in multiples of it.

    Raises:
        UsageError: llama.cpp refuses such a context.
    """
    n_ctx = n_ctx or model.geometry.max_context_tokens
    if n_ctx < 1 or n_parallel < 1 or n_ubatch < 0 or n_batch < 0 or not n_batch + n_ubatch:
        raise UsageError("llama.cpp needs a context, a slot and a batch of at least one token", hint="give --context, and --parallel and --ubatch of 1 or more")
    kinds, places = layer_kinds(model)
    caches = [c for kind in kinds for c in kind]
    flash_attention = flash_attention and model.model_type not in {"grok", "grok-1"}  # forced off there
    _refuse(caches, type_k, type_v, flash_attention=flash_attention)

    batch = min(n_ctx, n_batch)
    ubatch = min(batch, n_ubatch or n_batch)
    # Compressed caches are kept slot by slot even when the rest is unified, each as large as the whole.
    apart = any(isinstance(c, CompressedCache) for c in caches)
    streams = 1 if unified and not apart else n_parallel
    cells = pad(n_ctx, padding) if unified else pad(pad(n_ctx, padding) // n_parallel, padding)
    honoured = windows_honoured(model)
    # Values are stored transposed without flash attention, and then all layers get the width of the widest. An indexer's
    # keys, the second cache of a layer, lie in a cache of their own.
    first = [kind[0] for kind in kinds if kind]
    widest = 0 if flash_attention else max((c.kv_heads * c.value_dim for c in first if isinstance(c, FullCache) and not isinstance(c, CrossCache)), default=0)

    attention: list[int] = []
    recurrent: list[int] = []
    full_seen, window_cells = False, 0

    def held(window: int) -> int:
        """Cells of a layer that looks back `window` tokens, 0 for all."""
        nonlocal full_seen, window_cells
        if not window or not honoured:
            full_seen = True
            return cells
        window_cells = cells if swa_full else pad(min(cells, window * (n_parallel if unified and not apart else 1) + ubatch))
        return window_cells

    for kind in kinds:
        kept = state = 0
        for i, c in enumerate(kind):
            match c:
                case StateCache():
                    # One column of the convolution's window is the token being computed, and is not kept.
                    columns = c.conv_elements // c.conv_kernel * (c.conv_kernel - 1) if c.conv_kernel else c.conv_elements
                    state += F32.nbytes(columns + c.state_elements) * n_parallel * (1 + n_rs_seq)
                case LatentCache():
                    kept += held(c.window) * streams * type_k.nbytes(c.latent_dim + c.rope_dim) + (
                        cells * streams * type_k.nbytes(c.index_dim) if c.index_dim else 0
                    )
                case CompressedCache():
                    entries = pad(max(1, -(-cells // c.ratio)))
                    kept += entries * streams * (type_k.nbytes(c.entry_dim) + type_k.nbytes(c.index_dim))
                    # Entries that overlap are made of twice the tokens, at twice the width.
                    state += F32.nbytes(c.open_elements * (2 if c.overlap else 1)) * n_parallel * (1 + n_rs_seq)
                case CrossCache():
                    pass  # the keys of an encoder's output are computed anew at every step
                case FullCache():
                    values = widest if widest and c.value_dim and not i else c.kv_heads * c.value_dim
                    kept += held(looks_back(c)) * streams * (type_k.nbytes(c.kv_heads * c.key_dim) + type_v.nbytes(values))
                case _:
                    pass
        attention.append(kept)
        recurrent.append(state)
    return KvReservation(
        attention_bytes=sum([attention[i] for i in places]),
        recurrent_bytes=sum([recurrent[i] for i in places]),
        layer_bytes=tuple([attention[i] + recurrent[i] for i in places]),
        output_bytes=n_parallel * model.geometry.vocab_size * F32.block_bytes,
        cells=cells if full_seen else 0,
        window_cells=window_cells,
        streams=streams,
        context_tokens=cells * streams,
        ubatch=ubatch,
    )


def looks_back(cache: FullCache) -> int:
    """Tokens that a windowed layer looks back; 0 for a layer that sees all."""
    match cache:
        case WindowCache(window=width) | ChunkedCache(chunk=width):
            return width
        case _:
            return 0


def _refuse(caches: Iterable[Cache], type_k: Format, type_v: Format, *, flash_attention: bool) -> None:
    """What llama_init_from_model refuses."""
    if type_v.block_elements > 1 and not flash_attention:
        raise UsageError(f"llama.cpp keeps values as {type_v.name} only with flash attention", hint="add --flash-attention on, or choose an f16 cache")
    for c in caches:
        if isinstance(c, CompressedCache):
            if type_k != type_v:
                raise UsageError("llama.cpp keeps one type for compressed caches", hint="choose one --kv-dtype")
            widths = [(type_k, c.entry_dim), (type_k, c.index_dim)]
        elif isinstance(c, LatentCache):
            if type_k != type_v:
                raise UsageError("llama.cpp keeps one type for both halves of a latent (MLA) cache", hint="choose one --kv-dtype")
            widths = [(type_k, c.latent_dim + c.rope_dim)]
        elif isinstance(c, FullCache) and flash_attention:
            widths = [(type_k, c.key_dim), (type_v, c.value_dim)]
        else:
            continue
        for fmt, width in widths:
            if width % fmt.block_elements:
                raise UsageError(f"heads of {width} are not whole blocks of {fmt.block_elements}, as a {fmt.name} cache needs", hint="choose an f16 cache")
