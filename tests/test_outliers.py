"""Who is unlike its pool: found where it is, by a test of proportions that a table of chi-square confirms; and most of a pool never goes out by it."""

from copy import copy
from math import comb, log
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram.gateway.health import FAILURES, Cause, Health, State
from vram.gateway.outcomes import Outcomes, Sums
from vram.gateway.outliers import by_chance, most_out, of_one_source, outliers, panics
from vram.gateway.sources import MOST_SOURCES
from vram.readers.pools import Outliers

RULES = Outliers()
COUNTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=9)


def sums(answered, failed, firsts=()):
    made = Sums()
    made.answered, made.failed = answered, failed
    for tokens, seconds in firsts:
        made.first(tokens, seconds)
    return made


def found(*replicas, rules=RULES, sound=None):
    return [(one.number, one.cause) for one in outliers(replicas, sound or [True] * len(replicas), rules)]


@given(COUNTS, st.data())
def test_most_of_a_pool_never_goes_out(counts, data):
    """Whatever requests come to and whoever is out already: with all outliers out, no more of a pool are out than its share, one of two at least."""
    sound = data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts)))
    share = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9]))
    gone = outliers([sums(*c) for c in counts], sound, Outliers(most_out_share=share))
    assert len({one.number for one in gone}) == len(gone)
    assert all(sound[one.number] for one in gone)
    left = sum(sound) - len(gone)
    assert not gone or (left >= 1 and not panics(left, len(counts), share))
    assert not gone or len(counts) - left <= max(1, share * len(counts))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 9))
def test_who_is_like_all_others_stays(answered, failed, replicas):
    """However bad it is: what all do alike is no replica's fault. A pool of one has nothing to be unlike."""
    assert found(*[sums(answered, failed)] * replicas) == []


def asked(*requests):
    """Sums of requests of (client, group, whether it was failed), each so many times."""
    made = Sums()
    for number, client, group, failed in requests:
        for _ in range(number):
            made.fail(client, group) if failed else made.answer(client)
    return made


SERVED = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 5)), min_size=1, max_size=4)


@given(st.lists(SERVED, min_size=2, max_size=6), st.data())
def test_one_source_puts_nobody_out_who_serves_others(served, data):
    """However many requests of one client fail, at however many replicas: where others are answered, each stays. So it is with one group of a client's."""
    others = [[(n, client, 0, False) for n, client in of] for of in served]
    bad = [data.draw(st.lists(st.tuples(st.integers(0, 90), st.just(9), st.integers(1, 3), st.booleans()), max_size=6)) for _ in served]
    assert found(*[asked(*a, *b) for a, b in zip(others, bad, strict=True)]) == []
    one = [data.draw(st.lists(st.tuples(st.integers(0, 90), st.just(9), st.just(1), st.sampled_from([True])), max_size=2)) for _ in served]
    same = [[(n, 9, 0, False) for n, _ in of] for of in served]
    assert found(*[asked(*a, *b) for a, b in zip(same, one, strict=True)]) == []
    assert found(*[asked(*b) for b in one]) == []


@given(st.lists(st.tuples(st.integers(20, 60), st.integers(2, 5), st.integers(1, 5)), min_size=2, max_size=6), st.integers(1, 5))
def test_who_fails_several_goes_whoever_they_are(served, clients):
    """One that fails all that several groups ask, of one client or of several, beside replicas that answer all: it is found, as without sources."""
    bad = [(n, client % clients + 1, 10 * client + group, True) for client, (n, groups, _) in enumerate(served) for group in range(groups)]
    assert found(asked(*bad), *[asked((n, client, 0, False)) for n, _, client in served]) == [(0, Cause.FAILURE_SHARE)]


