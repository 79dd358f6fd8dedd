"""A bench: the seats of one pool taken together, and what is counted of them so. No decision about a single request is made here."""

from vram.gateway.retries import RetryBudget


class Bench:
    """What the replicas of one pool have in common.

    Attributes:
        pool: the pool's name.
        retries: how many of its requests may be tried again.
        met: requests that went where others that begin alike go.
        slow_start_seconds: how long a replica that comes back takes to take all that it can.
        apart: requests that had such a place and went elsewhere, because it was full or loaded far above the others.
    """

    __slots__ = ("apart", "met", "pool", "retries", "slow_start_seconds")

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.met = self.apart = 0
        self.retries = RetryBudget()
        self.slow_start_seconds = 0.0

    def placed(self, *, by_key: bool) -> None:
        """A request with a key was let in."""
        if by_key:
            self.met += 1
        else:
            self.apart += 1
