"""What other processes hold of the GPUs while ours run: cards that lose memory to them have less for our models, and get it back."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from vram.errors import HardwareNotFoundError
from vram.hardware.fleet import Fleet, Origin
from vram.hardware.remote import REMOTE_VENDOR
from vram.units import gib

if TYPE_CHECKING:
    from vram.runtime.residence import Residence

LOOK_SECONDS: Final = 10.0
"""How often the driver is asked."""

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
    """Whether the driver can be asked about these GPUs again.

    Main memory is not watched: the system takes and gives of it all the time. Nor is what RPC servers show: while an engine is there, they answer nobody.
    Beside those the GPUs of this machine are.
    """
    here = [g for g in fleet.gpus if g.gpu.vendor != REMOTE_VENDOR]
    return bool(here) and fleet.origin is Origin.DETECTED and all(g.identifier and g.gpu.vendor != "host" for g in here)


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


async def watch(fleet: Fleet, residence: "Residence", say: Callable[[str], None]) -> None:
    """Until cancelled: other programs' memory is theirs, and what is ours shrinks and grows with it."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        used = await asyncio.to_thread(used_now)
        held = residence.held()
        if not used or held is None:
            continue
        found = ours(fleet, used, held)
        if found != residence.capacity:
            say(f"for these models there are now {', '.join(gib(b) for b in found)}: other programs hold the rest")
            residence.capacity = found
