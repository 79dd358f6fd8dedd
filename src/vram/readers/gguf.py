"""GGUF headers to a Model: names, roles, layers and caches. Knows llama.cpp's names, not what it reserves (engines/llama_cpp.py)."""

import re
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Final

from vram.errors import ModelFormatError
from vram.model.format import F16
from vram.model.geometry import Geometry
from vram.model.model import Model
from vram.model.role import Component, Role, component_of, role_of
from vram.model.tensor import Tensor
from vram.readers.gguf_header import GgufHeader, GgufTensor, read_gguf
from vram.readers.gguf_layers import DIFFUSION, NO_CACHE, layers_of
from vram.readers.gguf_metadata import Metadata

__all__ = ["GgufHeader", "GgufTensor", "model_from_gguf", "part_names", "quantization_of", "read_gguf"]

_PART: Final = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.gguf)", re.ASCII | re.DOTALL)
MAX_PARTS: Final = 1024
MAX_ALL_TENSORS: Final = 2**15
"""Of all parts together."""
MAX_KINDS: Final = 2**13
"""Names that differ in more than the layer's number, whose purpose is looked for."""

# general.file_type -> name (llama.h `llama_ftype`, b11434).
_FILE_TYPE_NAMES: Final = (
    "F32 F16 Q4_0 Q4_1 Q4_1_SOME_F16 Q4_2 Q4_3 Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K"
    " IQ2_XXS IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M IQ4_XS IQ1_M BF16 Q4_0_4_4 Q4_0_4_8 Q4_0_8_8"
    " TQ1_0 TQ2_0 MXFP4_MOE NVFP4 Q1_0 Q2_0"
)
_FILE_TYPES: Final = dict(enumerate(_FILE_TYPE_NAMES.split()))
_GUESSED: Final = 1024
"""Bit of general.file_type that says that a program guessed it."""
_UNQUANTISED: Final = frozenset({"F32", "F16", "BF16", "F64", "ALL_F32"})

# Where model/role.py's patterns, made for every format, misread llama.cpp's short names. First match wins.
_ROLES: Final = tuple(
    (role, re.compile(pattern))
    for role, pattern in (
        (Role.BUFFER, r"^rope_(freqs|factors)|\.rope_(freqs|factors)"),
        (Role.LM_HEAD, r"shared_head_head|^output\.|^cls\.output\."),
        (Role.OTHER, r"(^|\.)(output_)?hc_"),
        (Role.EXPERT, r"ffn_(gate|up|down)(\.\*|_chexps|_exps|_gate_up_exps)|ffn_gate_up_exps"),
        (Role.QUERY, r"\.attn_q_b\."),
        (Role.ATTENTION_OUT, r"\.(cross_)?attn_(o|out)\.|\.local_attn_out\."),
        (Role.QKV, r"\.attn_kv\."),
        (Role.MLP, r"channel_mix_"),
        (Role.NORM, r"layer_output_scale"),
    )
)
_COMPONENTS: Final = (
    ("v.", Component.VISION),
    ("a.", Component.AUDIO),
    ("mm.", Component.PROJECTOR),
    ("resampler.", Component.PROJECTOR),
    ("enc.", Component.ENCODER),
)
_BLOCK: Final = re.compile(r"(?P<prefix>(?:dec\.)?blk)\.(?P<layer>\d{1,4})\.(?P<rest>.*)", re.ASCII | re.DOTALL)
_EXPERT: Final = re.compile(r"(ffn_(?:gate|up|down))\.\d+\.", re.ASCII)
_SCALE: Final = re.compile(r"\.(input_)?scale$", re.ASCII)


def part_names(name: str) -> tuple[str, ...]:
    """The names of all parts of a split file, in order: `m-00002-of-00003.gguf` gives three; one that is not split itself."""
    match = _PART.fullmatch(name)
    if match is None or not 1 <= int(match["count"]) <= MAX_PARTS:
        return (name,)
    return tuple(f"{match['stem']}-{i:05d}-of-{match['count']}{match['end']}" for i in range(1, int(match["count"]) + 1))


