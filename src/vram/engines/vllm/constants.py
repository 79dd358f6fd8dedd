"""Measured constants of vLLM, each with its rows: what no source says, fitted to truth/engine_logs.jsonl.

Families never used to set a constant (at least a third of those in the rows) are FAMILIES_LEFT_OUT: their error shows what the
rules are worth on models that nobody measured.
"""

from dataclasses import dataclass
from typing import Final

FAMILIES_LEFT_OUT: Final = frozenset({"gemma", "gemma2", "gemma4", "deepseek_v32", "kimi_k25", "mistral", "qwen2_vl", "llama4", "qwen3_5", "qwen3_5_moe"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A fitted number.

    Attributes:
        value: the number, its unit in its comment.
        rows: how many measured rows set it.
        source: which rows, or which source they agree with.
    """

    value: float
    rows: int
    source: str


AMD_QUANTISED_EXPERTS: Final = Constant(value=0.015, rows=5, source="DeepSeek-R1 and Qwen3-235B FP8 on MI300X, 0.11-0.18")
AMD_DENSE: Final = Constant(value=0.010, rows=4, source="Llama-3.3-70B FP8 on MI300X, 0.13-0.18")

# The peak of the profile run, beside weights: bytes for each logit of max_num_seqs x vocabulary.
SAMPLER_LOGIT_BYTES: Final = Constant(value=14.0, rows=21, source="H100, 0.19, printed max_num_seqs: Llama, Qwen2.5, Qwen3; error at most 0.02 GiB")
OLD_SAMPLER_LOGIT_BYTES: Final = Constant(value=38.0, rows=16, source="0.6.4-0.16: Llama, Qwen2.5, Qwen3 on H100, H200, A10G, T4; error at most 0.03 GiB")
# Both are for 16-bit logits; wider ones add their own width (Llama-3.1-8B in float32: 16 bytes, one row).
LOGIT_TYPE_BYTES: Final = 2
# Copies of the residual stream of all batched tokens while the sampler runs.
RESIDUAL_COPIES: Final = Constant(value=0.93, rows=21, source="the same 0.19 rows")
OLD_RESIDUAL_COPIES: Final = Constant(value=1.5, rows=16, source="the same 0.6.4-0.16 rows")
# Bytes per batched token whatever the model's width (positions, slots, attention metadata).
TOKEN_BYTES: Final = Constant(
    value=17_000.0, rows=21, source="the same 0.19 rows: 0.13 GiB at 8,192 tokens; at 1,024 and 2,048 two rows that set nothing agree"
)
# The forward pass beside it: the residual stream twice and its norm, and gate, up and product of the MLP, in 16 bits.
FORWARD_RESIDUALS: Final = 3
FORWARD_BASE_GIB: Final = Constant(value=0.10, rows=4, source="Llama-3.1-8B and Qwen3-8B under PP2-PP4, 0.19: first and middle ranks, no sampler")
NO_EXPERT_WORKSPACE: Final = frozenset({"nemotron_h"})
"""Types whose ungated experts leave no workspace behind: Nemotron-3 Nano and Super take what the sampler takes (H200, 0.18)."""
# Towers of multimodal models are profiled with the largest item they take; what is known beyond the text model's peak, GiB.
TOWER_GIB: Final = Constant(value=0.30, rows=6, source="0.18-0.19: 0.2 to 0.6; older and larger ones are in TOWERS_GIB")
TOWERS_GIB: Final = {
    "mllama": Constant(value=35.3, rows=1, source="Llama-3.2-11B-Vision, 128 sequences, 0.6.7: every sequence profiled with a full image"),
    "qwen2_5_vl": Constant(value=3.5, rows=2, source="Qwen2.5-VL-7B AWQ 4.93 and Qwen2.5-Omni 4.36 against 1.4"),
    "qwen2_5_omni": Constant(value=3.5, rows=2, source="as qwen2_5_vl"),
}

# Between starts of one server the pool differs by more than the profile run explains, and no log tells why (a compile cache that is
# cold or warm?): half of it, to either side.
START_GAP_GIB: Final = Constant(value=0.6, rows=4, source="0.28-0.29: 9.10 and 10.33 GiB on an L4, 18.96 on an RTX 5090 where another start left 1.1 more")
START_GAP_SINCE: Final = (0, 28)

# Memory beside torch's that grows during the profile run, GiB, by tensor-parallel ranks (1, 2, 4, 8): NCCL, all-reduce and
# cuBLAS workspaces. Pipeline ranks without tensor parallelism have PIPELINE.
NON_TORCH_V0: Final = (0.10, 0.60, 1.39, 1.4)  # 9 rows of 0.6-0.8: 0.02-0.35 at TP1; 0.43 and 0.74 at TP2; 1.39 at TP4
NON_TORCH: Final = (0.13, 0.54, 0.62, 0.95)  # 33 rows of 0.10-0.17 on H100 and H200
NON_TORCH_FLASHINFER: Final = (0.25, 2.07, 2.17, 2.20)  # 62 rows from 0.18 on: FlashInfer's all-reduce workspace
NON_TORCH_PIPELINE: Final = Constant(value=0.07, rows=3, source="Llama-3.1-8B PP2, PP4 and Qwen3-8B PP3 on H100, 0.19")
NON_TORCH_AMD: Final = (1.10, 1.30, 1.55, 3.40)  # 20 rows of 0.11-0.18 on MI300X
# The poorest rank's pool beside the printed one's, GiB, by ranks: tokens imply 0.418 to 0.427 less on 8 MI300X (5 rows of Qwen3-235B
# and DeepSeek-R1, 0.11-0.18, pools of 85 to 140 GiB; Llama 4 Maverick, left out, 0.424 to 0.427) and 0.014 to 0.019 on 4 (4 rows);
# on H100, H200 and B200 at most 0.02 (110 rows).
RANK_GAP_AMD: Final = (0.0, 0.01, 0.0165, 0.421)
RANK_GAP_DOUBT_AMD_GIB: Final = 0.006
# In use when the worker starts, outside the budget, GiB, by ranks: the CUDA context and, with several, NCCL.
CONTEXT: Final = (0.51, 1.53, 1.55, 1.6)  # 38 rows on H100, 0.19: 0.51; 1.53 or 2.01; 1.55 or 2.07
# One rank on other cards, by compute capability: total less what was free when the worker started, on cards that nothing else used.
CONTEXT_BY_CAPABILITY: Final = {
    "8.0": Constant(value=0.41, rows=1, source="A100, 0.31: 78.84 of 79.25 GiB free"),
    "8.6": Constant(value=0.34, rows=2, source="A10G of 2026-08 0.23, a card of 23.53 GiB 0.45"),
    "8.9": Constant(value=0.49, rows=1, source="L40S, 2025-09: 43.93 of 44.42 GiB free"),
    "9.0": Constant(value=0.51, rows=28, source="H100, 0.19"),
}
CONTEXT_MOST: Final = (1.1, 2.1, 2.2, 2.4)
CONTEXT_PIPELINE_GIB: Final = 1.45  # 3 rows

# CUDA graphs, GiB: a base and so much for each layer (51 + 51 captures up to 512 tokens), more for MoE.
GRAPH_BASE: Final = Constant(value=0.34, rows=36, source="0.19 on H100, dense: mean error 0.09, most 0.23")
GRAPH_LAYER: Final = Constant(value=0.0165, rows=36, source="the same")
GRAPH_EXPERTS: Final = Constant(value=0.40, rows=8, source="Qwen1.5-MoE, Qwen3-30B-A3B, DeepSeek-V2-Lite on H100, 0.19")
GRAPH_LARGE_CARD: Final = Constant(value=0.55, rows=14, source="the share of the above that H200 and B200 take, 0.18-0.20: Llama-3.3-70B")
GRAPH_BEFORE_018: Final = Constant(value=0.0, rows=40, source="0.10-0.16: -0.45 to 0.2 of dense models come out of memory that the profile run left cached")
GRAPH_EXPERTS_BEFORE_018: Final = Constant(value=0.40, rows=14, source="0.11-0.16 on H200: Qwen3-235B, DeepSeek-R1")
GRAPH_AMD: Final = Constant(value=5.0, rows=14, source="MI300X, 0.11-0.16: 3.1 to 6.0")
GRAPH_AMD_LATER: Final = Constant(value=8.0, rows=5, source="MI300X, 0.13.1-dev and 0.18: 7.0 to 8.9")
