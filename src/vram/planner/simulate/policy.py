"""Policies of admission: who is sent to which replica, and when. A policy is a setting; its gate holds the state of one replay."""

from typing import Protocol

from vram.planner.simulate.replica import Replica
from vram.planner.simulate.router import Router
from vram.planner.simulate.sequence import Sequence


class Gate(Protocol):
    """What stands before the replicas during one replay. The replay calls it, then asks what to carry out."""

    heeds: bool
    """Whether it wants to hear of ends and growth."""

    def arrive(self, seq: Sequence, now: float) -> None:
        """A request is here."""
        ...

    def finish(self, seq: Sequence, now: float) -> None:
        """A request got its last token."""
        ...

    def grow(self, seq: Sequence, now: float) -> None:
        """An answer reached the length that was watched for."""
        ...

    def tick(self, now: float) -> None:
        """The time that `wakes_at` named has come."""
        ...

    def sent(self) -> list[tuple[Sequence, Replica]]:
        """Requests to submit now; asked once."""
        ...

    def watched(self) -> list[tuple[Sequence, Replica, int]]:
        """Answers whose length is to be watched; asked once."""
        ...

    def wakes_at(self) -> float | None:
        """When it wants to be called again though nothing happens."""
        ...


class Policy(Protocol):
    """A way to admit."""

    @property
    def name(self) -> str:
        """As it is named on the command line."""
        ...

    def gate(self, router: Router) -> Gate:
        """A gate for one replay."""
        ...


class Actions:
    """What a gate wants carried out, collected until it is asked for."""

    heeds = False

    def __init__(self) -> None:
        """Nothing yet."""
        self.to_send: list[tuple[Sequence, Replica]] = []
        self.to_watch: list[tuple[Sequence, Replica, int]] = []
        self.wake: float | None = None

    def arrive(self, seq: Sequence, now: float) -> None:
        """A request is here."""
        raise NotImplementedError

    def finish(self, seq: Sequence, now: float) -> None:
        """A request got its last token."""

    def grow(self, seq: Sequence, now: float) -> None:
        """An answer reached the length that was watched for."""

    def tick(self, now: float) -> None:
        """The time that `wakes_at` named has come."""

    def sent(self) -> list[tuple[Sequence, Replica]]:
        """Requests to submit now; asked once."""
        sent, self.to_send = self.to_send, []
        return sent

    def watched(self) -> list[tuple[Sequence, Replica, int]]:
        """Answers whose length is to be watched; asked once."""
        watched, self.to_watch = self.to_watch, []
        return watched

    def wakes_at(self) -> float | None:
        """When it wants to be called again though nothing happens; asked once."""
        wake, self.wake = self.wake, None
        return wake


class EngineOwn:
    """No admission: every request goes at once to the replica with the most free KV, whose engine queues and preempts."""

    name = "engine"

    def gate(self, router: Router) -> Gate:
        """A gate that is always open."""
        return _Open(router)


class _Open(Actions):
    def __init__(self, router: Router) -> None:
        super().__init__()
        self._router = router

    def arrive(self, seq: Sequence, now: float) -> None:
        if pools := self._router.fit(seq):
            self.to_send.append((seq, self._router.freest(pools, now)))
