"""Several models on one machine: who shares a GPU, who takes several, who waits, and which settings make room for the others."""

from dataclasses import replace

import pytest

from vram.api import parse_gpus
from vram.hardware.fleet import Fleet, FleetGpu
from vram.hardware.gpu import Gpu
from vram.planner.launch import layers_dealt
from vram.readers.pools import parse_pools
from vram.runtime.choosing import Finder
from vram.runtime.filed import place_pools
from vram.runtime.tiny import Shape, write_tiny
from vram.runtime.together import _beside_each_other, gpu_bytes, place_together, within
from vram.runtime.wanted import Wanted
from vram.settings import settings

GB = 1 << 30


def household(models, gpus, *, engine="vllm", budget=None, **more):
    fleet = parse_gpus(gpus)
    if budget is not None:
        fleet = within(fleet, budget)
    wanted = [Wanted(name=n, model=m, engine=engine, context_tokens=8192, **more) for n, m in models.items()]
    return place_together(wanted, fleet, Finder(settings()), dry=True, offline=True)


def most_held(found):
    """Bytes of each GPU that those loaded first take."""
    held = [gpu_bytes(p, len(found.fleet)) for p in found.first.values()]
    return [sum(h[g] for h in held) for g in range(len(found.fleet))]


def test_two_small_models_share_a_card_and_the_large_one_comes_when_it_is_asked_for():
    found = household({"a": "Qwen/Qwen3-4B", "b": "Qwen/Qwen3-1.7B", "c": "Qwen/Qwen3-8B"}, "RTX 4090")
    assert set(found.first) == {"a", "b"}
    assert found.later() == {"c": ("a", "b")}
    # vLLM takes a share of the whole card, whoever else is there: the shares leave room for each other.
    assert sum(p.wanted.gpu_memory_utilization for p in found.first.values()) < 1
    assert most_held(found)[0] <= found.capacity[0]


@pytest.mark.parametrize(("context", "held"), [(2048, 0), (8192, 0), (16384, 0), (2048, 2 * GB), (8192, 2 * GB)])
def test_shares_of_one_card_are_never_more_than_is_free_of_it(context, held):
    """vLLM refuses to start where less than its share of the whole card is free (`request_memory`): whoever is loaded first leaves that to the others."""
    models = {"a": "Qwen/Qwen3-4B", "b": "Qwen/Qwen3-1.7B", "c": "Qwen/Qwen3-0.6B"}
    fleet = parse_gpus("RTX 4090")
    fleet = replace(fleet, gpus=(replace(fleet.gpus[0], used_bytes=held),))
    wanted = [Wanted(name=n, model=m, engine="vllm", context_tokens=context) for n, m in models.items()]
    found = place_together(wanted, fleet, Finder(settings()), dry=True, offline=True)
    shares = [p.wanted.gpu_memory_utilization for p in found.first.values()]
    assert len(shares) > 1
    assert sum(shares) * fleet.gpus[0].gpu.capacity_bytes <= fleet.gpus[0].free_bytes


def test_the_share_that_vllm_asks_of_a_card_is_reserved_where_it_is_planned_to_hold_less():
    """Asked when it starts, held or not: another that is loaded into the rest would keep it from being started again."""
    fleet = parse_gpus("L40S 48GB")
    fleet = replace(fleet, gpus=(replace(fleet.gpus[0], used_bytes=GB),))
    models = {"a": "google/gemma-3-12b-it", "b": "Qwen/Qwen3-0.6B"}
    wanted = [Wanted(name=n, model=m, engine="vllm", context_tokens=24576, concurrency=4) for n, m in models.items()]
    one = place_together(wanted, fleet, Finder(settings()), dry=True, offline=True).first["a"]
    asked = one.wanted.gpu_memory_utilization * fleet.gpus[0].gpu.capacity_bytes
    assert one.plan.gpus[0].total_bytes < asked <= gpu_bytes(one, 1)[0] <= fleet.gpus[0].free_bytes


def test_the_fewest_gpus_that_do_and_all_models_at_once():
    found = household({"a": "Qwen/Qwen3-4B", "b": "Qwen/Qwen3-14B", "c": "Qwen/Qwen3-8B"}, "4x RTX 4090")
    assert {n: len(p.on) for n, p in found.first.items()} == {"a": 1, "b": 2, "c": 1}
    assert len({g for p in found.first.values() for g in p.on}) == 4
    assert all(h <= c for h, c in zip(most_held(found), found.capacity, strict=True))
    assert found.later() == {}


