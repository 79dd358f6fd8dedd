"""A plan as a person reads it: a bar per GPU, its parts with their bands, the verdict, the limits, and what would mend it.

Drawn with click's styles alone: a table library would cost more start-up time than the whole plan.
"""

from textwrap import wrap
from typing import TYPE_CHECKING

from click import style

from vram.cli.render.bar import MARKS, Segment, cells
from vram.errors import printable
from vram.memory.part import Part
from vram.model.model import Model
from vram.planner.plan import GpuPlan, Plan, Verdict
from vram.speed.figure import Figure
from vram.units import count, gib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vram.planner.mends import Mend

TITLES = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "activations": "activations",
    "cuda_graphs": "CUDA graphs",
    "runtime": "runtime",
    "communication": "communication",
}
VERDICTS = {
    Verdict.FITS: ("✔ fits", "green"),
    Verdict.TIGHT: ("~ tight", "yellow"),
    Verdict.DOES_NOT_FIT: ("✘ does not fit", "red"),
}
SOURCES = {"header": "from the files' headers", "config": "from config.json", "catalogue": "from the built-in catalogue"}
BAR_WIDTH = 60
NARROW = 28


def picture(plan: Plan, width: int, *, price: str = "") -> str:
    """The plan in lines of at most about `width` columns, with ANSI styles that the caller may strip; `price` is what its GPUs cost, in words."""
    lines = [*_head(plan, width), ""]
    for gpus in alike(plan):
        lines += [*_gpu(gpus, plan, width), ""]
    if plan.host:
        lines += [*_hanging("host memory  ", host_words(plan), width), ""]
    lines += _verdict(plan, width)
    for name, told in (*limit_rows(plan), *(speed_rows(plan) if plan.speed is not None else ())):
        lines += [row.rstrip() for row in wrap(f"  {name:<15}  {told}", max(width, 40), subsequent_indent=" " * 19, break_on_hyphens=False)]
    for name, told in speed_remarks(plan) if plan.speed is not None else speed_rows(plan):
        lines += _hanging(f"  {name:<15}  ", told, width)
    lines += _price(price, width)
    for note in plan.notes:
        lines += _hanging("note: ", printable(note, 600), width)
    if plan.mends:
        lines += ["", *_mends(plan, width)]
    return "\n".join(lines)


def _dim(text: str) -> str:
    return style(text, dim=True)


def _hanging(head: str, text: str, width: int) -> list[str]:
    """`text` behind `head`, wrapped under itself."""
    rows = wrap(text, max(width - len(head), 24)) or [""]
    return [_dim((head if i == 0 else " " * len(head)) + row) for i, row in enumerate(rows)]


def model_facts(plan: Plan) -> list[str]:
    """What the model is, each in a few words."""
    model = plan.model
    facts = [f"{count(model.parameters)} parameters"]
    if model.active_parameters != model.parameters:
        facts.append(f"{count(model.active_parameters)} active")
    return [*facts, printable(model.quantization or _type(model), 60), f"{gib(model.weight_bytes)} of weights", SOURCES[model.source]]


def asked_facts(plan: Plan) -> list[str]:
    """What it is planned for, each in a few words."""
    model, w = plan.model, plan.workload
    many = "1 sequence" if w.concurrency == 1 else f"{w.concurrency:,} sequences"
    asked = [f"{many} of {w.context_tokens:,} tokens"] if model.geometry.hidden_size else []
    if model.layers:
        asked.append(f"KV cache {w.kv_dtype}")
    asked.append(f"{plan.engine} {printable(plan.settings.version, 40)} engine" if plan.settings.version else f"{plan.engine} engine")
    if len(plan.gpus) > 1:
        asked.append(plan.placement.label)
    return asked