def test_what_is_left_without_the_worst_decides():
    """By hand: of three clients failed 20 times each, at one that answers a fourth 30 times, 40 of 70 are left without the worst: out; of two 20 of 50; of one none."""
    good = asked((60, 4, 0, False), (60, 5, 0, False))
    three = [(20, client, client, True) for client in (1, 2, 3)]
    assert found(asked(*three, (30, 4, 0, False)), good) == [(0, Cause.FAILING)]
    assert found(asked(*three[:2], (30, 4, 0, False)), good) == [(0, Cause.FAILING)]
    assert found(asked(*three[:1], (30, 4, 0, False)), good) == []
    one = [asked(*three[:1], (30, 4, 0, False)), good]
    assert [(o.number, o.own, o.others) for o in of_one_source(one, [True, True], RULES)] == [(0, 0.4, 0.0)]
    assert of_one_source([asked(*three), good], [True, True], RULES) == of_one_source(one, [False, True], RULES) == []
    # Of the second 3 in 50: without the first that is 6 %, within a tenth of the others.
    assert found(asked(three[0], (3, 2, 2, True), (47, 4, 0, False)), good) == []


@pytest.mark.parametrize("few", [[(1, 2, 2, True)], [(1, 2, 2, True), (4, 2, 0, False)], [(2, 2, 2, True), (20, 2, 0, False)]])
def test_what_one_source_breaks_and_a_failure_beside_it_put_nobody_out(few):
    """A client whose 200 requests fail, and beside it a request or two of another, which may fail by chance: that proves nothing of the replica."""
    good = asked((200, 4, 0, False))
    one = [(100, 1, 1, True), (100, 1, 3, True)]
    assert found(asked(*one, *few), good) == found(asked(*few, *one), good) == []


def test_what_is_certain_and_little_without_one_source_puts_nobody_out():
    """Without a client whose every request fails, 60 of 1,000 are failed where the others fail none: that is no chance, and less than a tenth."""
    rest = [*((1, 2 + i % 6, 100 + i, True) for i in range(60)), (940, 2, 0, False)]
    assert found(asked(*((1, 1, 1000 + i, True) for i in range(100)), *rest), asked((1000, 4, 0, False))) == []


def test_two_failures_of_others_are_enough_where_nobody_else_is_failed():
    """One client asks for nearly all, and fails; two requests of another do as well, where of the others' thousand none does: that is no chance."""
    good = asked((1000, 4, 0, False))
    assert found(asked((100, 1, 1, True), (100, 1, 3, True), (2, 2, 2, True)), good) == [(0, Cause.FAILING)]


