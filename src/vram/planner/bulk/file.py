"""The compiled catalogue as it lies in `catalog/facts.bin`: what engines' rules need of each model, and of its weights in each quantization.

It holds numbers that the scalar rules gave (truth/oracle/catalogue_facts.py asks them), no rules. Bodies are distinct configs: ids
that share one share its numbers. Counts of GPUs are those of `COUNTS`; a placement is what `memory.placement.choose` makes of one.
"""

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

VERSION: Final = 1
COUNTS: Final = (1, 2, 3, 4, 6, 8, 16)
"""Numbers of GPUs that weights were split over."""
LAYER_COUNTS: Final = (1, 2, 3, 4, 6, 8)
"""The same for engines that deal whole layers."""

# What a variant is, beside its weights: columns of `Packed.scalars`.
SCALARS: Final = (
    "body",
    "quant",  # index into Packed.quants
    "label",  # index into Packed.labels
    "kv_format",  # index into Packed.formats, -1 for none
    "weight_bytes",
    "in_blocks",  # fp8 in blocks (vllm/profile.py)
    "expert_width",
    "ear_bytes",  # memory/weights.py: an encoder of sound that the config leaves out
    "unlisted_bytes",  # what else a checkpoint may hold
)


class Body(msgspec.Struct, frozen=True, array_like=True):
    """One distinct config: what no quantization changes."""

    architecture: str
    model_type: str
    geometry: tuple[int, ...]
    """Fields of `Geometry` in its order."""
    dtype: str
    dtype_doubtful: bool
    kinds: tuple[tuple[tuple[int, ...], ...], ...]
    """Distinct kinds of layers as the caches that they keep: (kind of cache, its fields …), see facts.py."""
    layers: bytes
    """Each layer's kind; empty for an encoder, which keeps nothing."""
    layer_count: int
    """Layers, an encoder's too."""
    tp: tuple[int, ...]
    """Tensor-parallel ranks for each of COUNTS; 0 where the model cannot use so many GPUs."""
    widths: tuple[int, ...]
    """Fields of llama_cpp_compute.Widths."""
    shape: tuple[int, ...]
    """Fields of transformers_peaks.Shape."""
    towers: bool
    """An encoder of images or sound."""
    composite: bool
    """Tensors beside the text model's."""
    draft_layers: int
    """Multi-token-prediction layers that llama.cpp counts."""
    row_bytes: int
    """vllm/buffers.py, per_token."""
    layered_width: int
    """vllm/buffers.py."""
    vision_factor: float
    """sglang/budget.py, _vision_factor."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One model of the catalogue."""

    id: str
    body: int
    parameters: int
    active_parameters: int
    max_context_tokens: int
    quantization: str
    """The published checkpoint's own, empty for none."""
    derived: bool
    """A quantised copy of another model of the catalogue."""
    licence: str | None
    released: str | None
    modality: str


class Layouts(msgspec.Struct, frozen=True, array_like=True):
    """VLLM's KV layouts: distinct ones, and which holds where."""

    bytes_per_block: tuple[int, ...]
    terms: tuple[tuple[tuple[int, int, int, int], ...], ...]
    """(block_size, most_tokens, extra, 1 where tokens in flight are added to most_tokens) of each group."""
    places: bytes
    """int32, zlib: for each body, each of its placements, each stage, each of (8-bit, own type), each block class: index, -1 for none."""


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """The whole file. Arrays of numbers are little-endian int64 under zlib."""

    version: int
    quants: tuple[str, ...]
    labels: tuple[str, ...]
    formats: tuple[str, ...]
    models: tuple[Entry, ...]
    bodies: tuple[Body, ...]
    scalars: bytes
    """variants x SCALARS, column by column."""
    split: bytes
    """Weights of ranks where tensors are split, column by column of `SPLIT`; a row for each variant, placement and stage."""
    split_of: bytes
    """Variants that have such rows."""
    dealt: bytes
    """The same for transformers, which deals whole layers: columns of `DEALT`, a row for each variant, count and stage."""
    dealt_of: bytes
    gguf: bytes
    """The same for llama.cpp: columns of `GGUF`."""
    gguf_of: bytes
    moved: bytes
    """What steps read and compute: columns of `MOVED`, a row for each distinct layer of each variant, and one for what lies outside of layers."""
    moved_rows: bytes
    """How many rows each variant has."""
    moved_layers: bytes
    """uint8, zlib: for each variant, each layer's row of its own."""
    layouts: Layouts


SPLIT: Final = (
    "used",  # memory/weights.py, without drafts
    "draft",
    "vllm",  # vllm/weights.py on a card before Hopper, beyond `used`
    "vllm_hopper",  # what that takes beyond it, and so on
    "vllm_blackwell",
    "vllm_amd",
    "doubtful",  # of those bytes
    "doubtful_amd",  # beyond that
    "possible",
    "possible_amd",
    "absorbed",  # whether MLA's projections are held twice
)
"""Bytes of one rank."""
DEALT: Final = ("used", "used_less", "used_more")
GGUF: Final = ("used", "used_less", "used_more", "unified", "unified_less", "unified_more")
"""On a card of its own memory; and what a card that shares the host's takes beyond that."""


TYPES: Final = ("bf16", "fp8", "fp4", "int8")
"""What kernels compute in (speed/work.py)."""
SPLITS: Final = ("whole", "even", "dense", "kv_heads", "qkv")
MOVED: Final = (
    *(f"bytes_{split}" for split in SPLITS),  # of dense weights, by how ranks share them (memory/weights.py)
    *(f"parameters_{split}" for split in SPLITS),
    "expert_bytes",
    "expert_parameters",
    "head_bytes",
    "head_parameters",
    *(f"dense_{kind}" for kind in TYPES),  # parameters by what kernels compute in
    *(f"expert_{kind}" for kind in TYPES),
)
"""speed/work.py's sums of a layer."""


def packed_numbers(values: list[int]) -> bytes:
    """Numbers as they lie in the file."""
    from array import array  # noqa: PLC0415  (only the compiler packs)

    return zlib.compress(array("q", values).tobytes(), 9)


def packed_columns(rows: Sequence[Sequence[int]]) -> bytes:
    """Rows of numbers, column by column: like beside like takes less room."""
    return packed_numbers([n for column in zip(*rows, strict=True) for n in column])
