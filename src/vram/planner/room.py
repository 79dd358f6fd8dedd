"""How the KV cache of a plan is handed out: the poorest rank's, as its engine gives it to sequences.

The bridge from a plan to admission: one arithmetic for what is promised and what is let in.
"""

from vram.engines.base import Demand
from vram.engines.registry import engine
from vram.memory.curve import KvRoom
from vram.planner.make import free_bytes
from vram.planner.plan import Plan


def kv_room_of(plan: Plan) -> KvRoom | None:
    """What the cache of one replica of the plan holds, on the rank that holds the fewest sequences of the planned context.

    None where what a sequence keeps is not known.
    """
    if not plan.model.caches_known:
        return None
    rules = engine(plan.engine)
    free = free_bytes(rules, plan.fleet, plan.placement)
    rooms: list[KvRoom] = []
    seen: set[tuple[int, int]] = set()
    for gpu, member in zip(plan.gpus, plan.fleet.gpus, strict=False):
        kind = (id(member.gpu), gpu.stage)
        if kind in seen:
            continue
        seen.add(kind)
        demand = Demand(model=plan.model, gpu=member.gpu, placement=plan.placement, workload=plan.workload, settings=plan.settings, free_bytes=free)
        pool = gpu.pool.bytes if gpu.pool is not None else max(gpu.usable_bytes - gpu.total_bytes + gpu.parts.kv_cache.bytes, 0)
        if gpu.pool is not None and plan.settings.kv_pool_bytes is None:
            pool = max(pool - rules.rank_gap(member.gpu, plan.placement).bytes, 0)
        rooms.append(rules.kv_room(demand, gpu.stage, pool))
    return min(rooms, key=lambda r: r.capacity_bytes / max(r.curve.nbytes(plan.workload.context_tokens), 1))
