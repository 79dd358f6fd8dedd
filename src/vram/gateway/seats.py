"""What the desk holds: a seat for each replica, a counter for each public model. No decision is made here."""

from typing import TYPE_CHECKING, Final

from vram.admission.decide import Pool, Route
from vram.admission.learn import EventTokens, OutputTokens, PromptTokens
from vram.admission.line import Line, Shares
from vram.admission.need import Need
from vram.admission.quarantine import ONE_DEATH_SECONDS, Death

if TYPE_CHECKING:
    from vram.admission.books import Books
    from vram.costs.vram_time import Meter
    from vram.gateway.bench import Bench
    from vram.gateway.exchange import Exchange
    from vram.gateway.outcomes import Sums
    from vram.gateway.replica import Replica
    from vram.gateway.ticket import Ticket

GROWTH_TOKENS: Final = 16
"""How often the books of a stream are brought up to date, in tokens of each of its sequences."""
COUNTED_SECONDS: Final = 0.02
"""How old the books may be when somebody is let in by them: a step or two of an engine."""
WAITED_SECONDS: Final = 5.0
"""From so long on a first token that did not come counts as one that took so long: of an engine that hangs none ever comes."""
UNKNOWN_TOKENS: Final = 2**40
"""Stands for a capacity that nobody knows: more than any cache holds, in tokens or bytes."""


class Seat:
    """A replica at the desk: its books' owner, with what the money needs, and its last death."""

    __slots__ = ("bench", "books", "death", "engine", "meter", "pool", "replica")

    def __init__(self, replica: "Replica", books: "Books", meter: "Meter | None", pool: Pool, bench: "Bench") -> None:
        self.replica = replica
        self.books = books
        self.meter = meter
        self.pool = pool
        self.bench = bench
        self.engine = ""
        """Its kind, as the pools file has it."""
        self.death: Death | None = None

    def dies(self, now: float) -> Death:
        """An answer of its engine broke off: with others at the same moment that is one death, of which all who are here are victims.

        So it is with an engine that answered nothing well since: it may be broken, whoever asks.
        """
        death, good = self.death, self.replica.health.last_good
        if death is None or (now - death.at > ONE_DEATH_SECONDS and good is not None and good > death.at):
            here = [lease.need.owner.ticket for lease in self.books.leases if lease.need.owner is not None]
            suspects = {ticket.shape for ticket in here if ticket is not None and ticket.need.beside}
            death = self.death = Death(now, len(here), len(suspects))
        return death

    def saw(self, x: "Exchange", need: Need, now: float) -> None:
        """A request that it served is over, and was not failed."""
        sums = self.replica.outcomes.now
        if x.outcome == "engine_error" and x.status >= 500:
            ticket = x.ticket
            sums.fail(ticket.client if ticket is not None else 0, ticket.group if ticket is not None else 0)
            return
        if x.outcome != "client_left":
            ticket = x.ticket
            sums.answer(ticket.client if ticket is not None else 0)
        self._first(x, need, now, sums)

    def failed(self, ticket: "Ticket", now: float, *, refused: bool, others: bool) -> bool:
        """It failed a request; `refused`: no connection came about; `others`: other clients were answered of late.

        Returns whether that changes whether it may be asked.
        """
        replica = self.replica
        replica.failed += 1
        replica.outcomes.now.fail(ticket.client, ticket.group)
        why = "it cannot be reached" if refused else "answers broke off"
        return replica.health.bad(now, why, refused=refused, client=ticket.client, group=ticket.group, others=others)

    def sums(self, now: float) -> "Sums":
        """What its requests came to of late, those that wait for their first tokens among them."""
        sums = self.replica.outcomes.sums()
        for lease in self.books.leases:
            x: Exchange | None = lease.need.owner
            if x is not None and not x.first:
                self._first(x, lease.need, now, sums)
        return sums

    def _first(self, x: "Exchange", need: Need, now: float, sums: "Sums") -> None:
        # Of one that was tried again it is not known here when it was sent the last time.
        if not need.streams or x.tries != 1 or x.status >= 400:
            return
        seconds = (x.first or now) - x.sent
        if x.first or seconds >= WAITED_SECONDS:
            sums.first(need.prompt_tokens, seconds)

    @property
    def capacity(self) -> int | None:
        """What its KV cache holds, in the books' unit; None where neither a plan nor the pools file nor its engine says it."""
        return self.books.capacity_bytes if self.books.capacity_bytes < UNKNOWN_TOKENS else None


class Counter:
    """What the desk knows of one public model: its route, its line, and what was learned of its requests."""

    __slots__ = ("events", "line", "outputs", "prompts", "route", "spreads")

    def __init__(self, route: Route, shares: Shares) -> None:
        self.route = route
        self.line = Line(route, shares)
        self.prompts = PromptTokens()
        self.outputs = OutputTokens()
        self.events = EventTokens()
        # Where there is one replica only, no key is made: there is nothing to choose.
        self.spreads = any(len(pool.books) > 1 for one in (route, *route.others) for pool in one.pools)

    def waiting(self) -> int:
        """How many wait for it."""
        return len(self.line)

    def learn(self, x: "Exchange", ticket: "Ticket") -> None:
        """A request ended well: what its engine counted teaches for the next ones."""
        if x.prompt_tokens < 0:
            return
        ask = x.ask
        if ask.prompts == 1 and not ask.pictures and ask.prompt_tokens is None:
            self.prompts.saw(ask.prompt_bytes, x.prompt_tokens)
        # Of several sequences vLLM counts all, llama.cpp one: they teach nothing of lengths.
        if x.completion_tokens > 0 and ask.sequences == 1:
            self.outputs.saw(x.completion_tokens, cut=ticket.lease is not None and x.completion_tokens >= ticket.lease.most)
            if ask.stream and x.chunks >= GROWTH_TOKENS:
                self.events.saw(x.completion_tokens, x.chunks)
