"""One way to serve a model: the GPUs, placement and settings of a replica, with what it costs. How many of them is the search's to find."""

from dataclasses import dataclass

from vram.planner.plan import Plan
from vram.planner.simulate.spec import ReplicaSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A replica that could be had.

    Attributes:
        gpu: its GPUs as people type them: `2x L40S 48GB`.
        gpus: how many.
        engine: name of the engine, with its version where one was named.
        plan: its memory.
        spec: what a replay needs of it.
        nanodollars_per_hour: what it costs, all its GPUs together: whole, so that sums and ties are exact.
        told: its settings where they differ from the engine's defaults, in words; empty: all defaults.
    """

    gpu: str
    gpus: int
    engine: str
    plan: Plan | None
    spec: ReplicaSpec
    nanodollars_per_hour: int
    told: str = ""

    @property
    def usd_per_hour(self) -> float:
        """For people."""
        return self.nanodollars_per_hour / 1e9

    @property
    def kind(self) -> str:
        """Its GPUs without their number: what a choice is between."""
        return self.plan.fleet.gpus[0].gpu.name if self.plan is not None else self.gpu

    @property
    def name(self) -> str:
        """In one line."""
        return f"{self.gpu}{f', {self.told}' if self.told else ''}"
