"""Who stays loaded: never above what there is, nothing cut off, nothing pinned moved, nobody left waiting, no time wasted on loading."""

from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram.admission.residency import Close, Load, Never, Resident, Stay, TurnRules, Unload, Wanted, next_step

GB = 1 << 30


def resident(name, *gpu_bytes, **more):
    return Resident(name=name, gpu_bytes=gpu_bytes, **{"load_seconds": 10.0, "ready_at": 0.0, "used_at": 0.0, **more})


def wanted(name, *gpu_bytes, since=0.0, **more):
    return Wanted(name=name, placements=(gpu_bytes,), since=since, load_seconds=10.0, **more)


def test_what_fits_is_loaded_and_nobody_goes():
    assert next_step([resident("a", 10)], [wanted("b", 10)], [20], 100.0) == Load("b", (10,))


def test_one_that_has_nothing_to_do_goes_for_one_that_is_wanted_after_lingering():
    assert next_step([resident("a", 10, used_at=99.0)], [wanted("b", 10, since=99.0)], [15], 100.0) == Load("b", (10,), ("a",))
    assert next_step([resident("a", 10, ready_at=90.0, used_at=99.0)], [wanted("b", 10, since=99.0)], [15], 100.0) == Stay(101.5)


def test_one_that_works_has_its_turn_then_takes_nothing_new_then_goes():
    a = resident("a", 10, running=2, waiting=3, used_at=30.0)
    b = wanted("b", 10, since=5.0)
    assert next_step([a], [b], [15], 30.0) == Stay(40.0)
    assert next_step([a], [b], [15], 40.0) == Close(("a",), "b")
    assert next_step([replace(a, running=0, closed=True)], [b], [15], 41.0) == Load("b", (10,), ("a",))


def test_the_one_whose_reloading_costs_least_goes():
    often = resident("often", 10, per_second=3.0)
    seldom = resident("seldom", 10, per_second=0.1)
    assert next_step([often, seldom], [wanted("c", 10)], [20], 100.0) == Load("c", (10,), ("seldom",))
    assert next_step([often, replace(seldom, pinned=True)], [wanted("c", 10)], [20], 100.0) == Load("c", (10,), ("often",))


def test_nobody_goes_who_is_not_needed_after_all():
    assert next_step([resident("small", 3), resident("large", 10, per_second=1.0)], [wanted("c", 10)], [13], 100.0) == Load("c", (10,), ("large",))


def test_who_is_closed_already_goes_first():
    a, b = resident("a", 10, running=1, closed=True, per_second=9.0), resident("b", 10, running=1)
    assert next_step([a, b], [wanted("c", 10)], [20], 100.0) == Close(("a",), "c")


def test_what_fits_nowhere_beside_the_pinned_is_told():
    assert next_step([resident("a", 10, pinned=True)], [wanted("b", 12)], [20], 0.0) == Never("b", 2)


def test_a_small_one_is_loaded_beside_a_large_one_that_waits_only_where_that_costs_it_nothing():
    busy = resident("a", 10, 0, running=1, ready_at=95.0)
    assert next_step([busy], [wanted("large", 18, 0), wanted("small", 0, 5, since=1.0)], [20, 20], 100.0) == Load("small", (0, 5))
    assert isinstance(next_step([busy], [wanted("large", 18, 0), wanted("small", 5, 0, since=1.0)], [20, 20], 100.0), Stay)


def test_an_important_one_comes_first_and_waiting_makes_important():
    a = resident("a", 10, running=1, priority=1, ready_at=-1000.0)
    b = wanted("b", 10, since=0.0)
    assert next_step([a], [b], [15], 10.0) == Stay(30.0)
    assert next_step([a], [b], [15], 30.0) == Close(("a",), "b")
    assert next_step([], [b, wanted("c", 10, since=5.0, priority=1)], [15], 10.0) == Load("c", (10,))


def test_idle_for_long_is_unloaded_and_pinned_is_not():
    rules = TurnRules(idle_seconds=60.0)
    assert next_step([resident("a", 10), resident("b", 10, pinned=True)], [], [20], 59.0, rules) == Stay(60.0)
    assert next_step([resident("a", 10), resident("b", 10, pinned=True)], [], [20], 60.0, rules) == Unload(("a",))


def test_when_others_take_memory_the_idle_go():
    assert next_step([resident("a", 10, running=1), resident("b", 10)], [], [15], 1.0) == Unload(("b",))
    assert next_step([resident("a", 10, running=1)], [], [5], 1.0) == Stay(None)


