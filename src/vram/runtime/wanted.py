"""What somebody wants to be served: a model, by which engine and with which settings. Nothing is planned or looked for here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vram.errors import UsageError
from vram.readers.ollama import PREFIX, is_stored

NAME_LENGTH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One model that somebody wants to be served.

    Attributes:
        name: what clients ask for, and what it is called in lists.
        model: as `vram plan` reads it.
        engine: the program's name; empty for the first that is here and can load it.
        context_tokens, concurrency, kv_dtype, ubatch, parallel, gpu_layers, tensor_split, gpu_memory_utilization, max_num_seqs, max_batched_tokens,
            block_size, kv_pool_bytes, enforce_eager, tp, pp, ep, kv_unified, ctx_checkpoints: as `vram plan` has them.
        alone: no other model shares its memory, now or later.
        served_as: what its engine calls it; empty for its name.
        door: which port of an RPC server is its, from 0 on.
        doors: the same for each of its servers, where they differ.
        more: words that the operator adds to the engine's command as they are.
        program: the engine that runs it, by name and version, once that is known: what was measured holds for no other.
    """

    name: str
    model: str
    engine: str = ""
    context_tokens: int | None = None
    concurrency: int = 1
    quant: str | None = None
    kv_dtype: str | None = None
    ubatch: int | None = None
    parallel: int | None = None
    gpu_layers: int | None = None
    tensor_split: tuple[float, ...] = ()
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None
    max_batched_tokens: int | None = None
    block_size: int | None = None
    kv_pool_bytes: int | None = None
    enforce_eager: bool = False
    tp: int | None = None
    pp: int | None = None
    ep: bool = False
    kv_unified: bool | None = None
    ctx_checkpoints: int | None = None
    alone: bool = False
    served_as: str = ""
    door: int = 0
    doors: tuple[int, ...] = ()
    more: tuple[str, ...] = ()
    program: str = field(default="", compare=False)

    @property
    def alias(self) -> str:
        """What its engine calls it."""
        return self.served_as or self.name


def is_path(model: str) -> bool:
    """Whether a model is a file or folder here."""
    try:
        return Path(model).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def wanted_of(text: str) -> tuple[str, str]:
    """`NAME=MODEL` or `MODEL` as (name, model); a path without a name is called as its file.

    Raises:
        UsageError: no name can be made of it.
    """
    name, sign, model = text.partition("=")
    if is_stored(text):
        # Its clients need not know where it lies.
        name, model = text[len(PREFIX) :], text
    elif not sign or is_path(text):
        model, name = text, Path(text).stem if is_path(text) and not Path(text).is_dir() else Path(text).absolute().name if is_path(text) else text
    if not model or not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise UsageError(f"{text[:80]!r} is no model", hint="give a path, a hub id or a name of the catalogue; NAME=MODEL gives it a name of its own")
    return name, model
