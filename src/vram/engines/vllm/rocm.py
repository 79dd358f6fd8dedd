"""What vLLM on ROCm adds to 16-bit experts when it loads them. It does not know AITER's own layouts.

`VLLM_ROCM_MOE_PADDING` (on by default) lengthens every row of an expert's matrices by 256 bytes where the row is a multiple of 512
(model_executor/layers/fused_moe, `_maybe_pad_weight`), layer after layer, and "Model loading took" counts what torch's allocator
holds: when both matrices are padded, the second copy is cut out of the first one's old segment, which can then not be given back.
Four figures bear it out: 126.73 GiB of Llama 4 Maverick at TP8, 112.61 and 56.65 of Qwen3-235B at TP4 and TP8 (0.11.2, MI300X),
79.3 of Qwen3-VL-30B.
"""

from dataclasses import dataclass
from typing import Final

from vram.engines.vllm.release import Release
from vram.memory.placement import Placement
from vram.model.model import Model
from vram.model.role import Role
from vram.model.tensor import Tensor

_ROW, _PAD = 512, 256
PADDED_UNTIL: Final = (0, 19)
"""From then on padded rows are copied back into the matrix that was there (vllm-project/vllm#36286 and later), with no more memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """Bytes that the load adds on one rank.

    Attributes:
        bytes: expected.
        most: what it adds where rows are padded, as in builds before PADDED_UNTIL; AITER's kernels may not pad at all.
    """

    bytes: int = 0
    most: int = 0


def expert_padding(experts: dict[int, int], hidden: int, inner: int, release: Release) -> Padding:
    """What padding adds to the 16-bit experts of each layer.

    Args:
        experts: bytes of a rank's experts by layer: gate, up and down.
        hidden: the model's width.
        inner: the experts' width on this rank.
        release: the version.
    """
    if not experts or not hidden or not inner or not release.v1:
        return Padding()
    first, second = hidden * 2 % _ROW == 0, inner * 2 % _ROW == 0
    added = last = 0
    for held in experts.values():
        up, down = held * 2 // 3, held // 3
        padded_up, padded_down = up + up * _PAD // (hidden * 2), down + down * _PAD // (inner * 2)
        if first and second and padded_down <= up:
            added, last = added + padded_up - down, down
        elif first or second:
            added += (padded_up - up if first else 0) + (padded_down - down if second else 0)
            last = down if second else up
    # The last matrix that was replaced stays with the allocator when the figure is taken.
    most = added + last
    return Padding(bytes=most if release.version < PADDED_UNTIL else 0, most=most)


def is_padded(t: Tensor) -> bool:
    """Whether a tensor is one of the matrices of 16-bit experts."""
    return t.role is Role.EXPERT and bool(t.packed) and t.format.block_bytes >= 2 and t.format.block_elements == 1


def inner_width(width: int, model: Model, placement: Placement) -> int:
    """The experts' width on one rank: whole experts are dealt with expert parallelism."""
    return width if placement.ep and model.geometry.experts else width // placement.ranks
