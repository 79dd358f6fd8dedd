"""Speed rows held against what the step clock says, one by one: nothing is skipped in silence."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from vram.accuracy.row import Unread
from vram.accuracy.speed_case import Case, case_of
from vram.accuracy.speed_row import Metric, SpeedRow
from vram.accuracy.speed_subject import as_measured, candidates
from vram.accuracy.subject import named_gpu
from vram.engines.registry import engine as engine_named
from vram.errors import ModelNotFoundError, UsageError, VramError
from vram.hardware.gpu import Gpu
from vram.model.model import Model
from vram.speed.calibration import Entry
from vram.speed.clock import Clock, clock_over, peak_flops
from vram.speed.estimate import chunk_tokens, prefill_seconds, tpot_seconds, ttft_seconds

ONLY_MEASURED: Final = ("mlx",)
"""Engines without memory rules whose speeds are calibrated all the same."""


class SpeedQuantity(StrEnum):
    """What is compared: of dense models and of those with experts, one sequence alone and several served at a time."""

    DECODE_DENSE_ALONE = "decode_dense_alone"
    DECODE_MOE_ALONE = "decode_moe_alone"
    DECODE_DENSE_SERVED = "decode_dense_served"
    DECODE_MOE_SERVED = "decode_moe_served"
    TPOT_DENSE_SERVED = "tpot_dense_served"
    TPOT_MOE_SERVED = "tpot_moe_served"
    PREFILL_DENSE = "prefill_dense"
    PREFILL_MOE = "prefill_moe"
    TTFT_DENSE_ALONE = "ttft_dense_alone"
    TTFT_MOE_ALONE = "ttft_moe_alone"
    TTFT_DENSE_SERVED = "ttft_dense_served"
    TTFT_MOE_SERVED = "ttft_moe_served"


class Named(Protocol):
    """What a model is found by."""

    @property
    def config(self) -> str:
        """Path of its config.json, empty for none."""
        ...

    @property
    def model_id(self) -> str:
        """Its name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedComparison:
    """One figure beside its prediction, in the row's own unit.

    Attributes:
        id: the row.
        engine: its engine.
        family: the model's type.
        quantity: what is compared.
        measured: as told.
        predicted: what is expected.
        low: the least.
        high: the most.
        entry: what stands behind it.
        note: how its labels were read.
    """

    id: str
    engine: str
    family: str
    quantity: SpeedQuantity
    measured: float
    predicted: float
    low: float
    high: float
    entry: Entry
    note: str

    @property
    def error(self) -> float:
        """Share of the measured figure; never negative."""
        return abs(self.predicted - self.measured) / self.measured

    @property
    def inside(self) -> bool:
        """Whether the band holds the measured figure."""
        return self.low <= self.measured <= self.high

    @property
    def width(self) -> float:
        """Width of the band as a share of the expected figure."""
        return (self.high - self.low) / self.predicted


def engine_of(name: str) -> str:
    """The engine whose constants are meant.

    Raises:
        UsageError: none of that name.
    """
    return name if name in ONLY_MEASURED else engine_named(name).name


def find(row: SpeedRow, load: Callable[[Named], Model]) -> tuple[Model, Gpu]:
    """The model of a row, stored as it was measured, and its card.

    Raises:
        VramError: the model, its quantization or the card is not known.
    """
    engine_of(row.engine)
    gpu = named_gpu(row.gpu.replace("_", " "))
    if gpu is None:
        raise UsageError(f"no card is known by {row.gpu!r}")
    if row.config:
        return as_measured(load(row), row), gpu
    for name in candidates(row):
        try:
            return as_measured(load(replace(row, model=name)), row), gpu
        except ModelNotFoundError:
            continue
    raise ModelNotFoundError(f"no model is known by {row.model!r}")


def check_speed(row: SpeedRow, load: Callable[[Named], Model], engine: str | None = None) -> tuple[SpeedComparison | Unread, str]:
    """A row beside its prediction, or an `Unread` with the reason; and why the row is no evidence, empty when it is."""
    flag = row.flag
    try:
        case = case_of(row, *find(row, load))
        flag = case.flag
        return compare(case, engine), flag
    except VramError as e:
        return Unread(id=row.id, engine=row.engine, quantity="", reason=e.message), flag


def compare(case: Case, other: str | None = None) -> SpeedComparison:
    """A case beside its prediction, by the row's own engine's constants or by `other`'s.

    Raises:
        UsageError: the card's bandwidth is not known, or the metric hangs on arithmetic that is not known.
    """
    row = case.row
    engine = engine_of(other or row.engine)
    c = clock_over(case.demand, engine, case.spread, years=case.years, backend=row.backend, samples=row.samples)
    doubt = c.entry.doubt
    if row.metric in {Metric.PREFILL, Metric.TTFT} and peak_flops(case.demand.gpu, "bf16") is None:
        raise UsageError(f"the arithmetic of {case.demand.gpu.name} is not known")
    if row.metric in {Metric.PREFILL, Metric.TTFT} and not case.prompt_tokens:
        raise UsageError("a prompt of no tokens takes no time")
    chunk = chunk_tokens(engine, case.demand.settings)
    if row.metric is Metric.TTFT:
        expected, factor = 1e3 * ttft_seconds(c, case.prompt_tokens, case.sequences, chunk=chunk), doubt.ttft
    elif row.metric is Metric.PREFILL:
        expected, factor = case.prompt_tokens / prefill_seconds(c, case.prompt_tokens, chunk=chunk, held=case.held_tokens), doubt.prefill
    elif row.metric is Metric.TPOT:
        expected = 1e3 * tpot_seconds(c, case.prompt_tokens, max(case.output_tokens, 1), case.sequences, chunk=chunk)
        factor = doubt.decode if case.sequences == 1 else doubt.tpot
    else:
        each = 1 / c.seconds(0, 0, case.sequences, case.sequences * case.mean_tokens)
        expected = each * (case.sequences if row.metric is Metric.DECODE_TOTAL else 1)
        factor = doubt.decode if case.sequences == 1 else doubt.tpot
    less = doubt.ttft_less if row.metric is Metric.TTFT else factor
    return SpeedComparison(
        id=row.id,
        engine=row.engine,
        family=case.demand.model.model_type,
        quantity=quantity_of(case, c),
        measured=row.value,
        predicted=expected,
        low=expected / less,
        high=expected * factor,
        entry=c.entry,
        note=case.note,
    )


def quantity_of(case: Case, c: Clock) -> SpeedQuantity:
    """What a case counts as in a table."""
    metric = case.row.metric
    kind = "moe" if any(s.work.experts for s in c.stages) else "dense"
    if metric is Metric.PREFILL:
        return SpeedQuantity(f"prefill_{kind}")
    if metric is Metric.TTFT:
        return SpeedQuantity(f"ttft_{kind}_{'alone' if case.sequences == 1 else 'served'}")
    if case.sequences == 1:
        return SpeedQuantity(f"decode_{kind}_alone")
    return SpeedQuantity(f"{'tpot' if metric is Metric.TPOT else 'decode'}_{kind}_served")