def test_when_others_take_memory_the_least_valued_that_works_ends_its_work_and_goes():
    """It takes no new requests, is not cut off, goes when it has ended though some wait for it; the last one of a card stays."""
    a, b = resident("a", 10, running=1, per_second=2.0), resident("b", 10, running=1, waiting=2, per_second=0.1)
    assert next_step([a, b], [], [15], 1.0) == Close(("b",), "")
    # Who was closed stays so, though it is worth more meanwhile: nobody is closed in vain.
    assert next_step([a, replace(b, closed=True, per_second=9.0)], [], [15], 2.0) == Close(("b",), "")
    assert next_step([a, replace(b, closed=True, running=0)], [], [15], 3.0) == Unload(("b",))
    # It waits until the memory comes back; no other is closed for it.
    assert next_step([a], [wanted("b", 10)], [15], 4.0) == Stay(40.0)
    assert next_step([a], [], [5], 4.0) == Stay(None)
    assert next_step([a, replace(b, pinned=True)], [], [15], 1.0) == Close(("a",), "")
    assert next_step([replace(a, priority=1), replace(b, priority=2)], [], [15], 1.0) == Close(("a",), "")


def test_the_last_one_of_each_card_stays_and_one_that_helps_nowhere_does_too():
    """Two cards: who lies where nothing is missing goes on; of two on the short card one goes; whoever is the last of one it spans stays."""
    on_first, on_second, on_both = resident("a", 5, 0, running=1), resident("b", 0, 5, running=1), resident("c", 5, 5, running=1)
    assert next_step([on_first, on_second], [], [4, 5], 1.0) == Stay(None)
    assert next_step([on_first, on_second, on_both], [], [9, 20], 1.0) == Close(("a",), "")
    assert next_step([on_second, on_both], [], [4, 20], 1.0) == Stay(None)


@pytest.mark.parametrize("more", [{"pinned": True}, {"running": 1}])
def test_a_card_that_is_short_is_nothing_to_one_that_takes_none_of_it(more):
    """Others took memory of the first card: a model for the second one alone is loaded there, and nobody goes for it."""
    assert next_step([resident("a", 20, 0, **more)], [wanted("b", 0, 10)], [19, 24], 100.0) == Load("b", (0, 10))
    # One that waits for the short card is not kept waiting longer by one beside it.
    line = [wanted("c", 18, 0), wanted("b", 0, 10, since=1.0)]
    assert next_step([resident("a", 20, 0, running=1, ready_at=95.0)], line, [19, 24], 100.0) == Load("b", (0, 10))


@pytest.mark.parametrize("bad", [{"turn_loads": -1.0}, {"linger_share": -0.1}, {"least_seconds": -1.0}, {"idle_seconds": -1.0}])
def test_rules_that_no_time_could_keep_are_refused(bad):
    with pytest.raises(ValueError, match="negative"):
        TurnRules(**bad)


sizes = st.tuples(st.integers(0, 8), st.integers(0, 8))
residents = st.builds(
    Resident,
    name=st.uuids().map(str),
    gpu_bytes=sizes,
    load_seconds=st.floats(0, 50),
    ready_at=st.none() | st.floats(-100, 0),
    used_at=st.floats(-100, 0),
    running=st.integers(0, 2),
    waiting=st.integers(0, 2),
    per_second=st.floats(0, 5),
    priority=st.integers(-1, 2),
    pinned=st.booleans(),
    closed=st.booleans(),
)
waiters = st.builds(
    Wanted, name=st.uuids().map(str), placements=st.lists(sizes, min_size=1, max_size=2).map(tuple), since=st.floats(-100, 0), priority=st.integers(-1, 2)
)


