"""Measured constants of SGLang, each with its rows: what no source says.

What the loader leaves was set on Llama and Qwen2.5 alone; FAMILIES_LEFT_OUT (at least a third of those in the rows) set nothing that
depends on the model. Figures of a card, which have nothing to do with the model, are from every start that prints them.
"""

from typing import Final

from vram.units import GIB

FAMILIES_LEFT_OUT: Final = frozenset({"qwen3", "qwen3_moe", "deepseek_v3", "qwen3_5_moe", "kimi_k25"})

# "Load weight end … mem usage" is a difference of free memory: 0.06 to 0.21 GiB beyond the tensors in five starts of Llama and Qwen2.5
# (0.06, 0.06, 0.13, 0.15, 0.21).
LOAD_ROWS: Final = 5
LOAD_EXTRA, LOAD_MOST = int(0.13 * GIB), int(0.25 * GIB)
UNKNOWN_WORKING: Final = GIB // 2
# Used before the weights are read (runtime's total less "Load weight begin. avail mem"): 0.38, 0.6, 0.71 and 0.76 GiB on H100,
# 0.78 on B200, 0.43 on A10G, 0.3 to 1.2 on consumer cards; 4.0 on MI355X with eight ranks. What NCCL takes with more ranks is
# in the same figure: on H100 vLLM's logs show 1.0 to 1.5 GiB more with two to eight (truth/README.md), on PCIe cards none.
RUNTIME_ROWS: Final = 10
RUNTIME: Final = (int(0.70 * GIB), int(0.30 * GIB), int(1.25 * GIB))
RUNTIME_AMD: Final = (int(1.0 * GIB), int(0.4 * GIB), int(4.5 * GIB))
# 6.8 to 9.7 GiB of a GB10's memory were in use before (three start-ups): the system and its page cache.
RUNTIME_UNIFIED: Final = (8 * GIB, int(0.3 * GIB), 12 * GIB)
COMMUNICATION_PCIE: Final = (int(0.1 * GIB), 0, int(2.3 * GIB))
COMMUNICATION_TP: Final = (int(1.0 * GIB), 0, int(2.3 * GIB))
COMMUNICATION_PP: Final = (int(0.1 * GIB), 0, int(0.5 * GIB))
# "Capture cuda graph end. mem usage": 0.07 (0.5B, H100), 0.09 (3B, 4 sizes), 0.10 and 0.47 (27B), 0.60 (8B, 52 sizes), 0.79, 1.91 GiB.
GRAPH_ROWS: Final = 7
GRAPHS: Final = (int(0.2 * GIB), int(0.012 * GIB), int(0.03 * GIB), int(2.0 * GIB))
