"""Which engine runs which quantization on which card: data, one line a rule, each with the page that says so.

It knows methods (how weights are stored) and cards (vendor, compute capability or AMD target); which architectures an engine
has, and how fast a kernel is, it does not know. Read on the engines' pages of November 2026, for their newest releases. Where a
page is silent about a card nothing is claimed for it: such a row is left out of a choice, and a plan can still be asked for by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vram.hardware.gpu import Gpu
from vram.model.quantization.names import GGUF_NAMES

PLAIN: Final = "16-bit"
"""The method of a model whose weights are not quantised."""

# How weights are stored, by the names of `--quant`; a checkpoint's own label is read by `method_of`.
METHODS: Final[Mapping[str, str]] = {
    "": PLAIN,
    "bf16": PLAIN,
    "fp16": PLAIN,
    "fp32": PLAIN,
    "fp8": "fp8",
    "fp8-block": "fp8-block",
    "int8": "int8",
    "w4a16": "w4a16",
    "gptq-4bit": "gptq",
    "gptq-8bit": "gptq",
    "awq": "awq",
    "bnb-4bit": "bnb",
    "bnb-4bit-double": "bnb",
    "bnb-8bit": "bnb",
    "nvfp4": "nvfp4",
    "mxfp4": "mxfp4",
    "mlx-4bit": "mlx",
    "mlx-8bit": "mlx",
    **dict.fromkeys(GGUF_NAMES, "gguf"),
}
# A checkpoint's label -> its method, the first that matches.
_LABELS: Final = (
    (r"fp8 \+ fp4", "fp8-fp4"),  # DeepSeek-V4: attention in fp8, experts in fp4
    (r"nvfp4", "nvfp4"),
    (r"mxfp4", "mxfp4"),
    (r"fp8", "fp8"),
    (r"int8|w8a8", "int8"),
    (r"w4a16", "w4a16"),
    (r"awq", "awq"),
    (r"gptq", "gptq"),
    (r"nf4|bnb|bitsandbytes|int8 \(llm", "bnb"),
    (r"mlx", "mlx"),
    (r"i?q\d|tq\d", "gguf"),
)

_VLLM: Final = "https://docs.vllm.ai/en/latest/features/quantization/"
_VLLM_CARDS: Final = "https://docs.vllm.ai/en/latest/getting_started/installation/gpu/"
_VLLM_AMD: Final = frozenset({"gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1200", "gfx1201", "gfx1150", "gfx1151"})
_CDNA: Final = frozenset({"gfx942", "gfx950"})
"""MI300 and MI350, which compute in 8 bits."""
_SGLANG: Final = "https://docs.sglang.io/advanced_features/quantization.html"
_TRTLLM: Final = "https://nvidia.github.io/TensorRT-LLM/features/quantization.html"
_TRTLLM_CARDS: Final = "https://nvidia.github.io/TensorRT-LLM/reference/support-matrix.html"
_MODELOPT: Final = "https://nvidia.github.io/Model-Optimizer/guides/0_support_matrix.html"
_HF: Final = "https://huggingface.co/docs/transformers/v5.8.1/quantization/overview"
_LLAMA: Final = "https://github.com/ggml-org/llama.cpp/blob/master/README.md#supported-backends"
_OLLAMA: Final = "https://docs.ollama.com/gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One engine runs some methods on some cards.

    Attributes:
        engine: its name.
        methods: the methods.
        vendor: of the cards, in lower case.
        capability: the least compute capability of an NVIDIA card.
        below: the first one that it no longer runs on.
        targets: AMD targets; empty for every card of the vendor.
        source: the page that says so.
    """

    engine: str
    methods: frozenset[str]
    vendor: str
    capability: tuple[int, int] = (0, 0)
    below: tuple[int, int] = (99, 0)
    targets: frozenset[str] = frozenset()
    source: str


