"""How much llama.cpp computes in, on each device and on the host: the buffers that it reserves for a physical batch.

Closed forms of what ggml's allocator makes of llama.cpp's graphs, read off its own no-alloc runs at true shapes
(truth/llama_cpp/dry_runs.jsonl, b11434) and off public logs of older builds. They are floors: fragments of the allocator
add to them, by less than 3 % in 19 runs of 20. Not in them: cuBLAS workspaces, CUDA's pools, and the copies of host
weights that CUDA makes when layers stay on the host (`streamed_bytes` is the largest of those).
"""

from dataclasses import dataclass
from functools import lru_cache

from vram.engines.llama_cpp import KvReservation, layer_kinds
from vram.engines.llama_cpp_buffers import HOST, Offload, Spread
from vram.model.cache import Cache, CompressedCache, CrossCache, FullCache, LatentCache, StateCache
from vram.model.format import Format
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component, Role
from vram.model.tensor import Tensor

PIPELINE_COPIES = 4
"""Copies of the inputs that several devices in a row work on (GGML_SCHED_MAX_COPIES)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Numbers per token that a graph holds at its widest instants, and per sequence for states.

    Attributes:
        hidden: the residual stream.
        vocabulary: a row of logits.
        inner: the MLP: gate, up and their product; of an MoE the chosen experts' and, where they do not fit into the
            room of gate and up, their outputs.
        queries: queries of all heads, twice where a gate comes with them and where they are wider than the stream.
        keys: keys and values of one token.
        heads: query heads, a score each for every cell.
        rotary: the rotary part of latent attention's queries, which fused attention takes from a copy.
        mixer: the projections of a state layer.
        channels: of which its convolution takes so many.
        state: numbers of one sequence's state, of one layer.
        scanned: of which a scan (Mamba) keeps so many; 0 for other kinds of states.
        sparse: experts are chosen.
    """

    hidden: int
    vocabulary: int
    inner: int
    queries: int
    keys: int
    heads: int
    rotary: int
    mixer: int
    channels: int
    state: int
    scanned: int
    sparse: bool


