"""One frame of `vram top`: pools with a bar for each replica's KV cache, the queue, and the leases that run longest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from click import style

from vram.cli.render.amounts import seconds, share
from vram.cli.render.bar import MARKS, Segment, cells
from vram.cli.render.table import filled, table
from vram.costs.money import show_usd
from vram.errors import printable
from vram.units import gib

BAR, LEAST_BAR, FACTS = 30, 12, 40
"""Columns of a bar where there is room, where there is little, and of what stands beside it at least."""
_STATES = {"up": "green", "suspect": "yellow", "draining": "yellow", "trial": "yellow", "loading": "yellow", "asleep": "bright_black", "out": "bright_red"}
LEGEND = tuple(
    f"{MARKS[name][0]} {words}" for name, words in (("kv_cache", "held"), ("activations", "promised beyond that"), ("used", "held by others"), ("free", "free"))
)
"""What a bar's marks mean."""
_EMPTY = frozenset({"asleep", "loading", "stopped"})
"""States in which there is no cache to be drawn."""


def frame(document: Mapping[str, Any], where: str, clock: str, *, width: int = 0, lines: int = 0) -> str:
    """The frame as text.

    Args:
        document: what `vram top --json` prints.
        where: address of the gateway.
        clock: what time it is, as it is to be shown.
        width: most columns; 0: as many as there are words.
        lines: most lines; 0: as many as there are. What is left out is said.

    Raises:
        KeyError, TypeError, ValueError: the document is not of that form.
    """
    pools, queue, leases, workers = document["pools"], document["queue"], document["leases"], document["workers"]
    replicas = [replica for pool in pools["pools"] for replica in pool["replicas"]]
    states = Counter(r["state"] for r in replicas if r["state"] != "up")
    away = "".join(f", {n:,} {printable(state, 20)}" for state, n in states.items())
    many = "1 replica" if len(replicas) == 1 else f"{len(replicas):,} replicas"
    head = f"{printable(where)}  {many}{away}, {leases['total']:,} run, {queue['waiting']:,} wait"
    if len(workers["workers"]) > 1:
        serving = sum(w["up_seconds"] is not None for w in workers["workers"])
        head += f"; {serving} of {len(workers['workers'])} workers serve"
        head += f", {workers['restarts']:,} ended and were replaced" if workers["restarts"] else ""
        head += f" ({workers['hung']:,} hung)" if workers["hung"] else ""
    out = [style(row, bold=True) for row in _wrapped(f"{clock}  {head}", width, "  ")]
    for pool in pools["pools"]:
        price = f", {show_usd(pool['dollars_per_hour'])} an hour each" if pool["dollars_per_hour"] is not None else ""
        title = printable(f"{pool['name']}: {pool['model']} on {pool['engine']}, {pool['gpu']}{price}", 200)
        out += ["", *(style(row, bold=True) for row in _wrapped(title, width, "  "))]
        for replica in pool["replicas"]:
            out += _replica(replica, width)
    if any(r["state"] not in _EMPTY for r in replicas):
        out += [style("  " + row, dim=True) for row in filled(LEGEND, max(width - 2, LEAST_BAR * 2) if width else 0, ", ")]
    if queue["waiting"]:
        waiting = [(line["model"], f"{line['waiting']:,}", seconds(line["oldest_seconds"])) for line in queue["lines"] if line["waiting"]]
        out += ["", *table(("queue", "wait", "oldest"), waiting, right=("wait", "oldest"), width=width).splitlines()]
    if leases["leases"]:
        out += ["", *_leases(leases["leases"], width)]
    if lines and len(out) > lines:
        out = [*out[: lines - 1], f"… {len(out) - lines + 1} lines more: a higher window shows them"]
    return "\n".join(out)


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """`text` in lines of at most `width` columns, all but the first indented; 0: in one line."""
    return wrap(text, max(width, LEAST_BAR * 2), subsequent_indent=indent, break_on_hyphens=False) if width else [text]


