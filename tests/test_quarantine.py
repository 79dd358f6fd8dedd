"""Requests that kill engines are found out with few deaths, and nobody else is blamed; retries are bounded by what a pool is asked."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram.admission.books import Books
from vram.admission.decide import WAIT, Admit, Pool, Route, decide
from vram.admission.need import Need
from vram.admission.quarantine import MOST_SHAPES, Death, Quarantine
from vram.gateway.retries import FLOOR, WINDOW_SECONDS, RetryBudget
from vram.gateway.shape import shape_of
from vram.memory.curve import blocks


def alone(at, suspects=1):
    return Death(at, 1, suspects)


def test_two_deaths_and_a_time():
    """One death makes a suspect, the second, alone, a quarantine; it ends, and after it one death is enough for the next."""
    table = Quarantine(seconds=100)
    assert not table.died(7, alone(0.0, 0), 0.0, "x")
    assert (table.left(7, 0.0), table.beside(7), table.beside(8)) == (0, 1, 0)
    assert table.died(7, alone(5.0), 5.0, "x")
    assert table.left(7, 5.0) == 100
    assert table.left(7, 60.0) == 45
    table.tick(105.0)
    assert table.left(7, 105.0) == 0
    assert table.beside(7) == 1
    assert table.died(7, alone(110.0), 110.0, "x")
    assert table.begun == 2
    table.clear(7)
    assert not table.shapes


def test_suspicion_is_forgotten_and_can_be_left_out():
    """By time where nothing happens; and with 0 seconds nobody is suspected."""
    table = Quarantine(seconds=100)
    table.died(7, alone(0.0, 0), 0.0, "x")
    table.tick(99.0)
    assert table.beside(7)
    table.tick(100.0)
    assert not table.shapes
    off = Quarantine(seconds=0)
    assert not any(off.died(7, alone(float(i)), float(i), "x") for i in range(5))
    assert not off.shapes


def test_one_death_counts_once_and_a_crowd_is_not_blamed():
    """A hundred equal requests that die together are one death of their shape; who dies beside other suspects is not convicted."""
    table = Quarantine()
    death = Death(0.0, 100, 0)
    assert not any(table.died(7, death, 0.0, "x") for _ in range(100))
    assert table.shapes[7].deaths == 1
    assert table.beside(7) > 1
    assert not table.died(7, Death(1.0, 12, 3), 1.0, "x")
    assert table.died(7, alone(2.0), 2.0, "x")


def test_the_table_is_bounded():
    """The oldest suspicions go first."""
    table = Quarantine()
    for i in range(3 * MOST_SHAPES):
        table.died(i, alone(float(i), 0), float(i), "x")
    assert len(table.shapes) == MOST_SHAPES
    assert 3 * MOST_SHAPES - 1 in table.shapes


@settings(max_examples=60, deadline=None)
@given(
    replicas=st.integers(2, 5),
    innocents=st.integers(0, 40),
    place=st.integers(0, 40),
    shuffle=st.randoms(use_true_random=False),
)
def test_a_poison_among_many_kills_few_engines(replicas, innocents, place, shuffle):
    """Whoever was with it comes through; it kills two engines, or three where the crowd was large, and then no more."""
    table = Quarantine()
    books = [Books(f"r{i}", blocks(1000, 10), 10_000_000, context_tokens=1 << 20) for i in range(replicas)]
    route = Route(model="m", pools=(Pool("p", "m", books),))
    poison = place % (innocents + 1)
    waiting = list(range(innocents + 1))
    done, running, deaths, last = set(), {}, 0, None
    now = 0.0
    # All begin in the first replica.
    for one in waiting:
        need = Need(10, 10, 10)
        need.owner = one
        running[one] = books[0].reserve(need, 10, 10, now)
    waiting = []
    refused = False
    for _ in range(400):
        now += 2.0
        if poison in running:
            # The one that serves it dies, with all that it serves.
            where = running[poison].books
            here = [one for one, lease in running.items() if lease.books is where]
            last = Death(now, len(here), sum(running[one].need.beside > 0 for one in here))
            deaths += 1
            shuffle.shuffle(here)
            for one in here:
                lease = running.pop(one)
                where.release(lease, now)
                if table.died(one, last, now, "x"):
                    assert one == poison
                    refused = True
                else:
                    waiting.append(one)
        else:
            for one in list(running):
                running[one].books.release(running.pop(one), now)
                table.clear(one)
                done.add(one)
        for one in list(waiting):
            need = Need(10, 10, 10)
            need.owner, need.beside = one, table.beside(one)
            answer = decide(need, route, now)
            if isinstance(answer, Admit):
                waiting.remove(one)
                running[one] = answer.books.reserve(need, 10, 10, now)
            else:
                assert answer is WAIT
    assert refused
    assert done == set(range(innocents + 1)) - {poison}
    assert deaths <= (2 if innocents < 15 else 3)
    assert all(b.suspects == 0 for b in books)


@given(data=st.binary(max_size=5000), at=st.integers(0, 4999), byte=st.integers(0, 255))
def test_a_shape_is_the_body(data, at, byte):
    """Equal bodies have one shape; a body that is longer has another."""
    assert shape_of(bytes(bytearray(data))) == shape_of(data)
    assert shape_of(data + bytes([byte])) != shape_of(data)
    if at < min(len(data), 256) and data[at] != byte:
        assert shape_of(data[:at] + bytes([byte]) + data[at + 1 :]) != shape_of(data)


# --- retries


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_retries_are_a_share_of_what_was_asked(share):
    """An outage in which every request fails and is retried as often as it may: load grows by the share and the floor, no more."""
    budget = RetryBudget(share)
    asked = made = 0
    for _ in range(30):
        for _ in range(100):
            budget.came()
            asked += 1
            made += budget.take() + budget.take()
        budget.second()
    assert made <= share * asked + FLOOR * 30 / (WINDOW_SECONDS - 1) + FLOOR
    assert made >= share * asked * 0.8
    assert budget.denied == 2 * asked - made


def test_a_few_retries_are_always_there():
    """A pool that is hardly asked may still retry; what was used comes back when the window has passed."""
    budget = RetryBudget(0.0)
    assert sum(budget.take() for _ in range(2 * FLOOR)) == FLOOR
    assert budget.left() == 0
    for _ in range(WINDOW_SECONDS):
        budget.second()
    assert budget.left() == FLOOR


def test_workers_tell_each_other():
    """What one process knows of a shape another hears, also that it was cleared; older news changes nothing."""
    one, two = Quarantine(seconds=100), Quarantine(seconds=100)
    one.died(7, alone(0.0, 0), 0.0, "x")
    two.hear(*one.told(7))
    assert two.beside(7) == 1
    assert two.died(7, alone(5.0), 5.0, "x")
    before = one.told(7)
    one.hear(*two.told(7))
    two.hear(*before)
    assert one.left(7, 6.0) == two.left(7, 6.0) == 99
    assert one.told(7) == two.told(7)
    one.clear(7)
    two.hear(*one.told(7))
    assert not two.shapes
