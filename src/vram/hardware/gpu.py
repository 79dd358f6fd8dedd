"""What one accelerator is: how much memory its driver reports, and how fast memory, arithmetic and links are.

It knows the kind of card, not a card in a machine: what others use of it, and where it sits, is the fleet's.
"""

from dataclasses import dataclass
from enum import StrEnum


class CapacitySource(StrEnum):
    """Where a capacity comes from; printed beside it in a plan."""

    DRIVER = "driver"
    """A public log of the driver's own total (nvidia-smi, rocm-smi, Metal, hl-smi) is cited in the catalogue."""

    DATASHEET = "datasheet"
    """The size as sold, counted in GiB: no log was found, so it may be up to 5 % too much. Recheck on the card."""

    DETECTED = "detected"
    """The driver of this machine said so, just now."""

    STATED = "stated"
    """The user gave the size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseTflops:
    """Peak dense matrix throughput, in 10^12 operations a second, accumulating in 32 bits; None is: not in hardware, or not known."""

    bf16: float | None = None
    fp16: float | None = None
    fp8: float | None = None
    fp4: float | None = None
    int8: float | None = None

    @property
    def half(self) -> float | None:
        """The better of the two 16-bit types: what a 16-bit model runs at."""
        return max((t for t in (self.bf16, self.fp16) if t is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How one GPU reaches its peers: `kind` for people, bytes per second in each direction, all links of the GPU together."""

    kind: str
    bytes_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One kind of accelerator. Sizes in bytes; None is: not known, never zero."""

    name: str
    vendor: str
    architecture: str
    compute_capability: str = ""
    """CUDA compute capability (`8.9`) or AMD target (`gfx942`); empty where the vendor has no such thing."""

    capacity_bytes: int
    """All that a program may use of the memory, as the driver reports it, with nothing else running."""

    capacity_source: CapacitySource
    marketing_bytes: int
    """The size on the box: N "GB" that are N x 2^30 on every card we know. Never plan with it."""

    cuda_total_bytes: int | None = None
    """What the runtime shows a process (`cudaMemGetInfo`, `torch.cuda.mem_get_info`) where a log tells: NVML's total less
    what the driver keeps back. Engines that take a share of memory (vLLM, SGLang) multiply this one."""

    bandwidth_bytes_per_second: float | None = None
    tflops: DenseTflops = DenseTflops()
    vector_tflops: float | None = None
    """Peak of the units beside the matrix ones, in 10^12 32-bit operations a second at boost clock; None is: not known."""

    link: Link | None = None
    tdp_watts: float | None = None
    unified_memory: bool = False
    """The memory is the host's own: weights that stay "on the host" take from the same bytes."""

    sources: tuple[str, ...] = ()

    @property
    def engine_total_bytes(self) -> int:
        """What an engine takes for the whole of the card: the runtime's total where known, else the driver's."""
        return self.cuda_total_bytes if self.cuda_total_bytes is not None else self.capacity_bytes
