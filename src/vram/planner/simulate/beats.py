"""When sequences that decode take and give back blocks, as counts by the step: so that many steps cost no look at any sequence.

A sequence that decodes takes a block each time its length passes a multiple of the block size, and gives one back each time its window
passes one. Which steps these are follows from the remainder of the step by the block size.
"""

from bisect import bisect_right
from typing import Final

from vram.planner.simulate.blocks import BlockRule
from vram.planner.simulate.sequence import Sequence

_ROUND: Final = 64
"""Steps at the end of many that are searched for the fullest one: a round of blocks of up to 64 tokens."""


class Beat:
    """How many sequences take (or give back) blocks at which step: counts by the step's remainder."""

    __slots__ = ("counts", "period", "weight")

    def __init__(self, period: int, weight: int) -> None:
        """No sequence yet; each that beats takes `weight` blocks."""
        self.period, self.weight, self.counts = period, weight, [0] * period

    def over(self, step: int, steps: int) -> int:
        """Blocks of the `steps` steps after `step`."""
        period, counts = self.period, self.counts
        if steps == 1:
            return counts[(step + 1) % period] * self.weight
        rounds, rest = divmod(steps, period)
        total = rounds * sum(counts) if rounds else 0
        if rest:
            first = (step + 1) % period
            last = first + rest
            total += sum(counts[first:last]) if last <= period else sum(counts[first:]) + sum(counts[: last - period])
        return total * self.weight


class Beats:
    """The beats of all groups of one replica.

    At step S a sequence has computed S - phase tokens before, where its phase is `zero + 2 - prompt`; windows look back from what
    is settled, which is `lag` tokens less.
    """

    __slots__ = ("_gives", "_lag", "_takes")

    def __init__(self, rule: BlockRule, lag: int) -> None:
        """Nobody decodes; `lag` is 1 where a step is scheduled while the one before it runs, else 0."""
        self._lag = lag
        self._takes = [Beat(g.block_size, g.tables) for g in rule.groups if g.block_size]
        self._gives = [(Beat(g.block_size, g.tables), g.window) for g in rule.groups if g.block_size and g.window]
        # A chunk that is full gives all its blocks back at once.
        self._gives += [(Beat(g.chunk, g.tables * (g.chunk // g.block_size)), 1) for g in rule.groups if g.block_size and g.chunk]

    @property
    def windows(self) -> bool:
        """Whether anything is given back while sequences decode."""
        return bool(self._gives)

    @property
    def silent(self) -> bool:
        """Whether nobody beats."""
        return not any(any(beat.counts) for beat in (*self._takes, *(b for b, _ in self._gives)))

    def takes(self, step: int, steps: int = 1) -> int:
        """Blocks that the `steps` steps after `step` take."""
        return sum(beat.over(step, steps) for beat in self._takes)

    def gives(self, step: int, steps: int = 1) -> int:
        """Blocks that they give back."""
        return sum(beat.over(step, steps) for beat, _ in self._gives)

    def net(self, step: int, steps: int) -> int:
        """Blocks that they take in the end."""
        return self.takes(step, steps) - self.gives(step, steps)

    def most(self, step: int, steps: int) -> int:
        """Blocks that they take when most are in use."""
        if not self._gives:
            return self.takes(step, steps)
        # Blocks come and go; over a whole round of all beats their number never falls, so the most is in the last one.
        return max(self.net(step, k) for k in range(max(steps - _ROUND, 0) + 1, steps + 1))

    def within(self, step: int, steps: int, free: int) -> int:
        """How many of the `steps` steps after `step` surely find their blocks among `free`."""
        if self.takes(step, steps) <= free:
            return steps
        return bisect_right(range(1, steps + 1), free, key=lambda k: self.takes(step, k))

    def join(self, seq: Sequence) -> None:
        """One more beats."""
        phase = seq.zero + 2 - seq.prompt
        for beat in self._takes:
            beat.counts[phase % beat.period] += 1
        seq.opened = 0

    def leave(self, seq: Sequence) -> None:
        """One beats no more."""
        phase = seq.zero + 2 - seq.prompt
        for beat in self._takes:
            beat.counts[phase % beat.period] -= 1
        for i, (beat, reach) in enumerate(self._gives):
            if seq.opened & 1 << i:
                beat.counts[(phase + self._lag + reach - 1) % beat.period] -= 1

    def open(self, seq: Sequence, step: int) -> int:
        """Let its windows that are full at `step` give back what they pass; the step at which the next one is, 0 for none."""
        phase, following = seq.zero + 2 - seq.prompt, 0
        for i, (beat, reach) in enumerate(self._gives):
            if seq.opened & 1 << i:
                continue
            opens = phase + self._lag + reach - 1
            if opens <= step:
                seq.opened |= 1 << i
                beat.counts[opens % beat.period] += 1
            else:
                following = min(following or opens, opens)
        return following
