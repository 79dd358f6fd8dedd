"""What is reserved for a model: its plan's high end until it was put to its worst, then what it was seen to hold; never more than there is."""

import asyncio
import json
import os
import sys
from dataclasses import replace
from importlib.resources import files
from random import Random
from types import SimpleNamespace

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_up_control import state_of
from test_up_demand import budget, env  # noqa: F401  (fixtures)
from upping import HERE, processes_with, up, vram

from vram.admission.residency import Load, Resident, Unload, Wanted, next_step
from vram.api import load_model, parse_gpus, plan
from vram.cli.render.up import board, ready_text
from vram.engines.base import Settings
from vram.errors import ExitCode
from vram.hardware.probe.nvml import held_by_process
from vram.memory.part import Part, Parts
from vram.planner.plan import GpuPlan
from vram.planner.reserve import planned_bytes, reserved_bytes
from vram.runtime.engines.base import Installed
from vram.runtime.engines.registry import program
from vram.runtime.footprint import host_held, processes
from vram.runtime.learned import FILE, Learned, held_before, keep_held
from vram.runtime.lessons import learned_of
from vram.runtime.placing import Placed, replan
from vram.runtime.planning import plan_one
from vram.runtime.reserving import measure, outgrown, watch, with_reserve
from vram.runtime.tiny import write_tiny
from vram.runtime.together import Household, gpu_bytes
from vram.runtime.unit import State
from vram.runtime.wanted import Wanted as Asked
from vram.settings import settings as variables
from vram.sources.private import last_lines
from vram.units import MIB, gib

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")

GIB = 2**30


def gpu(weights, cache, work, runtime, *, usable=100 * GIB, pool=None):
    """A GPU's plan: each part as (low, expected, high)."""
    parts = {n: Part(bytes=e, low=lo, high=hi, source="formula", why="") for n, (lo, e, hi) in {"weights": weights, "kv_cache": cache}.items()}
    more = {n: Part(bytes=e, low=lo, high=hi, source="formula", why="") for n, (lo, e, hi) in {"activations": work, "runtime": runtime}.items()}
    none = Part.exact(0, "formula", "")
    made = Parts(**parts, **more, cuda_graphs=none, communication=none)
    return GpuPlan(
        index=0, name="x", capacity_bytes=usable, used_bytes=0, usable_bytes=usable, stage=0, parts=made, pool=pool, kv_needed_bytes=made.kv_cache.bytes
    )


TINY = gpu((2 * MIB,) * 3, (MIB,) * 3, (MIB, 2 * MIB, 10 * MIB), (20 * MIB, 300 * MIB, 1024 * MIB))


def test_a_tiny_model_reserves_what_it_holds_and_a_margin_instead_of_a_gibibyte():
    """60 MiB were seen: 57 of them may still grow, by 64 MiB at least."""
    assert planned_bytes(TINY) == 1037 * MIB
    assert reserved_bytes(TINY, 60 * MIB, 50 * MIB) == 124 * MIB


def test_weights_and_cache_do_not_grow_the_rest_by_a_quarter():
    """40 GiB of weights and 8 of cache beside 2 GiB of all else: half a GiB is kept beside them, not a share of the whole."""
    large = gpu((40 * GIB,) * 3, (8 * GIB,) * 3, (GIB, GIB, 2 * GIB), (0, GIB, 2 * GIB))
    assert reserved_bytes(large, 50 * GIB, 50 * GIB) == 50 * GIB + GIB // 2


def test_a_margin_alone_takes_no_model_away_that_fits():
    """An engine that takes a pool is planned by what is expected: held is more, and with a margin it would be more than there is."""
    pool = Part.exact(GIB, "formula", "")
    small = gpu((GIB,) * 3, (GIB,) * 3, (0, 0, 0), (0, GIB, 2 * GIB), usable=3 * GIB + 200 * MIB, pool=pool)
    assert planned_bytes(small) == 3 * GIB
    assert reserved_bytes(small, 5 * GIB, 2 * GIB) == 3 * GIB
    assert reserved_bytes(small, 5 * GIB, 3 * GIB + 150 * MIB) == 3 * GIB + 200 * MIB
    assert reserved_bytes(small, 5 * GIB, 4 * GIB) == 4 * GIB


