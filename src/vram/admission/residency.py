"""Which models stay loaded on one machine: a pure function of what is resident, what is wanted and the time.

A model that was loaded has a *turn*: it stays for a multiple of what its loading took, so that two models that are asked for in turn do
not spend their time being loaded. Requests of one model are thus served together, whatever order they came in. When its turn is over it
makes room for whoever waits: it takes no new requests, ends what it runs, and goes; nothing is ever cut off. One that has nothing to do
goes before its turn is over, after lingering for the next request: as long as loading it again would take where that request is likely
to come meanwhile (the answer to the ski-rental problem: never more than twice what foresight would have lost), shortly where it is not.

Who waits is served in the order of priority, and waiting raises that, a step each `AGING_SECONDS`: no model waits for ever for others'
turns. Among those that may go, those go whose reloading is expected to cost the least (requests a second x seconds to load, for the
bytes that it gives back), as web caches weigh what they keep (GreedyDual-Size-Frequency: Cherkasova, HPL-98-69R1, 1998).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

AGING_SECONDS: Final = 30.0
"""Waiting so long raises the priority of a wanted model a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRules:
    """How long a loaded model may stay.

    Attributes:
        turn_loads: a turn is so many times as long as the loading was: with 4, a fifth of the time goes to loading where all are always wanted.
        least_seconds: no turn is shorter.
        linger_share: one with nothing to do stays for at least so much of its loading time, within its turn.
        idle_seconds: one that nobody asked for so long is unloaded; None: never.
    """

    turn_loads: float = 4.0
    least_seconds: float = 1.0
    linger_share: float = 0.25
    idle_seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no time could keep to.

        Raises:
            ValueError: a negative time.
        """
        if self.turn_loads < 0 or self.least_seconds < 0 or self.linger_share < 0 or (self.idle_seconds is not None and self.idle_seconds < 0):
            raise ValueError("times are not negative")

    def turn_seconds(self, load_seconds: float) -> float:
        """How long the turn of a model is whose loading takes so long."""
        return max(self.least_seconds, load_seconds * self.turn_loads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model that is loaded, or being loaded.

    Attributes:
        name: its name.
        gpu_bytes: what it holds of each GPU of the machine.
        load_seconds: what loading it takes.
        ready_at: since when it serves; None: it is being loaded.
        used_at: when it last had a request.
        running: requests that it answers now.
        waiting: requests that wait for it.
        per_second: how many requests a second it had lately.
        priority: of its most important request that runs or waits.
        pinned: it stays.
        closed: it takes no new requests, because it is to go.
    """

    name: str
    gpu_bytes: tuple[int, ...]
    load_seconds: float
    ready_at: float | None
    used_at: float
    running: int = 0
    waiting: int = 0
    per_second: float = 0.0
    priority: int = 0
    pinned: bool = False
    closed: bool = False

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.running == 0 and self.waiting == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model that is not loaded, and has requests that wait.

    Attributes:
        name: its name.
        placements: what it would hold of each GPU, one way after the other, the preferred first.
        since: when the oldest of its requests came.
        load_seconds: what loading it takes, as far as known.
        priority: of its most important request.
    """

    name: str
    placements: tuple[tuple[int, ...], ...]
    since: float
    load_seconds: float = 0.0
    priority: int = 0

    def rank(self, now: float) -> int:
        """Its priority with what waiting added."""
        return self.priority + int(max(now - self.since, 0.0) / AGING_SECONDS)


@dataclass(frozen=True, slots=True)
class Load:
    """Unload `evict`, all idle, then load `name` so that it holds `gpu_bytes`."""

    name: str
    gpu_bytes: tuple[int, ...]
    evict: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Close:
    """These shall take no new requests: when they have ended what they run, they make room for `name`; an empty one: for others than our models."""

    names: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Unload:
    """These were idle for long, or more is held than there is."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stay:
    """Nothing is to be done, and unless something happens nothing before `until`; None: until something happens."""

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """`name` fits beside what is pinned in none of its placements; `short_bytes` is missing in the one that comes nearest."""

    name: str
    short_bytes: int


Step = Load | Close | Unload | Stay | Never


