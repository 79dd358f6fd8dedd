"""Admission: never above capacity, nothing leaked, nobody starved; decided by a pure function."""

from bisect import bisect_left
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram.admission.books import FRESH_SECONDS, PASSING_SECONDS, Books
from vram.admission.decide import LARGER, OTHER, SHORTER, WAIT, Admit, Pool, Refuse, Route, decide
from vram.admission.learn import ENOUGH, EventTokens, OutputTokens, PromptTokens, place
from vram.admission.line import AGING_SECONDS, LOOKED_AT, Line, Shares
from vram.admission.need import Need
from vram.admission.peak import LINGER_STEPS
from vram.memory.curve import NO_LIMIT, KvCurve, Term, blocks, sampled

BLOCK = 1000


def books(name="r", capacity=100, context=1 << 20, sequences=1 << 20, tokens=10, curve=None):
    return Books(name, curve or blocks(BLOCK, tokens), capacity * BLOCK, context_tokens=context, max_sequences=sequences)


def route(*replicas, model="m", **options):
    return Route(model=model, pools=(Pool("p", model, replicas),), **options)


# --- the curve


@given(tokens=st.integers(0, 5000), step=st.integers(1, 300), most=st.integers(1, 4000), extra=st.integers(0, 5))
def test_a_curve_never_falls_and_its_inverse_is_its_inverse(tokens, step, most, extra):
    """More tokens never take fewer bytes; `most_tokens` is the last length that fits."""
    curve = KvCurve(terms=(Term(7, step, most, extra), Term(5, 16, NO_LIMIT, 0)))
    assert curve.nbytes(tokens) <= curve.nbytes(tokens + 1)
    room = curve.nbytes(tokens)
    best = curve.most_tokens(room)
    assert curve.nbytes(best) <= room < curve.nbytes(best + 1)


@given(window=st.integers(1, 500), slope=st.integers(1, 50), full=st.integers(0, 50), fixed=st.integers(0, 100), tokens=st.integers(0, 3000))
def test_a_sampled_curve_is_the_rule(window, slope, full, fixed, tokens):
    """A window that fills beside full attention and a state comes out as it went in."""

    def rule(n):
        return fixed + slope * min(n, window) + full * n

    assert sampled(rule, [window], 3000).nbytes(tokens) == rule(tokens)


# --- learning


def test_what_is_not_known_is_bounded_and_what_is_learned_comes_near():
    """Before samples the safe bound; after them the high quantile, never under what was seen."""
    prompt = PromptTokens()
    assert prompt.most(10_000) >= 5000
    for i in range(200):
        prompt.saw(4000, 1000 + i % 100)
    assert 1100 <= prompt.most(4000) <= 1300
    assert 900 <= prompt.least(4000) <= 1000
    output = OutputTokens(unknown=512)
    assert output.usual() == 512
    for i in range(100):
        output.saw(100 + i)
    assert 175 <= output.usual() <= 230
    assert output.beyond(150) >= 175
    assert output.beyond(5000) > 5000


@given(lengths=st.lists(st.integers(1, 100_000), min_size=ENOUGH, max_size=300))
def test_a_learned_length_holds_for_its_share(lengths):
    """At least nine in ten of what was seen do not pass it."""
    output = OutputTokens()
    for length in lengths:
        output.saw(length)
    # Read when enough were seen and now and then after: asked of what had been seen by then.
    fresh = OutputTokens()
    for length in lengths[:ENOUGH]:
        fresh.saw(length)
    assert sum(n <= fresh.usual() for n in lengths[:ENOUGH]) >= 0.9 * ENOUGH


def test_tokens_of_an_event_are_learned_from_below():
    """Streams of four tokens an event are soon known for that; one answer that shows nothing for long is no reason to think all are ahead."""
    events = EventTokens()
    for _ in range(40):
        events.saw(400, 101)
    assert 3.5 <= events.rate <= 4
    events = EventTokens()
    events.saw(300, 3)
    assert 1 <= events.rate <= 1.1
    events.saw(300, 302)
    assert 0.9 <= events.rate <= 1.05


# --- deciding


