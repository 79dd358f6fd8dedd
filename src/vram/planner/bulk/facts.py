"""The compiled catalogue in memory: models without tensors that engines' scalar rules can be asked about, and weights as arrays.

A light model is a `Model` whose tensors cannot be looked at: what rules would read off them stands in its memo, from the file. So the
rules for caches, contexts and working memory run as they are, once for each distinct config, and only weights and cards are arrays.
"""

import zlib
from collections import Counter
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

from vram.engines.generic import _has_tower
from vram.engines.llama_cpp_compute import Widths, widths
from vram.engines.llama_cpp_engine import _towers
from vram.engines.sglang.budget import _vision_factor
from vram.engines.supports import method_of
from vram.engines.transformers import _uncounted
from vram.engines.transformers_peaks import Shape, shape
from vram.engines.vllm.buffers import layered_width, per_token
from vram.engines.vllm.profile import Batch, _expert_workspace, _has_towers, _in_blocks, expert_width
from vram.engines.vllm.release import release_of
from vram.hardware.gpu import CapacitySource, Gpu
from vram.memory.kv import rank_caches
from vram.memory.placement import Placement, layer_count, layers_by_tensors, stages
from vram.model.cache import Cache, ChunkedCache, CompressedCache, CrossCache, FullCache, LatentCache, SharedCache, StateCache, WindowCache
from vram.model.format import SAFETENSORS
from vram.model.geometry import Geometry
from vram.model.layer import Layer
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.mtp import Mtp, mtp_of
from vram.planner.bulk.file import COUNTS, DEALT, GGUF, LAYER_COUNTS, MOVED, SCALARS, SPLIT, VERSION, Body, Entry, Packed

Ints = npt.NDArray[np.int64]
FORMATS: Final = tuple(SAFETENSORS)
CACHES: Final[tuple[tuple[type, tuple[str, ...]], ...]] = tuple(
    (cls, tuple(f.name for f in fields(cls)))
    for cls in (FullCache, WindowCache, ChunkedCache, LatentCache, CompressedCache, StateCache, CrossCache, SharedCache)
)
_BOOLS: Final = frozenset({"encoder_only", "overlap", "sparse", "windows"})


_ANY_CARD: Final = Gpu(
    name="any", vendor="NVIDIA", architecture="", compute_capability="9.0", capacity_bytes=2**36, capacity_source=CapacitySource.STATED, marketing_bytes=2**36
)


class _Unread(tuple):  # type: ignore[type-arg]
    """The tensors of a light model: a rule that looks at them must fail, not count nothing."""

    __slots__ = ()

    def __iter__(self) -> NoReturn:
        raise AssertionError("a compiled model has no tensors: ask its headers or config")

    __len__ = __iter__
    __getitem__ = __iter__  # type: ignore[assignment]


def cache_of(row: tuple[int, ...]) -> Cache:
    """A cache from its numbers."""
    cls, names = CACHES[row[0]]
    values: dict[str, Any] = dict(zip(names, row[1:], strict=True))
    if cls is StateCache:
        values["state_format"] = None if values["state_format"] < 0 else SAFETENSORS[FORMATS[values["state_format"]]]
        values["mixer"] = "mamba2" if values["mixer"] else ""
    elif cls is CompressedCache:
        values["overlap"] = bool(values["overlap"])
    made: Cache = cls(**values)
    return made


