"""Several models on one machine: which GPUs each may lie on, and which are loaded first. Those that do not fit beside them come when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from math import ceil
from typing import Final

from vram.admission.residency import Load, Resident, next_step
from vram.admission.residency import Wanted as Asked
from vram.errors import UsageError
from vram.hardware.fleet import Fleet
from vram.planner.calibration import signature
from vram.planner.packing import Parcel, Slot, Way, pack
from vram.planner.plan import Verdict
from vram.planner.reserve import planned_bytes
from vram.runtime.choosing import Finder, choose_engine
from vram.runtime.lessons import Lessons, held_of, learned_of
from vram.runtime.placing import Placed, Report, beside, replan
from vram.runtime.planning import plan_one
from vram.runtime.wanted import Wanted

MOST_WAYS: Final = 64
"""Sets of GPUs that one model is planned on, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Household:
    """All models of one machine.

    Attributes:
        fleet: its GPUs, with what others hold of them or a budget leaves out.
        ways: for each model, the GPUs that it may lie on, each with its plan; the preferred first.
        first: which are loaded at the start, each with the one of its ways that it takes.
        pinned: which stay loaded, whoever else is asked for.
        budget_bytes: what these models may take of each GPU; None: all that is free.
        machine: the GPUs without the budget; None where there is none.
    """

    fleet: Fleet
    ways: dict[str, tuple[Placed, ...]]
    first: dict[str, Placed]
    pinned: frozenset[str] = frozenset()
    budget_bytes: int | None = None
    machine: Fleet | None = None

    @property
    def capacity(self) -> tuple[int, ...]:
        """Bytes of each GPU that are for these models."""
        return tuple(g.free_bytes for g in self.fleet.gpus)

    @property
    def placed(self) -> tuple[Placed, ...]:
        """Each model as it lies, or would lie first."""
        return tuple(self.first.get(name, ways[0]) for name, ways in self.ways.items())

    def later(self) -> dict[str, tuple[str, ...] | None]:
        """Those that are not loaded at the start, and who would go for each, had nobody anything to do; None: it fits beside what is pinned in no way."""
        residents = [
            Resident(
                name=name,
                gpu_bytes=gpu_bytes(p, len(self.fleet)),
                load_seconds=0.0,
                ready_at=float("-inf"),
                used_at=float("-inf"),
                pinned=name in self.pinned,
            )
            for name, p in self.first.items()
        ]
        found: dict[str, tuple[str, ...] | None] = {}
        for name, ways in self.ways.items():
            if name not in self.first:
                step = next_step(residents, [Asked(name=name, placements=tuple(gpu_bytes(w, len(self.fleet)) for w in ways), since=0.0)], self.capacity, 0.0)
                found[name] = step.evict if isinstance(step, Load) else None
        return found


def gpu_bytes(placed: Placed, gpus: int) -> tuple[int, ...]:
    """What is reserved for a model on each GPU of the machine: by what was measured, else the high end of its plan, or what its engine reserves there."""
    found = [0] * gpus
    for place_, size in zip(placed.on, reserved_of(placed), strict=False):
        found[place_] = size
    return tuple(found)


def reserved_of(placed: Placed) -> tuple[int, ...]:
    """What is reserved for a model on each of its own GPUs.

    An engine with a share of its own starts only where that share of the whole card is free, though it is planned to hold a little less.
    """
    share = placed.plan.settings.gpu_memory_utilization if placed.engine.rules == "vllm" and placed.plan.gpus[0].pool is not None else None
    return placed.reserved or tuple(max(planned_bytes(g), ceil(g.capacity_bytes * (share or 0))) for g in placed.plan.gpus)


def within(fleet: Fleet, budget_bytes: int) -> Fleet:
    """The GPUs with no more than `budget_bytes` free on each."""
    return replace(fleet, gpus=tuple(replace(g, used_bytes=max(g.used_bytes, g.gpu.capacity_bytes - budget_bytes)) for g in fleet.gpus))


def place_together(
    wanted: Sequence[Wanted],
    fleet: Fleet,
    finder: Finder,
    *,
    dry: bool = False,
    offline: bool | None = None,
    progress: Report | None = None,
    lessons: Lessons | None = None,
    pinned: frozenset[str] = frozenset(),
) -> Household:
    """Plan all models on one machine: as many at once as fit, those that are pinned before the others, then the first named.

    A model that does not fit even alone is among those loaded first, with the verdict of its plan. One that is alone gets all GPUs.

    Args:
        wanted: the models.
        fleet: the GPUs, with what others hold of them.
        finder: looks for engines.
        dry: only planned: engines need not be here.
        offline: touch no network.
        progress: told of reads.
        lessons: what was learned of plans that failed here: the settings that worked, and why.
        pinned: names of those that are never unloaded.

    Raises:
        UsageError: a name stands twice, an engine is missing.
        ModelError: a model cannot be read.
    """
    from vram.api import load_model  # noqa: PLC0415  (start-up)

    if len({w.name for w in wanted}) < len(wanted):
        raise UsageError("two models of one name", hint="give them names: vram up a=MODEL b=MODEL")
    ways: dict[str, tuple[Placed, ...]] = {}
    for one in (replace(w, alone=len(wanted) == 1) for w in wanted):
        model = load_model(one.model, offline=offline, progress=progress)
        engine, here = choose_engine(one, model, fleet, finder, dry=dry)
        made = plan_one(one, model, fleet, engine, here)
        whole = Placed(wanted=one, model=model, engine=engine, here=here, fleet=fleet, plan=made, on=tuple(range(len(made.gpus))))
        if len(wanted) == 1:
            alone = learned_of(whole, lessons)
            return Household(fleet=fleet, ways={one.name: (alone,)}, first={one.name: alone}, pinned=pinned)
        ways[one.name] = _ways(whole, fleet, lessons)
    parcels = [
        Parcel(name=name, ways=tuple(_way(w) for w in found if w.loadable), priority=len(wanted) * (name in pinned) + len(wanted) - k)
        for k, (name, found) in enumerate(ways.items())
    ]
    slots = [Slot(free_bytes=g.free_bytes, group=_group(fleet, i)) for i, g in enumerate(fleet.gpus)]
    packing = pack([p for p in parcels if p.ways], slots)
    first: dict[str, Placed] = {}
    for p in parcels:
        if not p.ways:
            # It fits nowhere: its plan says so, and how that could be mended.
            first[p.name] = ways[p.name][0]
        elif p.name in packing.placed:
            chosen = [w for w in ways[p.name] if w.loadable][packing.placed[p.name].way]
            first[p.name] = chosen
    return Household(fleet=fleet, ways=ways, first=_beside_each_other(first, fleet, lessons), pinned=pinned)


