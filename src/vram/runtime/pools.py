"""Units as the pools that a gateway serves: the same types as pools.toml, made in memory."""

from collections.abc import Iterable

from vram.gateway.assemble import PoolPlan, plan_pool
from vram.readers.pools import EngineSettings, Limits, Placement, Pool, PoolsFile, Route
from vram.runtime.unit import Unit


def pools_of(units: Iterable[Unit], *, dollars_per_hour: float | None = None, limits: Limits | None = None) -> tuple[PoolsFile, dict[str, PoolPlan]]:
    """A pool of one replica for each unit, and the plan that it was started by."""
    pools, plans = [], {}
    for unit in units:
        pool = pool_of(unit, dollars_per_hour)
        made = unit.placed.plan
        pools.append(pool)
        # The plan is there: it is not made a second time.
        plans[pool.name] = plan_pool(pool, lambda *_, made=made, **__: made)
    routes = tuple(Route(model=pool.name, pools=(pool.name,)) for pool in pools)
    return PoolsFile(pools=tuple(pools), routes=routes, limits=limits or Limits()), plans


def pool_of(unit: Unit, dollars_per_hour: float | None = None) -> Pool:
    """One unit as a pool."""
    plan = unit.placed.plan
    s, p = plan.settings, plan.placement
    version = f"@{s.version}" if s.version else ""
    return Pool(
        name=unit.name,
        model=unit.placed.wanted.model,
        engine=f"{plan.engine}{version}",
        gpu=unit.placed.fleet.name,
        replicas=(unit.url,),
        served_as=unit.placed.alias,
        dollars_per_hour=dollars_per_hour,
        placement=Placement(tp=p.tp, pp=p.pp, ep=p.ep),
        settings=EngineSettings(
            context_tokens=plan.workload.context_tokens,
            kv_dtype=unit.placed.wanted.kv_dtype,
            gpu_memory_utilization=s.gpu_memory_utilization,
            max_num_seqs=s.max_num_seqs or s.parallel,
            max_batched_tokens=s.max_batched_tokens,
            block_size=s.block_size,
        ),
    )
