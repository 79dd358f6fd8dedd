"""A real llama.cpp b11434 asked afresh about multi-token-prediction layers and adapters, and its server with a draft model.

The dry runs need the build of `make oracle-llama-cpp`; the servers a llama-server of the same build (VRAM_LLAMA_SERVER names it; the
cached build has one after `cmake --build … --target llama-server`). What is missing is skipped.
"""

import os
import random
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]
import llama_cpp_drafts as cases  # noqa: E402  (the fast test of the recorded answers uses the same)
from data.make_gguf import DRAFTING, preset  # noqa: E402  (as above)

CACHED = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vram-ci/llama-cpp-b11434/build/bin"
PROBE = Path(os.environ.get("VRAM_LLAMA_CPP") or CACHED) / "probe"
SERVER = Path(os.environ.get("VRAM_LLAMA_SERVER") or CACHED / "llama-server")
SEED = int(os.environ.get("VRAM_ORACLE_SEED") or 20261123)

needs_probe = pytest.mark.skipif(not PROBE.exists(), reason="no llama.cpp build; `make oracle-llama-cpp` makes one")
needs_server = pytest.mark.skipif(not SERVER.exists(), reason="no llama-server of b11434; VRAM_LLAMA_SERVER names one")


@needs_probe
@pytest.mark.parametrize("name", list(DRAFTING))
def test_a_fresh_llama_cpp_drafts_as_planned(name: str, tmp_path: Path) -> None:
    """Settings drawn from the seed: weights with the drafting layers and both contexts' caches to the byte, compute inside its band."""
    draw = random.Random(f"{SEED} {name}")  # noqa: S311  (settings to try, no secrets)
    path = cases.written(preset(name), tmp_path / "model.gguf")
    model = cases.model_of(preset(name), name)
    for devices in (0, 1, 2):
        settings = []
        for _ in range(6):
            slots = draw.choice([1, 2, 4, 8])
            context = draw.choice([1000, 4096, 9000, 32768]) // slots * slots
            ngl = draw.choice([99, DRAFTING[name]["L"] // 3]) if devices == 1 else 99 if devices else 0
            values = (context, 2048, draw.choice([128, 512, 1024]), slots, draw.choice([0, 1]), "f16", "f16", 0, draw.choice([0, 1]), slots * 4, 1, ngl, 0)
            settings.append(dict(zip(cases.KEYS, values, strict=True)))
        settings.sort(key=lambda s: s["ngl"])
        for s, answer in zip(settings, cases.ask(PROBE, path, settings, devices, "--mtp"), strict=True):
            wrong, compute = cases.differences({"id": str(s), "preset": name, "devices": devices, "settings": s, "adapter": None, **answer}, model)
            assert not wrong, (s, answer)
            assert all(low <= real <= high for _, real, low, high in compute), (s, compute)


@needs_probe
@pytest.mark.parametrize("name", cases.ADAPTED)
def test_a_fresh_llama_cpp_places_adapters_as_planned(name: str, tmp_path: Path) -> None:
    """Adapters of ranks drawn from the seed, to the byte on the host and on each device."""
    draw = random.Random(f"{SEED} {name}")  # noqa: S311  (ranks to try, no secrets)
    path, model = cases.written(preset(name), tmp_path / "model.gguf"), cases.model_of(preset(name), name)
    for devices in (0, 1, 2):
        made = [draw.choice(["all", "qv", "embd"]), draw.randrange(1, 40), draw.choice(["F32", "F16", "BF16"])]
        file = cases.written(cases.adapter(name, *made), tmp_path / "adapter.gguf")
        s = dict(zip(cases.KEYS, (4096, 2048, 512, 1, 1, "f16", "f16", 0, 1, 1, 1, draw.choice([99, 20]) if devices else 0, 0), strict=True))
        answer = cases.ask(PROBE, path, [s], devices, "--lora", str(file))[0]
        wrong, _ = cases.differences({"id": str(made), "preset": name, "devices": devices, "settings": s, "adapter": made, **answer}, model)
        assert not wrong, (made, answer)


@needs_server
@pytest.mark.parametrize("case", cases.SERVERS, ids=lambda case: f"{case['draft']} {' '.join(case['flags'])}")
def test_a_real_server_starts_its_draft_as_planned(case: cases.Row, tmp_path: Path) -> None:
    """The buffers that llama-server prints for a target and its draft, to the hundredth of a MiB."""
    target, draft = (cases.written(made, tmp_path / f"{i}.gguf") for i, made in enumerate(cases.server_models(case)))
    lines, mine = cases.server_lines(SERVER, target, draft, case["flags"]), cases.planned_mib(case)
    assert mine["load_tensors"] == [mib for what, mib in lines if what == "load_tensors"]
    assert mine["llama_context"] == [mib for what, mib in lines if what == "llama_context"]
    kept = sum(mib for what, mib in lines if what in {"llama_kv_cache", "llama_memory_recurrent"})
    assert sum(mine["caches"]) == pytest.approx(kept, abs=0.03)
    assert mine["compute"] == pytest.approx([mib for what, mib in lines if what == "sched_reserve"], rel=0.05)
