"""A sizing as the JSON object of schema `vram.size/1`. Shares are 0 to 1, times seconds, money dollars."""

from typing import Any, Final

from vram.planner.size.levels import Verdict
from vram.planner.size.sizing import PoolSizing, Served, Sizing, Slow

SCHEMA: Final = "vram.size/1"


def size_document(sizing: Sizing) -> dict[str, Any]:
    """The whole answer."""
    return {
        "schema": SCHEMA,
        "usd_per_hour": sizing.usd_per_hour,
        "gpus": sizing.gpus,
        "pools": [_pool(p) for p in sizing.pools],
        "notes": list(sizing.notes),
    }


def _pool(p: PoolSizing) -> dict[str, Any]:
    c, plan = p.candidate, p.candidate.plan
    return {
        "model": p.load.model,
        "checkpoint": plan.model.name if plan else None,
        "engine": c.engine,
        "gpu": c.gpu,
        "gpus_per_replica": c.gpus,
        "placement": {"tp": plan.placement.tp, "pp": plan.placement.pp, "ep": plan.placement.ep} if plan else None,
        "memory_verdict": plan.verdict.value if plan else None,
        "settings": {
            "context_tokens": c.spec.max_model_len,
            "max_num_seqs": c.spec.max_num_seqs,
            "max_batched_tokens": c.spec.max_batched_tokens,
            "kv_dtype": plan.workload.kv_dtype if plan else None,
        },
        "kv_blocks": c.spec.blocks,
        "kv_bytes_per_gpu": plan.kv_pool.bytes_per_gpu if plan else None,
        "price": {"usd_per_replica_hour": c.usd_per_hour, "why": p.price_told},
        "usd_per_million_tokens": p.usd_per_million_tokens,
        "load": {
            "requests": len(p.load.requests),
            "seconds": p.load.seconds,
            "prompt_tokens": p.load.prompt_tokens,
            "output_tokens": p.load.output_tokens,
            "longest_tokens": p.load.longest_tokens,
        },
        "chosen": _served(p.chosen) | {"over_time": _series(p.chosen)},
        "one_less": _served(p.fewer) if p.fewer else None,
        "one_more": _served(p.more),
        "if_slow": _slow(p.slow) if p.slow else None,
        "alternatives": [
            {"gpu": a.gpu, "usd_per_hour": a.nanodollars_per_hour / 1e9 if a.nanodollars_per_hour else None, "exact": a.exact, "why": a.why}
            for a in p.alternatives
        ],
        "tried": len(p.tried),
        "replays": p.replays,
    }


def _served(s: Served) -> dict[str, Any]:
    summary = s.outcome.summary
    return {
        "replicas": s.replicas,
        "usd_per_hour": s.usd_per_hour,
        "met": s.verdict.met,
        "levels": _levels(s.verdict),
        "refused": s.verdict.refused,
        "refusals_allowed": s.verdict.refusals_allowed,
        "ttft_seconds": {"p50": summary.ttft.p50, "p90": summary.ttft.p90, "p99": summary.ttft.p99},
        "tpot_seconds": {"p50": summary.tpot.p50, "p90": summary.tpot.p90, "p99": summary.tpot.p99},
        "tokens_per_second": summary.tokens_per_second,
        "busy_share": summary.busy_share,
        "kv_share_mean": summary.kv_share_mean,
        "kv_share_peak": summary.kv_share_peak,
        "preemptions": summary.preemptions,
    }


def _slow(s: Slow) -> dict[str, Any]:
    return {
        "factor": s.factor,
        "why": s.why,
        "met": s.verdict.met,
        "levels": _levels(s.verdict),
        "replicas": s.replicas,
        "usd_per_hour": None if s.nanodollars_per_hour is None else s.nanodollars_per_hour / 1e9,
    }


def _levels(verdict: Verdict) -> list[dict[str, Any]]:
    return [
        {
            "metric": r.level.metric.value,
            "share": r.level.share,
            "asked_seconds": r.level.seconds,
            "seconds": r.seconds,
            "late": r.late,
            "allowed": r.allowed,
            "met": r.met,
        }
        for r in verdict.reached
    ]


def _series(s: Served) -> dict[str, Any]:
    pool = s.pool
    return {"bucket_seconds": pool.width_seconds, "kv_share": list(pool.kv_share), "running": list(pool.running), "waiting": list(pool.waiting)}
