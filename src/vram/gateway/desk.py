"""The desk: what admission decides, carried out. It keeps each route's line, each replica's books and meter, and what is learned.

It decides nothing itself: `vram.admission` does, purely. The desk gives it the time, reserves, changes bodies where a decision or a
pool asks for it, sends exchanges off, and releases exactly once when they end.
"""

import logging
from typing import TYPE_CHECKING

from vram.admission.decide import Admit, Refuse, decide
from vram.admission.line import Shares
from vram.admission.need import Need
from vram.gateway import elsewhere, reasons
from vram.gateway.ask import AskError
from vram.gateway.counting import Counting, in_doubt
from vram.gateway.health import FAILURES
from vram.gateway.notes import notes
from vram.gateway.prefix import PREFIX
from vram.gateway.refusal import Refusal, bad_request
from vram.gateway.rewrite import rewritten
from vram.gateway.seats import COUNTED_SECONDS, GROWTH_TOKENS, Counter, Seat
from vram.gateway.suspects import Suspects
from vram.gateway.ticket import Ticket, ticket_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vram.admission.books import Books
    from vram.gateway.bench import Bench
    from vram.gateway.exchange import Exchange

log = logging.getLogger("vram.gateway")


class Desk:
    """Admission for one process.

    Attributes:
        counters: by public model name.
        queue_seconds: how long a request may wait.
        queue_requests: how many may wait for one model.
        output_tokens: most tokens of one answer; None: the model's own limit.
        most_sequences: most sequences of one request.
        affinity: by what requests are brought together (`prefix.affinity_of`).
        suspects: requests that killed engines, or may have.
        counting: prompts that engines count.
    """

    def __init__(
        self,
        counters: dict[str, Counter],
        shares: Shares,
        *,
        queue_seconds: float = 60.0,
        queue_requests: int = 10_000,
        output_tokens: int | None = None,
        most_sequences: int = 64,
        affinity: str = PREFIX,
    ) -> None:
        self.counters = counters
        self.shares = shares
        self.queue_seconds = queue_seconds
        self.queue_requests = queue_requests
        self.output_tokens = output_tokens
        self.most_sequences = most_sequences
        self.affinity = affinity
        self.suspects = Suspects()
        self.counting = Counting()
        # Whether some engine's sequences share: until then nobody looks who begins alike.
        self.sharing = False
        # Lines that are to be asked again, and whether that is going on: an end inside a pump only notes its line, so that a thousand
        # refusals in a row are a loop and no tower of calls.
        self._due: dict[int, Counter] = {}
        # Whether it is a request's turn, where others decide as well.
        self._turn: Callable[[Need], bool] | None = None
        self._pumping = False
        # Lines that a replica's room concerns.
        self._lines: dict[Books, list[Counter]] = {}
        self._benches: list[Bench] = []
        self._listed()

    def _listed(self) -> None:
        self._lines = {}
        for counter in self.counters.values():
            for route in (counter.route, *counter.route.others):
                for pool in route.pools:
                    for books in pool.books:
                        lines = self._lines.setdefault(books, [])
                        if counter not in lines:
                            lines.append(counter)
        self._benches = list(dict.fromkeys(books.owner.bench for books in self._lines if books.owner is not None))

    # --- coming

    def come(self, x: "Exchange") -> None:
        """A request is here: it goes, waits, or is refused."""
        ask = x.ask
        counter = self.counters.get(ask.model)
        if counter is None or (x.key.terms.models is not None and ask.model not in x.key.terms.models):
            # A key learns nothing of models that it may not ask for.
            x.refuse(reasons.no_model(ask.model))
            return
        if ask.sequences > self.most_sequences:
            x.refuse(reasons.too_many_sequences(ask.sequences, self.most_sequences))
            return
        now = x.arrived
        ticket = ticket_of(x, counter, now, output_tokens=self.output_tokens, affinity=self.affinity, sharing=self.sharing)
        if (over := x.key.take(now, ticket.estimated)) is not None:
            x.refuse(reasons.over_limit(over))
            return
        ask.text = b""
        x.ticket = ticket
        if (refusal := self.suspects.meet(ticket, now)) is not None:
            x.refuse(refusal)
            return
        self.go(ticket.need, counter, now)

    def go(self, need: Need, counter: Counter, now: float) -> None:
        """A request goes, waits, or is refused."""
        x: Exchange = need.owner
        if self._is_next(counter):
            self._count(counter, now)
            answer = decide(need, counter.route, now)
            if isinstance(answer, Admit):
                self._admit(need, answer)
                return
            if isinstance(answer, Refuse):
                self._refuse(need, answer)
                return
        elif (waiting := counter.waiting()) >= self.queue_requests:
            x.refuse(reasons.busy(f"{waiting:,} requests wait for {x.ask.model!r} already"))
            return
        need.deadline = now + self.queue_seconds if x.deadline is None else min(x.deadline, now + self.queue_seconds)
        counter.line.join(need)
        if len(counter.line) > 1:
            self._pump((counter,), now)

    def _is_next(self, counter: Counter) -> bool:
        """Whether one who comes now comes before all who wait."""
        return not len(counter.line)

    def _pump(self, counters: "Iterable[Counter]", now: float) -> None:
        """Ask the lines again whether somebody can go."""
        for counter in counters:
            if len(counter.line):
                self._due[id(counter)] = counter
        if self._pumping or not self._due:
            return
        self._pumping = True
        try:
            while self._due:
                _, counter = self._due.popitem()
                self._count(counter, now)
                counter.line.pump(now, self._admit, self._refuse, self._turn)
        finally:
            self._pumping = False

    def _admit(self, need: Need, answer: Admit) -> None:
        x: Exchange = need.owner
        ticket = x.ticket
        if ticket is None or x.over:
            return
        now = x.house.now()
        seat: Seat = answer.books.owner
        lease = answer.books.reserve(need, answer.expected, answer.most, now)
        ticket.answer, ticket.lease, ticket.seat = answer, lease, seat
        if need.affinity:
            seat.bench.placed(by_key=answer.by_key)
        if seat.meter is not None:
            seat.meter.start(x, int(now * 1e9), lease.held_bytes)
        if not x.tries:
            seat.bench.retries.came()
        x.grows_at = GROWTH_TOKENS * need.sequences
        try:
            body = rewritten(x, answer, self.output_tokens)
        except AskError as e:
            x.refuse(bad_request(e.message, e.code))
            return
        x.send(seat.replica, notes(answer, need, lease.promised_bytes, now - x.arrived), body)

    def _refuse(self, need: Need, answer: Refuse) -> None:
        x: Exchange = need.owner
        if not answer.down and x.ticket is not None and in_doubt(x.ask, x.ticket, answer, x.house.now()):
            x.house.spawn(self._counted(x, need, answer))
            return
        x.refuse((self._away(x.ask.model) or reasons.no_replica(x.ask.model)) if answer.down else reasons.too_long(x.ask.model, answer))

    def _away(self, model: str) -> Refusal | None:
        """Why nothing of its route is there, in the words of whoever runs the engines; None: nobody said so, or something is there."""
        counter = self.counters.get(model)
        found: Refusal | None = None
        if counter is not None:
            for pool in counter.route.pools:
                for books in pool.books:
                    seat: Seat = books.owner
                    refusal = seat.replica.health.refusal
                    if books.usable or (books.coming and refusal is None):
                        # There is somebody to wait for.
                        return None
                    found = found or refusal
        return found

    async def _counted(self, x: "Exchange", need: Need, answer: Refuse) -> None:
        """It is counted first, and decided anew."""
        ticket = x.ticket
        if ticket is None:
            return
        route = ticket.counter.route
        seats: list[Seat] = [books.owner for pool in route.pools for books in pool.books if books.usable]
        tokens = await self.counting.tokens(x, seats[:3])
        if x.over or x.ticket is not ticket:
            return
        ticket.counted = True
        if tokens is None:
            self._refuse(need, answer)
        elif x.house.desk is not self:
            x.refuse(reasons.busy("the pools file was read again meanwhile"))
        else:
            ticket.counter.prompts.saw(x.ask.prompt_bytes, tokens)
            need.prompt_tokens = tokens
            self.go(need, ticket.counter, x.house.now())

    # --- going on

    def grow(self, x: "Exchange") -> None:
        """A stream made some more tokens."""
        ticket = x.ticket
        if ticket is None or ticket.lease is None or ticket.seat is None:
            return
        lease = ticket.lease
        now = x.house.now()
        # Sequences of one request take turns in its stream.
        produced = min(int(x.chunks * ticket.counter.events.rate / ticket.need.sequences), lease.most)
        expected = min(ticket.counter.outputs.beyond(produced), lease.most) if produced > lease.expected else None
        before = lease.held_bytes
        lease.books.grow(lease, produced, now, expected)
        x.grows_at = x.chunks + GROWTH_TOKENS * ticket.need.sequences
        if lease.held_bytes != before and ticket.seat.meter is not None:
            ticket.seat.meter.resize(x, int(now * 1e9), lease.paid_bytes)
        # The line is asked again at the next end, or within a second: not here, where leases may be being counted.
        lease.books.trust(lease)

    def save(self, seat: Seat, used_bytes: int, running: int, now: float) -> None:
        """An engine said what its sequences hold together: each pays for its part of that, and who waits may come."""
        if not seat.books.save(used_bytes, running, now):
            return
        self.sharing = True
        if seat.meter is not None:
            for lease in seat.books.leases:
                x: Exchange | None = lease.need.owner
                if x is not None:
                    seat.meter.resize(x, int(now * 1e9), lease.paid_bytes)
        self._pump(self._lines.get(seat.books, ()), now)

    def _count(self, counter: Counter, now: float) -> None:
        """Bring the books up to date with what the streams on this route's replicas made since: decisions go by them."""
        for pool in counter.route.pools:
            for books in pool.books:
                if now - books.counted_at < COUNTED_SECONDS:
                    continue
                books.counted_at = now
                for lease in books.leases:
                    x: Exchange | None = lease.need.owner
                    if x is not None and x.chunks:
                        self.grow(x)

    # --- ends

    def leave(self, x: "Exchange") -> None:
        """An exchange is over: nothing of it stays."""
        ticket = x.ticket
        if ticket is None:
            return
        counter = ticket.counter
        # No circle of references: a request's memory is free when it is over, not when the collector comes.
        ticket.need.owner = None
        if ticket.lease is None:
            counter.line.leave(ticket.need)
            x.key.settle(ticket.estimated, 0, 0)
            # Whoever it stood in front of may go now.
            self._pump((counter,), x.house.now())
            return
        if ticket.seat is not None and (x.outcome == "ok" or x.outcome == "engine_error" or x.outcome == "client_left"):  # noqa: PLR1714  (once a request)
            ticket.seat.saw(x, ticket.need, x.house.now())
        self._release(x, ticket)
        if x.outcome == "ok":
            counter.learn(x, ticket)
            if ticket.need.beside:
                self.suspects.clear(ticket.shape, self.counters.values())
            if ticket.seat is not None:
                ticket.seat.replica.health.good(x.house.now())
        else:
            # How long it would have got nobody knows: at least so long.
            counter.outputs.broke_off(ticket.lease.produced)
        used = ticket.estimated if x.prompt_tokens < 0 else x.prompt_tokens + max(x.completion_tokens, 0)
        x.key.settle(ticket.estimated, used, ticket.held[1])

    def _release(self, x: "Exchange", ticket: Ticket, *, pump: bool = True) -> None:
        """Give back what it holds, and let those come who wait for it (`pump`: now)."""
        lease, seat = ticket.lease, ticket.seat
        if lease is None or seat is None:
            return
        now = x.house.now()
        if lease.books.release(lease, now):
            self.shares.charge(ticket.need.key, lease.byte_seconds(now))
            ticket.saved += lease.saved_byte_seconds(now)
            if seat.meter is not None:
                held = seat.meter.end(x, int(now * 1e9))
                ticket.held = (ticket.held[0] + held.kv_byte_ns, ticket.held[1] + held.nanodollars)
            else:
                ticket.held = (ticket.held[0] + int(lease.byte_seconds(now) * 1e9), ticket.held[1])
        if pump:
            self._pump(self._lines.get(lease.books, ()), now)

    def failed(self, x: "Exchange", *, died: bool = False, refused: bool = False) -> Refusal | None:
        """Its replica failed it; `died`: it closed while it served; `refused`: no connection came about.

        Returns why it must not be tried again, where it must not.
        """
        ticket = x.ticket
        if ticket is None or ticket.seat is None:
            return None
        now = x.house.now()
        seat = ticket.seat
        death = seat.dies(now) if died and self.suspects.quarantine.seconds > 0 else None
        # Asked only where it decides: once failures in a row are enough.
        others = not refused and seat.replica.health.failures + 1 >= FAILURES and self.served_others(seat, ticket.client)
        if seat.failed(ticket, now, refused=refused, others=others):
            self.refresh()
        return self.suspects.blame(x, ticket, death, now) if death is not None else None

    def served_others(self, seat: Seat, client: int) -> bool:
        """Whether a replica answered anybody but this client of late."""
        return seat.replica.outcomes.served_others(client)

    def has_elsewhere(self, x: "Exchange") -> bool:
        """Whether some other replica might take it."""
        return elsewhere.exists(x.ticket)

    def elsewhere(self, x: "Exchange") -> bool:
        """Before its first byte: release it there, and send it to another replica with room, or make it wait in front of its key's line."""
        ticket = x.ticket
        if ticket is None or ticket.answer is None or not elsewhere.take(ticket):
            return False
        mine, need, now = ticket.answer.books, ticket.need, x.house.now()
        if self.counters.get(x.ask.model) is not ticket.counter:
            # The file serves its model no more: there is no line that it could wait in.
            return False
        # It stands in line before its room is given back, so that nobody who came later takes that from it.
        ticket.counter.line.join(need, first=True)
        self._release(x, ticket, pump=False)
        ticket.lease = None
        x.replica = None
        answer = elsewhere.decided(need, ticket.counter.route, mine, now)
        if isinstance(answer, Refuse):
            ticket.counter.line.leave(need)
            self._pump(self._lines.get(mine, ()), now)
            return False
        if isinstance(answer, Admit):
            ticket.counter.line.leave(need)
            self._admit(need, answer)
        elif need.deadline is None:
            need.deadline = now + self.queue_seconds
        self._pump(self._lines.get(mine, ()), now)
        return True

    def gone(self, x: "Exchange") -> None:
        """Its model is no longer served."""
        x.refuse(reasons.no_longer(x.ask.model))

    # --- time

    def refresh(self) -> None:
        """Take over which replicas are usable; whoever waits is asked again."""
        for bench in self._benches:
            bench.spare()
        for books in self._lines:
            seat: Seat = books.owner
            books.usable = seat.replica.health.usable()
            books.coming = seat.replica.health.coming

    def _judge(self, bench: "Bench", now: float) -> bool:
        """Take out replicas that are unlike the others of their pool. Returns whether there are any."""
        told = bench.judge([seat.sums(now) for seat in bench.seats], now) if bench.move_on(now) else []
        for text in told:
            log.warning("%s", text)
        return bool(told)

    def tick(self, now: float) -> None:
        """About once a second: who waited too long gets a last chance, then an answer."""
        self.refresh()
        self.suspects.quarantine.tick(now)
        for bench in self._benches:
            bench.retries.second()
            if self._judge(bench, now):
                self.refresh()
        for counter in self.counters.values():
            line = counter.line
            if not len(line):
                continue
            for need in line.late(now):
                line.leave(need)
                answer = decide(need, counter.route, now, last=True)
                if isinstance(answer, Admit):
                    self._admit(need, answer)
                elif isinstance(answer, Refuse):
                    self._refuse(need, answer)
                else:
                    x: Exchange = need.owner
                    x.refuse(
                        self._away(x.ask.model) or reasons.busy(f"no room for it in {now - need.arrived:.0f} s; {len(line)} more wait for {x.ask.model!r}")
                    )
            line.age(now)
        self._pump(self.counters.values(), now)
