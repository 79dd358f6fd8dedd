"""Costs as a person reads them: one table over all models, where the rent goes as a bar each, and why the dearest is dearer."""

from collections.abc import Sequence
from textwrap import wrap

from click import style

from vram.cli.render.bar import MARKS, Segment, cells
from vram.cli.render.table import table
from vram.costs.cost import Cost
from vram.costs.money import show_usd
from vram.errors import printable
from vram.speed.figure import Figure
from vram.units import gib

TITLES = ("model", "replicas", "seqs", "KV/token", "tok/s in", "out", "$/M in", "$/M out", "by VRAM-time", "idle")
BELOW = {"idle": "{} idle", "KV/token": "{} of KV a token", "by VRAM-time": "{} a million by VRAM-time", "seqs": "{} sequences"}
BAR_WIDTH = 50


def picture(costs: Sequence[Cost], width: int, *, table_columns: int = 0) -> str:
    """All costs in lines, with ANSI styles that the caller may strip; the table takes `table_columns`, 0: as many as it needs."""
    first = costs[0]
    lines = [*_head(first, width), "", table(TITLES, [row(c) for c in costs], right=TITLES[1:], width=table_columns, cut=("model",), below=BELOW)]
    if drawn := [c for c in costs if c.vram_time is not None]:
        lines += ["", style("where the rent goes, by bytes x time", bold=True), *_bars(drawn, width)]
    if told := why_dearer(drawn):
        lines += ["", *wrap(told, max(width, 40))]
    for note in remarks(costs):
        lines += [style(part, dim=True) for part in wrap(f"note: {note}", max(width, 40), subsequent_indent="  ")]
    return "\n".join(lines)


def remarks(costs: Sequence[Cost]) -> list[str]:
    """What a reader has to know besides: of each model, of its speed, and of prices that are missing; each once."""
    first = costs[0]
    told = [f"{short(c.model)}: {printable(n, 400)}" for c in costs for n in c.notes]
    told += [f"{short(c.model)}: {printable(c.why, 400)}" if c.round is None else _speed(c) for c in costs]
    return list(dict.fromkeys([*told, *([first.rent.hint] if first.rent.missing else [])]))


def one_line(cost: Cost) -> str:
    """A million input tokens, a million output tokens, and as of when; `unknown` where that is not known."""
    when = "; ".join(line.price.when for line in cost.rent.lines if line.price is not None) or (
        "as you state it" if cost.rent.whole is not None else "no price known"
    )
    return f"{printable(cost.model)}\t{_amount(cost.usd_per_million_input)}\t{_amount(cost.usd_per_million_output)}\t{when}"


def _amount(figure: Figure | None) -> str:
    return "unknown" if figure is None else f"{figure.value:.6g}"


def short(model: str) -> str:
    """A model's name without its publisher."""
    return printable(model.rstrip("/").rpartition("/")[2] or model, 60)


def _head(cost: Cost, width: int) -> list[str]:
    rent = "no price known" if cost.usd_per_hour is None else f"{show_usd(cost.usd_per_hour)}/hour"
    turn = cost.round
    asked = [rent]
    if turn is not None:
        asked.append(f"requests of {turn.prompt_tokens:,} + {turn.output_tokens:,} tokens")
    asked += [f"load {cost.load:.0%}", f"{cost.engine} engine"]
    named = printable(cost.fleet)
    lines = wrap(f"{named}  {' · '.join(asked)}", max(width, 40), subsequent_indent="  ")
    if lines[0].startswith(named):
        lines[0] = style(named, bold=True) + lines[0][len(named) :]
    sources = [(line.price.source if line.price is not None and line.price.as_of else "") for line in cost.rent.lines]
    for told, source in zip(cost.rent.told, sources, strict=False):
        lines += wrap(f"  {printable(told, 400)}", max(width, 40), subsequent_indent="    ")
        lines += [style(f"    {printable(source, 300)}", dim=True)] if source else []
    return lines


