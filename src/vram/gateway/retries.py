"""How many retries a pool may take: a share of its requests, and always a few, so that an outage does not multiply the load.

As Finagle's and Envoy's retry budgets have it (https://twitter.github.io/finagle/guide/Clients.html#retries). It knows no replicas.
"""

from typing import Final

WINDOW_SECONDS: Final = 10
FLOOR: Final = 30
"""Retries of a window that are always allowed."""


class RetryBudget:
    """The retries of one pool in the last ten seconds, against its requests.

    Attributes:
        share: retries for each request.
        denied: retries that were not made for want of budget, since the gateway began.
    """

    __slots__ = ("_came", "_old_came", "_old_retried", "_retried", "denied", "share")

    def __init__(self, share: float = 0.2) -> None:
        self.share = share
        self.denied = 0
        # Of this second; of the others of the window.
        self._came = self._retried = 0
        self._old_came: list[int] = []
        self._old_retried: list[int] = []

    def came(self) -> None:
        """A request was sent for the first time."""
        self._came += 1

    def left(self) -> int:
        """Retries that may be made now."""
        allowed = FLOOR + int(self.share * (self._came + sum(self._old_came)))
        return max(allowed - self._retried - sum(self._old_retried), 0)

    def take(self) -> bool:
        """Whether one more may be made; it is, then."""
        if not self.left():
            self.denied += 1
            return False
        self._retried += 1
        return True

    def second(self) -> None:
        """A second went by."""
        self._old_came = [*self._old_came, self._came][-(WINDOW_SECONDS - 1) :]
        self._old_retried = [*self._old_retried, self._retried][-(WINDOW_SECONDS - 1) :]
        self._came = self._retried = 0
