"""What is loaded beside a model: a LoRA adapter (a rank, a GGUF file, a folder of PEFT's), the tower of a GGUF model."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vram.errors import ModelFormatError, ModelNotFoundError, UsageError
from vram.model.adapter import MOST_RANK, Adapter, supposed
from vram.model.model import Model
from vram.model.role import Component
from vram.sources.local import LocalSource

CONFIG: Final = "adapter_config.json"
_HINT: Final = "give a rank (--lora 16), a LoRA GGUF, or a folder with an adapter_config.json"


def load_adapter(reference: str | int) -> Adapter:
    """The adapter that a rank or a local path names.

    Raises:
        UsageError: no rank that is possible.
        ModelNotFoundError: no such file or folder.
        ModelFormatError: a file that is no adapter.
    """
    if isinstance(reference, bool) or not isinstance(reference, (int, str)):
        raise UsageError(f"{reference!r} is no adapter", hint=_HINT)
    if isinstance(reference, int) or (reference.isascii() and reference.isdecimal() and len(reference) < 10):
        return supposed(int(reference))
    if not reference.strip() or "\0" in reference:
        raise UsageError(f"{reference!r} names no adapter", hint=_HINT)
    path = Path(reference).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:
        is_folder = is_file = False
    if is_folder:
        return _peft(LocalSource(path, reference, depth=1), reference)
    if not is_file:
        raise ModelNotFoundError(f"{reference}: no such file or folder", hint=_HINT)
    source = LocalSource(path.parent, depth=1)
    if path.name == CONFIG:
        return _peft(source, reference)
    if not path.name.lower().endswith(".gguf"):
        raise ModelFormatError("no GGUF file and no folder of an adapter", where=reference, hint=_HINT)
    from vram.readers.gguf_adapter import adapter_from_gguf  # noqa: PLC0415  (a rank needs no reader)
    from vram.readers.gguf_header import read_gguf  # noqa: PLC0415  (the same)

    def read(start: int, length: int) -> bytes:
        return source.read(path.name, start, length)

    return adapter_from_gguf(read_gguf(read, source.known_size(path.name), reference), reference)


def load_tower(model: Model, reference: str) -> Model:
    """`model` with the tensors of a tower's GGUF file (mmproj) beside its own.

    Raises:
        ModelNotFoundError: no such file.
        ModelFormatError: the file is no tower of images or sound.
    """
    from vram.sources.load import load_model  # noqa: PLC0415  (only for towers)

    return with_tower(model, load_model(reference), reference)


def with_tower(model: Model, tower: Model, reference: str) -> Model:
    """`model` with the tensors of `tower`, which `reference` names, beside its own.

    Raises:
        ModelFormatError: it is no tower of images or sound.
    """
    towers = {Component.VISION, Component.AUDIO, Component.PROJECTOR}
    if not tower.tensors or any(t.component not in towers for t in tower.tensors):
        raise ModelFormatError("no tower of images or sound", where=reference, hint="give the mmproj-….gguf that was published with the model")
    own = tuple(t for t in model.tensors if t.component not in towers)
    return replace(
        model, tensors=(*own, *tower.tensors), bytes_read=model.bytes_read + tower.bytes_read, notes=(*model.notes, f"with the tower of {reference}")
    )


def _peft(source: LocalSource, reference: str) -> Adapter:
    """The greatest rank that an adapter_config.json states."""
    from vram.readers.config_json import MAX_CONFIG_BYTES, parse_config  # noqa: PLC0415  (a rank needs no reader)

    if CONFIG not in source.files():
        raise ModelNotFoundError(f"{reference}: no {CONFIG} here", hint=_HINT)
    config = parse_config(source.read_all(CONFIG, MAX_CONFIG_BYTES), source.where(CONFIG))
    pattern: Any = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    numbers = [r for r in ranks if isinstance(r, int) and not isinstance(r, bool) and 1 <= r <= MOST_RANK]
    if not numbers:
        raise ModelFormatError("it states no rank (r)", where=source.where(CONFIG), hint=_HINT)
    return Adapter(name=reference, rank=max(numbers))
