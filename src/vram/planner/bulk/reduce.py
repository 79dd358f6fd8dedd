"""Reduces models to what `file.py` holds, by asking the engines' own scalar rules. Slow (a tenth of a second a variant); for the compiler only."""

import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Final

import msgspec

from vram.engines.base import Demand, Settings
from vram.engines.llama_cpp_compute import widths
from vram.engines.registry import engine as rules_of
from vram.engines.sglang.budget import _vision_factor
from vram.engines.supports import OFFERED
from vram.engines.transformers_peaks import shape
from vram.engines.vllm.buffers import layered_width, per_token
from vram.engines.vllm.profile import _has_towers, _in_blocks, expert_width
from vram.engines.vllm.weights import resident
from vram.errors import VramError
from vram.hardware.gpu import CapacitySource, Gpu
from vram.memory.placement import Placement, choose, layer_count
from vram.memory.weights import Split, rank_weights, unlisted_bytes, unlisted_ear
from vram.memory.workload import Workload
from vram.model.cache import CacheFormats
from vram.model.format import F8_E4M3, Format
from vram.model.model import Model
from vram.model.mtp import mtp_of
from vram.model.quantization.named import requantize
from vram.model.quantization.names import GGUF_NAMES
from vram.model.role import Component
from vram.planner.bulk.facts import CACHES, FORMATS, Facts
from vram.planner.bulk.file import COUNTS, LAYER_COUNTS, MOVED, SCALARS, SPLITS, VERSION, Body, Entry, Layouts, Packed, packed_columns, packed_numbers
from vram.planner.bulk.layout import NEWEST, LayoutRow, layout_row
from vram.planner.make import _formats
from vram.speed.work import _sums


def _card(vendor: str, capability: str) -> Gpu:
    return Gpu(
        name=vendor,
        vendor=vendor,
        architecture="",
        compute_capability=capability,
        capacity_bytes=2**36,
        capacity_source=CapacitySource.STATED,
        marketing_bytes=2**36,
    )


AMPERE, HOPPER, BLACKWELL, AMD = _card("NVIDIA", "8.0"), _card("NVIDIA", "9.0"), _card("NVIDIA", "10.0"), _card("AMD", "gfx942")
UNIFIED = replace(AMPERE, unified_memory=True)
QUANTS: Final = ("", *dict.fromkeys(q for offered in OFFERED.values() for q in offered))
_SPLITTING: Final = frozenset({"", *OFFERED["vllm"], *OFFERED["sglang"], *OFFERED["tensorrt-llm"]})
_DEALING: Final = frozenset({"", *OFFERED["transformers"]})
# A checkpoint that is quantised already is offered in these, where they come to less than this share of it.
_SMALLER_KINDS: Final = frozenset({"awq", "w4a16", "nvfp4"})
_SMALLER: Final = 0.9
_COPIERS: Final = ("nvidia/", "RedHatAI/")
"""Publishers of quantised copies of others' models."""


def placements(model: Model) -> list[Placement]:
    """For each of COUNTS the placement that a plan chooses, where that leaves no GPU unused."""
    return [found for count in COUNTS if (found := choose(model, count)).gpus == count]


def cache_row(cache: object) -> tuple[int, ...]:
    """A cache as numbers: its kind and its fields, formats and names by their number."""
    kind = next(i for i, (cls, _) in enumerate(CACHES) if type(cache) is cls)
    out = [kind]
    for f in fields(cache):  # type: ignore[arg-type]
        value = getattr(cache, f.name)
        if f.name == "state_format":
            value = -1 if value is None else FORMATS.index(value.name)
        elif f.name == "mixer":
            value = 1 if value == "mamba2" else 0
        out.append(int(value))
    return tuple(out)


def body_of(model: Model) -> Body:
    """What no quantization changes of a model."""
    kinds: dict[tuple[tuple[int, ...], ...], int] = {}
    places = bytes(kinds.setdefault(tuple(cache_row(c) for c in layer.caches), len(kinds)) for layer in model.layers)
    _sure([layer.index for layer in model.layers] == list(range(len(model.layers))), model, "layers are not numbered in order")
    _sure(model.caches_known, model, "its caches are not known")
    return Body(
        architecture=model.architecture,
        model_type=model.model_type,
        geometry=tuple(int(v) for v in astuple(model.geometry)),
        dtype=model.dtype.name,
        dtype_doubtful=model.dtype_doubtful,
        kinds=tuple(kinds),
        layers=places,
        layer_count=layer_count(model),
        tp=tuple(next((p.tp for p in placements(model) if p.gpus == count), 0) for count in COUNTS),
        widths=tuple(int(v) for v in astuple(widths(model))),
        shape=tuple(int(v) for v in astuple(shape(model))),
        towers=_has_towers(model),
        composite=any(t.component is not Component.TEXT for t in model.tensors),
        draft_layers=past.layers if (past := mtp_of(model)) is not None else 0,
        row_bytes=per_token(model),
        layered_width=layered_width(model),
        vision_factor=_vision_factor(model),
    )


