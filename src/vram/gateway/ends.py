"""The end of each request, and of each that was turned away: counted, summed for the usage, and handed to whoever logs or traces."""

import time
from typing import TYPE_CHECKING

from vram.gateway.after import After, Ended, TurnedAway
from vram.gateway.record import record
from vram.gateway.tally import Tally
from vram.gateway.usage import UsageWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vram.gateway.assemble import PoolPlan
    from vram.gateway.exchange import Exchange
    from vram.gateway.refusal import Refusal
    from vram.gateway.used import Used


class Ends:
    """Who hears of ends.

    Attributes:
        plans: by pool, as the pools file has them now.
    """

    def __init__(self, tally: Tally, writer: UsageWriter | None, after: After | None) -> None:
        self._tally = tally
        self._writer = writer
        self._after = after
        self.plans: Mapping[str, PoolPlan] = {}

    def ended(self, x: "Exchange", now: float) -> None:
        """A request is over, at a time of the house's clock."""
        used = record(x, now)
        if x.refusal is not None:
            self._tally.refused(x.refusal)
        if self._after is not None:
            self._after.add(self._told(x, used))
        if x.ticket is None:
            # Of a model that is not served, or past a limit: counted and logged, but no usage.
            return
        self._tally.ended(x, used)
        if self._writer is not None:
            self._writer.add(used)

    def _told(self, x: "Exchange", used: "Used") -> Ended:
        plan = self.plans.get(used.pool)
        return Ended(
            used=used,
            path=x.path.decode("ascii", "replace"),
            engine=plan.pool.engine if plan is not None else "",
            stream=x.ask.stream,
            max_tokens=x.ask.max_output_tokens,
            sequences=x.ask.sequences,
            tries=x.tries,
            code=x.refusal.code if x.refusal is not None else "",
            span=x.span,
        )

    def turned_away(self, refusal: "Refusal") -> None:
        """One was answered before it was a request."""
        self._tally.refused(refusal)
        if self._after is not None:
            self._after.add(TurnedAway(time.time(), refusal.code, refusal.status))