def _group(fleet: Fleet, place_: int) -> int:
    """GPUs that one model may span: of one kind, in one host."""
    mine = fleet.gpus[place_]
    return next(i for i, g in enumerate(fleet.gpus) if (g.gpu, g.host) == (mine.gpu, mine.host))


def _way(placed: Placed) -> Way:
    """A way that names its GPUs, one by one."""
    whole = gpu_bytes(placed, max(placed.on) + 1)
    return Way(rank_bytes=tuple(whole[g] for g in placed.on), gpus=frozenset(placed.on))


def _ways(whole: Placed, fleet: Fleet, lessons: Lessons | None) -> tuple[Placed, ...]:
    """A model planned on every set of GPUs that it may lie on: the fewest first, and of those the ones with the most room."""
    one = whole.wanted
    sizes = (one.tp,) if one.tp is not None else tuple(dict.fromkeys([*(k for k in (1, 2, 4, 8, 16) if k < len(fleet)), len(fleet)]))
    found: list[Placed] = []
    for size in sizes:
        sets = [c for c in islice(combinations(range(len(fleet)), size), MOST_WAYS) if len({_group(fleet, g) for g in c}) == 1 or size == len(fleet)]
        for chosen in sorted(sets, key=lambda c: (-min(fleet.gpus[g].free_bytes for g in c), c)):
            part = fleet.only(chosen)
            try:
                made = plan_one(one, whole.model, part, whole.engine, whole.here)
            except UsageError:
                # Heads that so many GPUs cannot share, say.
                break
            found.append(learned_of(_modest(replace(whole, fleet=part, plan=made, on=chosen[: len(made.gpus)])), lessons))
    fit = [p for p in found if p.loadable]
    # Where it fits on fewer GPUs, those that need more are not kept: each GPU more costs its own share of what is not split.
    fewest = min((len(p.on) for p in fit), default=0)
    return tuple(p for p in fit if len(p.on) == fewest) or tuple(found[-1:]) or (whole,)


def _modest(placed: Placed) -> Placed:
    """Beside others, an engine that takes all it gets for its pool is told what its workload needs.

    vLLM's utilization is a share of the whole card, whoever else is on it (`request_memory`, vllm/v1/worker/utils.py). SGLang's fraction is one of
    what is free when it starts (`_profile_available_bytes`, model_runner.py), which depends on who is loaded then: its pool is bounded instead.
    """
    wanted, gpus = placed.wanted, placed.plan.gpus
    if gpus[0].pool is None or wanted.gpu_memory_utilization is not None or wanted.kv_pool_bytes is not None:
        return placed
    if placed.engine.rules == "sglang":
        return replan(placed, replace(wanted, kv_pool_bytes=max(g.kv_needed_bytes for g in gpus) * 21 // 20))
    if placed.engine.rules != "vllm":
        return placed
    share = ceil(max((g.parts.high_bytes - g.parts.kv_cache.high + g.kv_needed_bytes) / g.capacity_bytes for g in gpus) * 1000) / 1000
    return replan(placed, replace(wanted, gpu_memory_utilization=share)) if 0 < share < 1 else placed


def _beside_each_other(first: dict[str, Placed], fleet: Fleet, lessons: Lessons | None) -> dict[str, Placed]:
    """Each planned beside those before it, so that its plan shows what is really free.

    Packing has weighed what each is known to hold, which may be less than its plan: where the plan beside others says worse, it stays as it was packed.
    So it does where its layers fall otherwise beside others, and that leaves less than those after it were packed into.
    """
    found, order = {}, list(Verdict)
    for name, placed in first.items():
        found[name] = placed
        if placed.loadable:
            made = replan(replace(placed, fleet=fleet.only(placed.on)), placed.wanted)
            # What was measured holds for the same deal of layers, and says nothing of another one.
            made = replace(made, reserved=placed.reserved) if signature(made.plan) == signature(placed.plan) else held_of(made, lessons)
            after = [gpu_bytes(p, len(fleet)) for n, p in first.items() if n not in found and p.loadable]
            room = [g.free_bytes - sum(sizes[i] for sizes in after) for i, g in enumerate(fleet.gpus)]
            fits = all(size <= room[i] for i, size in zip(made.on, reserved_of(made), strict=True))
            if fits and order.index(made.plan.verdict) <= order.index(placed.plan.verdict):
                found[name] = made
            fleet = beside(fleet, reserved_of(found[name]), placed.on)
    return found
