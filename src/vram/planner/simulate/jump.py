"""Steps in a row in which the same sequences decode: their number, and when each ends, from a few looks at the clock."""

from typing import Final

from vram.speed.step import StepClock

_LINEAR: Final = 1e-9
"""How far, relatively, the middle of a jump may lie off the line between its ends."""


class Jump:
    """Such steps. Each takes `slope` seconds more than the one before, because every sequence has a token more to read."""

    __slots__ = ("base", "first", "slope", "steps")

    def __init__(self, base: float, steps: int, first: float, slope: float) -> None:
        """`steps` steps from `base` on; the first takes `first` seconds."""
        self.base, self.steps, self.first, self.slope = base, steps, first, slope

    def end(self, k: int) -> float:
        """When the k-th step is over; `base` for 0."""
        return self.base + k * self.first + self.slope * (k * (k - 1) // 2)


def jump(clock: StepClock, base: float, steps: int, sequences: int, kv_tokens: int) -> Jump | None:
    """At most `steps` steps from `base` on; None when not even two lie on a line.

    A clock is convex in the cached tokens (a maximum of lines): when the middle lies on the line between the ends, all between does.
    """
    seconds = clock.seconds
    while steps >= 2:
        first, last = seconds(0, 0, sequences, kv_tokens), seconds(0, 0, sequences, kv_tokens + (steps - 1) * sequences)
        slope = (last - first) / (steps - 1)
        half = (steps - 1) // 2
        if steps < 3 or abs(first + slope * half - seconds(0, 0, sequences, kv_tokens + half * sequences)) <= _LINEAR * last:
            return Jump(base, steps, first, slope)
        steps //= 2
    return None