def _replica(r: Mapping[str, Any], width: int) -> list[str]:
    """A bar of its cache, and what is to be said beside it; a reason below."""
    head = f"  {r['number']} {r['state']:<8} "
    empty = r["state"] in _EMPTY
    words = [*([r["why"]] if empty else _facts(r)), printable(r["url"], 80)]
    size = 0 if empty else min(max(width - len(head) - 2 - FACTS, LEAST_BAR), BAR) if width else BAR
    left = len(head) + size + (0 if empty else 2)
    rows = filled([printable(word, 150) for word in words if word], max(width - left, LEAST_BAR * 2) if width else 0, "; ")
    state = style(f"{r['state']:<8}", fg=_STATES.get(r["state"], "bright_red"))
    shown = f"  {r['number']} {state} " + ("" if empty else f"{_bar(r['kv'], size)}  ")
    found = [shown + rows[0], *(" " * left + row for row in rows[1:])]
    if r["why"] and not empty:
        again = f"; tried again in {seconds(r['seconds_out'])}" if r["state"] == "out" else "; asked all the same" if r["state"] == "suspect" else ""
        found += ["    " + row for row in _wrapped(printable(r["why"], 150) + again, width - 4 if width else 0, "  ")]
    return found


def _bar(kv: Mapping[str, Any], size: int) -> str:
    capacity, held = kv["capacity"], kv["held"]
    promised = max(kv["promised"] - held, 0)
    parts = [
        Segment(held, *MARKS["kv_cache"]),
        Segment(kv["held_by_others"], *MARKS["used"]),
        Segment(min(promised, max((capacity or 0) - held, 0)), *MARKS["activations"]),
    ]
    drawn = cells(parts, capacity or 0, size)
    free = size - sum(s.bytes for s in drawn)
    return "".join(style(s.mark * s.bytes, fg=s.color) for s in [*drawn, Segment(free, *MARKS["free"])])


def _facts(r: Mapping[str, Any]) -> list[str]:
    kv, engine = r["kv"], r["engine"]
    capacity, held = kv["capacity"], kv["held"]
    if capacity:
        amount = gib(capacity) if kv["unit"] == "bytes" else f"{capacity:,} tokens"
        found = [f"{share(held / capacity)} held, {share(kv['promised'] / capacity)} promised of {amount}"]
    else:
        found = [f"{held:,} {kv['unit']} held, {kv['promised']:,} promised", "capacity not known" if capacity is None else "no KV cache"]
    if kv["saved"]:
        saved = gib(kv["saved"]) if kv["unit"] == "bytes" else f"{kv['saved']:,} tokens"
        found.append(f"{saved} saved by sharing")
    elif kv["shared_once"]:
        found.append("nothing saved by sharing")
    found.append(f"{r['leases']:,} run")
    if engine is not None and engine["kv_usage"] is not None:
        found.append(f"engine {share(engine['kv_usage'])}")
    if engine is not None and engine["preemptions"]:
        found.append(f"{engine['preemptions']:,} preemptions")
    if r["rent_dollars"]:
        found.append(f"idle {share(max(r['idle_dollars'], 0) / r['rent_dollars'])} of the rent")
    return found


def _leases(rows: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    oldest = sorted(rows, key=lambda row: -row["age_seconds"])
    shown = [
        (
            printable(x["request_id"], 24),
            printable(x["key"], 20),
            printable(x["model"], 30),
            printable(f"{x['pool']}/{x['number']}", 30),
            gib(x["held"]) if x["unit"] == "bytes" else f"{x['held']:,} tokens",
            f"{x['prompt_tokens']:,}",
            f"{x['output_tokens']:,} of {x['expected_output_tokens']:,}",
            seconds(x["age_seconds"]),
        )
        for x in oldest
    ]
    titles = ("lease", "key", "model", "replica", "holds", "prompt", "output", "since")
    cut = ("lease", "key", "model", "replica")
    below = {"prompt": "prompt {}", "key": "key {}", "model": "{}", "replica": "on {}"}
    return table(titles, shown, right=("holds", "prompt", "output", "since"), width=width, cut=cut, below=below).splitlines()
