"""How many answers get how long: a life table of lengths, from those that ended, those that were cut off, and those that still run."""

from math import log2
from typing import Final

CELLS: Final = 181
"""Cells of lengths: of 16 tokens up to 1,024, of 128 up to 8,192, of 2,048 up to 131,072, and one beyond."""
FORGET_AT: Final = 4096
"""At so many samples all counts are halved: what was long ago fades."""


def cell(tokens: int) -> int:
    """The cell of a length."""
    if tokens < 1024:
        return tokens >> 4
    if tokens < 8192:
        return 64 + ((tokens - 1024) >> 7)
    return min(120 + ((tokens - 8192) >> 11), CELLS - 1)


def _prior() -> list[float]:
    """Before anything was seen any order of magnitude from 16 to 16,384 tokens is as likely as another; that weighs as much as two answers."""
    starts = [*range(0, 1024, 16), *range(1024, 8192, 128), *range(8192, 131073, 2048)]
    ends = [*starts[1:], 1 << 62]
    return [2.0 * max(log2(min(end, 16384) / max(start, 16)), 0.0) / 10 for start, end in zip(starts, ends, strict=True)]


PRIOR: Final = _prior()


class LifeTable:
    """Answers of one model, by `cell` of their length."""

    __slots__ = ("_cut", "_ended", "_read_at", "_running", "_samples", "_seen", "_survival")

    def __init__(self) -> None:
        self._ended: list[float] = PRIOR[:]
        self._cut = [0.0] * CELLS
        self._running = [0] * CELLS
        self._seen = self._samples = self._read_at = 0
        self._survival: list[float] = []

    # --- deeds

    def ended(self, tokens: int) -> None:
        """An answer ended of itself."""
        self._ended[cell(tokens)] += 1.0
        self._count()

    def cut(self, tokens: int) -> None:
        """An answer was cut or left after so many tokens: how long it would have got nobody knows."""
        self._cut[cell(tokens)] += 1.0
        self._count()

    def _count(self) -> None:
        self._samples += 1
        self._seen += 1
        if self._seen >= FORGET_AT:
            self._seen //= 2
            self._ended = [(c + p) / 2 for c, p in zip(self._ended, PRIOR, strict=True)]
            self._cut = [c / 2 for c in self._cut]

    def runs(self, tokens: int, more: int) -> None:
        """So many more (or less) answers that have so many tokens are under way."""
        self._running[cell(tokens)] += more

    # --- questions

    def counts(self) -> tuple[list[float], list[float], list[int]]:
        """By cell: answers that ended, that were cut, that run."""
        return self._ended, self._cut, self._running

    def samples(self) -> tuple[int, int]:
        """Answers counted so far, and those that still count."""
        return self._samples, self._seen

    def survival(self) -> list[float]:
        """By cell: the share of answers that get there.

        Answers that a limit cut and those that still run count as far as they got (Kaplan and Meier, 1958,
        https://doi.org/10.1080/01621459.1958.10501452): else those that end first would make all look short.
        """
        samples, seen = self.samples()
        unread = samples - self._read_at
        # Read anew for each of the first, then now and then.
        if unread * 16 > seen or unread >= 32 or not self._survival:
            self._read_at = samples
            all_ended, all_cut, all_running = self.counts()
            at_risk = 0.0
            for ended, cut, running in zip(all_ended, all_cut, all_running, strict=True):
                at_risk += ended + cut + running
            left = 1.0
            self._survival = []
            for ended, cut, running in zip(all_ended, all_cut, all_running, strict=True):
                self._survival.append(left)
                if ended > 0.0:
                    left *= max(1.0 - ended / at_risk, 0.0)
                at_risk -= ended + cut + running
        return self._survival
