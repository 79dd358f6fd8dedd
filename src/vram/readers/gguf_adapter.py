"""The header of a GGUF file of type `adapter` (LoRA) to an Adapter."""

import re
from typing import Final

from vram.errors import ModelFormatError
from vram.model.adapter import MOST_RANK, Adapter
from vram.model.role import Role
from vram.model.tensor import Tensor
from vram.readers.gguf_header import GgufHeader

_PAIR: Final = re.compile(r"(?P<base>.{1,120})\.lora_(?P<half>[ab])", re.ASCII)
_BLOCK: Final = re.compile(r"blk\.(?P<layer>\d{1,4})\.(?P<rest>.*)", re.ASCII | re.DOTALL)
_HINT: Final = "give a LoRA adapter that llama.cpp's convert_lora_to_gguf.py made, or its rank: --lora 16"


def adapter_from_gguf(header: GgufHeader, name: str) -> Adapter:
    """The adapter that a GGUF file holds; norms, which llama.cpp passes over, are left out.

    Raises:
        ModelFormatError: the file is no adapter, or a pair is not whole.
    """
    kind = header.metadata.get("general.type")
    if kind != "adapter" or header.metadata.get("adapter.type", "lora") != "lora":
        told = f"its general.type is {kind!r}" if kind != "adapter" else f"its adapter.type is {header.metadata.get('adapter.type')!r}"
        raise ModelFormatError(f"no LoRA adapter: {told}", where=header.where, hint=_HINT)
    halves: dict[str, set[str]] = {}
    tensors, rank = [], 0
    for t in header.tensors:
        if t.name.endswith("_norm.weight"):
            continue
        match = _PAIR.fullmatch(t.name)
        if match is None:
            raise ModelFormatError(f"tensor {t.name!r} is no half of a LoRA pair", where=header.where, hint=_HINT)
        halves.setdefault(match["base"], set()).add(match["half"])
        # A of an embedding is transposed, so that either half's smaller side is the rank or bounds it.
        rank = max(rank, t.shape[-2] if match["half"] == "a" and len(t.shape) > 1 and "token_embd" not in match["base"] else min(t.shape, default=0))
        block = _BLOCK.fullmatch(t.name)
        tensors.append(
            Tensor(
                name=f"blk.#.{block['rest']}" if block else t.name,
                shape=t.shape,
                format=t.format,
                role=Role.EMBEDDING if match["base"].startswith("token_embd") else Role.OTHER,
                layer=int(block["layer"]) if block else None,
            )
        )
    alone = next((base for base, half in halves.items() if len(half) < 2), None)
    if alone is not None:
        raise ModelFormatError(f"the pair of {alone!r} is missing a half", where=header.where, hint=_HINT)
    if not tensors or not 1 <= rank <= MOST_RANK:
        raise ModelFormatError("it holds no pair of low rank", where=header.where, hint=_HINT)
    architecture = header.metadata.get("general.architecture")
    return Adapter(name=name, rank=rank, architecture=architecture if isinstance(architecture, str) else "", tensors=tuple(tensors))
