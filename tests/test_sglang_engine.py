"""SGLang's rules against start-ups that SGLang itself logged (truth/engine_logs.jsonl, truth/sglang_startups.jsonl)."""

import json
from functools import lru_cache
from pathlib import Path

import pytest

from vram.api import load_model, parse_gpus, plan
from vram.engines.base import Settings
from vram.engines.registry import engine
from vram.engines.sglang.budget import batches, decode_graphs, default_share, prefill_graphs, static_pool
from vram.engines.sglang.pools import Layout
from vram.engines.sglang.release import Reserve, release
from vram.hardware.fleet import Fleet
from vram.memory.placement import Placement
from vram.planner.make import make_plan
from vram.planner.plan import Verdict
from vram.units import GIB

TRUTH = Path(__file__).parent.parent / "truth"
ROWS = [json.loads(line) for line in (TRUTH / "sglang_startups.jsonl").read_text().splitlines()]
CORPUS = [r for r in map(json.loads, (TRUTH / "engine_logs.jsonl").read_text().splitlines()) if r["engine"] == "sglang"]
CARDS = {
    "24 GB class": "RTX 4090",
    "16 GB class": "RTX 5080",
    "RTX 3090": "RTX 3090",
    "RTX 5080": "RTX 5080",
    "4x RTX 4090": "RTX 4090",
    "H100-80GB": "H100 SXM 80GB",
    "4xH100-80GB": "H100 SXM 80GB",
    "B200": "B200",
    "GB10 DGX Spark": "GB10",
}
PRINTED_GIB = 0.015
"""Three figures printed to 0.01 GiB are added."""


@lru_cache
def _model(row_id):
    row = next(r for r in ROWS + CORPUS if r["id"] == row_id)
    return load_model(str(TRUTH / Path(row["config"]).parent) if row.get("config") else row["model_id"])


def _gpu(row):
    return parse_gpus(CARDS.get(row["gpu"], "H100 SXM 80GB")).gpus[0].gpu


def _plan(row, **settings):
    chosen = {
        "version": row.get("engine_version") or "",
        "gpu_memory_utilization": row.get("gpu_memory_utilization"),
        "block_size": row.get("block_size"),
    } | settings
    return make_plan(
        _model(row["id"]), Fleet.of([_gpu(row)] * row["tp"]), engine="sglang", tp=row["tp"], kv_dtype="bf16", context_tokens=4096, settings=Settings(**chosen)
    )


@pytest.mark.parametrize("row", [r for r in ROWS if "gb10" not in r["id"]], ids=lambda r: r["id"])
def test_the_share_leaves_the_pool_that_sglang_allocated(row):
    """With the free memory and the weights of the log, the share of that version and card gives the printed pool to the last digit."""
    m, placement, gpu = row["measured"], Placement(tp=row["tp"]), _gpu(row)
    rules = release(row["engine_version"])
    chosen = batches(gpu.capacity_bytes, placement, None)
    share = row["gpu_memory_utilization"] or default_share(_model(row["id"]), gpu.capacity_bytes, placement, chosen, rules)
    pool = static_pool(int(m["free_at_worker_init_gib"] * GIB), share, int(m["weights_gib"] * GIB))
    assert pool / GIB == pytest.approx(m["kv_cache_gib"], abs=PRINTED_GIB)


@pytest.mark.parametrize("row", [r for r in ROWS + CORPUS if (r.get("config") or r in ROWS) and r["measured"].get("kv_tokens")], ids=lambda r: r["id"])
def test_a_given_pool_holds_the_tokens_that_sglang_printed(row):
    """As near as the pool's printed digits allow; windows, shared layers and latents included."""
    m = row["measured"]
    held = _plan(row, kv_pool_bytes=int(m["kv_cache_gib"] * GIB)).kv_pool.capacity_tokens
    assert held == pytest.approx(m["kv_tokens"], rel=0.0001 + 0.012 / m["kv_cache_gib"])


@pytest.mark.parametrize("row", [r for r in ROWS if "gb10" not in r["id"]], ids=lambda r: r["id"])
def test_bands_hold_what_was_measured(row):
    """Weights, the pool from settings alone and the graphs lie inside their bands."""
    parts, m = _plan(row).gpus[0].parts, row["measured"]
    for part, key in ((parts.weights, "weights_gib"), (parts.kv_cache, "kv_cache_gib"), (parts.cuda_graphs, "cuda_graph_gib")):
        if m[key] is not None:
            assert part.low / GIB - 0.005 <= m[key] <= part.high / GIB + 0.005, key


