"""Costs as one HTML file, and where the rent goes as a picture."""

from collections.abc import Sequence

from vram.cli.render.axis import Axis
from vram.cli.render.cost import TITLES, remarks, row, short, why_dearer
from vram.cli.render.page import figure, heading, notes, page, paragraph, table
from vram.cli.render.svg import Bar, bar_chart
from vram.costs.cost import Cost
from vram.costs.money import show_usd


def chart(costs: Sequence[Cost]) -> str:
    """A bar for each model: dollars of an hour by the bytes that they paid for."""
    bars = []
    for cost in costs:
        parts, usd = cost.vram_time, cost.usd_per_hour
        if parts is None or usd is None:
            continue
        shares = (("weights", parts.weights_share), ("working memory", parts.working_share), ("caches", parts.kv_share), ("idle", max(parts.idle_share, 0.0)))
        whole = cost.usd_per_million_tokens
        told = "" if whole is None else f"{show_usd(whole.value)} a million tokens"
        bars.append(Bar(label=short(cost.model), pieces=tuple((name, usd * share) for name, share in shares), text=told))
    title = f"Where the rent of {costs[0].fleet} goes, by bytes x time"
    return bar_chart(title, bars, axis=Axis(label="dollars an hour"), summary="Idle: bytes x time that nobody used.")


def whole_page(costs: Sequence[Cost]) -> str:
    """All costs as one page."""
    first = costs[0]
    rent = "no price known" if first.usd_per_hour is None else f"{show_usd(first.usd_per_hour)} an hour"
    told = [f"{line}" for line in first.rent.told]
    told += [line.price.source for line in first.rent.lines if line.price is not None and line.price.as_of]
    blocks = [notes(told), table(TITLES, [row(c) for c in costs], right=TITLES[1:])]
    if any(c.vram_time is not None and c.usd_per_hour is not None for c in costs):
        blocks.append(figure(chart(costs)))
    if dearer := why_dearer(costs):
        blocks.append(paragraph(dearer))
    if remarked := remarks(costs):
        blocks += [heading("Notes"), notes(remarked)]
    return page(f"What tokens cost on {first.fleet}", blocks, lead=f"{rent}, load {first.load:.0%}, {first.engine} engine")
