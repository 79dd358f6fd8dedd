"""The pools file, read and planned: what `vram serve` begins with and `--check` ends with. Needs no package of the gateway's.

What was planned can be handed to another process as a plain document, so that several go by one reading and one plan.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vram.errors import UsageError
from vram.gateway.assemble import PoolPlan, plan_pool
from vram.hardware.spelling import parse_fleet
from vram.memory.curve import KvCurve, KvRoom, Term
from vram.readers.pools import Pool, PoolsFile
from vram.sources.pools import read_pools

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vram.planner.plan import Plan


def read_and_plan(
    pools: Path, *, offline: bool | None = None, plan: "Callable[..., Plan] | None" = None, known: "Mapping[str, PoolPlan] | None" = None
) -> tuple[PoolsFile, dict[str, PoolPlan]]:
    """The pools file, each pool planned (by `vram.plan` unless another planner is given).

    A pool of `known` whose replicas would be planned as before keeps its plan, unless its model is a file of this machine, which may have changed:
    planning takes time from the requests that run, and the planner remembers every model that it was given.

    Raises:
        UsageError: something in the file is wrong.
    """
    if plan is None:
        from vram.api import plan as planner  # noqa: PLC0415  (only a gateway that really plans pays for it)
    else:
        planner = plan
    file = read_pools(pools)
    check_gpus(file, str(pools))
    plans = {}
    for pool in file.pools:
        before = known.get(pool.name) if known is not None else None
        if before is not None and _one_replica(before.pool) == _one_replica(pool) and not Path(pool.model).exists():
            plans[pool.name] = replace(before, pool=pool)
        else:
            plans[pool.name] = plan_pool(pool, planner, offline=offline)
    return file, plans


def check_gpus(file: PoolsFile, where: str) -> None:
    """Refuse a file with a GPU that nobody knows. Where a pool states what its cache holds, the name is the operator's own.

    Raises:
        UsageError: a name says nothing to the catalogue; the message has the path of the key, the hint the nearest names.
    """
    for i, pool in enumerate(file.pools):
        if pool.on_host or pool.capacity.stated:
            continue
        try:
            parse_fleet(pool.gpu)
        except UsageError as e:
            raise UsageError(
                f"{where}: pools[{i}].gpu: {e.message}", hint=f"{e.hint}; any name will do where pools.capacity states what a cache holds"
            ) from None


def _one_replica(pool: Pool) -> Pool:
    """What of a pool decides what one of its replicas holds."""
    return msgspec.structs.replace(pool, replicas=(), count=None, dollars_per_hour=None)


def planned_document(file: PoolsFile, plans: dict[str, PoolPlan]) -> dict[str, Any]:
    """Both as a document that JSON can carry."""
    return {
        "file": msgspec.to_builtins(file),
        "plans": {
            name: {
                "terms": [list(term) for term in plan.room.curve.terms],
                "capacity_bytes": plan.room.capacity_bytes,
                "context_tokens": plan.room.context_tokens,
                "max_sequences": plan.room.max_sequences,
                "block_bytes": plan.room.block_bytes,
                "aside_bytes": plan.room.aside_bytes,
                "firm": plan.room.firm,
                "in_tokens": plan.in_tokens,
                "usable_bytes": plan.usable_bytes,
                "shared_bytes": plan.shared_bytes,
                "gpus": plan.gpus,
                "notes": list(plan.notes),
            }
            for name, plan in plans.items()
        },
    }


def planned_of(document: dict[str, Any]) -> tuple[PoolsFile, dict[str, PoolPlan]]:
    """What `planned_document` made of."""
    file = msgspec.convert(document["file"], PoolsFile)
    pools = {pool.name: pool for pool in file.pools}
    return file, {
        name: PoolPlan(
            pool=pools[name],
            room=KvRoom(
                curve=KvCurve(terms=tuple(Term(*term) for term in plan["terms"])),
                capacity_bytes=plan["capacity_bytes"],
                context_tokens=plan["context_tokens"],
                max_sequences=plan["max_sequences"],
                block_bytes=plan["block_bytes"],
                aside_bytes=plan["aside_bytes"],
                firm=plan["firm"],
            ),
            in_tokens=plan["in_tokens"],
            usable_bytes=plan["usable_bytes"],
            shared_bytes=plan["shared_bytes"],
            gpus=plan["gpus"],
            notes=tuple(plan["notes"]),
        )
        for name, plan in document["plans"].items()
    }
