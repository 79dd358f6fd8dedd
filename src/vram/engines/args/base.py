"""What a launch command is made from, and what it is made of. It knows no engine.

Names of models come from strangers: words are quoted for the shell that reads them, and a name that no shell line, Modelfile
or YAML can carry (line breaks, control characters) is refused.
"""

import shlex
from dataclasses import dataclass
from typing import Final

from vram.engines.draft import Draft
from vram.errors import UsageError

MAX_NAME: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What an engine loads beside the model, by names that it can find.

    Attributes:
        draft: path or hub id of the draft model; empty for none, and for the model's own layers.
        draft_is_path: whether that is a local path.
        adapters: paths of LoRA adapters; those of which only a rank was given are not here.
        mmproj: path of a tower's GGUF; empty for none.
    """

    draft: str = ""
    draft_is_path: bool = False
    adapters: tuple[str, ...] = ()
    mmproj: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a plan decided, as far as launch flags can say it.

    Attributes:
        model: path, hub id or name, as the user gave it.
        version: the engine's version, empty for the newest.
        revision: branch, tag or commit of a hub repository; empty for its main branch.
        tp, pp, ep, dp: how the model is spread; tp counts the ranks of one copy of attention.
        context_tokens: tokens of one sequence.
        concurrency: sequences at the same time.
        kv_dtype: type of the KV cache; empty for the model's own.
        quant: what the user asked the weights to be stored as; empty for as they are.
        utilization: share of the card's memory; None where the engine's default was planned with.
        max_num_seqs, max_batched_tokens, block_size, kv_pool_bytes: as given; None for the engine's default.
        ubatch, parallel, kv_unified, kv_offload, swa_full, ctx_checkpoints, gpu_layers, tensor_split, flash_attention: llama.cpp's.
        rpc: addresses of llama.cpp's RPC servers.
        devices: names that llama.cpp has for the devices to use; empty for all.
        enforce_eager: no CUDA graphs.
        prefix_caching: whether equal prefixes are kept; None for the engine's default.
        draft: what drafts tokens; None for nothing.
        ranks: of the LoRA adapters that serve at once.
        beside: what is loaded beside the model, by name.
        capacity_tokens: tokens that the planned pool holds.
        layers: of the decoder.
        vendor: of the GPUs.
        host_shared: whether their memory is the host's.
        gpus: how many.
        is_path: whether `model` is a local path.
        is_gguf: whether its tensors are GGUF's.
    """

    model: str
    version: str = ""
    revision: str = ""
    tp: int = 1
    pp: int = 1
    ep: bool = False
    dp: int = 1
    context_tokens: int
    concurrency: int
    kv_dtype: str = ""
    quant: str = ""
    utilization: float | None = None
    max_num_seqs: int | None = None
    max_batched_tokens: int | None = None
    block_size: int | None = None
    kv_pool_bytes: int | None = None
    ubatch: int | None = None
    parallel: int | None = None
    kv_unified: bool | None = None
    kv_offload: bool = True
    swa_full: bool = False
    ctx_checkpoints: int | None = None
    enforce_eager: bool = False
    prefix_caching: bool | None = None
    draft: Draft | None = None
    ranks: tuple[int, ...] = ()
    beside: Beside = Beside()
    gpu_layers: int | None = None
    tensor_split: tuple[float, ...] = ()
    rpc: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    flash_attention: bool = True
    capacity_tokens: int | None = None
    layers: int = 0
    vendor: str = "NVIDIA"
    host_shared: bool = False
    gpus: int = 1
    is_path: bool = False
    is_gguf: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Words of a command (or a line of a Modelfile) and why they are there."""

    words: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable of the process, and why."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A launch command.

    Attributes:
        program: its first words.
        flags: what follows, with reasons.
        environment: what has to be set for it.
        notes: what no flag can say.
        text: ready to paste, reasons as comments.
    """

    program: tuple[str, ...]
    flags: tuple[Flag, ...]
    environment: tuple[Variable, ...] = ()
    notes: tuple[str, ...] = ()
    text: str


def safe_model(launch: Launch) -> str:
    """The model's name as one word that no program takes for a flag.

    Raises:
        UsageError: no command line can carry it.
    """
    return safe_name(launch.model)


def safe_name(name: str) -> str:
    """The name of a model or file as one word that no program takes for a flag.

    Raises:
        UsageError: no command line can carry it.
    """
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"{name[:80]!r} cannot stand in a command", hint="give the model by a path or name of printable characters")
    return f"./{name}" if name.startswith("-") else name


def shell(program: tuple[str, ...], flags: tuple[Flag, ...], environment: tuple[Variable, ...], notes: tuple[str, ...]) -> Command:
    """A command of a POSIX shell: reasons above as comments, one flag a line, every word quoted."""
    lines = [f"# {' '.join(f.words[:1])}: {f.reason}" for f in flags if f.reason]
    lines += [f"# {v.name}: {v.reason}" for v in environment]
    lines += [f"# note: {n}" for n in notes]
    first = " ".join([*(f"{v.name}={shlex.quote(v.value)}" for v in environment), *map(shlex.quote, program)])
    body = " \\\n  ".join([first, *(" ".join(map(shlex.quote, f.words)) for f in flags)])
    return Command(program=program, flags=flags, environment=environment, notes=notes, text="\n".join([*lines, body]) + "\n")


def version_pair(version: str) -> tuple[int, int] | None:
    """(major, minor) of `0.19.0` or `v0.19`; None for the newest."""
    pieces = version.lstrip("vb").split(".")
    if len(pieces) < 2 or not (pieces[0].isdigit() and pieces[1].isdigit()):
        return None
    return int(pieces[0]), int(pieces[1])


def percent(share: float) -> str:
    """A share as flags take it: no more digits than were given."""
    return f"{share:.6g}"