def same_body(model: Model, body: Body, *, gguf: bool) -> None:
    """Make sure that a requantised model is its body still: what is stored once must hold for all of its variants.

    Widths are llama.cpp's alone, and read off shapes, which packing changes.
    """
    mine = body_of(model)
    for name in Body.__struct_fields__:
        _sure(getattr(mine, name) == getattr(body, name) or (name == "widths" and not gguf), model, f"{name} depends on the quantization")


def _sure(holds: bool, model: Model, what: str) -> None:  # noqa: FBT001  (a condition, not a switch)
    """Refuse to compile what the file's form cannot say.

    Raises:
        ValueError: it cannot.
    """
    if not holds:
        raise ValueError(f"{model.name}: {what}, and the compiled catalogue has no room for that")


def _weights(engine: str, model: Model, gpu: Gpu, placement: Placement, stage: int) -> tuple[int, int, int]:
    """The part `weights` of a rank: expected, what the least is below it, what the most is above."""
    rules = rules_of(engine)
    name, formats = _formats(model, rules.kv_dtype)
    workload = Workload(context_tokens=256, concurrency=1, kv_dtype=name, formats=formats)
    free = (1,) * placement.gpus if rules.layer_split else ()
    part = rules.parts(Demand(model=model, gpu=gpu, placement=placement, workload=workload, settings=Settings(), free_bytes=free), stage).weights
    return part.bytes, part.bytes - part.low, part.high - part.bytes


def _beyond(more: tuple[int, ...], base: tuple[int, ...]) -> list[int]:
    return [a - b for a, b in zip(more, base, strict=True)]


def split_rows(model: Model) -> Iterator[list[int]]:
    """For each placement and stage the numbers of `SPLIT`."""
    packed = "mxfp4" in model.quantization
    for placement in placements(model):
        for stage in range(placement.pp):
            ranks = rank_weights(model, placement)[stage]
            used = ranks.bytes - ranks.draft_bytes
            base, amd = (resident(model, placement, stage, NEWEST, gpu) for gpu in (AMPERE, AMD))
            cards = [resident(model, placement, stage, NEWEST, gpu) if packed else base for gpu in (HOPPER, BLACKWELL)]
            for held in cards:
                same = (held.doubtful_bytes, held.possible_bytes) == (base.doubtful_bytes, base.possible_bytes)
                _sure(same, model, "what is doubtful depends on the card")
            _sure(bool(amd.absorbed_bytes) == bool(base.absorbed_bytes), model, "absorbed projections depend on the card")
            yield [
                used,
                ranks.draft_bytes,
                base.bytes - used,
                *(held.bytes - base.bytes for held in (*cards, amd)),
                base.doubtful_bytes,
                amd.doubtful_bytes - base.doubtful_bytes,
                base.possible_bytes,
                amd.possible_bytes - base.possible_bytes,
                bool(base.absorbed_bytes),
            ]


def dealt_rows(model: Model) -> Iterator[tuple[int, ...]]:
    """For each number of GPUs that whole layers are dealt to, and each stage: the numbers of `DEALT`."""
    for count in LAYER_COUNTS:
        if count <= max(1, layer_count(model)):
            yield from (_weights("transformers", model, AMPERE, Placement(tp=1, pp=count), stage) for stage in range(count))


def gguf_rows(model: Model) -> Iterator[list[int]]:
    """The same for llama.cpp: the numbers of `GGUF`."""
    for count in LAYER_COUNTS:
        for stage in range(count if count <= max(1, layer_count(model)) else 0):
            plain, shared = (_weights("llama.cpp", model, gpu, Placement(tp=1, pp=count), stage) for gpu in (AMPERE, UNIFIED))
            yield [*plain, *_beyond(shared, plain)]


