"""vLLM's own scheduler, asked without an engine (truth/simulate/scheduler.py), beside the replay: every request's times and preemptions."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from vram.engines.vllm.kv_layout import Kind, Spec
from vram.planner.simulate.blocks import BlockRule, Group
from vram.planner.simulate.request import Request
from vram.planner.simulate.run import simulate
from vram.planner.simulate.spec import LinearClock, PoolSpec, ReplicaSpec

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in gzip.decompress((Path(__file__).parents[1] / "truth" / "simulate" / "scheduler.jsonl.gz").read_bytes()).splitlines()
]
KINDS = {"full": Kind.FULL, "window": Kind.WINDOW, "chunked": Kind.CHUNKED}


def spec_of(row: dict[str, Any]) -> ReplicaSpec:
    in_flight = row["max_batched_tokens"] * (2 if row["asynchronous"] else 1)
    groups = []
    for kind, block, reach in row["groups"]:
        most = Spec(kind=KINDS[kind], block_size=block, window=reach).term(in_flight).blocks(row["max_model_len"])
        groups.append(Group(block_size=block, window=reach if kind == "window" else 0, chunk=reach if kind == "chunked" else 0, most_blocks=most))
    same = ("blocks", "max_model_len", "max_num_seqs", "max_batched_tokens", "chunked_prefill", "asynchronous")
    return ReplicaSpec(rule=BlockRule(groups=tuple(groups)), clock=LinearClock(**row["clock"]), **{name: row[name] for name in same})


@pytest.mark.parametrize("asynchronous", [False, True], ids=["one batch", "two batches in flight"])
@pytest.mark.parametrize("kind", ["full", "window", "chunked"])
def test_every_request_goes_as_in_vllms_scheduler(kind: str, *, asynchronous: bool) -> None:
    """First token, last token, preemptions of each, and the fullest moment of the pool; all kinds of groups, both ways of scheduling."""
    rows = [r for r in ROWS if r["asynchronous"] is asynchronous and (any(g[0] == kind for g in r["groups"]) if kind != "full" else len(r["groups"]) == 1)]
    preempted = 0
    for row in rows:
        requests = [Request(arrival_seconds=t, prompt_tokens=p, output_tokens=o, max_tokens=m) for t, p, o, m in row["requests"]]
        spec = spec_of(row)
        outcome = simulate(requests, [PoolSpec(name="a", replica=spec)])
        for got, (first, last, preemptions) in zip(outcome.served, row["results"], strict=True):
            assert got.ttft_seconds == pytest.approx(first - got.arrival_seconds, abs=1e-6), row["seed"]
            assert got.finish_seconds == pytest.approx(last, abs=1e-6), row["seed"]
            assert got.preemptions == preemptions, row["seed"]
            preempted += preemptions
        assert round(outcome.summary.kv_share_peak * spec.blocks) == row["peak_blocks"], row["seed"]
    assert len(rows) >= 10
    assert preempted > 5
