"""What one sequence of n tokens holds on one GPU of a replica, in bytes, to the block: the planner's own arithmetic, made quick.

An engine's rule is a sum of terms: blocks that grow with the tokens up to some number of them (a window), blocks that are there
whatever the length (a state). It knows neither how many sequences there are nor how large the pool is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

NO_LIMIT = 2**62
"""More tokens than any sequence has."""


class Term(NamedTuple):
    """`unit_bytes` x (ceil(min(tokens, most_tokens) / step_tokens) + extra)."""

    unit_bytes: int
    step_tokens: int
    most_tokens: int
    extra: int


@dataclass(frozen=True, kw_only=True)
class KvCurve:
    """Bytes of one sequence as a function of its tokens; never falls as they grow.

    Attributes:
        terms: the sum's terms.
    """

    terms: tuple[Term, ...]

    @cached_property
    def step_bytes(self) -> int:
        """Most bytes that one more token can add."""
        return sum(unit for unit, _, most, _ in self.terms if most > 0)

    @cached_property
    def states(self) -> bool:
        """Whether a sequence keeps something that is there whatever its length (a recurrent state)."""
        return any(unit > 0 and most == 0 and extra > 0 for unit, _, most, extra in self.terms)

    def nbytes(self, tokens: int) -> int:
        """Bytes that one sequence of `tokens` tokens holds."""
        total = 0
        for unit, step, most, extra in self.terms:
            total += unit * (extra - (-(min(tokens, most))) // step)
        return total

    def most_tokens(self, room_bytes: int) -> int:
        """Most tokens of one sequence in `room_bytes`; -1 when not even an empty one fits, `NO_LIMIT` when nothing grows."""
        if self.nbytes(0) > room_bytes:
            return -1
        low, high = 0, 1
        while self.nbytes(high) <= room_bytes:
            low, high = high, high * 2
            if high > NO_LIMIT:
                return NO_LIMIT
        while high - low > 1:
            middle = (low + high) // 2
            if self.nbytes(middle) <= room_bytes:
                low = middle
            else:
                high = middle
        return low


@dataclass(frozen=True, slots=True, kw_only=True)
class KvRoom:
    """What the KV cache of one rank holds, as its engine hands it out.

    Attributes:
        curve: what one sequence takes.
        capacity_bytes: bytes that sequences can take together, in whole units of the curve.
        context_tokens: the longest sequence.
        max_sequences: most sequences at once.
        block_bytes: of one block of the engine's pool; 0 where it hands out none.
        aside_bytes: of the pool, which no sequence is charged for: what the prompts of one step hold beyond what they keep.
        firm: whether what it has no room for fails, and with it all that run (llama.cpp); else it waits inside the engine.
    """

    curve: KvCurve
    capacity_bytes: int
    context_tokens: int
    max_sequences: int
    block_bytes: int = 0
    aside_bytes: int = 0
    firm: bool = False

    def of_blocks(self, blocks: int) -> int:
        """The capacity of a pool of so many blocks that sequences can get."""
        unit = self.block_bytes or max((t.unit_bytes for t in self.curve.terms), default=1)
        return max(blocks * unit - self.aside_bytes, 0)


def blocks(block_bytes: int, block_tokens: int) -> KvCurve:
    """Uniform full attention: whole blocks."""
    return KvCurve(terms=(Term(block_bytes, block_tokens, NO_LIMIT, 0),))


def sampled(kv_bytes: Callable[[int], int], breakpoints: Sequence[int], longest_tokens: int) -> KvCurve:
    """A curve out of an engine's rule that is linear between its breakpoints: windows that fill, full layers.

    Where the rule steepens (it hardly does: pages of several kinds, rounded), the curve runs above it. Between breakpoints it is taken at every token: a rule that rounds up to blocks has its own terms and needs no samples.

    Args:
        kv_bytes: bytes of one sequence of so many tokens.
        breakpoints: token counts at which the growth changes, ascending.
        longest_tokens: the longest sequence that matters.
    """
    points = [p for p in dict.fromkeys(breakpoints) if 0 < p < longest_tokens]
    ends = [*points, max(longest_tokens, (points[-1] if points else 0) + 2)]
    fixed = kv_bytes(0)
    slopes: list[int] = []
    start, before = 0, fixed
    for end in ends:
        value = kv_bytes(end)
        # Rounded up: a curve may say a byte too much, never too little.
        slopes.append(max(-((before - value) // (end - start)), 0))
        start, before = end, value
    for i in range(len(slopes) - 1, 0, -1):
        slopes[i - 1] = max(slopes[i - 1], slopes[i])
    terms = [Term(fixed, 1, 0, 1)] if fixed else []
    for i, end in enumerate(ends):
        fall = slopes[i] - (slopes[i + 1] if i + 1 < len(slopes) else 0)
        if fall:
            terms.append(Term(fall, 1, end if i + 1 < len(ends) else NO_LIMIT, 0))
    return KvCurve(terms=tuple(terms))