def held_to_its_rules(loaded, line, capacity, now):
    """One step, and that it passes no capacity and touches nobody that it must not."""
    step = next_step(loaded, line, capacity, now)
    by_name = {r.name: r for r in loaded}
    held = [sum(r.gpu_bytes[g] for r in loaded) for g in (0, 1)]
    match step:
        case Load(name, gpu_bytes, evict):
            assert gpu_bytes in next(w.placements for w in line if w.name == name)
            gone = [by_name[e] for e in evict]
            assert len(set(evict)) == len(evict)
            assert not any(r.running or r.pinned or r.ready_at is None for r in gone)
            after = [held[g] - sum(r.gpu_bytes[g] for r in gone) + gpu_bytes[g] for g in (0, 1)]
            # A GPU that others took too much of is nothing to who takes none of it.
            assert all(a <= c for a, c, b in zip(after, capacity, gpu_bytes, strict=True) if b)
            # Who goes gives back something that is needed.
            assert all(any(r.gpu_bytes[g] and gpu_bytes[g] for g in (0, 1)) for r in gone)
        case Close(names, name):
            going = [by_name[n] for n in names]
            if not name:
                # For others than our models: only where more is held than there is, and never the last one of a card that is short.
                short = [g for g in (0, 1) if held[g] > capacity[g]]
                assert short
                assert all(any(r.gpu_bytes[g] for g in short) and not r.idle for r in going)
                for g in short:
                    assert any(r.gpu_bytes[g] for r in loaded if r.name not in names) or not any(r.gpu_bytes[g] for r in going)
                ended = [replace(r, running=0, closed=r.name in names) if r.name in names else r for r in loaded]
                assert isinstance(next_step(ended, line, capacity, now), Unload)
                return
            assert name in {w.name for w in line}
            assert any(r.running for r in going)
            assert not any(r.pinned or r.ready_at is None for r in going)
            # Each lies on a GPU that the wanted one takes something of.
            ways = next(w.placements for w in line if w.name == name)
            assert any(all(any(r.gpu_bytes[g] and p[g] for g in (0, 1)) for r in going) for p in ways)
            # When they have ended it is loaded: closing is never in vain. Where more is held than there is, the idle go first.
            ended = [replace(r, running=0, closed=r.name in names) for r in loaded]
            after = next_step(ended, line, capacity, now)
            assert isinstance(after, Load) or (isinstance(after, Unload) and any(h > c for h, c in zip(held, capacity, strict=True)))
        case Unload(names):
            assert names
            assert all(not by_name[n].running and (by_name[n].idle or by_name[n].closed) and not by_name[n].pinned for n in names)
        case Never(name, short):
            assert short > 0
            # With nobody there but the pinned, each of its ways takes more of some GPU than they leave.
            left = [capacity[g] - sum(r.gpu_bytes[g] for r in loaded if r.pinned) for g in (0, 1)]
            for p in next(w.placements for w in line if w.name == name):
                assert any(p[g] and p[g] > left[g] for g in (0, 1))
        case Stay(until):
            assert until is None or until >= now


@given(st.lists(residents, max_size=5), st.lists(waiters, max_size=3), st.tuples(st.integers(0, 20), st.integers(0, 20)), st.floats(0, 200))
def test_a_step_never_passes_capacity_and_touches_nobody_it_must_not(loaded, line, capacity, now):
    held_to_its_rules(loaded, line, capacity, now)


@st.composite
def short_machines(draw):
    """Two cards: of the first others took some that models hold which stay – pinned, or the last one there –, so that it is short, and nobody can help it."""
    stays = draw(st.lists(residents, min_size=1, max_size=2))
    pinned = len(stays) > 1 or draw(st.booleans())
    sizes = draw(st.lists(st.integers(1, 8), min_size=len(stays), max_size=len(stays)))
    stays = [replace(r, gpu_bytes=(size, r.gpu_bytes[1]), pinned=pinned, running=r.running if pinned else 1) for r, size in zip(stays, sizes, strict=True)]
    others = [replace(r, gpu_bytes=(0, r.gpu_bytes[1])) for r in draw(st.lists(residents, max_size=3))]
    line = [replace(w, placements=((0, draw(st.integers(1, 8))), *w.placements[1:])) for w in draw(st.lists(waiters, min_size=1, max_size=2))]
    first = max(sum(sizes) - draw(st.integers(1, 4)), 0)
    # Of the second one there is as much as all together hold, or more: it is never short, and at times too full.
    second = sum(r.gpu_bytes[1] for r in (*stays, *others)) + draw(st.integers(0, 8))
    return [*stays, *others], line, (first, second)


@given(short_machines(), st.floats(0, 200))
def test_nor_does_it_where_a_card_is_short_of_what_stays(machine, now):
    """The same rules, where a card of which nobody takes anything decides nothing; what the second card has room for is loaded there."""
    loaded, line, capacity = machine
    held_to_its_rules(loaded, line, capacity, now)
    free = capacity[1] - sum(r.gpu_bytes[1] for r in loaded)
    if len(line) == 1 and line[0].placements[0][1] <= free:
        assert next_step(loaded, line, capacity, now) == Load(line[0].name, line[0].placements[0])


