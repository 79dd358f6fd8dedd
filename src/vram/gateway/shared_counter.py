"""A model's counter that several workers keep together: how many wait for it at all of them, and what is learned of its requests.

Each sample is counted once, in words that all see. What is read of them is read anew after 32 samples of one's own, and each second.
"""

from typing import TYPE_CHECKING, Any

from vram.admission.learn import LENGTH_EDGES, RATIO_EDGES, EventTokens, OutputTokens, PromptTokens, Quantiles
from vram.admission.life_table import CELLS, FORGET_AT, PRIOR, LifeTable, cell
from vram.gateway.block import CUT, ENDED, LENGTHS, RATE, RATIOS, RUNNING, SAMPLES, SEEN, WAITING
from vram.gateway.seats import Counter

if TYPE_CHECKING:
    from vram.admission.decide import Route
    from vram.admission.line import Shares
    from vram.gateway.shared import SharedLedger


class SharedCounter(Counter):
    """One worker's view of a model's counter."""

    __slots__ = ("_at", "_ledger", "_row")

    def __init__(self, ledger: "SharedLedger", at: int, route: "Route", shares: "Shares") -> None:
        super().__init__(route, shares)
        self._ledger = ledger
        self._at = at
        self._row = ledger.block.model_row(at, ledger.number)
        self.prompts = PromptTokens(ratios=SharedQuantiles(ledger, at + RATIOS, RATIO_EDGES))
        self.outputs = OutputTokens(lengths=SharedQuantiles(ledger, at + LENGTHS, LENGTH_EDGES), table=SharedLifeTable(ledger, at))
        self.events = SharedEvents(ledger, at)
        self.refresh()

    def waiting(self) -> int:
        """How many wait for it at all workers. To be asked inside the ledger."""
        block = self._ledger.block
        found = len(self.line)
        for worker in range(block.workers):
            if worker != self._ledger.number:
                found += block.words[block.model_row(self._at, worker) + WAITING]
        return found

    def tell_waiting(self) -> None:
        """Tell the others how many wait here. To be called inside the ledger."""
        self._ledger.block.words[self._row + WAITING] = len(self.line)

    def refresh(self) -> None:
        """Go by all that any worker saw so far."""
        self.prompts.refresh()
        self.outputs.refresh()
        if isinstance(self.events, SharedEvents):
            self.events.refresh()


class SharedQuantiles(Quantiles):
    """Counts in shared words: their sum, and then each bin's."""

    __slots__ = ("_at", "_bins", "_ledger")

    def __init__(self, ledger: "SharedLedger", at: int, edges: tuple[float, ...]) -> None:
        super().__init__(edges)
        self._ledger = ledger
        self._at = at
        self._bins = len(edges) + 1

    @property
    def count(self) -> int:
        """Samples that still count."""
        found: int = self._ledger.block.words[self._at]
        return found

    def counts(self) -> list[int]:
        """By bin."""
        found: list[int] = self._ledger.block.words[self._at + 1 : self._at + 1 + self._bins].tolist()
        return found

    def replace(self, counts: list[int]) -> None:
        """Others in their place."""
        self._ledger.enter()
        try:
            words = self._ledger.block.words
            for i, count in enumerate(counts):
                words[self._at + 1 + i] = count
            words[self._at] = sum(counts)
        finally:
            self._ledger.leave()

    def put(self, number: int) -> None:
        """One more in a bin."""
        self._ledger.enter()
        try:
            words = self._ledger.block.words
            words[self._at + 1 + number] += 1
            words[self._at] += 1
        finally:
            self._ledger.leave()


class SharedLifeTable(LifeTable):
    """A life table in shared words. Answers that run stand in each worker's own row: those of a dead one run no more."""

    __slots__ = ("_at", "_ledger", "_row")

    def __init__(self, ledger: "SharedLedger", at: int) -> None:
        super().__init__()
        self._ledger = ledger
        self._at = at
        self._row = ledger.block.model_row(at, ledger.number)
        ledger.enter()
        try:
            if not ledger.block.words[at + SAMPLES] and ledger.block.reals[at + ENDED + 1] == 0.0:
                for i, prior in enumerate(PRIOR):
                    ledger.block.reals[at + ENDED + i] = prior
        finally:
            ledger.leave()

    def ended(self, tokens: int) -> None:
        """An answer ended of itself."""
        self._add(ENDED + cell(tokens))

    def cut(self, tokens: int) -> None:
        """An answer was cut or left after so many tokens."""
        self._add(CUT + cell(tokens))

    def _add(self, word: int) -> None:
        self._ledger.enter()
        try:
            words, reals, at = self._ledger.block.words, self._ledger.block.reals, self._at
            reals[at + word] += 1.0
            words[at + SAMPLES] += 1
            words[at + SEEN] += 1
            if words[at + SEEN] >= FORGET_AT:
                words[at + SEEN] //= 2
                for i in range(CELLS):
                    reals[at + ENDED + i] = (reals[at + ENDED + i] + PRIOR[i]) / 2
                    reals[at + CUT + i] /= 2
        finally:
            self._ledger.leave()

    def runs(self, tokens: int, more: int) -> None:
        """So many more (or less) answers that have so many tokens are under way here."""
        self._ledger.block.words[self._row + RUNNING + cell(tokens)] += more

    def counts(self) -> tuple[list[float], list[float], list[int]]:
        """By cell: answers that ended, that were cut, that run at any worker."""
        block, at = self._ledger.block, self._at
        running = [0] * CELLS
        for worker in range(block.workers):
            row = block.model_row(at, worker) + RUNNING
            theirs: list[int] = block.words[row : row + CELLS].tolist()
            for i in range(CELLS):
                running[i] += theirs[i]
        ended: Any = block.reals[at + ENDED : at + ENDED + CELLS].tolist()
        cut: Any = block.reals[at + CUT : at + CUT + CELLS].tolist()
        return ended, cut, running

    def samples(self) -> tuple[int, int]:
        """Answers counted so far, and those that still count."""
        words = self._ledger.block.words
        return words[self._at + SAMPLES], words[self._at + SEEN]


class SharedEvents(EventTokens):
    """Tokens of an event, as any worker saw them last."""

    __slots__ = ("_at", "_ledger")

    def __init__(self, ledger: "SharedLedger", at: int) -> None:
        super().__init__()
        self._ledger = ledger
        self._at = at

    def saw(self, tokens: int, events: int) -> None:
        """A stream of one sequence ended."""
        self._ledger.enter()
        try:
            self.refresh()
            super().saw(tokens, events)
            self._ledger.block.reals[self._at + RATE] = self.rate
        finally:
            self._ledger.leave()

    def refresh(self) -> None:
        """Go by what the others saw."""
        rate: float = self._ledger.block.reals[self._at + RATE]
        if rate > 0.0:
            self.rate = rate
