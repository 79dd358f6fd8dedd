"""Who waits for a route, and in which order they are asked: by priority, between keys by what each used, within a key by arrival.

What a key used is KV-byte-seconds: a key that holds much for long waits for those that hold little. Small requests may pass one that
does not fit yet, but only for a bounded time: then a replica is kept for it (`Books.reserved`) until it fits, and for another bounded
time only those pass that it need not wait for. Waiting raises priority, a step each `AGING_SECONDS`, so no stream of important requests
starves a humble one for ever. It knows neither sockets nor timers.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from vram.admission.decide import WAIT, Admit, Refuse, Route, decide
from vram.admission.need import Need

if TYPE_CHECKING:
    from vram.admission.books import Books

AGING_SECONDS = 10.0
"""After so long a request that does not fit gets a replica kept for it, and its priority rises a step."""
LOOKED_AT = 16
"""Most requests that are asked in one pump, so that a long line costs no more than a short one."""


class Shares:
    """KV-byte-seconds that each key used: the currency of fairness, shared by all lines."""

    __slots__ = ("_floor", "_used")

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._floor = 0.0

    def used(self, key: str) -> float:
        """What counts against the key. A key that was away begins with the least of those that wait: absence saves nothing up."""
        return max(self._used.get(key, 0.0), self._floor)

    def charge(self, key: str, byte_seconds: float) -> None:
        """The key used so much."""
        self._used[key] = self.used(key) + byte_seconds

    def raise_floor(self, least: float) -> None:
        """The least that any waiting key used."""
        if least > self._floor:
            self._floor = least
            if len(self._used) > 10_000:
                self._used = {k: v for k, v in self._used.items() if v > least}


class Line:
    """Requests that wait for one route."""

    __slots__ = ("_bands", "_kept", "_places", "route", "shares")

    def __init__(self, route: Route, shares: Shares) -> None:
        self.route = route
        self.shares = shares
        # priority -> key -> its requests, oldest first.
        self._bands: dict[int, dict[str, deque[Need]]] = {}
        self._places: dict[Need, int] = {}
        self._kept: tuple[Need, Books] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Need]:
        """All that wait, in the order in which they came."""
        return iter(self._places)

    def __contains__(self, need: Need) -> bool:
        return need in self._places

    def priority(self, need: Need) -> int:
        """That of one who waits: it rises with the time."""
        return self._places[need]

    def join(self, need: Need, *, first: bool = False) -> None:
        """One more waits; `first` among its key's, where it was in already and its replica failed it."""
        self._places[need] = need.priority
        queue = self._bands.setdefault(need.priority, {}).setdefault(need.key, deque())
        if first:
            queue.appendleft(need)
        else:
            queue.append(need)

    def leave(self, need: Need) -> bool:
        """One waits no more: let in, gone, or too late. Returns whether it was waiting."""
        priority = self._places.pop(need, None)
        if priority is None:
            return False
        self._remove(need, priority)
        if self._kept is not None and self._kept[0] is need:
            if self._kept[1].reserved is need:
                self._kept[1].reserved = None
            self._kept = None
        return True

    def _remove(self, need: Need, priority: int) -> None:
        band = self._bands[priority]
        queue = band[need.key]
        if queue[0] is need:
            queue.popleft()
        else:
            queue.remove(need)
        if not queue:
            del band[need.key]
            if not band:
                del self._bands[priority]

    def in_order(self) -> Iterator[Need]:
        """All that wait, the next one first."""
        for priority in sorted(self._bands, reverse=True):
            band = self._bands[priority]
            heads: list[tuple[float, float, int, str]] = []
            queues = {key: iter(queue) for key, queue in band.items()}
            for i, (key, queue) in enumerate(band.items()):
                insort(heads, (self.shares.used(key), queue[0].arrived, i, key))
            while heads:
                used, _, i, key = heads.pop(0)
                need = next(queues[key], None)
                if need is None:
                    continue
                yield need
                # The next of the same key stands behind a head of every other key that used no more than it would have then.
                insort(heads, (used + 1.0, need.arrived, i, key))

    def least(self) -> float:
        """The least that any key used of those that wait; of many, of the first of each priority."""
        return min(self.shares.used(key) for band in self._bands.values() for key in islice(band, 64))

    def pump(
        self,
        now: float,
        admit: Callable[[Need, Admit], None],
        refuse: Callable[[Need, Refuse], None],
        turn: Callable[[Need], bool] | None = None,
    ) -> int:
        """Ask those in front whether they can go now, and let go who can; returns how many went (or were refused for ever).

        `admit` reserves at once: the next is asked with the books after it. Where somebody in another line comes before one, `turn`
        says so: then neither it nor who stands behind it is asked.
        """
        went = 0
        blocked: list[Need] = []
        if self._bands:
            self.shares.raise_floor(self.least())
        while True:
            for need in islice(self.in_order(), len(blocked) + LOOKED_AT):
                if need in blocked:
                    continue
                if len(blocked) >= LOOKED_AT:
                    return went
                if turn is not None and not turn(need):
                    return went
                answer = decide(need, self.route, now)
                if answer is WAIT:
                    blocked.append(need)
                    self._keep(need, now)
                    continue
                self.leave(need)
                went += 1
                if isinstance(answer, Admit):
                    for other in blocked:
                        other.passed += 1
                    admit(need, answer)
                elif isinstance(answer, Refuse):
                    refuse(need, answer)
                break
            else:
                return went

    def late(self, now: float) -> list[Need]:
        """Those whose deadline has come; they still stand in line."""
        return [need for need in self if need.deadline is not None and need.deadline <= now]

    def age(self, now: float) -> None:
        """Called now and then: who waited long rises a step."""
        for priority in sorted(self._bands, reverse=True):
            for queue in list(self._bands.get(priority, {}).values()):
                while queue and now - queue[0].arrived >= AGING_SECONDS * (priority - queue[0].priority + 1):
                    need = queue[0]
                    self._remove(need, priority)
                    self._places[need] = priority + 1
                    self._bands.setdefault(priority + 1, {}).setdefault(need.key, deque()).append(need)

    def _keep(self, need: Need, now: float) -> None:
        """Keep a replica for one that waited too long; one at a time in a line."""
        if self._kept is not None:
            waiting, at = self._kept
            if at.reserved is waiting:
                if at.usable:
                    return
                # It went out of service: who waits for it may fit elsewhere.
                at.reserved = None
            self._kept = None
        if now - need.arrived < AGING_SECONDS:
            return
        fitting = [
            books
            for pool in (self.route.pools if self.route.larger_pool else self.route.pools[:1])
            for books in pool.books
            if books.usable and books.reserved is None and books.ever(need, min(need.expected_tokens, max(books.context_tokens - need.prompt_tokens, 0)))
        ]
        if fitting:
            books = min(fitting, key=lambda b: b.promised_bytes - b.capacity_bytes)
            books.reserved, books.reserved_at = need, now
            self._kept = need, books
