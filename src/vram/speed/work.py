"""What one engine step moves and computes on the busiest rank of a pipeline stage: bytes, operations, messages. No clock, no card's speed.

Bytes are those that the tensors really store and the caches really keep; operations are two for every weight that a token
meets, and two for every number that attention multiplies.
"""

from dataclasses import dataclass
from math import ceil

from vram.memory.placement import layer_count, stages
from vram.memory.weights import Split, split_of
from vram.model.cache import Cache, CacheFormats, ChunkedCache, CompressedCache, FullCache, LatentCache, SharedCache, StateCache
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component, Role
from vram.speed.spread import Spread

SPARSE_TOKENS = 2048
"""Tokens that sparse attention with an indexer attends to: `index_topk` of DeepSeek-V3.2's and GLM-5's configs."""
_DECODER = frozenset({Component.TEXT, Component.ENCODER})
_IDLE = frozenset({Role.EMBEDDING, Role.POSITION, Role.BUFFER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What attention reads of one sequence's caches on one rank: so many bytes a token, some only of the last tokens.

    Attributes:
        growing: bytes of every cached token, over all layers.
        windows: bytes of every token among the last so many, window by window.
        fixed: bytes whatever the length (states are read and written, an encoder's keys are read).
    """

    growing: float
    windows: tuple[tuple[float, int], ...]
    fixed: float

    def at(self, tokens: float) -> float:
        """Bytes read for one new token that attends to `tokens` cached ones."""
        total = self.fixed + self.growing * tokens
        for row, window in self.windows:
            total += row * min(tokens, window)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One stage's work on one rank.

    Attributes:
        dense_bytes: weights that every step reads whole: attention, MLPs, shared experts, norms, routers.
        dense_ops: operations on them for each token.
        head_bytes: the output layer's weights, on the last stage.
        head_ops: operations on them for each token that is sampled.
        expert_bytes: all routed experts that the rank holds.
        expert_ops: operations on the visited ones for each token of the step, the rank's share.
        experts: routed experts of a layer; 0 for a dense model.
        experts_per_token: of which a token visits so many.
        copies: copies of attention whose tokens meet in the experts, each with as many as this one.
        reads: what attention reads of the caches.
        decode_pair: operations of attention for a new token and a cached one while decoding, over the layers that grow.
        decode_windows: the same for windows, window by window, in the order of `reads.windows`.
        prefill_pair: the same for a prompt's tokens, where latents are unfolded.
        layers: decoder layers of the stage.
        expert_layers: of which so many have routed experts.
        recurrent_layers: of which so many keep a recurrent state (SSM, linear attention; not a convolution alone).
        message_bytes: one token's activations, sent after each half of a layer.
        stored_bits: mean stored bits of a linear weight: what class of quantization it is.
        dense_type: what the dense weights' kernels compute in where the card can (`bf16`, `fp8`, `fp4`, `int8`).
        expert_type: the same for experts.
    """

    dense_bytes: float
    dense_ops: float
    head_bytes: float
    head_ops: float
    expert_bytes: float
    expert_ops: float
    experts: int
    experts_per_token: int
    copies: int
    reads: Reads
    decode_pair: float
    decode_windows: tuple[float, ...]
    prefill_pair: float
    layers: int
    expert_layers: int
    recurrent_layers: int
    message_bytes: int
    stored_bits: float
    dense_type: str
    expert_type: str

    @property
    def all_expert_ops(self) -> float:
        """Operations that would multiply every routed expert that the rank holds once."""
        visited = min(self.experts_per_token, self.experts) * self.copies
        return self.expert_ops * self.experts / visited if visited else 0.0

    def expert_share(self, tokens: float) -> float:
        """Share of the experts that `tokens` tokens of each copy visit, chosen evenly: 1 - (1 - k/E)^(tokens x copies)."""
        if not self.experts:
            return 0.0
        return 1.0 - float((1.0 - min(self.experts_per_token, self.experts) / self.experts) ** (tokens * self.copies))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sum:
    """Weights of one kind in one layer (or outside of the layers)."""

    layer: int | None
    kind: str
    split: Split
    nbytes: int
    parameters: int
    computes_in: str


_TYPES = {"F8_E4M3": "fp8", "F8_E5M2": "fp8", "F8_E4M3FNUZ": "fp8", "F8_E5M2FNUZ": "fp8", "F4": "fp4", "NVFP4": "fp4", "MXFP4": "fp4", "I8": "int8"}


@once_per_model
def _sums(model: Model) -> tuple[_Sum, ...]:
    latent = {layer.index for layer in model.layers if any(isinstance(c, LatentCache) for c in layer.caches)}
    tied = not any(t.role is Role.LM_HEAD and t.component is Component.TEXT for t in model.tensors)
    many = len(model.layers)
    nvfp4 = "nvfp4" in model.quantization.lower() or "mxfp4" in model.quantization.lower()
    sums: dict[tuple[int | None, str, Split, str], list[int]] = {}
    for t in model.tensors:
        drafts = t.component is Component.DRAFT or (t.layer is not None and many and t.layer >= many)
        if drafts or t.component not in _DECODER:
            continue
        kind = "expert" if t.role is Role.EXPERT else "head" if t.role is Role.LM_HEAD else "dense"
        if t.role is Role.EMBEDDING and tied and t.component is Component.TEXT and model.geometry.hidden_size in t.shape:
            kind = "head"  # a table beside it (embeddings per layer) is only looked up
        elif t.role in _IDLE:
            continue
        packed_fp4 = nvfp4 and t.format.name == "U8"
        key = (t.layer, kind, split_of(t, latent=t.layer in latent), "fp4" if packed_fp4 else _TYPES.get(t.format.name, "bf16"))
        entry = sums.setdefault(key, [0, 0])
        entry[0] += t.nbytes
        entry[1] += t.parameters
    return tuple(_Sum(layer=k[0], kind=k[1], split=k[2], computes_in=k[3], nbytes=v[0], parameters=v[1]) for k, v in sums.items())


def _share(one: _Sum, model: Model, spread: Spread) -> float:
    """The part of such weights that one rank holds."""
    tp = spread.tp
    if one.split is Split.EXPERT:
        ranks = spread.expert_ranks
        experts = model.geometry.experts
        return ceil(experts / ranks) / experts if spread.ep and experts else 1 / ranks
    if tp == 1 or one.split is Split.WHOLE:
        return 1.0
    kv = model.geometry.kv_heads or tp
    if one.split is Split.KV_HEADS:
        return ceil(kv / tp) / kv
    if one.split is Split.QKV:
        q = model.geometry.attention_heads or kv
        return (ceil(q / tp) + 2 * ceil(kv / tp)) / (q + 2 * kv)
    return 1 / tp


def _read(cache: Cache, formats: CacheFormats) -> tuple[float, int, float]:
    """Bytes a token, the window that they are limited to (0: none), and bytes whatever the length, of one layer."""
    if isinstance(cache, StateCache):
        return 0.0, 0, 2.0 * cache.nbytes(0, formats)
    if isinstance(cache, CompressedCache):
        return cache.row_bytes(formats) / cache.ratio, 0, 0.0
    if isinstance(cache, LatentCache):
        return float(cache.row_bytes(formats)), cache.window, 0.0
    if isinstance(cache, FullCache):
        row = float(cache.row_bytes(formats))
        if cache.kind == "cross":
            return 0.0, 0, row * cache.held_tokens(0)
        window = getattr(cache, "window", 0) or (cache.chunk if isinstance(cache, ChunkedCache) else 0)
        # A chunk is on average half full.
        return row, window // 2 if isinstance(cache, ChunkedCache) else window, 0.0
    return 0.0, 0, 0.0


def _pair(cache: Cache, heads: float, head_dim: int) -> tuple[float, float]:
    """Operations of attention for one new token and one attended one in one layer: while decoding, and in a prefill."""
    if isinstance(cache, LatentCache):
        absorbed = 2 * heads * (2 * cache.latent_dim + cache.rope_dim)
        return absorbed, 2 * heads * (2 * head_dim - cache.rope_dim) if head_dim else absorbed
    if isinstance(cache, CompressedCache):
        one = 4 * heads * cache.entry_dim / cache.ratio
        return one, one
    if isinstance(cache, FullCache):
        one = 2 * heads * (cache.key_dim + cache.value_dim)
        return one, one
    return 0.0, 0.0


def _attention(model: Model, layers: tuple[int, int], spread: Spread, formats: CacheFormats) -> tuple[Reads, float, tuple[float, ...], float]:
    heads = model.geometry.attention_heads / spread.tp
    growing = fixed = decode = prefill = 0.0
    windows: dict[int, list[float]] = {}
    for layer in model.layers[layers[0] : layers[1]]:
        for kept in layer.caches:
            read_from: tuple[Cache, ...] = model.layers[kept.of].caches if isinstance(kept, SharedCache) else (kept,)
            for cache in read_from:
                row, window, always = _read(cache.split(spread.tp), formats)
                one, unfolded = _pair(cache, heads, model.geometry.head_dim)
                fixed += always
                if isinstance(cache, LatentCache) and cache.index_bytes and not window:
                    growing += cache.index_bytes
                    row, window = row - cache.index_bytes, SPARSE_TOKENS
                if window:
                    entry = windows.setdefault(window, [0.0, 0.0])
                    entry[0] += row
                    entry[1] += one
                else:
                    growing += row
                    decode += one
                    prefill += unfolded
    ordered = sorted(windows)
    reads = Reads(growing=growing, windows=tuple((windows[w][0], w) for w in ordered), fixed=fixed)
    return reads, decode, tuple(windows[w][1] for w in ordered), prefill


def _recurrent(model: Model, layers: tuple[int, int]) -> int:
    """Layers of these that keep a recurrent state."""
    return sum(any(isinstance(c, StateCache) and c.state_elements for c in layer.caches) for layer in model.layers[layers[0] : layers[1]])


@once_per_model
def work_of(model: Model, spread: Spread, formats: CacheFormats) -> tuple[Work, ...]:
    """The work of every pipeline stage.

    Raises:
        PlacementError: more stages than layers.
    """
    g = model.geometry
    active = min(g.experts_per_token, g.experts) / g.experts if g.experts else 0.0
    out = []
    for stage in stages(layer_count(model), spread.pp):
        of: dict[str, list[float]] = {kind: [0.0, 0.0] for kind in ("dense", "head", "expert")}
        types: dict[tuple[str, str], int] = {}
        stored = parameters = 0
        expert_layers = set()
        for one in _sums(model):
            here = stage.first <= one.layer < stage.last if one.layer is not None else stage.is_last
            if not here:
                continue
            share = _share(one, model, spread)
            of[one.kind][0] += one.nbytes * share
            of[one.kind][1] += one.parameters * share
            types[one.kind, one.computes_in] = types.get((one.kind, one.computes_in), 0) + one.parameters
            if one.kind != "head":
                stored, parameters = stored + one.nbytes, parameters + one.parameters
            if one.kind == "expert":
                expert_layers.add(one.layer)
        reads, decode, decode_windows, prefill = _attention(model, (stage.first, stage.last), spread, formats)
        out.append(
            Work(
                dense_bytes=of["dense"][0],
                dense_ops=2 * of["dense"][1],
                head_bytes=of["head"][0],
                head_ops=2 * of["head"][1],
                expert_bytes=of["expert"][0],
                expert_ops=2 * of["expert"][1] * active * spread.dp,
                experts=g.experts if expert_layers else 0,
                experts_per_token=g.experts_per_token,
                copies=spread.dp,
                reads=reads,
                decode_pair=decode,
                decode_windows=decode_windows,
                prefill_pair=prefill,
                layers=stage.last - stage.first,
                expert_layers=len(expert_layers),
                recurrent_layers=_recurrent(model, (stage.first, stage.last)),
                message_bytes=2 * g.hidden_size,
                stored_bits=8 * stored / parameters if parameters else 16.0,
                dense_type=_main_type(types, "dense"),
                expert_type=_main_type(types, "expert"),
            )
        )
    return tuple(out)


def _main_type(types: dict[tuple[str, str], int], kind: str) -> str:
    mine = {name: n for (of, name), n in types.items() if of == kind}
    return max(mine, key=lambda name: mine[name]) if mine else "bf16"