@pytest.mark.parametrize("groups", [1, 50])
def test_what_one_source_breaks_everywhere_hides_nobody_who_fails_others(groups):
    """One client's every request fails at all replicas. One of these fails a third of the others' as well, and is found: its peers fail none of theirs."""
    broken = [(50 // groups, 1, 1 + i, True) for i in range(groups)]
    others = [*((1, 2 + i % 4, 100 + i, True) for i in range(40)), (80, 6, 0, False)]
    assert found(asked(*broken, *others), asked(*broken, (120, 6, 0, False))) == [(0, Cause.FAILING)]


def test_who_fails_as_often_as_all_do_hides_nobody_who_fails_everything():
    """All replicas fail 150 of 1,000 requests of a large client. Another is failed 149 times at one of them: without it that one is like all."""
    large = [*((1, 2, 1000 + i, True) for i in range(150)), (850, 2, 0, False)]
    assert found(asked(*((1, 1, i + 1, True) for i in range(149)), *large), asked(*large)) == []


@given(st.integers(1, 40), st.integers(1, 60), st.data())
def test_what_chance_does_is_counted_out(requests, others, data):
    """Against every way to strew the failures over all requests, each as likely: with fractions, term by term."""
    failed, theirs = data.draw(st.integers(0, requests)), data.draw(st.integers(0, others))
    bad, every = failed + theirs, requests + others
    ways = sum(comb(requests, k) * comb(others, bad - k) for k in range(failed, min(requests, bad) + 1))
    assert by_chance(failed, requests, theirs, others) == pytest.approx(ways / comb(every, bad), rel=1e-6)


@given(st.lists(st.tuples(st.integers(1, 400), st.booleans()), min_size=300, max_size=600))
def test_a_table_of_sources_is_bounded_and_keeps_who_is_failed(requests):
    """Of more clients than there is room for, those who are failed are kept, each failure of theirs."""
    made, failures = Sums(), {}
    for client, often in requests:
        if often and client < 200:
            made.fail(client, client)
            failures[client] = failures.get(client, 0) + 1
        else:
            made.answer(client)
    assert len(made.sources.clients) <= MOST_SOURCES
    assert {client: one.failed for client, one in made.sources.clients.items() if one.failed} == failures
    assert made.sources.groups == failures


@given(COUNTS.filter(lambda c: len(c) > 1), st.data())
def test_more_failures_and_fewer_answers_bring_nobody_back(counts, data):
    """Who is the first to go goes also when it fails more yet and answers as few, the others as they are."""
    before = found(*[sums(*c) for c in counts])
    if not before:
        return
    number = before[0][0]
    answered, failed = counts[number]
    worse = [*counts[:number], (data.draw(st.integers(0, answered)), failed + answered), *counts[number + 1 :]]
    assert number in {n for n, _ in found(*[sums(*c) for c in worse])} or sum(f / (a + f) >= RULES.failure_share for a, f in worse if a + f >= 20) > 1


# Fisher's own table: chi-square 9.0 at one degree of freedom is three standard deviations. By hand, without Yates' correction:
# 40 requests of which 12 failed, beside 120 of which 12: chi² = 160 (12·108 - 12·28)² / (40·120·24·136) = 9.41; 11 beside 12: 7.35.
def test_three_deviations_are_three():
    """Just above chi-square 9 it goes, just below it stays; with fewer requests than the least nobody is judged."""
    others = [sums(36, 4), sums(36, 4), sums(36, 4)]
    assert found(sums(28, 12), *others) == [(0, Cause.FAILING)]
    assert found(sums(29, 11), *others) == []
    assert found(sums(0, 19), *others) == []


def test_of_two_the_worse_one_goes():
    """Where Envoy's deviations over hosts tell nothing below five, requests do: one of two that fails half of them; and never both."""
    assert found(sums(50, 50), sums(100, 1)) == [(0, Cause.FAILING)]
    assert found(sums(3, 97), sums(100, 1)) == [(0, Cause.FAILURE_SHARE)]
    assert found(sums(3, 97), sums(2, 98)) == []
    assert found(sums(3, 97), sums(100, 1), rules=Outliers(most_out_share=0.0)) == []
    assert found(sums(3, 97), sums(100, 1), rules=Outliers(failure_share=0.0, failure_deviations=0.0)) == []
    assert found(sums(3, 97), sums(100, 1), rules=Outliers(least_replicas=3)) == []


def test_one_far_off_does_not_hide_the_next():
    """Two of five fail, one of them nearly always: both go; a third has no room left in a pool of five."""
    good = sums(100, 1)
    assert found(sums(0, 100), good, sums(60, 40), good, good) == [(0, Cause.FAILURE_SHARE), (2, Cause.FAILING)]
    assert len(found(sums(0, 100), good, sums(60, 40), good, sums(60, 40))) == 2
    # Who is out already is judged by nobody, and takes up room.
    assert found(sums(0, 100), good, sums(60, 40), good, good, sound=[False, False, True, True, True]) == []


def test_a_slow_one_is_slow_for_prompts_of_its_own_length():
    """Eight times the others' first token: out. As long, because it gets all the long prompts: not. Slow by little time: not."""
    quick = sums(100, 0, [(100, 0.3)] * 50)
    both = [sums(100, 0, [(100, 0.3), (30_000, 8.0)] * 25) for _ in range(2)]
    assert found(sums(100, 0, [(100, 2.4)] * 50), quick, quick) == [(0, Cause.SLOW)]
    assert found(sums(100, 0, [(30_000, 8.5)] * 50), *both) == []
    assert found(sums(100, 0, [(30_000, 40.0)] * 50), *both) == [(0, Cause.SLOW)]
    assert found(sums(100, 0, [(100, 0.4)] * 50), sums(100, 0, [(100, 0.02)] * 50)) == []
    assert found(sums(100, 0, [(100, 2.4)] * 19), quick, quick) == []
    assert found(sums(100, 0, [(100, 2.4)] * 50), quick, quick, rules=Outliers(slow_factor=0)) == []
    # One request that hung is no slow replica.
    assert found(sums(100, 0, [*[(100, 0.3)] * 49, (100, 600.0)]), quick, quick) == []


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60))
def test_a_window_holds_what_happened_in_it(events):
    """Looked at every second: everything of the last eleven twelfths of the window counts, nothing that is older than it."""
    outcomes, now, seen = Outcomes(), 1000.0, []
    for wait, failed in events:
        for _ in range(wait):
            now += 1.0
            outcomes.move_on(now, 60.0)
        outcomes.now.failed += failed
        outcomes.now.answered += not failed
        seen.append(now)
        assert sum(at > now - 55 for at in seen) <= outcomes.sums().requests <= sum(at > now - 61 for at in seen)
    outcomes.clear()
    assert outcomes.sums().requests == 0
    outcomes.now.answer(1)
    assert outcomes.sums().requests == 1


