"""Whether a replica may be asked: what its answers and its silence say, as a state and a time. Pure: time is given.

    up ──3 failures in a row, a failed probe, or unlike its peers──▶ out ──after a back-off──▶ trial ──a good answer──▶ up
                                                                      ▲                          │
                                                                      └────────a failure─────────┘

Failures in a row that are all one source's take nothing out, for it may be the requests: they have the replica probed at once. Connections
that do not come about count whoever asked.

What requests tell is not proof: where it would put most of a pool out, those whom nothing else speaks against are asked all the same
(`suspect`; `outliers.panics` says when). A failed probe and a refused connection are proof.

A replica that says nothing is not trusted for ever: after `SILENT_SECONDS` without a good answer it has to be probed, and the probe
generates a token, because an engine can answer /health while it can no longer compute.

Whoever starts and ends the engine may say that it is away: asleep, loading, making room. Nothing is sent there then, and no failure counts.
"""

from enum import StrEnum
from typing import Final

from vram.gateway.refusal import Refusal

FAILURES: Final = 3
"""Failures in a row that take a replica out."""
FIRST_BACKOFF_SECONDS: Final = 2.0
LONGEST_BACKOFF_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 15.0
"""How long a good answer vouches for the next request."""
LONGEST_HELD_SECONDS: Final = 300.0
"""Longest time that a replica is kept out for being unlike its peers, and how long it is remembered that it was."""


class State(StrEnum):
    """What a replica is good for."""

    UP = "up"
    SUSPECT = "suspect"
    """Its requests say that it is out, as those of most of its pool do: it is asked all the same, and probed."""
    OUT = "out"
    TRIAL = "trial"
    """One probe at a time may be tried."""
    DRAINING = "draining"
    """Somebody wants it empty, an operator or a model that needs its memory: what runs may end, nothing new comes."""
    LOADING = "loading"
    """Its engine starts, or is put to the proof."""
    ASLEEP = "asleep"
    """It holds no memory, and is loaded when it is asked for."""
    STOPPED = "stopped"
    """It was ended by hand."""


class Cause(StrEnum):
    """What took a replica out."""

    FAILURES = "failures"
    """Failures in a row, not all of them refused connections."""
    REFUSED = "refused"
    """Failures in a row, the last one a connection that did not come about."""
    PROBE = "probe"
    FAILURE_SHARE = "failure_share"
    """It failed most of its requests."""
    FAILING = "failing"
    """It failed more of its requests than its peers did."""
    SLOW = "slow"
    """Its first tokens took longer than those of its peers."""


PROOF: Final = (Cause.REFUSED, Cause.PROBE)
"""What keeps a replica out however many others are out."""


def told(cause: Cause, own: float, others: float) -> str:
    """Why a replica is out that is unlike its peers, for people: its share of failures or seconds to its first tokens, and theirs."""
    if cause is Cause.SLOW:
        return f"its first tokens take {own:.1f} s, those of its peers {others:.1f} s for prompts of like length"
    return f"it failed {own:.0%} of its requests, its peers {others:.0%} of theirs"


