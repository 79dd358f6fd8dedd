"""What was learned on this machine: settings that had to be lower than planned, by the plan that they were lower than.

One JSON object a line in the state folder, only ever added to; of two about the same plan the later one holds.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vram.planner.calibration import signature
from vram.planner.plan import Plan
from vram.runtime.placing import Wanted
from vram.sources.private import add_line

FILE: Final = "learned.jsonl"
MAX_BYTES: Final = 4 * 2**20
FIELDS: Final = ("context_tokens", "concurrency", "kv_dtype", "ubatch", "parallel", "max_num_seqs")


def _key(plan: Plan) -> dict[str, Any]:
    return {**signature(plan), "context_tokens": plan.workload.context_tokens, "concurrency": plan.workload.concurrency}


def learn(folder: Path, asked: Plan, worked: Wanted, why: str) -> None:
    """Keep that `asked` failed and `worked` did not. A disk that takes nothing is no reason to fail: it is learned again next time."""
    row = {"plan": _key(asked), "works": {name: getattr(worked, name) for name in FIELDS}, "why": why[:400], "source": "measured"}
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        add_line(folder / FILE, json.dumps(row, default=str).encode())


def learned(folder: Path, asked: Plan, wanted: Wanted) -> tuple[Wanted, str] | None:
    """What worked where `asked` did not, and why; None where nothing is known of it."""
    try:
        with (folder / FILE).open("rb") as stream:
            lines = stream.read(MAX_BYTES).split(b"\n")
    except OSError:
        return None
    key = json.loads(json.dumps(_key(asked), default=str))
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, Mapping) and row.get("plan") == key and (works := _works(row.get("works"))) is not None:
            return replace(wanted, **works), str(row.get("why", ""))[:400]
    return None


def _works(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping) or set(value) != set(FIELDS):
        return None
    whole = {n: v for n, v in value.items() if n != "kv_dtype"}
    if any(v is not None and (not isinstance(v, int) or isinstance(v, bool) or v < 1) for v in whole.values()):
        return None
    if value["concurrency"] is None or not isinstance(value["kv_dtype"], (str, type(None))):
        return None
    return dict(value)
