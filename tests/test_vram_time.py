"""Money by bytes and time: the books of a meter add up to the rent to the last nanodollar, and a small case equals one reckoned by hand."""

import random
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram.costs.load import Round
from vram.costs.vram_time import NS_PER_HOUR, NS_PER_SECOND, Meter, byte_second_usd, kv_byte_seconds, token_cost


def test_a_case_by_hand():
    """Two requests on a GPU of 10 bytes at $3.60 an hour, 4 bytes of it weights: every figure reckoned on paper.

    One byte-second costs $3.60 / 3600 / 10 = $0.0001. From 0 to 10 s A runs alone with 3 bytes, from 10 to 20 s with B (2 bytes), then B
    alone until 30 s, then nobody until 40 s. A: 3 x 20 + 4 x 10 + 2 x 10 = 120 byte-seconds; B: 2 x 20 + 2 x 10 + 4 x 10 = 100; the
    whole is 10 x 40 = 400, so 180 are idle.
    """
    meter = Meter(nanodollars_per_hour=3_600_000_000, usable_bytes=10, shared_bytes=4, began_ns=0)
    meter.start("A", 0, 3)
    meter.start("B", 10 * NS_PER_SECOND, 2)
    a = meter.end("A", 20 * NS_PER_SECOND)
    b = meter.end("B", 30 * NS_PER_SECOND)
    books = meter.balance(40 * NS_PER_SECOND)
    assert (a.kv_byte_ns + a.shared_byte_ns, b.kv_byte_ns + b.shared_byte_ns) == (120 * NS_PER_SECOND, 100 * NS_PER_SECOND)
    assert (a.nanodollars, b.nanodollars) == (12_000_000, 10_000_000)
    assert (books.rent_nanodollars, books.idle_nanodollars, books.idle_byte_ns) == (40_000_000, 18_000_000, 180 * NS_PER_SECOND)


EVENTS = st.lists(st.tuples(st.sampled_from(["start", "resize", "end", "wait"]), st.integers(0, 9), st.integers(0, 10**13), st.integers(0, 1000)), max_size=60)


@settings(deadline=None, max_examples=200)
@given(EVENTS, st.integers(0, 10**12), st.integers(1, 10**12))
def test_what_requests_pay_and_what_is_idle_is_the_rent(events, rent, usable):
    """Conservation, whatever happens: billed + running + idle == rent, exactly; and no byte-nanosecond is lost or counted twice."""
    shared = usable // 3
    meter = Meter(nanodollars_per_hour=rent, usable_bytes=usable, shared_bytes=shared, began_ns=5)
    now, running, billed, bytes_used = 5, {}, 0, 0
    for what, key, span, part in events:
        now += span
        held = (usable - shared) * part // 10_000  # ten of them fit together
        if what == "start" and key not in running:
            meter.start(key, now, held)
            running[key] = held
        elif what == "resize" and key in running:
            meter.resize(key, now, held)
        elif what == "end" and key in running:
            done = meter.end(key, now)
            del running[key]
            billed += done.nanodollars
            bytes_used += done.kv_byte_ns + done.shared_byte_ns
    for key in list(running):
        done = meter.end(key, now)
        billed += done.nanodollars
        bytes_used += done.kv_byte_ns + done.shared_byte_ns
    books = meter.balance(now)
    assert books.billed_nanodollars == billed
    assert books.billed_nanodollars + books.running_nanodollars + books.idle_nanodollars == books.rent_nanodollars == rent * (now - 5) // NS_PER_HOUR
    assert books.idle_nanodollars >= 0
    # Dealing shared bytes to n requests leaves less than n byte-nanoseconds over, once.
    assert 0 <= books.kv_byte_ns + books.shared_byte_ns - bytes_used < 10
    # Idle money is idle bytes x time at the price of a byte, but for what rounding each bill down leaves.
    exact = Fraction(rent * books.idle_byte_ns, NS_PER_HOUR * usable)
    assert -1 <= books.idle_nanodollars - exact <= len(events) + 10


def test_a_meter_agrees_with_a_sweep_over_its_intervals():
    """Shares equal those of a slow reckoning that cuts time at every event and deals each piece with fractions."""
    rng = random.Random(4)  # noqa: S311  (a case, no secret)
    spans = [(s := rng.randrange(10**9), s + rng.randrange(1, 10**9), rng.randrange(100)) for _ in range(40)]
    meter = Meter(nanodollars_per_hour=10**10, usable_bytes=10**5, shared_bytes=777, began_ns=0)
    events = sorted([(start, 1, i) for i, (start, _, _) in enumerate(spans)] + [(end, 0, i) for i, (_, end, _) in enumerate(spans)])
    got = {}
    for when, begins, i in events:
        if begins:
            meter.start(i, when, spans[i][2])
        else:
            got[i] = meter.end(i, when)
    cuts = sorted({t for s, e, _ in spans for t in (s, e)})
    for i, (start, end, held) in enumerate(spans):
        shared = sum(
            (Fraction((b - a) * 777, sum(s <= a and b <= e for s, e, _ in spans)) for a, b in pairwise(cuts) if start <= a and b <= end),
            Fraction(0),
        )
        assert got[i].kv_byte_ns == held * (end - start)
        assert abs(got[i].shared_byte_ns - shared) <= len(cuts)


