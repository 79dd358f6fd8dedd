"""Servers of vLLM on the CPU: their models and settings, what of their logs is kept, and what our plan and `vram read-log` say of them."""

import json
import re
from pathlib import Path
from typing import Any, Final

from vram.engines.base import Demand, Settings
from vram.engines.logs.reader import read_log
from vram.engines.vllm.engine import Vllm
from vram.engines.vllm.kv_layout import Layout
from vram.engines.vllm.release import cpu_release
from vram.hardware.probe.cpu import instruction_sets
from vram.hardware.spelling import parse_fleet
from vram.planner.make import make_plan
from vram.planner.plan import Plan
from vram.readers.config_json import model_from_config

DATA: Final = Path(__file__).parent / "data"
CASES: Final[list[dict[str, Any]]] = [json.loads(line) for line in (DATA / "vllm_cpu_servers.jsonl").read_text().splitlines()]
KEPT: Final = re.compile(
    r"version \d|non-default args|Resolved architecture|Using max model len|Initializing a V1|Starting to load model|_MLA backend|SSM cache type"
    r"|Setting attention block size|Padding mamba page|for KV cache on node|KV cache size|kv cache group|Scale-out|ValueError: To serve|Engine core init"
)


def trimmed(text: str) -> str:
    """The lines that carry a figure or a setting; long ones end after the type of the device."""
    lines = (re.sub(r"(device_config=\w+), .*", r"\1, ...", line) for line in text.splitlines() if KEPT.search(line))
    return "\n".join(lines) + "\n"


def here() -> str:
    """The release on this machine's processor."""
    return cpu_release("0.32.0+cpu", instruction_sets() or ())


def planned(case: dict[str, Any], log: str) -> tuple[Layout, Plan]:
    """The layout and the plan of a case; only the processor's kind is taken from the log, or where there is none it is this machine's."""
    s = case["settings"]
    wide = "0.32.0+cpu" if "SSM cache type to float32" in log else "0.32.0+cpu.avx512"
    version = here() if not log else "0.32.0+cpu.amx" if "AMX_MLA" in log else wide
    settings = Settings(
        version=version,
        max_num_seqs=s["max_num_seqs"],
        max_batched_tokens=s.get("max_num_batched_tokens"),
        block_size=s.get("block_size"),
        kv_pool_bytes=s["kv_cache_memory_bytes"],
    )
    model = model_from_config(case["config"], case["name"], 0)
    plan = make_plan(model, parse_fleet("24GiB"), engine="vllm", context_tokens=s["max_model_len"], kv_dtype=s.get("kv_cache_dtype"), settings=settings)
    demand = Demand(model=model, gpu=plan.fleet.gpus[0].gpu, placement=plan.placement, workload=plan.workload, settings=settings)
    layout = Vllm().budget(demand, 0).layout
    assert layout is not None
    return layout, plan


def check_log(case: dict[str, Any], text: str, folder: Path) -> None:
    """The reader finds all that the log holds, and `vram read-log` prints the plan beside it without a difference."""
    from click.testing import CliRunner

    from vram.cli.read_log import command

    log = read_log([text.encode()])
    assert log.engine == "vllm"
    assert log.settings["engine_version"].startswith("0.32.0")
    assert log.settings["model_id"] == f"./{case['name']}"
    assert log.settings["device"] == "cpu"
    for name, value in case["settings"].items():
        assert log.settings[name] == str(value), name
    layout, plan = planned(case, text)
    pool, longest = case["settings"]["kv_cache_memory_bytes"], case["settings"]["max_model_len"]
    found = {r.name: r.value for r in log.readings}
    assert abs(found["kv_cache"] - pool) <= 0.005 * 2**30
    if case["name"] == "refused":
        assert log.failures
        assert not layout.serves(pool)
        assert found["est_max_len"] == layout.longest(pool, longest)
        return
    assert found["kv_tokens"] == layout.tokens(layout.blocks(pool)) == plan.kv_pool.capacity_tokens
    assert abs(found["max_concurrency"] - layout.concurrency(layout.blocks(pool))) <= 0.005 + 1e-9
    assert found["max_concurrency_tokens"] == longest
    if "attention_block_tokens" in found:
        assert found["attention_block_tokens"] == layout.block_size
    # Of what a start on a CPU prints nothing is missing but a default that vLLM keeps to itself.
    assert {m.name for m in log.missing} <= {"max_num_batched_tokens"}
    model = folder / case["name"]
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(case["config"]))
    (folder / "start.log").write_text(text)
    ran = CliRunner().invoke(command, [str(folder / "start.log"), "--offline", "--model", str(model)])
    assert ran.exit_code == 0, ran.output
    beside = {line.split("  ")[1].strip(): line.split() for line in ran.output.splitlines() if line.startswith("  ") and line.strip().endswith("%")}
    assert beside["KV tokens"][2:] == [f"{plan.kv_pool.capacity_tokens:,}", f"{int(found['kv_tokens']):,}", "+0.00%"]
    assert abs(float(beside["concurrency"][-1].rstrip("%"))) <= 0.05  # the log rounds to two decimals
