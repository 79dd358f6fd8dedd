"""The compiled catalogue holds what the rules say today."""

import msgspec
import pytest

from vram import catalog
from vram.api import catalogue_facts, catalogued
from vram.planner.bulk.file import Packed
from vram.planner.bulk.reduce import Source, compiled

# Of every kind of cache, of experts, towers, drafts and quantized checkpoints one; tests/test_bulk.py draws from all.
KINDS = (
    "Qwen/Qwen3-8B",
    "google/gemma-3-27b-it",
    "openai/gpt-oss-20b",
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-V4-Flash",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "Qwen/Qwen3-8B-AWQ",
    "BAAI/bge-m3",
    "openai/whisper-tiny",
)


def test_the_file_has_every_model_of_the_catalogue():
    """Ids, and what is told of each; one that is new asks for `python truth/oracle/catalogue_facts.py`."""
    facts = catalogue_facts()
    assert tuple(m.id for m in facts.models) == catalog.names()
    for entry in facts.models:
        known = catalog.find(entry.id)
        assert known
        assert (entry.licence, entry.released, entry.modality) == (known.licence, known.released, known.modality)


def test_the_file_is_small():
    """It lies in the wheel, and is read by every choice."""
    assert len(catalog.compiled()) < 2_000_000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", KINDS)
def test_numbers_are_those_that_the_rules_give(name):
    """One model compiled anew equals its rows in the file: if not, run truth/oracle/catalogue_facts.py."""
    facts, whole = catalogue_facts(), msgspec.msgpack.decode(catalog.compiled(), type=Packed)
    again = compiled([Source(id=name, model=catalogued(name))])
    entry = facts.models[facts.place[name]]
    assert msgspec.msgpack.encode(again.bodies[0]) == msgspec.msgpack.encode(whole.bodies[entry.body])
    from vram.planner.bulk.facts import Facts

    mine = Facts(again)
    theirs = {facts.quants[q]: v for v, (b, q) in enumerate(zip(facts.column["body"], facts.column["quant"], strict=True)) if b == entry.body}
    for v, q in enumerate(mine.column["quant"].tolist()):
        if entry.derived and q:
            continue
        other = theirs[mine.quants[q]]
        for table in ("split", "dealt", "gguf"):
            a, b = getattr(mine, table), getattr(facts, table)
            assert (a.starts[v] < 0) == (b.starts[other] < 0)
            if a.starts[v] >= 0:
                rows = int((mine.pp if table == "split" else mine.dealt_counts)[0].sum())
                for column in a.column:
                    assert a.column[column][a.starts[v] :][:rows].tolist() == b.column[column][b.starts[other] :][:rows].tolist(), (mine.quants[q], column)
        for column in ("weight_bytes", "in_blocks", "expert_width", "ear_bytes", "unlisted_bytes"):
            assert mine.column[column][v] == facts.column[column][other]
