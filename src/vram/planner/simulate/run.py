"""The replay: arrivals, decisions of replicas and notices in the order of their times."""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf, isfinite
from typing import Final

from vram.errors import UsageError
from vram.planner.simulate.outcome import Outcome, PoolOutcome
from vram.planner.simulate.policy import EngineOwn, Policy
from vram.planner.simulate.replica import Replica
from vram.planner.simulate.request import Request
from vram.planner.simulate.router import Router
from vram.planner.simulate.sequence import Sequence as Running
from vram.planner.simulate.series import Series, level
from vram.planner.simulate.spec import PoolSpec, ServiceLevel

BUCKETS: Final = 256
_FINISHED, _GROWN, _TIMER, _DECISION = range(4)


def simulate(
    requests: Sequence[Request],
    pools: Sequence[PoolSpec],
    policy: Policy | None = None,
    *,
    levels: ServiceLevel | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Replay requests against pools under a policy of admission. Pure: the same input gives the same outcome.

    Args:
        requests: in the order of their arrival.
        pools: the pools, in the order in which they are tried.
        policy: who is sent where and when; None: everything at once to the replica with the most free KV (`EngineOwn`).
        levels: what counts as good service.
        progress: called now and then with requests arrived, and requests in all.

    Raises:
        UsageError: no request, no pool, requests that are not in order or whose lengths make no sense.
    """
    check(requests, pools)
    policy = policy or EngineOwn()
    span = requests[-1].arrival_seconds
    width = max(span, 1.0) * 1.05 / BUCKETS
    groups = [
        [Replica(pool.replica, Series(width_seconds=width, buckets=BUCKETS), pool=p, index=i) for i in range(pool.replicas)] for p, pool in enumerate(pools)
    ]
    replicas = [r for group in groups for r in group]
    flat = {(r.pool, r.index): n for n, r in enumerate(replicas)}
    sequences = [Running(i, r) for i, r in enumerate(requests)]
    router = Router(pools, groups)
    gate = policy.gate(router)
    heap: list[tuple[float, int, int, int]] = []
    woken: set[float] = set()

    def settle(replica: Replica, n: int, seen: int) -> None:
        """What a replica did becomes events: its next decision when that changed, and notices for a gate that heeds them."""
        if replica.version != seen and replica.next_decision < inf:
            heappush(heap, (replica.next_decision, _DECISION, n, replica.version))
        if gate.heeds:
            for seq in replica.finished:
                heappush(heap, (seq.finish_seconds, _FINISHED, seq.index, 0))
            for when, seq in replica.grown:
                heappush(heap, (when, _GROWN, seq.index, 0))
        replica.finished.clear()
        replica.grown.clear()

    def send(now: float) -> None:
        """Carry out what the gate decided, and wake it when it wants that."""
        for seq, replica in gate.sent():
            n, seen = flat[replica.pool, replica.index], replica.version
            replica.submit(seq, now)
            settle(replica, n, seen)
        for seq, replica, answered in gate.watched():
            n, seen = flat[replica.pool, replica.index], replica.version
            replica.watch(seq, answered)
            settle(replica, n, seen)
        wake = gate.wakes_at()
        if wake is not None and wake not in woken:
            woken.add(wake)
            heappush(heap, (max(wake, now), _TIMER, 0, 0))

    arrived, total = 0, len(requests)
    while True:
        coming = requests[arrived].arrival_seconds if arrived < total else inf
        due = heap[0][0] if heap else inf
        if coming == due == inf:
            break
        if coming <= due:
            gate.arrive(sequences[arrived], coming)
            send(coming)
            arrived += 1
            if progress is not None and arrived % 256 == 0:
                progress(arrived, total)
            continue
        now, kind, n, version = heappop(heap)
        if kind == _DECISION:
            replica = replicas[n]
            if replica.version == version:
                replica.decide(now)
                settle(replica, n, version)
            continue
        if kind == _FINISHED:
            gate.finish(sequences[n], now)
        elif kind == _GROWN:
            gate.grow(sequences[n], now)
        else:
            gate.tick(now)
        send(now)
    level([r.series for r in replicas])
    return Outcome.of(
        sequences,
        [PoolOutcome.of(pool, group) for pool, group in zip(pools, groups, strict=True)],
        policy=policy.name,
        levels=levels or ServiceLevel(),
    )


def check(requests: Sequence[Request], pools: Sequence[PoolSpec]) -> None:
    """Refuse what cannot be replayed.

    Raises:
        UsageError: see `simulate`.
    """
    if not requests:
        raise UsageError("the trace has no request", hint="a trace has at least one line: a time, prompt tokens and output tokens")
    if not pools:
        raise UsageError("there is no pool", hint="name one with --model and --gpu, or a pools file with --pools")
    before = 0.0
    for i, r in enumerate(requests):
        if not isfinite(r.arrival_seconds) or r.arrival_seconds < before:
            raise UsageError(f"request {i + 1} arrives at {r.arrival_seconds} s, the one before it at {before} s", hint="sort the trace by time, from 0 on")
        if r.prompt_tokens < 1 or r.answered_tokens < 1:
            raise UsageError(f"request {i + 1} has {r.prompt_tokens} prompt and {r.answered_tokens} output tokens", hint="both are at least 1")
        before = r.arrival_seconds
