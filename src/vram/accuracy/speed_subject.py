"""What a speed row asks for: the names that its model may be known by, its quantization, its cards. It guesses nothing in silence."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vram.accuracy.speed_row import SpeedRow
from vram.errors import UsageError
from vram.model.model import Model
from vram.model.quantization.named import canonical, requantize
from vram.model.quantization.names import GGUF_NAMES
from vram.model.role import Role

_GGUF: Final = {re.sub(r"[^a-z0-9]", "", n.lower()): n for n in (*GGUF_NAMES, "F16", "BF16")}
# As it stands at the end of a file's or an Ollama tag's name; unsloth's dynamic mixes are near their namesakes.
_SUFFIX: Final = re.compile(
    r"[-_.:](?:i1-)?(?:UD-)?(?P<quant>(?:I?Q\d(?:_[0-9A-Z]+)*)|F16|BF16|FP16|[48]-?bit|AWQ(?:-INT4)?|GPTQ(?:-Int4)?|FP8|NVFP4|MXFP[48]|INT[48]|W4A16)$",
    re.IGNORECASE,
)
_TAIL: Final = re.compile(r"[-_](?:it|instruct|chat|qat|fp16|latest|hf|gguf|mlx)$", re.IGNORECASE)
_WORDS: Final = {"fp4": "nvfp4", "4bit": "w4a16", "awqint4": "awq", "q4kxl": "Q4_K_M", "q8kxl": "Q8_0", "q6kl": "Q6_K", "q4kl": "Q4_K_M"}


def split_name(name: str) -> tuple[str, str]:
    """A model's name without folder, ending and quantization; and the quantization that the name tells (empty: none)."""
    base = name.removesuffix(".gguf")
    found = _SUFFIX.search(base)
    while found is None and _TAIL.search(base):
        base = _TAIL.sub("", base)
        found = _SUFFIX.search(base)
    if found is None:
        return name.removesuffix(".gguf"), ""
    return base[: found.start()], found["quant"]


def candidates(row: SpeedRow) -> Iterator[str]:
    """What the row's model may be called in the catalogue, the nearest to its own words first."""
    seen = set()
    bare, _ = split_name(row.model)
    for name in (row.model, bare):
        for one in (name, name.split("/")[-1], name.split("/")[-1].partition("_")[2]):
            short = one
            while short:
                for spelled in (short, f"{short}-Instruct", f"{short}-it"):
                    if spelled and spelled not in seen:
                        seen.add(spelled)
                        yield spelled
                if not _TAIL.search(short):
                    break
                short = _TAIL.sub("", short)


def quant_of(row: SpeedRow) -> str:
    """The quantization of the row by our names; empty: as the model's own files store it.

    A field that only repeats a program's default is worth less than what the model's name says.

    Raises:
        UsageError: it says a quantization that is none of ours.
    """
    told = row.quant.removesuffix("(default)").strip()
    _, named = split_name(row.model)
    if "(default)" in row.quant or not told:
        if not named and re.search(r"mlx|nvfp4|mxfp|:latest$", row.model):
            raise UsageError(f"the tag {row.model!r} does not tell how its weights are stored")
        told = named or told
    key = re.sub(r"[^a-z0-9]", "", told.lower())
    if not key:
        return ""
    if row.engine == "mlx" and key in {"4bit", "8bit"}:
        return f"mlx-{key}"
    if key in _GGUF:
        return {"F16": "fp16", "BF16": "bf16"}.get(_GGUF[key], _GGUF[key])
    return canonical(_WORDS.get(key, told))


def as_measured(model: Model, row: SpeedRow) -> Model:
    """`model` with the weights stored as in the row; a checkpoint that is stored so already is left alone.

    Raises:
        UsageError: the row's quantization is none that is known.
    """
    wanted = quant_of(row)
    own = model.quantization.lower()
    if wanted == "mxfp4" and "mxfp4" in own and row.engine in {"llama.cpp", "ollama"}:
        return _mxfp4_gguf(model)
    if not wanted or (own and wanted.lower().split("-")[0] in own):
        return model
    if wanted in {"bf16", "fp16"} and not own and model.dtype.name in {"BF16", "F16"}:
        return model
    key = ("as measured", wanted)
    if key not in model.memo:
        model.memo[key] = requantize(model, wanted)
    found: Model = model.memo[key]
    return found


def _mxfp4_gguf(model: Model) -> Model:
    """gpt-oss as its GGUF files hold it: experts as published, all else at 8 bits (ggml-org/gpt-oss-20b-GGUF: 11.27 GiB)."""
    key = ("as measured", "mxfp4 gguf")
    if key not in model.memo:
        eight = requantize(model, "Q8_0")
        rest = [t for t in eight.tensors if t.role is not Role.EXPERT]
        model.memo[key] = replace(model, tensors=(*rest, *(t for t in model.tensors if t.role is Role.EXPERT)))
    found: Model = model.memo[key]
    return found
