"""Choices as one HTML file, and what fills the fullest card of each as a picture."""

from vram.cli.render.axis import Axis
from vram.cli.render.page import code, figure, heading, notes, page, paragraph, table
from vram.cli.render.pick import cards, fullest, needed
from vram.cli.render.svg import Bar, bar_chart
from vram.costs.money import show_usd
from vram.planner.choosing.choice import Pick
from vram.planner.choosing.helpers import rate_of
from vram.units import GIB, gib

NAMES = {"used": "in use", "weights": "weights", "kv_cache": "KV cache", "activations": "working memory and runtime", "spare": "spare"}
MOST = 25
"""Bars of a picture: more could not be told apart."""


def _title(found: Pick) -> str:
    if found.model and not found.fleet:
        return f"GPUs for {found.model}"
    return f"{found.ask.need.value if found.ask.need else found.model} on {found.fleet}"


def chart(found: Pick) -> str:
    """A bar for each choice: what lies on its fullest card."""
    bars = []
    for choice in found.choices[:MOST]:
        gpu = fullest(choice)
        pieces = [(name, part) for name, part in needed(gpu) if part > 0]
        spare = gpu.capacity_bytes - sum(part for _, part in pieces)
        pieces.append(("spare", max(spare, 0)))
        bars.append(
            Bar(
                label=f"{choice.model} {choice.stored}",
                pieces=tuple((NAMES[name], part / GIB) for name, part in pieces),
                text=f"{choice.engine}, {cards(choice.gpus)}",
            )
        )
    return bar_chart(_title(found), bars, axis=Axis(label="GiB of the fullest card"), summary="What each choice takes of the card that has the least to spare.")


def report(found: Pick) -> str:
    """The whole answer as one page."""
    ask = found.ask
    rows = []
    for i, choice in enumerate(found.choices):
        rate = rate_of(choice.speed, reads=ask.reads)
        rows.append(
            (
                str(i + 1),
                choice.model,
                choice.stored,
                choice.engine,
                f"{cards(choice.gpus)} {choice.placement.label if choice.placement.gpus > 1 else ''}".strip(),
                gib(choice.spare_bytes),
                "?" if choice.limits.max_context_tokens is None else f"{choice.limits.max_context_tokens:,}",
                "?" if rate is None else f"{rate:.3g}",
                "?" if choice.cost is None else show_usd(choice.cost.usd_per_hour),
                choice.why,
            )
        )
    titles = ("", "model", "stored as", "engine", "on", "spare", "context up to", "tokens/s", "an hour", "why")
    blocks = []
    if rows:
        blocks += [table(titles, rows, right=("", "spare", "context up to", "tokens/s", "an hour")), figure(chart(found))]
        blocks += [heading("To open a row"), code("\n".join(c.command for c in found.choices))]
    else:
        blocks.append(paragraph("Nothing fits that keeps to all of it."))
    if found.misses:
        blocks += [
            heading("What came near"),
            notes([f"{m.model} {m.quant or ''} on {cards(m.gpus)}: {m.reason}{f'; would do: {m.mend}' if m.mend else ''}" for m in found.misses]),
        ]
    blocks.append(notes(found.notes))
    many = "1 sequence" if ask.concurrency == 1 else f"{ask.concurrency:,} sequences"
    return page(
        _title(found),
        blocks,
        lead=f"{many} of {ask.context_tokens:,} tokens; {found.considered:,} to choose from, {found.planned:,} planned, {found.fitting:,} of them fit; by {ask.order.value}.",
    )