def test_the_ladder():
    """Another replica, a later pool, another model, a shorter answer; each told."""
    small, large = books("small", capacity=10), books("large", capacity=100)
    other = route(books("other", capacity=1000), model="o")
    two = Route(model="m", pools=(Pool("s", "m", [small]), Pool("l", "m", [large])), others=(other,), least_output_tokens=10)
    assert decide(Need(20, 30), two, 0.0).books is small
    answer = decide(Need(20, 300, 300), two, 0.0)
    assert (answer.books, answer.fallback) == (large, (LARGER,))
    answer = decide(Need(20, 3000, 3000), two, 0.0)
    assert (answer.pool.model, answer.fallback) == ("o", (OTHER,))
    answer = decide(Need(900, 300_000, 300_000), two, 0.0)
    assert isinstance(answer, Admit)
    assert answer.fallback[-1] == SHORTER
    assert answer.most >= 10
    refused = decide(Need(500_000, 10, 10), two, 0.0)
    assert isinstance(refused, Refuse)
    assert not refused.down
    assert refused.longest_tokens == 1000


def test_waiting_tries_all_at_the_last_moment():
    """A full route makes it wait; at its deadline another model may answer."""
    full, other = books(capacity=10), route(books("o"), model="o")
    here = route(full, others=(other,))
    full.reserve(Need(50, 50), 50, 50, 0.0)
    assert decide(Need(20, 30, 30), here, 0.0) is WAIT
    assert decide(Need(20, 30, 30), here, 0.0, last=True).fallback == (OTHER,)


def test_all_down_is_told():
    """A route without a usable replica refuses as down, not as too long."""
    dead = books()
    dead.usable = False
    answer = decide(Need(1, 1), route(dead), 0.0)
    assert isinstance(answer, Refuse)
    assert answer.down


@given(prompt=st.integers(0, 2000), output=st.integers(1, 2000), limited=st.booleans(), sequences=st.integers(1, 8), capacity=st.integers(1, 100))
def test_a_lone_request_is_let_in_or_refused_for_ever(prompt, output, limited, sequences, capacity):
    """On an empty replica nothing waits."""
    answer = decide(Need(prompt, output, output if limited else None, sequences=sequences), route(books(capacity=capacity, sequences=2)), 0.0)
    assert answer is not WAIT


def test_peaks_let_in_more_than_sums():
    """A long answer near its end makes room for a short one: sums would refuse, the peak fits."""
    replica = books(capacity=1000, tokens=1)
    first = replica.reserve(Need(100, 700), 700, 700, 0.0)
    replica.grow(first, 100, 1.0)
    # 200 are held and 800 promised, 600 steps to go. One that ends after 200 steps meets it at 400, and is gone when it is at 800.
    assert replica.promised_bytes + 500 * BLOCK > replica.capacity_bytes
    assert isinstance(decide(Need(300, 200), route(replica), 1.0), Admit)
    # One that is as long as it meets it at its end.
    assert decide(Need(300, 600), route(replica), 1.0) is WAIT


def test_promises_beyond_capacity_keep_nobody_out_who_fits():
    """With more promised than there is, one that ends before the others have grown is still let in, and so is the next."""
    replica = books(capacity=1000, tokens=1)
    for _ in range(2):
        replica.reserve(Need(100, 300), 300, 300, 0.0)
    for _ in range(3):
        answer = decide(Need(150, 20), route(replica), 0.0)
        assert isinstance(answer, Admit)
        replica.reserve(Need(150, 20), answer.expected, answer.most, 0.0)
    assert replica.promised_bytes > replica.capacity_bytes


def test_peaks_are_counted_in_whole_blocks():
    """Four requests, each begun 128 steps after the one before, fit 18 blocks of 128 tokens; with a block of slack for each they would not.

    When the first ends, at 200 + 500 tokens, it holds six, the others five, four and three.
    """
    replica = books(capacity=18, tokens=128)
    leases: list = []
    for step in range(384 + 500):
        for i, lease in enumerate(leases):
            made = step - 128 * i
            if made > 500:
                replica.release(lease, float(step))
            else:
                assert replica.grow(lease, made, float(step))
        if step in {0, 128, 256, 384}:
            need = Need(200, 500, 500)
            assert isinstance(decide(need, route(replica), float(step)), Admit), step
            leases.append(replica.reserve(need, 500, 500, float(step)))
    assert len(leases) == 4


def test_a_stream_that_is_seen_late_is_taken_to_be_as_far_as_another_that_began_with_it():
    """Of two that began together one shows 290 of its 300 tokens, the other 20: its engine may be as far with it, and so it is counted."""
    replica = books(capacity=900, tokens=1, context=4000)
    seen, late = (replica.reserve(Need(100, 300, 300), 300, 300, 0.0) for _ in range(2))
    replica.grow(seen, 290, 1.0)
    replica.grow(late, 20, 1.0)
    # 390 + 120 + 300 are held; as far as it was seen, the late one would not hold 150 when the other ends.
    third = Need(300, 26, 26)
    assert decide(third, route(replica), 1.0) is WAIT
    replica.release(late, 2.0)
    assert isinstance(decide(third, route(replica), 2.0), Admit)