def _head(plan: Plan, width: int) -> list[str]:
    model = plan.model
    read = _dim(f" ({gib(model.bytes_read)} read)") if model.bytes_read else ""
    named = printable(model.name)
    lines = wrap(f"{named}  {' · '.join(model_facts(plan))}", max(width, 40), subsequent_indent="  ")
    if lines[0].startswith(named):
        lines[0] = style(named, bold=True) + lines[0][len(named) :]
    lines[-1] += read
    return [*lines, *wrap(" · ".join(asked_facts(plan)), max(width, 40))]


def _type(model: Model) -> str:
    """The type of most of the weights, which is not always the one that the config names."""
    formats = model.bytes_by_format
    return max(formats, key=lambda name: formats[name]).lower() if formats else model.dtype.name.lower()


def alike(plan: Plan) -> list[list[GpuPlan]]:
    """GPUs that hold the same, together: eight equal bars tell no more than one."""
    groups: dict[object, list[GpuPlan]] = {}
    for gpu in plan.gpus:
        groups.setdefault((gpu.name, gpu.capacity_bytes, gpu.used_bytes, gpu.parts), []).append(gpu)
    return list(groups.values())


def _bar(gpu: GpuPlan, width: int) -> str:
    segments = [Segment(gpu.used_bytes, *MARKS["used"])] + [Segment(part.bytes, *MARKS[name]) for name, part in gpu.parts.items()]
    whole = max(gpu.capacity_bytes, gpu.used_bytes + gpu.total_bytes)
    room, taken, out = width * gpu.capacity_bytes // whole, 0, ""
    for n, mark, color in cells(segments, whole, width):
        inside = max(min(n, room - taken), 0)
        out += style(mark * inside, fg=color) if inside else ""
        out += style(MARKS["over"][0] * (n - inside), fg=MARKS["over"][1]) if n > inside else ""
        taken += n
    return out + style(MARKS["free"][0] * max(width - taken, 0), fg=MARKS["free"][1])


def _gpu(gpus: list[GpuPlan], plan: Plan, width: int) -> list[str]:
    gpu = gpus[0]
    title = style(f"{len(gpus)} × {gpu.name}" if len(gpus) > 1 else gpu.name, bold=True)
    if plan.placement.pp > 1:
        title += _dim(f"  stage {gpu.stage + 1} of {plan.placement.pp}")
    sizes = f"{gib(gpu.used_bytes + gpu.total_bytes)} of {gib(gpu.capacity_bytes)}{' each' if len(gpus) > 1 else ''}"
    if gpu.usable_bytes < gpu.capacity_bytes - gpu.used_bytes:
        sizes += f", {gib(gpu.usable_bytes)} usable"
    bar = f"  ▕{_bar(gpu, min(BAR_WIDTH, max(width - len(sizes) - 6, 20)))}▏ {sizes}"
    rows: list[tuple[str, str, str, str, str, str]] = []
    if gpu.used_bytes:
        rows.append((*MARKS["used"], "in use", gib(gpu.used_bytes), "", "measured: other processes"))
    for name, part in gpu.parts.items():
        if part.high:
            rows.append((*MARKS[name], TITLES[name], gib(part.bytes), band_words(part), f"{part.source}: {printable(part.why, 300)}"))
    spare = gpu.spare_bytes
    rows.append((*MARKS["free" if spare >= 0 else "over"], "spare" if spare >= 0 else "missing", gib(abs(spare)), "", pool_reason(gpu)))
    title_width, size_width, band_width = (max(len(row[i]) for row in rows) for i in (2, 3, 4))
    lines = [title, bar]
    for mark, color, name, size, band, why in rows:
        head = f"  {name:<{title_width}}  {size:>{size_width}}  {band:<{band_width}}  "
        beside = width - len(head) - 3
        if beside < NARROW:  # a reason goes below its part where there is no room beside it
            lines.append(f"  {style(mark, fg=color)}{head}".rstrip())
            lines += [" " * 5 + _dim(row) for row in wrap(why, max(width - 5, NARROW))]
            continue
        reasons = wrap(why, beside) or [""]
        lines.append(f"  {style(mark, fg=color)}{head}{_dim(reasons[0])}".rstrip())
        lines += [" " * (len(head) + 3) + _dim(more) for more in reasons[1:]]
    return lines


