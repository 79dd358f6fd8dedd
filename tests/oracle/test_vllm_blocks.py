"""What admission charges for a request and what vLLM's own scheduler gives it, step by step, to the block; and admission before that scheduler.

Full attention, windows, latents, states, layers that share: vLLM's scheduler is stepped by hand with made-up tokens. Needs vLLM 0.32 for
the CPU in an environment of its own (`make oracle-vllm`), else it is skipped. A minute.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]
import vllm_cpu  # noqa: E402  (beside the fast tests)

from vram.engines.base import Settings  # noqa: E402
from vram.hardware.spelling import parse_fleet  # noqa: E402
from vram.memory.curve import KvRoom  # noqa: E402
from vram.planner.make import make_plan  # noqa: E402
from vram.planner.room import kv_room_of  # noqa: E402
from vram.readers.config_json import model_from_config  # noqa: E402

ROOT = Path(__file__).parents[2]
CACHED = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vram-ci/vllm-0.32.0/bin/python"
PYTHON = Path(os.environ.get("VRAM_VLLM_PYTHON") or CACHED)
SEED = int(os.environ.get("VRAM_ORACLE_SEED") or 20261127)
NAMES = ["full", "window", "latent", "hybrid", "shared", "states"]

pytestmark = [pytest.mark.skipif(not PYTHON.exists(), reason="no vLLM; `make oracle-vllm` makes an environment with one"), pytest.mark.timeout(600)]

Case = dict[str, Any]


def room_of(case: Case, settings: Case, pool_bytes: int) -> KvRoom:
    """The room of one of the recorded servers under these settings."""
    engine = Settings(
        version=vllm_cpu.here(),
        max_num_seqs=settings["max_num_seqs"],
        max_batched_tokens=settings["max_num_batched_tokens"],
        block_size=settings.get("block_size"),
        kv_pool_bytes=pool_bytes,
        prefix_caching=settings["enable_prefix_caching"],
    )
    model = model_from_config(case["config"], case["name"], 0)
    room = kv_room_of(make_plan(model, parse_fleet("24GiB"), engine="vllm", context_tokens=settings["max_model_len"], settings=engine))
    assert room is not None
    return room


def stepped(cases: list[Case], folder: Path) -> list[Case]:
    """What vLLM's scheduler did."""
    (folder / "cases.jsonl").write_text("".join(json.dumps(c) + "\n" for c in cases))
    done = subprocess.run(
        [PYTHON, ROOT / "truth/oracle/vllm_blocks.py", folder / "out.jsonl", folder / "cases.jsonl"],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def question(case: Case, folder: Path, asks: list[list[int]], *, batch: int, block: int | None, prefixes: bool, pool_bytes: int) -> Case:
    """A case for vLLM's scheduler."""
    (folder / case["name"]).mkdir(exist_ok=True)
    (folder / case["name"] / "config.json").write_text(json.dumps(case["config"]))
    settings = {"max_model_len": case["settings"]["max_model_len"], "max_num_seqs": 64, "max_num_batched_tokens": batch, "skip_tokenizer_init": True}
    settings |= {"enable_prefix_caching": prefixes, **({"block_size": block} if block else {})}
    return {"name": case["name"], "folder": str(folder / case["name"]), "settings": settings, "pool_bytes": pool_bytes, "asks": asks, "room": None}


def told(room: KvRoom, *, said_every: int = 0, limit: int = 0) -> Case:
    """What admission is told of it, and how."""
    kept = {"terms": room.curve.terms, "capacity_bytes": room.capacity_bytes, "context_tokens": room.context_tokens, "max_sequences": room.max_sequences}
    return kept | {"block_bytes": room.block_bytes, "said_every": said_every, "limit": limit}


def kinds() -> dict[str, Case]:
    return {c["name"]: c for c in vllm_cpu.CASES if c["name"] in NAMES}


def test_a_lease_is_what_vllm_gives_to_the_block(tmp_path: Path) -> None:
    """While a request generates, each of its tables has the blocks that are charged for it, at every step.

    Only where a window slides over a block's edge, and where the last state of a prefix is kept for others for a step, is it one less
    now and then. All blocks in use are never more than all charges and what is set aside for prompts.
    """
    draw = random.Random(SEED)  # noqa: S311  (lengths, no secrets)
    asks = [[draw.randrange(60), draw.randrange(1, 1800), 0, draw.randrange(2, 300)] for _ in range(12)]
    asks += [[draw.randrange(60), 400 + draw.randrange(800), 300, draw.randrange(2, 200)] for _ in range(6)]
    cases = []
    for name, case in kinds().items():
        for prefixes in (False, True):
            if name == "states" and prefixes:
                continue  # vLLM does not keep prefixes of models of states alone, unless it is told to
            for block in (None, 32):
                batch = draw.choice([256, 512, 2048])
                cases.append(question(case, tmp_path, asks, batch=batch, block=block, prefixes=prefixes, pool_bytes=case["settings"]["kv_cache_memory_bytes"]))
    for row in stepped(cases, tmp_path):
        room = room_of(kinds()[row["name"]], row["settings"], row["pool_bytes"])
        unit = room.block_bytes
        assert room.of_blocks(row["blocks"] - 1) == room.capacity_bytes
        tables = sum(t.unit_bytes // unit for t in room.curve.terms if t.extra > 1 or 0 < t.most_tokens < row["settings"]["max_model_len"])
        seen, exact = 0, 0
        for used, requests in row["steps"]:
            charged = [(t > asks[i][1], room.curve.nbytes(t) // unit, held) for i, t, held in requests]
            for generates, mine, held in charged:
                if generates:
                    seen, exact = seen + 1, exact + (mine == held)
                    assert 0 <= mine - held <= tables, (row["name"], row["settings"], mine, held)
            assert used <= sum(mine for _, mine, _ in charged) + room.aside_bytes // unit, (row["name"], row["settings"])
        what = ", ".join(
            f"{k.split('_')[-1]} {v}" for k, v in row["settings"].items() if k in {"block_size", "enable_prefix_caching", "max_num_batched_tokens"}
        )
        print(f"{row['name']} ({what}): {exact:,} of {seen:,} equal")
        assert seen > 1000
        assert exact == seen or tables
        if row["name"] in {"window", "shared"}:
            assert exact >= 0.9 * seen


def test_admission_before_vllms_scheduler(tmp_path: Path) -> None:
    """On pools for ten requests, three times as much offered: alone vLLM preempts, behind the gateway's admission never, with its pool in use."""
    draw = random.Random(SEED + 1)  # noqa: S311  (as above)
    asks = [[i * 12, draw.choice([30, 200, 900]) + draw.randrange(100), 0, draw.choice([20, 200, 500]) + draw.randrange(60)] for i in range(70)]
    cases = []
    for name, case in kinds().items():
        if name == "states":
            continue  # they do not grow: nothing is preempted
        wide = question(case, tmp_path, asks, batch=256, block=32, prefixes=False, pool_bytes=case["settings"]["kv_cache_memory_bytes"])
        loose = room_of(case, wide["settings"], wide["pool_bytes"])
        need = sum(loose.curve.nbytes(prompt + output) for _, prompt, _, output in asks) / len(asks)
        # Room for some ten of them; thirty to forty are offered at a time.
        tight = wide | {"pool_bytes": int(10 * need) + loose.aside_bytes + loose.block_bytes}
        room = room_of(case, tight["settings"], tight["pool_bytes"])
        cases += [tight, tight | {"room": told(room)}]
    rows = stepped(cases, tmp_path)
    for alone, behind in zip(rows[::2], rows[1::2], strict=True):
        use = [used / (behind["blocks"] - 1) for used, _ in behind["steps"]]
        # While there is a line: the first and the last tenth fill and empty the pool.
        busy = use[len(use) // 10 : len(use) * 8 // 10]
        mean = sum(busy) / len(busy)
        print(
            f"{alone['name']}: {alone['preempted']} preemptions in {len(alone['steps'])} steps alone, {behind['preempted']} in {len(use)} behind admission; "
            f"{max(use):.0%} of the pool at the peak, {mean:.0%} on average"
        )
        assert alone["preempted"] > 0
        assert behind["preempted"] == 0
        assert max(use) >= 0.85


@pytest.mark.parametrize(("shared", "limit"), [(800, 0), (800, 600), (0, 600)])
def test_what_prompts_share_is_room_for_others(tmp_path: Path, shared: int, limit: int) -> None:
    """Requests with one system prompt before vLLM's scheduler with its prefix cache: more of them run, and none is preempted.

    After no step is less charged than the blocks in use. Beside states nothing is saved: vLLM has a block more of them for a step.
    """
    draw = random.Random(SEED + 2)  # noqa: S311  (as above)
    asks = [[i * 4, shared + draw.choice([30, 200]) + draw.randrange(100), shared, draw.choice([50, 200, 400]) + draw.randrange(60)] for i in range(160)]
    cases = []
    for name, case in kinds().items():
        if name == "states":
            continue  # vLLM does not keep prefixes of models of states alone
        wide = question(case, tmp_path, asks, batch=2048, block=32, prefixes=True, pool_bytes=case["settings"]["kv_cache_memory_bytes"])
        loose = room_of(case, wide["settings"], wide["pool_bytes"])
        need = sum(loose.curve.nbytes(prompt + output) for _, prompt, _, output in asks) / len(asks)
        tight = wide | {"pool_bytes": int(10 * need) + loose.aside_bytes + loose.block_bytes}
        room = room_of(case, tight["settings"], tight["pool_bytes"])
        cases += [tight | {"room": told(room, said_every=every, limit=limit)} for every in (0, 25)]
    rows = stepped(cases, tmp_path)
    for apart, once in zip(rows[::2], rows[1::2], strict=True):
        aside = room_of(kinds()[apart["name"]], apart["settings"], apart["pool_bytes"]).aside_bytes / apart["room"]["block_bytes"]
        if apart["name"] == "hybrid":
            assert once["charged"] == apart["charged"]
        else:
            assert max(used - charged - aside for used, charged in once["charged"]) <= 0
        for row in (apart, once):
            assert row["preempted"] == 0
            assert row["charged"][-1] == [0, 0]
        running = [sum(len(requests) for _, requests in row["steps"]) / len(row["steps"]) for row in (apart, once)]
        use = [max(used for used, _ in row["steps"]) / (row["blocks"] - 1) for row in (apart, once)]
        fewer = 1 - len(once["steps"]) / len(apart["steps"])
        print(
            f"{once['name']}, {shared} tokens shared: {running[0]:.1f} run at a time, {running[1]:.1f} where what they share counts once: done in {fewer:.0%} "
            f"fewer steps; {use[0]:.0%} and {use[1]:.0%} of the pool at the peak"
        )