def test_what_does_not_stream_stays_in_the_peak():
    """An answer that comes at once at its end holds its place until then: another that grows meanwhile is counted beside it, not after it."""
    replica = books(capacity=100, tokens=10)
    replica.reserve(Need(100, 500, 500, streams=False), 500, 500, 0.0)
    # 60 blocks are held for 500 steps; this one would hold 45 after 400 of them.
    assert decide(Need(50, 400, 400), route(replica), 0.0) is WAIT
    assert isinstance(decide(Need(50, 300, 300), route(replica), 0.0), Admit)


def test_an_engines_word_counts_while_it_is_fresh():
    """What others hold there is respected, and forgotten when nobody confirms it."""
    replica = books(capacity=10)
    replica.report(8 * BLOCK, 0.0)
    assert decide(Need(20, 20), route(replica), 0.0) is WAIT
    assert isinstance(decide(Need(20, 20), route(replica), FRESH_SECONDS + 0.1), Admit)


def test_what_was_held_when_the_engine_was_asked_is_nobody_elses():
    """Its answer comes late: a lease that ended meanwhile is in it, and is no stranger's."""
    replica = books(capacity=10)
    lease = replica.reserve(Need(60, 20), 20, 20, 0.0)
    replica.asked()
    replica.release(lease, 0.1)
    replica.report(6 * BLOCK, 0.2)
    assert replica.foreign_bytes(0.2) == 0
    replica.asked()
    replica.report(6 * BLOCK, 1.2)
    assert replica.foreign_bytes(1.2) == 6 * BLOCK


def test_where_nothing_waits_inside_the_engine_limits_count():
    """An engine that fails what it has no room for: an answer is let in by its limit, not by what is usual, and never more sequences than slots."""

    def firm(sequences=4):
        return Books("r", blocks(BLOCK, 10), 20 * BLOCK, context_tokens=200, max_sequences=sequences, firm=True)

    replica = firm()
    answer = decide(Need(50, 10, 100), route(replica), 0.0)
    assert (answer.expected, answer.most) == (100, 100)
    replica.reserve(Need(50, 10, 100), 100, 100, 0.0)
    assert decide(Need(50, 10, 100), route(replica), 0.0) is WAIT
    assert isinstance(decide(Need(50, 10, 100), route(books(capacity=20, context=200)), 0.0), Admit)
    # Without a limit it may take all that there is: it comes alone.
    assert decide(Need(50, 10), route(firm()), 0.0).expected == 150
    assert decide(Need(50, 10), route(replica), 0.0) is WAIT
    assert isinstance(decide(Need(10, 10, 10, sequences=5), route(firm()), 0.0), Refuse)
    assert isinstance(decide(Need(50, 50, 50, sequences=3), route(firm()), 0.0), Refuse)
    assert isinstance(decide(Need(50, 50, 50, sequences=2), route(firm()), 0.0), Admit)


# --- everything at once


@st.composite
def stories(draw):
    """Replicas, and what happens to them: arrivals, steps, ends, deaths, lies about usage."""
    replicas = draw(st.lists(st.tuples(st.integers(4, 60), st.integers(1, 20)), min_size=1, max_size=3))
    events = draw(st.lists(st.tuples(st.sampled_from("aaassseedrtu"), st.integers(0, 400), st.integers(1, 300), st.integers(0, 3)), max_size=120))
    return replicas, events


