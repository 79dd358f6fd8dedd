"""What is counted of requests, as they end: plain numbers, kept by public model and pool. `exposition.py` writes them out.

Once a request, never once a chunk: a few additions and four searches in short lists. The sets of labels are bounded by the pools file
(models, pools) and by the program itself (outcomes, codes); keys are none of them – money by key is `vram usage`'s.
"""

from typing import TYPE_CHECKING, Final

from vram.admission.learn import place

if TYPE_CHECKING:
    from vram.gateway.exchange import Exchange
    from vram.gateway.refusal import Refusal
    from vram.gateway.used import Used

# Bounds of vLLM's own histograms (vllm/v1/metrics/buckets.py of 0.32), so that panels made for them read ours; and below them shorter
# times, which small models reach.
Bounds = tuple[float, ...]
TTFT_SECONDS: Final[Bounds] = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0)
TPOT_SECONDS: Final[Bounds] = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
TOTAL_SECONDS: Final[Bounds] = (0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0)
QUEUE_SECONDS: Final[Bounds] = (0.0005, 0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)


class Histogram:
    """How often values fell between bounds; each bound belongs to what lies below it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def saw(self, value: float) -> None:
        """One value more."""
        self.counts[place(self.bounds, value)] += 1
        self.total += value


class Sums:
    """What requests of one model in one pool came to; `pool` is empty for those that no pool took."""

    __slots__ = ("gpu_microseconds", "kv_byte_seconds", "nano_dollars", "outcomes", "output_tokens", "prompt_tokens", "retries", "saved_byte_seconds")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.prompt_tokens = self.output_tokens = self.kv_byte_seconds = self.gpu_microseconds = self.nano_dollars = self.retries = 0
        self.saved_byte_seconds = 0


class Times:
    """How long requests of one model took."""

    __slots__ = ("queue", "total", "tpot", "ttft")

    def __init__(self) -> None:
        self.queue = Histogram(QUEUE_SECONDS)
        self.ttft = Histogram(TTFT_SECONDS)
        self.tpot = Histogram(TPOT_SECONDS)
        self.total = Histogram(TOTAL_SECONDS)


class Tally:
    """All counts of one process since it began.

    Attributes:
        sums: by model and pool.
        times: by model.
        refusals: answers of the gateway's own, by code and status.
        fallbacks: requests that were let in another way than they asked, by model and what was done.
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], Sums] = {}
        self.times: dict[str, Times] = {}
        self.refusals: dict[tuple[str, int], int] = {}
        self.fallbacks: dict[tuple[str, str], int] = {}

    def refused(self, refusal: "Refusal") -> None:
        """The gateway answered itself."""
        at = refusal.code, refusal.status
        self.refusals[at] = self.refusals.get(at, 0) + 1

    def ended(self, x: "Exchange", used: "Used") -> None:
        """A request that had reached the desk is over."""
        at = used.model, used.pool
        sums = self.sums.get(at)
        if sums is None:
            sums = self.sums[at] = Sums()
        sums.outcomes[used.outcome] = sums.outcomes.get(used.outcome, 0) + 1
        sums.prompt_tokens += used.prompt_tokens
        sums.output_tokens += used.completion_tokens
        sums.kv_byte_seconds += used.kv_byte_seconds
        sums.saved_byte_seconds += used.saved_byte_seconds
        sums.gpu_microseconds += used.gpu_microseconds
        sums.nano_dollars += used.nano_dollars
        if x.tries > 1:
            sums.retries += x.tries - 1
        if used.fallback:
            for what in used.fallback.split(","):
                self.fallbacks[used.model, what] = self.fallbacks.get((used.model, what), 0) + 1
        times = self.times.get(used.model)
        if times is None:
            times = self.times[used.model] = Times()
        times.queue.saw(used.queue_seconds)
        if used.outcome != "ok":
            return
        times.total.saw(used.total_seconds)
        ttft = used.ttft_seconds
        if ttft is not None and x.ask.stream:
            times.ttft.saw(ttft)
            if used.completion_tokens > 1:
                times.tpot.saw((used.total_seconds - ttft) / (used.completion_tokens - 1))
