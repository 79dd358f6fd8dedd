"""What a unit that takes no requests is to its gateway, and so to administrators and `vram top`."""

from typing import TYPE_CHECKING, Final

from vram.gateway.health import State as Away
from vram.gateway.reasons import failed_often, never_fits, not_loaded, stopped
from vram.runtime.unit import State

if TYPE_CHECKING:
    from vram.gateway.refusal import Refusal
    from vram.runtime.unit import Unit

_AWAY: Final = {
    State.PLANNED: (Away.LOADING, "its turn to start comes"),
    State.STARTING: (Away.LOADING, "its engine starts"),
    State.PROVING: (Away.LOADING, "put to the most that its plan admits"),
    State.READY: (Away.DRAINING, "makes room"),
    State.WAITING: (Away.OUT, "its engine ended and is started again"),
    State.ENDING: (Away.DRAINING, "makes room"),
    State.ASLEEP: (Away.ASLEEP, "loaded when it is asked for"),
    State.STOPPED: (Away.STOPPED, "by hand"),
    State.OUT: (Away.OUT, "its engine failed too often"),
}


def refusal_of(unit: "Unit", *, never: bool, failing: bool = False) -> "Refusal | None":
    """What clients are told of a unit that nobody starts for them; None: they wait for it, or are told that no replica is up.

    Args:
        unit: the unit.
        never: whether it was found to fit beside what must stay in no way.
        failing: whether it could not be loaded when that was tried last.
    """
    if unit.state is State.STOPPED:
        return stopped(unit.name)
    if unit.state is State.OUT:
        return failed_often(unit.name)
    if never:
        return never_fits(unit.name, unit.why)
    return not_loaded(unit.name) if failing else None


def standing(unit: "Unit") -> tuple[Away, str]:
    """What it is instead of up, and why."""
    state, why = _AWAY[unit.state]
    return state, unit.why or why
