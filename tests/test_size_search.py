"""The search for pools of least cost: equal to brute force, its bounds are bounds, its answer keeps the levels and one replica less does not."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram.errors import UsageError
from vram.planner.simulate.blocks import BlockRule
from vram.planner.simulate.request import Request
from vram.planner.simulate.run import simulate
from vram.planner.simulate.spec import LinearClock, PoolSpec, ReplicaSpec
from vram.planner.size.bounds import broken_floor, least_replicas, lone_ttft_seconds
from vram.planner.size.candidate import Candidate
from vram.planner.size.levels import Level, Levels, Metric, Reached, Verdict, at_share, judge
from vram.planner.size.load import Load
from vram.planner.size.replayer import Replayer, verdict_of
from vram.planner.size.search import Why, search

NANO = 10**9
TTFT = Levels(times=(Level(metric=Metric.TTFT, share=0.9, seconds=1.0),))


def spec(step=0.01, token=1e-4, pair=0.0, sequence=1e-4, batched=512, blocks=400):
    clock = LinearClock(step_seconds=step, prefill_token_seconds=token, prefill_pair_seconds=pair, decode_sequence_seconds=sequence)
    return ReplicaSpec(blocks=blocks, rule=BlockRule.plain(16), clock=clock, max_model_len=2048, max_num_seqs=16, max_batched_tokens=batched)


def candidate(price, replica=None, name="gpu"):
    return Candidate(gpu=name, gpus=1, engine="vllm", plan=None, spec=replica or spec(), nanodollars_per_hour=price * NANO)


def load(requests):
    return Load(model="m", requests=tuple(Request(arrival_seconds=t, prompt_tokens=p, output_tokens=o) for t, p, o in sorted(requests)))


class Table:
    """A replay by table: a candidate keeps the levels from so many replicas on."""

    def __init__(self, needs):
        self.needs, self.asked = needs, []

    def full(self, c, replicas):
        self.asked.append((c.gpu, replicas))
        ok = replicas >= self.needs[c.gpu]
        reached = (Reached(level=TTFT.times[0], seconds=0.5 if ok else 2.0, late=0 if ok else 10, allowed=1),)
        return Verdict(reached=reached, refused=0, refusals_allowed=0, requests=10)

    part = full


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 200)), min_size=1, max_size=8))
def test_the_cheapest_of_any_table_is_found(rows):
    """Whatever each candidate costs and needs: the search finds what trying everything finds, of equals the earlier."""
    candidates = [candidate(price, name=str(i)) for i, (price, _) in enumerate(rows)]
    needs = {str(i): n for i, (_, n) in enumerate(rows)}
    found = search(load([(0, 10, 2), (1, 10, 2)]), TTFT, candidates, Table(needs), most_replicas=200)
    assert found.best is not None
    assert found.best.replicas == needs[found.best.candidate.gpu]
    assert found.best.nanodollars_per_hour == min(price * n * NANO for price, n in rows)
    assert {t.candidate.gpu for t in found.tried} == set(needs)
    assert [t.why for t in found.tried].count(Why.CHOSEN) == 1


def test_few_replays_lead_far():
    """A thousand replicas are found in some twenty steps, not one by one."""
    table = Table({"gpu": 777})
    found = search(load([(0, 10, 2)]), TTFT, [candidate(1)], table, most_replicas=1024)
    assert found.best.replicas == 777
    assert len(table.asked) <= 2 * 25


def test_without_an_answer_all_that_was_tried_is_told():
    """When the most replicas do not suffice, there is no best, and each candidate says how far it came."""
    found = search(load([(0, 10, 2)]), TTFT, [candidate(1)], Table({"gpu": 10}), most_replicas=4)
    assert found.best is None
    assert [(t.why, t.replicas, t.verdict.worst) for t in found.tried] == [(Why.MANY, 4, "p90 TTFT 2 s of 1 s")]


requests = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 1500), st.integers(1, 40)), min_size=1, max_size=40)
specs = st.builds(
    spec,
    step=st.sampled_from([0.001, 0.02]),
    token=st.sampled_from([1e-5, 1e-3]),
    pair=st.sampled_from([0.0, 1e-7]),
    batched=st.sampled_from([64, 512, 2048]),
    blocks=st.sampled_from([130, 1000]),
)
levels = st.builds(
    lambda ttft, tpot, share, refused: Levels(
        times=(Level(metric=Metric.TTFT, share=share, seconds=ttft), *([Level(metric=Metric.TPOT, share=share, seconds=tpot)] if tpot else [])),
        refused_share=refused,
    ),
    st.sampled_from([0.05, 0.5, 3.0]),
    st.sampled_from([None, 0.01, 0.1]),
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sampled_from([0.0, 0.1]),
)


@settings(max_examples=60, deadline=None)
@given(requests, specs, levels)
def test_bounds_are_never_above_what_a_replay_does(rows, replica, asked):
    """Where a floor is said to break no number of replicas keeps the levels; below the least number they break."""
    arriving = load(rows)
    floor = broken_floor(arriving, asked, replica)
    if floor is not None:
        outcome = simulate(arriving.requests, [PoolSpec(name="p", replica=replica, replicas=len(rows))])
        assert not verdict_of(outcome, asked).met
        return
    least = least_replicas(arriving, asked, replica, arriving.busiest(min(x.seconds for x in asked.times), arriving.exempt(asked)))
    if least > 1:
        outcome = simulate(arriving.requests, [PoolSpec(name="p", replica=replica, replicas=least - 1)])
        assert not verdict_of(outcome, asked).met


def test_a_lone_prompt_is_read_in_the_time_that_a_replay_takes():
    """The floor of a time to the first token is what an idle replica needs, chunks and attention counted."""
    for prompt, batched in product([1, 63, 64, 65, 1500], [64, 512]):
        replica = spec(pair=1e-7, batched=batched)
        outcome = simulate(load([(0.0, prompt, 1)]).requests, [PoolSpec(name="p", replica=replica)])
        assert outcome.served[0].ttft_seconds == pytest.approx(lone_ttft_seconds(replica, prompt))


@settings(max_examples=25, deadline=None)
@given(requests, st.lists(st.tuples(st.integers(1, 5), specs), min_size=1, max_size=4), levels)
def test_the_answer_is_the_cheapest_of_all_that_can_be_tried(rows, offers, asked):
    """On small loads: every candidate with every number of replicas is replayed; none that keeps the levels is cheaper."""
    arriving, most = load(rows), 8
    candidates = [candidate(price, replica, name=str(i)) for i, (price, replica) in enumerate(offers)]
    kept = {
        (c.gpu, n): c.nanodollars_per_hour * n
        for c in candidates
        for n in range(1, most + 1)
        if verdict_of(simulate(arriving.requests, [PoolSpec(name="p", replica=c.spec, replicas=n)]), asked).met
    }
    found = search(arriving, asked, candidates, Replayer(arriving, asked), most_replicas=most)
    if found.best is None:
        assert kept == {}
        return
    best = found.best
    assert (best.candidate.gpu, best.replicas) in kept
    assert (best.candidate.gpu, best.replicas - 1) not in kept
    assert best.nanodollars_per_hour == min(kept.values())


def test_levels_count_requests():
    """Of 200 requests, p99 lets two be late; the time that is told is the one that decides."""
    level = Level(metric=Metric.TTFT, share=0.99, seconds=1.0)
    assert level.allows(200) == 2
    for late, met in ((2, True), (3, False)):
        values = [0.5] * (200 - late) + [5.0] * late
        (reached,) = judge(Levels(times=(level,)), {Metric.TTFT: values}, refused=0, requests=200).reached
        assert reached.met is met
        assert (reached.seconds <= 1.0) is met
    assert at_share([3, 1, 2], 1.0) == 3
    assert at_share([3, 1, 2], 0.5) == 2
    assert at_share([], 0.5) is None
    refused = judge(Levels(times=(level,), refused_share=0.01), {Metric.TTFT: [0.5]}, refused=3, requests=200)
    assert not refused.met
    assert refused.worst == "3 of 200 requests refused or cut short"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Level(metric=Metric.TTFT, share=0, seconds=1),
        lambda: Level(metric=Metric.TTFT, share=1.1, seconds=1),
        lambda: Level(metric=Metric.TTFT, share=0.9, seconds=0),
        lambda: Level(metric=Metric.TTFT, share=0.9, seconds=float("nan")),
        lambda: Levels(times=()),
        lambda: Levels(times=TTFT.times, refused_share=1.0),
        lambda: Levels(times=TTFT.times, refused_share=-0.1),
    ],
)
def test_levels_that_make_no_sense_are_refused(make):
    """In words, with a hint."""
    with pytest.raises(UsageError) as e:
        make()
    assert e.value.hint


def test_a_load_knows_where_it_presses():
    """Ten requests in a second among a hundred spread over minutes: the busiest and the densest stretch are those ten."""
    rows = [(10.0 * i, 100, 5) for i in range(100)] + [(501 + 0.1 * i, 1000, 5) for i in range(10)]
    arriving = load(rows)
    window = arriving.busiest(1.0, 0)
    chosen = arriving.requests[window.first : window.last]
    assert sum(r.prompt_tokens == 1000 for r in chosen) == 10
    assert len(chosen) <= 12
    dense = arriving.densest(10)
    assert all(r.prompt_tokens == 1000 for r in arriving.requests[dense.first : dense.last])
    part = arriving.part(dense)
    assert part.requests[0].arrival_seconds == 0
    assert len(part.requests) == 10
