"""What a row asks of the planner: the GPUs, the model's quantization, the settings. It guesses nothing in silence."""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vram.accuracy.row import Row
from vram.engines.base import Settings
from vram.engines.draft import Draft
from vram.errors import UsageError
from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu
from vram.hardware.spelling import parse_fleet
from vram.model.cache import StateCache
from vram.model.model import Model
from vram.model.quantization.named import requantize
from vram.model.role import Component, Role

# Words of a checkpoint's name or of a log that say how its linear layers are stored, the more particular first.
_QUANT_WORDS: Final = (
    (r"nvfp4|modelopt_fp4", "nvfp4"),
    (r"mxfp4", "mxfp4"),
    (r"w8a8-int8|quantized\.w8a8|smoothquant|w8a16|int8", "int8"),
    (r"w4a16|int4", "w4a16"),
    (r"awq", "awq"),
    (r"gptq", "gptq-4bit"),
    (r"(bnb|bitsandbytes).*8.?bit", "bnb-8bit"),
    (r"bnb|bitsandbytes", "bnb-4bit"),
    (r"fp8-block", "fp8-block"),
    (r"fp8", "fp8"),
)
MAX_RANKS: Final = 4096
VENDORS_SIBLING: Final = "another vendor's quantised sibling"
_DTYPES: Final = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_FORMATS: Final = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
_TOWERS: Final = frozenset({Component.VISION, Component.AUDIO, Component.PROJECTOR})
_MLPS: Final = frozenset({Role.MLP, Role.EXPERT})
# What stands in for a card that nobody names: for figures that no card shapes (weights, what a given pool holds).
_STAND_IN: Final = "80GiB"
_STAND_IN_AMD: Final = "MI300X"


def quant_name(row: Row) -> str | None:
    """The `--quant` name of what was applied to an unquantised config; None when the row names none that is known."""
    for text in (row.quant.lower(), row.model_id.lower()):
        for pattern, name in _QUANT_WORDS:
            if re.search(pattern, text):
                return name
    return None


def as_measured(model: Model, row: Row) -> Model:
    """`model` with the quantization and type that the row was measured with.

    Raises:
        UsageError: the row says that it was quantised, but not how.
    """
    if row.language_only:
        model = _language_of(model)
    if not model.quantization and (row.quant or "quantised" in row.config_relation):
        name = quant_name(row)
        if name is None:
            raise UsageError(f"the row is of a quantised checkpoint ({row.quant or row.model_id}), the config is not, and nothing says how it was quantised")
        return _quantised(model, name)
    if model.quantization and row.config_relation == VENDORS_SIBLING:
        # The same shapes in another quantization: what the row names is put in its place, or none at all. Where it is the same
        # method, the sibling's own list of what stays in 16 bits says more than a guess.
        name = quant_name(row)
        return model if name and name in model.quantization else _quantised(model, name or _DTYPES.get(row.dtype, "bf16"))
    wanted = _DTYPES.get(row.dtype)
    if wanted is not None and not model.quantization and _FORMATS[wanted] != model.dtype.name:
        return _quantised(model, wanted)
    return model


@lru_cache(maxsize=64)
def _language_of(model: Model) -> Model:
    """`model` without its towers (`--language-model-only`)."""
    return replace(model, tensors=tuple(t for t in model.tensors if t.component not in _TOWERS))


def other_readings(model: Model, row: Row) -> tuple[Model, ...]:
    """What else the row's checkpoint may be: publishers of quantised experts and mixers often leave attention in 16 bits.

    Only where the config is not the checkpoint's own, so that nobody can tell; of plain decoders every common recipe takes all linears.
    """
    if model.quantization and row.config_relation != VENDORS_SIBLING:
        return ()
    name = quant_name(row)
    if name is None or not (row.quant or "quantised" in row.config_relation):
        return ()
    mixed = model.geometry.experts or any(isinstance(c, StateCache) for c, _ in model.cache_counts)
    if not mixed:
        return ()
    plain = _quantised(model, "bf16") if model.quantization else model
    whole = _quantised(model, name)
    return whole, _with_attention_of(plain, whole)


def other_settings(model: Model, row: Row) -> tuple[Settings, ...]:
    """What else the row's settings may be, of what it does not tell: its version, and whether a model with states kept prefixes."""
    settings = settings_of(row)
    found = [settings, *(replace(settings, version=v) for v in _other_versions(row))]
    if row.engine.lower().startswith("vllm") and row.prefix_caching is None and any(isinstance(c, StateCache) for c, _ in model.cache_counts):
        found = [replace(s, prefix_caching=kept) for s in found for kept in (None, False, True)]
    return tuple(found[1:])


