"""Starts that were entered before any plan was held against them, and what they taught: a rule each, not a row each."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vram.accuracy.check import check
from vram.accuracy.row import Row, parse_row, parse_rows
from vram.accuracy.subject import as_measured, fleet_of, gpu_of, settings_of
from vram.api import load_model
from vram.cli.accuracy import loader
from vram.engines.base import Settings
from vram.engines.vllm.buffers import per_token, rotary_bytes
from vram.engines.vllm.release import release_of
from vram.hardware.spelling import parse_fleet
from vram.planner.make import make_plan
from vram.units import GIB

TRUTH = Path(__file__).parents[1] / "truth"
LINES = (TRUTH / "found_startups.jsonl").read_bytes().splitlines()
ROWS = {r["id"]: r for r in map(json.loads, LINES)}
AGAIN = {r["id"]: r for r in map(json.loads, (TRUTH / "found_again.jsonl").read_text().splitlines())}


def held(name, **changes):
    """What came of one row, by quantity."""
    rows = list(parse_rows([json.dumps({**ROWS[name], **changes})]))
    return {c.quantity.value: c for c in check(rows, loader(TRUTH, online=False)).comparisons}


def test_most_rows_have_every_figure_inside_its_band():
    """At least nine in ten (27 of 39 before anything was mended), all figures of a row together; none that ran out of memory is judged to fit; each row is compared or told."""
    checked = check(list(parse_rows(LINES)), loader(TRUTH, online=False))
    inside = {}
    for c in checked.comparisons:
        inside[c.id] = inside.get(c.id, True) and c.inside
    assert len(ROWS) == checked.rows >= 40
    assert sum(inside.values()) >= 0.9 * len(inside)
    assert not [f for f in checked.failures if f.verdict == "fits"]
    assert set(ROWS) == set(inside) | {u.id for u in (*checked.unread, *checked.flagged)} | {f.id for f in checked.failures}


def test_the_first_comparison_is_kept():
    """What plans said before anything was mended stays there: 27 of the 39 rows that could be compared were inside, then 12 of 17."""
    first, again = json.loads((TRUTH / "found_first.json").read_text())["rounds"]
    assert {line["worst_row"] for line in first["lines"]} <= set(ROWS)
    assert (first["rows"], first["rows_compared"], first["rows_inside"]) == (len(ROWS), 39, 27)
    assert {line["worst_row"] for line in again["lines"]} <= set(AGAIN)
    assert (again["rows"], again["rows_compared"], again["rows_inside"]) == (len(AGAIN), 17, 12)


def test_only_hopper_and_large_blackwell_fuse_the_all_reduce():
    """vLLM's table of FlashInfer's workspaces has capabilities 9.0 and 10.x alone: other cards keep that memory for the pool."""
    model = load_model("Qwen/Qwen3-32B", offline=True)
    beside = {}
    for card in ("2xH100-SXM", "2xB200", "2xRTX5090", "2xL40S"):
        made = make_plan(model, parse_fleet(card), engine="vllm", tp=2, settings=Settings(version="0.23"))
        beside[card] = made.gpus[0].parts.communication.bytes
    assert beside["2xH100-SXM"] == beside["2xB200"] > beside["2xRTX5090"] == beside["2xL40S"]


@pytest.mark.parametrize(("version", "by_concurrency"), [("0.19.0", False), ("0.20.0", False), ("0.20.2", True), ("0.21.0", True), ("0.26", True)])
def test_which_versions_print_tokens_by_their_concurrency(version, by_concurrency):
    """Windows make one sequence cheaper than its blocks suggest: from 0.20.2 on the printed tokens say so, before they count blocks."""
    pool = make_plan(
        load_model("google/gemma-3-27b-it", offline=True),
        parse_fleet("H100-SXM"),
        engine="vllm",
        context_tokens=32768,
        settings=Settings(version=version, kv_pool_bytes=20 * GIB),
    ).kv_pool
    assert (pool.capacity_tokens == int(pool.max_concurrency * 32768)) is by_concurrency


def test_a_model_without_its_towers():
    """`--language-model-only` leaves Gemma 4's eye and ear out: 8.89 GiB printed, and half a GiB more with them."""
    assert held("found-gemma4-e2b-l4-021")["weights"].inside
    assert not held("found-gemma4-e2b-l4-021", settings=None)["weights"].inside


def test_prefixes_of_a_model_with_states():
    """Qwen3.5's states are kept once a sequence, or twice where prefixes are cached: both where the row does not tell, one where it does."""
    name = "found-qwen36-35b-nvfp4-020"
    unknown, off, on = (held(name, settings=s)["kv_given_pool"] for s in (None, {"enable_prefix_caching": False}, {"enable_prefix_caching": "True"}))
    assert unknown.inside
    assert on.inside
    assert not off.inside
    assert unknown.low <= on.predicted < off.predicted <= unknown.high
    assert held(name, settings={"no-enable-prefix-caching": "True"})["kv_given_pool"].predicted == off.predicted


def test_a_row_without_a_version_has_the_bands_of_several():
    """Nobody can tell which rules a start followed that names no version: its band holds the tokens of each."""
    row = {**ROWS["found-qwen3-next-w4a16-64g-075"]}
    found = held(row["id"])["kv_tokens"] if "kv_tokens" in held(row["id"]) else held(row["id"])["kv_given_pool"]
    for version in ("0.18.0", "0.21.0", "0.29.0"):
        single = held(row["id"], engine_version=version)[found.quantity.value]
        assert found.low <= single.predicted <= found.high