def replay(turns, *, slots, prompt, output, reading, step, per_token, meter):
    """A replica as a little program of events: a slot that ends takes a new request; prompts go before steps, and a step serves all.

    Its first requests are at different places of their answers, as in a server that has run for long.
    """
    now, served = 0, 0
    done = [1 + i * (output - 1) // slots for i in range(slots)]  # tokens of the answer that each slot has
    waiting = []
    for slot in range(slots):
        meter.start(slot, 0, per_token * (prompt + done[slot]))
    while served < turns:
        if waiting:
            slot = waiting.pop(0)
            pieces = 8
            meter.start(slot, now, 0)
            for k in range(pieces):
                meter.resize(slot, now, per_token * prompt * (2 * k + 1) // (2 * pieces))
                now += reading // pieces
            done[slot] = 1
            meter.resize(slot, now, per_token * (prompt + 1))
            continue
        now += step
        for slot in range(slots):
            done[slot] += 1
            if done[slot] >= output:
                meter.end(slot, now)
                served += 1
                waiting.append(slot)
            else:
                meter.resize(slot, now, per_token * (prompt + done[slot]))
    return now


@pytest.mark.parametrize(
    ("slots", "prompt", "output", "reading_ms", "step_ms"),
    [(8, 1000, 101, 40, 20), (1, 500, 50, 100, 10), (32, 100, 400, 4, 25), (16, 8000, 20, 320, 30)],
)
def test_estimates_equal_books_kept_over_a_replay(slots, prompt, output, reading_ms, step_ms):
    """Throughput, and the shares of the rent that weights, caches and idle bytes take, estimated in closed form and counted by a meter.

    The replay knows no formula: it lets slots run and the meter count. They agree within 4 % of the rent.
    """
    per_token, weights = 1000, 30_000_000
    usable = weights + slots * per_token * (prompt + output) * 2
    meter = Meter(nanodollars_per_hour=2_950_000_000, usable_bytes=usable, shared_bytes=weights, began_ns=0)
    turns = slots * 12
    now = replay(turns, slots=slots, prompt=prompt, output=output, reading=reading_ms * 10**6, step=step_ms * 10**6, per_token=per_token, meter=meter)
    books = meter.balance(now)
    turn = Round(concurrency=slots, prompt_tokens=prompt, output_tokens=output, prefill_seconds=reading_ms / 1e3, step_seconds=step_ms / 1e3)
    assert turns / (now / NS_PER_SECOND) == pytest.approx(turn.requests_per_second, rel=0.06)
    held = kv_byte_seconds(
        lambda tokens: tokens * per_token,
        prompt_tokens=prompt,
        output_tokens=output,
        prefill_seconds=turn.prefill_seconds,
        decode_seconds=turn.seconds - turn.prefill_seconds,
    )
    kv_share = sum(held) * turn.requests_per_second / usable
    assert books.kv_byte_ns / books.whole_byte_ns == pytest.approx(kv_share, abs=0.04)
    assert books.shared_byte_ns / books.whole_byte_ns == pytest.approx(weights / usable, abs=0.04)
    assert books.idle_nanodollars / books.rent_nanodollars == pytest.approx(1 - kv_share - weights / usable, abs=0.04)


def test_time_that_runs_backwards_and_strangers_are_refused():
    """The books never go wrong in silence."""
    meter = Meter(nanodollars_per_hour=1, usable_bytes=10, shared_bytes=0, began_ns=100)
    meter.start("a", 200, 1)
    with pytest.raises(ValueError, match="backwards"):
        meter.end("a", 150)
    with pytest.raises(ValueError, match="already"):
        meter.start("a", 300, 1)
    with pytest.raises(ValueError, match="0 or more"):
        meter.resize("a", 300, -1)
    with pytest.raises(KeyError):
        meter.end("b", 300)
    with pytest.raises(ValueError, match="usable"):
        Meter(nanodollars_per_hour=1, usable_bytes=1, shared_bytes=2, began_ns=0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 200), st.integers(0, 100), st.integers(0, 300))
def test_the_integral_equals_a_sum_over_tokens(prompt, output, state, window):
    """A cache that grows token by token, windowed or not, held for a thousandth of each token's time at a time."""

    def bytes_at(tokens):
        return state + 7 * min(tokens, window) if window else state + 7 * tokens

    def fine(first, last, seconds, pieces=64):
        n = (last - first) * pieces
        at = [
            bytes_at((first * pieces + k) // pieces) * (1 - (k % pieces) / pieces) + bytes_at((first * pieces + k) // pieces + 1) * (k % pieces) / pieces
            for k in range(n)
        ]
        return seconds * sum(at) / n

    reading, writing = kv_byte_seconds(
        bytes_at, prompt_tokens=prompt, output_tokens=output, prefill_seconds=2.0, decode_seconds=30.0, breakpoints=[window] if window else ()
    )
    assert reading == pytest.approx(fine(0, prompt, 2.0), rel=0.02, abs=8)
    assert writing == pytest.approx(fine(prompt, prompt + output, 30.0), rel=0.02, abs=120)


def test_a_token_by_hand():
    """1,000 tokens that held 36 GB-seconds of an 80 GB GPU at $2.88 an hour, alone with 16 GB of weights for 9 s.

    A GB-second is $2.88 / 3600 / 80 = $0.00001: the cache costs $0.00036 and the weights 144 GB-seconds = $0.00144.
    """
    cache, shared = token_cost(usd_per_hour=2.88, usable_bytes=80 * 10**9, kv_byte_seconds=36e9, shared_bytes=16 * 10**9, shared_by=1, seconds=9, tokens=1000)
    assert (cache * 1000, shared * 1000) == (pytest.approx(0.00036), pytest.approx(0.00144))
    assert byte_second_usd(2.88, 80 * 10**9) * 1e9 == pytest.approx(1e-5)
