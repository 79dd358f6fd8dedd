"""Where a request goes: let in, made to wait, or refused – a pure function of the request, the routes' books and the time.

The ladder, before any refusal: another replica, another pool of the route, another model that the route allows, a shorter answer.
A request that fits an empty replica is never refused for want of room: it waits, and it comes. One that fits none is refused at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vram.admission.affinity import bearable, overload, rank
from vram.admission.books import Books
from vram.admission.need import Need

SHORTER: Final = "shorter_output"
LARGER: Final = "larger_pool"
OTHER: Final = "other_model"


class Pool:
    """Replicas of one plan. Attributes: `name`; `model`, the name that its engines know; `books` of its replicas."""

    __slots__ = ("books", "model", "name")

    def __init__(self, name: str, model: str, books: Sequence[Books]) -> None:
        self.name = name
        self.model = model
        self.books = list(books)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a public model name means.

    Attributes:
        model: the public name.
        pools: the pools that serve it, the preferred first.
        larger_pool: whether later pools may serve what the first cannot.
        others: routes of other models that may answer instead, in order.
        least_output_tokens: an answer may be cut to as few tokens; None: never cut.
    """

    model: str
    pools: tuple[Pool, ...]
    larger_pool: bool = True
    others: "tuple[Route, ...]" = ()
    least_output_tokens: int | None = None


class Admit:
    """Let it in: `books` of the replica, `pool`, output tokens to reserve for and at most, and what the client is to be told."""

    __slots__ = ("books", "by_key", "expected", "fallback", "most", "pool")

    def __init__(self, books: Books, pool: Pool, expected: int, most: int, fallback: tuple[str, ...], *, by_key: bool = False) -> None:
        self.books = books
        self.pool = pool
        self.expected = expected
        self.most = most
        """Output tokens that the engine may make; less than the client's own limit only when `fallback` says so."""
        self.fallback = fallback
        self.by_key = by_key
        """Whether it goes where others that begin alike go."""


class Wait:
    """It fits an empty replica: its turn will come."""

    __slots__ = ()


WAIT: Final = Wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """It fits nowhere, however long it waits.

    Attributes:
        prompt_tokens: what it has, as far as known.
        longest_tokens: the longest sequence that any of its pools takes, prompt and output together.
        output_tokens: the output that it asks for; None: it set no limit.
        down: nothing is usable now at all: waiting may help, another request would not.
    """

    prompt_tokens: int
    longest_tokens: int
    output_tokens: int | None
    down: bool = False


Decision = Admit | Wait | Refuse


def decide(need: Need, route: Route, now: float, *, last: bool = False) -> Decision:
    """Where the request goes now.

    Args:
        need: what it needs.
        route: what it asked for.
        now: the time.
        last: it cannot wait any longer: whatever the route allows is tried at once.
    """
    found = _in_route(need, route, now, ())
    if isinstance(found, Admit) or (found is WAIT and not last):
        return found
    for other in route.others:
        answer = _in_route(need, other, now, (OTHER,))
        if isinstance(answer, Admit):
            return answer
        if answer is WAIT and found is not WAIT:
            found = WAIT
            if not last:
                return found
    if route.least_output_tokens is not None:
        for candidate, told in ((route, ()), *((other, (OTHER,)) for other in route.others)):
            shorter = _shorter(need, candidate, route.least_output_tokens, now, told)
            if isinstance(shorter, Admit) or (shorter is WAIT and found is not WAIT):
                return shorter
    return found


def _in_route(need: Need, route: Route, now: float, told: tuple[str, ...]) -> Decision:
    possible = usable = False
    for place, pool in enumerate(route.pools):
        if place and not route.larger_pool:
            break
        best: Books | None = None
        if need.affinity and len(pool.books) > 1:
            best = _at_home(need, pool.books, now)
        by_key = best is not None
        if best is None:
            free = 0
            for books in pool.books:
                if not books.usable:
                    if books.coming:
                        # Its engine is on its way: whoever fits there waits for it.
                        usable = True
                        possible = possible or _most_here(need, books) >= 0
                    continue
                usable = True
                most = _most_here(need, books)
                if most < 0:
                    continue
                possible = True
                left = books.capacity_bytes - books.promised_bytes + books.saved_bytes(now)
                # Promises may be more than there is: those who end make room for those who grow.
                if (best is None or left > free) and books.fits(need, _expected_here(need, books, most), now):
                    best, free = books, left
        if best is not None:
            most = _most_here(need, best)
            return Admit(best, pool, _expected_here(need, best, most), most, (*told, LARGER) if place else told, by_key=by_key)
    if possible:
        return WAIT
    return _refusal(need, route, usable=usable)


def _most_here(need: Need, books: Books) -> int:
    """Output tokens that it may have there at most; -1 where it does not even fit alone."""
    room = books.context_tokens - need.prompt_tokens
    limit = need.most_tokens
    if limit is not None:
        return limit if limit <= room and books.ever(need, limit) else -1
    # Whoever sets no limit gets what the context leaves, as engines have it.
    return room if room >= 1 and books.ever(need, _expected_here(need, books, room)) else -1


def _expected_here(need: Need, books: Books, most: int) -> int:
    """Output tokens to reserve for: where an engine fails what it has no room for, all that there may be."""
    return most if books.firm else min(most, need.expected_tokens)


def _at_home(need: Need, replicas: Sequence[Books], now: float) -> Books | None:
    """The replica that its key likes best, of those that are not loaded far above the others and have room now."""
    best: Books | None = None
    likes = -1
    bound = -1.0
    for books in replicas:
        liked = rank(need.affinity, books.seed) if books.usable else -1
        if liked <= likes:
            continue
        most = _most_here(need, books)
        if most < 0:
            continue
        expected = _expected_here(need, books, most)
        if bound < 0:
            bound = overload(replicas, books.size(need, expected), now)
        if bearable(books, need.sequences, bound, now) and books.fits(need, expected, now):
            best, likes = books, liked
    return best


def _shorter(need: Need, route: Route, least: int, now: float, told: tuple[str, ...]) -> Decision:
    """The longest answer that fits, not below `least`."""
    possible = False
    for place, pool in enumerate(route.pools):
        if place and not route.larger_pool:
            break
        for books in sorted((b for b in pool.books if b.usable), key=lambda b: b.promised_bytes - b.capacity_bytes):
            most = min(books.context_tokens - need.prompt_tokens, books.curve.most_tokens(books.capacity_bytes) - need.prompt_tokens)
            if need.most_tokens is not None:
                most = min(most, need.most_tokens)
            if most < least or most < 1:
                continue
            possible = True
            for length in (most, max(least, min(most, need.expected_tokens)), least):
                expected = _expected_here(need, books, length)
                if books.fits(need, expected, now, length):
                    return Admit(books, pool, expected, length, (*told, LARGER, SHORTER) if place else (*told, SHORTER))
    return WAIT if possible else _refusal(need, route, usable=True)


def _refusal(need: Need, route: Route, *, usable: bool) -> Refuse:
    longest = 0
    for place, pool in enumerate(route.pools):
        if not place or route.larger_pool:
            longest = max([longest, *(min(b.context_tokens, max(b.curve.most_tokens(b.capacity_bytes), 0)) for b in pool.books)])
    return Refuse(prompt_tokens=need.prompt_tokens, longest_tokens=longest, output_tokens=need.most_tokens, down=not usable)