@settings(max_examples=150, deadline=None)
@given(story=stories())
def test_books_balance_whatever_happens(story):
    """Never above capacity; the sum of the leases is the ledger; everybody who came ends in exactly one way."""
    replicas = [books(f"r{i}", capacity, tokens=tokens) for i, (capacity, tokens) in enumerate(story[0])]
    law = OutputTokens(unknown=50)
    line = Line(route(*replicas, least_output_tokens=5), Shares())
    leases, gone, came = [], [], 0
    now = 0.0

    def admit(need, answer):
        assert answer.books.usable
        leases.append(answer.books.reserve(need, answer.expected, answer.most, now))

    for kind, size, output, which in story[1]:
        now += 0.7
        if kind == "a":
            came += 1
            line.join(
                Need(
                    size,
                    output,
                    output,
                    key=f"k{which}",
                    priority=which % 2,
                    sequences=1 + which % 2,
                    affinity=which,
                    arrived=now,
                    deadline=now + size,
                    law=law if which > 1 else None,
                )
            )
        elif kind == "s":
            for lease in leases:
                # Some answers get longer than anybody thought.
                produced = lease.produced + which * 7
                lease.books.grow(lease, produced, now, produced * 2 if produced > lease.expected else None)
        elif kind == "e" and leases:
            lease = leases.pop(size % len(leases))
            assert lease.books.release(lease, now)
            assert not lease.books.release(lease, now)
            gone.append(lease.need)
        elif kind == "d":
            replicas[which % len(replicas)].usable = not replicas[which % len(replicas)].usable
        elif kind == "r":
            replicas[which % len(replicas)].report(size * BLOCK, now)
        elif kind == "t":
            for need in line.late(now):
                assert line.leave(need)
                gone.append(need)
        else:
            line.age(now)
        line.pump(now, admit, lambda need, _: gone.append(need))
        for replica in replicas:
            assert 0 <= replica.held_bytes <= replica.capacity_bytes
            assert replica.held_bytes == sum(x.held_bytes for x in replica.leases)
            assert replica.promised_bytes == sum(x.promised_bytes for x in replica.leases)
            assert replica.sequences == sum(x.need.sequences for x in replica.leases)
            assert replica.held_bytes <= replica.promised_bytes
        assert len(gone) + len(leases) + len(line) == came
    for lease in leases:
        lease.books.release(lease, now)
    assert all(r.held_bytes == r.promised_bytes == r.sequences == 0 for r in replicas)