def _rules(engine: str, *rows: tuple[str, str, float | frozenset[str] | tuple[float, float] | None, str]) -> tuple[Rule, ...]:
    """Rows of (methods, vendor, least capability, or that and the first too high, or targets, source)."""

    def version(number: float) -> tuple[int, int]:
        return int(number), round(number * 10) % 10

    return tuple(
        Rule(
            engine=engine,
            methods=frozenset(methods.split()),
            vendor=vendor,
            capability=version(least[0]) if isinstance(least, tuple) else version(least) if isinstance(least, float) else (0, 0),
            below=version(least[1]) if isinstance(least, tuple) else (99, 0),
            targets=least if isinstance(least, frozenset) else frozenset(),
            source=source,
        )
        for methods, vendor, least, source in rows
    )


RULES: Final = (
    *_rules(
        "vllm",
        (PLAIN, "nvidia", 7.5, _VLLM_CARDS),  # "compute capability 7.5 or higher"
        (PLAIN, "amd", _VLLM_AMD, _VLLM_CARDS),
        (PLAIN, "intel", None, _VLLM_CARDS),
        ("awq gptq bnb", "nvidia", 7.5, _VLLM),
        ("awq gptq", "intel", None, _VLLM),
        # Marlin, which runs these, bears a reservation in the table's cell for Turing.
        ("w4a16 nvfp4 mxfp4", "nvidia", 8.0, _VLLM),
        ("mxfp4", "amd", _CDNA, _VLLM),
        ("int8", "nvidia", (7.5, 10.0), f"{_VLLM}int8/"),  # "INT8 is not supported on compute capability >= 10.0"
        # "will run on compute capability >= 7.5 (Turing) as weight-only W8A16"; with 8-bit arithmetic from 8.9 on.
        ("fp8 fp8-block", "nvidia", 7.5, f"{_VLLM}llm_compressor/fp8/"),
        ("fp8 fp8-block", "amd", _CDNA, _VLLM),
        ("fp8-fp4", "nvidia", 9.0, "https://docs.nvidia.com/dynamo/recipes/deepseek-v4-pro"),
    ),
    *_rules(
        "sglang",
        (PLAIN, "nvidia", 7.5, "https://pypi.org/project/flashinfer-python/"),  # its attention kernels: "SM75 (Turing) and later"
        (PLAIN, "amd", _CDNA, _SGLANG),
        ("awq gptq w4a16", "nvidia", 8.0, _SGLANG),
        ("awq gptq w4a16 int8", "amd", _CDNA, _SGLANG),
        ("bnb", "nvidia", 7.5, _SGLANG),
        ("int8", "nvidia", (7.5, 10.0), _SGLANG),
        ("fp8 fp8-block", "nvidia", 8.9, _SGLANG),
        ("fp8 fp8-block", "amd", _CDNA, _SGLANG),
        ("mxfp4", "nvidia", 9.0, _SGLANG),
        ("mxfp4", "amd", _CDNA, _SGLANG),  # "Requires CDNA3/CDNA4 with MXFP support"
        ("nvfp4", "nvidia", 10.0, _SGLANG),
        ("fp8-fp4", "nvidia", 9.0, "https://docs.sglang.io/cookbook/autoregressive/DeepSeek/DeepSeek-V4"),  # H200 (FP4), B200, B300
    ),
    *_rules(
        "tensorrt-llm",
        (PLAIN, "nvidia", 8.0, _TRTLLM_CARDS),
        ("awq gptq w4a16", "nvidia", 8.0, _MODELOPT),  # "GPUs: Ampere and Later"
        ("fp8", "nvidia", 8.9, _MODELOPT),  # "GPUs: Ada and Later"
        ("fp8-block", "nvidia", 9.0, _TRTLLM),  # "FP8 quantization on the latest Blackwell and Hopper GPUs"
        ("nvfp4", "nvidia", 10.0, _MODELOPT),  # "GPUs: Blackwell and Later"
        ("mxfp4", "nvidia", 9.0, "https://nvidia.github.io/TensorRT-LLM/deployment-guide/deployment-guide-for-gpt-oss-on-trtllm.html"),
    ),
    *_rules(
        "transformers",
        *((PLAIN, vendor, None, "https://pytorch.org/get-started/locally/") for vendor in ("nvidia", "amd", "intel", "apple")),
        ("awq gptq w4a16 int8 bnb", "nvidia", 7.5, _HF),
        ("awq gptq w4a16 int8", "amd", frozenset({"gfx90a", "gfx942", "gfx950", "gfx1100"}), _HF),
        ("gptq", "apple", None, _HF),
        ("awq gptq", "intel", None, _HF),
        ("fp8 fp8-block", "nvidia", 8.9, _HF),
        ("mxfp4", "nvidia", 7.5, "https://huggingface.co/docs/transformers/quantization/mxfp4"),
    ),
    *_rules(
        "llama.cpp",
        (f"{PLAIN} gguf mxfp4", "nvidia", 5.0, _LLAMA),
        *((f"{PLAIN} gguf mxfp4", vendor, None, _LLAMA) for vendor in ("amd", "intel", "apple")),
    ),
    *_rules(
        "ollama",
        (f"{PLAIN} gguf mxfp4", "nvidia", 5.0, _OLLAMA),  # "compute capability 5.0+"
        *((f"{PLAIN} gguf mxfp4", vendor, None, _OLLAMA) for vendor in ("amd", "intel", "apple")),  # ROCm, Metal, Vulkan
    ),
)

