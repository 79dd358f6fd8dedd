"""Elsewhere: whether another replica may take a request that its own failed before the first byte, and which one has room.

It asks purely: what is given back, reserved and sent is the desk's.
"""

from typing import TYPE_CHECKING

from vram.admission.decide import Admit, Decision, decide

if TYPE_CHECKING:
    from vram.admission.books import Books
    from vram.admission.decide import Route
    from vram.admission.need import Need
    from vram.gateway.ticket import Ticket


def exists(ticket: "Ticket | None") -> bool:
    """Whether some other replica might take it, and its pool has a retry left."""
    if ticket is None or ticket.answer is None or (ticket.seat is not None and not ticket.seat.bench.retries.left()):
        return False
    mine = ticket.answer.books
    return any(b is not mine and b.usable for pool in ticket.counter.route.pools for b in pool.books)


def take(ticket: "Ticket") -> bool:
    """Whether its pool has a retry left; it is taken, then."""
    return ticket.seat is None or ticket.seat.bench.retries.take()


def decided(need: "Need", route: "Route", mine: "Books", now: float) -> Decision:
    """What is decided of it now that `mine` failed it: any other replica first, the same one where no other has room."""
    usable, mine.usable = mine.usable, False
    try:
        answer = decide(need, route, now, last=True)
    finally:
        # Who is started again when it dies is looked at anew within a second; until then nobody runs into it.
        mine.usable = usable and not mine.coming
    if not isinstance(answer, Admit) and not mine.coming:
        # No other has room: the same one may have been unlucky.
        answer = decide(need, route, now, last=True)
    return answer
