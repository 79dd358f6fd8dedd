"""Choices as a person reads them: three lines each – what, how full and how fast, why – and the command that opens it."""

from itertools import groupby
from textwrap import wrap

from click import style

from vram.cli.render.bar import MARKS, Segment, cells
from vram.costs.money import show_usd
from vram.errors import printable
from vram.planner.choosing.choice import Choice, Miss, Pick
from vram.planner.choosing.helpers import rate_of
from vram.planner.plan import GpuPlan
from vram.units import count, gib

BAR_WIDTH = 20


def picture(found: Pick, width: int) -> str:
    """The answer in lines of at most about `width` columns, with ANSI styles that the caller may strip."""
    lines = [*_head(found, width), ""]
    for i, choice in enumerate(found.choices):
        lines += [*_choice(i + 1, choice, width, reads=found.ask.reads), ""]
    if not found.choices:
        lines += [style("✘ nothing fits that keeps to all of it", fg="red"), ""]
    if found.misses:
        lines.append(style("what would rank higher if it fitted" if found.choices else "what comes nearest", bold=True))
        for miss in found.misses:
            lines += _miss(miss, width)
        lines.append("")
    for note in found.notes:
        lines += _hanging("note: ", printable(note, 600), width)
    return "\n".join(lines).rstrip()


def cards(names: tuple[str, ...]) -> str:
    """`2x H100 SXM 80GB`."""
    runs = [(sum(1 for _ in run), name) for name, run in groupby(names)]
    return " + ".join(f"{n}x {name}" if n > 1 else name for n, name in runs)


def _dim(text: str) -> str:
    return style(text, dim=True)


def _hanging(head: str, text: str, width: int) -> list[str]:
    rows = wrap(text, max(width - len(head), 24), break_on_hyphens=False) or [""]
    return [_dim((head if i == 0 else " " * len(head)) + row) for i, row in enumerate(rows)]


def _head(found: Pick, width: int) -> list[str]:
    ask = found.ask
    title = (
        f"GPUs for {printable(found.model)}"
        if found.model and not found.fleet
        else f"{ask.need.value if ask.need else printable(found.model)} on {found.fleet}"
    )
    many = "1 sequence" if ask.concurrency == 1 else f"{ask.concurrency:,} sequences"
    words = [f"{many} of {ask.context_tokens:,} tokens"]
    if ask.min_tokens_per_second is not None:
        words.append(f"at least {ask.min_tokens_per_second:g} tokens/s each")
    if ask.budget_usd_per_hour is not None:
        words.append(f"at most {show_usd(ask.budget_usd_per_hour)} an hour")
    if ask.licences:
        words.append(f"licence {' or '.join(sorted(ask.licences))}")
    words += [f"{found.considered:,} to choose from, {found.planned:,} planned, {found.fitting:,} of them fit", f"by {ask.order.value}"]
    return [style(title, bold=True), *wrap(" · ".join(words), max(width, 40))]


def needed(gpu: GpuPlan) -> list[tuple[str, int]]:
    """What the workload takes of a card, by part: of a pool that takes all that is left, only what it needs."""
    parts = gpu.parts
    cache = gpu.kv_needed_bytes if gpu.pool is not None else parts.kv_cache.bytes
    rest = gpu.total_bytes - parts.weights.bytes - parts.kv_cache.bytes
    return [("used", gpu.used_bytes), ("weights", parts.weights.bytes), ("kv_cache", cache), ("activations", rest)]


def fullest(choice: Choice) -> GpuPlan:
    """The card with the least to spare."""
    return min(choice.cards, key=lambda g: g.spare_bytes)


def _bar(choice: Choice) -> str:
    gpu = fullest(choice)
    out, taken = "", 0
    for n, mark, color in cells([Segment(size, *MARKS[name]) for name, size in needed(gpu)], gpu.capacity_bytes, BAR_WIDTH):
        out += style(mark * n, fg=color)
        taken += n
    return f"▕{out}{style(MARKS['free'][0] * max(BAR_WIDTH - taken, 0), fg=MARKS['free'][1])}▏"


def _choice(number: int, choice: Choice, width: int, *, reads: bool) -> list[str]:
    head = f"{number:>2}  "
    placed = f" {choice.placement.label}" if choice.placement.gpus > 1 else ""
    what = f"{printable(choice.stored, 40)} · {choice.engine} · {cards(choice.gpus)}{placed}"
    title = [f"{head}{style(printable(choice.model), bold=True)}  {what}"]
    if len(head) + len(choice.model) + 2 + len(what) > width:
        title = [f"{head}{style(printable(choice.model), bold=True)}", *("    " + row for row in wrap(what, max(width - 4, 24)))]
    words = [f"{gib(choice.spare_bytes)} spare", *_limits(choice)]
    rate = rate_of(choice.speed, reads=reads)
    words.append("speed not known" if rate is None else f"{rate:,.0f} tokens/s read" if reads else f"{rate:,.3g} tokens/s{_band(choice)}")
    if choice.cost is None:
        words.append("price not known")
    else:
        million = choice.cost.usd_per_million_output_tokens
        words.append(f"{show_usd(choice.cost.usd_per_hour)} an hour" + (f", {show_usd(million)} per million tokens written" if million is not None else ""))
    facts = wrap(" · ".join(words), max(width - BAR_WIDTH - 8, 24), break_on_hyphens=False)
    lines = [*title, f"    {_bar(choice)}  {facts[0]}", *(" " * (BAR_WIDTH + 8) + row for row in facts[1:])]
    lines += _hanging("    ", choice.why.removesuffix("; price not known").removesuffix("; speed not known"), width)
    # A command is to be pasted: never wrapped.
    return [*lines, f"    {choice.command}"]


def _limits(choice: Choice) -> list[str]:
    limits = choice.limits
    words = []
    if limits.max_context_tokens:
        words.append(f"context up to {limits.max_context_tokens:,}")
    if limits.max_concurrency is not None and limits.max_concurrency < 10_000:
        words.append(f"up to {limits.max_concurrency:,} sequence{'' if limits.max_concurrency == 1 else 's'}")
    return words


def _band(choice: Choice) -> str:
    if choice.speed is None or choice.speed.concurrency != 1:
        return " each"
    figure = choice.speed.decode_tokens_per_second
    return f" ({figure.low:.3g} – {figure.high:.3g})"


def _miss(miss: Miss, width: int) -> list[str]:
    what = " · ".join(w for w in (printable(miss.model), miss.quant or "", miss.engine, cards(miss.gpus)) if w)
    mend = f"; would do: {miss.mend}" if miss.mend else ""
    return [f"  ✘ {row}" if i == 0 else f"    {row}" for i, row in enumerate(wrap(f"{what}: {miss.reason}{mend}", max(width - 4, 24), break_on_hyphens=False))]


def size(choice: Choice) -> str:
    """Parameters, total and active."""
    m = choice.merits
    return count(m.parameters) if m.active_parameters in {0, m.parameters} else f"{count(m.parameters)}, {count(m.active_parameters)} active"
