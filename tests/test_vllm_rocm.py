"""What ROCm's load does to 16-bit experts, and how the ranks of one start differ: held against what vLLM printed on MI300X."""

import json
from pathlib import Path

import pytest

from vram.accuracy.row import Row, parse_row
from vram.accuracy.subject import as_measured, fleet_of, gpu_of, settings_of
from vram.api import load_model
from vram.engines.base import Settings
from vram.planner.make import make_plan
from vram.units import GIB

TRUTH = Path(__file__).parents[1] / "truth"
ROWS = {r["id"]: r for r in map(json.loads, (TRUTH / "engine_logs.jsonl").read_text().splitlines())}


def planned(row: Row, **more):
    model = as_measured(load_model(str(TRUTH / row.config)), row)
    fleet = fleet_of(row, gpu_of(row)[0])
    return make_plan(
        model, fleet, engine="vllm", context_tokens=row.max_model_len, kv_dtype=row.kv_dtype or None, tp=row.tp, ep=row.ep, settings=settings_of(row), **more
    )


@pytest.mark.parametrize("name", ["db2-d84eebbf", "db2-46cec274", "db2-5d492557"])
def test_padded_experts_take_what_vllm_printed(name):
    """Llama 4 Maverick at TP8 (126.73 GiB, a third more than its tensors), Qwen3-235B at TP4 and TP8: within 0.5 %."""
    row = parse_row(ROWS[name])
    part = planned(row).gpus[0].parts.weights
    assert part.bytes == pytest.approx(row.measured["weights"].bytes, rel=0.005)
    assert part.low <= row.measured["weights"].bytes <= part.high


def test_qwen3_vl_took_a_third_more_in_one_build():
    """59.8 GiB in one build for MI300X, 79.3 in another (a public validation file): the band holds both, the plan the greater."""
    made = make_plan(
        load_model("Qwen/Qwen3-VL-30B-A3B-Instruct", offline=True),
        planned(parse_row(ROWS["db2-7d5bba6b"])).fleet,
        engine="vllm",
        settings=Settings(version="0.13"),
    )
    part = made.gpus[0].parts.weights
    assert part.bytes == pytest.approx(79.3 * GIB, rel=0.01)
    assert part.low <= 59.8 * GIB <= part.high


def test_later_builds_do_not_lengthen_rows():
    """From 0.19 on the padded rows are copied back: the tensors alone are expected, and the band says that more was seen."""
    row = parse_row(ROWS["db2-d84eebbf"])
    model, fleet = as_measured(load_model(str(TRUTH / row.config)), row), fleet_of(row, gpu_of(row)[0])
    new = make_plan(model, fleet, engine="vllm", tp=8, settings=Settings(version="0.32")).gpus[0].parts.weights
    assert new.bytes < 95 * GIB
    assert new.high > 126 * GIB


@pytest.mark.parametrize("name", ["db2-5d492557", "db2-ea27031b", "db2-0b77a7f6", "db2-d84eebbf", "db2-46cec274", "db2-88462985"])
def test_the_poorest_rank_decides(name):
    """The printed pool is the first rank's, the printed tokens the poorest's: concurrency within 0.05 % on 4 and 8 MI300X."""
    row = parse_row(ROWS[name])
    made = planned(row)
    pool = next(iter(made.gpus)).pool
    assert pool is not None
    per_byte = made.kv_pool.max_concurrency / pool.bytes
    gap = made.kv_pool.bytes_per_gpu - row.measured["kv_cache"].bytes
    # What the plan's own pool holds, moved to the pool that was printed.
    assert made.kv_pool.max_concurrency - gap * per_byte == pytest.approx(row.counts["max_concurrency"], rel=0.001)
