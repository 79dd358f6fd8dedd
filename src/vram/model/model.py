"""What a checkpoint is: its tensors and, layer by layer, what it keeps while it decodes. Knows no GPU and no engine."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from vram.model.cache import Cache, CacheFormats
from vram.model.format import BF16, Format
from vram.model.geometry import Geometry
from vram.model.layer import Layer
from vram.model.role import Component, Role
from vram.model.tensor import Tensor

WeightSource = Literal["header", "config", "catalogue"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model:
    """A model as its headers or its config describe it.

    Two models are equal only if they are one object, so that sums over their tensors can be cached.

    Attributes:
        name: what the user called it (a path, a hub id, a catalogue name).
        architecture: the class that its config names (`LlamaForCausalLM`) or the architecture of its GGUF (`llama`).
        model_type: the family's key (`llama`).
        tensors: every tensor; their bytes add up to the weights. None is ever left out.
        layers: the decoder's layers with their caches; empty when `caches_known` is false or there is no decoder.
        geometry: widths that activations are computed from.
        dtype: the type of activations and of an unquantised cache.
        source: where the tensors were read: the files' headers, a config.json, or the built-in catalogue's config.
        gguf: read from a GGUF file: its weights are stored as they are, and llama.cpp's types are the ones that go with it.
        quantization: the method and its format as people name it (`fp8`, `awq 4-bit`, `Q4_K_M`), empty for none.
        kv_format: the type that the checkpoint itself prescribes for its KV cache (a quantised one), else None.
        dtype_doubtful: the config names no type and checkpoints of this kind may hold float32, twice what is counted.
        caches_known: false when nothing tells what a layer keeps (headers of an unknown architecture).
        bytes_read: bytes of headers and configs read to know all this.
        notes: what could not be known, and what was read with doubt; each is shown to the user.
    """

    name: str
    architecture: str
    model_type: str
    tensors: tuple[Tensor, ...]
    layers: tuple[Layer, ...] = ()
    geometry: Geometry = field(default_factory=Geometry)
    dtype: Format = BF16
    source: WeightSource = "header"
    gguf: bool = False
    quantization: str = ""
    kv_format: Format | None = None
    dtype_doubtful: bool = False
    caches_known: bool = True
    bytes_read: int = 0
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line: a checkpoint has thousands of tensors."""
        return f"<Model {self.name}: {self.architecture}, {self.parameters:,} parameters, {self.weight_bytes:,} bytes>"

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the trained parameters and of what quantization stores beside them; buffers are `buffer_bytes`."""
        return sum(t.nbytes for t in self.tensors if t.role is not Role.BUFFER)

    @cached_property
    def buffer_bytes(self) -> int:
        """Bytes that a checkpoint saves beside its parameters (router bias corrections, rope tables)."""
        return sum(t.nbytes for t in self.tensors if t.role is Role.BUFFER)

    @cached_property
    def parameters(self) -> int:
        """Trained parameters, packed ones counted one by one; scales, zero points and buffers are none."""
        return sum(t.parameters for t in self.tensors if t.role is not Role.BUFFER)

    @cached_property
    def active_parameters(self) -> int:
        """Parameters that one token uses: all but the routed experts that it does not visit, and draft layers."""
        g = self.geometry
        used = self.parameters - sum(t.parameters for t in self.tensors if t.component is Component.DRAFT)
        if not g.experts or not g.experts_per_token:
            return used
        routed = sum(t.parameters for t in self.tensors if t.role is Role.EXPERT and t.component is not Component.DRAFT)
        return used - routed + routed * min(g.experts_per_token, g.experts) // g.experts

    @cached_property
    def cache_counts(self) -> tuple[tuple[Cache, int], ...]:
        """Every distinct cache and how many layers keep one like it."""
        return tuple(Counter(cache for layer in self.layers for cache in layer.caches).items())

    @property
    def cache_formats(self) -> CacheFormats:
        """How its caches are stored when the user asks for nothing else."""
        kv = self.kv_format or self.dtype
        return CacheFormats(key=kv, value=kv, conv=self.dtype, state=self.dtype)

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What others computed of this model and want to keep as long as it lives (model/memo.py)."""
        return {}

    @cached_property
    def bytes_by_role(self) -> dict[tuple[Component, Role], int]:
        """Weight bytes by component and role, buffers included."""
        sums: dict[tuple[Component, Role], int] = {}
        for t in self.tensors:
            sums[t.component, t.role] = sums.get((t.component, t.role), 0) + t.nbytes
        return sums

    @cached_property
    def bytes_by_format(self) -> dict[str, int]:
        """Weight bytes by storage format, buffers included."""
        sums: dict[str, int] = {}
        for t in self.tensors:
            sums[t.format.name] = sums.get(t.format.name, 0) + t.nbytes
        return sums
