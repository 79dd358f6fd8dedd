"""config.json to a Model: a bounded, strict parse, then the family that knows the type, then its quantization.

Knows no family and no quantization method itself. Nothing in a config is ever executed or imported (`auto_map` is ignored).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any, Final

from vram.errors import ModelFormatError
from vram.model.families.config import Config
from vram.model.families.registry import build
from vram.model.format import Format
from vram.model.model import Model, WeightSource
from vram.model.tensor import Tensor

MAX_CONFIG_BYTES: Final = 2 * 2**20
"""The longest published ones list the modules that a method skips, in some 100 KB to 1 MB."""
MAX_DEPTH: Final = 64
MAX_BRACKETS: Final = 2**17
"""Objects and lists; auto-round writes one for each expert that it leaves alone, some 36,000 for Qwen3-235B."""
DRAFT_LAYERS: Final = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
"""How configs call the number of their multi-token-prediction layers (vLLM 0.32's config/speculative.py reads the same keys)."""
MAX_DRAFT_LAYERS: Final = 64
_MAX_DIGITS: Final = 300
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS: Final = bytes(c for c in range(256) if c not in _STEPS)


def parse_config(data: bytes, where: str = "config.json") -> dict[str, Any]:
    """A config's JSON object. NaN and Infinity are let through, because published configs hold them.

    Raises:
        ModelFormatError: no JSON object, too long, nested too deeply, of too many parts, or a key stands twice.
    """
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelFormatError(f"{len(data)} bytes are too many for a configuration", where=where)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found and found[name] != value:
                raise ModelFormatError(f"{name!r} stands twice with different values", where=where)
            found[name] = value
        return found

    def whole(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            raise ModelFormatError(f"a number of {len(digits)} digits", where=where)
        return int(digits)

    data = data.removeprefix(b"\xef\xbb\xbf")  # editors on Windows leave a mark before it
    brackets = _brackets(data)
    if len(brackets) > 2 * MAX_BRACKETS:
        raise ModelFormatError(f"more than {MAX_BRACKETS} objects and lists", where=where)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise ModelFormatError(f"nested deeper than {MAX_DEPTH} levels", where=where)
    try:
        value = json.loads(data.decode(), object_pairs_hook=once, parse_int=whole)
    except UnicodeDecodeError as e:
        raise ModelFormatError("not UTF-8", where=f"{where}, byte {e.start}") from None
    except json.JSONDecodeError as e:
        raise ModelFormatError(f"no JSON: {e.msg}", where=f"{where}, line {e.lineno}") from None
    if not isinstance(value, dict):
        raise ModelFormatError("no JSON object", where=where)
    return value


def _brackets(data: bytes) -> bytes:
    """The brackets of a JSON text that stand outside of its strings, in time that grows with its length only."""
    # Without escapes every second quote ends a string.
    plain = data.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in data else data
    return b"".join(plain.split(b'"')[::2]).translate(None, _NO_BRACKETS)


def quantization_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The quantization that a config states, empty for none: its own, its text model's, or MLX's."""
    text = config.get("text_config")
    for holder in (config, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config", "quantization"):
            value = holder.get(key)
            if isinstance(value, dict) and value:
                # DeepSeek-V4 says beside the object that its experts are FP4; transformers reads it as part of it.
                expert = holder.get("expert_dtype")
                return {**value, "expert_dtype": expert} if isinstance(expert, str) and "expert_dtype" not in value else value
    return {}


def quantized(tensors: tuple[Tensor, ...], config: Mapping[str, Any], where: str) -> tuple[tuple[Tensor, ...], str, tuple[str, ...], Format | None]:
    """Tensors as the config's quantization stores them, its label, notes and the cache's type; unchanged when it states none."""
    stated = quantization_config(config)
    if not stated:
        return tensors, "", (), None
    from vram.model.quantization.base import apply_config  # noqa: PLC0415  (most configs state no quantization)

    applied = apply_config(tensors, stated, where=where)
    return applied.tensors, applied.label, applied.notes, applied.kv_dtype


def architecture_of(config: Mapping[str, Any]) -> str:
    """The first class that a config names; its model type when it names none."""
    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else None
    kind = config.get("model_type")
    return first if isinstance(first, str) else kind if isinstance(kind, str) else ""


def draft_layers_of(config: Mapping[str, Any]) -> int:
    """Multi-token-prediction layers that a config or its text model's states; 0 for none, and for what is no number of layers."""
    text = config.get("text_config")
    for holder in (config, text if isinstance(text, dict) else {}):
        for key in DRAFT_LAYERS:
            value = holder.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_DRAFT_LAYERS:
                return value
    return 0


def model_from_config(
    config: Mapping[str, Any], name: str, bytes_read: int = 0, source: WeightSource = "config", *, where: str = "config.json", notes: tuple[str, ...] = ()
) -> Model:
    """The model that a config describes, its weights as the family draws them.

    Raises:
        UnknownArchitectureError: no family knows the type.
        ModelFormatError: a field is missing or makes no sense.
    """
    c = Config(config, where=where)
    sketch = build(c)
    drawn = tuple(sketch.tensors)
    if "eagle" in architecture_of(config).lower():
        from vram.model.families.eagle import redrawn  # noqa: PLC0415  (only for drafts)

        drawn = redrawn(sketch, config)
    tensors, label, doubts, kv_format = quantized(drawn, config, where)
    doubt = "; checkpoints of this type often hold float32, which takes twice as much" if c.dtype_doubtful else ""
    drafts = draft_layers_of(config)
    unsaid = () if c.dtype_stated else (f"config names no dtype: 16-bit weights assumed{doubt}",)
    return Model(
        name=name,
        architecture=architecture_of(config),
        model_type=c.model_type,
        tensors=tensors,
        layers=tuple(sketch.layers),
        geometry=replace(sketch.geometry, draft_layers=drafts) if drafts else sketch.geometry,
        dtype=c.dtype,
        dtype_doubtful=c.dtype_doubtful,
        source=source,
        quantization=label,
        kv_format=kv_format,
        bytes_read=bytes_read,
        notes=(*notes, *unsaid, *sketch.notes, *doubts),
    )
