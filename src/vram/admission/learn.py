"""What is learned while requests run: how many tokens a byte of prompt makes, and how long answers get. A few counters each.

Until enough was seen the safe bound stands in: it is said to be one, and it never admits what would not fit.
"""

from typing import Final

from vram.admission.life_table import FORGET_AT, LifeTable, cell

SAFE_TOKENS_PER_BYTE: Final = 0.5
"""Prompts of any language and JSON around them: English text is about 0.25 to 0.31, and only scripts with few merges come near to 1 per character
(which is 2 or more bytes of UTF-8)."""
ENOUGH: Final = 20
"""Samples from which on what was learned is used."""


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

    def counts(self) -> list[int]:
        """By bin."""
        return self._counts

    def replace(self, counts: list[int]) -> None:
        """Others in their place."""
        self._counts = counts
        self._total = sum(counts)

    def add(self, value: float) -> None:
        """One more sample."""
        self.put(place(self._edges, value))
        if self.count >= FORGET_AT:
            self.replace([c // 2 for c in self.counts()])

    def put(self, number: int) -> None:
        """One more in a bin."""
        self._counts[number] += 1
        self._total += 1

    def at(self, share: float, above: float = -1.0) -> float:
        """The value that `share` of the samples do not pass; of those above `above` only, where that is given.

        Infinite when the bin beyond the last edge is hit; 0 without samples.
        """
        first = place(self._edges, above) + 1 if above >= 0 else 0
        counts = self.counts()[first:]
        wanted = share * sum(counts)
        seen = 0
        for i, count in enumerate(counts):
            seen += count
            if seen >= wanted and seen:
                found = first + i
                return self._edges[found] if found < len(self._edges) else float("inf")
        return float("inf") if above >= 0 else 0.0


RATIO_EDGES: Final = tuple(0.02 * 1.06**i for i in range(70))
LENGTH_EDGES: Final = tuple(sorted({round(2 ** (i / 4)) for i in range(72)}))


class PromptTokens:
    """Tokens of a prompt, from the bytes of its text; one for each model."""

    __slots__ = ("_fixed", "_high", "_low", "_ratios", "_since", "picture_tokens", "share")

    def __init__(self, *, share: float = 0.99, picture_tokens: int = 2048, ratios: Quantiles | None = None) -> None:
        """`share` of the prompts shall not have more tokens than is said; a picture is taken for `picture_tokens`; `ratios` has what was seen."""
        self.share = share
        self.picture_tokens = picture_tokens
        self._ratios = ratios or Quantiles(RATIO_EDGES)
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
        if self._since >= 32 or self._low == 0.0:
            self.refresh()

    def refresh(self) -> None:
        """Go by all that was seen so far."""
        if self._ratios.count >= ENOUGH:
            self._since = 0
            self._high = min(self._ratios.at(self.share), 1.0)
            self._low = self._ratios.at(1 - self.share) / 1.06


class OutputTokens:
    """How long answers get; one for each model. Asked with a limit, an answer is at most that long."""

    __slots__ = ("_lengths", "_since", "_table", "_usual", "share", "unknown")

    def __init__(self, *, share: float = 0.9, unknown: int = 1024, lengths: Quantiles | None = None, table: LifeTable | None = None) -> None:
        """`share` of the answers shall not pass what `usual` says; `unknown` stands in until enough was seen; `lengths`, `table` have what was seen."""
        self.share = share
        self.unknown = unknown
        self._lengths = lengths or Quantiles(LENGTH_EDGES)
        self._table = table or LifeTable()
        self._usual: int = unknown
        self._since = 0

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
        if self._since >= 32 or self._lengths.count == ENOUGH:
            self.refresh()
        if cut:
            self._table.cut(tokens)
        else:
            self._table.ended(tokens)

    def refresh(self) -> None:
        """Go by all that was seen so far."""
        if self._lengths.count >= ENOUGH:
            self._since = 0
            found = self._lengths.at(self.share)
            self._usual = self.unknown if found == float("inf") else int(found)

    def broke_off(self, tokens: int) -> None:
        """An answer was cut or left after so many tokens: how long it would have got nobody knows."""
        self._table.cut(tokens)

    def began(self) -> None:
        """An answer is under way."""
        self._table.runs(0, 1)

    def went_on(self, before: int, tokens: int) -> None:
        """One that had `before` tokens has more."""
        if cell(before) != cell(tokens):
            self._table.runs(before, -1)
            self._table.runs(tokens, 1)

    def stopped(self, tokens: int) -> None:
        """One that had so many tokens is no longer under way; how it ended, `saw` is told."""
        self._table.runs(tokens, -1)

    def survival(self) -> list[float]:
        """By `cell` of a length: the share of answers that get there."""
        return self._table.survival()


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