def test_whoever_was_answered_in_the_window_was():
    """Also in a part of it that is over, and no longer than it."""
    outcomes = Outcomes()
    outcomes.move_on(0.0, 60.0)
    outcomes.now.answer(1)
    outcomes.now.fail(2, 2)
    for now in range(5, 60, 5):
        assert (outcomes.served_others(1), outcomes.served_others(2)) == (False, True)
        outcomes.move_on(float(now), 60.0)
    assert outcomes.served_others(2)
    outcomes.move_on(60.0, 60.0)
    assert not outcomes.served_others(2)


def test_a_window_of_many_clients_costs_no_more_than_a_part_or_two():
    """Workers ask for it each second inside the ledger that all share: 256 other clients failed in each part are not added up each time."""

    def fill(sums, number):
        for client in range(1, MOST_SOURCES + 1):
            sums.fail(1000 * number + client, 1000 * number + client)

    outcomes, one = Outcomes(), Sums()
    for number in range(12):
        outcomes.move_on(5.0 * number, 60.0)
        fill(outcomes.now, number)
    fill(one, 99)

    def seconds(do):
        began = perf_counter()
        do()
        return perf_counter() - began

    assert min(seconds(outcomes.sums) for _ in range(20)) < 8 * min(seconds(lambda: Sums().add(one)) for _ in range(20))


def test_logarithms_add_up():
    """Sums of two replicas are those of their requests together."""
    one, two = sums(1, 2, [(10, 2.0)]), sums(3, 4, [(10, 8.0), (10**9, 1.0)])
    one.add(two)
    assert (one.answered, one.failed, one.requests) == (4, 6, 10)
    assert (one.firsts[0], one.firsts[-1]) == (2, 1)
    assert one.logs[0] == pytest.approx(log(16.0))


# --- a replica's state


def test_what_stands_out_stays_out_for_its_time():
    """No good answer brings it back before; each time in a row is longer; long after, the first time is the first again."""
    health = Health()
    spans, now = [], 1000.0
    for _ in range(3):
        health.eject(now, Cause.SLOW, 9.0, 1.0, 30.0)
        assert not health.good(now + 1)
        assert health.state(now + 1) is State.OUT
        assert "9.0 s" in health.why
        spans.append(health.seconds_out(now))
        now += spans[-1]
        assert health.wants_probe(now)
        assert health.good(now)
        assert (health.state(now), health.why, health.cause) == (State.UP, "", None)
    assert spans == [30, 60, 90]
    health.eject(now + 301, Cause.SLOW, 9.0, 1.0, 30.0)
    assert health.seconds_out(now + 301) == 30


