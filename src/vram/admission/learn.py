"""What is learned while requests run: how many tokens a byte of prompt makes, and how long answers get. A few counters each.

Until enough was seen the safe bound stands in: it is said to be one, and it never admits what would not fit.
"""

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

    __slots__ = ("_lengths", "_since", "_usual", "share", "unknown")

    def __init__(self, *, share: float = 0.9, unknown: int = 1024) -> None:
        """`share` of the answers shall not pass what is said; `unknown` stands in until enough was seen."""
        self.share = share
        self.unknown = unknown
        self._lengths = Quantiles(tuple(float(e) for e in _LENGTH_EDGES))
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

    def saw(self, tokens: int) -> None:
        """An answer ended of itself or at its limit."""
        self._lengths.add(tokens)
        self._since += 1
        if self._lengths.count >= ENOUGH and (self._since >= 32 or self._lengths.count == ENOUGH):
            self._since = 0
            found = self._lengths.at(self.share)
            self._usual = self.unknown if found == float("inf") else int(found)


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
