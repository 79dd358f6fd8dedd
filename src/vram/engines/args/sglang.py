"""`python3 -m sglang.launch_server`. Flags: docs.sglang.io/advanced_features/server_arguments.html."""

from typing import Final

from vram.engines.args.base import Command, Flag, Launch, percent, safe_model, safe_name, shell
from vram.engines.draft import is_head
from vram.errors import UsageError

DRAFT_STEPS: Final = 3
KV_TYPES: Final = {"fp8": "fp8_e4m3", "fp8_e4m3": "fp8_e4m3", "fp8_e5m2": "fp8_e5m2", "bf16": "bf16", "bfloat16": "bf16"}


def _drafting(launch: Launch) -> list[Flag]:
    """Flags for a drafter."""
    if launch.draft is None:
        return []
    model, flags = launch.draft.model, []
    name = launch.beside.draft or launch.draft.name
    kind = "NEXTN" if model is None else "STANDALONE" if not is_head(model) else "EAGLE3" if "eagle3" in model.architecture.lower() else "EAGLE"
    flags.append(Flag(words=("--speculative-algorithm", kind), reason="what drafts"))
    if model is not None:
        flags.append(Flag(words=("--speculative-draft-model-path", safe_name(name)), reason="the model that drafts"))
    steps = launch.draft.tokens or DRAFT_STEPS
    flags.append(Flag(words=("--speculative-num-steps", str(steps)), reason="tokens drafted one after the other"))
    flags.append(Flag(words=("--speculative-eagle-topk", "1"), reason="one token at each step"))
    flags.append(Flag(words=("--speculative-num-draft-tokens", str(steps + 1)), reason="tokens that are verified together"))
    return flags


def command(launch: Launch) -> Command:
    """The command.

    Raises:
        UsageError: SGLang cannot do what was planned.
    """
    flags = [Flag(words=("--model-path", safe_model(launch)), reason="")]
    notes: list[str] = []
    if launch.revision:
        flags.append(Flag(words=("--revision", launch.revision), reason="the revision that was planned"))
    if launch.tp * launch.dp > 1:
        flags.append(Flag(words=("--tp-size", str(launch.tp * launch.dp)), reason=f"each layer is split over {launch.tp * launch.dp} GPUs"))
    if launch.dp > 1:
        flags.append(Flag(words=("--dp-size", str(launch.dp)), reason=f"attention and its caches are there {launch.dp} times"))
        flags.append(Flag(words=("--enable-dp-attention",), reason="the copies share one set of experts"))
    if launch.pp > 1:
        flags.append(Flag(words=("--pp-size", str(launch.pp)), reason=f"the layers are dealt to {launch.pp} stages"))
    if launch.ep:
        flags.append(Flag(words=("--ep-size", str(launch.tp * launch.dp)), reason="whole experts are dealt to the ranks"))
    flags.append(Flag(words=("--context-length", str(launch.context_tokens)), reason="the planned length of a sequence; the default is the model's own limit"))
    if launch.utilization is not None:
        flags.append(Flag(words=("--mem-fraction-static", percent(launch.utilization)), reason="share of the card for weights and KV pool, as planned"))
    if launch.kv_pool_bytes is not None and launch.capacity_tokens:
        flags.append(Flag(words=("--max-total-tokens", str(launch.capacity_tokens)), reason="what the given pool holds; SGLang takes tokens, not bytes"))
    if launch.max_num_seqs is not None:
        flags.append(Flag(words=("--max-running-requests", str(launch.max_num_seqs)), reason="as planned: states and graphs grow with it"))
    if launch.max_batched_tokens is not None:
        flags.append(Flag(words=("--chunked-prefill-size", str(launch.max_batched_tokens)), reason="tokens of one prefill step, as planned"))
    if launch.block_size is not None:
        flags.append(Flag(words=("--page-size", str(launch.block_size)), reason="tokens of a page of the KV pool, as planned"))
    if launch.enforce_eager:
        flags.append(Flag(words=("--disable-cuda-graph",), reason="no CUDA graphs, as planned"))
    if launch.kv_dtype:
        kv = KV_TYPES.get(launch.kv_dtype)
        if kv is None:
            raise UsageError(f"SGLang has no KV cache of type {launch.kv_dtype!r}", hint=f"it has {', '.join(sorted(set(KV_TYPES.values())))}: --kv-dtype fp8")
        flags.append(Flag(words=("--kv-cache-dtype", kv), reason="the planned type of the KV cache"))
    flags += _drafting(launch)
    if launch.quant == "fp8":
        flags.append(Flag(words=("--quantization", "fp8"), reason="the weights are quantised while they are loaded"))
    elif launch.quant:
        notes.append(f"planned as {launch.quant}: SGLang needs a checkpoint that is stored so, put its name in place of the model's")
    return shell(("python3", "-m", "sglang.launch_server"), tuple(flags), (), tuple(notes))