@given(st.lists(residents, max_size=4), st.lists(waiters, max_size=3), st.integers(0, 8), st.integers(0, 20), st.floats(0, 200))
def test_a_card_that_nobody_who_may_go_lies_on_changes_nothing_for_those_that_take_none_of_it(loaded, line, first, second, now):
    """Two cards, only the pinned on the first, which may be short: the step is the one of a machine with the second card alone."""
    loaded = [r if r.pinned else replace(r, gpu_bytes=(0, r.gpu_bytes[1])) for r in loaded]
    line = [replace(w, placements=tuple((0, p[1]) for p in w.placements)) for w in line]
    both = next_step(loaded, line, (first, second), now)
    alone = [replace(r, gpu_bytes=r.gpu_bytes[1:]) for r in loaded]
    one = next_step(alone, [replace(w, placements=tuple(p[1:] for p in w.placements)) for w in line], (second,), now)
    assert (replace(both, gpu_bytes=both.gpu_bytes[1:]) if isinstance(both, Load) else both) == one


@dataclass
class Machine:
    """A machine in a second-by-second play: models with given sizes, requests of a second each, `slots` at a time."""

    sizes: dict[str, int]
    load: float
    capacity: int
    slots: int = 4

    def play(self, arrivals, seconds):
        """Longest wait, loads, most bytes held, requests unanswered at the end."""
        loaded: dict[str, Resident] = {}
        queue: dict[str, list[float]] = {m: [] for m in self.sizes}
        rate = dict.fromkeys(self.sizes, 0.0)
        closed: tuple[str, ...] = ()
        longest = loads = most = 0
        for now in range(seconds):
            came = arrivals(now)
            for model in self.sizes:
                rate[model] += (came.count(model) - rate[model]) * 0.1
                queue[model] += [float(now)] * came.count(model)
            for name, r in loaded.items():
                ready = r.ready_at if r.ready_at is not None else float(now) if now >= r.used_at + self.load else None
                served = 0
                if ready is not None and name not in closed:
                    served = min(len(queue[name]), self.slots)
                    longest = max([longest, *(now - t for t in queue[name][:served])])
                    del queue[name][:served]
                used = float(now) if served else r.used_at
                loaded[name] = replace(r, ready_at=ready, waiting=len(queue[name]), used_at=used, closed=name in closed, per_second=rate[name])
            for _ in range(20):
                line = [Wanted(name=m, placements=((self.sizes[m],),), since=q[0], load_seconds=self.load) for m, q in queue.items() if q and m not in loaded]
                step = next_step(list(loaded.values()), line, [self.capacity], float(now))
                closed = step.names if isinstance(step, Close) else ()
                if not isinstance(step, Load):
                    assert not isinstance(step, Never)
                    break
                for e in step.evict:
                    del loaded[e]
                loaded[step.name] = resident(step.name, *step.gpu_bytes, load_seconds=self.load, ready_at=None, used_at=float(now))
                loads += 1
            held = sum(r.gpu_bytes[0] for r in loaded.values())
            assert held <= self.capacity
            most = max(most, held)
        return longest, loads, most, sum(map(len, queue.values()))


@pytest.mark.parametrize("models", [2, 3, 5])
@pytest.mark.parametrize("a_second", [1, 3])
def test_models_asked_for_in_turn_do_not_spend_their_time_loading_and_none_waits_for_ever(models, a_second):
    names = [f"m{n}" for n in range(models)]
    load, seconds = 5.0, 3000
    random = Random(1)  # noqa: S311  (a play, no secret)
    machine = Machine(dict.fromkeys(names, 10), load, 10)
    longest, loads, _, left = machine.play(lambda now: random.choices(names, k=a_second) if now < seconds - 300 else [], seconds)
    turn = TurnRules().turn_seconds(load)
    # A turn of four loads for each that always has work; at least one load's length for one that runs out of it.
    assert loads <= seconds / (2 * load)
    if a_second == 3 and models == 2:
        assert loads <= seconds / (turn + load) + 2
    # Everybody's turn comes after those of all others, and what it found waiting is served in its own.
    assert left == 0
    assert longest <= (models - 1) * (turn + 2 * load) + load + a_second * models * turn / 4


def test_where_there_is_room_for_all_each_is_loaded_once():
    random = Random(2)  # noqa: S311  (the same)
    _, loads, held, left = Machine({"a": 10, "b": 10, "c": 10}, 5.0, 30).play(lambda now: [random.choice("abc")] if now < 400 else [], 500)
    assert (loads, held, left) == (3, 30, 0)


def test_three_models_where_two_fit():
    """200 interleaved requests: all are answered, and loading them one by one would have taken 200 loads."""
    longest, loads, held, left = Machine({"a": 10, "b": 10, "c": 10}, 3.0, 25).play(lambda now: ["abc"[now % 3]] if now < 200 else [], 400)
    assert (held, left) == (20, 0)
    assert loads <= 3 + 200 / (2 * 3.0)
    assert longest <= 3 * (TurnRules().turn_seconds(3.0) + 2 * 3.0)
