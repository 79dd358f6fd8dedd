"""`quant_method: fp8` (DeepSeek, Qwen, Mistral ...), `mxfp8` and `fbgemm_fp8`: weights in F8_E4M3 with scales beside them.

Shapes: transformers 5.23 `integrations/finegrained_fp8.py` (FP8Linear, FP8Experts) and `integrations/fbgemm_fp8.py`; the
names are those of published checkpoints (`weight_scale_inv` for blocks, `weight_scale` and `input_scale` for whole tensors).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vram.model.families.config import Config
from vram.model.format import F8_E4M3, F8_E8M0, F32, I8, Format
from vram.model.quantization.linear import Linear, Scheme, convert, groups
from vram.model.quantization.modules import Modules, names, single_experts
from vram.model.quantization.nvfp4 import Nvfp4
from vram.model.quantization.quantized import Quantized
from vram.model.role import Role
from vram.model.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Fp8Tensor:
    """One scale for the whole matrix, and one for its input when activations are scaled statically."""

    static: bool = False

    def store(self, linear: Linear) -> tuple[Tensor, ...]:
        """Weight, scale, input scale."""
        scales = ("weight_scale", "input_scale") if self.static else ("weight_scale",)
        return (linear.stored("weight", linear_shape(linear), F8_E4M3, packed=1), *(linear.stored(s, (), F32) for s in scales))


@dataclass(frozen=True, slots=True)
class Fp8Block:
    """One scale for each block of `rows` x `columns`.

    F32 as transformers and DeepSeek write it. Qwen's own files keep BF16, which no config tells: they are 0.01 % smaller.
    """

    rows: int
    columns: int
    scale: Format = F32

    def store(self, linear: Linear) -> tuple[Tensor, ...]:
        """Weight and its grid of scales."""
        grid = (groups(linear.out, self.rows), groups(linear.inner, self.columns))
        return (linear.stored("weight", linear_shape(linear), F8_E4M3, packed=1), linear.stored("weight_scale_inv", grid, self.scale))


@dataclass(frozen=True, slots=True)
class Fp8Row:
    """One F32 scale for each row (fbgemm)."""

    def store(self, linear: Linear) -> tuple[Tensor, ...]:
        """Weight and its column of scales."""
        return (linear.stored("weight", linear_shape(linear), F8_E4M3, packed=1), linear.stored("weight_scale", (linear.out, 1), F32))


@dataclass(frozen=True, slots=True)
class Fp4Expert:
    """DeepSeek-V4's experts: two e2m1 values in an I8, one scale for 32 of a row."""

    scale: Format

    def store(self, linear: Linear) -> tuple[Tensor, ...]:
        """Packed weight and its scales."""
        return (
            linear.stored("weight", (linear.out, groups(linear.inner, 2)), I8, packed=2),
            linear.stored("weight_scale_inv", (linear.out, groups(linear.inner, 32)), self.scale),
        )


def linear_shape(linear: Linear) -> tuple[int, ...]:
    """Shape of one matrix as its tensor lays it out."""
    return linear.tensor.shape[-2:]


def block_size(c: Config) -> tuple[int, int] | None:
    """`weight_block_size`, None for whole tensors.

    Raises:
        ModelFormatError: it is no pair of sizes.
    """
    value: Any = c.raw.get("weight_block_size")
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) and 0 < v < 2**20 for v in value):
        raise c.fail("weight_block_size", f"is {value!r}: two sizes are needed")
    return value[0], value[1]


def apply(c: Config, tensors: Sequence[Tensor]) -> Quantized:
    """Weights to F8_E4M3. The lm_head stays as it is, listed or not, in all published checkpoints."""
    method = c.text("quant_method")
    # `ignored_layers`: MiniMax's and vLLM's spelling.
    listed = names(c, "modules_to_not_convert", "ignored_layers") or ()
    kept = Modules(listed, c.where)
    block = block_size(c)
    ue8m0 = c.raw.get("scale_fmt") == "ue8m0"
    expert_fp4 = c.raw.get("expert_dtype") == "fp4"
    # modelopt writes experts anew into a checkpoint of this method (DeepSeek-V4 in NVFP4); what it ignored stays fp8.
    nvfp4_experts = c.raw.get("moe_quant_algo") == "NVFP4"
    scheme: Scheme
    # Meta's checkpoints of this method keep all attention in 16 bits (arXiv:2407.21783, 6.2; 57.75 GiB of 405B on each of eight
    # GPUs, vllm-project/vllm#6746), and lists of them that go about name one layer's only.
    whole_attention = method == "fbgemm_fp8" and any("self_attn" in name for name in listed)
    if method == "fbgemm_fp8":
        scheme = Fp8Row()
    elif method == "mxfp8":
        scheme = Fp8Block(*(block or (1, 32)), scale=F8_E8M0)
    elif block is None:
        scheme = Fp8Tensor(static=c.raw.get("activation_scheme") == "static")
    else:
        # DeepSeek-V3.1 and V3.2 name ue8m0, which says how scales were rounded; they are stored as F32 all the same. V4,
        # known by its FP4 experts, stores the one byte.
        scheme = Fp8Block(*block, scale=F8_E8M0 if ue8m0 and expert_fp4 else F32)

    def choose(linear: Linear, module: str) -> Scheme | None:
        if linear.tensor.role is Role.LM_HEAD or module in kept or (whole_attention and "self_attn" in module):
            return None
        # DeepSeek-V3.2's own code keeps the indexer's weights_proj in BF16; its config does not list it.
        if module.endswith(("indexer.weights_proj", "eh_proj")):
            return None
        if nvfp4_experts and linear.tensor.role is Role.EXPERT:
            return Nvfp4()
        if expert_fp4 and linear.tensor.role is Role.EXPERT:
            return Fp4Expert(F8_E8M0 if ue8m0 else F32)
        return scheme

    stored, quantised = convert(tensors, choose, experts_apart=single_experts(listed), where=c.where)
    label = "mxfp8" if method == "mxfp8" else "fp8 + nvfp4" if nvfp4_experts else "fp8 + fp4" if expert_fp4 else "fp8"
    return Quantized(tensors=stored, label=label, quantised_parameters=quantised)
