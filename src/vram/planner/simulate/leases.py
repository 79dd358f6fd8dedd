"""Admission by KV leases: the gateway's own decisions (`vram.admission`) before simulated engines.

Every request holds a lease on the KV bytes of its replica. At worst case it counts the prompt and all that the client lets the
answer be; learned, it grows while the answer does, and who is let in is decided by what all of them will hold together, foreseen from
how long answers got so far.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from vram.admission.books import CALM, Books
from vram.admission.decide import SHORTER, Admit, Pool, Refuse, Route, decide
from vram.admission.learn import OutputTokens
from vram.admission.lease import Lease
from vram.admission.line import LOOKED_AT, Line, Shares
from vram.admission.need import Need
from vram.memory.curve import NO_LIMIT, KvCurve, Term
from vram.planner.simulate.policy import Actions, Gate
from vram.planner.simulate.replica import Replica
from vram.planner.simulate.request import End
from vram.planner.simulate.router import Router
from vram.planner.simulate.sequence import Sequence, State
from vram.planner.simulate.spec import ReplicaSpec

SHARE: Final = 0.999
"""The gateway's own: what `CALM` stands for."""
GROWTH_TOKENS: Final = 16
"""The gateway tells its books of so many tokens at once."""
WORST: Final = 1 << 60
"""More tokens than any answer has: an expectation that only a limit bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvLeases:
    """Leases.

    Attributes:
        share: the chance at least with which, at each moment to come, all fits that is let in; None: leases count the worst case.
        queue_seconds: a request that waited so long is refused; None: it waits without end.
    """

    share: float | None = None
    queue_seconds: float | None = None

    @property
    def name(self) -> str:
        """As it is named on the command line."""
        return "kv-worst" if self.share is None else f"kv-learned={self.share:g}"

    def gate(self, router: Router) -> Gate:
        """A gate with the gateway's books and line."""
        return _Leases(self, router)


def curve_of(spec: ReplicaSpec) -> KvCurve:
    """What one sequence takes of a replica, as admission counts it."""
    unit, terms = spec.block_bytes or 1, []
    for g in spec.rule.groups:
        if g.fixed_blocks:
            terms.append(Term(unit * g.tables * g.fixed_blocks, 1, 0, 1))
        if g.block_size:
            most = min(g.most_blocks * g.block_size, NO_LIMIT)
            terms.append(Term(unit * g.tables, g.block_size, most, 0))
    return KvCurve(terms=tuple(terms))


