"""A choice: one model, quantization, engine and placement that fits, with what put it there; and a near miss, with what kept it out."""

from collections.abc import Callable
from dataclasses import dataclass

from vram.memory.placement import Placement
from vram.planner.choosing.ask import Ask
from vram.planner.choosing.quality import Generation, Loss
from vram.planner.plan import GpuPlan, Limits, Plan, Verdict
from vram.speed.estimate import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rent:
    """What the cards of a choice cost.

    Attributes:
        usd_per_hour: of all of them together.
        usd_per_million_output_tokens: at the decode rate of the choice, all sequences busy; None where the rate is not known.
        why: whose price it is, and of which day.
    """

    usd_per_hour: float
    usd_per_million_output_tokens: float | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merits:
    """What a row is worth, and the facts behind it.

    Attributes:
        points: of this row: doublings of parameters, see docs/how-we-pick.md.
        best_points: of the best row of this model that fits: what the model is ranked by.
        parameters: of the model.
        active_parameters: that one token uses.
        generation: of which it is one; None where no source dates it.
        loss: of its quantization; None where none is lost, or nobody cited measured it.
        loss_known: whether the loss is known (none lost counts as known).
    """

    points: float
    best_points: float
    parameters: int
    active_parameters: int
    generation: Generation | None
    loss: Loss | None
    loss_known: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """One row that fits.

    Attributes:
        model: hub id or path of the model.
        quant: `--quant` of the row; None for the checkpoint as it is published.
        stored: how the weights are stored, for people: `bf16`, `awq`, `Q4_K_M`.
        engine: name of the engine.
        gpus: the cards used, by name in order.
        placement: how the model is spread over them.
        verdict: always `fits`.
        spare_bytes: of the fullest card.
        limits: how far it can be pushed.
        cards: what lies on the cards: one of each pipeline stage, or all.
        merits: what put it there.
        licence: of the model; None where it was not looked up.
        speed: how fast it runs; None where that is not known.
        speed_unknown: why not; empty where it is known.
        cost: what its cards cost; None where no price is known.
        why: one line for a person.
        command: what to type to open it.
        open: makes the plan, whole.
    """

    model: str
    quant: str | None
    stored: str
    engine: str
    gpus: tuple[str, ...]
    placement: Placement
    verdict: Verdict
    spare_bytes: int
    limits: Limits
    cards: tuple[GpuPlan, ...]
    merits: Merits
    licence: str | None
    speed: Speed | None
    speed_unknown: str
    cost: Rent | None
    why: str
    command: str
    open: Callable[[], Plan]

    @property
    def plan(self) -> Plan:
        """The plan that the command makes."""
        return self.open()


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A row that came near.

    Attributes:
        model: hub id or path of the model.
        quant: `--quant` of the row; None as published.
        engine: name of the engine.
        gpus: the cards, by name.
        verdict: of its plan.
        spare_bytes: of the fullest card; negative: lacks so much.
        bound: what kept it out: `memory`, `context`, `licence`, `budget`, `speed`.
        reason: the same for a person.
        mend: what would let it in; empty where nothing is known to.
        command: what to type to open it.
    """

    model: str
    quant: str | None
    engine: str
    gpus: tuple[str, ...]
    verdict: Verdict
    spare_bytes: int
    bound: str
    reason: str
    mend: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pick:
    """The answer.

    Attributes:
        ask: what was asked.
        model: the model that was named; empty where a need was.
        fleet: the cards as a person would type them; empty where cards were what was looked for.
        considered: rows that there were to choose from.
        planned: of which so many were planned; the others belong to models that could not have come before the choices.
        fitting: of which so many fit and keep to every bound.
        choices: the best first; none: see `misses`.
        misses: what came near, and why it is no choice.
        notes: what was left out for want of a fact.
    """

    ask: Ask
    model: str
    fleet: str
    considered: int
    planned: int
    fitting: int
    choices: tuple[Choice, ...]
    misses: tuple[Miss, ...]
    notes: tuple[str, ...]
