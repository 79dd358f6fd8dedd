"""`vllm serve`. Flags: docs.vllm.ai/en/v0.8.5/serving/engine_args.html and vllm/engine/arg_utils.py of 0.32."""

import json
from typing import Final

from vram.engines.args.base import Command, Flag, Launch, percent, safe_model, safe_name, shell, version_pair
from vram.engines.vllm.draft import TOKENS
from vram.engines.vllm.lora import slots_for
from vram.engines.vllm.release import release_of
from vram.errors import UsageError

# Our name of a KV type -> vLLM's (config/cache.py, CacheDType).
KV_TYPES: Final = {
    "fp8": "fp8",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "f16": "float16",
    "fp16": "float16",
    "float16": "float16",
}
# Quantization that vLLM applies while it loads (docs: features/quantization); everything else has to be in the checkpoint.
ONLINE: Final = {"fp8": "fp8", "bnb-4bit": "bitsandbytes"}


def flags_of(launch: Launch) -> tuple[tuple[Flag, ...], tuple[str, ...]]:
    """Flags and notes, without the program and the model.

    Raises:
        UsageError: vLLM has no such KV type.
    """
    release = release_of(launch.version)
    flags: list[Flag] = []
    notes: list[str] = []
    if launch.revision:
        flags.append(Flag(words=("--revision", launch.revision), reason="the revision that was planned"))
    if launch.tp > 1:
        flags.append(Flag(words=("--tensor-parallel-size", str(launch.tp)), reason=f"each layer is split over {launch.tp} GPUs"))
    if launch.dp > 1:
        flags.append(Flag(words=("--data-parallel-size", str(launch.dp)), reason=f"attention and its caches are there {launch.dp} times"))
    if launch.pp > 1:
        flags.append(Flag(words=("--pipeline-parallel-size", str(launch.pp)), reason=f"the layers are dealt to {launch.pp} stages"))
    if launch.ep:
        flags.append(Flag(words=("--enable-expert-parallel",), reason="whole experts are dealt to the ranks"))
    flags.append(Flag(words=("--max-model-len", str(launch.context_tokens)), reason="the planned length of a sequence; the default is the model's own limit"))
    share = launch.utilization if launch.utilization is not None else release.utilization
    why = "as planned" if launch.utilization is not None else f"vLLM {release.label}'s own default, written down because versions differ"
    flags.append(Flag(words=("--gpu-memory-utilization", percent(share)), reason=f"share of the card that vLLM may take, {why}"))
    if launch.kv_pool_bytes is not None:
        flags.append(Flag(words=("--kv-cache-memory-bytes", str(launch.kv_pool_bytes)), reason="the pool that was given, instead of what is left of the share"))
        if (pair := version_pair(launch.version)) is not None and pair < (0, 10):
            notes.append("--kv-cache-memory-bytes is there from vLLM 0.10.2 on")
    # vLLM's default is 256 sequences, 1,024 on cards of 70 GiB and more (arg_utils.py); only what goes beyond has to be said.
    if launch.max_num_seqs is not None:
        flags.append(Flag(words=("--max-num-seqs", str(launch.max_num_seqs)), reason="as planned: the sampler's memory grows with it"))
        if launch.max_num_seqs < launch.concurrency:
            notes.append(f"{launch.max_num_seqs} sequences run at once, {launch.concurrency} were planned: the others wait")
    elif launch.concurrency > 256:
        flags.append(Flag(words=("--max-num-seqs", str(launch.concurrency)), reason="all planned sequences run at once"))
        notes.append("with this --max-num-seqs the sampler takes more than with the default: plan again with it")
    if launch.max_batched_tokens is not None:
        flags.append(
            Flag(
                words=("--max-num-batched-tokens", str(launch.max_batched_tokens)), reason="tokens of one step, as planned: the activation peak grows with them"
            )
        )
    if launch.block_size is not None:
        flags.append(Flag(words=("--block-size", str(launch.block_size)), reason="tokens of a KV block, as planned"))
    if launch.enforce_eager:
        flags.append(Flag(words=("--enforce-eager",), reason="no CUDA graphs, as planned: their memory goes to the pool"))
    if launch.prefix_caching is not None:
        word = "--enable-prefix-caching" if launch.prefix_caching else "--no-enable-prefix-caching"
        flags.append(Flag(words=(word,), reason="as planned: models with states keep more blocks for each sequence with it"))
    if launch.kv_dtype:
        kv = KV_TYPES.get(launch.kv_dtype)
        if kv is None:
            raise UsageError(f"vLLM has no KV cache of type {launch.kv_dtype!r}", hint=f"it has {', '.join(sorted(set(KV_TYPES.values())))}: --kv-dtype fp8")
        flags.append(Flag(words=("--kv-cache-dtype", kv), reason="the planned type of the KV cache"))
    flags += _beside(launch, notes)
    if launch.quant:
        online = ONLINE.get(launch.quant)
        if online:
            flags.append(Flag(words=("--quantization", online), reason="the weights are quantised while they are loaded"))
        else:
            notes.append(f"planned as {launch.quant}: vLLM needs a checkpoint that is stored so, put its name in place of the model's")
    return tuple(flags), tuple(notes)


def _beside(launch: Launch, notes: list[str]) -> list[Flag]:
    """Flags for a drafter and for adapters."""
    flags = []
    if launch.draft is not None:
        own = launch.draft.model is None
        tokens = launch.draft.tokens or (1 if own else TOKENS)
        spec = {"method": "mtp"} if own else {"model": safe_name(launch.beside.draft or launch.draft.name)}
        flags.append(
            Flag(words=("--speculative-config", json.dumps({**spec, "num_speculative_tokens": tokens})), reason="what drafts, and how many tokens at a time")
        )
        if (pair := version_pair(launch.version)) is not None and pair < (0, 8):
            notes.append("--speculative-config is there from vLLM 0.8 on")
    if launch.ranks:
        slots = slots_for(launch.ranks)
        flags.append(Flag(words=("--enable-lora",), reason="adapters are served"))
        flags.append(Flag(words=("--max-loras", str(slots.count)), reason="adapters at once, as planned: each has a buffer"))
        flags.append(Flag(words=("--max-lora-rank", str(slots.rank)), reason="the greatest rank, in the steps that vLLM has"))
        if launch.beside.adapters:
            flags.append(Flag(words=("--lora-modules", *(f"lora{i}={safe_name(a)}" for i, a in enumerate(launch.beside.adapters))), reason="the adapters"))
    return flags


def command(launch: Launch) -> Command:
    """The command.

    Raises:
        UsageError: vLLM cannot do what was planned.
    """
    flags, notes = flags_of(launch)
    return shell(("vllm", "serve", safe_model(launch)), flags, (), notes)
