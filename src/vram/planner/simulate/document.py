"""Replays as the JSON object `vram.simulate/1` (schema: vram/schemas/simulate.json, printed by `vram schema simulate`)."""

from collections.abc import Sequence
from typing import Any

from vram.planner.simulate.outcome import Outcome, PoolOutcome, Spread
from vram.planner.simulate.request import End

SCHEMA = "vram.simulate/1"


def simulate_document(outcomes: Sequence[Outcome], *, each: bool = False) -> dict[str, Any]:
    """Replays of the same requests under several policies.

    Args:
        outcomes: at least one.
        each: with every request of every replay.
    """
    first = outcomes[0]
    return {
        "schema": SCHEMA,
        "requests": len(first.served),
        "levels": {"ttft_seconds": first.levels.ttft_seconds, "tpot_seconds": first.levels.tpot_seconds},
        "pools": [
            {
                "name": p.pool.name,
                "model": p.pool.model or None,
                "replicas": p.pool.replicas,
                "kv_blocks": p.pool.replica.blocks,
                "block_bytes": p.pool.replica.block_bytes or None,
                "context_tokens": p.pool.replica.max_model_len,
                "max_num_seqs": p.pool.replica.max_num_seqs,
                "max_batched_tokens": p.pool.replica.max_batched_tokens,
                "usd_per_hour": None if p.pool.dollars_per_hour is None else p.pool.dollars_per_hour * p.pool.replicas,
            }
            for p in first.pools
        ],
        "policies": [_outcome(o, each=each) for o in outcomes],
    }


def _outcome(o: Outcome, *, each: bool) -> dict[str, Any]:
    s = o.summary
    made = {
        "policy": o.policy,
        "ends": {end.value: s.ends.get(end, 0) for end in End},
        "refused": s.refused,
        "good": s.good,
        "good_share": s.good_share,
        "goodput_per_second": s.goodput_per_second,
        "seconds": s.seconds,
        "prompt_tokens": s.prompt_tokens,
        "answered_tokens": s.answered_tokens,
        "tokens_per_second": s.tokens_per_second,
        "ttft_seconds": _spread(s.ttft),
        "tpot_seconds": _spread(s.tpot),
        "queue_seconds": _spread(s.queue),
        "preemptions": s.preemptions,
        "preempted_requests": s.preempted,
        "kv_share_mean": s.kv_share_mean,
        "kv_share_peak": s.kv_share_peak,
        "busy_share": s.busy_share,
        "pools": [_pool(p) for p in o.pools],
    }
    if each:
        made["served"] = [
            {
                "arrival_seconds": r.arrival_seconds,
                "end": r.end.value,
                "pool": o.pools[r.pool].pool.name if r.pool >= 0 else None,
                "replica": r.replica if r.replica >= 0 else None,
                "prompt_tokens": r.prompt_tokens,
                "answered_tokens": r.answered_tokens,
                "ttft_seconds": r.ttft_seconds,
                "tpot_seconds": r.tpot_seconds,
                "finish_seconds": r.finish_seconds,
                "queue_seconds": r.queue_seconds,
                "preemptions": r.preemptions,
            }
            for r in o.served
        ]
    return made


def _spread(s: Spread) -> dict[str, float | None]:
    return {"p50": s.p50, "p90": s.p90, "p99": s.p99}


def _pool(p: PoolOutcome) -> dict[str, Any]:
    n = p.buckets
    return {
        "name": p.pool.name,
        "preemptions": list(p.preemptions),
        "busy_seconds": list(p.busy_seconds),
        "steps": p.steps,
        "kv_share_peak": p.peak_share,
        "bucket_seconds": p.width_seconds,
        "kv_share": list(p.kv_share[:n]),
        "running": list(p.running[:n]),
        "waiting": list(p.waiting[:n]),
    }
