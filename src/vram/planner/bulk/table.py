"""Many plans as columns: what each is, whether it fits, and how much is left. One row is opened as parts, or planned whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vram.model.model import Model
from vram.planner.bulk.facts import Facts, Ints
from vram.planner.bulk.file import Entry
from vram.planner.bulk.place import Place
from vram.planner.make import make_plan
from vram.planner.plan import Plan, Verdict

VERDICTS: Final = (Verdict.DOES_NOT_FIT, Verdict.TIGHT, Verdict.FITS)
"""What the numbers of `Table.verdict` mean: more is better."""

Small = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What all rows of a table were planned for.

    Attributes:
        context_tokens: tokens of one sequence.
        concurrency: sequences at the same time.
        kv_dtype: type of the cache; None for the engine's or model's own.
        headroom: share of the weights to keep free above them.
    """

    context_tokens: int
    concurrency: int
    kv_dtype: str | None
    headroom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Figures of `speed.estimate.Speed` for many rows; nan where it says nothing.

    Attributes:
        decode_tokens_per_second: one sequence alone.
        tpot_seconds: time of an output token at the table's concurrency.
        prefill_tokens_per_second: of one prompt alone.
        ttft_seconds: time to the first token with nothing else running.
        decode_doubt: the factor by which a measured one may exceed, or fall short of, the first; and so on.
        tpot_doubt: likewise.
        prefill_doubt: likewise.
        ttft_doubt: by which a first token may come later than expected.
        ttft_less_doubt: by which it may come earlier.
    """

    decode_tokens_per_second: npt.NDArray[np.float64]
    tpot_seconds: npt.NDArray[np.float64]
    prefill_tokens_per_second: npt.NDArray[np.float64]
    ttft_seconds: npt.NDArray[np.float64]
    decode_doubt: npt.NDArray[np.float64]
    tpot_doubt: npt.NDArray[np.float64]
    prefill_doubt: npt.NDArray[np.float64]
    ttft_doubt: npt.NDArray[np.float64]
    ttft_less_doubt: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Plans as columns; every array has one entry a row.

    Attributes:
        facts: the compiled catalogue.
        question: what was asked.
        engines: names of engines.
        places: cards.
        model: index into `models`.
        quant: index into `quants`: empty for the checkpoint as it is published.
        engine: index into `engines`.
        place: index into `places`.
        tp: tensor-parallel ranks.
        pp: pipeline stages, or devices that whole layers are dealt to.
        verdict: index into `VERDICTS`.
        spare_bytes: as `Plan.spare_bytes`: of the fullest card; negative when so much is missing.
        weight_bytes: expected weights on all cards together.
        pool_bytes: as `Plan.kv_pool.bytes_per_gpu`.
        capacity_tokens: as `Plan.kv_pool.capacity_tokens`, -1 for None.
        max_concurrency: as `Plan.kv_pool.max_concurrency`, nan for None.
        variant: the row of the compiled catalogue that the weights are from.
    """

    facts: Facts
    question: Question
    engines: tuple[str, ...]
    places: tuple[Place, ...]
    model: Small
    quant: Small
    engine: Small
    place: Small
    tp: Small
    pp: Small
    verdict: npt.NDArray[np.int8]
    spare_bytes: Ints
    weight_bytes: Ints
    pool_bytes: Ints
    capacity_tokens: Ints
    max_concurrency: npt.NDArray[np.float64]
    variant: npt.NDArray[np.int32]

    def __len__(self) -> int:
        """Rows."""
        return len(self.model)

    @property
    def models(self) -> tuple[Entry, ...]:
        """The catalogue's models."""
        return self.facts.models

    @property
    def quants(self) -> tuple[str, ...]:
        """Quantizations by their names; the first is the published checkpoint's own."""
        return self.facts.quants

    def take(self, rows: Any) -> "Table":
        """The table of those rows alone: indexes, or a mask."""
        chosen: Mapping[str, Any] = {f.name: getattr(self, f.name)[rows] for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}
        return replace(self, **chosen)

    def options(self, row: int) -> dict[str, Any]:
        """What `vram.plan` is to be asked for the plan of a row, beside the model's name."""
        engine, place = self.engines[self.engine[row]], self.places[self.place[row]]
        q = self.question
        return {
            "gpu": place.name,
            "engine": engine,
            "context_tokens": q.context_tokens,
            "concurrency": q.concurrency,
            "quant": self.quants[self.quant[row]] or None,
            "kv_dtype": q.kv_dtype,
            "headroom": q.headroom,
        }

    def plan(self, row: int, load: Callable[[str], Model]) -> Plan:
        """The whole plan of a row, made by the scalar rules from the model that `load` gives for its id."""
        from vram.model.quantization.named import requantize  # noqa: PLC0415  (only rows that are opened need it)

        model = load(self.models[self.model[row]].id)
        quant = self.quants[self.quant[row]]
        q = self.question
        return make_plan(
            requantize(model, quant) if quant else model,
            self.places[self.place[row]].fleet,
            engine=self.engines[self.engine[row]],
            context_tokens=q.context_tokens,
            concurrency=q.concurrency,
            kv_dtype=q.kv_dtype,
            headroom=q.headroom,
        )

    def speed(self, rows: Any) -> "Speeds":
        """How fast rows are: indexes, or a mask."""
        from vram.planner.bulk.speed import speeds_of  # noqa: PLC0415  (speeds are of tables, so it imports this file)

        return speeds_of(self, np.arange(len(self))[rows])

    def parts(self, rows: Any) -> list[dict[str, Ints]]:
        """The parts of rows: for each row, by part, (stages, 3) expected, least and most bytes of a rank of each stage."""
        from vram.planner.bulk.candidates import parts_of  # noqa: PLC0415  (candidates makes tables, so it imports this file)

        return parts_of(self, np.asarray(rows))