class Health:
    """The state of one replica.

    Attributes:
        failures: in a row, now.
        coming: whether it is being started, or will be when it is asked for: requests wait for it.
        last_good: when it last answered well; None: never yet.
        out: whether it was taken out of service.
        cause: what took it out; None while it is not out.
        changed: when that was.
        held: until when it stays out, whatever it answers, for being unlike its peers; in the past: it does not.
        figures: by how much: its share of failures or seconds to its first tokens, and theirs.
        times: how often in a row that was.
        spared: whether it is asked all the same.
        away: the state that whoever runs its engine gives it; None: it is there.
        away_why: the reason for that, for people.
        refusal: what clients are told meanwhile; None: that no replica is up.
        why: what took it out, for people.
        outs: how often this process took it out, by cause.
    """

    __slots__ = (
        "_backoff",
        "_client",
        "_draining",
        "_failed_at",
        "_group",
        "_until",
        "away",
        "away_why",
        "cause",
        "changed",
        "coming",
        "failures",
        "figures",
        "held",
        "last_good",
        "out",
        "outs",
        "refusal",
        "spared",
        "times",
        "why",
    )

    def __init__(self) -> None:
        self.failures = 0
        self.coming = False
        self.away: State | None = None
        self.away_why = ""
        self.refusal: Refusal | None = None
        self.last_good: float | None = None
        self.why = ""
        self.out = False
        self.cause: Cause | None = None
        self.changed = 0.0
        self.held = 0.0
        self.figures = (0.0, 0.0)
        self.times = 0
        self.spared = False
        self.outs: dict[Cause, int] = {}
        self._until = 0.0
        self._backoff = FIRST_BACKOFF_SECONDS
        self._draining = False
        # Whose the failures in a row are; 0: of several, or nobody knows.
        self._client = self._group = 0
        self._failed_at = 0.0

    def state(self, now: float) -> State:
        """The state at `now`."""
        if self.away is not None:
            return self.away
        if self._draining:
            return State.DRAINING
        if not self.out:
            return State.UP
        if self.spared:
            return State.SUSPECT
        return State.TRIAL if now >= self._until else State.OUT

    def usable(self) -> bool:
        """Whether requests may go there."""
        return (not self.out or self.spared) and not self._draining and self.away is None

    def sound(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.out and not self._draining and self.away is None

    @property
    def proven(self) -> bool:
        """Whether it is out by more than what its requests tell."""
        return self.out and self.cause in PROOF

    def wants_probe(self, now: float) -> bool:
        """Whether it has to show that it can still generate."""
        state = self.state(now)
        if state is State.SUSPECT:
            return now >= self.held
        return state is State.TRIAL or (state is State.UP and (self.doubted or self.last_good is None or now - self.last_good > SILENT_SECONDS))

    @property
    def doubted(self) -> bool:
        """Whether enough failures in a row are one source's: a probe tells whether it is the source."""
        return not self.out and self.failures >= FAILURES

    def seconds_out(self, now: float) -> float:
        """How long until it is on trial; 0 where it is, or is not out."""
        return max(self._until - now, 0.0) if self.out else 0.0

    def good(self, now: float) -> bool:
        """It answered well. Returns whether that brings it back."""
        self.failures = 0
        back = self.out
        if back:
            if now < self.held:
                # It is out for what it does beside its good answers.
                return False
            self.out = self.spared = False
            self.cause = None
        self.last_good = now
        self._backoff = FIRST_BACKOFF_SECONDS
        self.why = ""
        return back

    def bad(self, now: float, why: str, *, probe: bool = False, refused: bool = False, client: int = 0, group: int = 0, others: bool = False) -> bool:
        """It failed; `refused`: no connection came about. Returns whether that takes it out, or proves what was suspected.

        Args:
            now: when.
            why: what happened, for people.
            probe: whether it was a probe that failed.
            refused: whether no connection came about, whoever asked for it.
            client: whose request it was; 0: nobody knows.
            group: with which of that client's it goes together; 0: nobody knows.
            others: whether other clients were answered well of late.
        """
        if self.away is not None:
            # Whoever ended its engine cut what ran there.
            return False
        if refused or probe:
            client = group = 0
        if not self.failures:
            self._client, self._group = client, group
        if client != self._client:
            self._client = 0
        if group != self._group:
            self._group = 0
        self.failures += 1
        self._failed_at = now
        cause = Cause.PROBE if probe else Cause.REFUSED if refused else Cause.FAILURES
        if self.out:
            # Of those whom it served when it went, each tells of the same failure: only a probe tells of one more.
            if probe:
                self._backoff = min(self._backoff * 2, LONGEST_BACKOFF_SECONDS)
                self._until = max(now + self._backoff, self.held)
            if cause is Cause.FAILURES or self.proven or (self.failures < FAILURES and not probe):
                return False
            self.prove(cause, why)
            self._counted(cause)
            return True
        self.why = why
        alone = self._group != 0 or (others and self._client != 0)
        if not probe and (self.failures < FAILURES or (alone and not refused)):
            return False
        self._go(now, cause, why)
        self._until = now + self._backoff
        self._counted(cause)
        return True

    def eject(self, now: float, cause: Cause, own: float, others: float, seconds: float) -> None:
        """It is unlike its peers: out for `seconds`, and as much longer each time in a row."""
        self.times = self.times + 1 if now - self.held <= LONGEST_HELD_SECONDS else 1
        self._go(now, cause, told(cause, own, others))
        self.figures = (own, others)
        self.held = self._until = now + min(seconds * self.times, max(seconds, LONGEST_HELD_SECONDS))
        self._counted(cause)

    def hear(self, good: float) -> None:
        """Another worker was answered well, at that time: what failed before it is no row any more."""
        self.last_good = good
        if good > self._failed_at:
            self.failures = 0

    def take_over(self, changed: float, cause: Cause, why: str, *, held: float = 0.0, times: int = 0) -> None:
        """Another worker found it out of service."""
        self._go(changed, cause, why)
        self.held, self.times = max(held, self.held), max(times, self.times)
        self._until = max(changed + self._backoff, held)

    def prove(self, cause: Cause, why: str) -> None:
        """Another worker has proof of what its requests told."""
        self.cause, self.why, self.spared = cause, why, False

    def drain(self, *, draining: bool) -> None:
        """An operator takes it out of service, or back into it."""
        self._draining = draining

    def leave(self, state: State, why: str = "", refusal: Refusal | None = None) -> None:
        """Whoever runs its engine says that it is not there for clients, what it is instead, and what they are told."""
        self.away, self.away_why, self.refusal = state, why, refusal

    def come(self) -> bool:
        """It is there. Returns whether that is another engine than before: what the one before did says nothing of it."""
        new = self.away not in {None, State.DRAINING}
        self.away, self.away_why, self.refusal = None, "", None
        if new:
            self.held, self.times = 0.0, 0
        return new

    def _go(self, now: float, cause: Cause, why: str) -> None:
        self.out, self.spared = True, False
        self.changed, self.cause, self.why = now, cause, why

    def _counted(self, cause: Cause) -> None:
        self.outs[cause] = self.outs.get(cause, 0) + 1
