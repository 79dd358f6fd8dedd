"""SGLang with a drafter: weights, a pool of as many tokens, what is set apart; figures of starts that printed them, rules of their versions."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vram
from vram.engines.args.base import Launch
from vram.engines.args.registry import command_for
from vram.engines.draft import Draft
from vram.engines.sglang.draft import GRAPHS
from vram.readers.config_json import model_from_config
from vram.units import GIB

ROWS = [json.loads(line) for line in (Path(__file__).parents[1] / "truth" / "sglang_drafts.jsonl").read_text().splitlines()]
R1 = vram.load_model("deepseek-ai/DeepSeek-R1", offline=True)
TARGET = vram.load_model("Qwen/Qwen3-8B", offline=True)
SMALL = vram.load_model("Qwen/Qwen3-0.6B", offline=True)


def r1(engine: str = "sglang", draft: str | None = None, **more: object) -> vram.Plan:
    return vram.plan(R1, gpu="8x H200", engine=engine, tp=8, draft=draft, **more)


def test_a_drafted_token_takes_a_latent_more_of_the_same_pool() -> None:
    pool = 40 * GIB
    plain, drafted = (r1(draft=d, kv_pool_bytes=pool).kv_pool.capacity_tokens for d in (None, "mtp"))
    assert drafted == pytest.approx(plain * 61 / 62, abs=1)


@pytest.mark.parametrize("version", ["sglang@0.5.9", "sglang@0.5.12", "sglang@0.5.14"])
def test_its_weights_are_the_rank_s_share(version: str) -> None:
    """A layer of 256 experts in FP8 over 8 ranks and a whole projection of twice the width, no embedding and no head: the target's serve."""
    more = r1(version, "mtp").gpus[0].parts.weights.bytes - r1(version).gpus[0].parts.weights.bytes
    experts = 256 * 3 * R1.geometry.hidden_size * 2048
    projection = 2 * R1.geometry.hidden_size**2 * 2
    assert experts / 8 + projection < more < (experts / 8 + projection) * 1.05


def test_a_version_sets_memory_apart_and_the_next_counts_it() -> None:
    """Until #23862 a default share left 2 GiB to a head; then its pool, and from #28855 on its weights, came into the share."""
    plain = r1().kv_pool.bytes_per_gpu
    held = {v: r1(f"sglang@{v}", "mtp").kv_pool.bytes_per_gpu for v in ("0.5.9", "0.5.12", "0.5.14")}
    # Set apart: 2 GiB of the share, to three decimals of the card; the pool of the head lies beside.
    assert held["0.5.9"] * 61 / 62 == pytest.approx(plain - 2 * GIB, abs=0.1 * GIB)
    assert held["0.5.12"] == pytest.approx(plain, rel=1e-6)
    # Of the weights; copies of the embedding and the head until the pools are sized (#36452).
    ends = 2 * 129_280 * 7168 * 2 / 8
    weights = r1("sglang@0.5.14", "mtp").gpus[0].parts.weights.bytes - r1().gpus[0].parts.weights.bytes
    assert plain - held["0.5.14"] == pytest.approx(weights + ends, rel=0.01)


def test_a_given_share_is_left_alone() -> None:
    for version in ("0.5.9", "0.5.14"):
        assert "0.800 (given)" in r1(f"sglang@{version}", "mtp", gpu_memory_utilization=0.8).gpus[0].parts.kv_cache.why


def test_a_model_of_its_own_keeps_its_embedding() -> None:
    small = vram.plan(SMALL, gpu="H100", engine="sglang").gpus[0].parts.weights.bytes
    plain, drafted = (vram.plan(TARGET, gpu="H100", engine="sglang", draft=d) for d in (None, SMALL))
    more = drafted.gpus[0].parts.weights.bytes - plain.gpus[0].parts.weights.bytes
    assert more == pytest.approx(small, rel=0.15)
    # Its 28 layers of 8 heads beside the target's 36 of the same.
    held = [vram.plan(TARGET, gpu="H100", engine="sglang", draft=d, kv_pool_bytes=20 * GIB).kv_pool.capacity_tokens for d in (None, SMALL)]
    assert held[1] == pytest.approx(held[0] * 36 / 64, abs=1)


