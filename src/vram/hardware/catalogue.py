"""The accelerators that are known by name, read from `catalog/gpus.json` (made from `gpus.toml` by `vram.hardware.compile`).

It knows cards as sold and as their drivers report them, not what is in this machine.
"""

from functools import lru_cache
from pathlib import Path

import msgspec

from vram.hardware.gpu import CapacitySource, DenseTflops, Gpu, Link
from vram.units import GB, GIB, MIB

_DATA = Path(__file__).parent.parent / "catalog" / "gpus.json"  # importlib.resources would cost 18 ms of start-up


class Entry(msgspec.Struct, frozen=True, array_like=True, kw_only=True, omit_defaults=True):
    """One card with one memory size, as it lies in gpus.json: an array, its fields in this order."""

    base: str
    """The name without its memory: `A100 SXM`."""
    memory_gb: int
    vendor: str
    architecture: str
    compute_capability: str = ""
    capacity_mib: float
    capacity_source: str
    bandwidth_gb_s: float | None = None
    bf16: float | None = None
    fp16: float | None = None
    fp8: float | None = None
    fp4: float | None = None
    int8: float | None = None
    vector: float | None = None
    link: str = ""
    link_gb_s: float | None = None
    tdp_watts: float | None = None
    cuda_gib: float | None = None
    unified_memory: bool = False
    rare: bool = False
    """Rebuilt cards and single customers' variants: meant only when their size is said."""
    sources: tuple[str, ...] = ()
    """Keys of the catalogue's table of sources, or words."""

    @property
    def name(self) -> str:
        """The full name, one per entry: `A100 SXM 80GB`."""
        return f"{self.base} {self.memory_gb}GB"


class Catalogue(msgspec.Struct, frozen=True):
    """All entries, which of them each compact spelling can mean (the commonest first), and what the short names of sources stand for."""

    entries: tuple[Entry, ...]
    keys: dict[str, tuple[int, ...]]
    sources: dict[str, str]

    def meant_by(self, key: str) -> tuple[Entry, ...]:
        """The entries that a compact spelling without memory can mean, the commonest first; none: nobody is called so."""
        return tuple(self.entries[i] for i in self.keys.get(key, ()))

    def gpu(self, entry: Entry) -> Gpu:
        """The card as the rest of the program sees it, its sources spelled out."""
        return Gpu(
            name=entry.name,
            vendor=entry.vendor,
            architecture=entry.architecture,
            compute_capability=entry.compute_capability,
            capacity_bytes=int(entry.capacity_mib * MIB),
            capacity_source=CapacitySource(entry.capacity_source),
            marketing_bytes=entry.memory_gb * GIB,
            cuda_total_bytes=None if entry.cuda_gib is None else int(entry.cuda_gib * GIB),
            bandwidth_bytes_per_second=None if entry.bandwidth_gb_s is None else entry.bandwidth_gb_s * GB,
            tflops=DenseTflops(bf16=entry.bf16, fp16=entry.fp16, fp8=entry.fp8, fp4=entry.fp4, int8=entry.int8),
            vector_tflops=entry.vector,
            link=Link(kind=entry.link, bytes_per_second=None if entry.link_gb_s is None else entry.link_gb_s * GB) if entry.link else None,
            tdp_watts=entry.tdp_watts,
            unified_memory=entry.unified_memory,
            sources=tuple(self.sources.get(s, s) for s in entry.sources),
        )

    def all_gpus(self) -> tuple[Gpu, ...]:
        """Every entry as a `Gpu`, in the order of the file."""
        return tuple(self.gpu(e) for e in self.entries)


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The built-in catalogue; read once, in well under a millisecond."""
    return msgspec.json.decode(_DATA.read_bytes(), type=Catalogue)