def _typed(cls: type, numbers: tuple[int, ...]) -> Any:
    return cls(**{f.name: bool(v) if f.name in _BOOLS else v for f, v in zip(fields(cls), numbers, strict=True)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a scalar rule is asked about: a light model and the body that it was made of."""

    model: Model
    body: Body
    number: int
    """The body's."""


def light(body: Body, *, label: str, kv_format: str, in_blocks: bool, width: int) -> Model:
    """The model of a body, without tensors, its weights stored as `label` says."""
    kinds = [tuple(cache_of(row) for row in kind) for kind in body.kinds]
    dtype = SAFETENSORS[body.dtype]
    model = Model(
        name=body.architecture,
        architecture=body.architecture,
        model_type=body.model_type,
        tensors=_Unread(),
        layers=tuple([Layer(index=i, caches=kinds[k]) for i, k in enumerate(body.layers)]),
        geometry=_typed(Geometry, body.geometry),
        dtype=dtype,
        dtype_doubtful=body.dtype_doubtful,
        source="catalogue",
        quantization=label,
        kv_format=SAFETENSORS[kv_format] if kv_format else None,
    )
    memo = model.memo
    memo[(expert_width.__wrapped__,)] = width  # type: ignore[attr-defined]
    memo[(_in_blocks.__wrapped__,)] = in_blocks  # type: ignore[attr-defined]
    memo[(_uncounted.__wrapped__,)] = body.composite or any(isinstance(c, (StateCache, CompressedCache)) for kind in kinds for c in kind)  # type: ignore[attr-defined]
    for towers in (_has_tower, _has_towers, _towers):
        memo[(towers.__wrapped__,)] = body.towers  # type: ignore[attr-defined]
    memo[(per_token.__wrapped__,)] = body.row_bytes  # type: ignore[attr-defined]
    memo[(layered_width.__wrapped__,)] = body.layered_width  # type: ignore[attr-defined]
    past = Mtp(layers=body.draft_layers, caches=(), tensors=_Unread(), drawn=False) if body.draft_layers else None
    memo[(mtp_of.__wrapped__,)] = past  # type: ignore[attr-defined]
    memo[(layers_by_tensors.__wrapped__,)] = body.layer_count  # type: ignore[attr-defined]
    memo[(widths.__wrapped__,)] = _typed(Widths, body.widths)  # type: ignore[attr-defined]
    memo[(shape.__wrapped__,)] = _typed(Shape, body.shape)  # type: ignore[attr-defined]
    memo[(_vision_factor.__wrapped__,)] = body.vision_factor  # type: ignore[attr-defined]
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """Rows of numbers for some variants: those of variant v start at `starts[v]`, -1 for variants without.

    Attributes:
        column: the numbers of all rows by name.
        starts: where each variant's rows start.
    """

    column: dict[str, Ints]
    starts: Ints


class Facts:
    """The compiled catalogue."""

    def __init__(self, packed: Packed) -> None:
        """Unpack what every question needs; the rest when it is first asked for."""
        self._packed = packed
        self.models: tuple[Entry, ...] = packed.models
        self.bodies: tuple[Body, ...] = packed.bodies
        self.quants = packed.quants
        self.labels = packed.labels
        self.formats = packed.formats
        self.column: dict[str, Ints] = dict(zip(SCALARS, _numbers(packed.scalars).reshape(len(SCALARS), -1), strict=True))
        self.place: dict[str, int] = {m.id: i for i, m in enumerate(packed.models)}
        self._subjects: dict[tuple[int, ...], Subject] = {}

    @cached_property
    def _experts(self) -> npt.NDArray[np.bool_]:
        at = [f.name for f in fields(Geometry)].index("experts")
        return np.array([b.geometry[at] > 0 for b in self.bodies], dtype=np.bool_)

    def subjects(self, variants: Ints, *, kernels: bool = False) -> tuple[tuple[Subject, ...], Ints]:
        """The distinct subjects of variants, and each variant's.

        A quantization changes weights only; of experts it also decides which `kernels` work on them, which vLLM's working memory shows.
        """
        keys, subject_of = self._by_kernels if kernels else self._by_body
        numbers, places = np.unique(subject_of[variants], return_inverse=True)
        return tuple([self._subject(keys[n]) for n in numbers.tolist()]), places.reshape(-1)

    @cached_property
    def _by_body(self) -> tuple[list[tuple[int, ...]], Ints]:
        return _distinct(self.column["body"], self.column["kv_format"])

    @cached_property
    def _by_kernels(self) -> tuple[list[tuple[int, ...]], Ints]:
        label, in_blocks = self.column["label"], self.column["in_blocks"]
        moe = self._experts[self.column["body"]]
        # Labels whose kernels take the same workspace are one: asked of one model with experts, whichever.
        kinds, kind_of = _distinct(label, in_blocks)
        probe = next((v for v in np.flatnonzero(moe).tolist()), None)
        same: dict[int, tuple[int, int]] = {}
        stands = []
        for kind in kinds:
            size = 0 if probe is None else self._workspace(probe, *kind)
            stands.append(same.setdefault(size, (kind[0], kind[1])))
        first = np.array(stands, dtype=np.int64)[kind_of]
        columns = (np.where(moe, first[:, 0], -1), np.where(moe, first[:, 1], 0), np.where(moe, self.column["expert_width"], 0))
        return _distinct(self.column["body"], self.column["kv_format"], *columns)

    def _workspace(self, variant: int, label: int, in_blocks: int) -> int:
        """What experts' kernels keep (vllm/profile.py) were a variant's weights called so."""
        model = self._subject((int(self.column["body"][variant]), -1, label, in_blocks, int(self.column["expert_width"][variant]))).model
        return _expert_workspace(model, Placement(), Batch(sequences=256, tokens=8192, stated=False), release_of(""), _ANY_CARD)

    def _subject(self, key: tuple[int, ...]) -> Subject:
        made = self._subjects.get(key)
        if made is None:
            number, kv_format, label, in_blocks, width = (*key, -1, 0, 0)[:5]
            body = self.bodies[number]
            model = light(
                body,
                label=self.labels[label] if label >= 0 else "",
                kv_format=self.formats[kv_format] if kv_format >= 0 else "",
                in_blocks=bool(in_blocks),
                width=width,
            )
            made = self._subjects[key] = Subject(model=model, body=body, number=number)
        return made

    @cached_property
    def method(self) -> Ints:
        """How each variant's weights are stored: index into `methods`."""
        keys, places = np.unique(np.stack([self.column[n] for n in ("quant", "label", "in_blocks")], axis=1), axis=0, return_inverse=True)
        found: dict[str, int] = {}
        numbers = []
        for quant, label, in_blocks in keys.tolist():
            method = method_of(self.quants[quant] or self.labels[label])
            numbers.append(found.setdefault("fp8-block" if method == "fp8" and in_blocks else method, len(found)))
        self._methods = tuple(found)
        return np.array(numbers, dtype=np.int64)[places.reshape(-1)]

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of engines/supports.py."""
        _ = self.method
        return self._methods

    @cached_property
    def tp(self) -> Ints:
        """Tensor-parallel ranks: bodies x COUNTS, 0 where so many GPUs cannot be used."""
        return np.array([b.tp for b in self.bodies], dtype=np.int64)

    @cached_property
    def pp(self) -> Ints:
        """Pipeline stages likewise."""
        return np.where(self.tp > 0, np.array(COUNTS, dtype=np.int64) // np.maximum(self.tp, 1), 0)

    @cached_property
    def layer_counts(self) -> Ints:
        """Layers of each body."""
        return np.array([b.layer_count for b in self.bodies], dtype=np.int64)

    @cached_property
    def dealt_counts(self) -> Ints:
        """Stages of engines that deal layers: bodies x LAYER_COUNTS, 0 where there are fewer layers than GPUs."""
        counts = np.array(LAYER_COUNTS, dtype=np.int64)
        return np.where(counts <= np.maximum(self.layer_counts, 1)[:, None], counts, 0)

    @cached_property
    def split(self) -> Ragged:
        """Rows of `SPLIT`."""
        return self._ragged(SPLIT, self._packed.split, self._packed.split_of, self.pp.sum(axis=1))

    @cached_property
    def dealt(self) -> Ragged:
        """Bytes of stages of whole layers (transformers)."""
        return self._ragged(DEALT, self._packed.dealt, self._packed.dealt_of, self.dealt_counts.sum(axis=1))

    @cached_property
    def gguf(self) -> Ragged:
        """Bytes on devices (llama.cpp)."""
        return self._ragged(GGUF, self._packed.gguf, self._packed.gguf_of, self.dealt_counts.sum(axis=1))

    def _ragged(self, names: tuple[str, ...], numbers: bytes, variants: bytes, lengths: Ints) -> Ragged:
        which = _numbers(variants)
        sizes = lengths[self.column["body"][which]]
        starts = np.full(len(self.column["body"]), -1, dtype=np.int64)
        starts[which] = np.cumsum(sizes) - sizes
        return Ragged(column=dict(zip(names, _numbers(numbers).reshape(len(names), -1), strict=True)), starts=starts)

    def moved(self, pp: int) -> Ints:
        """What each of `pp` stages reads and computes: variants x stages x `MOVED`; nothing where there are fewer layers than stages."""
        return self._moved(pp)[0]

    def expert_layers(self, pp: int) -> Ints:
        """Layers with routed experts of each stage: variants x stages."""
        return self._moved(pp)[1]

    def _moved(self, pp: int) -> tuple[Ints, Ints]:
        found = self._stage_sums.get(pp)
        if found is not None:
            return found
        table, starts, sizes, row_of = self._moved_rows
        many = self.layer_counts[self.column["body"]]
        dealt = {n: np.repeat(np.arange(pp), [s.last - s.first for s in stages(n, pp)] if n >= pp else [n, *[0] * (pp - 1)]) for n in np.unique(many).tolist()}
        stage_of = np.concatenate([dealt[n] for n in many.tolist()])
        counts = np.bincount(stage_of * table.shape[1] + row_of, minlength=pp * table.shape[1]).reshape(pp, -1)
        sparse = np.add.reduceat(counts * (table[MOVED.index("expert_parameters")] > 0), starts, axis=1)
        counts[pp - 1, starts + sizes - 1] += 1  # what lies outside of layers is read on the last stage
        sums = np.add.reduceat(table[None, :, :] * counts[:, None, :], starts, axis=2)
        found = self._stage_sums[pp] = np.ascontiguousarray(sums.transpose(2, 0, 1)), np.ascontiguousarray(sparse.T)
        return found

    @cached_property
    def _moved_rows(self) -> tuple[Ints, Ints, Ints, Ints]:
        """`MOVED` x distinct layers, each variant's first, how many it has, and the row of each layer of each variant."""
        table, sizes = _numbers(self._packed.moved).reshape(len(MOVED), -1), _numbers(self._packed.moved_rows)
        starts = np.cumsum(sizes) - sizes
        layers = np.frombuffer(zlib.decompress(self._packed.moved_layers), dtype=np.uint8)
        return table, starts, sizes, np.repeat(starts, self.layer_counts[self.column["body"]]) + layers.astype(np.int64)

    @cached_property
    def _stage_sums(self) -> dict[int, tuple[Ints, Ints]]:
        return {}

    def stage_kinds(self, body: Body, pp: int) -> list[Counter[int]]:
        """How many layers of each kind lie on each of `pp` stages."""
        key = id(body), pp
        found = self._stage_kinds.get(key)
        if found is None:
            found = self._stage_kinds[key] = [Counter(body.layers[s.first : s.last]) for s in stages(body.layer_count, pp)]
        return found

    @cached_property
    def _stage_kinds(self) -> dict[tuple[int, int], list[Counter[int]]]:
        return {}

    def split_before(self, placement: Placement) -> Ints:
        """Rows of `split` that a body has before those of a placement, by body."""
        return np.asarray(self.pp[:, : COUNTS.index(placement.gpus)].sum(axis=1))

    def dealt_before(self, placement: Placement) -> Ints:
        """Rows of `dealt` and `gguf` likewise."""
        return np.asarray(self.dealt_counts[:, : LAYER_COUNTS.index(placement.gpus)].sum(axis=1))

    @staticmethod
    def stage_layers(body: Body, pp: int) -> list[int]:
        """Layers of each stage."""
        return [s.last - s.first for s in stages(body.layer_count, pp)]

    @cached_property
    def layout_places(self) -> Ints:
        """VLLM's layouts: (placements' stages of all bodies) x (8-bit, own type) x block classes."""
        return np.frombuffer(zlib.decompress(self._packed.layouts.places), dtype="<i4").astype(np.int64).reshape(-1, 2, 3)

    @cached_property
    def layout_starts(self) -> Ints:
        """Where a body's rows of `layout_places` start."""
        sizes = self.pp.sum(axis=1)
        return np.asarray(np.cumsum(sizes) - sizes)

    @property
    def layout_table(self) -> tuple[tuple[int, ...], tuple[tuple[tuple[int, int, int, int], ...], ...]]:
        """Distinct layouts: bytes of a block, and terms."""
        return self._packed.layouts.bytes_per_block, self._packed.layouts.terms


def remember_caches(model: Model, placement: Placement) -> None:
    """Give a light model its ranks' caches by kinds of layers: forty layers are forty times the work of one kind."""
    key = (rank_caches.__wrapped__, placement)  # type: ignore[attr-defined]
    if key in model.memo:
        return
    out = []
    for stage in stage_caches(model, placement.pp):
        counts: Counter[Cache] = Counter()
        for cache, n in stage:
            counts[cache.split(placement.tp)] += n
        out.append(tuple(counts.items()))
    model.memo[key] = tuple(out)


@once_per_model
def stage_caches(model: Model, pp: int) -> tuple[tuple[tuple[Cache, int], ...], ...]:
    """The caches of each of `pp` stages of a light model, undivided, and how many layers keep one like it."""
    out = []
    for stage in stages(layer_count(model), pp):
        # Layers of a kind share one object.
        layers = model.layers[stage.first : stage.last]
        kinds = {id(layer.caches): layer.caches for layer in layers}
        counts: Counter[Cache] = Counter()
        for kind, n in Counter(id(layer.caches) for layer in layers).items():
            for cache in kinds[kind]:
                counts[cache] += n
        out.append(tuple(counts.items()))
    return tuple(out)


def _distinct(*columns: Ints) -> tuple[list[tuple[int, ...]], Ints]:
    """The distinct rows of columns, and which each row is."""
    keys, places = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return [tuple(key) for key in keys.tolist()], np.asarray(places, dtype=np.int64).reshape(-1)


def _numbers(packed: bytes) -> Ints:
    return np.frombuffer(zlib.decompress(packed), dtype="<i8").astype(np.int64, copy=False)


def decode(data: bytes) -> Facts:
    """The catalogue from the bytes of `catalog/facts.bin`.

    Raises:
        ValueError: it was compiled for another version of this program.
    """
    packed = msgspec.msgpack.decode(data, type=Packed)
    if packed.version != VERSION:
        raise ValueError(f"the compiled catalogue has version {packed.version}, {VERSION} is needed: run truth/oracle/catalogue_facts.py")
    return Facts(packed)