_GGUF: Final = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "IQ3_XXS", "Q2_K", "IQ2_M")
OFFERED: Final[Mapping[str, tuple[str, ...]]] = {
    "vllm": ("fp8", "int8", "w4a16", "awq", "gptq-4bit", "nvfp4", "mxfp4", "bnb-4bit"),
    "sglang": ("fp8", "int8", "w4a16", "awq", "gptq-4bit", "nvfp4", "mxfp4", "bnb-4bit"),
    "tensorrt-llm": ("fp8", "awq", "w4a16", "nvfp4"),
    "transformers": ("fp8", "awq", "gptq-4bit", "bnb-4bit", "bnb-8bit"),
    "llama.cpp": (*_GGUF, "Q5_K_S", "Q4_K_S", "Q4_0", "Q3_K_S"),
    "ollama": (*_GGUF, "Q4_K_S", "Q4_0"),
}
"""Quantizations that a choice offers with an engine beside the checkpoint as it is published, from the least loss to the most."""

ENGINES: Final = tuple(OFFERED)
"""Engines that a choice offers."""


@lru_cache(maxsize=512)
def method_of(label: str) -> str:
    """How weights are stored that are called so: a name of `--quant`, or a checkpoint's own label (`awq 4-bit g128`).

    An unknown label is its own method, which no engine is known to run.
    """
    known = METHODS.get(label)
    if known is not None:
        return known
    return next((method for pattern, method in _LABELS if re.search(pattern, label.lower())), label)


@lru_cache(maxsize=4096)
def rule_for(engine: str, method: str, vendor: str, compute_capability: str) -> Rule | None:
    """The rule by which an engine runs a method on a kind of card; None when no page says that it does."""
    found = re.match(r"(\d+)\.(\d+)", compute_capability)
    capability = (int(found[1]), int(found[2])) if found else (0, 0)
    for rule in RULES:
        if rule.engine != engine or method not in rule.methods or rule.vendor != vendor.lower():
            continue
        if (rule.vendor != "nvidia" or rule.capability <= capability < rule.below) and (not rule.targets or compute_capability in rule.targets):
            return rule
    return None


def supported(engine: str, quant: str, gpu: Gpu) -> bool:
    """Whether an engine is known to run weights stored so on a card.

    Args:
        engine: its name.
        quant: a name of `--quant` or a checkpoint's label; empty for unquantised weights.
        gpu: the card.
    """
    return rule_for(engine, method_of(quant), gpu.vendor, gpu.compute_capability) is not None
