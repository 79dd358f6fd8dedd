"""A worker whose loop stands still: alive, and serving nobody, with leases that nobody gives back. Who that is is told by a word in the block.

Each worker writes the time there as often as its loop turns round. Where any is silent while one visit to the ledger goes on and on, whoever
is in there is to blame: the others may only wait for its lock. It neither kills nor buries: that is the supervisor's.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from vram.errors import UsageError
from vram.gateway.block import BEAT, HOLDER, VISITS, Block

BEAT_SECONDS: Final = 0.5
"""How often a worker shows that its loop turns, and how often that is looked at."""
HUNG_SECONDS: Final = 10.0
"""A loop that stood still for so long is taken to be hung, unless the command line says otherwise."""
LEAST_SECONDS: Final = 2.0


def beat(block: Block, number: int, ahead_seconds: float = 0.0) -> None:
    """A worker is well; it will be silent for so long at most."""
    block.words[block.worker(number) + BEAT] = time.monotonic_ns() + int(ahead_seconds * 1e9)


async def beats(block: Block, number: int) -> None:
    """Go on saying so for as long as the loop turns."""
    while True:
        beat(block, number)
        await asyncio.sleep(BEAT_SECONDS)


class Watchdog:
    """Who looks.

    Attributes:
        seconds: a worker that is silent for longer is hung; 0: nobody ever is.
    """

    def __init__(self, block: Block, seconds: float) -> None:
        self.seconds = seconds
        self._block = block
        self._looked: float | None = None
        self._since = float("-inf")
        # The visit to the ledger that was seen last, and since when.
        self._visit = -1
        self._visit_since = 0.0

    def hung(self, numbers: Iterable[int], now: float) -> list[int]:
        """Which of these workers are to be killed, by the monotonic clock. To be asked every `BEAT_SECONDS`."""
        if not self.seconds:
            return []
        words = self._block.words
        if self._looked is not None and now - self._looked > 4 * BEAT_SECONDS:
            # We stood still ourselves, as the whole machine may have: nobody's silence of then counts.
            self._since = self._visit_since = now
        self._looked = now
        if words[VISITS] != self._visit:
            self._visit, self._visit_since = words[VISITS], now
        silence = {n: now - max(words[self._block.worker(n) + BEAT] / 1e9, self._since) for n in numbers}
        silent = [n for n, seconds in silence.items() if seconds > self.seconds]
        if not silent or self._visit_since == now:
            # The lock goes round: who is silent is so by itself.
            return silent
        holder = words[HOLDER] - 1
        if holder not in silence:
            # Nobody went in since. One may have stopped a moment before it said so: its silence is the longest, as a rule. The others, if
            # it is that one, are well when they are looked at next.
            return [max(silent, key=silence.__getitem__)]
        if now - self._visit_since < self.seconds / 2:
            # Who waits for it would have waited all the time that it was in: it may be well.
            return []
        # Whatever its beat says, which of one that is starting is ahead. Those that waited have their time anew when it is dead.
        self._since = now
        return [holder]


def check_seconds(seconds: float) -> None:
    """Whether so long a silence can be told from a busy moment.

    Raises:
        UsageError: it cannot.
    """
    if seconds and seconds < LEAST_SECONDS:
        raise UsageError(f"a loop that stands still for {seconds:g} s may be busy", hint=f"--hung-after from {LEAST_SECONDS:g} on is possible; 0: never")
