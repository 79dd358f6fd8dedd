"""Where it is written down who holds what: behind this small interface, so that one process, several, or several hosts may keep it.

A ledger makes what has to be one for all who let requests in to the same replicas: a replica's books, its meter, the desk that decides
with them, a model's counter, the keys' shares, and a key with what it used of its limits. This one keeps them in this process, and costs nothing.
`SharedLedger` keeps them in memory that the workers of one machine share.
"""

from typing import TYPE_CHECKING

from vram.admission.books import Books
from vram.admission.line import Shares
from vram.costs.vram_time import Meter
from vram.gateway.desk import Desk
from vram.gateway.idle import Idle
from vram.gateway.keys import Key, KeyTerms
from vram.gateway.seats import Counter

if TYPE_CHECKING:
    from vram.admission.decide import Route
    from vram.memory.curve import KvRoom


class Ledger:
    """The ledger of one process.

    Attributes:
        workers: processes that write in it.
    """

    workers = 1

    def books(self, url: str, name: str, room: "KvRoom") -> Books:
        """Books of a replica that this process has none of yet.

        Args:
            url: the replica's, by which others know it.
            name: for people.
            room: what its cache holds by its plan.
        """
        return Books(name, room.curve, room.capacity_bytes, context_tokens=room.context_tokens, max_sequences=room.max_sequences, firm=room.firm, home=url)

    def meter(self, books: Books, *, nanodollars_per_hour: int, usable_bytes: int, shared_bytes: int, began_ns: int) -> Meter:
        """A meter beside these books."""
        del books
        return Meter(nanodollars_per_hour=nanodollars_per_hour, usable_bytes=usable_bytes, shared_bytes=shared_bytes, began_ns=began_ns)

    def desk(
        self, counters: dict[str, Counter], shares: Shares, *, queue_seconds: float, queue_requests: int, output_tokens: int | None, affinity: str
    ) -> Desk:
        """A desk that decides with these books."""
        return Desk(counters, shares, queue_seconds=queue_seconds, queue_requests=queue_requests, output_tokens=output_tokens, affinity=affinity)

    def shares(self) -> Shares:
        """What each key used, for a fair share of the room."""
        return Shares()

    def counter(self, route: "Route", shares: Shares) -> Counter:
        """What is known of the requests for a public model."""
        return Counter(route, shares)

    def key(self, digest: bytes, terms: KeyTerms) -> Key:
        """A key with nothing used of its rates by this process."""
        del digest
        return Key(terms)

    def idle(self) -> Idle:
        """What reads the meters."""
        return Idle()

    def seated(self, books: set[Books]) -> None:
        """These books are in use from now on; all others are over when their last lease is."""

    def drain(self, books: Books, *, draining: bool) -> None:
        """An operator takes a replica out of service, or back into it: for all who keep its books."""

    def may_probe(self, books: Books, now: float) -> bool:
        """Whether a replica that is to show that it still generates is probed by this process."""
        del books, now
        return True

    def probed(self, books: Books) -> None:
        """The probe is over."""

    def look(self) -> None:
        """See what others wrote: before a page shows the books."""

    def tick(self) -> None:
        """About once a second."""
