"""Packing of several models on one machine, against trying every way there is."""

from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram.planner.packing import Parcel, Slot, Way, pack

GB = 1 << 30


def test_two_small_ones_share_a_card_and_the_large_one_gets_two():
    small = Way(rank_bytes=(10 * GB,))
    packing = pack(
        [
            Parcel(name="a", ways=(small,)),
            Parcel(name="b", ways=(small,)),
            Parcel(name="c", ways=(Way(rank_bytes=(40 * GB,)), Way(rank_bytes=(21 * GB, 21 * GB)))),
        ],
        [Slot(free_bytes=24 * GB)] * 3,
    )
    assert not packing.left
    assert packing.placed["a"].gpus == packing.placed["b"].gpus
    assert packing.placed["c"].way == 1
    assert len({*packing.placed["c"].gpus, *packing.placed["a"].gpus}) == 3


def test_a_model_spans_cards_of_one_group_only_and_those_it_names():
    two = Way(rank_bytes=(5, 5))
    assert pack([Parcel(name="a", ways=(two,))], [Slot(free_bytes=9, group=0), Slot(free_bytes=9, group=1)]).left == ("a",)
    named = Way(rank_bytes=(5,), gpus=frozenset({1}))
    assert pack([Parcel(name="a", ways=(named,))], [Slot(free_bytes=9)] * 3).placed["a"].gpus == (1,)


def test_where_not_all_fit_the_important_one_does():
    one = Way(rank_bytes=(8,))
    packing = pack([Parcel(name="a", ways=(one,)), Parcel(name="b", ways=(one,), priority=1)], [Slot(free_bytes=10)])
    assert set(packing.placed) == {"b"}
    assert packing.left == ("a",)


def test_names_are_told_apart():
    with pytest.raises(ValueError, match="name of its own"):
        pack([Parcel(name="a", ways=()), Parcel(name="a", ways=())], [])


ways = st.lists(st.integers(1, 12), min_size=1, max_size=2).map(lambda b: Way(rank_bytes=tuple(b)))
machines = st.lists(st.builds(Slot, free_bytes=st.integers(0, 20), group=st.integers(0, 1)), min_size=1, max_size=3)


def most_by_trying(parcels, slots):
    """The greatest number of models that lie somewhere, over every choice of ways and GPUs."""
    best = 0
    choices = []
    for p in parcels:
        mine = [None]
        for way in p.ways:
            ranks = permutations(range(len(slots)), len(way.rank_bytes))
            mine += [tuple(zip(gpus, way.rank_bytes, strict=True)) for gpus in ranks if len({slots[g].group for g in gpus}) == 1]
        choices.append(mine)
    for chosen in product(*choices):
        used = [0] * len(slots)
        for c in chosen:
            for g, b in c or ():
                used[g] += b
        if all(u <= s.free_bytes for u, s in zip(used, slots, strict=True)):
            best = max(best, sum(c is not None for c in chosen))
    return best


@given(st.lists(st.lists(ways, min_size=1, max_size=2), min_size=1, max_size=4), machines)
def test_never_over_and_as_many_as_trying_everything_finds(models, slots):
    parcels = [Parcel(name=str(n), ways=tuple(w)) for n, w in enumerate(models)]
    packing = pack(parcels, slots)
    used = [0] * len(slots)
    for p in parcels:
        if p.name in packing.placed:
            placed = packing.placed[p.name]
            way = p.ways[placed.way]
            assert len(set(placed.gpus)) == len(way.rank_bytes)
            assert len({slots[g].group for g in placed.gpus}) == 1
            for g, b in zip(placed.gpus, way.rank_bytes, strict=True):
                used[g] += b
    assert all(u <= s.free_bytes for u, s in zip(used, slots, strict=True))
    assert {*packing.placed, *packing.left} == {p.name for p in parcels}
    assert len(packing.placed) == most_by_trying(parcels, slots)


def test_many_models_on_many_cards_end_soon():
    parcels = [Parcel(name=str(n), ways=(Way(rank_bytes=(n % 7 + 3,)), Way(rank_bytes=(n % 5 + 2,) * 2))) for n in range(40)]
    packing = pack(parcels, [Slot(free_bytes=20 + g) for g in range(16)])
    assert len(packing.placed) == 40