@once_per_model
def widths(model: Model) -> Widths:
    """What `model` is wide."""
    g = model.geometry
    hidden = g.hidden_size or 1
    dense: dict[int, int] = {}
    routed: dict[int, int] = {}
    gated, mixer = False, 0
    for t in model.tensors:
        if t.layer is None or t.component is not Component.TEXT:
            continue
        if t.role is Role.MLP and "bias" not in t.name:
            dense[t.layer] = dense.get(t.layer, 0) + t.parameters
        elif t.role is Role.EXPERT and "bias" not in t.name:
            routed[t.layer] = routed.get(t.layer, 0) + t.parameters
        elif t.role is Role.QUERY and len(t.shape) == 2 and g.head_dim:
            gated = gated or t.shape[0] == 2 * g.attention_heads * g.head_dim
    # Matrices of an MLP hold one row or column of the hidden size for each number that the graph holds.
    inner = max(dense.values(), default=0) // hidden
    experts = max(routed.values(), default=0) // hidden // max(g.experts, 1) * g.experts_per_token
    if experts:
        out = g.experts_per_token * hidden
        inner = max(inner, experts if out <= experts * 2 // 3 else experts + out)
    caches = {c for layer in model.layers for c in layer.caches}
    states = [c for c in caches if isinstance(c, StateCache)]
    # Mamba: z, x, B, C and dt in one projection, then the convolution's window twice over and the scan's result.
    scanned = any(_is(t, "ssm_in.", "mamba.in_proj.", "mixer.in_proj.") for t in model.tensors)
    channels = max((c.conv_elements // c.conv_kernel for c in states if c.conv_kernel), default=0)
    if channels and not scanned:
        mixer = 2 * channels + hidden
    elif channels:
        inner_width = max((t.shape[-1] for t in model.tensors if t.shape and _is(t, "ssm_out", "out_proj")), default=0)
        projected = max((t.shape[0] for t in model.tensors if _is(t, "ssm_in", "in_proj") and len(t.shape) == 2), default=0)
        mixer = projected + 2 * channels + inner_width
    latents = [c for c in caches if isinstance(c, LatentCache)]
    queries, rotary = g.attention_heads * g.head_dim, 0
    if latents:
        # Queries, queries in the latent's space, and the result there.
        c = max(latents, key=lambda c: c.latent_dim)
        queries += g.attention_heads * (2 * c.latent_dim + c.rope_dim)
        rotary = g.attention_heads * c.rope_dim
    elif gated:
        queries *= 3
    elif queries > hidden:
        queries *= 2
    return Widths(
        hidden=g.hidden_size,
        vocabulary=g.vocab_size,
        inner=inner,
        queries=queries,
        keys=0 if latents else 2 * max((c.kv_heads * c.key_dim for c in caches if isinstance(c, FullCache) and not isinstance(c, CrossCache)), default=0),
        heads=g.attention_heads,
        rotary=rotary,
        mixer=mixer,
        channels=channels,
        state=max((_kept(c) for c in states), default=0),
        scanned=max((c.state_elements for c in states), default=0) if scanned else 0,
        sparse=bool(experts),
    )


def _is(t: Tensor, *names: str) -> bool:
    return t.layer is not None and t.role is Role.MIXER and any(n in t.name for n in names)


def _kept(c: StateCache) -> int:
    columns = c.conv_elements // c.conv_kernel * (c.conv_kernel - 1) if c.conv_kernel else c.conv_elements
    return columns + c.state_elements


@lru_cache(maxsize=512)
def _caches(model: Model) -> tuple[Cache, ...]:
    kinds, _ = layer_kinds(model)
    return tuple(c for kind in kinds for c in kind)


@lru_cache(maxsize=512)
def _rows(model: Model, key: Format, *, flash_attention: bool) -> tuple[int, int]:
    """Input bytes per token and in all, beside mask and tokens: where to store values, and rotations of quantised keys."""
    full = [c for c in _caches(model) if isinstance(c, FullCache) and not isinstance(c, CrossCache)]
    tables = len({getattr(c, "window", 0) or getattr(c, "chunk", 0) for c in full})
    if not full:
        return 0, 0
    # A transposed cache is written number by number, each with an index of 8 bytes (set_rows).
    values = 0 if flash_attention else 8 * max(c.kv_heads * c.value_dim for c in full) * tables
    # Quantised keys and values are rotated first: a table for each, of the heads' width and of 64.
    rotations = 4 * (max(c.key_dim for c in full) ** 2 + 64 * 64) * tables if key.block_elements > 1 else 0
    return values, rotations


def compute_spread(
    model: Model,
    reservation: KvReservation,
    where: Offload,
    *,
    n_parallel: int = 1,
    n_outputs: int = 1,
    type_k: Format,
    flash_attention: bool = True,
    offload_kqv: bool = True,
    reserves_all_logits: bool = False,
    drafting: Offload | None = None,
) -> Spread | None:
    """The compute buffers of the host and of each device; None where nothing is known of the model's widths.

    The largest of four moments of a physical batch – MLP, attention, state layer, logits – each beside the inputs.
    llama-server asks for as many rows of logits as it has slots; other programs for one a token.

    Args:
        model: the model.
        reservation: what its caches take, for the mask.
        where: which device holds which layer.
        n_parallel: slots.
        n_outputs: rows of logits that are asked for at most.
        type_k: type of the cached keys.
        flash_attention: without it, the scores of all heads are held.
        offload_kqv: caches lie on the devices.
        reserves_all_logits: the rule of builds before #23861 (June 2026): logits of the whole batch, and inputs that
            live in the room of the logits.
        drafting: where the layers lie if these are the multi-token-prediction layers of a model that lies as `where` says.
    """
    w = widths(model)
    if not w.hidden or any(isinstance(c, CompressedCache) for c in _caches(model)):
        return None
    rows = reservation.ubatch
    if reservation.streams > 1:
        rows = max(rows // n_parallel, 1) * n_parallel  # a batch is dealt to streams in equal parts
    cells = reservation.cells + reservation.window_cells
    mask = rows * cells * (2 if flash_attention else 4)
    values, rotations = _rows(model, type_k, flash_attention=flash_attention)
    inputs = mask + values * rows + rotations
    scores = 0 if flash_attention else w.heads * max(reservation.cells, reservation.window_cells)
    attention = w.queries + scores + (w.keys + w.rotary if flash_attention else 0) if w.heads else 0
    work = max(4 * rows * w.inner, 4 * rows * attention, _state_work(w, rows, n_parallel))
    if drafting is not None:
        if model.model_type in _FEW_ROWS:
            work = 4 * rows * attention
        return _mtp_spread(where, drafting, work=work, stream=4 * rows * w.hidden, inputs=inputs)
    outputs = rows if reserves_all_logits else min(rows, n_outputs)
    logits, stream = 4 * outputs * w.vocabulary, 4 * rows * w.hidden
    # Of a device that holds the output and no layer.
    ends = 4 * outputs * (w.vocabulary + w.hidden)
    used = {place for place in (*where.layers, where.output) if place is not None}
    # After its attention, the last layer goes on with the rows that logits are asked for: where it lies alone, no MLP counts.
    final = len(model.layers) - 1
    lone = where.layers[final] if 0 <= final < len(where.layers) else HOST
    alone = where.layers.count(lone) == 1 and not reserves_all_logits and model.model_type in _LAST_ROWS

    def work_of(place: int | None) -> int:
        return 4 * rows * attention if alone and place == lone else work

    if not used:
        return Spread(host=max(work_of(HOST), logits) + 5 * stream + inputs, devices=(0,) * where.devices)
    devices = [0] * where.devices
    whole = HOST not in where.layers and where.output is not None
    if reserves_all_logits:
        # Fully offloaded with fused attention: logits and one row of the stream, exact in seven logs.
        rest = 2 * stream + inputs
        for place in used:
            at_end = logits + stream if place == where.output else 0
            devices[place] = max(work + rest, at_end) if HOST in where.layers or place != where.output else max(at_end, work + stream + mask)
        return Spread(host=stream + rows * cells * 4 + (0 if whole else work + 4 * stream), devices=tuple(devices))
    if whole and len(used) > 1 and offload_kqv:
        first, last = min(used), where.output
        # Models of states alone hold more rows of the stream.
        streams = (16, 11, 9) if w.heads or not w.scanned else (24, 27, 26)
        for place in used:
            if place not in where.layers:
                devices[place] = ends
                continue
            devices[place] = work_of(place) + (streams[place != first] - (alone and place == lone)) * stream
            if place == last:
                devices[place] = max(devices[place], logits + streams[2] * stream)
            devices[place] += PIPELINE_COPIES * inputs
        return Spread(host=10 * stream + PIPELINE_COPIES * inputs, devices=tuple(devices))
    if whole:
        for place in used:
            devices[place] = (max(work_of(place), logits) if place == where.output else work_of(place)) + 4 * stream + inputs
        return Spread(host=4 * stream + inputs, devices=tuple(devices))
    for place in used:
        if place not in where.layers:
            devices[place] = ends
        else:
            rest = 5 if not w.heads else 3 if w.sparse or (alone and place == lone) else 2
            devices[place] = max(work_of(place) + rest * stream, logits if place == where.output else 0) + inputs
    return Spread(host=(work_of(HOST) if HOST in where.layers else 0) + 5 * stream + inputs, devices=tuple(devices))


_LAST_ROWS = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma3", "gemma3_text"})
"""Types whose last layer computes its MLP only for those rows, as seen with that layer alone on a device; some others choose rows after it."""
_FEW_ROWS = frozenset({"qwen3next", "nemotron_h_moe", "qwen3_next", "nemotron_h"})
"""Types whose draft layer computes its MLP only for the rows that logits are asked for (`inp_out_ids` in src/models/*.cpp)."""


def _mtp_spread(where: Offload, drafting: Offload, *, work: int, stream: int, inputs: int) -> Spread:
    """The second context's buffers: a layer's work, two rows of the stream, ten where several devices work in a row."""
    place, devices = drafting.layers[-1] if drafting.layers else drafting.output, [0] * where.devices
    if place is None:
        return Spread(host=work + 2 * stream + inputs, devices=tuple(devices))
    several = len({p for p in (*where.layers, where.output) if p is not None}) > 1 and HOST not in where.layers
    copies = PIPELINE_COPIES if several else 1
    devices[place] = work + (10 if several else 2) * stream + copies * inputs
    return Spread(host=(5 if several else 2) * stream + copies * inputs, devices=tuple(devices))


def _state_work(w: Widths, rows: int, sequences: int) -> int:
    """What a state layer computes in: its projections and the states of all sequences, old and new."""
    held = sequences * w.state
    if not w.scanned:
        return 4 * (rows * w.mixer + 2 * held)
    # The new states fit into the room of the convolution while they are small.
    return 4 * (rows * w.mixer + held + (held - w.scanned if held > rows * w.channels else 0))


@lru_cache(maxsize=256)
def streamed_bytes(model: Model, where: Offload) -> int:
    """The largest matrix of a layer that stays on the host: CUDA copies it over to multiply large batches (`op_offload`)."""
    return max((t.nbytes for t in model.tensors if t.layer is not None and t.layer < len(where.layers) and where.layers[t.layer] is None), default=0)


@lru_cache(maxsize=64)
def head_bytes(model: Model) -> int:
    """Bytes of the lm_head, or of the embedding that it is tied to."""
    text = [t for t in model.tensors if t.component is Component.TEXT]
    heads = [t.nbytes for t in text if t.role is Role.LM_HEAD] or [t.nbytes for t in text if t.role is Role.EMBEDDING]
    return max(heads, default=0)
