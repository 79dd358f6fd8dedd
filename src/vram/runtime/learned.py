"""What was learned on this machine, by the plan that it is about: settings that had to be lower than planned, and what was held of each GPU.

One JSON object a line in the state folder, only ever added to; of two about the same plan the later one holds.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vram.planner.calibration import signature
from vram.planner.plan import Plan
from vram.runtime.wanted import Wanted
from vram.sources.private import add_line, last_lines

FILE: Final = "learned.jsonl"
MAX_BYTES: Final = 4 * 2**20
MOST: Final = 2**50
NEARLY: Final = 0.9
"""What was held is kept anew where it is more than before, or less than this share of it."""
FIELDS: Final = ("context_tokens", "concurrency", "kv_dtype", "ubatch", "parallel", "max_num_seqs")


def _key(plan: Plan) -> dict[str, Any]:
    return {**signature(plan), "context_tokens": plan.workload.context_tokens, "concurrency": plan.workload.concurrency}


def learn(folder: Path, asked: Plan, worked: Wanted, why: str) -> None:
    """Keep that `asked` failed and `worked` did not. A disk that takes nothing is no reason to fail: it is learned again next time."""
    _append(folder, {"plan": _key(asked), "works": {name: getattr(worked, name) for name in FIELDS}, "why": why[:400], "source": "measured"})


def keep_held(folder: Path, plan: Plan, wanted: Wanted, held: tuple[int, ...]) -> None:
    """Keep what a plan's engine held of each of its GPUs at most, its worst request included."""
    before = held_before(folder, plan, wanted)
    if before is None or any(not b * NEARLY <= h <= b for h, b in zip(held, before, strict=True)):
        _append(folder, {"plan": _key(plan), **_program(plan, wanted), "holds": list(held), "source": "measured"})


def _program(plan: Plan, wanted: Wanted) -> dict[str, Any]:
    """What the memory of a process hangs on beside its plan."""
    return {"program": wanted.program, "version": plan.settings.version, "more": list(wanted.more)}


def _append(folder: Path, row: dict[str, Any]) -> None:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        add_line(folder / FILE, json.dumps(row, default=str).encode())


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned, for those who plan.

    Attributes:
        folder: where it lies.
        lower: whether settings that worked are taken where a plan failed.
    """

    folder: Path
    lower: bool = True

    def works(self, asked: Plan, wanted: Wanted) -> tuple[Wanted, str] | None:
        """What worked where `asked` did not, and why."""
        return learned(self.folder, asked, wanted) if self.lower else None

    def held(self, plan: Plan, wanted: Wanted) -> tuple[int, ...] | None:
        """What was held of each GPU at most."""
        return held_before(self.folder, plan, wanted)


def learned(folder: Path, asked: Plan, wanted: Wanted) -> tuple[Wanted, str] | None:
    """What worked where `asked` did not, and why; None where nothing is known of it."""
    for row in _rows(folder, asked):
        if (works := _works(row.get("works"))) is not None:
            return replace(wanted, **works), str(row.get("why", ""))[:400]
    return None


def held_before(folder: Path, plan: Plan, wanted: Wanted) -> tuple[int, ...] | None:
    """What a plan's engine held of each of its GPUs at most when it ran here; None where it did not."""
    program = _program(plan, wanted)
    for row in _rows(folder, plan):
        held = row.get("holds")
        if not isinstance(held, list) or any(row.get(name) != value for name, value in program.items()):
            continue
        if len(held) == len(plan.gpus) and all(isinstance(h, int) and not isinstance(h, bool) and 0 < h < MOST for h in held):
            return tuple(held)
    return None


def _rows(folder: Path, plan: Plan) -> Iterator[Mapping[str, Any]]:
    """What is known of a plan, the latest first."""
    try:
        lines = last_lines(folder / FILE, MAX_BYTES)
    except OSError:
        return
    key = json.loads(json.dumps(_key(plan), default=str))
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, Mapping) and row.get("plan") == key:
            yield row


def _works(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping) or set(value) != set(FIELDS):
        return None
    whole = {n: v for n, v in value.items() if n != "kv_dtype"}
    if any(v is not None and (not isinstance(v, int) or isinstance(v, bool) or v < 1) for v in whole.values()):
        return None
    if value["concurrency"] is None or not isinstance(value["kv_dtype"], (str, type(None))):
        return None
    return dict(value)