def next_step(residents: Sequence[Resident], wanted: Iterable[Wanted], capacity: Sequence[int], now: float, rules: TurnRules | None = None) -> Step:
    """What to do now. Called again whenever something changed, and at the time that `Stay` names.

    Args:
        residents: what is loaded or being loaded.
        wanted: what is not, and has requests that wait.
        capacity: bytes of each GPU that are ours to use: what others hold is taken off.
        now: seconds, on the same clock as all else here.
        rules: how long a turn is.

    Returns:
        One step. After a `Load` no GPU that it takes anything of holds more than its capacity; who runs something or is pinned is never evicted; at most one
        `Close` stands at a time, and who is not in it takes requests again.
    """
    rules = rules or TurnRules()
    free = [c - sum(r.gpu_bytes[g] for r in residents) for g, c in enumerate(capacity)]
    if (over := _over(residents, free)) is not None:
        return over
    line = sorted(wanted, key=lambda w: (-w.rank(now), w.since, w.name))
    for one in line:
        if (short := min((_short_of(p, residents, capacity) for p in one.placements), default=1)) > 0:
            return Never(one.name, short)
    until: float | None = None
    for place, one in enumerate(line):
        step = _make_room(one, residents, free, now, rules) if not place else _beside(one, line[0], residents, free, capacity)
        if isinstance(step, Stay):
            until = _earlier(until, step.until)
        elif step is not None:
            return step
    if not line and rules.idle_seconds is not None:
        # Where somebody waits, turns say who goes.
        resting = [(r, r.used_at + rules.idle_seconds) for r in residents if not r.pinned and r.ready_at is not None and r.idle]
        if gone := tuple(r.name for r, end in resting if end <= now):
            return Unload(gone)
        until = min((end for _, end in resting), default=None)
    return Stay(until)


