"""A worker's end of what ties it to the others: it asks the supervisor, which asks all, and answers what the supervisor asks."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vram.errors import UsageError, VramError
from vram.gateway import admin_pages
from vram.gateway.exposition import metrics
from vram.gateway.planned import planned_of

if TYPE_CHECKING:
    from vram.gateway.assemble import PoolPlan
    from vram.gateway.channel import Channel
    from vram.gateway.server import Gateway
    from vram.readers.pools import PoolsFile


class Crew:
    """All workers, as one of them sees them.

    Attributes:
        number: this worker's.
        planned: the pools file and its plans, as the supervisor read them.
        gateway: this worker's gateway, once there is one.
        stops: set when this worker is to end.
    """

    def __init__(self, number: int, planned: "tuple[PoolsFile, dict[str, PoolPlan]]") -> None:
        self.number = number
        self.planned = planned
        self.gateway: Gateway
        self.channel: Channel
        self.stops = asyncio.Event()

    async def ask(self, what: str, asked: Any = None) -> Any:
        """What all workers say together.

        Raises:
            VramError: no answer came.
        """
        # A file that is read anew may have to be planned with a network.
        return await self.channel.ask(what, asked, seconds=120 if what == "reload" else 5)

    def suspect(self, shape: int) -> None:
        """Tell the others what is known of a shape of requests whose engine died."""
        self.gateway.house.spawn(self._tell(self.gateway.assembled.desk.suspects.quarantine.told(shape)))

    async def _tell(self, asked: Any) -> None:
        # Whoever does not hear of it finds out for itself.
        with suppress(VramError):
            await self.ask("suspect", asked)

    async def answer(self, what: str, asked: Any) -> Any:
        """What this worker says for itself."""
        gateway = self.gateway
        if what == "take":
            await gateway.take(*planned_of(asked))
            return None
        if what == "stop":
            self.stops.set()
            return None
        gateway.options.ledger.look()
        if what == "refresh":
            gateway.options.ledger.tick()
            gateway.assembled.desk.refresh()
            return None
        if what == "suspect":
            gateway.assembled.desk.suspects.quarantine.hear(*asked)
            return None
        if what == "clear":
            shapes = gateway.assembled.desk.suspects.quarantine.shapes
            cleared = len(shapes)
            shapes.clear()
            return cleared
        if what == "quarantine":
            return admin_pages.quarantine(gateway, asked["limit"])
        if what == "waiting":
            return {name: len(counter.line) for name, counter in gateway.assembled.desk.counters.items()}
        if what == "metrics":
            return metrics(gateway).decode()
        if what == "pools":
            return admin_pages.pools(gateway)
        if what == "replicas":
            return admin_pages.replicas(gateway)
        if what == "leases":
            return admin_pages.leases(gateway, asked["limit"])
        if what == "queue":
            return admin_pages.queue(gateway, asked["limit"])
        if what == "worker":
            return admin_pages.worker(gateway, self.number)
        raise UsageError(f"nothing is known of {what!r}", hint="are the processes of one version?")
