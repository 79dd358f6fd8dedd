"""Ended requests summed by what usage is asked for by: key, model, pool, replica, outcome, fallback, and whether tokens were counted.

A busy gateway ends tens of thousands of requests a second; of those that differ in nothing that anybody groups by, the sums say all
that usage needs. What single requests did is the log's to tell. Money, bytes and tokens are whole numbers: sums of them are exact.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vram.gateway.used import Used

MINUTE: Final = 60.0
"""Requests that ended in different minutes stay apart, however long they wait to be written: hours and months stay sharp."""

At = tuple[float, str, str, str, str, str, str, bool]


class Group:
    """Sums of the requests of one group.

    Attributes:
        last: when the last of them ended, seconds since 1970.
        answered: how many got a first byte; `ttft_seconds` sums their times until it.
    """

    __slots__ = (
        "answered",
        "completion_tokens",
        "gpu_microseconds",
        "kv_byte_seconds",
        "last",
        "nano_dollars",
        "prompt_tokens",
        "queue_seconds",
        "requests",
        "total_seconds",
        "ttft_seconds",
    )

    def __init__(self) -> None:
        self.requests = self.answered = self.prompt_tokens = self.completion_tokens = self.kv_byte_seconds = self.gpu_microseconds = self.nano_dollars = 0
        self.last = self.queue_seconds = self.ttft_seconds = self.total_seconds = 0.0

    def merge(self, other: "Group") -> None:
        """Add the sums of other requests."""
        self.last = max(self.last, other.last)
        self.requests += other.requests
        self.answered += other.answered
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.kv_byte_seconds += other.kv_byte_seconds
        self.gpu_microseconds += other.gpu_microseconds
        self.nano_dollars += other.nano_dollars
        self.queue_seconds += other.queue_seconds
        self.ttft_seconds += other.ttft_seconds
        self.total_seconds += other.total_seconds


class Groups:
    """Groups of ended requests, at most `most` of them.

    Attributes:
        requests: how many requests they sum.
    """

    __slots__ = ("_by", "_most", "requests")

    def __init__(self, used: "Iterable[Used]" = (), *, most: int = 2**62) -> None:
        self._by: dict[At, Group] = {}
        self._most = most
        self.requests = 0
        for one in used:
            self.add(one)

    def __len__(self) -> int:
        return len(self._by)

    def add(self, used: "Used") -> bool:
        """Add one request. Returns whether there was room for it."""
        at = (used.at // MINUTE, used.key, used.model, used.pool, used.replica, used.outcome, used.fallback, used.counted)
        group = self._by.get(at)
        if group is None:
            if len(self._by) >= self._most:
                return False
            group = self._by[at] = Group()
        self.requests += 1
        group.requests += 1
        group.last = max(group.last, used.at)
        group.prompt_tokens += used.prompt_tokens
        group.completion_tokens += used.completion_tokens
        group.kv_byte_seconds += used.kv_byte_seconds
        group.gpu_microseconds += used.gpu_microseconds
        group.nano_dollars += used.nano_dollars
        group.queue_seconds += used.queue_seconds
        group.total_seconds += used.total_seconds
        ttft = used.ttft_seconds
        if ttft is not None:
            group.answered += 1
            group.ttft_seconds += ttft
        return True

    def take_back(self, others: "Groups") -> None:
        """Add groups that could not be written; what was held before is never dropped."""
        self.requests += others.requests
        for at, group in others._by.items():  # noqa: SLF001  (of the same class)
            mine = self._by.get(at)
            if mine is None:
                self._by[at] = group
            else:
                mine.merge(group)

    def rows(self) -> "Iterator[tuple[float | str | int, ...]]":
        """A row of the usage's table for each group, as `store.COLUMNS` has them."""
        for (_, key, model, pool, replica, outcome, fallback, counted), g in self._by.items():
            yield (
                g.last,
                key,
                model,
                pool,
                replica,
                outcome,
                fallback,
                counted,
                g.requests,
                g.answered,
                g.prompt_tokens,
                g.completion_tokens,
                g.kv_byte_seconds,
                g.gpu_microseconds,
                g.nano_dollars,
                g.queue_seconds,
                g.ttft_seconds,
                g.total_seconds,
            )
