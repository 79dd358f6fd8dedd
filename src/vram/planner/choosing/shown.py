"""One row of a table as it is shown: what lies on each card, the verdict and the limits. Taken from the plan that its command makes."""

from dataclasses import dataclass

from vram.memory.placement import Placement
from vram.planner.plan import GpuPlan, Limits, Plan, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a row says.

    Attributes:
        placement: how the model is spread.
        verdict: whether it fits.
        spare_bytes: of the fullest card; negative when so much is missing.
        limits: how far it can be pushed.
        cards: what lies on each card.
    """

    placement: Placement
    verdict: Verdict
    spare_bytes: int
    limits: Limits
    cards: tuple[GpuPlan, ...]

    @classmethod
    def of(cls, plan: Plan) -> "Shown":
        """The same of a plan."""
        return cls(placement=plan.placement, verdict=plan.verdict, spare_bytes=plan.spare_bytes, limits=plan.limits, cards=plan.gpus)
