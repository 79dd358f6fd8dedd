"""A bench: the seats of one pool taken together, and what is counted of them so. No decision about a single request is made here."""

from typing import TYPE_CHECKING

from vram.gateway.health import LONGEST_HELD_SECONDS
from vram.gateway.outliers import of_one_source, outliers, panics
from vram.gateway.retries import RetryBudget
from vram.readers.pools import Outliers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vram.gateway.outcomes import Sums
    from vram.gateway.seats import Seat


class Bench:
    """What the replicas of one pool have in common.

    Attributes:
        pool: the pool's name.
        seats: its replicas'.
        rules: when one of them is out for what its requests tell.
        retries: how many of its requests may be tried again.
        met: requests that went where others that begin alike go.
        slow_start_seconds: how long a replica that comes back takes to take all that it can.
        spoken: when it was told of a replica, by its URL, that it fails one source alone.
        apart: requests that had such a place and went elsewhere, because it was full or loaded far above the others.
    """

    __slots__ = ("apart", "met", "pool", "retries", "rules", "seats", "slow_start_seconds", "spoken")

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.seats: list[Seat] = []
        self.rules = Outliers()
        self.met = self.apart = 0
        self.retries = RetryBudget()
        self.spoken: dict[str, float] = {}
        self.slow_start_seconds = 0.0

    def placed(self, *, by_key: bool) -> None:
        """A request with a key was let in."""
        if by_key:
            self.met += 1
        else:
            self.apart += 1

    def spare(self) -> None:
        """See whether most of the pool is out: then whoever is out by its requests alone is asked all the same."""
        seats = self.seats
        sound = 0
        for seat in seats:
            if seat.replica.health.sound():
                sound += 1
        spares = sound < len(seats) and panics(sound, len(seats), self.rules.most_out_share)
        for seat in seats:
            health = seat.replica.health
            health.spared = spares and health.out and not health.proven

    def move_on(self, now: float) -> bool:
        """Let the windows of what requests came to go on with the time. Returns whether the replicas are to be judged anew."""
        due = False
        for seat in self.seats:
            outcomes = seat.replica.outcomes
            if seat.replica.health.out:
                outcomes.clear()
            due = outcomes.move_on(now, self.rules.window_seconds) or due
        return due and len(self.seats) > 1

    def judge(self, sums: "Sequence[Sums]", now: float) -> list[str]:
        """Take out whoever is unlike the others by these sums of theirs. Returns what is to be told of each, and of those who are not for one source's sake."""
        told: list[str] = []
        for one in outliers(sums, [seat.replica.health.sound() for seat in self.seats], self.rules):
            replica = self.seats[one.number].replica
            replica.health.eject(now, one.cause, one.own, one.others, self.rules.out_seconds)
            told.append(f"{replica.url} is out for {replica.health.seconds_out(now):.0f} s: {replica.health.why}")
        for one in of_one_source(sums, [seat.replica.health.sound() for seat in self.seats], self.rules):
            url = self.seats[one.number].replica.url
            if now - self.spoken.get(url, float("-inf")) >= LONGEST_HELD_SECONDS:
                self.spoken[url] = now
                told.append(
                    f"{url} failed {one.own:.0%} of its requests, its peers {one.others:.0%} of theirs; but for one source's it does as they do, and is asked on"
                )
        return told