def row(cost: Cost) -> tuple[str, ...]:
    """One model's cells, under `TITLES`."""
    turn, parts = cost.round, cost.vram_time
    if turn is None or parts is None or cost.bytes is None:
        return (short(cost.model), cost.verdict.replace("_", " ") if not cost.replicas else _spread(cost), *["–"] * 8)  # the notes say why

    def dollars(figure: Figure | None) -> str:
        return "?" if figure is None else show_usd(figure.value)

    return (
        short(cost.model),
        _spread(cost),
        f"{turn.concurrency:,}",
        gib(cost.bytes.kv_per_token),
        f"{cost.input_tokens_per_second:,.0f}",
        f"{cost.output_tokens_per_second:,.0f}",
        dollars(cost.usd_per_million_input),
        dollars(cost.usd_per_million_output),
        dollars(cost.vram_time_usd_per_million_tokens),
        f"{parts.idle_share:.0%}",
    )


def _spread(cost: Cost) -> str:
    return f"{cost.replicas} of {cost.gpus_per_replica} GPU{'s' if cost.gpus_per_replica > 1 else ''}"


def _bars(costs: Sequence[Cost], width: int) -> list[str]:
    names = max(len(short(c.model)) for c in costs)
    # What stands behind a bar goes below it where there is no room for both.
    beside = width >= names + 84
    room = min(BAR_WIDTH, max(width - names - (60 if beside else 6), 20))
    lines = []
    for cost in costs:
        parts = cost.vram_time
        if parts is None:
            continue
        shares = (("weights", parts.weights_share, "weights"), ("working", parts.working_share, "activations"), ("caches", parts.kv_share, "kv_cache"))
        drawn = cells([Segment(round(share * 10**6), *MARKS[mark]) for _, share, mark in shares], 10**6, room)
        taken = sum(s.bytes for s in drawn)
        bar = "".join(style(s.mark * s.bytes, fg=s.color) for s in drawn) + style(MARKS["free"][0] * max(room - taken, 0), fg=MARKS["free"][1])
        told = ", ".join(f"{MARKS[mark][0]} {name} {share:.0%}" for name, share, mark in shares)
        told += f", {MARKS['free'][0]} idle {parts.idle_share:.0%}"
        head = f"  {short(cost.model):<{names}}  ▕{bar}▏"
        lines += [f"{head} {told}"] if beside else [head, " " * (names + 4) + told]
    return lines


def why_dearer(costs: Sequence[Cost]) -> str:
    """What makes the dearest of several models dear: the factors between it and the cheapest."""
    by_speed = sorted(costs, key=lambda c: (c.input_tokens_per_second or 0) + (c.output_tokens_per_second or 0))
    if len(by_speed) < 2:
        return ""
    dear, cheap = by_speed[0], by_speed[-1]
    a, b = dear.round, cheap.round
    if a is None or b is None or dear.bytes is None or cheap.bytes is None:
        return ""
    tokens = ((cheap.input_tokens_per_second or 0) + (cheap.output_tokens_per_second or 0)) / (
        (dear.input_tokens_per_second or 1) + (dear.output_tokens_per_second or 0)
    )
    if tokens < 1.005:
        return ""
    facts = [f"{dear.gpus_per_replica / cheap.gpus_per_replica:.3g} x the GPUs a replica"] if dear.gpus_per_replica != cheap.gpus_per_replica else []
    facts.append(f"{dear.bytes.weights / dear.replicas / (cheap.bytes.weights / cheap.replicas):.2g} x the weights")
    if cheap.bytes.kv_per_token:
        facts.append(f"{dear.bytes.kv_per_token / cheap.bytes.kv_per_token:.2g} x the cache a token")
    facts += [f"{a.prefill_seconds / b.prefill_seconds:.2g} x the time a prompt", f"{a.step_seconds / b.step_seconds:.2g} x the time a step"]
    if a.concurrency != b.concurrency:
        facts.append(f"steps for {a.concurrency:,} sequences, not {b.concurrency:,}")
    return f"A token of {short(dear.model)} costs {tokens:.3g} x one of {short(cheap.model)} on the same GPUs: {', '.join(facts)}."


def _speed(cost: Cost) -> str:
    prompts, answers = cost.doubt
    return f"speed: {printable(cost.why, 300)}; $/M in may be off by a factor of {prompts:.2g}, $/M out of {answers:.2g}"
