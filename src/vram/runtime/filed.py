"""A pools file as the models of this machine: each replica that has no address yet is placed on GPUs of its own, to be started here."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from vram.errors import UsageError
from vram.gateway.assemble import SLOTTED, PoolPlan, plan_pool
from vram.hardware.fleet import Fleet
from vram.hardware.remote import REMOTE_VENDOR
from vram.readers.pools import Pool, PoolsFile
from vram.runtime.choosing import Finder, choose_engine, fleet_of
from vram.runtime.elsewhere import Doors, devices_for, together
from vram.runtime.engines.registry import program
from vram.runtime.lessons import Lessons, learned_of
from vram.runtime.placing import Placed, Report, beside
from vram.runtime.planning import plan_one
from vram.runtime.together import Household
from vram.runtime.wanted import Wanted

if TYPE_CHECKING:
    from vram.runtime.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """A pools file, and what of it is started here.

    Attributes:
        file: as it was read.
        pools: for each replica that is started here, the name of its pool.
    """

    file: PoolsFile
    pools: Mapping[str, str]

    def served(self, units: "Iterable[Unit]") -> tuple[PoolsFile, dict[str, PoolPlan]]:
        """The file with the addresses of the replicas that are started here, and every pool's plan.

        Those started here go by the plan they were started with: where a replica took gentler settings than its fellows, the least of them counts.
        Replicas that run already are planned by what the file says of them.
        """
        from vram.api import plan  # noqa: PLC0415  (start-up)

        here: dict[str, list[Unit]] = {}
        for unit in units:
            here.setdefault(self.pools[unit.name], []).append(unit)
        pools, plans = [], {}
        for pool in self.file.pools:
            if mine := here.get(pool.name):
                # What an engine calls a model by names of its own is no matter of clients: the routes are the file's.
                called = mine[0].placed.engine.calls(pool.model) or pool.served_as
                served = msgspec.structs.replace(pool, replicas=tuple(u.url for u in mine), count=None, engine=_engine(mine[0].placed), served_as=called)
                found = [plan_pool(served, lambda *_, made=u.placed.plan, **__: made) for u in mine]
                plans[pool.name] = min(found, key=lambda p: (p.room.capacity_bytes, p.room.context_tokens))
                pools.append(served)
            else:
                plans[pool.name] = plan_pool(pool, plan, offline=True)
                pools.append(pool)
        return msgspec.structs.replace(self.file, pools=tuple(pools), routes=self.file.all_routes), plans


def started_here(file: PoolsFile) -> tuple[Pool, ...]:
    """The pools whose replicas have no address.

    Raises:
        UsageError: all have one.
    """
    found = tuple(p for p in file.pools if not p.replicas)
    if not found:
        raise UsageError("all replicas of the file have addresses: there is nothing to start", hint="put a gateway in front of them: vram serve pools.toml")
    return found


def wanted_of_pool(pool: Pool, model: str) -> tuple[Wanted, ...]:
    """The replicas of a pool as models that somebody wants to be served: with its engine, its settings, its placement.

    Args:
        pool: a pool without addresses.
        model: its model, as `vram plan` reads it.

    Raises:
        UsageError: no engine of that name can be started.
    """
    s = pool.settings
    engine = program(pool.engine.partition("@")[0])
    slotted = engine.rules in SLOTTED
    slots = s.max_num_seqs if slotted else None
    one = Wanted(
        name=pool.name,
        model=model,
        engine=engine.name,
        served_as=pool.served_as or pool.model,
        context_tokens=s.context_tokens,
        # Slots of their own may all be full at once; those that share a cache hold what one sequence may.
        concurrency=slots if slots is not None and not s.kv_unified else 1,
        quant=s.quant,
        kv_dtype=s.kv_dtype,
        parallel=slots,
        kv_unified=s.kv_unified,
        gpu_memory_utilization=s.gpu_memory_utilization,
        max_num_seqs=None if slotted else s.max_num_seqs,
        max_batched_tokens=s.max_batched_tokens,
        block_size=s.block_size,
        kv_pool_bytes=pool.capacity.kv_bytes,
        tp=pool.placement.tp,
        # All devices that are named, unless fewer are asked for.
        pp=None if pool.rpc and pool.placement.pp == 1 else pool.placement.pp,
        ep=pool.placement.ep,
    )
    return tuple(replace(one, name=pool.name if pool.size == 1 else f"{pool.name}/{k}") for k in range(pool.size))


def fleet_for(pools: Sequence[Pool], text: str | None, finder: Finder, *, dry: bool) -> Fleet:
    """The GPUs for these pools: this machine's (of which `text` may name some), and the devices of the RPC servers that pools name.

    Where only a plan is made and this machine's are not here, those of the file.

    Raises:
        UsageError: this machine has no such GPUs; pools for main memory stand beside pools for GPUs.
        HardwareNotFoundError: it has none at all.
    """
    from vram.api import parse_gpus  # noqa: PLC0415  (reads the catalogue)

    remote = devices_for(pools, finder)
    if remote is not None:
        here = tuple(p for p in pools if not p.rpc)
        if any(p.on_host for p in here):
            raise UsageError("pools in main memory stand beside pools on RPC servers", hint='start them by two files: gpu = "cpu" in one, rpc in the other')
        return together(fleet_for(here, text, finder, dry=dry), remote) if here else remote
    on_host = [p.on_host for p in pools]
    if all(on_host):
        return fleet_of("cpu", dry=dry)
    if any(on_host):
        raise UsageError("pools in main memory stand beside pools on GPUs", hint='start them by two files: gpu = "cpu" in one, GPUs in the other')
    fleet = fleet_of(text, dry=dry)
    if dry and text is None:
        needs = sum((Counter(_kinds(p)) for p in pools for _ in range(p.size)), Counter())
        if needs - Counter(g.gpu.name for g in fleet.gpus):
            return parse_gpus(" + ".join(p.gpu for p in pools for _ in range(p.size)))
    return fleet


def place_pools(
    pools: Sequence[Pool],
    fleet: Fleet,
    finder: Finder,
    *,
    models: Callable[[str], str] = str,
    dry: bool = False,
    offline: bool | None = None,
    progress: Report | None = None,
    lessons: Lessons | None = None,
) -> tuple[Household, dict[str, str]]:
    """Place every replica on GPUs of its own, in the order of the file; in main memory and on the devices of RPC servers, beside each other.

    Args:
        pools: pools without addresses.
        fleet: the GPUs.
        finder: looks for engines.
        models: where a model of the file lies.
        dry: only planned: engines need not be here.
        offline: touch no network.
        progress: told of reads.
        lessons: what was learned of plans that failed here.

    Returns:
        The models of this machine, and for each the name of its pool.

    Raises:
        UsageError: this machine lacks a GPU or an engine, two replicas have one name.
        ModelError: a model cannot be read.
    """
    from vram.api import load_model  # noqa: PLC0415  (start-up)

    host, doors = fleet.gpus[0].gpu.vendor == "host", Doors(fleet)
    free, room = [i for i, g in enumerate(fleet.gpus) if g.gpu.vendor != REMOTE_VENDOR], fleet
    found: dict[str, Placed] = {}
    of: dict[str, str] = {}
    for pool in pools:
        reference = models(pool.model)
        model = load_model(reference, offline=offline, progress=progress)
        for k, one in enumerate(wanted_of_pool(pool, reference)):
            if one.name in found:
                raise UsageError(f"two replicas are called {one.name!r}", hint="give the pools other names")
            chosen, mine = doors.take(pool) if pool.rpc else ([0] if host else _take(pool, k, free, fleet), ())
            one = replace(one, doors=mine)  # noqa: PLW2901  (the same one, with its ports)
            part = room.only(chosen)
            engine, here = choose_engine(one, model, part, finder, dry=dry)
            placed = Placed(wanted=one, model=model, engine=engine, here=here, fleet=part, plan=plan_one(one, model, part, engine, here))
            placed = replace(placed, on=tuple(chosen[: len(placed.plan.gpus)]))
            placed = learned_of(placed, lessons)
            found[one.name], of[one.name] = placed, pool.name
            room = beside(room, placed.reserved or [g.total_bytes for g in placed.plan.gpus], placed.on)
    return Household(fleet=fleet, ways={name: (p,) for name, p in found.items()}, first=found), of


def other_versions(household: Household, file: PoolsFile, of: Mapping[str, str]) -> tuple[str, ...]:
    """Where another version of an engine is here than the file was planned for: a line for each pool."""
    lines = []
    for pool in file.pools:
        asked = pool.engine.partition("@")[2]
        here = next((p.here for name, p in household.first.items() if of[name] == pool.name), None)
        if asked and here is not None and here.version and here.version != asked:
            lines.append(f"{pool.name}: the file has {pool.engine}, here is {here.version}; it is planned for what is here")
    return tuple(lines)


def _engine(placed: Placed) -> str:
    """An engine as the gateway knows it: whose rules hold (`llama.cpp` for `llama-server`), and the version that is here."""
    version = placed.plan.settings.version
    return f"{placed.plan.engine}@{version}" if version else placed.plan.engine


def _kinds(pool: Pool) -> list[str]:
    """The GPUs of one replica, by name."""
    from vram.api import parse_gpus  # noqa: PLC0415  (reads the catalogue)

    return [g.gpu.name for g in parse_gpus(pool.gpu).gpus]


def _take(pool: Pool, k: int, free: list[int], fleet: Fleet) -> list[int]:
    """GPUs for a pool's replica out of those that are free."""
    chosen: list[int] = []
    for kind in _kinds(pool):
        match = next((i for i in free if i not in chosen and fleet.gpus[i].gpu.name == kind), None)
        if match is None:
            there = sum(g.gpu.name == kind for g in fleet.gpus)
            has = f"{there} of them, all taken by replicas before it" if there else f"{fleet.name} and no {kind}"
            raise UsageError(
                f"pool {pool.name!r}: replica {k + 1} of {pool.size} needs {pool.gpu}, and this machine has {has}",
                hint="each replica gets GPUs of its own: lower count, or start the pool where such GPUs are and name its replicas' URLs",
            )
        chosen.append(match)
    free[:] = [i for i in free if i not in chosen]
    return chosen
