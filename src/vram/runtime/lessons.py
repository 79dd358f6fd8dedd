"""What was learned of plans on this machine, put into what is placed: settings that worked, and what was held."""

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from vram.planner.plan import Plan
from vram.planner.reserve import later_bytes, reserved_bytes
from vram.runtime.placing import Placed, replan

if TYPE_CHECKING:
    from vram.runtime.wanted import Wanted


class Lessons(Protocol):
    """What was learned of plans on this machine."""

    def works(self, asked: Plan, wanted: "Wanted") -> "tuple[Wanted, str] | None":
        """The settings that worked where a plan failed, and why."""

    def held(self, plan: Plan, wanted: "Wanted") -> tuple[int, ...] | None:
        """What its engine held of each of its GPUs at most, the worst request included."""


def learned_of(placed: Placed, lessons: Lessons | None) -> Placed:
    """With the settings that worked where its plan failed here before, and why; and with what it was seen to hold."""
    if lessons is None:
        return placed
    if (lesson := lessons.works(placed.plan, placed.wanted)) is not None:
        placed = replace(replan(placed, lesson[0]), note=lesson[1])
    return held_of(placed, lessons)


def held_of(placed: Placed, lessons: Lessons | None) -> Placed:
    """With what its plan was seen to hold here."""
    if lessons is None:
        return placed
    if (held := lessons.held(placed.plan, placed.wanted)) is not None:
        coming = later_bytes(placed.plan)
        # Kept is what was held: where that is more than the plan says at most, it is more than that here, too.
        placed = replace(placed, reserved=tuple(reserved_bytes(g, size, size, coming) for g, size in zip(placed.plan.gpus, held, strict=True)))
    return placed
