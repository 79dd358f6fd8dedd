"""A sizing as a person reads it in a terminal: each pool with what it keeps, how full it was over time, and what one replica changes."""

from textwrap import wrap

from click import style

from vram.cli.render.amounts import seconds, share
from vram.cli.render.spark import resample, sparkline
from vram.costs.money import show_usd
from vram.errors import printable
from vram.planner.size.levels import Levels, Verdict
from vram.planner.size.sizing import PoolSizing, Served, Sizing, foremost

SPARK = 60
ALTERNATIVES = 5


def picture(sizing: Sizing, width: int) -> str:
    """The answer in lines of at most about `width` columns, with ANSI styles that the caller may strip."""
    lines: list[str] = []
    for pool in sizing.pools:
        lines += [*_pool(pool, width), ""]
    total = f"{show_usd(sizing.usd_per_hour)} an hour"
    lines.append(f"{style(total, bold=True)} for {sizing.gpus} GPU{'s' if sizing.gpus != 1 else ''} in {_pools(len(sizing.pools))}")
    for note in sizing.notes:
        lines += [style(row, dim=True) for row in wrap(f"note: {printable(note, 600)}", max(width, 40), subsequent_indent="      ")]
    return "\n".join(lines)


def asked(levels: Levels) -> str:
    """What was asked for, in words."""
    times = ", ".join(f"{level.name} {seconds(level.seconds)}" for level in levels.times)
    return f"{times}, {'none' if not levels.refused_share else f'at most {share(levels.refused_share)}'} refused"


def reached(verdict: Verdict) -> str:
    """What came of it, in words."""
    words = [f"{r.level.name} {'none' if r.seconds is None else seconds(r.seconds)}" for r in verdict.reached]
    if verdict.refused:
        words.append(f"{verdict.refused:,} refused or cut short")
    return ", ".join(words)


def _pools(n: int) -> str:
    return "one pool" if n == 1 else f"{n} pools"


def _pool(p: PoolSizing, width: int) -> list[str]:
    c, s = p.candidate, p.chosen.outcome.summary
    per_second = len(p.load.requests) / max(p.load.seconds, 1e-9)
    head = f"{s.requests:,} requests in {seconds(p.load.seconds)}" if p.load.seconds else f"{s.requests:,} requests at once"
    rate = f" ({per_second:.3g} a second)" if p.load.seconds else ""
    mean = f"{p.load.prompt_tokens / s.requests:,.0f} + {p.load.output_tokens / s.requests:,.0f} tokens on average, {p.load.longest_tokens:,} at most"
    served = f"{c.engine}, {c.spec.blocks:,} KV blocks each, {show_usd(p.usd_per_million_tokens)} a million tokens, computing {share(s.busy_share)} of the time"
    lines = [
        style(printable(p.load.model), bold=True),
        *_told("load", f"{head}{rate}, {mean}", width),
        *_told("asked", asked(p.levels), width),
        style(f"  pool      {p.chosen.replicas} × {c.name}", bold=True) + f"  {show_usd(p.chosen.usd_per_hour)} an hour",
        *_told("", served, width),
        *_row("one less", p.fewer),
        *_row("this", p.chosen),
        *_row("one more", p.more),
        *(_told("unsure", slow_told(p), width) if p.slow else []),
    ]
    spark = min(SPARK, max(width - 53, 10))
    pool = p.chosen.pool
    steps = _until(p.chosen)
    lines.append(f"  KV use    ▕{sparkline(pool.kv_share[:steps], spark, high=1.0)}▏ mean {share(s.kv_share_mean)}, peak {share(s.kv_share_peak)}")
    # Of as many stretches whatever the window: a figure does not hang on its width.
    most = max(resample(pool.running[:steps], SPARK), default=0.0)
    lines.append(f"  running   ▕{sparkline(pool.running[:steps], spark)}▏ about {round(most):,} at the busiest" + _preempted(p.chosen))
    if any(w >= 0.05 for w in pool.waiting[:steps]):
        lines.append(
            f"  waiting   ▕{sparkline(pool.waiting[:steps], spark)}▏ about {max(1, round(max(resample(pool.waiting[:steps], SPARK)))):,} at the busiest"
        )
    if p.price_told:
        lines += [style(row, dim=True) for row in _told("price", printable(p.price_told, 400), width)]
    return [*lines, *_alternatives(p, width)]


def _until(s: Served) -> int:
    """Buckets up to the last one in which anything ran."""
    last = max((i for i, v in enumerate(s.pool.running) if v > 0), default=0)
    return last + 1


def _preempted(s: Served) -> str:
    n = s.outcome.summary.preemptions
    return f", {n:,} preemption{'s' if n != 1 else ''}" if n else ", no preemption"


def _row(title: str, s: Served | None) -> list[str]:
    if s is None:
        return [f"  {title:<9} none"]
    mark, colour = ("✔", "green") if s.verdict.met else ("✘", "red")
    return [
        f"  {title:<9} {style(mark, fg=colour)} {s.replicas:>3} {'replica ' if s.replicas == 1 else 'replicas'}  {show_usd(s.usd_per_hour):>8}  {reached(s.verdict)}"
    ]


def slow_told(p: PoolSizing) -> str:
    """What the answer is worth when steps are as slow as their band allows; empty where they have no band."""
    s = p.slow
    if s is None:
        return ""
    head = f"if steps take {s.factor:g} × as long, the high end of their band"
    if s.verdict.met:
        return f"{head}, these still do: {reached(s.verdict)}"
    if s.replicas is None or s.nanodollars_per_hour is None:
        return f"{head}, no number of replicas does: {reached(s.verdict)} with these"
    return f"{head}, {s.replicas:,} replicas would be needed, {show_usd(s.nanodollars_per_hour / 1e9)} an hour; these give {reached(s.verdict)}"


def _told(title: str, text: str, width: int) -> list[str]:
    """`text` behind its title, wrapped under itself."""
    return wrap(text, max(width, 40), initial_indent=f"  {title:<9} ", subsequent_indent=" " * 12)


def _alternatives(p: PoolSizing, width: int) -> list[str]:
    shown = foremost(p.alternatives, ALTERNATIVES)
    if not shown:
        return []
    prices = [_price(a.nanodollars_per_hour, exact=a.exact) for a in shown]
    names, column = max(len(a.gpu) for a in shown), max(map(len, prices))
    lines = []
    for i, (a, price) in enumerate(zip(shown, prices, strict=True)):
        head = f"  {'instead' if i == 0 else '':<9} {printable(a.gpu):<{names}}  {price:>{column}}  "
        rows = wrap(printable(a.why), max(width - len(head), 24)) or [""]
        lines += [head + rows[0], *(" " * len(head) + row for row in rows[1:])]
    more = len(p.alternatives) - len(shown)
    return [*lines, f"            and {more} more that cost more or cannot do it"] if more else lines


def _price(nanodollars: int, *, exact: bool) -> str:
    if not nanodollars:
        return "never"
    return show_usd(nanodollars / 1e9) if exact else f"≥ {show_usd(nanodollars / 1e9)}"