def pool_reason(gpu: GpuPlan) -> str:
    """How much of an engine's KV pool is needed; empty where it has none."""
    if gpu.pool is None or not (gpu.pool.bytes or gpu.kv_needed_bytes):
        return ""
    if gpu.kv_needed_bytes > gpu.pool.bytes:
        return f"{gib(gpu.kv_needed_bytes)} are needed, the pool has {gib(gpu.pool.bytes) if gpu.pool.bytes else 'none'}"
    return f"{gib(gpu.kv_needed_bytes)} of the pool's {gib(gpu.pool.bytes)} are needed"


def host_words(plan: Plan) -> str:
    """What lies in the host's memory, and the least and the most that it may be."""
    low, high = sum(p.low for _, p in plan.host), sum(p.high for _, p in plan.host)
    told = ", ".join(f"{name.replace('_', ' ')} {gib(p.bytes)}" for name, p in plan.host if p.bytes)
    return f"{gib(sum(p.bytes for _, p in plan.host))} ({gib(low)} – {gib(high)}): {told}"


def band_words(part: Part) -> str:
    """The least and the most of a part, in words."""
    return "exact" if part.low == part.high else f"{gib(part.low)} – {gib(part.high)}"


def _verdict(plan: Plan, width: int) -> list[str]:
    words, color = VERDICTS[plan.verdict]
    lines = wrap(f"{words}  {verdict_reason(plan)}", max(width, 40), subsequent_indent="  ")
    return [style(words, fg=color, bold=True) + lines[0][len(words) :], *lines[1:]]


def verdict_reason(plan: Plan) -> str:
    """What the verdict rests on, in a few words."""
    worst = min(plan.gpus, key=lambda g: g.spare_bytes)
    over = max(g.short_bytes for g in plan.gpus)
    if plan.verdict is Verdict.DOES_NOT_FIT:
        return f"{gib(-worst.spare_bytes)} too much on {worst.name}"
    if plan.verdict is Verdict.FITS:
        return f"even if every part takes its most; {gib(plan.spare_bytes)} to spare as expected"
    if not plan.model.caches_known:
        return "what is known fits; the KV cache is not known"
    if over > 0:
        return f"as expected it fits, but if every part took its most it would be {gib(over)} short"
    return f"less than {plan.headroom:.0%} above the weights would stay free (--headroom)"


def limit_rows(plan: Plan) -> list[tuple[str, str]]:
    """What the plan leaves room for: names and figures; none where nothing is kept."""
    limits, pool, cache = plan.limits, plan.kv_pool, plan.cache
    if not cache.bytes_per_sequence or limits.max_concurrency is None:
        return []
    at = "1 sequence" if plan.workload.concurrency == 1 else f"{plan.workload.concurrency:,} sequences"
    why = ", all that the model was made for" if limits.context_bound_by == "model" else ""
    growth = f"{gib(cache.bytes_per_token)} per token" if cache.bytes_per_token else "no growth per token at this length"
    state = f", of which {gib(cache.state_bytes_per_sequence)} state" if cache.state_bytes_per_sequence else ""
    longest = "any: nothing grows with it" if limits.max_context_tokens is None else f"{limits.max_context_tokens:,} tokens for {at}{why}"
    rows = [
        ("longest context", longest),
        ("most sequences", f"{limits.max_concurrency:,} of {plan.workload.context_tokens:,} tokens"),
        ("KV cache", f"{growth}, {gib(cache.bytes_per_sequence)} per sequence{state}"),
    ]
    if pool.capacity_tokens is not None and cache.bytes_per_token:
        rows.append(("room for caches", f"{gib(pool.bytes_per_gpu)}{' per GPU' if len(plan.gpus) > 1 else ''} = {pool.capacity_tokens:,} tokens"))
    return rows