def test_buffers_of_the_eyes_deep_layers():
    """Qwen3-VL sets three rows of its hidden size aside for every batched token; Qwen2.5-VL none."""
    assert per_token(load_model("Qwen/Qwen3-VL-30B-A3B-Instruct", offline=True)) == 3 * 2048 * 2
    assert (
        per_token(as_measured(load_model(str(TRUTH / "configs/Qwen-Qwen2.5-VL-7B-Instruct/config.json")), parse_row(ROWS["found-qwen25-vl-7b-weights"]))) == 0
    )


def test_no_graphs_are_planned_where_none_are_captured():
    """`--enforce-eager` takes the graphs away, and nothing else but what depends on them."""
    row = parse_row(ROWS["found-tinyllama-0102"])
    assert isinstance(row, Row)
    assert row.enforce_eager
    model = as_measured(load_model("TinyLlama/TinyLlama-1.1B-Chat-v1.0", offline=True), row)
    made = make_plan(model, fleet_of(row, gpu_of(row)[0]), engine="vllm", context_tokens=2048, settings=settings_of(row))
    assert made.gpus[0].parts.cuda_graphs.bytes == 0


@pytest.mark.parametrize(
    ("config", "printed"),
    [
        ("google-gemma-4-31B-it", 58.90),  # ten layers whose values are their keys
        ("google-gemma-4-26B-A4B", 48.50),  # five of them
        ("Qwen-Qwen2.5-VL-7B-Instruct", 15.627),  # a rotary table four times as long
        ("google-gemma-4-E4B-it", 15.18),  # keys and values that layers share, rows of per-layer embeddings, and an ear that the config leaves out
    ],
)
def test_what_loads_beside_the_tensors(config, printed):
    """Within 0.05 GiB of what vLLM printed, where the tensors alone are 0.1 to 0.7 GiB short."""
    model = load_model(str(TRUTH / "configs" / config))
    part = make_plan(model, parse_fleet("H100-SXM"), engine="vllm", settings=Settings(version="0.18", max_batched_tokens=2048)).gpus[0].parts.weights
    assert part.bytes / GIB == pytest.approx(printed, abs=0.05)
    assert part.low <= printed * GIB <= part.high
    assert "keys and values" in part.why or "rotary" in part.why


def test_a_rotary_table_is_as_wide_as_what_turns():
    """Qwen3-Next turns a quarter of each head, Qwen3.5 as well and has four times the positions; before 0.8 nothing was longer."""
    new, old = release_of("0.20"), release_of("0.7.2")
    following, qwen35 = load_model("Qwen/Qwen3-Next-80B-A3B-Instruct", offline=True), load_model("Qwen/Qwen3.5-9B", offline=True)
    assert rotary_bytes(following, new) == 262_144 * 64 * 2
    assert rotary_bytes(qwen35, new) == 4 * 262_144 * 64 * 2
    assert rotary_bytes(qwen35, old) == 262_144 * 64 * 2


def test_a_peak_that_holds_the_graphs_is_not_counted_twice():
    """Qwen2.5-7B AWQ on 16 GB: 1.04 + 0.06 GiB are all that is left of the share beside weights and pool, with 0.48 of graphs in them."""
    row = held("found-qwen25-7b-awq-16g")["other"]
    assert row.measured == pytest.approx(1.10 * GIB, rel=1e-6)
    older = held("found-qwen25-7b-awq-16g", engine_version="0.19.0")["other"]
    assert older.measured == pytest.approx(1.58 * GIB, rel=1e-6)


@pytest.mark.parametrize(("name", "tokens"), [("found-again-qwen36-27b-nvfp4-5060ti-tp4", 615_468), ("found-again-qwen36-27b-nvfp4-pro4000-tp2", 347_625)])
def test_drafted_tokens_of_a_row_are_planned(name, tokens):
    """Qwen3.6-27B with multi-token prediction: tokens as vLLM 0.20.2 printed, to the last digit, and inside the bands; without it a tenth off."""
    row = parse_row(AGAIN[name])
    assert row.drafted == 3
    found = {c.quantity.value: c for c in check([row], loader(TRUTH, online=False)).comparisons}
    assert all(c.inside for c in found.values())
    assert found["kv_given_pool"].error < 0.002
    model = as_measured(load_model("Qwen/Qwen3.6-27B", offline=True), row)
    settings = replace(settings_of(row), kv_pool_bytes=row.measured["kv_cache"].bytes)
    made = make_plan(model, fleet_of(row, gpu_of(row)[0]), engine="vllm", context_tokens=row.max_model_len, kv_dtype=row.kv_dtype, tp=row.tp, settings=settings)
    assert made.kv_pool.capacity_tokens == tokens
    text = {**AGAIN[name], "settings": {"speculative_config": "SpeculativeConfig(method='mtp', model='x', num_spec_tokens=2)"}}
    assert parse_row(text).drafted == 2
    assert parse_row({**AGAIN[name], "settings": {"speculative_config": {"method": "eagle3", "model": "x"}}}).drafted == 0
