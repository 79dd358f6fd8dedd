"""Whether a replica may be asked: what its answers and its silence say, as a state and a time. Pure: time is given.

    up ──3 failures in a row, or a failed probe──▶ out ──after a back-off──▶ trial ──a good answer──▶ up
                                                    ▲                          │
                                                    └────────a failure─────────┘

A replica that says nothing is not trusted for ever: after `SILENT_SECONDS` without a good answer it has to be probed, and the probe
generates a token, because an engine can answer /health while it can no longer compute.
"""

from enum import StrEnum
from typing import Final

FAILURES: Final = 3
"""Failures in a row that take a replica out."""
FIRST_BACKOFF_SECONDS: Final = 2.0
LONGEST_BACKOFF_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 15.0
"""How long a good answer vouches for the next request."""


class State(StrEnum):
    """What a replica is good for."""

    UP = "up"
    OUT = "out"
    TRIAL = "trial"
    """One probe at a time may be tried."""
    DRAINING = "draining"
    """An operator wants it empty: what runs may end, nothing new comes."""


class Health:
    """The state of one replica.

    Attributes:
        failures: in a row, now.
        coming: whether it is being started, or will be when it is asked for: requests wait for it.
        last_good: when it last answered well; None: never yet.
        out: whether failures took it out of service.
        changed: when they did.
        why: what took it out, for people.
    """

    __slots__ = ("_backoff", "_draining", "_until", "changed", "coming", "failures", "last_good", "out", "why")

    def __init__(self) -> None:
        self.failures = 0
        self.coming = False
        self.last_good: float | None = None
        self.why = ""
        self.out = False
        self.changed = 0.0
        self._until = 0.0
        self._backoff = FIRST_BACKOFF_SECONDS
        self._draining = False

    def state(self, now: float) -> State:
        """The state at `now`."""
        if self._draining:
            return State.DRAINING
        if not self.out:
            return State.UP
        return State.TRIAL if now >= self._until else State.OUT

    def usable(self) -> bool:
        """Whether requests may go there."""
        return not self.out and not self._draining

    def wants_probe(self, now: float) -> bool:
        """Whether it has to show that it can still generate."""
        state = self.state(now)
        return state is State.TRIAL or (state is State.UP and (self.last_good is None or now - self.last_good > SILENT_SECONDS))

    def good(self, now: float) -> bool:
        """It answered well. Returns whether that brings it back."""
        back = self.out
        self.failures = 0
        self.last_good = now
        self.out = False
        self._backoff = FIRST_BACKOFF_SECONDS
        self.why = ""
        return back

    def bad(self, now: float, why: str, *, probe: bool = False) -> bool:
        """It failed. Returns whether that takes it out."""
        self.failures += 1
        self.why = why
        if self.out:
            # Of those whom it served when it went, each tells of the same failure: only a probe tells of one more.
            if probe:
                self._backoff = min(self._backoff * 2, LONGEST_BACKOFF_SECONDS)
                self._until = now + self._backoff
            return False
        if not probe and self.failures < FAILURES:
            return False
        self.out = True
        self.changed = now
        self._until = now + self._backoff
        return True

    def drain(self, *, draining: bool) -> None:
        """An operator takes it out of service, or back into it."""
        self._draining = draining
