"""The pools file, read and planned: what `vram serve` begins with and `--check` ends with. Needs no package of the gateway's."""

from pathlib import Path
from typing import TYPE_CHECKING

from vram.gateway.assemble import PoolPlan, plan_pool
from vram.readers.pools import PoolsFile
from vram.sources.pools import read_pools

if TYPE_CHECKING:
    from collections.abc import Callable

    from vram.planner.plan import Plan


def read_and_plan(pools: Path, *, offline: bool | None = None, plan: "Callable[..., Plan] | None" = None) -> tuple[PoolsFile, dict[str, PoolPlan]]:
    """The pools file, each pool planned (by `vram.plan` unless another planner is given).

    Raises:
        UsageError: something in the file is wrong.
    """
    if plan is None:
        from vram.api import plan as planner  # noqa: PLC0415  (only a gateway that really plans pays for it)
    else:
        planner = plan
    file = read_pools(pools)
    return file, {pool.name: plan_pool(pool, planner, offline=offline) for pool in file.pools}
