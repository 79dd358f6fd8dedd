"""A plan as values: what lies on each GPU at the worst instant, whether it fits, and how far it could be pushed."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from vram.engines.base import Settings
from vram.hardware.fleet import Fleet
from vram.memory.part import Part, Parts
from vram.memory.placement import Placement
from vram.memory.workload import Workload
from vram.model.model import Model

if TYPE_CHECKING:
    from vram.engines.base import Demand
    from vram.planner.mends import Mend
    from vram.speed.estimate import Speed


class Verdict(StrEnum):
    """Whether a plan fits: see `Plan.verdict`."""

    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does_not_fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlan:
    """One GPU of the plan.

    Attributes:
        index: its place in the fleet.
        name: its name.
        capacity_bytes: memory that its driver reports.
        used_bytes: of which other processes hold so much.
        usable_bytes: what this plan may use: capacity less others' use, and no more than the utilization asked for.
        stage: the pipeline stage that it serves.
        parts: what the model puts on it.
        pool: the KV pool of an engine that takes one when it starts (its part `kv_cache`), else None.
        kv_needed_bytes: what the workload needs of the KV cache.
    """

    index: int
    name: str
    capacity_bytes: int
    used_bytes: int
    usable_bytes: int
    stage: int
    parts: Parts
    pool: Part | None
    kv_needed_bytes: int

    @property
    def total_bytes(self) -> int:
        """Expected bytes of all parts."""
        return self.parts.total_bytes

    @property
    def spare_bytes(self) -> int:
        """What is left of the usable bytes or, if that is less, of the KV pool; negative when it does not fit."""
        left = self.usable_bytes - self.parts.total_bytes
        if self.pool is None or not (self.pool.bytes or self.kv_needed_bytes):  # a model without caches has a pool of nothing
            return left
        return min(left, self.pool.bytes - self.kv_needed_bytes)

    @property
    def overfull(self) -> bool:
        """Whether an engine's pool, which takes its share of the card whatever is needed, leaves too little beside it: it would not start."""
        return self.pool is not None and self.usable_bytes < self.parts.total_bytes

    @property
    def short_bytes(self) -> int:
        """What would be missing if every part took its most (and the pool came out at its least); 0 or less: nothing."""
        over = self.parts.high_bytes - self.usable_bytes
        if self.pool is None:
            return over
        # A pool takes what the other parts leave: their high end is its low end, and must not be counted twice.
        fixed = self.parts.high_bytes - self.parts.kv_cache.high + self.pool.low - self.usable_bytes
        return max(fixed, self.kv_needed_bytes - self.pool.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """Logical bytes of the caches of one sequence, over all layers and without replication.

    Attributes:
        bytes_per_token: what one more token adds at this context.
        bytes_per_sequence: what a sequence of this context keeps.
        state_bytes_per_sequence: of which this much whatever its length (SSM, convolution).
    """

    bytes_per_token: int
    bytes_per_sequence: int
    state_bytes_per_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KvPool:
    """The room for caches.

    Attributes:
        bytes_per_gpu: bytes of the smallest GPU's pool: as given, as the engine reserves it, or what is left.
        capacity_tokens: tokens that it holds in sequences of this context; None when sequences keep nothing.
        max_concurrency: sequences of this context that it holds, not rounded; None when sequences keep nothing.
    """

    bytes_per_gpu: int
    capacity_tokens: int | None
    max_concurrency: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far the plan can be pushed before it no longer fits (verdict `does_not_fit`).

    Attributes:
        max_context_tokens: the longest context at this concurrency; 0 when not even one token fits, None when what a token
            keeps is not known or nothing grows with the context.
        max_concurrency: the most sequences at this context; None when what a sequence keeps is not known.
        context_bound_by: what ends the context: "memory"; "model" when it is the length that the publisher states;
            "nothing" when the cache does not grow; "unknown".
    """

    max_context_tokens: int | None
    max_concurrency: int | None
    context_bound_by: str


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Plan:
    """What a model takes on a fleet, part by part.

    Attributes:
        model: the model.
        engine: name of the engine whose rules were used.
        fleet: the GPUs.
        placement: how the model is spread over them.
        workload: what it was planned for.
        settings: the engine's settings.
        headroom: share of the weights that must remain free above them for `fits`.
        gpus: the GPUs used, in order.
        cache: logical bytes of the caches.
        kv_pool: the room for caches.
        limits: how far it could be pushed.
        verdict: `fits`: the high ends of all parts fit together and every GPU holds its weights x (1 + headroom);
            `tight`: the expected total fits but one of those two does not hold; else `does_not_fit`.
        notes: what could not be known, and what was asked for without effect.
        asked: tensor-parallel ranks and pipeline stages as they were asked for; None: chosen here.
        host: what lies in the host's memory, part by part; empty where the engine's rules do not tell.
    """

    model: Model
    engine: str
    fleet: Fleet
    placement: Placement
    workload: Workload
    settings: Settings
    headroom: float
    gpus: tuple[GpuPlan, ...]
    cache: CacheSize
    kv_pool: KvPool
    limits: Limits
    verdict: Verdict
    notes: tuple[str, ...]
    asked: tuple[int | None, int | None] = (None, None)
    host: tuple[tuple[str, Part], ...] = ()

    def __repr__(self) -> str:
        """One line; the whole plan is `plan_document(plan)`."""
        return f"<Plan {self.model.name} on {self.fleet.name}: {self.verdict.value}, {self.spare_bytes:,} bytes to spare>"

    @property
    def total_bytes(self) -> int:
        """Expected bytes on all GPUs together."""
        return sum(g.total_bytes for g in self.gpus)

    @property
    def spare_bytes(self) -> int:
        """Spare bytes of the fullest GPU; negative when it does not fit."""
        return min(g.spare_bytes for g in self.gpus)

    @cached_property
    def mends(self) -> "tuple[Mend, ...]":
        """What would make it fit, best first; empty when it fits. Found when first asked for."""
        from vram.planner.mends import find_mends  # noqa: PLC0415  (mends plan again, so they import this file)

        return find_mends(self)

    @cached_property
    def demand(self) -> "Demand":
        """The demand whose speed is the plan's: that of its slowest card, which all others wait for."""
        from vram.engines.base import Demand  # noqa: PLC0415  (only who asks for a speed needs one)

        used = self.fleet.gpus[: self.placement.gpus]
        slowest = min((member.gpu for member in used), key=lambda gpu: gpu.bandwidth_bytes_per_second or 0.0)
        return Demand(model=self.model, gpu=slowest, placement=self.placement, workload=self.workload, settings=self.settings)

    @cached_property
    def speed(self) -> "Speed | None":
        """How fast it runs, with bands; None where `speed_unknown` says why. Computed when first asked for.

        Formula: docs/how-fast.md.
        """
        from vram.speed.estimate import estimate  # noqa: PLC0415  (a plan whose speed nobody asks for does not wait for it)

        return None if self.speed_unknown else estimate(self.demand, self.engine)

    @cached_property
    def speed_unknown(self) -> str:
        """Why `speed` is None; empty when it is not."""
        from vram.speed.estimate import why_unknown  # noqa: PLC0415  (see speed)

        if self.verdict is Verdict.DOES_NOT_FIT:
            return "it does not fit"
        layers = self.settings.gpu_layers
        if layers is not None and layers < len(self.model.layers):
            return "part of the layers runs on the host, whose speed is not known"
        return why_unknown(self.demand)