def test_a_smaller_head_is_its_own() -> None:
    """An EAGLE-3 head takes the target's embedding; its head of 32,000 rows stays (eagle_worker's `set_embed`)."""
    shape = {"hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    config = {"architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "vocab_size": 151_936, "torch_dtype": "bfloat16", **shape}
    plain = vram.plan(TARGET, gpu="H100", engine="sglang")
    more = []
    for small in ({"draft_vocab_size": 32_000}, {}):
        head = model_from_config({**config, **small}, "head")
        more.append(vram.plan(TARGET, gpu="H100", engine="sglang", draft=head).gpus[0].parts.weights.bytes - plain.gpus[0].parts.weights.bytes)
    # Three states joined, queries, keys and values off two, an MLP; norms and a table beside.
    layer = 2 * (3 * 4096**2 + 2 * 4096 * 6144 + 4096**2 + 3 * 4096 * 12_288)
    assert more[1] == pytest.approx(layer, rel=0.001)
    assert more[0] - more[1] == pytest.approx(32_000 * 4096 * 2, rel=0.01)


@pytest.mark.parametrize("row", [r for r in ROWS if "draft_loaded_gib" in r["measured"]], ids=lambda r: r["id"])
def test_layers_that_draft_weigh_what_was_printed(row: dict[str, Any]) -> None:
    """With the copies that are there until the pools are sized: within 1 % of 5.18 and 2.57 GiB."""
    model = vram.load_model(row["model_id"], offline=True)
    card, printed = f"{row['tp']}x H200", row["measured"]
    plain, drafted = (vram.plan(model, gpu=card, engine="sglang", tp=row["tp"], quant=row["quant"], draft=d).gpus[0].parts for d in (None, row["draft"]))
    copies = 2 * model.geometry.vocab_size * model.geometry.hidden_size * 2 / row["tp"]
    assert (drafted.weights.bytes - plain.weights.bytes + copies) / GIB == pytest.approx(printed["draft_loaded_gib"], rel=0.01)
    assert plain.weights.bytes / GIB == pytest.approx(printed.get("weights_gib", plain.weights.bytes / GIB), rel=0.002)


@pytest.mark.parametrize("row", [r for r in ROWS if "kv_tokens" in r["measured"]], ids=lambda r: r["id"])
def test_pools_hold_as_many_tokens_as_were_printed(row: dict[str, Any]) -> None:
    """The printed pool is the target's; a copy of attention has a whole one."""
    printed, model = row["measured"], vram.load_model(row["model_id"], offline=True)
    pool = round(printed["kv_cache_gib"] * GIB)
    plan = vram.plan(model, gpu=f"{row['tp']}x B300", engine="sglang", tp=row["tp"], dp=row["dp"], quant=row["quant"], kv_pool_bytes=pool)
    assert plan.kv_pool.capacity_tokens == pytest.approx(printed["kv_tokens"], rel=0.005 / printed["kv_cache_gib"] + 64 / printed["kv_tokens"])
    if row["draft"]:
        parts = plan.gpus[0].parts
        assert parts.weights.bytes / GIB == pytest.approx(printed["weights_gib"], rel=0.006)
        assert parts.cuda_graphs.low < printed["cuda_graph_gib"] * GIB < parts.cuda_graphs.high


def test_printed_graphs_of_drafters_are_inside() -> None:
    expected, low, high = GRAPHS
    printed = [r["measured"]["draft_graph_gib"] * GIB for r in ROWS if "draft_graph_gib" in r["measured"]]
    assert low < min(printed) < expected < max(printed) < high
    more = [r1(draft=d).gpus[0].parts.cuda_graphs for d in (None, "mtp")]
    assert more[1].bytes - more[0].bytes == expected
    assert r1(draft="mtp", enforce_eager=True).gpus[0].parts.cuda_graphs.bytes == 0


def test_a_chunk_is_shared_among_copies_of_attention() -> None:
    for tokens in (8192, 65_536):
        one, copies = (r1(dp=dp, max_batched_tokens=tokens).gpus[0].parts.activations.bytes for dp in (1, 8))
        assert one / 8 < copies < one


def test_what_drafts_is_written_for_the_shell() -> None:
    launch = Launch(model="x/y", context_tokens=4096, concurrency=1, tp=1, pp=1, draft=Draft())
    words = written(launch)
    at = words.index("--speculative-algorithm")
    assert " ".join(words[at : at + 8]) == "--speculative-algorithm NEXTN --speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4"
    own, head = (written(replace(launch, draft=Draft(model=m, tokens=5))) for m in (SMALL, replace(SMALL, architecture="LlamaForCausalLMEagle3")))
    assert {"STANDALONE", "--speculative-draft-model-path", "6"} < set(own)
    assert "EAGLE3" in head


def written(launch: Launch) -> list[str]:
    return [w for f in command_for("sglang", launch).flags for w in f.words]
