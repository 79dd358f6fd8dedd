"""What a replica's requests came to of late: how many it answered, how many it failed, how long their first tokens took. Pure: time is given.

Times to first token are kept by the prompt's length, as logarithms: a long prompt takes longer at whatever replica, and one request
that took a minute is not to outweigh fifty that took a second.
"""

from math import log
from typing import Final

from vram.gateway.sources import Sources

SLOTS: Final = 12
"""Parts of the window: the oldest is dropped when a new one begins."""
CLASSES: Final = 6
"""Of prompts: up to 256 tokens, and each up to four times as long as the last."""
_FIRST_TOKENS: Final = 256
_LEAST_SECONDS: Final = 1e-3


class Sums:
    """Numbers that add up.

    Attributes:
        answered: requests that the engine answered, with whatever status below 500.
        failed: requests that it failed, or answered with a status from 500 on.
        firsts: by class of the prompt, how many first tokens came.
        logs: sums of the natural logarithms of the seconds that they took.
        sources: whose requests they were.
    """

    __slots__ = ("answered", "failed", "firsts", "logs", "sources")

    def __init__(self) -> None:
        self.answered = self.failed = 0
        self.firsts = [0] * CLASSES
        self.logs = [0.0] * CLASSES
        self.sources = Sources()

    @property
    def requests(self) -> int:
        """All of them."""
        return self.answered + self.failed

    def add(self, other: "Sums") -> None:
        """Add another's."""
        self.answered += other.answered
        self.failed += other.failed
        for i in range(CLASSES):
            self.firsts[i] += other.firsts[i]
            self.logs[i] += other.logs[i]
        self.sources.add(other.sources)

    def answer(self, client: int) -> None:
        """A client's request was answered."""
        self.answered += 1
        self.sources.answered(client)

    def fail(self, client: int, group: int) -> None:
        """A client's request was failed, one of a group."""
        self.failed += 1
        self.sources.failed(client, group)

    def first(self, prompt_tokens: int, seconds: float) -> None:
        """A first token came, or was waited for in vain, so many seconds after its request was sent."""
        i, most = 0, _FIRST_TOKENS
        while prompt_tokens > most and i < CLASSES - 1:
            i += 1
            most *= 4
        self.firsts[i] += 1
        self.logs[i] += log(max(seconds, _LEAST_SECONDS))


class Outcomes:
    """The sums of a window that moves on with time.

    Attributes:
        now: sums of the part of the window that runs.
    """

    __slots__ = ("_old", "_past", "_since", "now")

    def __init__(self) -> None:
        self.now = Sums()
        self._old: list[Sums] = []
        # All of the old ones together: of many clients that is much to add up, and workers ask each second, inside their ledger.
        self._past = Sums()
        self._since = float("-inf")

    def move_on(self, now: float, window_seconds: float) -> bool:
        """Begin a new part where the last one is over, and forget what is older than the window. Returns whether one began."""
        if now - self._since < window_seconds / SLOTS:
            return False
        if now - self._since >= window_seconds:
            self._old = []
        self._since = now
        self._old = [*self._old, self.now][-(SLOTS - 1) :]
        self.now = Sums()
        self._past = Sums()
        for part in self._old:
            self._past.add(part)
        return True

    def sums(self) -> Sums:
        """Of the whole window."""
        found = Sums()
        found.add(self._past)
        found.add(self.now)
        return found

    def served_others(self, client: int) -> bool:
        """Whether anybody but this client was answered in the window."""
        return self.now.sources.served_others(client) or self._past.sources.served_others(client)

    def clear(self) -> None:
        """Forget all: whoever comes back is judged by what it does then."""
        self.now, self._past = Sums(), Sums()
        self._old = []
