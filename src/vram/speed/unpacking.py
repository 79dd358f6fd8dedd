"""What unpacking weights costs beside multiplying them, by how they are stored. It knows names of quantizations, and no card.

Kernels for a lone sequence multiply packed integers. Old formats (Q4_0, Q8_0) scale a block once; super-blocks (Q4_K to Q6_K) unpack
scales and minima of their own for every 32 or 16 weights; formats of 2 and 3 bits put a weight together from two places or look it up.
"""

import re
from functools import lru_cache
from typing import Final

PLAIN: Final = 1.0
SUPER_BLOCKS: Final = 1.3
"""Held against measured rows by leaving every card out (truth/speed/README.md): 1.3 and 1.8 bring new cards nearest."""
FEW_BITS: Final = 1.8


@lru_cache(maxsize=1024)
def unpacking(quantization: str) -> float:
    """Operations to multiply one weight, as a multiple of those for formats with one scale a block.

    Args:
        quantization: as `Model.quantization` names it.
    """
    if re.match(r"(Q[23]_K|IQ[123]_|TQ)", quantization):
        return FEW_BITS
    return SUPER_BLOCKS if re.match(r"(Q[456]_K|IQ4_)", quantization) else PLAIN
