"""Ollama as a plan: what its versions start beneath, with the contexts and batches that they ask for."""

from typing import Any

import pytest
from llama_cpp_runs import REMOTE, from_config

from vram.engines.base import Settings
from vram.engines.ollama import version_of
from vram.engines.registry import engine
from vram.errors import UsageError
from vram.hardware.fleet import Fleet
from vram.hardware.spelling import parse_fleet
from vram.planner.make import make_plan
from vram.planner.plan import Plan
from vram.units import MIB

TOKEN = 2 * 32 * 8 * 128 * 2
"""Bytes of a token in Llama-3.1-8B's cache."""


def ollama(gpus: str = "RTX 4090", model: str = "llama3.1-8b", **more: Any) -> Plan:
    version = more.pop("version", "")
    parallel = more.pop("parallel", None)
    return make_plan(from_config(model, "Q4_K_M"), parse_fleet(gpus), engine="ollama", settings=Settings(version=version, parallel=parallel), **more)


@pytest.mark.parametrize(
    ("gpus", "version", "tokens"),
    # docs/context-length.mdx of Ollama: 4k below 24 GiB, 32k below 48, 256k from there on; before 0.15.5 one for all.
    [
        ("RTX 3060 12GB", "", 4096),
        ("RTX 4090", "", 32768),
        ("2x RTX 4090", "", 131072),
        ("H100 SXM 80GB", "0.30.0", 131072),
        ("H100 SXM 80GB", "0.15.4", 4096),
        ("H100 SXM 80GB", "v0.6.6", 2048),
    ],
)
def test_the_context_follows_the_memory(gpus: str, version: str, tokens: int) -> None:
    """Nobody asked for a context: the documented default of that version on those GPUs, no longer than the model's own."""
    assert ollama(gpus, version=version).workload.context_tokens == tokens


def test_every_slot_has_a_cache_of_its_own() -> None:
    """`-c` is context × parallel and slots share nothing: four slots keep four caches, one keeps one."""
    assert ollama(context_tokens=4096).gpus[0].parts.kv_cache.bytes == 4096 * TOKEN
    assert ollama(context_tokens=4096, parallel=4).gpus[0].parts.kv_cache.bytes == 4 * 4096 * TOKEN


def test_the_graph_that_it_estimated_lies_in_the_band() -> None:
    """gemma3:27b on Ollama of early 2025: 522.5 MiB (ollama#9685)."""
    old = make_plan(from_config("gemma3-27b", "Q4_K_M"), Fleet.of([REMOTE]), engine="ollama", context_tokens=2048, settings=Settings(version="0.6.0"))
    part = old.gpus[0].parts.activations
    assert part.low <= 522.5 * MIB <= part.high


def test_older_versions_reserve_all_logits() -> None:
    """Before llama.cpp's b9464 was beneath it, logits of the whole batch were reserved: a wider and larger compute buffer."""
    new, old = (ollama(context_tokens=4096, version=v).gpus[0].parts.activations for v in ("0.30.1", "0.30.0"))
    assert old.bytes > new.bytes
    assert (old.high - old.low) / old.bytes > (new.high - new.low) / new.bytes


def test_its_batch_is_512() -> None:
    """`num_batch` is both logical and physical batch: a window of 1,024 keeps as many cells as with llama.cpp's default batch."""
    gemma = from_config("gemma3-4b")
    fleet = parse_fleet("RTX 4090")
    one, other = (make_plan(gemma, fleet, engine=name, context_tokens=8192, settings=Settings(parallel=1)) for name in ("ollama", "llama.cpp"))
    assert one.gpus[0].parts.kv_cache.bytes == other.gpus[0].parts.kv_cache.bytes


@pytest.mark.parametrize(("text", "numbers"), [("0.6.8", (0, 6, 8)), ("v0.30.1-rc0", (0, 30, 1)), ("0.30", (0, 30, 0)), ("", None)])
def test_versions(text: str, numbers: tuple[int, ...] | None) -> None:
    """As Ollama spells them."""
    assert version_of(text) == numbers


@pytest.mark.parametrize("text", ["latest", "b11434", "1", "0.6.8.9.1"])
def test_versions_that_are_none(text: str) -> None:
    """Refused with a hint."""
    with pytest.raises(UsageError, match="no version"):
        version_of(text)


def test_it_is_found_by_name() -> None:
    """Its name in any case."""
    assert engine("Ollama").name == "ollama"
