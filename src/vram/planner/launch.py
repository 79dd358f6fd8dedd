"""What of a plan a launch command has to say."""

from vram.engines.args.base import Beside, Launch
from vram.planner.plan import Plan

NOTHING = Beside()


def launch_of(plan: Plan, *, model: str, quant: str = "", kv_dtype: str = "", is_path: bool = False, beside: Beside = NOTHING) -> Launch:
    """The facts of `plan` that flags can make true.

    Args:
        plan: the plan.
        model: the model as the engine is to find it.
        quant: the canonical name of the quantization that was asked for, empty for none.
        kv_dtype: the KV type that was asked for, empty for the model's own.
        is_path: whether `model` is a local path.
        beside: what is loaded beside the model, as the engine is to find it.
    """
    s = plan.settings
    # A hub id may name its revision: org/name@revision.
    name, _, revision = (model, "", "") if is_path else model.partition("@")
    return Launch(
        model=name,
        revision=revision,
        version=s.version,
        tp=plan.placement.tp,
        pp=plan.placement.pp,
        ep=plan.placement.ep,
        dp=plan.placement.dp,
        context_tokens=plan.workload.context_tokens,
        concurrency=plan.workload.concurrency,
        kv_dtype="" if kv_dtype.lower() == "auto" else kv_dtype.lower(),
        quant=quant,
        utilization=s.gpu_memory_utilization,
        max_num_seqs=s.max_num_seqs,
        max_batched_tokens=s.max_batched_tokens,
        block_size=s.block_size,
        kv_pool_bytes=s.kv_pool_bytes,
        ubatch=s.ubatch,
        parallel=s.parallel,
        kv_unified=s.kv_unified,
        kv_offload=s.kv_offload,
        swa_full=s.swa_full,
        enforce_eager=s.enforce_eager,
        prefix_caching=s.prefix_caching,
        draft=s.draft,
        ranks=tuple(a.rank for a in s.lora),
        beside=beside,
        gpu_layers=s.gpu_layers,
        tensor_split=s.tensor_split,
        flash_attention=s.flash_attention,
        capacity_tokens=plan.kv_pool.capacity_tokens,
        layers=len(plan.model.layers),
        vendor=plan.fleet.gpus[0].gpu.vendor,
        gpus=len(plan.gpus),
        is_path=is_path,
        is_gguf=model.lower().endswith(".gguf") or (not quant and any(t.format.name.startswith(("Q", "IQ", "TQ")) for t in plan.model.tensors)),
    )