def model_from_gguf(headers: Sequence[GgufHeader], name: str, bytes_read: int = 0) -> Model:
    """The model of one GGUF file, or of all parts of a split one in any order.

    Args:
        headers: one header a file.
        name: what the user called the model.
        bytes_read: bytes read to know the headers; when 0, what they say themselves.

    Raises:
        ModelFormatError: parts are missing or do not belong together, there are no tensors, or metadata holds nonsense.
    """
    parts = _in_order(headers)
    m = Metadata(parts[0])
    read = layers_of(m)
    tensors = _tensors(parts, m, read.trunk)
    notes = list(read.notes)
    held = {t.layer for t in tensors if t.layer is not None}
    if read.trunk and held and len(held) != read.trunk and not m.has("num_loops") and m.architecture != "hrm_text":
        notes.append(f"the file states {read.trunk} layers and has tensors of {len(held)}: it is not complete, or not a whole model")
    return Model(
        name=name,
        architecture=m.architecture,
        model_type=m.architecture,
        tensors=tensors,
        layers=read.layers,
        geometry=_geometry(m, tensors),
        dtype=F16,
        source="header",
        gguf=True,
        quantization=quantization_of(parts[0], tensors),
        caches_known=read.known,
        bytes_read=bytes_read or sum(h.bytes_read for h in parts),
        notes=tuple(notes),
    )


def _in_order(headers: Sequence[GgufHeader]) -> tuple[GgufHeader, ...]:
    """All parts of a model, first to last."""
    first = headers[0]
    counts = {_split(h, "split.count", 1) or 1 for h in headers}
    if len(counts) > 1:
        raise ModelFormatError(f"parts of several models together: they say split.count {sorted(counts)}", where=first.where, hint="name one model at a time")
    count = counts.pop()
    if count == 1 and len(headers) == 1:
        return (first,)
    by_number: dict[int, GgufHeader] = {}
    for h in headers:
        number = _split(h, "split.no", 0)
        if number in by_number:
            raise ModelFormatError(f"split.no {number} stands in {by_number[number].where} too", where=h.where, hint="name the parts of one model only")
        by_number[number] = h
    if count > MAX_PARTS:
        raise ModelFormatError(f"split.count is {count}, at most {MAX_PARTS} parts can be read", where=first.where)
    missing = [i for i in range(count) if i not in by_number][:10]
    if missing or len(by_number) != count:
        names = part_names(first.where)
        shown = ", ".join(names[i].rsplit("/", 1)[-1] if len(names) == count else f"part {i + 1}" for i in missing)
        raise ModelFormatError(
            f"{len(by_number)} of {count} parts are here; missing: {shown or 'none, but there are parts that do not belong'}",
            where=first.where,
            hint="fetch the missing parts and keep them in the same folder",
        )
    parts = tuple(by_number[i] for i in range(count))
    stated, found = _split(parts[0], "split.tensors.count", 0), sum(len(h.tensors) for h in parts)
    if found > MAX_ALL_TENSORS:
        raise ModelFormatError(f"its parts hold {found} tensors, at most {MAX_ALL_TENSORS} can be read", where=first.where)
    if stated and stated != found:
        raise ModelFormatError(
            f"its parts hold {found} tensors, split.tensors.count says {stated}", where=first.where, hint="a part is of another version; fetch all parts again"
        )
    return parts


def _split(header: GgufHeader, key: str, default: int) -> int:
    value = header.metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ModelFormatError(f"{key} is {value!r}: a whole number is needed", where=header.where)
    return value


def _tensors(parts: Sequence[GgufHeader], m: Metadata, trunk: int) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    counted: dict[tuple[str, tuple[int, ...], str, int | None], int] = {}
    names: set[str] = set()
    kinds: set[str] = set()
    drafts = m.size("nextn_predict_layers") > 0
    diffusion = m.architecture in DIFFUSION
    for part in parts:
        for t in part.tensors:
            if len(parts) > 1:
                if t.name in names:
                    raise ModelFormatError(f"tensor {t.name!r} stands in two parts", where=part.where, hint="fetch all parts of one version of the model")
                names.add(t.name)
            tensor = _tensor(t, trunk, drafts=drafts, diffusion=diffusion)
            if "*" in tensor.name:  # experts kept one by one, as before 2024
                key = (tensor.name, tensor.shape, tensor.format.name, tensor.layer)
                if key in counted:
                    known = tensors[counted[key]]
                    tensors[counted[key]] = _tensor(t, trunk, drafts=drafts, diffusion=diffusion, count=known.count + 1)
                    continue
                counted[key] = len(tensors)
            tensors.append(tensor)
            kinds.add(tensor.name)
            if len(kinds) > MAX_KINDS:
                raise ModelFormatError(f"more than {MAX_KINDS} names that differ in more than the layer's number", where=part.where)
    if not tensors:
        raise ModelFormatError(
            "the file holds no tensors", where=parts[0].where, hint="a file of metadata or vocabulary only has nothing to plan for; name the model's weights"
        )
    return tuple(tensors)


