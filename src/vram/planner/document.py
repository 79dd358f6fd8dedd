"""A plan as the JSON object `vram.plan/1` (schema: vram/schemas/plan.json, printed by `vram schema plan`)."""

from typing import TYPE_CHECKING, Any

from vram.engines.draft import Draft
from vram.memory.part import Part, Parts
from vram.planner.plan import Plan

if TYPE_CHECKING:
    from vram.costs.cost import Cost
    from vram.speed.estimate import Speed
    from vram.speed.figure import Figure

SCHEMA = "vram.plan/1"


def part_document(part: Part) -> dict[str, Any]:
    """One part."""
    return {"bytes": part.bytes, "low": part.low, "high": part.high, "source": part.source, "why": part.why}


def parts_document(parts: Parts) -> dict[str, Any]:
    """The parts of one GPU by name."""
    return {name: part_document(part) for name, part in parts.items()}


def plan_document(plan: Plan, *, cost: "Cost | None" = None) -> dict[str, Any]:
    """The whole plan, in whole bytes and tokens; with what its GPUs cost where that is given (`vram.pricing.plan_cost`)."""
    model, workload, settings = plan.model, plan.workload, plan.settings
    return {
        "schema": SCHEMA,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "model_type": model.model_type,
            "parameters": model.parameters,
            "active_parameters": model.active_parameters,
            "weight_bytes": model.weight_bytes,
            "buffer_bytes": model.buffer_bytes,
            "quantization": model.quantization or None,
            "formats": model.bytes_by_format,
            "max_context_tokens": model.geometry.max_context_tokens or None,
            "source": model.source,
            "bytes_read": model.bytes_read,
        },
        "engine": {"name": plan.engine, "version": settings.version or None},
        "workload": {
            "context_tokens": workload.context_tokens,
            "concurrency": workload.concurrency,
            "kv_dtype": workload.kv_dtype,
            "headroom": plan.headroom,
            "gpu_memory_utilization": settings.gpu_memory_utilization,
            "max_num_seqs": settings.max_num_seqs,
            "max_batched_tokens": settings.max_batched_tokens,
            "block_size": settings.block_size,
            "ubatch": settings.ubatch,
            "parallel": settings.parallel,
            "flash_attention": settings.flash_attention,
            "gpu_layers": settings.gpu_layers,
            "tensor_split": list(settings.tensor_split) or None,
            "kv_unified": settings.kv_unified,
            "kv_offload": settings.kv_offload,
            "swa_full": settings.swa_full,
            "ctx_checkpoints": settings.ctx_checkpoints,
            "enforce_eager": settings.enforce_eager,
            "prefix_caching": settings.prefix_caching,
            "draft": None if settings.draft is None else _draft_document(settings.draft),
            "lora": [{"name": a.name, "rank": a.rank, "bytes": a.nbytes or None} for a in settings.lora],
        },
        "placement": {"tp": plan.placement.tp, "pp": plan.placement.pp, "ep": plan.placement.ep, "dp": plan.placement.dp},
        "cache": {
            "bytes_per_token": plan.cache.bytes_per_token,
            "bytes_per_sequence": plan.cache.bytes_per_sequence,
            "state_bytes_per_sequence": plan.cache.state_bytes_per_sequence,
            "layers": _layers_by_kind(plan),
        },
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "capacity_bytes": gpu.capacity_bytes,
                "used_bytes": gpu.used_bytes,
                "usable_bytes": gpu.usable_bytes,
                "stage": gpu.stage,
                "parts": parts_document(gpu.parts),
                "total_bytes": gpu.total_bytes,
                "spare_bytes": gpu.spare_bytes,
            }
            for gpu in plan.gpus
        ],
        "host": {"parts": {name: part_document(part) for name, part in plan.host}} if plan.host else None,
        "kv_pool": {
            "bytes_per_gpu": plan.kv_pool.bytes_per_gpu,
            "capacity_tokens": plan.kv_pool.capacity_tokens,
            "max_concurrency": plan.kv_pool.max_concurrency,
        },
        "verdict": plan.verdict.value,
        "limits": {
            "max_context_tokens": plan.limits.max_context_tokens,
            "max_concurrency": plan.limits.max_concurrency,
            "context_bound_by": plan.limits.context_bound_by,
        },
        "mends": [
            {
                "flag": mend.flag,
                "gains_bytes": mend.gains_bytes,
                "verdict": mend.verdict.value,
                "max_context_tokens": mend.max_context_tokens,
                "why": mend.why,
            }
            for mend in plan.mends
        ],
        "speed": _speed(plan),
        "cost": _cost_document(cost),
        "notes": list(plan.notes),
    }


def figure_document(figure: "Figure | None") -> dict[str, Any] | None:
    """One predicted figure."""
    if figure is None:
        return None
    return {"value": figure.value, "low": figure.low, "high": figure.high, "source": figure.source, "why": figure.why}


def _speed(plan: Plan) -> dict[str, Any]:
    speed = plan.speed
    if speed is None:
        return {"unknown": plan.speed_unknown}
    return speed_document(speed)


def speed_document(speed: "Speed") -> dict[str, Any]:
    """A speed: rates in tokens a second, times in seconds."""
    return {
        "unknown": None,
        "prompt_tokens": speed.prompt_tokens,
        "output_tokens": speed.output_tokens,
        "concurrency": speed.concurrency,
        "decode_tokens_per_second": figure_document(speed.decode_tokens_per_second),
        "tpot_seconds": figure_document(speed.tpot_seconds),
        "decode_total_tokens_per_second": figure_document(speed.decode_total_tokens_per_second),
        "prefill_tokens_per_second": figure_document(speed.prefill_tokens_per_second),
        "ttft_seconds": figure_document(speed.ttft_seconds),
        "crossover": {"sequences": speed.crossover_sequences, "step_seconds": speed.crossover_step_seconds, "why": speed.crossover_why},
    }


def _cost_document(cost: "Cost | None") -> dict[str, Any] | None:
    if cost is None:
        return None
    from vram.costs.document import cost_document  # noqa: PLC0415  (a plan without prices needs none of it)

    return cost_document(cost)


def _draft_document(draft: Draft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "weight_bytes": None if draft.model is None else draft.model.weight_bytes,
        "tokens": draft.tokens,
        "gpu_layers": draft.gpu_layers,
    }


def _layers_by_kind(plan: Plan) -> dict[str, int]:
    counts: dict[str, int] = {}
    for cache, n in plan.model.cache_counts:
        counts[cache.kind] = counts.get(cache.kind, 0) + n
    return counts
