"""Replays as pictures and as one HTML file."""

from collections.abc import Sequence

from vram.cli.render import page
from vram.cli.render.amounts import plain, seconds, share
from vram.cli.render.axis import Axis
from vram.cli.render.simulate import TITLES, asked, notes, over_time, row
from vram.cli.render.svg import Series, line_chart
from vram.planner.simulate.outcome import Outcome


def use_chart(outcomes: Sequence[Outcome]) -> str:
    """The KV blocks in use over time, a line for each policy: SVG."""
    series = [Series(name=o.policy, points=_points(o, over_time(o)), note=f"mean {share(o.summary.kv_share_mean)}") for o in outcomes]
    return line_chart(
        "KV cache in use",
        series,
        x=Axis(label="time since the first request", show=seconds, time=True),
        y=Axis(label="share of all KV blocks", show=share, low=0, high=1),
        summary="; ".join(f"{o.policy}: mean {share(o.summary.kv_share_mean)}, {o.summary.preemptions:,} preemptions" for o in outcomes),
    )


def wait_chart(outcomes: Sequence[Outcome]) -> str:
    """How long requests waited for their first token, by when they came, a line for each policy: SVG."""
    return line_chart(
        "Time to the first token",
        [Series(name=o.policy, points=_waits(o), note=f"p99 {seconds(o.summary.ttft.p99 or 0.0)}") for o in outcomes],
        x=Axis(label="when the request came", show=seconds, time=True),
        y=Axis(label="mean of those who came together", show=seconds, low=0),
        summary="; ".join(f"{o.policy}: p50 {seconds(o.summary.ttft.p50 or 0.0)}, p99 {seconds(o.summary.ttft.p99 or 0.0)}" for o in outcomes),
        height=220,
    )


def running_chart(o: Outcome) -> str:
    """Requests that run and that wait in the engines under one policy: SVG."""
    n = max(p.buckets for p in o.pools)
    running = [sum(p.running[i] for p in o.pools) for i in range(n)]
    waiting = [sum(p.waiting[i] for p in o.pools) for i in range(n)]
    return line_chart(
        f"Requests in the engines: {o.policy}",
        [Series(name="running", points=_points(o, running)), Series(name="waiting", points=_points(o, waiting))],
        x=Axis(label="time since the first request", show=seconds, time=True),
        y=Axis(label="requests at once", show=plain, low=0),
        summary=f"at most {max(running, default=0):.3g} running and {max(waiting, default=0):.3g} waiting on average over a bucket",
        height=160,
    )


def report(outcomes: Sequence[Outcome], *, told: str, command: str = "") -> str:
    """The whole comparison as one HTML file.

    Args:
        outcomes: replays of the same requests.
        told: what was replayed, in a few words.
        command: what was typed, to do it again.
    """
    best = max(range(len(outcomes)), key=lambda i: outcomes[i].summary.goodput_per_second)
    blocks = [
        page.table(TITLES, [row(o) for o in outcomes], right=TITLES[1:], chosen=best, caption=f"Good: {asked(outcomes[0])}."),
        page.figure(use_chart(outcomes), "Share of the KV blocks of all pools that hold something."),
        page.figure(wait_chart(outcomes)),
        *(page.figure(running_chart(o)) for o in outcomes),
        page.notes(notes(outcomes)),
    ]
    if command:
        blocks += [page.heading("To do it again"), page.code(command)]
    return page.page("Policies of admission, side by side", blocks, lead=f"{len(outcomes[0].served):,} requests: {told}")


def _points(o: Outcome, values: Sequence[float]) -> list[tuple[float, float]]:
    """Values in the middle of their buckets."""
    width = o.pools[0].width_seconds
    return [((i + 0.5) * width, v) for i, v in enumerate(values)]


def _waits(o: Outcome, groups: int = 120) -> list[tuple[float, float]]:
    """Mean time to the first token of neighbours in the trace."""
    answered = [s for s in o.served if s.ttft_seconds is not None]
    size = max(len(answered) // groups, 1)
    out = []
    for i in range(0, len(answered), size):
        part = answered[i : i + size]
        out.append((sum(s.arrival_seconds for s in part) / len(part), sum(s.ttft_seconds or 0.0 for s in part) / len(part)))
    return out