@settings(max_examples=200, deadline=None)
@given(
    asks=st.lists(
        st.tuples(st.integers(1, 200), st.integers(1, 200), st.integers(0, LINGER_STEPS), st.integers(0, LINGER_STEPS), st.booleans()), min_size=1, max_size=60
    ),
    capacity=st.integers(45, 120),
    size=st.integers(1, 40),
)
def test_answers_as_long_as_expected_never_outgrow_the_cache(asks, capacity, size):
    """If every answer is as long as was expected, the engine's blocks never run out.

    Also where prompts take their time before the first token, and where nothing is seen of an answer before its end. Blocks are counted
    here, sequence by sequence, not by the books.
    """
    replica = books(capacity=capacity, tokens=size)
    line = Line(route(replica), Shares())
    for i, (prompt, output, _, _, streams) in enumerate(asks):
        if replica.ever(need := Need(prompt, output, output, arrived=float(i), streams=streams, owner=i), output):
            line.join(need)
    now = 0.0
    running: list = []

    def admit(need, answer):
        # So many steps late is its first token, or is a token seen: together no more than the rule allows.
        late = asks[need.owner][2]
        running.append([answer.books.reserve(need, answer.expected, answer.most, now), min(asks[need.owner][3], LINGER_STEPS - late), late, 0])

    while len(line) or running:
        now += 1.0
        line.pump(now, admit, lambda *_: pytest.fail("refused"))
        used = 0
        for one in list(running):
            lease, unseen, wait, made = one
            if made >= lease.expected:
                running.remove(one)
                replica.release(lease, now)
                continue
            one[2:] = [wait - 1, made] if wait else [0, made + 1]
            used += -(-(lease.need.prompt_tokens + one[3]) // size)
            if lease.need.streams and one[3] > unseen:
                assert replica.grow(lease, one[3] - unseen, now)
        assert used <= capacity


@settings(max_examples=60, deadline=None)
@given(small=st.integers(1, 8), giant=st.integers(30, 50), patience=st.integers(1, 30))
def test_a_giant_is_passed_only_for_a_bounded_time(small, giant, patience):
    """Small requests without end cannot keep a giant from its place: it comes once those that ran when its time was up have ended."""
    replica = books(capacity=50, tokens=10)
    line = Line(route(replica), Shares())
    clock = count()
    leases: dict = {}
    big = Need(giant * 10 - 10, 5, 5, key="giant", arrived=0.0)

    def admit(need, answer):
        leases[need] = (answer.books.reserve(need, answer.expected, answer.most, now), now + patience)

    now = float(next(clock))
    for _ in range(50 // small):
        line.join(Need(small * 10 - 5, 5, 5, key="small", arrived=now))
    line.pump(now, admit, lambda *_: None)
    line.join(big)
    while big not in leases:
        now = float(next(clock))
        assert now <= AGING_SECONDS + patience + 3
        for need, (lease, ends) in list(leases.items()):
            if now >= ends:
                replica.release(lease, now)
                del leases[need]
        line.join(Need(small * 10 - 5, 5, 5, key="small", arrived=now))
        line.join(Need(small * 10 - 5, 5, 5, key="small", arrived=now))
        line.age(now)
        line.pump(now, admit, lambda *_: None)
    assert big.passed < 10_000


def test_those_a_kept_one_need_not_wait_for_pass_it():
    """Beside an answer of 100 tokens a giant waits: who is gone by its limit before the answer ends may go first, who is not waits, and that has an end."""
    replica, law = books(capacity=50, tokens=10), OutputTokens()
    line = Line(route(replica), Shares())
    came: list = []

    def admit(need, answer):
        came.append(need)
        leases.append(answer.books.reserve(need, answer.expected, answer.most, now))

    leases: list = []
    now = 0.0
    long, giant = Need(200, 100, 100, law=law, arrived=now), Need(350, 5, 5, key="giant", law=law, arrived=now)
    for need in (long, giant):
        line.join(need)
        line.pump(now, admit, lambda *_: None)
    now = AGING_SECONDS
    line.pump(now, admit, lambda *_: None)
    assert replica.reserved is giant
    quick = [Need(40, 20, 20, key="a", law=law, arrived=now) for _ in range(2)]
    # 16 blocks fit beside the long one's 30, but not beside the giant's 36: it would be there when that could come.
    slow = Need(10, 145, 145, key="b", law=law, arrived=now)
    unlimited = Need(10, 20, None, key="c", law=law, arrived=now)
    for need in (quick[0], slow, unlimited):
        line.join(need)
    line.pump(now, admit, lambda *_: None)
    assert came == [long, quick[0]]
    now += PASSING_SECONDS
    line.join(quick[1])
    line.pump(now, admit, lambda *_: None)
    assert came == [long, quick[0]]
    for lease in leases[:]:
        replica.release(lease, now)
    line.pump(now, admit, lambda *_: None)
    assert came[:3] == [long, quick[0], giant]


def test_a_replica_that_goes_out_is_kept_for_nobody():
    """The giant's replica is taken out of service while it waits: another one is kept for it instead, and it goes there."""
    both = [books(capacity=100, tokens=1, name=f"r{i}") for i in range(2)]
    line = Line(Route(model="m", pools=(Pool("p", "m", both),)), Shares())
    went: list = []

    def admit(need, answer):
        went.append((need.key, answer.books.reserve(need, answer.expected, answer.most, now)))

    now = 0.0
    for replica, prompt in zip(both, (20, 50), strict=True):
        replica.reserve(Need(prompt, 10, 10), 10, 10, now)
    giant = Need(80, 10, 10, arrived=now, key="giant")
    line.join(giant)
    now = AGING_SECONDS + 1
    line.pump(now, admit, lambda *_: None)
    (kept,) = (replica for replica in both if replica.reserved is giant)
    other = both[1 - both.index(kept)]
    kept.usable = False
    while giant in line:
        now += 1
        assert now < AGING_SECONDS + 10
        line.join(Need(30, 10, 10, arrived=now, key="small"))
        line.pump(now, admit, lambda *_: None)
        for lease in list(other.leases):
            if lease.since < now:
                other.release(lease, now)
    assert kept.reserved is None


@settings(max_examples=30, deadline=None)
@given(small=st.integers(1, 8), giant=st.integers(30, 50), patience=st.integers(1, 30))
def test_a_giant_is_kept_waiting_for_a_bounded_time_by_those_that_end_soon(small, giant, patience):
    """Small requests that say they end soon, and don't, cannot keep a giant from its place: it comes once those that were let past it have ended."""
    replica, law = books(capacity=50, tokens=10), OutputTokens()
    line = Line(route(replica), Shares())
    leases: dict = {}
    big = Need(giant * 10 - 10, 5, 5, key="giant", law=law, arrived=0.0)
    now = 0.0

    def admit(need, answer):
        leases[need] = (answer.books.reserve(need, answer.expected, answer.most, now), now + patience)

    for _ in range(50 // small):
        line.join(Need(small * 10 - 5, 5, 5, key="small", law=law, arrived=now))
    line.pump(now, admit, lambda *_: None)
    line.join(big)
    while big not in leases:
        now += 1.0
        assert now <= AGING_SECONDS + PASSING_SECONDS + patience + 3
        for need, (lease, ends) in list(leases.items()):
            if now >= ends:
                replica.release(lease, now)
                del leases[need]
        for _ in range(2):
            line.join(Need(small * 10 - 5, 5, 5, key="small", law=law, arrived=now))
        line.age(now)
        line.pump(now, admit, lambda *_: None)


def test_keys_share_by_what_they_used():
    """A key that used much waits for one that used little; a key that was away has saved nothing up."""
    replica, shares = books(capacity=10), Shares()
    line = Line(route(replica), shares)
    shares.charge("greedy", 1e9)
    for i in range(3):
        line.join(Need(50, 40, 40, key="greedy", arrived=float(i)))
        line.join(Need(50, 40, 40, key="modest", arrived=10.0 + i))
    order = [n.key for n in line.in_order()]
    assert order == ["modest"] * 3 + ["greedy"] * 3
    shares.raise_floor(1e9)
    assert shares.used("newcomer") == 1e9


def test_priority_goes_first_and_waiting_raises_it():
    """The important first; the humble one gets there by waiting."""
    line = Line(route(books(capacity=10)), Shares())
    line.join(Need(50, 40, priority=0, key="a", arrived=0.0))
    line.join(Need(50, 40, priority=1, key="b", arrived=AGING_SECONDS))
    assert [n.key for n in line.in_order()] == ["b", "a"]
    line.age(2 * AGING_SECONDS)
    assert [n.key for n in line.in_order()] == ["b", "a"]
    line.age(2.5 * AGING_SECONDS)
    assert {n.key for n in line} == {"a", "b"}


@pytest.mark.parametrize("waiting", [100, 3000])
def test_a_pump_looks_at_a_bounded_number(waiting, monkeypatch):
    """A long line costs no more decisions than a short one."""
    replica = books(capacity=10)
    replica.reserve(Need(90, 5), 5, 5, 0.0)
    line = Line(route(replica), Shares())
    for i in range(waiting):
        line.join(Need(50, 40, 40, key=f"k{i % 7}", arrived=float(i)))
    asked = []
    monkeypatch.setattr("vram.admission.line.decide", lambda *a, **k: asked.append(1) or decide(*a, **k))
    line.pump(1.0, lambda *_: None, lambda *_: None)
    assert len(asked) <= LOOKED_AT


@given(st.lists(st.floats(-1e9, 1e9), max_size=80), st.floats(-1e9, 1e9))
def test_a_place_is_bisects(edges, value):
    """Where a value lies between edges is what the standard library says, between them and on them."""
    ordered = tuple(sorted(edges))
    assert place(ordered, value) == bisect_left(ordered, value)
    for edge in ordered[:5]:
        assert place(ordered, edge) == bisect_left(ordered, edge)


# --- replicas that come back


def test_whoever_fits_waits_for_a_replica_that_is_coming():
    """Not usable and coming: what fits it waits, what never fits is refused at once; gone for good: refused as down; another that is there goes first."""
    dying = books(context=500)
    dying.usable = False
    small, large = Need(10, 20, 20), Need(10, 20, 10_000)
    told = decide(small, route(dying), 0.0)
    assert isinstance(told, Refuse)
    assert told.down
    dying.coming = True
    assert decide(small, route(dying), 0.0) is WAIT
    assert isinstance(decide(large, route(dying), 0.0), Refuse)
    there = books("there", context=500)
    found = decide(small, route(dying, there), 0.0)
    assert isinstance(found, Admit)
    assert found.books is there
    dying.usable = True
    assert isinstance(decide(small, route(dying), 0.0), Admit)


def test_who_comes_back_begins_slowly():
    """One sequence at first, twice as many and more by and by, all at the end; a lone request comes at any time."""
    replica = books(capacity=1000, sequences=256)
    replica.warm_up(100.0, 8.0)
    counts = []
    for now in (100.0, 101.0, 102.0, 104.0, 108.0):
        while isinstance(decide(Need(10, 10, 10), route(replica), now), Admit) and len(replica.leases) < 300:
            replica.reserve(Need(10, 10, 10), 10, 10, now)
        counts.append(len(replica.leases))
    assert counts == [1, 2, 4, 16, 256]
    at_once = books(capacity=1000, sequences=256)
    at_once.warm_up(100.0, 0.0)
    for _ in range(3):
        at_once.reserve(Need(10, 10, 10), 10, 10, 100.0)
    assert isinstance(decide(Need(10, 10, 10), route(at_once), 100.0), Admit)
