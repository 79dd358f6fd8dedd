"""Admission by counting: at most so many requests in a replica at once, whatever they are; the others wait in one line, first come first served."""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vram.planner.simulate.policy import Actions, Gate
from vram.planner.simulate.request import End
from vram.planner.simulate.router import Router
from vram.planner.simulate.sequence import Sequence
from vram.planner.simulate.spec import ReplicaSpec

if TYPE_CHECKING:
    from vram.planner.simulate.replica import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """Counts requests, not tokens.

    Attributes:
        most: requests in one replica; None: as many as fit at their longest (the figure that engines print at start).
        queue_seconds: a request that waited so long is refused; None: it waits without end.
    """

    most: int | None = None
    queue_seconds: float | None = None

    @property
    def name(self) -> str:
        """As it is named on the command line."""
        return "requests" if self.most is None else f"requests={self.most}"

    def gate(self, router: Router) -> Gate:
        """A gate with one line."""
        return _Counter(self, router)


def longest_at_once(spec: ReplicaSpec) -> int:
    """Sequences of the greatest length that a replica holds, at least 1."""
    return max(min(spec.blocks // spec.rule.admits(spec.max_model_len), spec.max_num_seqs), 1)


class _Counter(Actions):
    heeds = True

    def __init__(self, policy: RequestCounts, router: Router) -> None:
        super().__init__()
        self._policy, self._router = policy, router
        self._most = [policy.most or longest_at_once(p.replica) for p in router.pools]
        self._held: dict[Replica, int] = {r: 0 for group in router.replicas for r in group}
        self._line: deque[Sequence] = deque()

    def arrive(self, seq: Sequence, now: float) -> None:
        if self._router.fit(seq):
            self._line.append(seq)
            self._pump(now)

    def finish(self, seq: Sequence, now: float) -> None:
        self._held[self._router.replicas[seq.pool][seq.replica]] -= 1
        self._pump(now)

    def tick(self, now: float) -> None:
        self._pump(now)

    def _pump(self, now: float) -> None:
        patience = self._policy.queue_seconds
        while self._line:
            seq = self._line[0]
            due = _deadline(seq, patience)
            if due is not None and now >= due:
                self._line.popleft()
                seq.end = End.EXPIRED
                continue
            free = [r for p in self._router.fit(seq) for r in self._router.replicas[p] if self._held[r] < self._most[p]]
            if not free:
                if due is not None:
                    self.wake = due
                return
            replica = min(free, key=lambda r: (self._held[r], r.pool, r.index))
            self._line.popleft()
            self._held[replica] += 1
            self.to_send.append((seq, replica))


def _deadline(seq: Sequence, patience: float | None) -> float | None:
    waits = [w for w in (patience, seq.request.deadline_seconds) if w is not None]
    return seq.request.arrival_seconds + min(waits) if waits else None
