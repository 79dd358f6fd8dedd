"""`make truth`: holds the program against the measured rows and writes REPORT.md and its pictures, report/*.svg."""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import found
import llama_tables
import speed_tables
from peers import KV_RULES, even_weights, llm_d_pool

from vram.accuracy.check import Checked, check
from vram.accuracy.comparison import Comparison, Quantity
from vram.accuracy.row import Row, parse_rows
from vram.accuracy.subject import as_measured, gpu_of
from vram.accuracy.summary import Line, line_of, percentile, table
from vram.cli.accuracy import loader
from vram.cli.render.axis import Axis
from vram.cli.render.svg import Series, line_chart
from vram.errors import VramError
from vram.units import GIB

HERE = Path(__file__).parent
FILES = ("engine_logs.jsonl", "sglang_startups.jsonl", "tensorrt_llm_startups.jsonl", *found.FILES)
NAMES = {
    Quantity.WEIGHTS: "weights per GPU",
    Quantity.KV_GIVEN_POOL: "KV tokens or concurrency, measured pool given",
    Quantity.KV_POOL: "KV pool from settings alone",
    Quantity.KV_TOKENS: "KV tokens from settings alone",
    Quantity.CONCURRENCY: "concurrency from settings alone",
    Quantity.OTHER: "activations + non-torch + graphs",
    Quantity.TOTAL: "total",
}
# What the program has set itself: quantity, settings printed or guessed, median, the other percentile and its share.
BARS = (
    (Quantity.WEIGHTS, "", 0.003, 0.9, 0.02),
    (Quantity.KV_GIVEN_POOL, "", 0.0005, 0.95, 0.01),
    (Quantity.KV_POOL, "printed", 0.005, 0.9, 0.02),
    (Quantity.KV_POOL, "guessed", 0.02, 0.9, 0.06),
    (Quantity.OTHER, "printed", 0.1, 0.9, 0.5),
    (Quantity.OTHER, "guessed", 0.3, 0.9, 1.0),
)
MAIN = (Quantity.WEIGHTS, Quantity.KV_POOL, Quantity.OTHER)


@dataclass(frozen=True)
class Result:
    """All rows and what came of them."""

    rows: dict[str, Row]
    checked: Checked
    digest: str


def digest_of() -> str:
    """Of the rows and of every config that they name."""
    total = hashlib.sha256()
    for path in [
        *(HERE / f for f in FILES if (HERE / f).exists()),
        HERE / "found_first.json",
        *(HERE / "llama_cpp" / name for name in ("dry_runs.jsonl", "gpu_logs.jsonl")),
        *sorted((HERE / "speed").glob("*.json*")),
        *sorted((HERE / "configs").glob("*/config.json")),
    ]:
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def result() -> Result:
    rows = [r for f in FILES if (HERE / f).exists() for r in parse_rows((HERE / f).read_bytes().split(b"\n"))]
    return Result(rows={r.id: r for r in rows if isinstance(r, Row)}, checked=check(rows, loader(HERE, online=False)), digest=digest_of())


def shown(value: float, unit: str) -> str:
    return f"{value:.3f} GiB" if unit == "GiB" else f"{value:.3%}"


def unit_of(quantity: Quantity) -> str:
    return "GiB" if quantity is Quantity.OTHER else "ratio"


