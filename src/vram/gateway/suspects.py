"""Requests that killed engines, or may have: kept from engines, kept apart from each other, and cleared."""

import logging
from typing import TYPE_CHECKING

from vram.admission.quarantine import Death, Quarantine
from vram.gateway import reasons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vram.gateway.exchange import Exchange
    from vram.gateway.refusal import Refusal
    from vram.gateway.seats import Counter
    from vram.gateway.ticket import Ticket

log = logging.getLogger("vram.gateway")


def _nobody(_: int) -> None:
    """Nobody else lets requests in."""


class Suspects:
    """What a desk knows of them.

    Attributes:
        quarantine: their shapes.
        told: who hears of shapes that are suspected, quarantined or cleared.
    """

    def __init__(self) -> None:
        self.quarantine = Quarantine()
        self.told: Callable[[int], None] = _nobody

    def meet(self, ticket: "Ticket", now: float) -> "Refusal | None":
        """A request came: why it is refused, where it is quarantined; else it is marked where it is a suspect."""
        if self.quarantine.shapes:
            if left := self.quarantine.left(ticket.shape, now):
                return reasons.quarantined(left)
            ticket.need.beside = self.quarantine.beside(ticket.shape)
        return None

    def blame(self, x: "Exchange", ticket: "Ticket", death: Death, now: float) -> "Refusal | None":
        """An engine died serving it. Returns why it must not be tried again, where it must not."""
        need, ask = ticket.need, x.ask
        told = f"{x.path.decode('ascii', 'replace')} of {ask.model}, about {need.prompt_tokens:,} prompt tokens, {need.sequences} sequences, {ask.pictures} pictures"
        if self.quarantine.died(ticket.shape, death, now, told):
            log.warning("%s: two engines died serving it, the last one it alone; it is refused for %.0f s", told, self.quarantine.seconds)
        self.told(ticket.shape)
        need.beside = self.quarantine.beside(ticket.shape)
        left = self.quarantine.left(ticket.shape, now)
        return reasons.quarantined(left) if left else None

    def clear(self, shape: int, counters: "Iterable[Counter]") -> None:
        """A suspect was answered well: nobody like it is a suspect any more, also of those who wait."""
        self.quarantine.clear(shape)
        self.told(shape)
        for counter in counters:
            for need in counter.line:
                if need.beside and need.owner.ticket.shape == shape:
                    need.beside = 0
