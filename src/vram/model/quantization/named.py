"""`--quant NAME`: what a model would be in another quantization, by the name that people give it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Final

from vram.errors import UsageError
from vram.model.format import BF16, F16, F32, Format
from vram.model.model import Model
from vram.model.quantization.base import apply_config
from vram.model.quantization.linear import TOWERS
from vram.model.quantization.logical import logical
from vram.model.quantization.names import GGUF_NAMES
from vram.model.role import Component, Role
from vram.model.tensor import Tensor

_PLAIN: Final[Mapping[str, Format]] = {"bf16": BF16, "fp16": F16, "fp32": F32}
# llm-compressor's presets (its `FP8_DYNAMIC`, `W8A8`, `W4A16`, `NVFP4`), the defaults of AutoAWQ, GPTQModel and bitsandbytes.
_ROW8 = {"num_bits": 8, "strategy": "channel", "symmetric": True}
_CONFIGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "fp8": {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"all": {"targets": ["Linear"], "weights": {**_ROW8, "type": "float"}, "input_activations": {"dynamic": True}}},
    },
    "fp8-block": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "int8": {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {"all": {"targets": ["Linear"], "weights": {**_ROW8, "type": "int"}, "input_activations": {"dynamic": True}}},
    },
    "w4a16": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"all": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}}},
    },
    "gptq-4bit": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "gptq-8bit": {"quant_method": "gptq", "bits": 8, "group_size": 128},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128},
    "bnb-4bit": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "bnb-4bit-double": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "bnb-8bit": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    # OCP MX of every linear layer, as compressed-tensors and Quark write it (gpt-oss quantises its experts only).
    "mxfp4": {
        "quant_method": "compressed-tensors",
        "format": "mxfp4-pack-quantized",
        "config_groups": {"all": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}}},
    },
    "mlx-4bit": {"bits": 4, "group_size": 64},
    "mlx-8bit": {"bits": 8, "group_size": 64},
}
_ALIASES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("f16", "float16", "half", "16bit"), "fp16"),
    "bfloat16": "bf16",
    **dict.fromkeys(("f32", "float32", "32bit"), "fp32"),
    **dict.fromkeys(("fp8dynamic", "fp8e4m3", "w8a8fp8", "fp8perchannel"), "fp8"),
    **dict.fromkeys(("fp8blockwise", "finegrainedfp8", "deepseekfp8"), "fp8-block"),
    **dict.fromkeys(("w8a8", "w8a16", "8bit", "int8w8a8", "w8a8int8", "smoothquant"), "int8"),
    **dict.fromkeys(("int4", "4bit", "w4a16g128", "q4"), "w4a16"),
    **dict.fromkeys(("gptq", "gptq4", "gptqint4", "gptq4bitg128"), "gptq-4bit"),
    **dict.fromkeys(("gptq8", "gptqint8"), "gptq-8bit"),
    **dict.fromkeys(("awq4bit", "awqint4", "awq4bitg128", "awq4"), "awq"),
    **dict.fromkeys(("nf4", "bnb4", "bitsandbytes4bit", "bitsandbytes", "bnb", "bnbnf4", "qlora"), "bnb-4bit"),
    **dict.fromkeys(("nf4double", "bnbnf4double"), "bnb-4bit-double"),
    **dict.fromkeys(("bnb8", "llmint8", "bitsandbytes8bit", "bnbint8"), "bnb-8bit"),
    **dict.fromkeys(("fp4", "modeloptfp4", "nvfp4w4a4"), "nvfp4"),
    **dict.fromkeys(("mlx", "mlx4"), "mlx-4bit"),
    "mlx8": "mlx-8bit",
}
QUANT_NAMES: Final = (*_PLAIN, *_CONFIGS, *GGUF_NAMES)
"""Every name that `requantize` takes, as it is best written; for help texts and did-you-mean."""


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_BY_KEY: Final = {**_ALIASES, **{_key(n): n for n in QUANT_NAMES}}


def canonical(name: str) -> str:
    """The name of `QUANT_NAMES` that `name` means; case, `-` and `_` don't matter.

    Raises:
        UsageError: no quantization is called so; the hint gives the nearest names.
    """
    found = _BY_KEY.get(_key(name))
    if found is None:
        near = [_BY_KEY[k] for k in get_close_matches(_key(name), _BY_KEY, n=3, cutoff=0.5)]
        raise UsageError(
            f"no quantization is called {name[:60]!r}", hint=f"did you mean {', '.join(dict.fromkeys(near))}?" if near else f"known: {', '.join(QUANT_NAMES)}"
        )
    return found


def requantize(model: Model, name: str) -> Model:
    """`model` with its weights stored as `name` says; what a method leaves in 16 bits stays so.

    A quantised model is taken back to its logical shapes first, where its packing still tells them. Towers, routers,
    norms and embeddings are left as they are, the lm_head too (GGUF and MLX quantise more). Publishers may have left
    more modules out: their own checkpoint, read from its headers, is exact.

    Raises:
        UsageError: no quantization is called so, or the model's packing has lost its shapes.
    """
    wanted = canonical(name)
    tensors = model.tensors if not model.quantization else logical(model.tensors, model.dtype)
    if wanted in _PLAIN:
        return replace_model(model, tuple(_cast(t, _PLAIN[wanted]) for t in tensors), "", dtype=_PLAIN[wanted])
    if wanted in GGUF_NAMES:
        from vram.model.quantization.gguf_mix import gguf_tensors  # noqa: PLC0415  (its rules are only needed for GGUF names)

        return replace_model(model, gguf_tensors(tensors, model.geometry, model.model_type, wanted), wanted)
    # Config-driven methods quantise towers where a list is silent; people who name a method mean the language model.
    head = not wanted.startswith("mlx")

    def apart(t: Tensor) -> bool:
        return t.component in TOWERS or t.component is Component.DRAFT or (head and t.role is Role.LM_HEAD)

    rest, kept = [t for t in tensors if not apart(t)], [t for t in tensors if apart(t)]
    done = apply_config(rest, _CONFIGS[wanted], where=f"--quant {wanted}")
    return replace_model(model, (*done.tensors, *kept), done.label, notes=done.notes)


def replace_model(model: Model, tensors: tuple[Tensor, ...], label: str, *, dtype: Format | None = None, notes: tuple[str, ...] = ()) -> Model:
    """`model` with other tensors. What a quantised checkpoint prescribed for its KV cache goes with that checkpoint."""
    return replace(model, tensors=tensors, quantization=label, kv_format=None, dtype=dtype or model.dtype, notes=(*model.notes, *notes))


def _cast(t: Tensor, fmt: Format) -> Tensor:
    """Weights in another float type; what a family keeps in F32 on purpose (buffers) is left alone."""
    return replace(t, format=fmt) if t.role is not Role.BUFFER and t.format.name in {"F16", "BF16", "F32", "F64"} else t
