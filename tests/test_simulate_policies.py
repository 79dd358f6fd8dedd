"""Policies of admission side by side: what holds for each of them on any requests, and what the Azure trace shows."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_simulate_engine import CLOCKS, RULES

from vram.admission.books import Books
from vram.planner.simulate import leases
from vram.planner.simulate.blocks import BlockRule
from vram.planner.simulate.counts import RequestCounts
from vram.planner.simulate.leases import KvLeases, curve_of
from vram.planner.simulate.policy import EngineOwn, Policy
from vram.planner.simulate.request import End, Request
from vram.planner.simulate.run import simulate
from vram.planner.simulate.spec import LinearClock, PoolSpec, ReplicaSpec
from vram.sources.trace import read_trace

TRACE = Path(__file__).parents[1] / "truth" / "traces" / "azure_llm_2023_conv.csv.gz"
POLICIES: tuple[Policy, ...] = (
    EngineOwn(),
    RequestCounts(),
    RequestCounts(most=2),
    RequestCounts(most=3, queue_seconds=20.0),
    KvLeases(),
    KvLeases(share=0.5),
    KvLeases(share=0.999, queue_seconds=30.0),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[PoolSpec], list[Request]]:
    pools = []
    for i in range(draw(st.integers(1, 2))):
        rule, longest, tokens = draw(st.sampled_from(RULES)), draw(st.integers(8, 100)), draw(st.integers(8, 64))
        least = rule.peak(longest, tokens)
        spec = ReplicaSpec(
            blocks=least + draw(st.integers(0, 2 * least)),
            rule=rule,
            clock=draw(st.sampled_from(CLOCKS)),
            max_model_len=longest,
            max_num_seqs=draw(st.integers(1, 8)),
            max_batched_tokens=tokens,
            asynchronous=draw(st.booleans()),
        )
        pools.append(PoolSpec(name=f"p{i}", replica=spec, replicas=draw(st.integers(1, 3)), model=draw(st.sampled_from(("", "m")))))
    now, requests = 0.0, []
    for _ in range(draw(st.integers(1, 25))):
        now += draw(st.sampled_from((0.0, 0.0, 0.3 * 2**0.5, 2.9 * 3**0.5, 40 * 5**0.5)))
        prompt, output = draw(st.integers(1, 110)), draw(st.integers(1, 60))
        limit = draw(st.sampled_from((None, None, output, output + 9, max(output - 3, 1))))
        model = draw(st.sampled_from(("", "m", "other")))
        requests.append(Request(arrival_seconds=now, prompt_tokens=prompt, output_tokens=output, max_tokens=limit, model=model))
    return pools, requests


@settings(max_examples=100, deadline=None)
@given(worlds(), st.sampled_from(POLICIES))
def test_every_request_ends_in_one_way_and_tokens_are_conserved(world: tuple[list[PoolSpec], list[Request]], policy: Policy) -> None:
    """Each request has one end that its times bear out; nobody is refused for want of room; KV never exceeds a pool."""
    pools, requests = world
    outcome = simulate(requests, pools, policy)
    assert len(outcome.served) == len(requests)
    patience = getattr(policy, "queue_seconds", None)
    for r, s in zip(requests, outcome.served, strict=True):
        serving = [p.replica for p in pools if not r.model or not p.model or p.model == r.model]
        if s.end is End.NO_POOL:
            assert not serving
        elif s.end is End.TOO_LARGE:
            # Whoever states a limit that no context holds is refused by leases at once; an engine would refuse him, too.
            assert all(r.prompt_tokens + (r.max_tokens or 1) > spec.max_model_len for spec in serving)
        elif s.end is End.EXPIRED:
            assert patience is not None
        elif s.end is End.SHORTENED:
            assert s.prompt_tokens + s.answered_tokens == pools[s.pool].replica.max_model_len
            assert s.answered_tokens < r.answered_tokens
        else:
            assert s.answered_tokens == r.answered_tokens
        if not s.end.refused:
            assert s.ttft_seconds is not None
            assert s.finish_seconds is not None
            assert s.queue_seconds is not None
            assert 0 <= s.queue_seconds < s.ttft_seconds <= s.finish_seconds - s.arrival_seconds
        else:
            assert s.ttft_seconds is s.finish_seconds is None
            assert s.answered_tokens == 0
    summary = outcome.summary
    assert sum(summary.ends.values()) == len(requests)
    assert summary.answered_tokens == sum(s.answered_tokens for s in outcome.served)
    assert 0 <= summary.kv_share_mean <= summary.kv_share_peak + 1e-9 <= 1 + 1e-9
    assert all(0 <= v <= 1 + 1e-9 for p in outcome.pools for v in p.kv_share)
    assert summary.busy_share <= 1 + 1e-9


@settings(max_examples=100, deadline=None)
@given(worlds(), st.sampled_from([p for p in POLICIES if isinstance(p, KvLeases)]))
def test_leases_never_exceed_a_replica_and_all_come_back(world: tuple[list[PoolSpec], list[Request]], policy: KvLeases) -> None:
    """After every reservation, growth and release: the sum of the leases is the ledger, within capacity; at the end it is 0."""
    pools, requests = world
    books: set[Books] = set()

    class Watched(Books):
        def _look(self) -> None:
            books.add(self)
            assert self.held_bytes == sum(lease.held_bytes for lease in self.leases) <= self.capacity_bytes

        def reserve(self, *args: object) -> object:  # type: ignore[override]
            made = super().reserve(*args)  # type: ignore[arg-type]
            self._look()
            return made

        def grow(self, *args: object, **more: object) -> bool:  # type: ignore[override]
            done = super().grow(*args, **more)  # type: ignore[arg-type]
            self._look()
            return done

        def release(self, *args: object) -> bool:  # type: ignore[override]
            done = super().release(*args)  # type: ignore[arg-type]
            assert done
            self._look()
            return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "Books", Watched)
        simulate(requests, pools, policy)
    assert all(b.held_bytes == b.promised_bytes == b.sequences == 0 and not b.leases for b in books)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_worst_case_leases_are_never_preempted(world: tuple[list[PoolSpec], list[Request]]) -> None:
    """What every request may become is set aside: no engine ever runs out of blocks."""
    pools, requests = world
    pools = [p for p in pools if all(g.block_size for g in p.replica.rule.groups)] or [
        PoolSpec(name="a", replica=ReplicaSpec(blocks=40, rule=BlockRule.plain(4), clock=CLOCKS[0], max_model_len=100, max_num_seqs=4, max_batched_tokens=16))
    ]
    assert simulate(requests, pools, KvLeases()).summary.preemptions == 0


@settings(max_examples=60, deadline=None)
@given(worlds(), st.sampled_from(POLICIES))
def test_a_lone_request_is_admitted_at_once(world: tuple[list[PoolSpec], list[Request]], policy: Policy) -> None:
    """Whoever fits an empty replica and comes to an empty house starts the moment he comes."""
    pools, requests = world
    r = requests[0]
    served = simulate([r], pools, policy).served[0]
    assert served.end.refused or served.queue_seconds == 0


@settings(max_examples=60, deadline=None)
@given(worlds(), st.sampled_from([p for p in POLICIES if getattr(p, "queue_seconds", None) is None]))
def test_more_replicas_never_refuse_more(world: tuple[list[PoolSpec], list[Request]], policy: Policy) -> None:
    """The same requests, one replica more in each pool: at most as many refusals."""
    pools, requests = world
    more = [PoolSpec(name=p.name, replica=p.replica, replicas=p.replicas + 1, model=p.model) for p in pools]
    assert simulate(requests, more, policy).summary.refused <= simulate(requests, pools, policy).summary.refused


def azure(number: int) -> list[Request]:
    rows, _ = read_trace(TRACE, first=number)
    return [Request(arrival_seconds=r.seconds, prompt_tokens=r.prompt_tokens, output_tokens=r.output_tokens, max_tokens=2048) for r in rows]


TIGHT = ReplicaSpec(
    blocks=1200,
    rule=BlockRule.plain(16),
    clock=LinearClock(step_seconds=0.010, prefill_token_seconds=3e-5, decode_sequence_seconds=2e-5, kv_token_seconds=4e-8),
    max_model_len=16_384,
    max_num_seqs=256,
    max_batched_tokens=2048,
    asynchronous=True,
)


@pytest.mark.parametrize("policy", [RequestCounts(most=16, queue_seconds=5.0), KvLeases(share=0.999, queue_seconds=5.0)], ids=lambda p: p.name)
def test_more_replicas_refuse_less_on_the_azure_trace(policy: Policy) -> None:
    """Those who leave after 5 s of waiting become fewer with each replica, until nobody does."""
    refused = [simulate(azure(3000), [PoolSpec(name="a", replica=TIGHT, replicas=n)], policy).summary.refused for n in (1, 2, 3, 4)]
    assert refused == sorted(refused, reverse=True)
    assert refused[0] > 0


def test_learned_leases_keep_the_cache_full_and_hardly_preempt() -> None:
    """The first 4,000 requests of the conversation trace at one tight replica: what engines alone preempt, what worst-case leases waste."""
    pools = [PoolSpec(name="a", replica=TIGHT)]
    alone, worst, half, most = (simulate(azure(4000), pools, p).summary for p in (EngineOwn(), KvLeases(), KvLeases(share=0.95), KvLeases(share=0.999)))
    assert alone.preemptions > 500
    assert worst.preemptions == 0
    assert half.preemptions < alone.preemptions / 8
    assert most.preemptions < alone.preemptions / 100
    assert half.kv_share_mean > 0.85
    assert most.kv_share_mean > 0.80
    assert half.tokens_per_second > 0.98 * alone.tokens_per_second
    assert worst.tokens_per_second < 0.7 * most.tokens_per_second


@pytest.mark.parametrize(("trace", "speed"), [("conv", 4.0), ("code", 40.0)])
def test_the_gateways_rule_never_preempts_while_the_cache_is_full(trace: str, speed: float) -> None:
    """Both Azure traces, sped up until requests wait, answers of unknown length: no preemption, and at least 85 % of the blocks in use.

    The engines alone preempt, and are no faster.
    """
    rows, _ = read_trace(TRACE.with_name(f"azure_llm_2023_{trace}.csv.gz"), first=3000)
    requests = [Request(arrival_seconds=r.seconds / speed, prompt_tokens=r.prompt_tokens, output_tokens=r.output_tokens) for r in rows]
    tokens = 2048 if trace == "conv" else 8192
    pools = [PoolSpec(name="a", replica=replace(TIGHT, blocks=4000, max_batched_tokens=tokens))]
    alone, learned = simulate(requests, pools), simulate(requests, pools, KvLeases(share=0.999))
    assert alone.summary.preemptions > 0
    assert learned.summary.preemptions == 0
    shares, width = learned.pools[0].kv_share, learned.pools[0].width_seconds
    # From when the cache is first full until the last has come, somebody always waits.
    queued = [share for i, share in enumerate(shares) if (i + 1) * width < requests[-1].arrival_seconds]
    queued = queued[next(i for i, share in enumerate(queued) if share > 0.85) :]
    assert sum(queued) / len(queued) >= 0.85
    assert learned.summary.seconds <= 1.01 * alone.summary.seconds


@pytest.mark.parametrize("seed", range(4))
def test_told_lengths_never_preempt_on_a_small_pool(seed: int) -> None:
    """A pool for eight long answers, long and short ones mixed, each with its length as its limit: no preemption, and hardly a token a second less.

    Few sequences, and ends that all are relied on: nothing is left to the luck of many.
    """
    draw, requests, at = random.Random(seed), [], 0.0  # noqa: S311  (no secrets)
    while (at := at + draw.expovariate(1.5)) < 240:
        long = draw.random() < 0.3
        prompt, output = (draw.randrange(200, 600), draw.lognormvariate(5.8, 0.5)) if long else (draw.randrange(20, 120), draw.lognormvariate(3.2, 0.5))
        tokens = min(max(int(output), 8), 1200)
        requests.append(Request(arrival_seconds=at, prompt_tokens=prompt, output_tokens=tokens, max_tokens=tokens))
    clock = LinearClock(step_seconds=0.06, prefill_token_seconds=0.0006, decode_sequence_seconds=0.001)
    pools = [PoolSpec(name="a", replica=ReplicaSpec(blocks=200, rule=BlockRule.plain(32), clock=clock, max_model_len=2048, max_batched_tokens=512))]
    alone, learned = simulate(requests, pools).summary, simulate(requests, pools, KvLeases(share=0.999)).summary
    assert alone.preemptions > 20
    assert learned.preemptions == 0
    assert learned.tokens_per_second >= 0.97 * alone.tokens_per_second


def test_a_lease_counts_what_the_replica_holds() -> None:
    """The ledger's bytes of a sequence are the replica's blocks of it, at every length."""
    for rule in RULES:
        longest = 100
        spec = ReplicaSpec(blocks=1000, rule=rule, clock=CLOCKS[0], max_model_len=longest, max_num_seqs=4, max_batched_tokens=longest, block_bytes=7)
        curve = curve_of(spec)
        assert [curve.nbytes(n) for n in range(1, longest + 1)] == [7 * rule.held(0, n) for n in range(1, longest + 1)]