sizes = st.integers(0, 4 * GIB)


@given(st.tuples(sizes, sizes, sizes), sizes, sizes)
def test_a_reservation_covers_what_is_held_and_passes_the_plan_only_for_that(band, peak, now):
    """No less than is held or than the plan's least; no more than the plan's most while no more is held."""
    low, expected, high = sorted(band)
    one = gpu((MIB,) * 3, (MIB,) * 3, (0, 0, 0), (low, expected, high))
    found = reserved_bytes(one, peak, now)
    assert found >= now
    assert found >= low
    if now <= planned_bytes(one):
        assert found <= planned_bytes(one)
        assert found >= min(peak, planned_bytes(one))


def test_bytes_of_this_process_are_those_that_the_kernel_tells():
    """The sum of a tree's resident memory: ours alone is between what was just written and the peak that getrusage tells."""
    import resource

    block = bytearray(os.urandom(1 << 20) * 32)
    found = host_held((os.getpid(),))
    assert found is not None
    peak, now = found
    assert len(block) < now <= peak + MIB <= 2 * MIB + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + MIB
    assert processes(os.getpid())[0] == os.getpid()
    assert host_held((2**22 + 1,)) is None


def test_what_a_tree_holds_is_added_and_who_has_ended_is_passed_over(tmp_path):
    """From recorded files of /proc: two processes, a zombie without memory, one that is gone."""
    for pid, text in {"1": "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n", "2": "VmHWM:\t 1024 kB\nVmRSS:\t 1024 kB\n", "3": "State:\tZ\n"}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "status").write_text(text)
    assert host_held((1, 2, 3, 4), tmp_path) == (3 * MIB, 2 * MIB)
    # Half of what the second one holds is also the first one's.
    (tmp_path / "2" / "smaps_rollup").write_text("00400000-7fff Pss\nRss:   1024 kB\nPss:    512 kB\nPss_Anon: 1 kB\n")
    assert host_held((1, 2), tmp_path) == (3 * MIB, MIB + MIB // 2)


def test_the_drivers_list_of_processes_is_read_and_its_failures_are_nobodys_memory():
    """NVML's two lists: who stands in both counts once; a driver without the call, or that does not know, tells nothing."""

    def raises(*_):
        raise RuntimeError("not supported")

    def one(pid, size):
        return SimpleNamespace(pid=pid, usedGpuMemory=size)

    calls = {"nvmlInit": lambda: None, "nvmlShutdown": lambda: None, "nvmlDeviceGetCount": lambda: 1, "nvmlDeviceGetHandleByIndex": lambda i: i}
    calls |= {"nvmlDeviceGetUUID": lambda _: b"GPU-a"}
    lists = {
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [one(7, 5), one(8, None)],
        "nvmlDeviceGetGraphicsRunningProcesses": lambda _: [one(7, 5), one(9, 2)],
    }
    assert held_by_process(SimpleNamespace(**calls, **lists)) == {"GPU-a": {7: 5, 8: 0, 9: 2}}
    assert held_by_process(SimpleNamespace(**calls, **dict.fromkeys(lists, raises))) == {"GPU-a": {}}
    assert held_by_process(SimpleNamespace(**{**calls, "nvmlInit": raises}, **lists)) == {}


@pytest.fixture
def placed(tmp_path):
    path = write_tiny(tmp_path / "t.gguf")
    asked, one, fleet = Asked(name="m", model=str(path), context_tokens=1024), program("llama-server"), parse_gpus("RTX 4090")
    model = load_model(str(path))
    return Placed(wanted=asked, model=model, engine=one, here=None, fleet=fleet, plan=plan_one(asked, model, fleet, one, None), on=(0,))


def test_what_was_held_is_known_to_the_next_run_of_the_same(placed, tmp_path):
    """By plan, version and added words; the latest counts, nonsense does not, and nothing is written that is known already."""
    folder = tmp_path / "state"
    asked = placed.wanted
    assert held_before(folder, placed.plan, asked) is None
    keep_held(folder, placed.plan, asked, (500 * MIB,))
    keep_held(folder, placed.plan, asked, (490 * MIB,))
    assert (folder / FILE).read_text().count("\n") == 1
    keep_held(folder, placed.plan, asked, (600 * MIB,))
    assert held_before(folder, placed.plan, asked) == (600 * MIB,)
    assert Learned(folder).held(placed.plan, asked) == (600 * MIB,)
    assert Learned(folder).works(placed.plan, asked) is None
    assert held_before(folder, placed.plan, replace(asked, more=("--threads", "2"))) is None
    other = plan(placed.model, gpu="RTX 4090", engine="llama.cpp", context_tokens=2048)
    assert held_before(folder, other, asked) is None
    row = json.loads((folder / FILE).read_text().splitlines()[-1])
    for nonsense in ([], [0], [-1], [True], ["x"], [2**60], [1, 2], None):
        with (folder / FILE).open("a") as file:
            file.write(json.dumps({**row, "holds": nonsense}) + "\n" + "[" * 5000 + "\n")
        assert held_before(folder, placed.plan, asked) == (600 * MIB,)


def test_what_one_program_held_holds_for_no_other(tmp_path):
    """Two programs have the rules of llama.cpp, and the release of one is no build of it: neither takes over what the other held, nor what an older one did."""
    path = write_tiny(tmp_path / "t.gguf")
    model, fleet = load_model(str(path)), parse_gpus("RTX 4090")

    def by(engine, release):
        one, here = program(engine), Installed(program=("x",), version="", where="x", release=release)
        asked = Asked(name="m", model=str(path), context_tokens=1024, parallel=1)
        return Placed(wanted=asked, model=model, engine=one, here=here, fleet=fleet, plan=plan_one(asked, model, fleet, one, here), on=(0,))

    old = by("llama_cpp.server", "0.3.16")
    keep_held(tmp_path, old.plan, old.wanted, (500 * MIB,))
    assert [held_before(tmp_path, p.plan, p.wanted) for p in (old, by("llama_cpp.server", "0.3.17"), by("llama-server", ""))] == [(500 * MIB,), None, None]


def test_the_release_of_the_binding_is_read_and_is_no_build(tmp_path):
    """What its Python prints: a version, and that the server's packages are there."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho version 0.3.16\necho server\n")
    python.chmod(0o755)
    here = program("llama_cpp.server").find(variables({"VRAM_LLAMA_CPP_PYTHON": str(python)}))
    assert (here.release, here.version) == ("0.3.16", "")


def test_of_a_long_file_the_latest_is_read(placed, tmp_path):
    """More lines than are read at once, and the one that counts is the last."""
    rows = tmp_path / FILE
    rows.write_bytes((b"x" * 1023 + b"\n") * (4 * 1024 + 1))
    keep_held(tmp_path, placed.plan, placed.wanted, (500 * MIB,))
    assert held_before(tmp_path, placed.plan, placed.wanted) == (500 * MIB,)
    rows.write_bytes(b"a\nbc\nde\n")
    assert [last_lines(rows, n) for n in (9, 6, 5, 3, 2)] == [[b"a", b"bc", b"de", b""], [b"bc", b"de", b""], [b"de", b""], [b"de", b""], [b""]]


def test_a_reservation_is_of_the_settings_that_it_was_measured_with(placed):
    """Other settings: the plan counts again; one that outgrows it gets more, one that does not keeps it."""
    measured = with_reserve(placed, ((500 * MIB, 400 * MIB),))
    assert gpu_bytes(measured, 2)[0] < gpu_bytes(placed, 2)[0]
    assert replan(measured, replace(placed.wanted, context_tokens=2048)).reserved == ()
    assert outgrown(measured, ((500 * MIB, 500 * MIB),)) is None
    grown = outgrown(measured, ((9 * GIB, 9 * GIB),))
    assert grown is not None
    assert gpu_bytes(grown, 2)[0] >= 9 * GIB


def test_what_outgrew_its_reservation_is_known_to_the_next_run(placed, tmp_path, monkeypatch):
    """Held after hours is more than after the proof: the next run begins with that."""
    keep_held(tmp_path, placed.plan, placed.wanted, (500 * MIB,))
    unit = SimpleNamespace(name="m", state=State.READY, placed=with_reserve(placed, ((500 * MIB, 400 * MIB),)))
    monkeypatch.setattr("vram.runtime.reserving.held", lambda _: ((900 * MIB, 900 * MIB),))

    async def until_it_is_said():
        said = asyncio.Event()
        looking = asyncio.create_task(watch(lambda: [unit], tmp_path, lambda _: said.set(), look_seconds=0.0))
        await asyncio.wait_for(said.wait(), 10)
        looking.cancel()

    asyncio.run(until_it_is_said())
    assert held_before(tmp_path, placed.plan, placed.wanted) == (900 * MIB,)


def test_what_was_held_beyond_the_band_is_reserved_in_the_next_run_and_said(placed, tmp_path):
    """An engine held twice what its plan says at most: the next run begins with that, though no card has it, and both screens call it outside."""
    most = planned_bytes(placed.plan.gpus[0])
    for kept in (2 * most, placed.fleet.gpus[0].gpu.capacity_bytes + GIB):
        keep_held(tmp_path, placed.plan, placed.wanted, (kept,))
        again = learned_of(placed, Learned(tmp_path))
        assert kept <= again.reserved[0] <= kept + kept // 4
        shown = board(Household(fleet=placed.fleet, ways={"m": (again,)}, first={"m": again}), 200)
        assert f"more than the {gib(most)} that its plan says at most" in shown
        assert "outside its plan's band" in ready_text(SimpleNamespace(name="m", placed=again, ready_after_seconds=1.0, proof=None, measured=()), 200)
    keep_held(tmp_path, placed.plan, placed.wanted, (most // 2,))
    inside = learned_of(placed, Learned(tmp_path))
    assert inside.reserved[0] <= most
    assert "that its plan says at most" not in board(Household(fleet=placed.fleet, ways={"m": (inside,)}, first={"m": inside}), 200)


def test_a_peak_that_is_a_sum_of_many_peaks_takes_no_model_away_from_the_next_run(placed, tmp_path, monkeypatch):
    """Each process' most, added, was more than the plan; what they hold together is not: the next run reserves what this one did."""
    most = planned_bytes(placed.plan.gpus[0])
    unit = SimpleNamespace(name="m", placed=placed)
    for now in (most // 2, most + 100 * MIB):
        monkeypatch.setattr("vram.runtime.reserving.held", lambda _, now=now: ((5 * most, now),))
        unit.placed = replace(placed, reserved=())
        folder = tmp_path / str(now)
        measure(unit, folder)
        assert learned_of(placed, Learned(folder)).reserved == unit.placed.reserved


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=2, max_size=5), st.integers(20, 60))
def test_never_above_the_budget_though_reservations_shrink_when_they_are_measured(seed, models, most):
    """Models that hold less than they were planned to, and grow to that only in time: what they hold together never passes the budget.

    Each `(planned, holds)`: until it was measured its plan counts, which no model of this play passes; then what it holds.
    """
    random = Random(seed)  # noqa: S311  (a play, no secret)
    truth = {f"m{k}": (max(p, h), h) for k, (p, h) in enumerate(models)}
    reserved = {name: p for name, (p, _) in truth.items()}
    loaded: dict[str, float] = {}
    for now in range(60):
        for name in loaded:
            if random.random() < 0.3:
                reserved[name] = truth[name][1]
        line = [Wanted(name=n, placements=((reserved[n],),), since=0.0) for n in truth if n not in loaded and random.random() < 0.5]
        residents = [
            Resident(name=n, gpu_bytes=(reserved[n],), load_seconds=0.0, ready_at=at, used_at=at, running=random.randrange(2)) for n, at in loaded.items()
        ]
        step = next_step(residents, line, [most], float(now))
        if isinstance(step, Load):
            for gone in step.evict:
                del loaded[gone]
            loaded[step.name] = float(now)
        elif isinstance(step, Unload):
            for gone in step.names:
                del loaded[gone]
        assert sum(truth[n][1] for n in loaded) <= most


