"""Where llama.cpp puts weights and caches: on the host and on each device, exact. Compute buffers: llama_cpp_compute.py.

Source: `llama_model_base::load_tensors` (input on the host, layers by their split, the last share holds the output).
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from vram.engines.llama_cpp import KvReservation
from vram.model.model import Model
from vram.model.mtp import mtp_of
from vram.model.role import Component, Role
from vram.model.tensor import Tensor

HOST: int | None = None
_TOWERS = frozenset({Component.VISION, Component.AUDIO, Component.PROJECTOR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """Which device holds which layer.

    Attributes:
        layers: for each layer its device's number, None for the host.
        output: the device of the final norm and the lm_head, None for the host.
        devices: how many devices there are.
    """

    layers: tuple[int | None, ...]
    output: int | None
    devices: int


def offload(layers: int, *, n_gpu_layers: int | None = None, shares: Sequence[float] = (1.0,)) -> Offload:
    """How llama.cpp spreads `layers` layers and the output over devices.

    Args:
        layers: layers of the model.
        n_gpu_layers: `-ngl`; the output counts as the last one. None for all.
        shares: `-ts`, or the devices' free memory when that is not given; empty without devices.
    """
    wanted = layers + 1 if n_gpu_layers is None else min(max(n_gpu_layers, 0), layers + 1)
    if not shares or not wanted:
        return Offload(layers=(HOST,) * layers, output=HOST, devices=len(shares))
    total = sum(shares) or 1.0
    ends = [end / total for end in accumulate(shares)]
    first = layers + 1 - wanted
    places = tuple(HOST if i < first else min(bisect_right(ends, (i - first) / wanted), len(shares) - 1) for i in range(layers + 1))
    return Offload(layers=places[:-1], output=places[-1], devices=len(shares))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Bytes on the host and on each device."""

    host: int
    devices: tuple[int, ...]


def weight_spread(model: Model, where: Offload, *, mtp: bool = False) -> Spread:
    """Bytes of weights on the host and on each device; multi-token-prediction layers only with `mtp` (`load_mtp`).

    The embedding stays on the host. A tied output is a second copy of it when the output is offloaded, and tables of
    rope factors lie wherever there are layers.
    """
    host, devices = 0, [0] * where.devices

    def put(place: int | None, size: int) -> None:
        nonlocal host
        if place is None:
            host += size
        else:
            devices[place] += size

    layer_places = dict.fromkeys(where.layers)
    tied = not any(t.role is Role.LM_HEAD and t.component is Component.TEXT for t in model.tensors)
    trunk, past = len(model.layers), mtp_of(model)
    if past is not None and mtp:
        for t in past.tensors:
            number = trunk + (t.layer or 0)
            put(where.layers[number] if number < len(where.layers) else where.output, t.nbytes)
    for t in model.tensors:
        if past is not None and (t.component is Component.DRAFT or (t.layer is not None and t.layer >= trunk)):
            continue
        if t.layer is not None:
            put(where.layers[t.layer] if t.layer < len(where.layers) else where.output, t.nbytes)
        elif t.component in _TOWERS:
            # A file of its own (mmproj), on the first device whatever -ngl says (tools/mtmd/clip.cpp).
            put(0 if where.devices else HOST, t.nbytes)
        elif _is_input(t):
            put(HOST, t.nbytes)
            if tied and t.role is Role.EMBEDDING and where.output is not None and "per_layer" not in t.name:
                put(where.output, t.nbytes)
        elif t.role is Role.BUFFER:
            for place in layer_places:
                put(place, t.nbytes)
        else:
            put(where.output, t.nbytes)
    return Spread(host=host, devices=tuple(devices))


def _is_input(t: Tensor) -> bool:
    """Embeddings of tokens and positions, and the norm right after them."""
    return t.component is Component.TEXT and (
        t.role in {Role.EMBEDDING, Role.POSITION} or (t.role is Role.NORM and "embd" in t.name) or "embeddings_layernorm" in t.name
    )


def cache_spread(reservation: KvReservation, where: Offload, *, offload_kqv: bool = True) -> Spread:
    """Bytes of caches and states on the host and on each device: they lie with their layers unless `--no-kv-offload`."""
    host, devices = 0, [0] * where.devices
    for i, size in enumerate(reservation.layer_bytes):
        place = where.layers[i] if offload_kqv and i < len(where.layers) else HOST
        if place is None:
            host += size
        else:
            devices[place] += size
    return Spread(host=host, devices=tuple(devices))
