"""What `vram ps` shows: a table of models under each run's address."""

import time
from collections.abc import Mapping
from typing import Any

from click import style

from vram.cli.render.table import table
from vram.errors import printable
from vram.units import gib

_BELOW = {
    "why": "{}",
    "engine": "{}",
    "on": "on {}",
    "tokens": "{} tokens",
    "restarts": "{} restarts",
    "running": "{} running",
    "planned": "{} planned",
    "reserved": "{} reserved",
    "for": "for {}",
}
"""What goes below its row first, and how it reads there."""


def told(run: Mapping[str, Any], width: int) -> str:
    """One run in lines of at most about `width` columns; 0: as wide as it is."""
    head = f"{printable(run['url'] or 'no address yet')}  process {run['pid']}"
    rows = [
        (
            m["name"],
            m["state"],
            _ago(m["since"]),
            ", ".join(dict.fromkeys(m["gpus"])),
            gib(sum(m["planned_bytes"])),
            gib(sum(m["reserved_bytes"])),
            f"{m['context_tokens']:,} x {m['concurrency']}",
            str(m["requests"]),
            # What was loaded again because somebody asked for it did not fail.
            str(max(m["starts"] - max(m["loads"], 1), 0)),
            f"{m['engine']} {m['version'] or ''}".strip(),
            m["why"],
        )
        for m in run["models"]
    ]
    titles = ("model", "state", "for", "on", "planned", "reserved", "tokens", "running", "restarts", "engine", "why")
    return (
        style(head, bold=True)
        + "\n"
        + table(titles, rows, right=("for", "planned", "reserved", "running", "restarts"), width=width, cut=("model",), below=_BELOW)
    )


def _ago(then: float) -> str:
    seconds = max(time.time() - then, 0)
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
