"""Where llama.cpp puts LoRA adapters: each pair beside the tensor that it adapts, in a buffer of its own, exact for a file.

Source: `llama_adapter_lora_init_impl` (src/llama-adapter.cpp, b11434): a buffer for each device, its tensors padded to the
device's alignment; norms are passed over. What a computation with adapters takes beside it is in llama_cpp_engine.py.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Final

from vram.engines.llama_cpp_buffers import HOST, Offload, Spread
from vram.errors import UsageError
from vram.model.adapter import Adapter
from vram.model.format import F32
from vram.model.model import Model
from vram.model.role import Component, Role
from vram.model.tensor import Tensor

HOST_ALIGNMENT: Final = 32
"""`TENSOR_ALIGNMENT` (ggml-impl.h)."""
DEVICE_ALIGNMENT: Final = 128
"""`ggml_backend_cuda_buffer_type_get_alignment` (ggml-cuda.cu), ROCm's too."""

# What converters and trainers adapt when they are told all linears: projections of attention and MLP, not routers and heads.
_LINEARS: Final = frozenset(
    {Role.QUERY, Role.KEY_VALUE, Role.QKV, Role.ATTENTION_OUT, Role.LATENT, Role.MLP, Role.SHARED_EXPERT, Role.MIXER}
)  # fmt: skip
_ATTENTION: Final = frozenset({Role.QUERY, Role.KEY_VALUE, Role.QKV})


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """What adapters take.

    Attributes:
        least: as little as they may take.
        expected: as much as is expected.
        most: as much as they may take; the three are equal for files.
    """

    least: Spread
    expected: Spread
    most: Spread


def lora_spread(model: Model, where: Offload, adapters: tuple[Adapter, ...], *, alignment: int) -> Adapters:
    """Bytes of adapters on the host and on each device.

    Of a file: its tensors. Of a rank alone: pairs of 32-bit matrices (what convert_lora_to_gguf.py writes) for every linear of
    every layer; at least for queries and values, at most for the experts and the head too.

    Args:
        model: what they adapt.
        where: which device holds which layer.
        adapters: the adapters.
        alignment: of tensors on the devices.

    Raises:
        UsageError: a file adapts what the model has not.
    """
    found = [_file(model, where, a, alignment) if a.tensors else _supposed(model, where, a.rank, alignment) for a in adapters]
    return Adapters(least=_sum(where, [f.least for f in found]), expected=_sum(where, [f.expected for f in found]), most=_sum(where, [f.most for f in found]))


def _sum(where: Offload, spreads: list[Spread]) -> Spread:
    return Spread(host=sum(s.host for s in spreads), devices=tuple(sum(s.devices[i] for s in spreads) for i in range(where.devices)))


class _Buffers:
    """Bytes by place, every tensor padded to its place's alignment."""

    def __init__(self, where: Offload, alignment: int) -> None:
        self.host, self.devices, self.alignment = 0, [0] * where.devices, alignment

    def put(self, place: int | None, size: int) -> None:
        if place is None:
            self.host += -(-size // HOST_ALIGNMENT) * HOST_ALIGNMENT
        else:
            self.devices[place] += -(-size // self.alignment) * self.alignment

    @property
    def spread(self) -> Spread:
        return Spread(host=self.host, devices=tuple(self.devices))


@lru_cache(maxsize=64)
def _file(model: Model, where: Offload, adapter: Adapter, alignment: int) -> Adapters:
    if adapter.architecture and adapter.architecture != model.architecture and model.source == "header":
        raise UsageError(
            f"{adapter.name} adapts a model of architecture {adapter.architecture}, this one is {model.architecture}", hint="give the adapter of this model"
        )
    buffers = _Buffers(where, alignment)
    for t in adapter.tensors:
        if t.layer is not None and t.layer >= len(where.layers):
            raise UsageError(f"{adapter.name} adapts layer {t.layer}, the model has {len(where.layers)}", hint="give the adapter of this model")
        place = where.layers[t.layer] if t.layer is not None else HOST if t.role is Role.EMBEDDING else where.output
        buffers.put(place, t.nbytes)
    return Adapters(least=buffers.spread, expected=buffers.spread, most=buffers.spread)


@lru_cache(maxsize=64)
def _supposed(model: Model, where: Offload, rank: int, alignment: int) -> Adapters:
    least, expected, most = (_Buffers(where, alignment) for _ in range(3))
    for t in model.tensors:
        sizes = pair_bytes(t, rank)
        if not sizes:
            continue
        place = where.layers[t.layer] if t.layer is not None and t.layer < len(where.layers) else where.output
        for size in sizes:
            most.put(place, size)
            if t.role in _LINEARS:
                expected.put(place, size)
            if t.role in _ATTENTION:
                least.put(place, size)
    return Adapters(least=least.spread, expected=expected.spread, most=most.spread)


def pair_bytes(t: Tensor, rank: int) -> tuple[int, ...]:
    """Bytes of a linear's pair of low rank in 32 bits; none for what is no linear of the text model."""
    adapted = t.role in _LINEARS or t.role is Role.EXPERT or t.role is Role.LM_HEAD
    if not adapted or t.component is not Component.TEXT or not t.packed or len(t.shape) < 2 or t.name.endswith("bias"):
        return ()
    if t.role is Role.MIXER and ("conv" in t.name or len(t.shape) > 2):
        return ()
    *many, rows, columns = t.shape
    count = prod(many) * t.count
    return F32.nbytes(count * rank * columns), F32.nbytes(count * rank * rows)