def layout_rows(model: Model, key: Format) -> Iterator[tuple[LayoutRow | None, ...]]:
    """For each placement and stage: vLLM's layout for each block class (Ampere and Hopper, Blackwell, AMD)."""
    formats = CacheFormats(key=key, value=key, conv=model.dtype, state=model.dtype)
    for placement in placements(model):
        for stage in range(placement.pp):
            yield tuple(layout_row(model, gpu, placement, stage, formats) for gpu in (HOPPER, BLACKWELL, AMD))


def moved_rows(model: Model) -> tuple[list[tuple[int, ...]], bytes]:
    """The distinct rows of `MOVED` of a model's layers, then that of what lies outside of them; and each layer's row."""
    many = layer_count(model)
    rows = [[0] * len(MOVED) for _ in range(many + 1)]
    for one in _sums(model):
        row = rows[many if one.layer is None else one.layer]
        if one.kind == "dense":
            split = SPLITS.index(Split.EVEN.value if one.split is Split.DENSE else one.split.value)
            row[split] += one.nbytes
            row[len(SPLITS) + split] += one.parameters
            row[MOVED.index(f"dense_{one.computes_in}")] += one.parameters
        else:
            _sure(one.split in ({Split.EVEN, Split.DENSE} if one.kind == "head" else {Split.EXPERT}), model, f"{one.kind} weights are split another way")
            row[MOVED.index(f"{one.kind}_bytes")] += one.nbytes
            row[MOVED.index(f"{one.kind}_parameters")] += one.parameters
            if one.kind == "expert":
                row[MOVED.index(f"expert_{one.computes_in}")] += one.parameters
    distinct: dict[tuple[int, ...], int] = {}
    layers = bytes(distinct.setdefault(tuple(row), len(distinct)) for row in rows[:many])
    return [*distinct, tuple(rows[many])], layers


def own_formats(model: Model) -> tuple[Format, Format]:
    """The two types that layouts are compiled for: 8 bits, and the model's own."""
    return F8_E4M3, model.dtype


