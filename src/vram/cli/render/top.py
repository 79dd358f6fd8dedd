"""One frame of `vram top`: pools with a bar for each replica's KV cache, the queue, and the leases that run longest."""

from collections.abc import Mapping, Sequence
from typing import Any

from click import style

from vram.cli.render.amounts import seconds, share
from vram.cli.render.bar import MARKS, Segment, cells
from vram.cli.render.table import table
from vram.costs.money import show_usd
from vram.errors import printable
from vram.units import gib

BAR = 30
_STATES = {"up": "green", "suspect": "yellow", "draining": "yellow", "trial": "yellow", "out": "bright_red"}


def frame(document: Mapping[str, Any], where: str, clock: str, *, lines: int = 0) -> str:
    """The frame as text.

    Args:
        document: what `vram top --json` prints.
        where: address of the gateway.
        clock: what time it is, as it is to be shown.
        lines: most lines; 0: as many as there are. What is left out is said.

    Raises:
        KeyError, TypeError, ValueError: the document is not of that form.
    """
    pools, queue, leases, workers = document["pools"], document["queue"], document["leases"], document["workers"]
    replicas = [replica for pool in pools["pools"] for replica in pool["replicas"]]
    out_of_service = sum(r["state"] != "up" for r in replicas)
    head = f"{printable(where)}  {len(replicas)} {'replica' if len(replicas) == 1 else 'replicas'}{f', {out_of_service} not up' if out_of_service else ''}, {leases['total']:,} run, {queue['waiting']:,} wait"
    if len(workers["workers"]) > 1:
        serving = sum(w["up_seconds"] is not None for w in workers["workers"])
        head += f"; {serving} of {len(workers['workers'])} workers serve" + (
            f", {workers['restarts']:,} ended and were replaced" if workers["restarts"] else ""
        )
    out = [f"{style(head, bold=True)}  {clock}"]
    for pool in pools["pools"]:
        price = f", {show_usd(pool['dollars_per_hour'])} an hour each" if pool["dollars_per_hour"] is not None else ""
        out += ["", style(printable(f"{pool['name']}: {pool['model']} on {pool['engine']}, {pool['gpu']}{price}", 200), bold=True)]
        for replica in pool["replicas"]:
            out += _replica(replica)
    if queue["waiting"]:
        waiting = [(line["model"], f"{line['waiting']:,}", seconds(line["oldest_seconds"])) for line in queue["lines"] if line["waiting"]]
        out += ["", *table(("queue", "wait", "oldest"), waiting, right=("wait", "oldest")).splitlines()]
    if leases["leases"]:
        out += ["", *_leases(leases["leases"])]
    if lines and len(out) > lines:
        out = [*out[: lines - 1], f"… {len(out) - lines + 1} lines more: a higher window shows them"]
    return "\n".join(out)


def _replica(r: Mapping[str, Any]) -> list[str]:
    kv = r["kv"]
    capacity, held = kv["capacity"], kv["held"]
    promised = max(kv["promised"] - held, 0)
    parts = [
        Segment(held, *MARKS["kv_cache"]),
        Segment(kv["held_by_others"], *MARKS["used"]),
        Segment(min(promised, max((capacity or 0) - held, 0)), *MARKS["activations"]),
    ]
    drawn = cells(parts, capacity or 0, BAR)
    free = BAR - sum(s.bytes for s in drawn)
    bar = "".join(style(s.mark * s.bytes, fg=s.color) for s in [*drawn, Segment(free, *MARKS["free"])])
    if capacity:
        amount = gib(capacity) if kv["unit"] == "bytes" else f"{capacity:,} tokens"
        of = f"{share(held / capacity)} held, {share(kv['promised'] / capacity)} promised of {amount}"
    else:
        of = f"{held:,} {kv['unit']} held, {kv['promised']:,} promised; {'capacity not known' if capacity is None else 'no KV cache'}"
    engine = r["engine"]
    said = f", engine {share(engine['kv_usage'])}" if engine is not None and engine["kv_usage"] is not None else ""
    if engine is not None and engine["preemptions"]:
        said += f", {engine['preemptions']:,} preemptions"
    idle = f", idle {share(max(r['idle_dollars'], 0) / r['rent_dollars'])} of the rent" if r["rent_dollars"] else ""
    state = style(f"{r['state']:<8}", fg=_STATES.get(r["state"], "bright_red"))
    found = [f"  {r['number']} {state} {bar}  {of}; {r['leases']:,} run{said}{idle}  {printable(r['url'], 80)}"]
    if r["why"]:
        again = f"; tried again in {seconds(r['seconds_out'])}" if r["state"] == "out" else "; asked all the same" if r["state"] == "suspect" else ""
        found.append(f"    {printable(r['why'], 150)}{again}")
    return found


def _leases(rows: Sequence[Mapping[str, Any]]) -> list[str]:
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
    return table(titles, shown, right=("holds", "prompt", "output", "since")).splitlines()
