"""The replica that jumps equals an engine loop that walks, and tiny cases equal timelines made by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_engine import replay

import vram
from vram.errors import UsageError
from vram.planner.simulate.blocks import BlockRule, Group
from vram.planner.simulate.from_plan import replica_of
from vram.planner.simulate.replica import Replica
from vram.planner.simulate.request import End, Request
from vram.planner.simulate.run import simulate
from vram.planner.simulate.sequence import Sequence
from vram.planner.simulate.series import Series
from vram.planner.simulate.spec import LinearClock, PoolSpec, ReplicaSpec


class Roofline:
    """Memory or compute, whichever takes longer: what a jump must not cross without a look."""

    def seconds(self, prefill_tokens: int, prefill_pairs: int, decode_sequences: int, kv_tokens: int) -> float:
        bytes_time = 1.0 + kv_tokens * 0.004
        return max(bytes_time, (prefill_tokens + decode_sequences) * 0.25) + prefill_pairs * 1e-4


CLOCKS = (LinearClock(step_seconds=1.0, prefill_token_seconds=0.05, decode_sequence_seconds=0.1, kv_token_seconds=0.003), Roofline())
RULES = (
    BlockRule.plain(1),
    BlockRule.plain(4),
    BlockRule.plain(16),
    BlockRule(groups=(Group(block_size=4), Group(block_size=0, fixed_blocks=2))),
    BlockRule(groups=(Group(block_size=4, tables=2), Group(block_size=8))),
)


@st.composite
def cases(draw: st.DrawFn, rules: tuple[BlockRule, ...] = RULES) -> tuple[ReplicaSpec, list[Request]]:
    rule = draw(st.sampled_from(rules))
    longest = draw(st.integers(8, 120))
    tokens = draw(st.integers(2, 64))
    seqs = draw(st.integers(1, min(tokens, 12)))
    chunked = draw(st.booleans())
    if not chunked:
        tokens = max(tokens, longest)
    watermark = draw(st.sampled_from((0, 0, 1, 3)))
    least = rule.peak(longest, tokens) + watermark
    spec = ReplicaSpec(
        blocks=least + draw(st.integers(0, 2 * least)),
        rule=rule,
        clock=draw(st.sampled_from(CLOCKS)),
        max_model_len=longest,
        max_num_seqs=seqs,
        max_batched_tokens=tokens,
        chunked_prefill=chunked,
        watermark_blocks=watermark,
        asynchronous=draw(st.booleans()),
    )
    now, requests = 0.0, []
    for _ in range(draw(st.integers(1, 14))):
        # Irrational gaps: no arrival falls on the very end of a step, where the last bit of a sum would decide.
        now += draw(st.sampled_from((0.0, 0.0, 0.7 * 2**0.5, 3.1 * 3**0.5, 11.3 * 5**0.5, 97.9 * 7**0.5)))
        prompt = draw(st.integers(1, longest - 1))
        output = draw(st.integers(1, longest - prompt))
        limit = draw(st.sampled_from((None, output, longest - prompt)))
        requests.append(Request(arrival_seconds=now, prompt_tokens=prompt, output_tokens=output, max_tokens=limit))
    return spec, requests


def compare(spec: ReplicaSpec, requests: list[Request]) -> None:
    expected, engine = replay(spec, requests)
    outcome = simulate(requests, [PoolSpec(name="a", replica=spec)])
    assert outcome.summary.preemptions == engine.preemptions
    for want, got in zip(expected, outcome.served, strict=True):
        assert got.end is End.FINISHED
        assert got.preemptions == want.preemptions
        assert got.ttft_seconds == pytest.approx(want.first - want.request.arrival_seconds, rel=1e-9, abs=1e-7)
        assert got.finish_seconds == pytest.approx(want.finish, rel=1e-9, abs=1e-7)
    assert outcome.summary.kv_share_peak == pytest.approx(engine.most_used / spec.blocks)


@settings(max_examples=200, deadline=None)
@given(cases())
def test_jumps_equal_steps(case: tuple[ReplicaSpec, list[Request]]) -> None:
    """Times, preemptions and the fullest moment are those of the loop that takes every step by itself."""
    compare(*case)


WINDOWS = (
    BlockRule(groups=(Group(block_size=4), Group(block_size=4, window=9))),
    BlockRule(groups=(Group(block_size=4, tables=2, window=13), Group(block_size=8))),
    BlockRule(groups=(Group(block_size=2, chunk=16), Group(block_size=4))),
    BlockRule(groups=(Group(block_size=2, chunk=8), Group(block_size=0, fixed_blocks=1), Group(block_size=4, window=6))),
)


def drive(spec: ReplicaSpec, requests: list[Request]) -> tuple[Replica, list[Sequence]]:
    """One replica without a router, looked at after every decision."""
    replica = Replica(spec, Series(width_seconds=1.0), pool=0, index=0)
    sequences = [Sequence(i, r) for i, r in enumerate(requests)]
    coming = list(reversed(sequences))
    while coming or replica.next_decision < float("inf"):
        if coming and coming[-1].request.arrival_seconds <= replica.next_decision:
            seq = coming.pop()
            replica.submit(seq, seq.request.arrival_seconds)
        else:
            replica.decide(replica.next_decision)
            assert 0 <= replica.free <= spec.blocks
            assert len(replica.running) <= spec.max_num_seqs
    return replica, sequences


@settings(max_examples=100, deadline=None)
@given(cases(rules=RULES + WINDOWS))
def test_blocks_never_exceed_the_pool_and_all_come_back(case: tuple[ReplicaSpec, list[Request]]) -> None:
    """At every decision the free blocks lie between none and all; at the end all are free, each request ended once, no beat is left."""
    spec, requests = case
    replica, sequences = drive(spec, requests)
    assert replica.free == spec.blocks
    assert replica.load == 0
    assert replica._beats.silent
    assert sorted(s.index for s in replica.finished) == list(range(len(requests)))
    for s in sequences:
        assert s.end is End.FINISHED
        assert s.generated == s.target == s.request.answered_tokens
        assert s.request.arrival_seconds <= s.admitted_seconds < s.first_seconds <= s.finish_seconds


@settings(max_examples=150, deadline=None)
@given(cases(rules=WINDOWS))
def test_jumps_equal_steps_with_windows(case: tuple[ReplicaSpec, list[Request]]) -> None:
    """The same where windows and chunks give blocks back as they are passed."""
    compare(*case)


def test_a_timeline_made_by_hand() -> None:
    """Three requests, two slots, 1 s a step and 0.1 s a prompt token, blocks of 4 tokens: every instant was worked out on paper.

    t=0    step 1: A's prompt (4 tokens) and B's (6)           1 + 1.0 = 2.0 s
    t=2.0  step 2: A, B decode: A ends (2 of 2)                1.0 s
    t=3.0  step 3: B decodes, C's prompt (2)                   1 + 0.2 = 1.2 s; C ends (1 of 1)
    t=4.2  step 4: B decodes and ends (4 of 4)                 1.0 s
    t=5.2
    """
    clock = LinearClock(step_seconds=1.0, prefill_token_seconds=0.1)
    spec = ReplicaSpec(blocks=10, rule=BlockRule.plain(4), clock=clock, max_model_len=16, max_num_seqs=2, max_batched_tokens=16)
    made = [(0.0, 4, 2), (0.0, 6, 4), (0.5, 2, 1)]
    requests = [Request(arrival_seconds=t, prompt_tokens=p, output_tokens=o) for t, p, o in made]
    served = simulate(requests, [PoolSpec(name="a", replica=spec)]).served
    assert [s.ttft_seconds for s in served] == pytest.approx([2.0, 2.0, 4.2 - 0.5])
    assert [s.finish_seconds for s in served] == pytest.approx([3.0, 5.2, 4.2])
    assert [s.queue_seconds for s in served] == pytest.approx([0.0, 0.0, 2.5])


def test_a_preemption_made_by_hand() -> None:
    """Five blocks of 2 tokens, two requests of 4 tokens that both answer 4: the second loses its blocks and computes all again.

    t=0  step 1: both prompts: 2 + 2 blocks, one token each
    t=1  step 2: both have computed 4 and need a third block; one is left: A takes it, B is preempted (4 + 1 tokens known)
    t=2  step 3: A's third token fits its third block; B needs 3 blocks, 2 are free
    t=3  step 4: A's fourth and last, in a fourth block; 1 is free
    t=4  step 5: B computes its 5 tokens again (3 blocks): its second token
    t=5  step 6, 7: its third and, in a fourth block, its fourth
    t=7
    """
    spec = ReplicaSpec(blocks=5, rule=BlockRule.plain(2), clock=LinearClock(step_seconds=1.0), max_model_len=10, max_num_seqs=4, max_batched_tokens=16)
    requests = [Request(arrival_seconds=0.0, prompt_tokens=4, output_tokens=4)] * 2
    outcome = simulate(requests, [PoolSpec(name="a", replica=spec)])
    assert [s.finish_seconds for s in outcome.served] == pytest.approx([4.0, 7.0])
    assert [s.preemptions for s in outcome.served] == [0, 1]
    assert [s.ttft_seconds for s in outcome.served] == pytest.approx([1.0, 1.0])
    assert outcome.summary.kv_share_peak == 4 / 5


@pytest.mark.parametrize(
    ("requests", "pools", "words"),
    [([], 1, "no request"), ([(5.0, 1, 1), (4.0, 1, 1)], 1, "sort the trace"), ([(0.0, 0, 1)], 1, "at least 1"), ([(0.0, 1, 1)], 0, "no pool")],
)
def test_what_cannot_be_replayed_is_refused_with_a_hint(requests: list[tuple[float, int, int]], pools: int, words: str) -> None:
    """Empty, unsorted and senseless input: one clear error."""
    spec = ReplicaSpec(blocks=8, rule=BlockRule.plain(4), clock=LinearClock(step_seconds=1.0), max_model_len=16, max_num_seqs=2, max_batched_tokens=16)
    made = [Request(arrival_seconds=t, prompt_tokens=p, output_tokens=o) for t, p, o in requests]
    with pytest.raises(UsageError) as error:
        simulate(made, [PoolSpec(name="a", replica=spec)] * pools)
    assert words in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize(
    "change",
    [{"max_model_len": 64}, {"max_num_seqs": 32}, {"blocks": 0}, {"chunked_prefill": False, "max_model_len": 31, "max_batched_tokens": 16, "max_num_seqs": 4}],
)
def test_a_replica_that_no_engine_would_start_is_refused(change: dict[str, int]) -> None:
    """A pool that does not hold one sequence, more sequences than tokens in a step, no blocks."""
    spec = ReplicaSpec(blocks=8, rule=BlockRule.plain(4), clock=LinearClock(step_seconds=1.0), max_model_len=32, max_num_seqs=16, max_batched_tokens=16)
    with pytest.raises(UsageError) as error:
        replace(spec, **change)
    assert error.value.hint


@pytest.mark.parametrize(
    ("model", "gpu", "engine"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "H100 SXM 80GB", "vllm"),
        ("google/gemma-3-27b-it", "H100 SXM 80GB", "vllm@0.19.0"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "4x H100 SXM 80GB", "vllm"),
        ("openai/gpt-oss-20b", "L40S", "vllm"),
        ("meta-llama/Llama-3.1-8B-Instruct", "H100 SXM 80GB", "sglang"),
        ("Qwen/Qwen3-8B", "RTX 4090", "generic"),
    ],
)
def test_a_plan_becomes_a_replica_that_holds_what_it_says(model: str, gpu: str, engine: str) -> None:
    """As many sequences of the plan's context as `max_concurrency` says fit its blocks, within 1 %: the null block, and a spare block of each window that a start counts."""
    made = vram.plan(model, gpu=gpu, engine=engine, context_tokens=8192, offline=True)
    spec = replica_of(made)
    assert made.kv_pool.max_concurrency is not None
    fit = spec.blocks / spec.rule.admits(8192)
    assert fit == pytest.approx(made.kv_pool.max_concurrency, rel=0.01)
    assert spec.clock.seconds(0, 0, 8, 8 * 4096) > spec.clock.seconds(0, 0, 1, 4096) > 0
