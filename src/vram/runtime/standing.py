"""What a unit that takes no requests is to its gateway, and so to administrators and `vram top`."""

from typing import TYPE_CHECKING, Final

from vram.gateway.health import State as Away
from vram.runtime.unit import State

if TYPE_CHECKING:
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


def standing(unit: "Unit") -> tuple[Away, str]:
    """What it is instead of up, and why."""
    state, why = _AWAY[unit.state]
    return state, unit.why or why