def lines_table(lines: Iterable[Line]) -> list[str]:
    out = [
        "| engine | per GPU | settings | n | median | p90 | p95 | max | worst row | inside its band | width of the band |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for x in lines:
        errors = " | ".join(shown(e, x.unit) for e in (x.median, x.p90, x.p95, x.worst))
        out.append(f"| {x.engine} | {NAMES[x.quantity]} | {x.settings} | {x.n} | {errors} | {x.worst_id} | {x.inside:.1%} | {x.width:.1%} |")
    return out


def some(every: Iterable[Comparison], quantity: Quantity, settings: str = "") -> list[Comparison]:
    return [c for c in every if c.quantity is quantity and (not settings or c.settings_printed is (settings == "printed"))]


def bars(checked: Checked) -> list[str]:
    out = ["| quantity | settings | n | bar | median | and | reached |", "|---|---|---|---|---|---|---|"]
    for quantity, settings, median, share, high in BARS:
        errors = sorted(c.error for c in some(checked.comparisons, quantity, settings))
        at, tail = percentile(errors, 0.5), percentile(errors, share)
        unit = unit_of(quantity)
        met = "yes" if at <= median and tail <= high else "**no**"
        label = f"p{share * 100:.0f}"
        out.append(
            f"| {NAMES[quantity]} | {settings} | {len(errors)} | median {shown(median, unit)}, {label} {shown(high, unit)} | {shown(at, unit)} | {label} {shown(tail, unit)} | {met} |"
        )
    rows: dict[str, bool] = {}
    for c in checked.comparisons:
        rows[c.id] = rows.get(c.id, True) and c.inside
    parts = [c for c in checked.comparisons if c.quantity in MAIN]
    width = percentile(sorted(c.width for c in parts), 0.5)
    whole = sum(rows.values()) / max(len(rows), 1)
    met = "yes" if whole >= 0.95 and width <= 0.08 else "**no**"
    out.append(
        f"| rows with every figure inside its stated band | | {len(rows)} | 95 % of them, median width of weights, pool and rest 8 % of the total | {whole:.1%} | width {width:.1%} | {met} |"
    )
    held = sum(c.inside for c in checked.comparisons) / max(len(checked.comparisons), 1)
    out.append(f"| single figures inside their band | | {len(checked.comparisons)} | | {held:.1%} | | |")
    judged = [f for f in checked.failures if f.verdict]
    wrong = [f for f in judged if f.verdict == "fits"]
    out.append(f"| starts that ran out of memory and are judged `fits` | | {len(judged)} | 0 | {len(wrong)} | | {'yes' if not wrong else '**no**'} |")
    return out


def left_out() -> dict[str, frozenset[str]]:
    """Families that no constant of an engine was fitted to, by engine."""
    places = (("vllm", "vllm.constants"), ("sglang", "sglang.constants"), ("tensorrt-llm", "tensorrt_llm"))
    return {engine: import_module(f"vram.engines.{place}").FAMILIES_LEFT_OUT for engine, place in places}


def families(checked: Checked) -> list[str]:
    out = []
    for engine, names in left_out().items():
        mine = [c for c in checked.comparisons if c.engine == engine]
        out += ["", "| engine | per GPU | settings | fitted: n, median, p90 | never fitted to: n, median, p90 |", "|---|---|---|---|---|"]
        for line in table(mine):
            group = some(mine, line.quantity, line.settings)
            cells = []
            for held in (False, True):
                part = [c for c in group if (c.family in names) is held]
                x = line_of(engine, line.quantity, line.settings, part) if part else None
                cells.append(f"{x.n}, {shown(x.median, x.unit)}, {shown(x.p90, x.unit)}" if x else "0")
            out.append(f"| {engine} | {NAMES[line.quantity]} | {line.settings} | {cells[0]} | {cells[1]} |")
        every = {c.family for c in mine}
        out += ["", f"{engine}: {len(every & names)} of {len(every)} families were never used to set a constant: {', '.join(sorted(every & names))}."]
    return out[1:]


def reason(c: Comparison, row: Row) -> str:
    """Why a figure may lie outside its band: what the row itself says first, then what is known of its kind."""
    words = []
    if row.note:
        words.append(row.note)
    if "sibling" in row.config_relation:
        words.append("the config is a sibling's")
    if "unquantised" in row.config_relation:
        words.append("the config is the unquantised base's: which layers stayed in 16 bits is assumed")
    if not row.engine_version_known:
        words.append(f"version given as {row.version_text or 'nothing'!r}: the newest rules were used")
    if c.quantity in {Quantity.KV_POOL, Quantity.KV_TOKENS, Quantity.CONCURRENCY, Quantity.OTHER, Quantity.TOTAL} and not c.settings_printed:
        words.append("settings were not printed: the version's defaults are assumed")
    if "MI3" in row.gpu:
        words.append("ROCm: kernels pad weights by build")
    if any(w in row.gpu for w in ("GB10", "Orin", "gfx1151")):
        words.append("unified memory: other processes and the page cache are counted")
    return "; ".join(words) or "not explained"


def beyond(every: Iterable[Comparison], rows: dict[str, Row]) -> list[str]:
    out = ["| row | engine | per GPU | measured | planned | band | suspected reason |", "|---|---|---|---|---|---|---|"]
    order = list(Quantity)
    for c in sorted((c for c in every if not c.inside), key=lambda c: (c.engine, order.index(c.quantity), -c.error, c.id)):
        counts = c.quantity in {Quantity.KV_GIVEN_POOL, Quantity.KV_TOKENS, Quantity.CONCURRENCY}
        f = (lambda v: f"{v:,.2f}".rstrip("0").rstrip(".")) if counts else (lambda v: f"{v / GIB:.2f} GiB")
        why = reason(c, rows[c.id]).replace("|", "/").replace("\n", " ")
        out.append(f"| {c.id} | {c.engine} | {NAMES[c.quantity]} | {f(c.measured)} | {f(c.predicted)} | {f(c.low)} – {f(c.high)} | {why} |")
    return out


def peers(r: Result) -> list[str]:
    """Published rules of others beside ours, on the rows where both give a figure."""
    load = loader(HERE, online=False)
    ours = {(c.id, c.quantity): c.error for c in r.checked.comparisons}
    errors: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def put(tool: str, quantity: Quantity, row: Row, predicted: float, measured: float) -> None:
        mine = ours.get((row.id, quantity))
        if mine is not None and measured:
            errors.setdefault((NAMES[quantity], tool), []).append((abs(predicted - measured) / abs(measured), mine))

    for row in r.rows.values():
        if row.flag or not row.engine.startswith("vllm"):
            continue
        try:
            model = as_measured(load(row), row)
        except VramError:
            continue
        if "weights" in row.measured:
            put("even split (accelerate, hf-mem, llm-d-planner)", Quantity.WEIGHTS, row, even_weights(model, row), row.measured["weights"].bytes)
        gpu, known = gpu_of(row)
        pool = row.measured.get("kv_cache")
        if pool is not None and pool.gib > 0 and known and row.utilization and not row.failure:
            put("llm-d-planner", Quantity.KV_POOL, row, llm_d_pool(model, row, gpu.engine_total_bytes), pool.bytes)
        tokens, length = row.counts.get("max_concurrency"), row.concurrency_tokens
        if pool is not None and pool.gib > 0 and tokens and length and model.layers:
            for tool, rule in KV_RULES.items():
                one = rule(model, row, length)
                if one:
                    put(tool, Quantity.KV_GIVEN_POOL, row, pool.bytes / one, tokens)
    out = ["| per GPU | rule | n | its median | its p90 | its max | ours: median | p90 | max |", "|---|---|---|---|---|---|---|---|---|"]
    for (quantity, tool), pairs in sorted(errors.items()):
        cells = []
        for which in (0, 1):
            values = sorted(p[which] for p in pairs)
            cells += [f"{percentile(values, 0.5):.2%}", f"{percentile(values, 0.9):.2%}", f"{values[-1]:.1%}"]
        out.append(f"| {quantity} | {tool} | {len(pairs)} | {' | '.join(cells)} |")
    return out


def picture(title: str, groups: list[tuple[str, list[float]]], unit: str) -> str:
    """Share of rows (upwards) whose error is at most so large (to the right, each grid line ten times the last)."""

    def label(error: float) -> str:
        if unit == "GiB":
            return f"{error:g}" if error >= 1e-4 else f"{error:.0e}"
        return f"{error:.3%}" if error < 1e-3 else f"{error:.0%}" if error >= 1e-2 else f"{error:.1%}"

    across = Axis(
        label="error at most, GiB" if unit == "GiB" else "error at most", show=label, log=True, low=1e-5, high=10, ticks=(1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10)
    )
    upright = Axis(label="share of rows", show="{:.0%}".format, low=0, high=1, ticks=(0, 0.25, 0.5, 0.75, 0.9, 1))
    series = []
    for name, errors in groups:
        n = len(errors)
        points = [(across.low, 0.0), *((e, (k + 1) / n) for k, e in enumerate(sorted(errors))), (across.high, 1.0)]
        series.append(Series(name=name, note=f"{n} rows", points=points, step=True))
    return line_chart(title, series, x=across, y=upright)


def pictures(checked: Checked) -> dict[str, str]:
    """File name -> picture."""
    out = {}
    for engine in sorted({c.engine for c in checked.comparisons}):
        mine = [c for c in checked.comparisons if c.engine == engine]
        for unit, file in (("ratio", "ratio"), ("GiB", "gib")):
            groups = []
            for line in table(mine):
                if line.unit == unit and line.n >= 3:
                    name = NAMES[line.quantity].replace(", measured pool given", " (pool given)").replace(" from settings alone", "")
                    groups.append((f"{name}{f', {line.settings}' if line.settings else ''}", [c.error for c in some(mine, line.quantity, line.settings)]))
            if groups:
                slug = engine.replace(".", "-")
                title = f"{engine}: errors in {'GiB' if unit == 'GiB' else 'shares of the measured figure'}"
                out[f"{slug}-{file}.svg"] = picture(title, groups, unit)
    return out


def report(r: Result, images: dict[str, str]) -> str:
    c = r.checked
    compared = {x.id for x in (*c.comparisons, *c.flagged_comparisons)}
    out = [
        "# How far plans are from what engines printed",
        "",
        "Written by `make truth` (truth/report.py) from the rows beside it; README.md says what a row holds. Nothing in here is",
        "written by hand, and no row is left out: each is in a table, or listed with the reason why it could not be.",
        "",
        f"- rows: {c.rows}, of which {len(compared)} have a figure beside its plan and {len(c.flagged)} are no evidence (listed below)",
        f"- digest of the rows, their configs and llama.cpp's runs: `{r.digest}`",
        "",
        "## What was to be reached",
        "All engines together; `printed` are rows whose log shows every setting that shapes the budget, `guessed` the others.",
        "",
        *bars(c),
        "",
        "## Per engine and quantity",
        *lines_table(table(c.comparisons)),
        "",
    ]
    out += [f"![{name}](report/{name})" for name in images]
    out += ["", "## Speeds", *speed_tables.section(), ""]
    out += ["", "## Rows found after the rules were set", *found.section(c, NAMES), ""]
    out += ["## llama.cpp's buffers", *llama_tables.section(), ""]
    out += ["## Families that set no constant", *families(c), ""]
    out += ["## Starts that ran out of memory", "| row | engine | how it is known | verdict of the plan |", "|---|---|---|---|"]
    out += [f"| {f.id} | {f.engine} | {f.how} | {f.verdict.replace('_', ' ') or f'not judged: {f.reason}'} |" for f in c.failures]
    out += ["", "## Figures outside their band", *beyond(c.comparisons, r.rows), ""]
    out += [
        "## Rules of other tools on the same rows",
        "Formulas as published (truth/peers.py cites them), vLLM rows only: hf-mem and accelerate read weights from safetensors",
        "headers, which a config does not have; our own bytes from the config, split evenly, stand in for them. llmfit (its own",
        "catalogue), AIConfigurator (its own measured database) and LM Studio (closed) cannot be run as formulas.",
        "",
        *peers(r),
        "",
    ]
    out += ["## Rows that are no evidence", "Mislabelled, inconsistent or circular: counted apart.", "", "| row | engine | why |", "|---|---|---|"]
    out += [f"| {u.id} | {u.engine} | {u.reason.replace('|', '/')} |" for u in c.flagged]
    out += ["", *lines_table(table(c.flagged_comparisons)), ""]
    out += ["## Starts that failed for another reason", *(f"- {u.id}: {u.reason}" for u in c.failed_otherwise), ""]
    for title, unread in (
        ("Rows that could not be read", [u for u in c.unread if not u.quantity]),
        ("Figures that could not be compared", [u for u in c.unread if u.quantity]),
    ):
        reasons: dict[str, list[str]] = {}
        for u in unread:
            reasons.setdefault(f"{u.quantity}: {u.reason}" if u.quantity else u.reason, []).append(u.id)
        out += [f"## {title}", *(f"- {why}: {', '.join(ids)}" for why, ids in sorted(reasons.items())), ""]
    return "\n".join(line.rstrip() for line in out).rstrip() + "\n"


def main() -> None:
    r = result()
    images = pictures(r.checked)
    folder = HERE / "report"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        if old.name not in images:
            old.unlink()
    for name, text in images.items():
        (folder / name).write_text(text, encoding="utf-8")
    (HERE / "REPORT.md").write_text(report(r, images), encoding="utf-8")
    print("\n".join([*bars(r.checked), "", *speed_tables.bars()]))
    print(f"wrote {HERE / 'REPORT.md'} and {len(images)} pictures")


if __name__ == "__main__":
    sys.exit(main())
