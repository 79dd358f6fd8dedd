"""What an engine is asked about at once: weights in many quantizations, on one number of cards split one way, for cards of one class.

Axes of every array are (variants, stages, cards); a figure that does not change along an axis has length 1 there.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vram.engines.base import Demand, Engine, Settings
from vram.hardware.gpu import Gpu
from vram.memory.part import Part
from vram.memory.placement import Placement
from vram.memory.workload import Workload
from vram.model.cache import CacheFormats
from vram.model.model import Model
from vram.planner.bulk.facts import Facts, Ints, Subject

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
SETTINGS = Settings()


def whole(values: Any) -> Any:
    """`int()` of arrays."""
    return values.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A part of many plans: arrays of expected, least and most bytes."""

    bytes: Any
    low: Any
    high: Any

    @classmethod
    def of(cls, part: Part) -> "Band":
        """The same for all."""
        return cls(bytes=part.bytes, low=part.low, high=part.high)

    @classmethod
    def exact(cls, size: Any) -> "Band":
        """Without doubt."""
        return cls(bytes=size, low=size, high=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """What an engine says of a batch.

    Attributes:
        weights: and the other parts, as in memory.part.Parts.
        kv_cache: the pool, where the engine takes one.
        activations: working memory.
        cuda_graphs: captured graphs.
        runtime: contexts and libraries.
        communication: between ranks.
        pool: whether kv_cache is a pool.
        needed: what the workload needs of the cache.
        capacity: from room in bytes to (tokens, -1 for none; sequences, nan for none).
        possible: variants that the engine does not refuse; None for all.
    """

    weights: Band
    kv_cache: Band
    activations: Band
    cuda_graphs: Band
    runtime: Band
    communication: Band
    pool: bool
    needed: Any
    capacity: Callable[[Any], tuple[Any, Any]]
    possible: Flags | None = None

    def parts(self) -> tuple[tuple[str, Band], ...]:
        """The parts by name, in the order of memory.part.Parts."""
        names = ("weights", "kv_cache", "activations", "cuda_graphs", "runtime", "communication")
        return tuple((name, getattr(self, name)) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One workload for all.

    Attributes:
        context_tokens: tokens of one sequence.
        concurrency: sequences at the same time.
        kv_dtype: type of the cache as asked for; None for the engine's own.
        formats: from a model and an engine's own type to how caches are stored.
    """

    context_tokens: int
    concurrency: int
    kv_dtype: str | None
    formats: Callable[[Model, str | None], tuple[str, CacheFormats]]
    kept: dict[Hashable, Any] = field(default_factory=dict)
    """What engines found out for this workload and need again for another number of cards."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Variants on one placement.

    Attributes:
        facts: the compiled catalogue.
        rules: the engine.
        work: what is asked of it.
        placement: how all of them are split.
        variants: which ones.
        subjects: models that scalar rules are asked about: what differs between variants beside their weights.
        subject_of: each variant's.
    """

    facts: Facts
    rules: Engine
    work: Work
    placement: Placement
    variants: Ints
    subjects: tuple[Subject, ...]
    subject_of: Ints

    def column(self, name: str) -> Ints:
        """A number of each variant, shaped (variants, 1, 1)."""
        return self.facts.column[name][self.variants][:, None, None]

    @cached_property
    def experts(self) -> Flags:
        """Whether there are routed experts, shaped (variants, 1, 1)."""
        return self.flags(lambda s: s.model.geometry.experts > 0)

    def flags(self, of: Callable[[Subject], bool]) -> Flags:
        """A flag of each variant's subject, shaped (variants, 1, 1)."""
        found = np.array([of(s) for s in self.subjects], dtype=np.bool_)
        return found[self.subject_of][:, None, None]

    def each(self, of: Callable[[Subject, int], Any], dtype: Any = np.int64) -> Any:
        """What `of` says of each subject and stage, shaped (variants, stages, 1); where it gives several numbers, an array for each."""
        found = _array([[of(s, stage) for stage in range(self.placement.pp)] for s in self.subjects], dtype)
        rows = found[self.subject_of]
        if rows.ndim == 2:
            return rows[:, :, None]
        return [rows[:, :, k, None] for k in range(rows.shape[2])]

    def once(self, of: Callable[[Subject, int], Any], dtype: Any = np.int64) -> Any:
        """`each` for what is the same on all cards: asked once for a placement."""
        key = self.rules.name, self.placement, self.variants.tobytes(), getattr(of, "__qualname__", ""), dtype
        found = self.work.kept.get(key)
        if found is None:
            found = self.work.kept[key] = self.each(of, dtype)
        return found

    def demand(self, subject: Subject, gpu: Gpu) -> Demand:
        """The scalar question about a subject."""
        key = id(subject), id(gpu)
        found = self._demands.get(key)
        if found is None:
            found = self._demands[key] = self._demand(subject, gpu)
        return found

    def _demand(self, subject: Subject, gpu: Gpu) -> Demand:
        return Demand(model=subject.model, gpu=gpu, placement=self.placement, workload=self.workload(subject), settings=SETTINGS, free_bytes=self._free)

    def workload(self, subject: Subject) -> Workload:
        """The workload as that subject stores its caches."""
        name, formats = self.work.formats(subject.model, self.rules.kv_dtype if self.work.kv_dtype is None else self.work.kv_dtype)
        return Workload(context_tokens=self.work.context_tokens, concurrency=self.work.concurrency, kv_dtype=name, formats=formats)

    @cached_property
    def _demands(self) -> dict[tuple[int, int], Demand]:
        return {}

    @cached_property
    def _free(self) -> tuple[int, ...]:
        """Equal cards: engines that deal layers by free memory deal them by number."""
        return (1,) * self.placement.gpus if self.rules.layer_split else ()

    @cached_property
    def quantised(self) -> Flags:
        """Whether weights are quantised, shaped (variants, 1, 1)."""
        return (np.array([bool(label) for label in self.facts.labels])[self.facts.column["label"][self.variants]])[:, None, None]


_MOST = 2**60


def _array(values: list[Any], dtype: Any) -> Any:
    """An array of numbers; what is past an exabyte (scores of a million tokens that attend to each other) counts as one."""
    try:
        return np.array(values, dtype=dtype)
    except OverflowError:
        return np.minimum(np.array(values, dtype=object), _MOST).astype(dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Cards of one class: what engines distinguish is the same for all.

    Attributes:
        gpu: one of them, for rules that ask which class.
        gpus: all of them.
        capacity: their capacity, shaped (1, 1, cards).
        total: the whole of a card as engines see it.
    """

    gpu: Gpu
    gpus: tuple[Gpu, ...]
    capacity: Ints
    total: Ints

    @classmethod
    def of(cls, gpus: tuple[Gpu, ...]) -> "Cards":
        """Arrays for cards."""
        return cls(
            gpu=gpus[0],
            gpus=gpus,
            capacity=np.array([g.capacity_bytes for g in gpus], dtype=np.int64)[None, None, :],
            total=np.array([g.engine_total_bytes for g in gpus], dtype=np.int64)[None, None, :],
        )