def variant_scalars(model: Model) -> dict[str, int]:
    """What a quantization changes beside bytes of ranks."""
    return {
        "weight_bytes": model.weight_bytes,
        "in_blocks": int(_in_blocks(model)),
        "expert_width": expert_width(model),
        "ear_bytes": unlisted_ear(model),
        "unlisted_bytes": unlisted_bytes(model),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model to compile, and what its publisher says of it."""

    id: str
    model: Model
    licence: str | None = None
    released: str | None = None
    modality: str = "text"


def derived(sources: Sequence[Source]) -> set[str]:
    """Ids of quantised copies of other models: the same class and widths, unquantised or from another publisher."""
    found = set()
    for one in sources:
        m = one.model
        if not m.quantization:
            continue
        for other in sources:
            o = other.model
            same = other.id != one.id and (o.architecture, o.geometry) == (m.architecture, m.geometry)
            near = same and abs(o.parameters - m.parameters) < m.parameters / 100
            copied = other.id.split("/")[0] != one.id.split("/")[0] and one.id.startswith(_COPIERS)
            if near and (not o.quantization or copied):
                found.add(one.id)
    return found


def variants(model: Model, *, copy: bool) -> Iterator[tuple[str, Model]]:
    """A model as published and in each quantization that is worth a plan, with the name of that; a `copy` as published only."""
    yield "", model
    for quant in () if copy else QUANTS[1:]:
        if model.quantization and quant not in GGUF_NAMES and quant not in _SMALLER_KINDS:
            continue
        try:
            made = requantize(model, quant)
        except VramError:  # its packing has lost its shapes
            continue
        if not model.quantization or made.weight_bytes <= _SMALLER * model.weight_bytes:
            yield quant, made


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """All that is stored of a model in one quantization, its names still names."""

    quant: str
    label: str
    kv_format: str
    scalars: dict[str, int]
    split: list[list[int]]
    dealt: list[tuple[int, ...]]
    gguf: list[list[int]]
    moved: list[tuple[int, ...]]
    layers: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """All that is stored of a distinct config."""

    layouts: list[tuple[LayoutRow | None, ...]]
    """For each placement and stage: 8-bit and own type, each for every block class."""
    variants: list[Variant]


def reduced(model: Model, *, copy: bool) -> Reduced:
    """Ask the rules about a model; a `copy` is offered as published only."""
    body = body_of(model)
    by_type = [layout_rows(model, key) for key in own_formats(model)]
    out = []
    for quant, m in variants(model, copy=copy):
        same_body(m, body, gguf=quant in GGUF_NAMES)
        moved, layers = moved_rows(m)
        out.append(
            Variant(
                quant=quant,
                label=m.quantization,
                kv_format=m.kv_format.name if m.kv_format else "",
                scalars=variant_scalars(m),
                split=list(split_rows(m)) if quant in _SPLITTING else [],
                dealt=list(dealt_rows(m)) if quant in _DEALING else [],
                gguf=list(gguf_rows(m)) if not quant or quant in GGUF_NAMES else [],
                moved=moved,
                layers=layers,
            )
        )
    return Reduced(layouts=[small + own for small, own in zip(*by_type, strict=True)], variants=out)


def _reduced(task: tuple[Model, bool]) -> Reduced:
    return reduced(task[0], copy=task[1])


Mapper = Callable[[Callable[[tuple[Model, bool]], Reduced], Sequence[tuple[Model, bool]]], Iterable[Reduced]]


def compiled(sources: Sequence[Source], mapper: Mapper = map) -> Packed:
    """What the file holds of these models; about half a second of work for each distinct config.

    Args:
        sources: the models.
        mapper: `map`, or one of several processes.
    """
    copies = derived(sources)
    bodies: list[Body] = []
    models: list[tuple[Model, bool]] = []
    entries: list[Entry] = []
    number: dict[tuple[object, ...], int] = {}
    for one in sources:
        m, body = one.model, body_of(one.model)
        # Models share variants where their published weights are the same, too.
        key = (msgspec.msgpack.encode(body), m.quantization, m.weight_bytes, m.kv_format and m.kv_format.name, one.id in copies)
        if key not in number:
            number[key] = len(bodies)
            bodies.append(body)
            models.append((m, one.id in copies))
        entries.append(
            Entry(
                id=one.id,
                body=number[key],
                parameters=m.parameters,
                active_parameters=m.active_parameters,
                max_context_tokens=m.geometry.max_context_tokens,
                quantization=m.quantization,
                derived=one.id in copies,
                licence=one.licence,
                released=one.released,
                modality=one.modality,
            )
        )
    scalars: list[list[int]] = []
    rows: dict[str, list[Sequence[int]]] = {"split": [], "dealt": [], "gguf": [], "moved": []}
    of: dict[str, list[int]] = {"split": [], "dealt": [], "gguf": [], "moved": []}
    layers = b""
    labels: dict[str, int] = {}
    formats: dict[str, int] = {}
    layouts: dict[LayoutRow, int] = {}
    places = array("i")
    for at, answer in enumerate(mapper(_reduced, models)):
        for found in answer.layouts:
            places.extend(-1 if row is None else layouts.setdefault(row, len(layouts)) for row in found)
        for v in answer.variants:
            row = dict.fromkeys(SCALARS, 0) | v.scalars
            row["body"], row["quant"] = at, QUANTS.index(v.quant)
            row["label"] = labels.setdefault(v.label, len(labels))
            row["kv_format"] = formats.setdefault(v.kv_format, len(formats)) if v.kv_format else -1
            for name, numbers in (("split", v.split), ("dealt", v.dealt), ("gguf", v.gguf)):
                rows[name] += numbers
                of[name] += [len(scalars)] if numbers else []
            rows["moved"] += v.moved
            of["moved"].append(len(v.moved))
            layers += v.layers
            scalars.append([row[name] for name in SCALARS])
    return Packed(
        version=VERSION,
        quants=QUANTS,
        labels=tuple(labels),
        formats=tuple(formats),
        models=tuple(entries),
        bodies=tuple(bodies),
        scalars=packed_columns(scalars),
        split=packed_columns(rows["split"]),
        split_of=packed_numbers(of["split"]),
        dealt=packed_columns(rows["dealt"]),
        dealt_of=packed_numbers(of["dealt"]),
        gguf=packed_columns(rows["gguf"]),
        gguf_of=packed_numbers(of["gguf"]),
        moved=packed_columns(rows["moved"]),
        moved_rows=packed_numbers(of["moved"]),
        moved_layers=zlib.compress(layers, 9),
        layouts=Layouts(bytes_per_block=tuple(row[0] for row in layouts), terms=tuple(row[1] for row in layouts), places=zlib.compress(places.tobytes(), 9)),
    )


def facts_of(models: Iterable[Model]) -> Facts:
    """Facts of models that are not in the catalogue, by their names."""
    return Facts(compiled([Source(id=m.name, model=m) for m in models]))
