"""`llama-server`. Flags: tools/server/README.md of llama.cpp (b11434), and what older builds take instead."""

from typing import Final

from vram.engines.args.base import Command, Flag, Launch, safe_model, safe_name, shell
from vram.engines.llama_cpp_build import UNIFIED_SLOTS, build_of
from vram.errors import UsageError

KV_TYPES: Final = {
    **{name: name for name in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")},
    "fp16": "f16", "float16": "f16", "bfloat16": "bf16", "fp32": "f32", "float32": "f32",
}  # fmt: skip
FLASH_WORD: Final = 6325
"""`-fa` takes on, off or auto since PR #15434 (August 2025); a bare `-fa` before."""
ALL_LAYERS: Final = "999"


def kv_types(kv_dtype: str) -> tuple[str, str]:
    """llama.cpp's types of keys and values for ours (`q8_0`, or `q8_0/q4_0` for two).

    Raises:
        UsageError: it has no such type.
    """
    key, _, value = kv_dtype.partition("/")
    try:
        return KV_TYPES[key], KV_TYPES[value or key]
    except KeyError as e:
        raise UsageError(
            f"llama.cpp has no KV cache of type {e.args[0]!r}", hint=f"it has {', '.join(dict.fromkeys(KV_TYPES.values()))}: --kv-dtype q8_0"
        ) from None


def _beside(launch: Launch, notes: list[str]) -> list[Flag]:
    """Flags for what stays on the host, and for what is loaded beside the model."""
    flags = []
    if not launch.kv_offload:
        flags.append(Flag(words=("--no-kv-offload",), reason="caches stay on the host, as planned"))
    if launch.swa_full:
        flags.append(Flag(words=("--swa-full",), reason="windowed layers keep every token, as planned"))
    if launch.beside.mmproj:
        flags.append(Flag(words=("--mmproj", safe_name(launch.beside.mmproj)), reason="the tower for images or sound"))
    if launch.draft is not None:
        if launch.beside.draft:
            words = ("--model-draft" if launch.beside.draft_is_path else "--hf-repo-draft", safe_name(launch.beside.draft))
            flags.append(Flag(words=words, reason="the model that drafts"))
        flags.append(
            Flag(words=("--spec-type", "draft-mtp" if launch.draft.model is None else "draft-simple"), reason="what drafts; builds of 2026 take this flag")
        )
        if launch.draft.tokens is not None:
            flags.append(Flag(words=("--spec-draft-n-max", str(launch.draft.tokens)), reason="tokens drafted at a time, as planned"))
        if launch.draft.gpu_layers is not None:
            flags.append(Flag(words=("--n-gpu-layers-draft", str(launch.draft.gpu_layers)), reason="layers of the draft model on GPUs, as planned"))
    flags += [Flag(words=("--lora", safe_name(path)), reason="an adapter, as planned") for path in launch.beside.adapters]
    if missing := len(launch.ranks) - len(launch.beside.adapters):
        notes.append(f"planned with {missing} more adapter{'s' if missing > 1 else ''} of which only the rank was given: --lora takes their GGUF files")
    return flags


def command(launch: Launch) -> Command:
    """The command.

    Raises:
        UsageError: llama.cpp cannot do what was planned.
    """
    if launch.tp > 1 or launch.ep:
        raise UsageError("llama.cpp deals whole layers to GPUs: it has no --tp and no --ep", hint="leave them out; --gpu names the GPUs")
    build = build_of(launch.version)
    number = int("".join(c for c in launch.version if c.isdigit()) or 10**6)
    name, notes = safe_model(launch), []
    if launch.is_path:
        model = Flag(words=("--model", name), reason="")
    else:
        wanted = f"{name}:{launch.quant}" if launch.quant and ":" not in name else name
        model = Flag(words=("-hf", wanted), reason="downloads the GGUF of that hub repository")
    if not launch.is_gguf:
        notes.append("planned from a config, not from a GGUF: give the repository or file of its GGUF in place of the model's name")
    elif launch.quant and launch.is_path:
        notes.append(f"planned as {launch.quant}: give the file that is stored so")
    slots = max(launch.parallel or build.slots, launch.concurrency)
    unified = launch.kv_unified if launch.kv_unified is not None else build.unified and launch.parallel is None
    context = launch.context_tokens * (launch.concurrency if unified else slots)
    flags = [
        model,
        Flag(words=("--ctx-size", str(context)), reason=f"tokens of all slots together: {launch.concurrency if unified else slots} x {launch.context_tokens}"),
        Flag(words=("--parallel", str(slots)), reason=f"slots; {launch.concurrency} sequence{'s' if launch.concurrency > 1 else ''} at once planned"),
    ]
    if number >= UNIFIED_SLOTS:
        why = "slots share one cache, as planned" if unified else "each slot has a cache of its own, as planned"
        flags.append(Flag(words=("--kv-unified" if unified else "--no-kv-unified",), reason=why))
    layers = str(launch.gpu_layers) if launch.gpu_layers is not None else ALL_LAYERS
    flags.append(
        Flag(words=("--n-gpu-layers", layers), reason="layers on GPUs, the output among them" if launch.gpu_layers is not None else "all layers on GPUs")
    )
    if launch.rpc:
        flags.append(Flag(words=("--rpc", ",".join(launch.rpc)), reason="devices elsewhere; experimental, and for networks that are safe"))
    if launch.devices:
        flags.append(Flag(words=("--device", ",".join(launch.devices)), reason="these and no others, in this order"))
    if launch.gpus > 1:
        flags.append(Flag(words=("--split-mode", "layer"), reason=f"whole layers on each of {launch.gpus} GPUs"))
    if launch.tensor_split:
        flags.append(Flag(words=("--tensor-split", ",".join(f"{s:.6g}" for s in launch.tensor_split)), reason="shares of the GPUs, as planned"))
    if launch.kv_dtype:
        key, value = kv_types(launch.kv_dtype)
        flags.append(Flag(words=("--cache-type-k", key), reason="the planned type of keys"))
        flags.append(Flag(words=("--cache-type-v", value), reason="the planned type of values"))
    fused = ("--flash-attn", "on" if launch.flash_attention else "off") if number >= FLASH_WORD else ("--flash-attn",) if launch.flash_attention else ()
    if fused:
        flags.append(Flag(words=fused, reason="fused attention, as planned: scores are never held" if launch.flash_attention else "as planned"))
    if launch.ubatch is not None:
        flags.append(Flag(words=("--ubatch-size", str(launch.ubatch)), reason="physical batch, as planned: compute buffers grow with it"))
    if launch.max_batched_tokens is not None:
        flags.append(Flag(words=("--batch-size", str(launch.max_batched_tokens)), reason="logical batch, as planned"))
    if launch.ctx_checkpoints is not None and build.checkpoints:
        # Renamed by PR #16382, days before the cache of prompts came.
        name = "--ctx-checkpoints" if build.prompt_cache else "--swa-checkpoints"
        flags.append(Flag(words=(name, str(launch.ctx_checkpoints)), reason="checkpoints of past prompts in main memory, a slot, as planned"))
    if launch.host_shared and build.prompt_cache:
        flags.append(Flag(words=("--cache-ram", "0"), reason="prompts of the past would take memory that the plan has not: it is the GPU's, too"))
    flags += _beside(launch, notes)
    return shell(("llama-server",), tuple(flags), (), tuple(notes))