def test_three_fit_where_their_plans_let_two_and_the_next_run_knows(env, tmp_path, budget):  # noqa: F811  (fixtures)
    """Main memory for two and a half plans: once measured, all three are loaded at once and nobody goes; the next run loads all at its start."""
    args = ("a=demo", "b=demo", "c=demo", "--gpu", "cpu", "--context", "1k", "--budget", str(budget))
    with up(tmp_path, *args, env=env) as running:
        assert "by what it was seen to hold" in running.until("serving a, b")
        status, body = running.post("/v1/completions", {"model": "c", "prompt": "hi", "max_tokens": 3})
        assert status == 200, body
        found = {name: state_of(env, name) for name in "abc"}
        assert [found[n]["state"] for n in "abc"] == ["ready"] * 3
        assert sum(m["evictions"] for m in found.values()) == 0
        assert len(processes_with(f"{HERE}/stand_in.py llama-server --model")) == 3
        for one in found.values():
            assert one["reserved_by"] == "measured"
            assert 64 * MIB < sum(one["reserved_bytes"]) < budget // 5
    again = vram("up", *args, "--dry-run", "--json", env=env)
    document = json.loads(again.stdout)
    jsonschema.validate(document, json.loads((files("vram") / "schemas/up.json").read_text()))
    assert [m["loaded_first"] for m in document["models"]] == [True] * 3
    assert {m["reserved_by"] for m in document["models"]} == {"measured"}
    assert "reserved for it, by what was measured here" in vram("up", *args, "--dry-run", env=env).stdout
    other = json.loads(vram("up", *args[:-4], "--context", "512", "--budget", str(budget), "--dry-run", "--json", env=env).stdout)
    assert {m["reserved_by"] for m in other["models"]} == {"plan"}