class _Leases(Actions):
    heeds = True

    def __init__(self, policy: KvLeases, router: Router) -> None:
        super().__init__()
        self._policy, self._router = policy, router
        self._pools = [
            Pool(
                pool.name,
                pool.model,
                [
                    Books(
                        f"{pool.name}/{r.index}",
                        curve_of(pool.replica),
                        pool.replica.blocks * (pool.replica.block_bytes or 1),
                        context_tokens=pool.replica.max_model_len,
                        max_sequences=pool.replica.max_num_seqs,
                        owner=r,
                    )
                    for r in replicas
                ],
            )
            for pool, replicas in zip(router.pools, router.replicas, strict=True)
        ]
        if policy.share is not None:
            for pool in self._pools:
                for books in pool.books:
                    books.calm = CALM if policy.share == SHARE else NormalDist().inv_cdf(policy.share)
        self._shares = Shares()
        self._lines: dict[str, Line] = {}
        self._lengths: dict[str, OutputTokens] = {}

    def _line(self, model: str) -> Line:
        if model not in self._lines:
            pools = tuple(self._pools[i] for i in self._router.route(model).pools)
            self._lines[model] = Line(Route(model=model, pools=pools), self._shares)
            self._lengths[model] = OutputTokens()
        return self._lines[model]

    def arrive(self, seq: Sequence, now: float) -> None:
        if not self._router.fit(seq):
            return
        request = seq.request
        line = self._line(request.model)
        expected = WORST if self._policy.share is None else self._lengths[request.model].usual()
        waits = [w for w in (self._policy.queue_seconds, request.deadline_seconds) if w is not None]
        deadline = now + min(waits) if waits else None
        need = Need(
            request.prompt_tokens,
            expected,
            request.max_tokens,
            # At worst case all is held from the start: nothing is lent to others until it is needed.
            streams=self._policy.share is not None,
            priority=-request.priority,
            arrived=now,
            deadline=deadline,
            owner=seq,
            law=None if self._policy.share is None else self._lengths[request.model],
        )
        # Those that wait were asked when room was last made; behind too many of them a new one is not asked either.
        if len(line) < LOOKED_AT:
            if any(2 * b.promised_bytes > b.capacity_bytes for pool in line.route.pools for b in pool.books):
                self._refresh(line.route, now)
            answer = decide(need, line.route, now)
            if isinstance(answer, Admit):
                self._admit(need, answer, now)
                return
            if isinstance(answer, Refuse):
                seq.end = End.TOO_LARGE
                return
        line.join(need)
        self.wake = deadline

    def finish(self, seq: Sequence, now: float) -> None:
        lease = seq.lease
        assert isinstance(lease, Lease)  # noqa: S101  (whoever ends was let in)
        lease.books.release(lease, now)
        self._shares.charge(lease.need.key, lease.byte_seconds(now))
        if seq.end is End.FINISHED:
            self._lengths[seq.request.model].saw(seq.target, cut=lease.most <= seq.target)
        # Lines of several models may wait for the same replicas: whose head is older is asked first.
        for line in sorted((x for x in self._lines.values() if len(x)), key=lambda x: next(iter(x)).arrived):
            self._pump(line, now)

    def grow(self, seq: Sequence, now: float) -> None:
        lease = seq.lease
        assert isinstance(lease, Lease)  # noqa: S101  (the same)
        produced = lease.expected
        beyond = self._lengths[seq.request.model].beyond(produced)
        lease.books.grow(lease, produced, now, expected=beyond)
        self._watch(seq, lease)

    def tick(self, now: float) -> None:
        for line in self._lines.values():
            for need in line.late(now):
                line.leave(need)
                answer = decide(need, line.route, now, last=True)
                if isinstance(answer, Admit):
                    self._admit(need, answer, now)
                else:
                    _seq(need).end = End.EXPIRED
            self._pump(line, now)

    def _pump(self, line: Line, now: float) -> None:
        if not len(line):
            return
        self._refresh(line.route, now)
        line.age(now)
        line.pump(now, lambda need, answer: self._admit(need, answer, now), _refuse)

    def _admit(self, need: Need, answer: Admit, now: float) -> None:
        seq, replica = _seq(need), answer.books.owner
        assert isinstance(replica, Replica)  # noqa: S101  (see __init__)
        lease = answer.books.reserve(need, answer.expected, answer.most, now)
        seq.lease = lease
        if SHORTER in answer.fallback and answer.most < seq.target:
            seq.target, seq.ends_unseen = answer.most, False
        self.to_send.append((seq, replica))
        self._watch(seq, lease)

    def _watch(self, seq: Sequence, lease: Lease) -> None:
        """An answer that will outgrow its lease is watched; of the others nothing would be heard."""
        replica = lease.books.owner
        assert isinstance(replica, Replica)  # noqa: S101  (see __init__)
        if seq.target > lease.expected:
            self.to_watch.append((seq, replica, lease.expected))

    def _refresh(self, route: Route, now: float) -> None:
        """Tell the books how far every answer is, as finely as a gateway does."""
        if self._policy.share is None:
            return
        for pool in route.pools:
            for books in pool.books:
                replica = books.owner
                assert isinstance(replica, Replica)  # noqa: S101  (see __init__)
                step = replica.step_at(now)
                # In one order always: where room ends within a refresh, who is told first gets it.
                for lease in sorted(books.leases, key=lambda x: _seq(x.need).index):
                    seq = _seq(lease.need)
                    produced = step - seq.zero if seq.state is State.DECODE else seq.generated
                    produced = min(produced - produced % GROWTH_TOKENS, lease.expected)
                    if produced > lease.produced:
                        books.grow(lease, produced, now)


def _seq(need: Need) -> Sequence:
    assert isinstance(need.owner, Sequence)  # noqa: S101  (who asks is a sequence)
    return need.owner


def _refuse(need: Need, _: Refuse) -> None:
    _seq(need).end = End.TOO_LARGE
