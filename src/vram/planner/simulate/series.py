"""What happens over time in a bounded number of buckets: blocks in use, sequences running, requests waiting."""

from array import array
from collections.abc import Sequence


class Series:
    """Integrals over time of three levels, in buckets that double their width when time goes on.

    Attributes:
        width_seconds: of one bucket.
    """

    __slots__ = ("buckets", "running", "used", "waiting", "width_seconds")

    def __init__(self, *, width_seconds: float, buckets: int = 256) -> None:
        """Empty buckets from 0 on; `buckets` is even."""
        self.buckets, self.width_seconds = buckets, width_seconds
        self.used, self.running, self.waiting = (array("d", bytes(8 * buckets)) for _ in range(3))

    def add(self, start: float, end: float, used_before: int, used_after: int, running: int, waiting: int) -> None:
        """Blocks in use go from one level to another between two times; the other levels stay."""
        while end >= self.width_seconds * self.buckets:
            self._widen()
        width = self.width_seconds
        i, last = int(start / width), int(end / width)
        if i == last:
            seconds = end - start
            self.used[i] += seconds * (used_before + used_after) / 2
            self.running[i] += seconds * running
            self.waiting[i] += seconds * waiting
            return
        slope = (used_after - used_before) / (end - start)
        left = start
        while i <= last:
            right = min(end, (i + 1) * width)
            seconds = right - left
            self.used[i] += seconds * (used_before + slope * ((left + right) / 2 - start))
            self.running[i] += seconds * running
            self.waiting[i] += seconds * waiting
            left = right
            i += 1

    def _widen(self) -> None:
        """Two buckets become one."""
        half = self.buckets // 2
        for levels in (self.used, self.running, self.waiting):
            for i in range(half):
                levels[i] = levels[2 * i] + levels[2 * i + 1]
            for i in range(half, self.buckets):
                levels[i] = 0.0
        self.width_seconds *= 2


def together(series: Sequence[Series]) -> Series:
    """The sum of several, in the widest one's buckets."""
    level(series)
    total = Series(width_seconds=series[0].width_seconds, buckets=series[0].buckets)
    for one in series:
        for mine, theirs in ((total.used, one.used), (total.running, one.running), (total.waiting, one.waiting)):
            for i, value in enumerate(theirs):
                mine[i] += value
    return total


def level(series: Sequence[Series]) -> None:
    """Give all the widest one's buckets."""
    width = max(s.width_seconds for s in series)
    for one in series:
        while one.width_seconds < width:
            one._widen()  # noqa: SLF001  (its own kind)