def _tensor(t: GgufTensor, trunk: int, *, drafts: bool, diffusion: bool, count: int = 1) -> Tensor:
    match = _BLOCK.fullmatch(t.name)
    name, layer, component = t.name, None, None
    if match is not None:
        if drafts and int(match["layer"]) >= trunk:
            component = Component.DRAFT
        else:
            layer = int(match["layer"])
            name = f"{match['prefix']}.#.{match['rest']}"
    name = _EXPERT.sub(r"\1.*.", name)
    # NVFP4 keeps one scale a tensor beside it: it goes where its tensor goes, and is no parameter.
    scale = match is not None and _SCALE.search(name) is not None
    role = _role(_SCALE.sub(".weight", name) if scale else name)
    return Tensor(
        name=name,
        shape=t.shape,
        format=t.format,
        role=role,
        component=component or (Component.DIFFUSION if diffusion else _component(name)),
        layer=layer,
        count=count,
        packed=0 if scale or role is Role.BUFFER else 1,
    )


@lru_cache(maxsize=4096)
def _role(name: str) -> Role:
    return next((role for role, pattern in _ROLES if pattern.search(name)), None) or role_of(name)


@lru_cache(maxsize=4096)
def _component(name: str) -> Component:
    return next((part for prefix, part in _COMPONENTS if name.startswith(prefix)), None) or (
        Component.DRAFT if component_of(name) is Component.DRAFT else Component.TEXT
    )


def quantization_of(header: GgufHeader, tensors: Sequence[Tensor]) -> str:
    """What people call the mix of types: general.file_type, else the type of most bytes; empty for unquantised files."""
    stored: dict[str, int] = {}
    for t in tensors:
        stored[t.format.name] = stored.get(t.format.name, 0) + t.nbytes
    dominant = max(stored, key=lambda n: stored[n], default="")
    number = header.metadata.get("general.file_type")
    label = _FILE_TYPES.get(number & ~_GUESSED, "") if isinstance(number, int) else ""
    # Converters leave 0 or 1 in files that were quantised afterwards by another tool.
    if not label or (label in _UNQUANTISED) != (dominant in _UNQUANTISED):
        label = dominant
    return "" if label in _UNQUANTISED else label


def _geometry(m: Metadata, tensors: Sequence[Tensor]) -> Geometry:
    """Widths from the metadata, 0 for what it does not say; the vocabulary from the tensor that makes the logits."""
    heads, hidden = m.size("attention.head_count"), m.size("embedding_length")
    experts, active = m.size("expert_count"), m.size("expert_used_count")
    inner = m.size("feed_forward_length")
    if experts and active:
        expert = m.size("expert_feed_forward_length", inner)
        inner = active * expert + (m.size("expert_shared_feed_forward_length") or m.size("expert_shared_count") * expert)
    rows = {t.name: prod(t.shape[:-1]) for t in tensors if t.name in {"output.weight", "token_embd.weight"}}
    return Geometry(
        hidden_size=hidden,
        intermediate_size=inner,
        vocab_size=rows.get("output.weight") or rows.get("token_embd.weight") or m.size("vocab_size") or m.header.array_lengths.get("tokenizer.ggml.tokens", 0),
        attention_heads=heads,
        kv_heads=m.size("attention.head_count_kv", heads),
        head_dim=m.size("attention.key_length_mla") or m.size("attention.key_length", hidden // heads if heads else 0),
        experts=experts,
        experts_per_token=active,
        max_context_tokens=m.size("context_length"),
        encoder_only=m.architecture in NO_CACHE,
    )
