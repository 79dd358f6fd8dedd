"""A sizing as pictures and as one HTML file."""

from vram.cli.render import page
from vram.cli.render.amounts import dollars, plain, seconds, share
from vram.cli.render.axis import Axis
from vram.cli.render.size import asked, reached, slow_told
from vram.cli.render.svg import Bar, Limit, Series, area_chart, bar_chart, line_chart
from vram.costs.money import show_usd
from vram.planner.size.sizing import PoolSizing, Served, Sizing, foremost

BARS = 12


def use_chart(sizing: Sizing) -> str:
    """The KV blocks in use over time, a line for each pool: SVG."""
    series = [
        Series(
            name=f"{p.load.model}: {p.chosen.replicas} × {p.candidate.gpu}",
            points=_points(p.chosen, p.chosen.pool.kv_share),
            note=f"mean {share(p.chosen.outcome.summary.kv_share_mean)}",
        )
        for p in sizing.pools
    ]
    most = max(max(p.chosen.pool.kv_share) for p in sizing.pools)
    told = "; ".join(
        f"{p.load.model}: mean {share(p.chosen.outcome.summary.kv_share_mean)}, peak of a replica {share(p.chosen.outcome.summary.kv_share_peak)}"
        for p in sizing.pools
    )
    return line_chart(
        "KV cache in use",
        series,
        x=Axis(label="time since the first request", show=seconds, time=True),
        y=Axis(label="share of all KV blocks", show=share, low=0, high=1 if most > 0.5 else None),
        summary=told,
    )


def requests_chart(p: PoolSizing) -> str:
    """Requests that run and that wait over time: SVG."""
    pool = p.chosen.pool
    return area_chart(
        "Requests in the replica" if p.chosen.replicas == 1 else f"Requests in the {p.chosen.replicas} replicas",
        [
            Series(name="running", points=_points(p.chosen, pool.running)),
            Series(name="waiting for room", points=_points(p.chosen, pool.waiting)),
        ],
        x=Axis(label="time since the first request", show=seconds, time=True),
        y=Axis(label="requests at once", show=plain),
        summary=f"at most {max(pool.running):.3g} running and {max(pool.waiting):.3g} waiting on average over a bucket",
        height=180,
    )


def levels_chart(p: PoolSizing) -> str:
    """What each number of replicas around the answer reaches of the levels, as shares of what is asked: SVG."""
    around = [s for s in (p.fewer, p.chosen, p.more) if s is not None]
    series = [
        Series(
            name=level.name,
            points=[(s.replicas, (s.verdict.reached[i].seconds or 0.0) / level.seconds) for s in around],
            note=f"asked: {seconds(level.seconds)}",
        )
        for i, level in enumerate(p.levels.times)
    ]
    return line_chart(
        "One replica less, one more",
        series,
        x=Axis(label="replicas", low=around[0].replicas - 0.25, high=around[-1].replicas + 0.25, ticks=tuple(float(s.replicas) for s in around)),
        y=Axis(label="share of the time that is allowed", show=share, low=0),
        limits=[Limit(value=1.0, name="what was asked for")],
        summary="; ".join(f"{s.replicas} replicas: {reached(s.verdict)}" for s in around),
        height=180,
    )


def cost_chart(p: PoolSizing) -> str:
    """What the answer costs beside other GPUs: SVG."""
    bars = [Bar(label=f"{p.chosen.replicas} × {p.candidate.name}", pieces=(("price", p.chosen.usd_per_hour),), text=show_usd(p.chosen.usd_per_hour))]
    for a in foremost([a for a in p.alternatives if a.nanodollars_per_hour], BARS - 1):
        usd = a.nanodollars_per_hour / 1e9
        bars.append(Bar(label=a.gpu, pieces=(("price" if a.exact else "at least", usd),), text=show_usd(usd) if a.exact else f"at least {show_usd(usd)}"))
    return bar_chart(
        "What it costs an hour, beside other GPUs", bars, axis=Axis(label="US dollars an hour", show=dollars), summary=f"{len(p.alternatives)} other kinds"
    )