def _other_versions(row: Row) -> tuple[str, ...]:
    """Versions that the row may be of as well, where it names none: vLLM's rules change every other month."""
    if not row.engine.lower().startswith("vllm") or row.engine_version_known:
        return ()
    text = row.version_text.lower()
    if month := re.search(r"\b2026-(\d\d)\b", text):
        return tuple(f"2026-{m:02}" for m in (int(month[1]) - 1, int(month[1]) + 1) if 1 <= m <= 12)
    if re.search(r"\b20(2[345])\b|v0\b", text):
        return ()
    return ("0.20", "0.21", "0.26", "0.29") if "0.2" in text else ("0.16", "0.18", "0.20", "0.21", "0.26", "0.29")


@lru_cache(maxsize=256)
def _with_attention_of(plain: Model, quantised: Model) -> Model:
    """`quantised` with all but its MLPs and routed experts as `plain` stores them."""
    kept = [t for t in quantised.tensors if t.role in _MLPS]
    return replace(quantised, tensors=(*kept, *(t for t in plain.tensors if t.role not in _MLPS)))


@lru_cache(maxsize=256)
def _quantised(model: Model, name: str) -> Model:
    return requantize(model, name)


def gpu_of(row: Row) -> tuple[Gpu, bool]:
    """The card of a row, and whether its total is known (printed, or of a card that the catalogue knows)."""
    return _gpu(row.gpu, row.total.bytes if row.total is not None else None)


@lru_cache(maxsize=1024)
def _gpu(name: str, total_bytes: int | None) -> tuple[Gpu, bool]:
    found = named_gpu(name)
    if found is None and "rocm" in name.lower():
        return parse_fleet(_STAND_IN_AMD).gpus[0].gpu, False
    if total_bytes is not None:
        found = found or parse_fleet(f"{max(total_bytes // 2**20, 1)}MiB").gpus[0].gpu
        return replace(found, capacity_bytes=total_bytes, cuda_total_bytes=total_bytes), True
    if found is not None:
        # What the driver keeps back is in no engine's figures: the engine's total is the whole.
        return replace(found, capacity_bytes=found.engine_total_bytes), True
    return parse_fleet(_STAND_IN).gpus[0].gpu, False


def named_gpu(text: str) -> Gpu | None:
    """The card that a loose text names: `8xH100-80GB`, `A40/L40-48GB`, `GB10 DGX Spark 128GB unified`, `gfx1151 (Strix Halo)`."""
    plain = re.sub(r"\(.*?\)|\bunified\b|-?class\b|\bGPU\b|\bcard\b|\bslice\b.*", " ", text[:200]).strip(" ,-")
    inside = re.findall(r"\((.*?)\)", text[:200])
    for candidate in dict.fromkeys((text[:200], plain, plain.split("/")[-1], re.sub(r"-?\d+ ?GB$", "", plain), *inside)):
        if not candidate.strip():
            continue
        try:
            gpu = parse_fleet(candidate).gpus[0].gpu
        except UsageError:
            continue
        if not gpu.name.startswith("custom"):
            return gpu
    return None


def fleet_of(row: Row, gpu: Gpu) -> Fleet:
    """As many of the card as the row's ranks take, eight to a host.

    Raises:
        UsageError: more ranks than any machine has, or experts dealt over a number of ranks that the others do not divide.
    """
    if row.ep_size > row.tp * row.pp and row.ep_size % (row.tp * row.pp):
        raise UsageError(f"its experts are dealt over {row.ep_size} ranks, which {row.tp} x {row.pp} do not divide")
    ranks = row.tp * row.pp * copies_of(row)
    if ranks > MAX_RANKS:
        raise UsageError(f"{ranks:,} ranks are more than {MAX_RANKS:,}")
    return Fleet.of([gpu] * ranks, gpus_per_host=8)


def copies_of(row: Row) -> int:
    """Copies of attention: data-parallel ranks that the experts are dealt over beside the others."""
    return max(row.ep_size // (row.tp * row.pp), 1)


def rules_version(row: Row) -> str:
    """The version whose rules are meant: of vLLM's V0 engine in 0.8 and later, those of 0.7; of a bare year, the year."""
    year = re.search(r"\b20\d\d(?:-\d\d)?\b", row.version_text)
    engine = row.engine.lower()
    if engine.startswith("llama"):
        build = re.search(r"\bb?(\d{3,6})\b", row.version_text)
        return build[1] if build else ""
    v0 = "v0" in re.split(r"[^a-z0-9.]+", row.version_text.lower())
    if engine.startswith("vllm") and v0:
        return f"{row.version or '0.8'}+v0"
    return row.version or (year[0] if year else "")


def settings_of(row: Row) -> Settings:
    """The engine's settings as the row gives them; what was not printed stays the engine's default."""
    return Settings(
        version=rules_version(row),
        gpu_memory_utilization=row.utilization,
        max_num_seqs=row.max_num_seqs,
        max_batched_tokens=row.max_batched_tokens,
        block_size=row.block_size,
        enforce_eager=row.enforce_eager,
        prefix_caching=row.prefix_caching,
        draft=Draft(tokens=row.drafted) if row.drafted else None,
    )
