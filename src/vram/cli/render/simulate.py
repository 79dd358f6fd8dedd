"""Replays as a person reads them in a terminal: a table of the policies, and how full the caches were over time."""

from collections.abc import Sequence
from textwrap import wrap

from click import style

from vram.cli.render.amounts import seconds, share
from vram.cli.render.spark import resample, sparkline
from vram.cli.render.table import table
from vram.errors import printable
from vram.planner.simulate.outcome import Outcome, PoolOutcome
from vram.units import gib

TITLES = ("policy", "good/s", "good", "refused", "TTFT p50", "p99", "TPOT p50", "p99", "preempted", "KV mean", "peak", "tok/s")
BELOW = {"preempted": "{} preempted", "KV mean": "KV mean {}", "peak": "peak {}", "tok/s": "{} tokens/s", "refused": "{} refused"}
SPARK = 60


def picture(outcomes: Sequence[Outcome], width: int, *, told: str = "", table_columns: int = 0) -> str:
    """All replays in lines, with ANSI styles that the caller may strip.

    Args:
        outcomes: replays of the same requests.
        width: columns to draw for.
        told: what was replayed, in a few words.
        table_columns: the same for the table; 0: as many as it needs.
    """
    first = outcomes[0]
    span = first.served[-1].arrival_seconds - first.served[0].arrival_seconds
    prompts, answers = sum(s.prompt_tokens for s in first.served), max(o.summary.answered_tokens for o in outcomes)
    n = len(first.served)
    lines = [
        style(printable(told or "requests", 100), bold=True)
        + f"  {n:,} requests in {seconds(span)}, {prompts / n:,.0f} + {answers / n:,.0f} tokens on average",
        *(row for o in first.pools for row in wrap(_pool(o), max(width, 40), subsequent_indent="  ", break_on_hyphens=False)),
        f"good: {asked(first)}",
        "",
        table(TITLES, [row(o) for o in outcomes], right=TITLES[1:], width=table_columns, below=BELOW),
        "",
        style("KV cache in use over time; how many wait in engines at the busiest", bold=True),
    ]
    name = max(len(o.policy) for o in outcomes)
    spark = min(SPARK, max(width - name - 36, 10))
    longest = max(p.buckets * p.width_seconds for o in outcomes for p in o.pools)
    for o in outcomes:
        values = over_time(o)
        shown = max(round(spark * len(values) * o.pools[0].width_seconds / longest), 1) if values else 1
        waits = max((resample([sum(x) for x in zip(*(p.waiting for p in o.pools), strict=False)], SPARK)), default=0.0)
        waiting = f"about {f'{waits:,.0f}' if waits >= 10 else f'{waits:.2g}'} waiting"
        lines.append(f"{o.policy:<{name}}  ▕{sparkline(values, shown, high=1.0):<{spark}}▏ {seconds(o.summary.seconds)}, {waiting}")
    for note in notes(outcomes):
        lines += [style(r, dim=True) for r in wrap(f"note: {note}", max(width, 40), subsequent_indent="      ")]
    return "\n".join(lines)


def over_time(o: Outcome) -> list[float]:
    """Share of all KV blocks in use, bucket by bucket, all pools together."""
    rooms = [p.pool.replica.blocks * p.pool.replicas for p in o.pools]
    n = max(p.buckets for p in o.pools)
    return [sum(p.kv_share[i] * room for p, room in zip(o.pools, rooms, strict=True)) / sum(rooms) for i in range(n)]


def asked(o: Outcome) -> str:
    """What counts as good service, in words."""
    told = [
        f"{name} within {seconds(value)}"
        for name, value in (("first token", o.levels.ttft_seconds), ("each further token", o.levels.tpot_seconds))
        if value is not None
    ]
    return ", ".join(told) or "whoever is answered"


def row(o: Outcome) -> list[str]:
    """One policy's figures, under `TITLES`."""
    s = o.summary
    times = [_time(v) for v in (s.ttft.p50, s.ttft.p99, s.tpot.p50, s.tpot.p99)]
    return [
        o.policy,
        f"{s.goodput_per_second:.3g}",
        share(s.good_share),
        f"{s.refused:,}",
        *times,
        f"{s.preemptions:,}",
        share(s.kv_share_mean),
        share(s.kv_share_peak),
        f"{s.tokens_per_second:,.0f}",
    ]


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know of the figures."""
    told = []
    cut = max(sum(n for end, n in o.summary.ends.items() if end.value == "shortened") for o in outcomes)
    if cut:
        told.append(f"the context ended {cut:,} answers before their own end")
    if any(o.policy == "requests" for o in outcomes):
        most = ", ".join(
            f"{p.pool.name}: {max(p.pool.replica.blocks // p.pool.replica.rule.admits(p.pool.replica.max_model_len), 1):,}" for p in outcomes[0].pools
        )
        told.append(f"'requests' lets in as many as fit at their longest ({most}); requests=N says how many")
    told.append("step times are predicted; docs/simulate.md says how far they may be off")
    return told


def _time(value: float | None) -> str:
    return "–" if value is None else seconds(value)


def _pool(p: PoolOutcome) -> str:

    r = p.pool.replica
    size = f", {gib(r.blocks * r.block_bytes)} a GPU" if r.block_bytes else ""
    return (
        f"{p.pool.replicas} × {printable(p.pool.name, 80)}  {r.blocks:,} KV blocks each{size}; "
        f"context {r.max_model_len:,}, at most {r.max_num_seqs:,} sequences and {r.max_batched_tokens:,} tokens a step"
    )