def speed_rows(plan: Plan) -> list[tuple[str, str]]:
    """One sequence alone, the planned concurrency, the first token: names and figures; a reason where nothing is known."""
    speed = plan.speed
    if speed is None:
        # That it does not fit is said already.
        return [] if plan.verdict is Verdict.DOES_NOT_FIT or not plan.model.layers else [("speed", f"not known: {plan.speed_unknown}")]
    total, tpot = speed.decode_total_tokens_per_second, speed.tpot_seconds
    rows = [("one alone", f"{_rate(speed.decode_tokens_per_second)} tokens/s")]
    if speed.concurrency > 1:
        rows.append((f"{speed.concurrency:,} at a time", f"{_rate(total)} tokens/s in all, {_span(tpot)} a token"))
    if speed.ttft_seconds is not None:
        rows.append(("first token", f"{_span(speed.ttft_seconds)} after a prompt of {speed.prompt_tokens:,} tokens, nothing else running"))
    return rows


def speed_remarks(plan: Plan) -> list[tuple[str, str]]:
    """What binds, and where the figures of `speed_rows` come from."""
    speed = plan.speed
    if speed is None:
        return []
    alone = speed.decode_tokens_per_second
    rows = [("drafts", "not counted in these speeds: how many are kept depends on what is written")] if plan.settings.draft is not None else []
    return [*rows, ("turning point", speed.crossover_why), ("speeds from", printable(f"{alone.source}: {alone.why}", 300))]


def _rate(figure: Figure) -> str:
    return f"{_digits(figure.value)} ({_digits(figure.low)} – {_digits(figure.high)})"


def _digits(value: float) -> str:
    """Two digits that mean something, three from a hundred on."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _span(figure: Figure) -> str:
    unit, factor = ("s", 1.0) if figure.value >= 1 else ("ms", 1e3)
    return f"{_digits(figure.value * factor)} {unit} ({_digits(figure.low * factor)} – {_digits(figure.high * factor)})"


def _price(price: str, width: int) -> list[str]:
    return wrap(f"  price            {printable(price, 600)}", max(width, 40), subsequent_indent=" " * 19) if price else []


def useful_mends(plan: Plan) -> "tuple[Sequence[Mend], str]":
    """What is worth showing of what was tried, and what to call it: what still does not fit only where nothing does."""
    works = [m for m in plan.mends if m.verdict is not Verdict.DOES_NOT_FIT]
    return works or plan.mends, "what would mend it, the gentlest of what works first" if works else "nothing tried makes it fit; what comes nearest"


def _mends(plan: Plan, width: int) -> list[str]:
    useful, title = useful_mends(plan)
    rows = [(m, VERDICTS[m.verdict], f"{gib(m.gains_bytes)} more spare") for m in useful]
    words, flags, gains = (max(len(t) for t in column) for column in ([v[0] for _, v, _ in rows], [m.flag for m, _, _ in rows], [g for _, _, g in rows]))
    lines = [style(title, bold=True)]
    for m, (word, color), gain in rows:
        head = f"  {word:<{words}}  {m.flag:<{flags}}  {gain:>{gains}}  "
        why = m.why if m.max_context_tokens is None else f"{m.why}; context up to {m.max_context_tokens:,}"
        shown = f"  {style(f'{word:<{words}}', fg=color)}  {style(f'{m.flag:<{flags}}', bold=True)}  {gain:>{gains}}  "
        if width - len(head) < NARROW:
            lines += [shown.rstrip(), *(" " * 5 + _dim(row) for row in wrap(why, max(width - 5, NARROW)))]
            continue
        reasons = wrap(why, width - len(head))
        lines.append(shown + _dim(reasons[0]))
        lines += [" " * len(head) + _dim(more) for more in reasons[1:]]
    return lines
