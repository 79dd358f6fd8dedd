"""What of a plan a launch command has to say."""

from dataclasses import replace

from vram.engines.args.base import Beside, Launch
from vram.engines.llama_cpp_checkpoints import MOST
from vram.engines.llama_cpp_engine import LlamaCpp
from vram.engines.llama_cpp_host import HOST_VENDOR
from vram.engines.registry import engine
from vram.planner.make import free_bytes
from vram.planner.plan import Plan
from vram.planner.reserve import kept_that_fit, later_bytes

NOTHING = Beside()


def layers_dealt(plan: Plan) -> tuple[int, ...]:
    """Layers that each GPU of the plan gets, the output counted as one; empty where layers are not dealt, or there is one GPU."""
    rules = engine(plan.engine)
    if not isinstance(rules, LlamaCpp) or len(plan.gpus) < 2:
        return ()
    where = rules.where(replace(plan.demand, free_bytes=free_bytes(rules, plan.fleet, plan.placement)))
    return tuple(sum(place == i for place in (*where.layers, where.output)) for i in range(len(plan.gpus)))


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
        ctx_checkpoints=kept_that_fit(plan, MOST) if s.ctx_checkpoints is None and later_bytes(plan) else s.ctx_checkpoints,
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
        host_shared=any(m.gpu.unified_memory or m.gpu.vendor == HOST_VENDOR for m in plan.fleet.gpus[: len(plan.gpus)]),
        gpus=len(plan.gpus),
        is_path=is_path,
        # Ollama's store holds GGUF files, whatever their tensors are.
        is_gguf=model.startswith("ollama:")
        or model.lower().endswith(".gguf")
        or (not quant and any(t.format.name.startswith(("Q", "IQ", "TQ")) for t in plan.model.tensors)),
    )
