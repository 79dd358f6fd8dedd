"""What a pools file would serve, before it does: each pool's cache by its plan, each public name's longest request."""

from typing import Any

from vram.gateway.assemble import PoolPlan
from vram.gateway.outliers import most_out
from vram.gateway.seats import UNKNOWN_TOKENS
from vram.readers.pools import PoolsFile
from vram.units import gib


def check_document(file: PoolsFile, plans: dict[str, PoolPlan]) -> dict[str, Any]:
    """The check as `vram serve --check --json` prints it, schema vram.serve/1."""
    return {
        "schema": "vram.serve/1",
        "pools": [
            {
                "name": pool.name,
                "model": pool.model,
                "engine": pool.engine,
                "gpu": pool.gpu,
                "replicas": list(pool.replicas),
                "most_out": most_out(pool.size, file.outliers.most_out_share),
                "kv_capacity_bytes": None if (plan := plans[pool.name]).in_tokens else plan.room.capacity_bytes,
                "kv_capacity_tokens": tokens if (tokens := plan.room.curve.most_tokens(plan.room.capacity_bytes)) < UNKNOWN_TOKENS else None,
                "context_tokens": plan.room.context_tokens if plan.room.context_tokens < UNKNOWN_TOKENS else None,
                "max_sequences": plan.room.max_sequences,
                "dollars_per_hour": pool.dollars_per_hour,
                "notes": list(plan.notes),
            }
            for pool in file.pools
        ],
        "routes": [
            {
                "model": route.model,
                "pools": list(route.pools),
                "larger_pool": route.fallback.larger_pool,
                "other_models": list(route.fallback.models),
                "least_output_tokens": route.fallback.least_output_tokens,
            }
            for route in file.all_routes
        ],
    }


def check_rows(file: PoolsFile, plans: dict[str, PoolPlan]) -> list[tuple[str, ...]]:
    """A line for each pool: name, model, engine, GPU, replicas, how many requests may put out, cache of one, longest sequence, sequences at once."""
    rows: list[tuple[str, ...]] = []
    for pool in file.pools:
        plan = plans[pool.name]
        room = plan.room
        stated = "from its engine" if room.capacity_bytes >= UNKNOWN_TOKENS else f"{room.capacity_bytes:,} tokens"
        cache = stated if plan.in_tokens else gib(room.capacity_bytes)
        longest = "from its engine" if room.context_tokens >= UNKNOWN_TOKENS else f"{room.context_tokens:,}"
        out = str(most_out(pool.size, file.outliers.most_out_share))
        rows.append((pool.name, pool.model, pool.engine, pool.gpu, str(pool.size), out, cache, longest, f"{room.max_sequences:,}"))
    return rows
