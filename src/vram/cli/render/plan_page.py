"""A plan as one HTML file, and what lies on each GPU as a picture."""

from collections import Counter

from vram.cli.render.axis import Axis
from vram.cli.render.page import figure, heading, notes, page, paragraph, table
from vram.cli.render.plan import (
    TITLES,
    VERDICTS,
    alike,
    asked_facts,
    band_words,
    host_words,
    limit_rows,
    model_facts,
    pool_reason,
    speed_remarks,
    speed_rows,
    useful_mends,
    verdict_reason,
)
from vram.cli.render.svg import Bar, bar_chart
from vram.planner.plan import GpuPlan, Plan
from vram.units import GIB, gib


def _fleet(plan: Plan) -> str:
    counts = Counter(gpu.name for gpu in plan.gpus)
    return " + ".join(f"{n}x {name}" if n > 1 else name for name, n in counts.items())


def _called(gpus: list[GpuPlan], plan: Plan) -> str:
    many = f"{len(gpus)} × {gpus[0].name}" if len(gpus) > 1 else gpus[0].name
    return f"{many}, stage {gpus[0].stage + 1} of {plan.placement.pp}" if plan.placement.pp > 1 else many


def _parts(gpu: GpuPlan) -> list[tuple[str, int]]:
    in_use = [("in use", gpu.used_bytes)] if gpu.used_bytes else []
    return in_use + [(TITLES[name], part.bytes) for name, part in gpu.parts.items() if part.high]


def chart(plan: Plan) -> str:
    """A bar for each kind of GPU: its parts, a whisker for the least and the most of all together, a mark where the memory ends."""
    bars = []
    for gpus in alike(plan):
        gpu = gpus[0]
        pieces = [*_parts(gpu), *([("spare", gpu.spare_bytes)] if gpu.spare_bytes > 0 else [])]
        # Where parts alone are too much, the bar passes the mark; where an engine's pool is too small, nothing in it would show that.
        if gpu.spare_bytes < 0 and gpu.used_bytes + gpu.total_bytes <= gpu.capacity_bytes:
            pieces.append(("missing", -gpu.spare_bytes))
        low, high = (gpu.used_bytes + sum(getattr(part, end) for _, part in gpu.parts.items()) for end in ("low", "high"))
        bars.append(
            Bar(
                label=_called(gpus, plan),
                pieces=tuple((name, size / GIB) for name, size in pieces),
                text=f"{gib(gpu.used_bytes + gpu.total_bytes)} of {gib(gpu.capacity_bytes)}",
                band=(low / GIB, high / GIB),
                room=gpu.capacity_bytes / GIB,
            )
        )
    told = "The whisker spans the least and the most that all parts together may take, the upright line is where the memory ends."
    return bar_chart(f"{plan.model.name} on {_fleet(plan)}", bars, axis=Axis(label="GiB of each GPU"), summary=told)


def report(plan: Plan, *, price: str = "") -> str:
    """The whole plan as one page; `price` is what its GPUs cost, in words."""
    words, _ = VERDICTS[plan.verdict]
    blocks = [
        paragraph(f"{words}: {verdict_reason(plan)}"),
        figure(chart(plan), "Whisker: least and most of all parts together. Upright line: all of the memory."),
    ]
    titles = ("part", "bytes", "least – most", "how it is known")
    for gpus in alike(plan):
        gpu = gpus[0]
        rows = [("in use", gib(gpu.used_bytes), "", "measured: other processes")] if gpu.used_bytes else []
        rows += [(TITLES[name], gib(part.bytes), band_words(part), f"{part.source}: {part.why}") for name, part in gpu.parts.items() if part.high]
        rows.append(("spare" if gpu.spare_bytes >= 0 else "missing", gib(abs(gpu.spare_bytes)), "", pool_reason(gpu)))
        blocks += [heading(_called(gpus, plan)), table(titles, rows, right=("bytes",))]
    if plan.host:
        rows = [(name.replace("_", " "), gib(part.bytes), band_words(part), f"{part.source}: {part.why}") for name, part in plan.host if part.high]
        blocks += [heading("In the host's memory"), paragraph(host_words(plan)), table(titles, rows, right=("bytes",))]
    told = [*limit_rows(plan), *speed_rows(plan)]
    if told:
        blocks += [heading("What it leaves, and how fast"), table(("", ""), told)]
    blocks.append(notes([f"{name}: {why}" for name, why in speed_remarks(plan)]))
    if price:
        blocks.append(paragraph(price))
    if plan.mends:
        mends, title = useful_mends(plan)
        tried = [
            (VERDICTS[m.verdict][0], m.flag, gib(m.gains_bytes), "" if m.max_context_tokens is None else f"{m.max_context_tokens:,}", m.why) for m in mends
        ]
        blocks += [
            heading(title[0].upper() + title[1:]),
            table(("", "add", "more spare", "context up to", "why"), tried, right=("more spare", "context up to")),
        ]
    blocks.append(notes(plan.notes))
    return page(f"{plan.model.name} on {_fleet(plan)}", blocks, lead=" · ".join([*model_facts(plan), *asked_facts(plan)]))