def test_a_pool_of_a_gpu_keeps_its_plan():
    """vLLM looks at what is free when it starts: what it holds then is not what it needs to start again."""
    from vram.runtime.reserving import held

    made = plan(load_model("llama-3.1-8b"), gpu="RTX 4090", engine="vllm", context_tokens=4096)
    handle = SimpleNamespace(pid=os.getpid(), exit=None)
    fleet = parse_gpus("RTX 4090")
    unit = SimpleNamespace(handle=handle, placed=SimpleNamespace(plan=made, gpus=fleet.gpus))
    assert held(unit) is None
    assert Settings().kv_pool_bytes is None


def test_what_was_seen_to_hold_less_than_its_plan_fits_where_its_plan_does_not(env, tmp_path):  # noqa: F811  (fixtures)
    """A budget below the plan's expected total is refused until it was measured; then it is served within it, and no screen says that it does not fit."""
    words = ("m=demo", "--gpu", "cpu", "--context", "1k")
    document = json.loads(vram("up", *words, "--dry-run", "--json", env=env).stdout)
    planned = sum(part["bytes"] for part in document["models"][0]["plan"]["gpus"][0]["parts"].values())
    small = (*words, "--budget", str(planned * 9 // 10))
    assert vram("up", *small, "--dry-run", env=env).returncode == ExitCode.DOES_NOT_FIT
    with up(tmp_path, *words, env=env) as running:
        running.until("serving m")
    for both in (small, ("n=demo", *small)):
        shown = vram("up", *both, "--dry-run", env=env)
        assert shown.returncode == ExitCode.OK, shown.stdout
        assert "fits as measured" in shown.stdout
        assert "does not fit" not in shown.stdout
        assert "what would mend" not in shown.stdout
    with up(tmp_path, *small, env=env) as running:
        running.until("serving m")
        assert running.post("/v1/completions", {"model": "m", "prompt": "x", "max_tokens": 2})[0] == 200