def test_a_model_spans_cards_of_one_kind_only():
    found = household({"a": "Qwen/Qwen3-14B", "b": "Qwen/Qwen3-0.6B"}, "RTX 4090 + RTX 3090 + RTX 4090")
    assert found.first["a"].on == (0, 2)
    assert {g.gpu.name for g in found.first["a"].fleet.gpus} == {"RTX 4090 24GB"}


def test_sglang_is_told_its_pool_because_its_share_is_one_of_what_is_free():
    found = household({"a": "Qwen/Qwen3-4B", "b": "Qwen/Qwen3-1.7B"}, "RTX 4090", engine="sglang")
    assert set(found.first) == {"a", "b"}
    for placed in found.first.values():
        assert placed.plan.kv_pool.capacity_tokens >= 8192
        assert placed.wanted.gpu_memory_utilization is None


def test_a_budget_is_kept():
    free = household({"a": "Qwen/Qwen3-4B", "b": "Qwen/Qwen3-1.7B"}, "RTX 4090")
    assert set(free.first) == {"a", "b"}
    bound = household({"a": "Qwen/Qwen3-4B", "b": "Qwen/Qwen3-1.7B"}, "RTX 4090", budget=15 * GB)
    assert set(bound.first) == {"a"}
    assert most_held(bound)[0] <= 15 * GB


def test_the_first_named_comes_first_and_one_that_fits_nowhere_says_so():
    found = household({"big": "Qwen/Qwen3-32B", "a": "Qwen/Qwen3-4B"}, "RTX 4090")
    assert found.first["big"].plan.verdict == "does_not_fit"
    assert found.first["a"].plan.verdict == "fits"


@pytest.mark.parametrize("one", ["Qwen/Qwen3-8B"])
def test_a_model_alone_is_planned_as_ever(one):
    found = household({"a": one}, "2x RTX 4090")
    assert found.first["a"].on == (0, 1)
    assert found.first["a"].wanted.gpu_memory_utilization is None


def test_cards_that_are_not_the_first_are_named_to_the_engine():
    found = household({"a": "Qwen/Qwen3-8B", "b": "Qwen/Qwen3-8B"}, "2x RTX 4090")
    assert sorted(p.on for p in found.first.values()) == [(0,), (1,)]
    (second,) = [p for p in found.first.values() if p.on == (1,)]
    assert second.variables["CUDA_VISIBLE_DEVICES"] == "1"


def test_what_fits_beside_the_pinned_in_no_way_is_told():
    found = household({"a": "Qwen/Qwen3-8B", "b": "Qwen/Qwen3-4B"}, "RTX 4090")
    assert found.later() == {"b": ("a",)}
    assert replace(found, pinned=frozenset({"a"})).later() == {"b": None}


class Held:
    """Lessons of a machine on which every model held so much of each of its GPUs."""

    def __init__(self, size):
        self.size = size

    def works(self, asked, wanted):  # noqa: ARG002
        return None

    def held(self, plan, wanted):  # noqa: ARG002
        return (self.size,) * len(plan.gpus)


@pytest.mark.parametrize("lessons", [None, Held(70 << 20)])
def test_what_was_measured_of_one_deal_of_layers_is_not_reserved_for_another(tmp_path, lessons):
    """A model over two cards, one of them shared: its layers fall otherwise than when it was seen alone, and what is known of that deal counts."""
    path, fleet = str(write_tiny(tmp_path / "t.gguf", Shape(layers=7))), parse_gpus("2x RTX 4090")
    (wide,) = place_together([Wanted(name="wide", model=path, engine="llama-server")], fleet, Finder(settings()), dry=True, offline=True).placed
    (small,) = place_together([Wanted(name="small", model=path, engine="llama-server")], fleet.only([0]), Finder(settings()), dry=True, offline=True).placed
    measured = replace(wide, reserved=(1 << 30, 1 << 30))
    beside_little = _beside_each_other({"small": replace(small, reserved=(1 << 20,)), "wide": measured}, fleet, lessons)["wide"]
    assert layers_dealt(beside_little.plan) == layers_dealt(wide.plan) == (4, 4)
    assert beside_little.reserved == (1 << 30, 1 << 30)
    beside_much = _beside_each_other({"small": replace(small, reserved=(12 << 30,)), "wide": measured}, fleet, lessons)["wide"]
    assert layers_dealt(beside_much.plan)[0] < 4
    # Nothing is known of that deal, or by the lesson 70 MiB and what may grow: not the GiB of the other one.
    assert (beside_much.reserved == ()) if lessons is None else all(70 << 20 < size < 1 << 30 for size in beside_much.reserved)


