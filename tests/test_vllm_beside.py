"""Drafters and adapters in vLLM: what its own code loads and caches for them (truth/vllm/beside.jsonl) against the plans."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import vllm_beside

import vram
from vram.engines.base import Settings
from vram.engines.draft import Draft
from vram.errors import UsageError
from vram.model.adapter import supposed
from vram.planner.make import make_plan

Row = dict[str, Any]
FILE = Path(__file__).parents[1] / "truth" / "vllm" / "beside.jsonl"
# What is known to differ: OPT's projections of embeddings and Phi's dense are left out, GPT-BigCode's fused attention is whole on every
# rank, and this shape of LFM2 states two widths of which vLLM takes the other.
DIFFER = {"lora|opt|1": 0.04, "lora|phi|1": 0.2, "lora|gpt_bigcode|1": 0.25, "lora|lfm2|1": 0.25}


@cache
def rows() -> list[Row]:
    return [json.loads(line) for line in FILE.read_text().splitlines()]


def test_drafters_and_adapters_are_those_of_vllm() -> None:
    """Buffers of adapters to the byte, drafters' weights to 0.1 %, and the pool's layout with a drafter's layers: groups, blocks, concurrency."""
    wrong = [(row["id"], found) for row in rows() if row["id"] not in DIFFER and (found := vllm_beside.differences(row))]
    kinds = {row["id"].split("|")[0] for row in rows()}
    print(len(rows()), {kind: sum(row["id"].startswith(kind + "|") for row in rows()) for kind in kinds})
    assert not wrong
    assert kinds == {"lora", "draft", "mtp", "eagle", "eagle3"}
    assert len(rows()) >= 130


def test_what_differs_is_in_its_band() -> None:
    """The few types whose adapters are not exact are as near as is said."""
    for row in rows():
        if row["id"] in DIFFER:
            found = vllm_beside.differences(row)
            assert found
            mine = int(found[0].split()[1])
            assert mine == pytest.approx(row["lora_bytes"], rel=DIFFER[row["id"]])


def test_a_drafter_takes_of_the_pool_what_it_loads() -> None:
    """With a draft model the pool is smaller by its weights and the rows that verify; its layers lessen the tokens that are left."""
    target = vram.load_model("meta-llama/Llama-3.1-8B-Instruct", offline=True)
    small = vram.load_model("meta-llama/Llama-3.2-1B-Instruct", offline=True)
    gpu = vram.parse_gpus("H100")
    bare, drafted = (make_plan(target, gpu, engine="vllm", settings=Settings(draft=d)) for d in (None, Draft(model=small, tokens=4)))
    parts = [p.gpus[0].parts for p in (bare, drafted)]
    taken = parts[0].kv_cache.bytes - parts[1].kv_cache.bytes
    assert parts[1].weights.bytes - parts[0].weights.bytes == pytest.approx(small.weight_bytes, rel=0.01)
    assert taken >= small.weight_bytes * 0.99
    assert bare.kv_pool.capacity_tokens is not None
    assert drafted.kv_pool.capacity_tokens is not None
    # 16 layers of 512 numbers beside 32 of 1,024: a quarter more for each token.
    a, b = (p.kv_pool.bytes_per_gpu / p.kv_pool.capacity_tokens for p in (bare, drafted) if p.kv_pool.capacity_tokens)
    assert b / a == pytest.approx(1.25, rel=0.01)


def test_a_rank_beyond_what_vllm_takes_is_refused() -> None:
    """Ranks go up to 512; what lies between two steps takes the greater."""
    gpu, model = vram.parse_gpus("H100"), vram.load_model("Qwen/Qwen3-8B", offline=True)
    plans = [make_plan(model, gpu, engine="vllm", settings=Settings(lora=(supposed(rank),))) for rank in (9, 16)]
    assert plans[0].gpus[0].parts.weights == plans[1].gpus[0].parts.weights
    with pytest.raises(UsageError, match="512 at most") as caught:
        make_plan(model, gpu, engine="vllm", settings=Settings(lora=(supposed(513),)))
    assert caught.value.hint