def report(sizing: Sizing, *, pools_file: str, command: str = "") -> str:
    """The whole answer as one HTML file.

    Args:
        sizing: the answer.
        pools_file: the pools file as text.
        command: what was typed, to do it again.
    """
    facts = [
        ("an hour", show_usd(sizing.usd_per_hour)),
        ("GPUs", f"{sizing.gpus:,}"),
        ("a month (730 h)", show_usd(sizing.usd_per_hour * 730)),
        ("requests", f"{sum(len(p.load.requests) for p in sizing.pools):,}"),
    ]
    blocks = [page.facts(facts), page.figure(use_chart(sizing), "Share of the KV blocks of each pool that hold something, over the requests replayed.")]
    for p in sizing.pools:
        blocks += _section(p)
    blocks += [page.heading("The pools file"), page.code(pools_file)]
    if command:
        blocks += [page.heading("To do it again"), page.code(command)]
    if sizing.notes:
        blocks += [page.heading("Notes"), page.notes(sizing.notes)]
    return page.page("Pools for a workload", blocks, lead=f"asked: {asked(sizing.pools[0].levels)}")


def _section(p: PoolSizing) -> list[str]:
    c, s = p.candidate, p.chosen.outcome.summary
    rows = [(title, served) for title, served in (("one less", p.fewer), ("chosen", p.chosen), ("one more", p.more)) if served is not None]
    titles = ["", "replicas", "an hour", *(level.name for level in p.levels.times), "refused", "KV use", "computing", "preemptions"]
    body = [
        [
            title,
            f"{served.replicas}",
            show_usd(served.usd_per_hour),
            *(f"{'none' if r.seconds is None else seconds(r.seconds)}{'' if r.met else ' ✘'}" for r in served.verdict.reached),
            f"{served.verdict.refused:,}",
            share(served.outcome.summary.kv_share_mean),
            share(served.outcome.summary.busy_share),
            f"{served.outcome.summary.preemptions:,}",
        ]
        for title, served in rows
    ]
    chosen = next(i for i, (title, _) in enumerate(rows) if title == "chosen")
    others = [
        [
            a.gpu,
            "never"
            if not a.nanodollars_per_hour
            else show_usd(a.nanodollars_per_hour / 1e9)
            if a.exact
            else f"at least {show_usd(a.nanodollars_per_hour / 1e9)}",
            a.why,
        ]
        for a in p.alternatives
    ]
    blocks = [
        page.heading(p.load.model),
        page.paragraph(
            f"{p.chosen.replicas} × {c.name} with {c.engine}: {show_usd(p.chosen.usd_per_hour)} an hour, {show_usd(p.usd_per_million_tokens)} a million tokens. "
            f"{s.requests:,} requests in {seconds(p.load.seconds)}, {p.load.prompt_tokens / s.requests:,.0f} + {p.load.output_tokens / s.requests:,.0f} tokens on average."
        ),
        page.table(titles, body, right=titles[1:], chosen=chosen, caption="✘ marks a level that is not kept."),
        page.figure(levels_chart(p), _sentence(slow_told(p))),
        page.figure(requests_chart(p)),
        page.figure(
            cost_chart(p),
            "Of what is not the answer only as much is replayed as shows that it is not cheaper: so its price is a least one.",
            figures=page.table(["instead", "an hour", "why not"], others, right=["an hour"]) if others else "",
        ),
    ]
    if p.price_told:
        blocks.append(page.paragraph(f"Price: {p.price_told}"))
    return blocks


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _points(s: Served, values: tuple[float, ...]) -> list[tuple[float, float]]:
    """Values in the middle of their buckets, up to the last in which anything ran."""
    last = max((i for i, v in enumerate(s.pool.running) if v > 0), default=0)
    return [((i + 0.5) * s.pool.width_seconds, v) for i, v in enumerate(values[: last + 1])]
