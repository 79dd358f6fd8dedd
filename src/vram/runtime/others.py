"""What other processes hold of the GPUs while ours run: cards that lose memory to them have less for our models, and get it back."""

from collections.abc import Mapping, Sequence
from typing import Final

from vram.errors import HardwareNotFoundError
from vram.hardware.fleet import Fleet, Origin

SLACK_SHARE: Final = 0.03
SLACK_BYTES: Final = 512 * 2**20
"""What drivers count and plans do not, and what plans are off by: below that nobody else is seen."""


def used_now() -> dict[str, int]:
    """Used bytes of each GPU by its identifier, as the driver says now; empty where it does not answer."""
    from vram.hardware.probe import detect  # noqa: PLC0415  (drivers are asked only when needed)

    try:
        return {g.identifier: g.used_bytes for g in detect().gpus if g.identifier}
    except HardwareNotFoundError:
        return {}


def watchable(fleet: Fleet) -> bool:
    """Whether the driver can be asked about these GPUs again. Main memory is not watched: the system takes and gives of it all the time."""
    return fleet.origin is Origin.DETECTED and all(g.identifier and g.gpu.vendor != "host" for g in fleet.gpus)


def ours(fleet: Fleet, used: Mapping[str, int], held: Sequence[int]) -> tuple[int, ...]:
    """Bytes of each GPU that are ours to use.

    Args:
        fleet: the GPUs as they were planned on, a budget included.
        used: what the driver says is used now, by identifier; a GPU that it does not name is as it was.
        held: what our models hold by their plans, of each GPU.
    """
    found = []
    for g, mine in zip(fleet.gpus, held, strict=True):
        slack = max(SLACK_BYTES, int(g.gpu.capacity_bytes * SLACK_SHARE))
        theirs = max(used.get(g.identifier, 0) - mine - slack, 0)
        found.append(max(min(g.free_bytes, g.gpu.capacity_bytes - theirs), 0))
    return tuple(found)
