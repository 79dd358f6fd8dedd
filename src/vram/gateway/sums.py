"""Usage summed, as people and programs read it: rows of groups, their total, and beside them what nobody used.

Money is what requests paid for the bytes that they held; idle is the rest of the rent, which no key pays. Where no price or no bytes
are known, money is 0 and KV byte-seconds are token-seconds: the pools file's own notes say so when it is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from vram.gateway.store import Rent, Store, Sum

FIELDS: Final = ("requests", "failed", "prompt_tokens", "completion_tokens", "kv_byte_seconds", "gpu_seconds", "dollars")
"""What is summed, as `--json` and `--csv` name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Usage of a time.

    Attributes:
        by: what the rows are grouped by.
        since: seconds since 1970; 0: from the first request on.
        until: seconds since 1970; None: until now.
        key: only usage of this key; None: of all.
        rows: the dearest first.
        total: of all rows.
        idle: rent and idle money by replica, where meters know it; empty when one key is asked for: idle time is nobody's.
    """

    by: tuple[str, ...]
    since: float
    until: float | None
    key: str | None
    rows: tuple[Sum, ...]
    total: Sum
    idle: tuple[Rent, ...]


def report(store: Store, by: Sequence[str], *, since: float = 0.0, until: float | None = None, key: str | None = None) -> Report:
    """Sum up.

    Raises:
        UsageError: no such group.
    """
    end = 1e18 if until is None else until
    whole = store.usage((), since=since, until=end, key=key)
    return Report(
        by=tuple(by),
        since=since,
        until=until,
        key=key,
        rows=tuple(store.usage(by, since=since, until=end, key=key)),
        total=whole[0]
        if whole
        else Sum(group=(), requests=0, failed=0, prompt_tokens=0, completion_tokens=0, kv_byte_seconds=0, gpu_microseconds=0, nano_dollars=0),
        idle=tuple(store.rents(since=since, until=end)) if key is None else (),
    )


def figures(row: Sum) -> dict[str, int | float]:
    """`FIELDS` of a row."""
    return {
        "requests": row.requests,
        "failed": row.failed,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "kv_byte_seconds": row.kv_byte_seconds,
        "gpu_seconds": row.gpu_microseconds / 1e6,
        "dollars": row.nano_dollars / 1e9,
    }


def usage_document(made: Report) -> dict[str, Any]:
    """The report as JSON, schema vram.usage/1."""
    return {
        "schema": "vram.usage/1",
        "since": iso(made.since) if made.since else None,
        "until": iso(made.until) if made.until is not None else None,
        "key": made.key,
        "by": list(made.by),
        "rows": [{"group": dict(zip(made.by, row.group, strict=True)), **figures(row)} for row in made.rows],
        "total": figures(made.total),
        "idle": [
            {"pool": rent.pool, "replica": rent.replica, "rent_dollars": rent.rent_nano_dollars / 1e9, "idle_dollars": rent.idle_nano_dollars / 1e9}
            for rent in made.idle
        ],
    }


def iso(at: float) -> str:
    """A time as 2026-11-01T00:00:00Z."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