@pytest.mark.parametrize("lessons", [None, Held(70 << 20)])
@pytest.mark.parametrize("enough", [True, False])
def test_layers_are_dealt_anew_only_where_that_leaves_the_room_of_those_after(tmp_path, lessons, enough):
    """A model over two cards beside one on the first: more of its layers fall on the second, unless a third was packed there that needs the room."""
    path, fleet = str(write_tiny(tmp_path / "t.gguf", Shape(layers=7))), parse_gpus("2x RTX 4090")
    (wide,) = place_together([Wanted(name="wide", model=path, engine="llama-server")], fleet, Finder(settings()), dry=True, offline=True).placed
    (small,) = place_together([Wanted(name="small", model=path, engine="llama-server")], fleet.only([0]), Finder(settings()), dry=True, offline=True).placed
    first = {"small": replace(small, reserved=(12 << 30,)), "wide": replace(wide, reserved=(80 << 20, 80 << 20))}
    (_, anew) = gpu_bytes(_beside_each_other(first, fleet, lessons)["wide"], 2)
    assert anew > 80 << 20
    # Room for it as it was packed in any case; as it would be dealt anew for a byte more or less.
    late = replace(small, on=(1,), fleet=fleet.only([1]), reserved=(fleet.gpus[1].free_bytes - anew + (0 if enough else 1),))
    found = _beside_each_other({**first, "late": late}, fleet, lessons)
    assert layers_dealt(found["wide"].plan) == ((4, 4) if not enough else layers_dealt(_beside_each_other(first, fleet, lessons)["wide"].plan))
    assert (layers_dealt(found["wide"].plan) != (4, 4)) is enough
    held = [gpu_bytes(p, 2) for p in found.values()]
    assert all(sum(h[g] for h in held) <= fleet.gpus[g].free_bytes for g in (0, 1))


def test_what_is_packed_by_what_it_was_seen_to_hold_goes_on_fitting(tmp_path):
    """Models that were seen to hold less than their plans say: as many as fit by that are loaded first, none of them is called unfit."""
    path = str(write_tiny(tmp_path / "t.gguf"))
    wanted = [Wanted(name=n, model=path, engine="llama-server", context_tokens=1024) for n in "abcdef"]
    fleet = parse_gpus("RTX 4090")
    (alone,) = place_together(wanted[:1], fleet, Finder(settings()), dry=True, offline=True, lessons=Held(8 << 20)).placed
    (each,) = alone.reserved
    budget = 6 * each
    # What the others leave of it holds no model by its plan.
    assert each < alone.plan.total_bytes
    found = place_together(wanted, within(fleet, budget), Finder(settings()), dry=True, offline=True, lessons=Held(8 << 20))
    assert set(found.first) == set("abcdef")
    assert {p.reserved for p in found.first.values()} == {(each,)}
    assert "does_not_fit" not in {p.plan.verdict for p in found.first.values()}
    assert most_held(found)[0] <= budget


@pytest.mark.parametrize("lessons", [None, Held(70 << 20)])
def test_replicas_of_a_file_are_planned_beside_those_before_them(tmp_path, lessons):
    """In main memory each finds less free by what is reserved for those before it, or is expected of them where nothing was measured; not one byte else."""
    path = str(write_tiny(tmp_path / "t.gguf"))
    text = "".join(f'[[pools]]\nname = "{n}"\nmodel = "{path}"\nengine = "llama.cpp"\ngpu = "cpu"\ncount = {k}\n' for n, k in (("one", 1), ("two", 2)))
    pools = parse_pools(f'schema = "vram.pools/1"\n{text}'.encode()).pools
    gpu = Gpu(name="CPU", vendor="host", architecture="host", capacity_bytes=16 * GB, capacity_source="stated", marketing_bytes=16 * GB, unified_memory=True)
    fleet = Fleet(gpus=(FleetGpu(gpu=gpu, index=0, used_bytes=3 * GB),))
    found, of = place_pools(pools, fleet, Finder(settings()), dry=True, offline=True, lessons=lessons)
    assert of == {"one": "one", "two/0": "two", "two/1": "two"}
    plans = [found.first[n].plan for n in of]
    charged = [p.reserved[0] if lessons else p.plan.total_bytes for p in found.first.values()]
    assert [p.gpus[0].used_bytes for p in plans] == [3 * GB, 3 * GB + charged[0], 3 * GB + sum(charged[:2])]
    # What was seen to be held is less than what is expected.
    assert (charged[0] < plans[0].total_bytes) is (lessons is not None)
