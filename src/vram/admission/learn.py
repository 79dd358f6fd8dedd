"""What is learned while requests run: how many tokens a byte of prompt makes, and how long answers get. A few counters each.

Until enough was seen the safe bound stands in: it is said to be one, and it never admits what would not fit.
"""

from math import log2
from typing import Final

SAFE_TOKENS_PER_BYTE: Final = 0.5
"""Prompts of any language and JSON around them: English text is about 0.25 to 0.31, and only scripts with few merges come near to 1 per character
(which is 2 or more bytes of UTF-8)."""
ENOUGH: Final = 20
"""Samples from which on what was learned is used."""
_FORGET_AT: Final = 4096
"""At so many samples all counts are halved: what was long ago fades."""


def place(edges: tuple[float, ...], value: float) -> int:
    """Which of the ascending edges is the first that `value` does not pass: `bisect.bisect_left`, which compares objects one by one through the interpreter."""
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) // 2
        if edges[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


class Quantiles:
    """Counts of values in bins, from which quantiles are read: the upper edge of the bin, so never too low."""

    __slots__ = ("_counts", "_edges", "_total")

    def __init__(self, edges: tuple[float, ...]) -> None:
        """Bins up to each of the ascending `edges`, and one beyond."""
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._total = 0

    @property
    def count(self) -> int:
        """Samples that still count."""
        return self._total

    def add(self, value: float) -> None:
        """One more sample."""
        self._counts[place(self._edges, value)] += 1
        self._total += 1
        if self._total >= _FORGET_AT:
            self._counts = [c // 2 for c in self._counts]
            self._total = sum(self._counts)

    def at(self, share: float, above: float = -1.0) -> float:
        """The value that `share` of the samples do not pass; of those above `above` only, where that is given.

        Infinite when the bin beyond the last edge is hit; 0 without samples.
        """
        first = place(self._edges, above) + 1 if above >= 0 else 0
        counts = self._counts[first:]
        wanted = share * sum(counts)
        seen = 0
        for i, count in enumerate(counts):
            seen += count
            if seen >= wanted and seen:
                found = first + i
                return self._edges[found] if found < len(self._edges) else float("inf")
        return float("inf") if above >= 0 else 0.0


_RATIO_EDGES: Final = tuple(0.02 * 1.06**i for i in range(70))
_LENGTH_EDGES: Final = tuple(sorted({round(2 ** (i / 4)) for i in range(72)}))


CELLS: Final = 181
"""Cells of lengths: of 16 tokens up to 1,024, of 128 up to 8,192, of 2,048 up to 131,072, and one beyond."""


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


_PRIOR: Final = _prior()


class PromptTokens:
    """Tokens of a prompt, from the bytes of its text; one for each model."""

    __slots__ = ("_fixed", "_high", "_low", "_ratios", "_since", "picture_tokens", "share")

    def __init__(self, *, share: float = 0.99, picture_tokens: int = 2048) -> None:
        """`share` of the prompts shall not have more tokens than is said; a picture is taken for `picture_tokens`."""
        self.share = share
        self.picture_tokens = picture_tokens
        self._ratios = Quantiles(_RATIO_EDGES)
        self._high = SAFE_TOKENS_PER_BYTE
        self._low = 0.0
        self._fixed = 32
        self._since = 0

    def most(self, prompt_bytes: int, pictures: int = 0) -> int:
        """Tokens that such a prompt hardly ever passes: chat templates add some that no byte of the request shows."""
        return int(prompt_bytes * self._high) + self._fixed + pictures * self.picture_tokens

    def least(self, prompt_bytes: int) -> int:
        """Tokens that it hardly ever falls below: what may be discounted as shared."""
        return int(prompt_bytes * self._low)

    def saw(self, prompt_bytes: int, tokens: int) -> None:
        """An engine counted. Short prompts are mostly template and teach nothing of text."""
        if prompt_bytes < 64 or tokens < 1:
            return
        self._ratios.add(max(tokens - self._fixed, 1) / prompt_bytes)
        self._since += 1
        # Quantiles are read now and then, not for each request.
        if self._ratios.count >= ENOUGH and (self._since >= 32 or self._low == 0.0):
            self._since = 0
            self._high = min(self._ratios.at(self.share), 1.0)
            self._low = self._ratios.at(1 - self.share) / 1.06


class OutputTokens:
    """How long answers get; one for each model. Asked with a limit, an answer is at most that long."""

    __slots__ = ("_cut", "_ended", "_lengths", "_running", "_seen", "_since", "_survival", "_unread", "_usual", "share", "unknown")

    def __init__(self, *, share: float = 0.9, unknown: int = 1024) -> None:
        """`share` of the answers shall not pass what `usual` says; `unknown` stands in until enough was seen."""
        self.share = share
        self.unknown = unknown
        self._lengths = Quantiles(tuple(float(e) for e in _LENGTH_EDGES))
        self._usual: int = unknown
        self._since = 0
        self._ended: list[float] = _PRIOR[:]
        self._cut = [0.0] * CELLS
        self._running = [0] * CELLS
        self._seen = self._unread = 0
        self._survival: list[float] = []

    def usual(self) -> int:
        """Tokens that most answers do not pass."""
        return self._usual

    def beyond(self, tokens: int) -> int:
        """The same of those answers that are longer than `tokens` already."""
        if self._lengths.count >= ENOUGH:
            found = self._lengths.at(self.share, above=tokens)
            if found > tokens and found != float("inf"):
                return int(found)
        return tokens + tokens // 2 + 16

    def saw(self, tokens: int, *, cut: bool = False) -> None:
        """An answer ended of itself, or (`cut`) at its limit: then it would have been longer."""
        self._lengths.add(tokens)
        self._since += 1
        if self._lengths.count >= ENOUGH and (self._since >= 32 or self._lengths.count == ENOUGH):
            self._since = 0
            found = self._lengths.at(self.share)
            self._usual = self.unknown if found == float("inf") else int(found)
        if cut:
            self.broke_off(tokens)
            return
        self._ended[cell(tokens)] += 1.0
        self._count()

    def broke_off(self, tokens: int) -> None:
        """An answer was cut or left after so many tokens: how long it would have got nobody knows."""
        self._cut[cell(tokens)] += 1.0
        self._count()

    def _count(self) -> None:
        self._seen += 1
        self._unread += 1
        if self._seen >= _FORGET_AT:
            self._seen //= 2
            self._ended = [(c + p) / 2 for c, p in zip(self._ended, _PRIOR, strict=True)]
            self._cut = [c / 2 for c in self._cut]

    def began(self) -> None:
        """An answer is under way."""
        self._running[0] += 1

    def went_on(self, before: int, tokens: int) -> None:
        """One that had `before` tokens has more."""
        at, to = cell(before), cell(tokens)
        if at != to:
            self._running[at] -= 1
            self._running[to] += 1

    def stopped(self, tokens: int) -> None:
        """One that had so many tokens is no longer under way; how it ended, `saw` is told."""
        self._running[cell(tokens)] -= 1

    def survival(self) -> list[float]:
        """By `cell` of a length: the share of answers that get there.

        Answers that a limit cut and those that still run count as far as they got (Kaplan and Meier, 1958,
        https://doi.org/10.1080/01621459.1958.10501452): else those that end first would make all look short.
        """
        # Read anew for each of the first, then now and then.
        if self._unread * 16 > self._seen or self._unread >= 32 or not self._survival:
            self._unread = 0
            at_risk = 0.0
            for ended, cut, running in zip(self._ended, self._cut, self._running, strict=True):
                at_risk += ended + cut + running
            left = 1.0
            self._survival = []
            for ended, cut, running in zip(self._ended, self._cut, self._running, strict=True):
                self._survival.append(left)
                if ended > 0.0:
                    left *= max(1.0 - ended / at_risk, 0.0)
                at_risk -= ended + cut + running
        return self._survival


class EventTokens:
    """Tokens that an event of a stream stands for, from below: an answer that is taken to be further than it is would be taken to end too soon.

    Mostly one; several where an engine sends them together. A single answer may have a hundred (characters of many tokens, of which none
    is sent before the last): it moves this little.
    """

    __slots__ = ("rate",)

    def __init__(self) -> None:
        self.rate = 1.0

    def saw(self, tokens: int, events: int) -> None:
        """A stream of one sequence ended."""
        found = tokens / events
        self.rate = min(found, self.rate * 1.05) if found > self.rate else (self.rate + found) / 2