def _earlier(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else min(a, b)


def _over(residents: Sequence[Resident], free: list[int]) -> Unload | Close | None:
    """Others took memory that is ours: whoever is idle and helps goes, the least valuable first.

    Where that is not enough, those that work take no new requests and go when they have ended, the least valuable first – but for the last one of a
    GPU: who holds its memory already loses by going, and nobody is left here that would gain.
    """
    if all(f >= 0 for f in free):
        return None
    missing = [max(-f, 0) for f in free]
    ready = sorted((r for r in residents if not r.pinned and r.ready_at is not None), key=lambda r: (not r.closed, r.priority, _worth(r), r.used_at, r.name))
    # Who was closed answers nothing any more; what waits for it waits until there is room again.
    gone, left = _that_help([r for r in ready if r.idle or (r.closed and not r.running)], missing)
    if gone:
        return Unload(tuple(r.name for r in gone))
    holders = [sum(1 for r in residents if r.gpu_bytes[g]) for g in range(len(free))]
    closing, _ = _that_help([r for r in ready if not r.idle], left, holders)
    return Close(tuple(r.name for r in closing), "") if closing else None


def _that_help(residents: Sequence[Resident], missing: list[int], holders: list[int] | None = None) -> tuple[list[Resident], list[int]]:
    """Those of `residents`, in their order, that give back what is missing, and what is missing still.

    `holders`: how many models lie on each GPU; the last one of a GPU on which anything is missing is left out.
    """
    chosen, left, there = [], list(missing), list(holders) if holders is not None else None
    for r in residents:
        helps = [g for g, (m, b) in enumerate(zip(left, r.gpu_bytes, strict=True)) if m and b]
        if not helps or (there is not None and any(missing[g] and b and there[g] == 1 for g, b in enumerate(r.gpu_bytes))):
            continue
        chosen.append(r)
        left = [max(m - b, 0) for m, b in zip(left, r.gpu_bytes, strict=True)]
        if there is not None:
            there = [n - bool(b) for n, b in zip(there, r.gpu_bytes, strict=True)]
    return chosen, left


def _short_of(placement: tuple[int, ...], residents: Sequence[Resident], capacity: Sequence[int]) -> int:
    """Bytes that are missing where all but what is pinned makes room; 0 where it fits."""
    return sum(_missing(placement, [c - sum(r.gpu_bytes[g] for r in residents if r.pinned) for g, c in enumerate(capacity)]))


def _missing(placement: tuple[int, ...], free: Sequence[int]) -> list[int]:
    """Bytes that are missing of each GPU. Where more is held of one than there is (its free bytes are negative), that is nothing to who takes none of it."""
    return [max(b - f, 0) if b else 0 for b, f in zip(placement, free, strict=True)]


def _fits(placement: tuple[int, ...], free: Sequence[int]) -> bool:
    return not any(_missing(placement, free))


def _turn_end(r: Resident, now: float, rules: TurnRules) -> float:
    """From when on it may be asked to go."""
    if r.ready_at is None:
        # Being loaded: it will have its turn.
        return now + rules.turn_seconds(r.load_seconds)
    end = r.ready_at + rules.turn_seconds(r.load_seconds)
    if not r.idle:
        return end
    linger = r.load_seconds * min(max(rules.linger_share, r.per_second * r.load_seconds), max(rules.linger_share, 1.0))
    return min(end, max(r.used_at, r.ready_at) + linger)


def _make_room(one: Wanted, residents: Sequence[Resident], free: list[int], now: float, rules: TurnRules) -> Load | Close | Stay:
    """Load it, or say who is in the way."""
    for placement in one.placements:
        if _fits(placement, free):
            return Load(one.name, placement)
    found: list[tuple[bool, float, tuple[int, ...], list[Resident]]] = []
    until: float | None = None
    for placement in one.placements:
        missing = _missing(placement, free)
        candidates = [r for r in residents if not r.pinned and any(m and b for m, b in zip(missing, r.gpu_bytes, strict=True))]
        # Whoever is more important and busy stays until waiting has made this one as important.
        at_hand = [r for r in candidates if r.ready_at is not None and _turn_end(r, now, rules) <= now and (r.idle or r.closed or r.priority <= one.rank(now))]
        if (victims := _fewest(at_hand, missing)) is not None:
            found.append((any(r.running for r in victims), sum(_worth(r) for r in victims), placement, victims))
        else:
            until = _earlier(until, _when(candidates, missing, one, now, rules))
    if not found:
        return Stay(until)
    busy, _, placement, victims = min(found, key=lambda f: f[:2])
    names = tuple(r.name for r in victims)
    return Close(names, one.name) if busy else Load(one.name, placement, names)


def _worth(r: Resident) -> float:
    """Seconds of loading a second that its absence is expected to cost."""
    return r.per_second * r.load_seconds


def _fewest(candidates: list[Resident], missing: list[int]) -> list[Resident] | None:
    """Who goes so that nothing is missing: the least worth for their bytes first, then without those that are not needed after all."""

    def weight(r: Resident) -> tuple[bool, int, float, float, str]:
        useful = sum(min(m, b) for m, b in zip(missing, r.gpu_bytes, strict=True))
        # Who closed for this already goes first, so that nobody is closed in vain.
        return (not r.closed, r.priority if not r.idle else -(2**31), _worth(r) / max(useful, 1), r.used_at, r.name)

    chosen: list[Resident] = []
    left = list(missing)
    for r in sorted(candidates, key=weight):
        if not any(left):
            break
        if any(m and b for m, b in zip(left, r.gpu_bytes, strict=True)):
            chosen.append(r)
            left = [max(m - b, 0) for m, b in zip(left, r.gpu_bytes, strict=True)]
    if any(left):
        return None
    for r in sorted(chosen, key=weight, reverse=True):
        rest = [c for c in chosen if c is not r]
        if all(m <= sum(c.gpu_bytes[g] for c in rest) for g, m in enumerate(missing)):
            chosen = rest
    return chosen


def _when(candidates: list[Resident], missing: list[int], one: Wanted, now: float, rules: TurnRules) -> float | None:
    """When enough turns are over; None: only when something else happens."""
    left = list(missing)
    ends = sorted((max(_turn_end(r, now, rules), _as_important(r, one)), r.name, r) for r in candidates if r.ready_at is not None)
    for end, _, r in ends:
        left = [max(m - b, 0) for m, b in zip(left, r.gpu_bytes, strict=True)]
        if not any(left):
            return max(end, now)
    return None


def _as_important(r: Resident, one: Wanted) -> float:
    """When waiting has made the wanted one as important as what a resident does."""
    return one.since + max(r.priority - one.priority, 0) * AGING_SECONDS if not r.idle else float("-inf")


def _beside(one: Wanted, first: Wanted, residents: Sequence[Resident], free: list[int], capacity: Sequence[int]) -> Load | None:
    """Load another in what is free, where the first does not need it: in one of its places no more is missing than before."""
    for placement in one.placements:
        if _fits(placement, free):
            left = [f - b for f, b in zip(free, placement, strict=True)]
            for theirs in first.placements:
                if _short_of(theirs, residents, capacity) == 0 and _missing(theirs, left) == _missing(theirs, free):
                    return Load(one.name, placement)
    return None