def test_a_latent_is_kept_whole_on_every_rank():
    """Kimi K2.5 on eight ranks prints as many bytes per token as one rank would hold."""
    row = next(r for r in CORPUS if r["id"] == "c-145")
    one = make_plan(_model("c-145"), Fleet.of([_gpu(row)]), engine="sglang", tp=1, kv_dtype="bf16", settings=Settings(kv_pool_bytes=GIB))
    assert _plan(row, kv_pool_bytes=GIB).kv_pool.capacity_tokens == one.kv_pool.capacity_tokens


def test_states_and_tokens_share_a_budget_as_logged():
    """Granite 4.0-H on a 16 GB card: 38 slots of state beside 399,740 tokens out of 5.79 GiB."""
    row = next(r for r in CORPUS if r["id"] == "x-sgl-granitemoehybrid-16g")
    m = row["measured"]
    slot = int(m["mamba_state_gib"] * GIB / (m["mamba_slots"] + 1))  # one slot more is allocated, for padding
    held = Layout(full_bytes=8192, window_bytes=0, window_tokens=0, state_bytes=slot, fixed_tokens=0, state_slots=3, page=1)
    gpu = parse_gpus("RTX 5080").gpus[0].gpu
    share = default_share(_model("c-144"), gpu.capacity_bytes, Placement(), batches(gpu.capacity_bytes, Placement(), None), release("0.5.8"))
    pool = static_pool(int(m["free_at_worker_init_gib"] * GIB), share, int(m["weights_gib"] * GIB))
    assert held.slots(pool) == m["mamba_slots"]
    assert held.tokens(held.token_bytes(pool)) == pytest.approx(m["kv_tokens"], rel=0.015)


def test_graph_sizes_are_those_that_sglang_prints():
    """52 decode sizes on a B200, 4 on a card below 20 GiB; 74 prefill sizes go with the share seen on the B200."""
    assert decode_graphs(512) == 52
    assert decode_graphs(8) == 4
    assert prefill_graphs(16384) == 74


def test_versions_choose_the_share_each_in_its_way():
    """By ranks, by card, by batch; a date stands for the release of that date, an unknown build for the newest."""
    assert release("0.4.1").reserve is release("2025-01 build").reserve is Reserve.BY_TP
    assert release("v0.5.1").reserve is Reserve.BY_CARD
    assert release("0.5.4").reserve is Reserve.BY_BATCH
    assert release("").label == release("nightly").label == release("0.9").label


def test_what_a_plan_needs_is_what_its_limits_allow():
    """At the largest concurrency the pools suffice, at one more they do not, with windows and with states."""
    rules = engine("sglang")
    for name in ("openai/gpt-oss-20b", "Qwen/Qwen3-8B"):
        plan = make_plan(load_model(name), parse_gpus("H100 SXM 80GB"), engine="sglang", context_tokens=8192)
        most = plan.limits.max_concurrency
        tighter = make_plan(load_model(name), parse_gpus("H100 SXM 80GB"), engine="sglang", context_tokens=8192, concurrency=most + 1)
        assert rules.name == plan.engine
        assert plan.verdict is not Verdict.DOES_NOT_FIT
        assert tighter.verdict is Verdict.DOES_NOT_FIT
        assert plan.kv_pool.max_concurrency == pytest.approx(most, abs=1.01)


def test_weights_that_leave_no_room_do_not_fit():
    """A 70B on one 80 GB card leaves no pool, and the verdict says so."""
    plan = make_plan(load_model("meta-llama/Llama-3.3-70B-Instruct"), parse_gpus("H100 SXM 80GB"), engine="sglang")
    assert plan.gpus[0].parts.kv_cache.bytes == 0
    assert plan.verdict is Verdict.DOES_NOT_FIT


@pytest.mark.parametrize(
    ("model", "gpu", "version", "printed", "within"),
    [
        ("Qwen/Qwen3-8B", "B200", "0.5.9", 992_896, 0.001),  # sglang serve --model-path, 2026-04
        ("meta-llama/Llama-3.1-8B-Instruct", "H100 SXM", "0.4.1", 444_500, 0.01),  # the quick start of its own documentation, 2025-01
        ("meta-llama/Llama-3.1-8B-Instruct", "H100 SXM", "0.4.4", 442_750, 0.01),  # sgl-project/sglang#4760
    ],
)
def test_a_start_with_no_flag_holds_what_sglang_printed(model, gpu, version, printed, within):
    """The version's own share of the card: tokens as printed on B200 and H100."""
    pool = plan(model, gpu=gpu, engine=f"sglang@{version}", offline=True).kv_pool
    assert pool.capacity_tokens == pytest.approx(printed, rel=within)
