"""The requests of one model as a sizing looks at them: how long, how dense, and where they press most. It knows no GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from vram.planner.simulate.request import Request
from vram.planner.size.levels import Levels, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of the trace: requests `first` (included) to `last` (excluded) arrive within `seconds`."""

    first: int
    last: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """What arrives for one model.

    Attributes:
        model: its public name.
        requests: in the order of their arrival; at least one.
    """

    model: str
    requests: Sequence[Request]

    @cached_property
    def longest_tokens(self) -> int:
        """Tokens of the longest request, prompt and answer together."""
        return max(r.prompt_tokens + r.answered_tokens for r in self.requests)

    @cached_property
    def seconds(self) -> float:
        """From the first arrival to the last."""
        return self.requests[-1].arrival_seconds - self.requests[0].arrival_seconds

    @cached_property
    def prompt_tokens(self) -> int:
        """Of all prompts."""
        return sum(r.prompt_tokens for r in self.requests)

    @cached_property
    def output_tokens(self) -> int:
        """Of all answers."""
        return sum(r.answered_tokens for r in self.requests)

    @cached_property
    def prompts(self) -> tuple[int, ...]:
        """Lengths of all prompts, ascending."""
        return tuple(sorted(r.prompt_tokens for r in self.requests))

    @cached_property
    def spoken(self) -> tuple[int, ...]:
        """Lengths of the prompts whose answers have more than one token, ascending."""
        return tuple(sorted(r.prompt_tokens for r in self.requests if r.answered_tokens > 1))

    def prompt_at(self, share: float) -> int:
        """The longest prompt among the `share` shortest."""
        return self.prompts[max(-int(-(len(self.prompts) * share - 1e-9) // 1) - 1, 0)]

    def exempt(self, levels: Levels) -> int:
        """How many requests need not see their first token in time: late by every TTFT level, or refused."""
        n = len(self.requests)
        late = min((level.allows(n) for level in levels.times if level.metric is Metric.TTFT), default=n)
        return late + levels.refusals(n)

    def busiest(self, seconds_more: float, exempt: int) -> Window:
        """The stretch whose prompts, less the `exempt` longest of all, must be read fastest.

        Whoever serves it in time has `seconds_more` after its end.
        """
        times = [r.arrival_seconds for r in self.requests]
        sums = [0, *accumulate(r.prompt_tokens for r in self.requests)]
        n, spared = len(times), sum(self.prompts[len(self.prompts) - exempt :]) if exempt else 0
        best, found = 0.0, Window(first=0, last=n, seconds=self.seconds)
        for halvings in range(11 if self.seconds else 1):
            width, first = self.seconds / 2**halvings, 0
            for last in range(n):
                while times[last] - times[first] > width:
                    first += 1
                rate = (sums[last + 1] - sums[first] - spared) / (times[last] - times[first] + seconds_more)
                if rate > best:
                    best, found = rate, Window(first=first, last=last + 1, seconds=times[last] - times[first])
        return found

    def densest(self, requests: int) -> Window:
        """The stretch of so many requests in a row whose prompts and answers come fastest."""
        n = min(max(requests, 1), len(self.requests))
        sums = [0, *accumulate(r.prompt_tokens + r.answered_tokens for r in self.requests)]
        times = [r.arrival_seconds for r in self.requests]
        least = max(self.seconds, 1e-9) / 1e6
        first = max(range(len(times) - n + 1), key=lambda i: (sums[i + n] - sums[i]) / max(times[i + n - 1] - times[i], least))
        return Window(first=first, last=first + n, seconds=times[first + n - 1] - times[first])

    def part(self, window: Window) -> "Load":
        """The requests of a stretch alone, from time 0 on."""
        chosen = self.requests[window.first : window.last]
        start = chosen[0].arrival_seconds
        return Load(
            model=self.model,
            requests=tuple(
                Request(
                    arrival_seconds=r.arrival_seconds - start,
                    prompt_tokens=r.prompt_tokens,
                    output_tokens=r.output_tokens,
                    max_tokens=r.max_tokens,
                    model=r.model,
                    priority=r.priority,
                    deadline_seconds=r.deadline_seconds,
                )
                for r in chosen
            ),
        )