@pytest.mark.parametrize(("away", "new"), [(State.LOADING, True), (State.OUT, True), (State.DRAINING, False)])
def test_an_engine_that_was_started_anew_answers_for_itself(away, new):
    """What the one before it did keeps it out no longer; one that only let its work end is the same as before."""
    health = Health()
    health.eject(1000.0, Cause.SLOW, 9.0, 1.0, 300.0)
    health.leave(away, "x")
    assert health.come() is new
    assert health.good(1001.0) is new
    assert (health.state(1001.0) is State.UP) is new


def test_only_proof_takes_out_who_is_spared():
    """Failures in a row make a suspect of it, which is asked and probed; a refused connection or a failed probe takes it out all the same."""
    for refused in (True, False):
        health = Health()
        assert [health.bad(1.0, "no") for _ in range(FAILURES)] == [False, False, True]
        assert not health.proven
        health.spared = True
        assert health.usable()
        assert (health.state(1.0), health.wants_probe(1.0)) == (State.SUSPECT, True)
        assert not health.bad(1.5, "no")
        assert health.bad(2.0, "gone", refused=refused, probe=not refused)
        assert health.proven
        assert not health.usable()
        assert health.why == "gone"
        assert not health.bad(2.5, "no")
    assert health.outs == {Cause.FAILURES: 1, Cause.PROBE: 1}


FAILED = st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([5, 6])), max_size=8)


@given(FAILED, st.booleans())
def test_failures_in_a_row_of_one_source_are_probed(failed, others):
    """Three of two groups, and of two clients where others are answered there, put it out; three of one source have it probed; silence is held against it whoever asked."""
    health = Health()
    health.good(1.0)
    for client, group in failed:
        health.bad(2.0, "no", client=client, group=group, others=others)
    several = len({group for _, group in failed}) > 1 and (not others or len({client for client, _ in failed}) > 1)
    assert health.out == (len(failed) >= FAILURES and several)
    assert health.doubted == (len(failed) >= FAILURES and not several)
    assert health.wants_probe(2.0) == health.doubted
    if health.doubted:
        mute = copy(health)
        assert mute.bad(2.5, "mute", probe=True)
        assert health.bad(2.5, "gone", refused=True, client=1, group=5)
        assert health.proven
        assert mute.proven
    elif not health.out:
        health.good(3.0)
        health.bad(4.0, "no", client=1, group=5)
        assert (health.failures, health.doubted) == (1, False)


@pytest.mark.parametrize("refused", [False, True])
def test_what_breaks_off_at_one_that_was_stopped_is_no_failure(refused):
    """Its engine was ended, by hand or for another model: what was cut takes nothing out, then or when it is there again."""
    health = Health()
    health.good(1.0)
    health.leave(State.STOPPED)
    assert [health.bad(2.0, "no", refused=refused, client=n, group=n) for n in range(1, 5)] == [False] * 4
    health.come()
    assert (health.out, health.outs, health.failures, health.state(3.0)) == (False, {}, 0, State.UP)


def test_refusals_count_whoever_asks():
    """Nobody listens: three requests of one conversation are enough, as they are with two that broke off."""
    for refused in ([True] * 3, [False, False, True], [True, True, False]):
        health = Health()
        health.good(1.0)
        assert [health.bad(2.0, "no", refused=r, client=1, group=1, others=True) for r in refused] == [False, False, True]


@given(st.integers(1, 50), st.integers(0, 50), st.floats(0, 1))
def test_a_pool_of_which_most_is_out_panics(replicas, out, share):
    """It does from more on than may be out by requests; with all of them in service never."""
    out = min(out, replicas)
    assert panics(replicas - out, replicas, share) == (out > most_out(replicas, share))
    assert not panics(replicas, replicas, share)
    assert most_out(replicas, share) <= max(replicas - 1, int(share * replicas))
    assert most_out(1, 0.5) == 0
    assert most_out(2, 0.1) == 1
