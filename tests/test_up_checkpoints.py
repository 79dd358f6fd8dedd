"""Checkpoints of past prompts under `vram up`: as many as there is room for, shown in the command, and part of what is reserved."""

import sys
from dataclasses import replace

import pytest
from llama_cpp_runs import from_config
from test_llama_cpp_checkpoints import host_of

from vram.api import parse_gpus
from vram.planner.reserve import planned_bytes
from vram.runtime.engines.base import Address, Installed
from vram.runtime.engines.registry import program
from vram.runtime.placing import Placed, line_of
from vram.runtime.planning import plan_one
from vram.runtime.reserving import with_reserve
from vram.runtime.together import place_together
from vram.runtime.wanted import Wanted
from vram.units import GIB, MIB

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")

GEMMA = from_config("gemma3-12b", "Q4_K_M")
AT = Address(host="127.0.0.1", port=1, name="m")
HELP = "--fit [on|off]\n--cache-ram N\n--ctx-checkpoints N\n--no-webui"


@pytest.fixture(autouse=True)
def helping(monkeypatch):
    monkeypatch.setattr("vram.runtime.engines.llama_server._asked", lambda _, flag: HELP if flag == "--help" else "")


def placed(fleet, engine="llama-server", model=GEMMA, **more):
    one, here = program(engine), Installed(program=("llama-server",), version="b11434" if engine == "llama-server" else "", where="x")
    wanted = Wanted(name="m", model="m.gguf", context_tokens=8192, **more)
    return Placed(wanted=wanted, model=model, engine=one, here=here, fleet=fleet, plan=plan_one(wanted, model, fleet, one, here), on=(0,))


def words(found, flag):
    said = line_of(found, AT).words
    return said[said.index(flag) + 1] if flag in said else None


def test_alone_it_gets_its_own_number_or_what_fits():
    """In 256 GiB llama-server's 32 a slot; in less the most with which all parts fit at their most, and one more would not; never none."""
    assert words(placed(host_of(256), alone=True), "--ctx-checkpoints") == "32"
    seen = set()
    for gib in (12, 16, 20, 24, 28):
        for fleet in (host_of(gib), parse_gpus("M4 Pro 24GB")):
            found = placed(fleet, alone=True)
            number = found.plan.settings.ctx_checkpoints
            assert words(found, "--ctx-checkpoints") == str(number)
            assert words(found, "--cache-ram") == "0"
            more = placed(fleet, alone=True, ctx_checkpoints=number + 1)
            assert more.plan.gpus[0].short_bytes > 0
            assert number == 1 or found.plan.gpus[0].short_bytes <= 0
            seen.add(number)
    assert 1 in seen
    assert len(seen) > 2


def test_beside_others_it_keeps_what_one_request_leaves():
    """Three a slot, though 32 would fit; what is asked for counts; on a card nothing is said, as its memory is another."""
    assert words(placed(host_of(256)), "--ctx-checkpoints") == "3"
    assert words(placed(host_of(256), ctx_checkpoints=7), "--ctx-checkpoints") == "7"
    assert words(placed(parse_gpus("RTX 4090")), "--ctx-checkpoints") is None
    assert words(placed(parse_gpus("RTX 4090")), "--cache-ram") is None
    assert words(placed(host_of(256), model=from_config("llama3.1-8b")), "--ctx-checkpoints") is None


def test_the_household_knows_who_is_alone(monkeypatch):
    """One model gets all that there is room for, two get few."""
    monkeypatch.setattr("vram.api.load_model", lambda *_, **__: GEMMA)

    class Here:
        def find(self, one):
            return Installed(program=("llama-server",), version="b11434", where="x") if one.name == "llama-server" else None

    def told(*names):
        asked = [Wanted(name=n, model="m.gguf", engine="llama-server", context_tokens=8192) for n in names]
        return [p.plan.settings.ctx_checkpoints for p in place_together(asked, host_of(256), Here()).placed]

    assert told("a") == [32]
    assert told("a", "b") == [3, 3]


def test_a_build_without_the_flag_is_not_told(monkeypatch):
    """A version that says nothing of its number, and a help that has no such flag."""
    monkeypatch.setattr("vram.runtime.engines.llama_server._asked", lambda *_: "--no-webui")
    found = placed(host_of(256))
    assert words(replace(found, here=Installed(program=("llama-server",), version="", where="x")), "--ctx-checkpoints") is None
    assert words(found, "--cache-ram") is None


def test_a_server_without_checkpoints_has_none_in_its_plan():
    """llama_cpp.server keeps none; its plan is less than llama-server's by all of them."""
    theirs, ours = (placed(host_of(64), engine, ctx_checkpoints=n) for engine, n in (("llama_cpp.server", None), ("llama-server", 0)))
    assert theirs.plan.gpus[0].parts.runtime == ours.plan.gpus[0].parts.runtime


def test_what_comes_with_later_requests_stays_reserved():
    """A measured reservation leaves room for all checkpoints that may come, within the plan; without them it is a margin above what is held."""
    fleet = host_of(256)
    for number, least in ((0, 0), (3, 3 * 4 * 320 * MIB), (32, 32 * 4 * 320 * MIB)):
        found = placed(fleet, ctx_checkpoints=number)
        gpu = found.plan.gpus[0]
        peak = gpu.parts.weights.bytes + gpu.parts.kv_cache.bytes + 200 * MIB
        (size,) = with_reserve(found, ((peak, peak),)).reserved
        # Gemma 3 12B: 40 windowed layers x 1,024 tokens x 8 heads x 256 x keys and values of 2 bytes = 320 MiB, of four slots.
        assert least < size - peak <= least + GIB
        assert size <= planned_bytes(gpu)
