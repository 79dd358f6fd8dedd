"""The public functions: they find the model and the GPUs, then ask the planner. All arithmetic is below them."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from vram.engines.base import Settings
from vram.engines.draft import MTP, Draft
from vram.errors import UsageError
from vram.hardware.fleet import Fleet
from vram.model.adapter import Adapter
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.planner.make import DEFAULT_HEADROOM, make_plan
from vram.planner.plan import Plan

if TYPE_CHECKING:
    from vram.planner.bulk.facts import Facts


def load_model(
    reference: str,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Model:
    """Read what a model is: from headers and configs, never from weights.

    Args:
        reference: a local folder or file, a hub id (`org/name`), a model of Ollama's store (`ollama:llama3.2:3b`), or a name of the
            built-in catalogue.
        revision: branch, tag or commit of a hub repository.
        offline: touch no network; `HF_HUB_OFFLINE` decides when None.
        progress: called with files read, files in all, and bytes read so far.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelFormatError: a file breaks its format.
        UnknownArchitectureError: only a config.json of an unknown type was found.
        SourceError: the hub or the disk failed.
    """
    from vram.sources.load import load_model as load  # noqa: PLC0415  (start-up: readers and HTTP only when needed)

    return load(reference, revision=revision, offline=offline, progress=progress)


def catalogued(name: str) -> Model:
    """A model of the built-in catalogue, whatever lies in the hub's caches.

    Raises:
        ModelNotFoundError: the catalogue has no such model.
    """
    from vram.sources.load import catalogued as load  # noqa: PLC0415  (start-up)

    return load(name)


@lru_cache(maxsize=1)
def catalogue_facts() -> "Facts":
    """The built-in catalogue as numbers, for `vram.planner.bulk.candidates`. Needs numpy, which only this and what asks for it loads."""
    from vram.catalog import compiled  # noqa: PLC0415  (start-up)
    from vram.planner.bulk.facts import decode  # noqa: PLC0415  (numpy)

    return decode(compiled())


def detect() -> Fleet:
    """The GPUs of this machine.

    Raises:
        HardwareNotFoundError: there is none.
    """
    from vram.hardware.probe import detect as probe  # noqa: PLC0415  (drivers are asked only when needed)

    return probe()


@lru_cache(maxsize=256)
def parse_gpus(text: str) -> Fleet:
    """GPUs as people spell them: `"4090"`, `"2x H100 SXM 80GB"`, `"a100-40"`, `"M4 Max 128GB"`.

    Raises:
        UnknownGpuError: no such GPU in the catalogue.
    """
    from vram.hardware.spelling import parse_fleet  # noqa: PLC0415  (reads the catalogue)

    return parse_fleet(text)


@once_per_model
def _requantized(model: Model, name: str) -> Model:
    from vram.model.quantization.named import requantize  # noqa: PLC0415  (only when asked for)

    return requantize(model, name)


def plan(
    model: str | Model,
    *,
    gpu: str | Fleet | None = None,
    context_tokens: int | None = None,
    concurrency: int = 1,
    quant: str | None = None,
    kv_dtype: str | None = None,
    engine: str = "generic",
    tp: int | None = None,
    pp: int | None = None,
    ep: bool = False,
    dp: int | None = None,
    gpu_memory_utilization: float | None = None,
    max_num_seqs: int | None = None,
    max_batched_tokens: int | None = None,
    block_size: int | None = None,
    kv_pool_bytes: int | None = None,
    ubatch: int | None = None,
    parallel: int | None = None,
    flash_attention: bool = True,
    gpu_layers: int | None = None,
    tensor_split: tuple[float, ...] = (),
    kv_unified: bool | None = None,
    kv_offload: bool = True,
    swa_full: bool = False,
    ctx_checkpoints: int | None = None,
    enforce_eager: bool = False,
    prefix_caching: bool | None = None,
    mmproj: str | None = None,
    draft: str | Model | None = None,
    draft_tokens: int | None = None,
    draft_gpu_layers: int | None = None,
    lora: Sequence[str | int | Adapter] = (),
    headroom: float = DEFAULT_HEADROOM,
    revision: str | None = None,
    offline: bool | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Plan:
    """How many bytes a model takes on which GPU, part by part, and whether it fits.

    Args:
        model: a path, hub id, `ollama:NAME` or catalogue name (see `load_model`), or a model that was loaded before. What a model of
            Ollama's store brings with it counts, too: its adapters and, for Ollama, the context and batch that its Modelfile sets.
        gpu: GPUs by name or as a fleet; this machine's when None.
        context_tokens: tokens of one sequence, prompt and output together.
        concurrency: sequences held at the same time.
        quant: plan as if the weights were stored so (`"fp8"`, `"awq"`, `"Q4_K_M"`).
        kv_dtype: type of the KV cache (`"bf16"`, `"fp8"`, `"q8_0"`); the model's own when None.
        engine: whose memory rules to use, `name` or `name@version`.
        tp: tensor-parallel ranks; as many of the GPUs as divide the attention heads when None.
        pp: pipeline stages; what tensor parallelism leaves over when None.
        ep: deal whole experts to the ranks instead of slices of each.
        dp: copies of attention and its caches, each with its own sequences, that share the experts (data-parallel attention). SGLang
            and TensorRT-LLM count them in tp: tp 8 with dp 8 takes 8 GPUs there, and 64 in vLLM.
        gpu_memory_utilization: share of each GPU's memory that may be used, 0 to 1.
        max_num_seqs: most sequences in one batch.
        max_batched_tokens: most tokens in one step.
        block_size: tokens of one KV block.
        kv_pool_bytes: bytes of the KV pool per GPU, when known.
        ubatch: llama.cpp's physical batch.
        parallel: llama.cpp's slots.
        flash_attention: whether attention is fused.
        gpu_layers: llama.cpp's layers on GPUs, the output as the last one; all when None.
        tensor_split: llama.cpp's shares of the GPUs; by their free memory when empty.
        kv_unified: llama.cpp's slots share one cache; as its build starts them when None.
        kv_offload: false where llama.cpp's caches stay on the host.
        swa_full: llama.cpp's windowed layers keep every token.
        ctx_checkpoints: checkpoints of past prompts that each of llama-server's slots keeps in main memory; when None its own number or, where that memory
            is the GPU's, one, and commands say what fits.
        enforce_eager: no CUDA graphs are captured (vLLM, SGLang).
        prefix_caching: whether vLLM keeps equal prefixes; as its version does when None.
        mmproj: the GGUF file of a vision or sound tower that llama.cpp loads beside the model.
        draft: what drafts tokens for the model to verify: `"mtp"` for its own multi-token-prediction layers, or a smaller model.
        draft_tokens: tokens drafted at a time; the engine's default when None.
        draft_gpu_layers: the draft model's layers on GPUs in llama.cpp; all when None.
        lora: LoRA adapters that serve at once, each a rank, a GGUF file or a folder with an adapter_config.json.
        headroom: share of the weights to keep free above them.
        revision: branch, tag or commit of a hub repository.
        offline: touch no network.
        progress: called with files read, files in all, and bytes read so far.

    Returns:
        The plan: bytes per GPU and part with their bands and sources, the verdict, limits and mends. All sizes are whole
        bytes. Formulas: docs/how-the-numbers-arise.md. Where the user's own calibration file holds a start of the same model,
        engine, card and settings, its figures take the place of planned ones, with source `measured`.

    Raises:
        UsageError: a number, name or flag that makes no sense (also UnknownGpuError, PlacementError).
        ModelError: the model cannot be read (see `load_model`).
        HardwareNotFoundError: no GPU was named and none found.
    """
    name, _, version = engine.partition("@")
    if engine.endswith("@"):
        raise UsageError(f"{engine!r} names no version", hint=f"write {name} or {name}@1.2.3")
    # The cheap questions first: a misspelt GPU should not cost a download of headers.
    fleet = parse_gpus(gpu) if isinstance(gpu, str) else gpu or detect()
    found = load_model(model, revision=revision, offline=offline, progress=progress) if isinstance(model, str) else model
    if isinstance(model, str) and model.lower().startswith("ollama:"):
        from vram.sources.ollama import adapters_of, find_stored  # noqa: PLC0415  (only for Ollama's store)

        lora = (*adapters_of(model), *([lora] if isinstance(lora, (str, int)) else lora))
        if name == "ollama":
            own = find_stored(model).parameters
            context_tokens, ubatch = context_tokens or own.num_ctx, ubatch or own.num_batch
    if quant is not None:
        found = _requantized(found, quant)
    if mmproj is not None:
        found = _with_tower(found, mmproj)
    drafter = None if draft is None else _draft(draft, draft_tokens, draft_gpu_layers, offline=offline)
    if draft is None and (draft_tokens is not None or draft_gpu_layers is not None):
        raise UsageError("tokens to draft, and nothing that drafts them", hint="name what drafts: --draft mtp, or --draft MODEL")
    made = make_plan(
        found,
        fleet,
        engine=name,
        context_tokens=context_tokens,
        concurrency=concurrency,
        kv_dtype=kv_dtype,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        headroom=headroom,
        settings=Settings(
            version=version,
            gpu_memory_utilization=gpu_memory_utilization,
            max_num_seqs=max_num_seqs,
            max_batched_tokens=max_batched_tokens,
            block_size=block_size,
            kv_pool_bytes=kv_pool_bytes,
            ubatch=ubatch,
            parallel=parallel,
            flash_attention=flash_attention,
            gpu_layers=gpu_layers,
            tensor_split=tensor_split,
            kv_unified=kv_unified,
            kv_offload=kv_offload,
            swa_full=swa_full,
            ctx_checkpoints=ctx_checkpoints,
            enforce_eager=enforce_eager,
            prefix_caching=prefix_caching,
            draft=drafter,
            lora=_adapters(lora) if lora else (),
        ),
    )
    return _measured(made)


def _draft(draft: str | Model, tokens: int | None, gpu_layers: int | None, *, offline: bool | None) -> Draft:
    if isinstance(draft, str):
        return Draft(model=None if draft.lower() == MTP else load_model(draft, offline=offline), tokens=tokens, gpu_layers=gpu_layers)
    return Draft(model=draft, tokens=tokens, gpu_layers=gpu_layers)


def _adapters(lora: Sequence[str | int | Adapter]) -> tuple[Adapter, ...]:
    from vram.sources.adapter import load_adapter  # noqa: PLC0415  (only when asked for)

    return tuple(a if isinstance(a, Adapter) else load_adapter(a) for a in ([lora] if isinstance(lora, (str, int)) else lora))


@once_per_model
def _with_tower(model: Model, mmproj: str) -> Model:
    from vram.sources.adapter import load_tower  # noqa: PLC0415  (only when asked for)

    return load_tower(model, mmproj)


def _measured(made: Plan) -> Plan:
    """The plan with the parts that `vram read-log --save` measured on this machine under the same circumstances, if any."""
    from vram.sources.calibration import read_rows  # noqa: PLC0415  (one look at a file that most machines do not have)

    if not (rows := read_rows()):
        return made
    from vram.planner.calibration import calibrated, find_row  # noqa: PLC0415  (the same)

    row = find_row(made, rows)
    return made if row is None else calibrated(made, row)
