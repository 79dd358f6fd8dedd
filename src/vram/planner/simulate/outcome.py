"""What a replay gives: every request's times and end, what the replicas did over time, and the figures that sum it up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import floor

from vram.planner.simulate.replica import Replica
from vram.planner.simulate.request import End
from vram.planner.simulate.sequence import Sequence as Running
from vram.planner.simulate.series import together
from vram.planner.simulate.spec import PoolSpec, ServiceLevel


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value below which `share` of the ordered values lie, between neighbours by the line; None without values."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How one request went; times are None where there was none.

    Attributes:
        arrival_seconds: when it came.
        end: how it ended.
        pool: index of the pool that served it; -1 for none.
        replica: index of the replica in its pool; -1 for none.
        prompt_tokens: tokens of its prompt.
        answered_tokens: tokens that it was answered.
        ttft_seconds: from its arrival to its first token.
        tpot_seconds: per token after the first, on average; None for answers of one token.
        finish_seconds: when its last token came.
        preemptions: how often it lost its blocks.
        queue_seconds: from its arrival until it was first scheduled.
    """

    arrival_seconds: float
    end: End
    pool: int
    replica: int
    prompt_tokens: int
    answered_tokens: int
    ttft_seconds: float | None
    tpot_seconds: float | None
    finish_seconds: float | None
    preemptions: int
    queue_seconds: float | None

    def good(self, levels: ServiceLevel) -> bool:
        """Whether it was served within the levels."""
        if self.end.refused or self.ttft_seconds is None:
            return False
        if levels.ttft_seconds is not None and self.ttft_seconds > levels.ttft_seconds:
            return False
        return levels.tpot_seconds is None or self.tpot_seconds is None or self.tpot_seconds <= levels.tpot_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOutcome:
    """What the replicas of one pool did.

    Attributes:
        pool: the pool.
        width_seconds: of one bucket of the series.
        kv_share: share of all blocks in use, bucket by bucket.
        running: sequences running on average, all replicas together.
        waiting: requests waiting in the engines on average, all replicas together.
        busy_seconds: seconds in which each replica computed.
        preemptions: by replica.
        peak_share: the most blocks in use on any replica, as a share of its own.
        steps: engine steps, all replicas together.
        until_seconds: when the last step was over: with the last token, or (of an end that an engine saw too late) a step later.
    """

    pool: PoolSpec
    width_seconds: float
    kv_share: tuple[float, ...]
    running: tuple[float, ...]
    waiting: tuple[float, ...]
    busy_seconds: tuple[float, ...]
    preemptions: tuple[int, ...]
    peak_share: float
    steps: int
    until_seconds: float

    @property
    def buckets(self) -> int:
        """Buckets of the series up to the last in which anything ran."""
        return max((i + 1 for i, v in enumerate(self.running) if v > 0), default=0)

    @classmethod
    def of(cls, pool: PoolSpec, replicas: Sequence[Replica]) -> "PoolOutcome":
        """Sum up replicas after a replay."""
        total = together([r.series for r in replicas])
        width = total.width_seconds
        blocks = width * pool.replica.blocks * len(replicas)
        return cls(
            pool=pool,
            width_seconds=width,
            kv_share=tuple(v / blocks for v in total.used),
            running=tuple(v / width for v in total.running),
            waiting=tuple(v / width for v in total.waiting),
            busy_seconds=tuple(r.busy_seconds for r in replicas),
            preemptions=tuple(r.preemptions for r in replicas),
            peak_share=max(r.peak_blocks for r in replicas) / pool.replica.blocks,
            steps=sum(r.step for r in replicas),
            until_seconds=max(r.until_seconds for r in replicas),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Percentiles in seconds; None when no request has the figure."""

    p50: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of values in any order."""
        ordered = sorted(values)
        return cls(p50=percentile(ordered, 0.5), p90=percentile(ordered, 0.9), p99=percentile(ordered, 0.99))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a replay.

    Attributes:
        requests: all of them.
        ends: how many ended in which way.
        good: requests served within the levels.
        goodput_per_second: of those, per second of the replay.
        seconds: from the first arrival to the last token.
        prompt_tokens: of the requests that were answered.
        answered_tokens: of all answers.
        tokens_per_second: answered tokens per second of the replay.
        ttft: time to the first token.
        tpot: time per token after the first.
        queue: time until a request was first scheduled.
        preemptions: how often a sequence lost its blocks.
        preempted: requests that did at least once.
        kv_share_mean: mean share of the KV blocks in use from the first arrival to the last token, all pools together.
        kv_share_peak: the most that any replica had in use.
        busy_share: share of that time in which the replicas computed.
    """

    requests: int
    ends: dict[End, int]
    good: int
    goodput_per_second: float
    seconds: float
    prompt_tokens: int
    answered_tokens: int
    tokens_per_second: float
    ttft: Spread
    tpot: Spread
    queue: Spread
    preemptions: int
    preempted: int
    kv_share_mean: float
    kv_share_peak: float
    busy_share: float

    @property
    def refused(self) -> int:
        """Requests that got no answer."""
        return sum(n for end, n in self.ends.items() if end.refused)

    @property
    def good_share(self) -> float:
        """Share of all requests that were served within the levels."""
        return self.good / self.requests


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Outcome:
    """A replay.

    Attributes:
        policy: name of the policy.
        levels: what counted as good service.
        served: every request, in the order of the trace.
        pools: what each pool did.
    """

    policy: str
    levels: ServiceLevel
    served: tuple[Served, ...]
    pools: tuple[PoolOutcome, ...]

    @classmethod
    def of(cls, sequences: Sequence[Running], pools: Sequence[PoolOutcome], *, policy: str, levels: ServiceLevel) -> "Outcome":
        """Put together what a replay left."""
        return cls(policy=policy, levels=levels, served=tuple(_served(s, pools) for s in sequences), pools=tuple(pools))

    @cached_property
    def summary(self) -> Summary:
        """The figures, computed when first asked for."""
        served = self.served
        answered = [s for s in served if s.finish_seconds is not None]
        begin = served[0].arrival_seconds
        seconds = max((s.finish_seconds - begin for s in answered if s.finish_seconds is not None), default=0.0)
        good = sum(s.good(self.levels) for s in served)
        tokens = sum(s.answered_tokens for s in answered)
        per_second = 1 / seconds if seconds else 0.0
        whole = max([seconds, *(p.until_seconds - begin for p in self.pools)])
        used = sum(sum(p.kv_share) * p.width_seconds * p.pool.replica.blocks * p.pool.replicas for p in self.pools)
        room = sum(p.pool.replica.blocks * p.pool.replicas for p in self.pools)
        replicas = sum(p.pool.replicas for p in self.pools)
        return Summary(
            requests=len(served),
            ends=dict(Counter(s.end for s in served)),
            good=good,
            goodput_per_second=good * per_second,
            seconds=seconds,
            prompt_tokens=sum(s.prompt_tokens for s in answered),
            answered_tokens=tokens,
            tokens_per_second=tokens * per_second,
            ttft=Spread.of([s.ttft_seconds for s in answered if s.ttft_seconds is not None]),
            tpot=Spread.of([s.tpot_seconds for s in answered if s.tpot_seconds is not None]),
            queue=Spread.of([s.queue_seconds for s in answered if s.queue_seconds is not None]),
            preemptions=sum(sum(p.preemptions) for p in self.pools),
            preempted=sum(s.preemptions > 0 for s in served),
            kv_share_mean=used / whole / room if whole else 0.0,
            kv_share_peak=max(p.peak_share for p in self.pools),
            busy_share=sum(sum(p.busy_seconds) for p in self.pools) / whole / replicas if whole else 0.0,
        )


def _served(seq: Running, pools: Sequence[PoolOutcome]) -> Served:
    assert seq.end is not None  # noqa: S101  (the replay ends when nothing is left to happen)
    arrival, request = seq.request.arrival_seconds, seq.request
    done = seq.finish_seconds >= 0
    frontend = pools[seq.pool].pool.replica.frontend_seconds if done else 0.0
    return Served(
        arrival_seconds=arrival,
        end=seq.end,
        pool=seq.pool,
        replica=seq.replica,
        prompt_tokens=request.prompt_tokens,
        answered_tokens=seq.target if done else 0,
        ttft_seconds=seq.first_seconds - arrival + frontend if done else None,
        tpot_seconds=(seq.finish_seconds - seq.first_seconds) / (seq.target - 1) if done and seq.target > 1 else None,
        finish_seconds=seq.finish_seconds + frontend if done else None,
        preemptions=seq.preemptions,
        queue_seconds=seq.admitted_seconds - arrival if done else None,
    )
