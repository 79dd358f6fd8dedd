"""Speeds held against measured rows, for REPORT.md: fitted and held-out errors apart, what is no evidence, what could not be read."""

import json
import math
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from vram.accuracy.check import Checked, check
from vram.accuracy.row import parse_rows
from vram.accuracy.speed_check import SpeedComparison
from vram.accuracy.speed_check import SpeedQuantity as Q
from vram.accuracy.subject import named_gpu
from vram.accuracy.summary import percentile, speed_table
from vram.cli.accuracy import _SPEEDS as TITLES
from vram.cli.accuracy import loader
from vram.speed.calibration import base_name
from vram.speed.table import CARDS

HERE = Path(__file__).parent / "speed"
FILES = ("batch_one.jsonl", "community.jsonl", "found.jsonl", "found_again.jsonl", "serving_tpot.jsonl", "serving_ttft.jsonl")
LOCAL = {"llama.cpp", "llamacpp", "ollama", "vllm"}
SERVED = (Q.TPOT_DENSE_SERVED, Q.TPOT_MOE_SERVED)
# What was set: name, engines (None: all), quantities, which errors, median, p90.
BARS = (
    ("one sequence, dense, llama.cpp and vLLM", LOCAL, (Q.DECODE_DENSE_ALONE,), "fitted", 0.07, 0.25),
    ("the same, its card left out, in every memory size", LOCAL, (Q.DECODE_DENSE_ALONE,), "card", 0.07, 0.25),
    ("time per output token, dense", None, (Q.TPOT_DENSE_SERVED,), "fitted", 0.10, None),
    ("time per output token, experts", None, (Q.TPOT_MOE_SERVED,), "fitted", 0.18, None),
    ("time per output token, its model left out", None, SERVED, "model", 0.20, None),
    ("prefill", None, (Q.PREFILL_DENSE, Q.PREFILL_MOE), "fitted", 0.25, None),
    ("time to first token", None, (Q.TTFT_DENSE_ALONE, Q.TTFT_MOE_ALONE, Q.TTFT_DENSE_SERVED, Q.TTFT_MOE_SERVED), "fitted", 0.25, None),
)


@cache
def checked() -> dict[str, Checked]:
    """What `vram accuracy` says of each file."""
    load = loader(HERE, online=False)
    return {name: check(parse_rows((HERE / name).read_bytes().splitlines()), load) for name in FILES}


def speeds() -> list[SpeedComparison]:
    return [c for x in checked().values() for c in x.speeds]


@cache
def record() -> dict[str, Any]:
    """fit.py's: logarithm of predicted over measured seconds by what was left out."""
    found: dict[str, Any] = json.loads((HERE / "held_out.json").read_text(encoding="utf-8"))
    return found


def error(c: SpeedComparison, logarithm: float) -> float:
    """As `vram accuracy` counts it: a share of the measured figure, which is a time or a rate."""
    time = c.quantity.startswith(("tpot", "ttft"))
    return abs(math.expm1(logarithm if time else -logarithm))


def held(found: list[SpeedComparison], left_out: str) -> list[float]:
    if left_out == "fitted":
        return sorted(c.error for c in found)
    # Servers' rows are fitted together, so for them a card left out is a system left out.
    logs = {**record()["system"], **record()["card"]} if left_out == "card" else record()[left_out]
    return sorted(error(c, logs[c.id]) for c in found if c.id in logs)


def bars() -> list[str]:
    out = ["| speed | rows | bar | median | p90 | reached |", "|---|---|---|---|---|---|"]
    for name, engines, quantities, left_out, median, p90 in BARS:
        errors = held([c for c in speeds() if c.quantity in quantities and (engines is None or c.engine in engines)], left_out)
        at, tail = percentile(errors, 0.5), percentile(errors, 0.9)
        bar = f"median {median:.0%}" + (f", p90 {p90:.0%}" if p90 else "")
        met = "yes" if at <= median and (p90 is None or tail <= p90) else "**no**"
        out.append(f"| {name} | {len(errors)} | {bar} | {at:.1%} | {tail:.1%} | {met} |")
    found = speeds()
    inside = sum(c.inside for c in found) / len(found)
    width = percentile(sorted(c.width for c in found), 0.5)
    out.append(f"| measured inside the stated band | {len(found)} | 90 % | {inside:.1%} | width {width:.0%} | {'yes' if inside >= 0.9 else '**no**'} |")
    return out


def section() -> list[str]:
    files = checked()
    rows = sum(x.rows for x in files.values())
    flagged = [u for x in files.values() for u in x.flagged]
    unread = [u for x in files.values() for u in x.unread]
    doubtful = [c for x in files.values() for c in x.flagged_speeds]
    out = [
        f"{rows:,} figures in truth/speed (README there: sources, licences, what is flagged and read anew): {len(speeds()):,} stand beside a",
        f"prediction, {len(flagged):,} are no evidence, {len(unread):,} could not be read. Errors are shares of the measured figure.",
        "",
        *bars(),
        "",
        "### Fitted, and with what is new left out",
        "All of a card's, a model's or a system's rows are left out, the constants are fitted to the rest, and the rows are predicted",
        "(truth/speed/fit.py). `as shipped` are the constants of the program, runs that lie in two dumps counted twice.",
        "",
        "| engine | speed | rows | as shipped: median | p90 | in band | width | card left out | model left out | system left out |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in speed_table(speeds()):
        mine = [c for c in speeds() if (c.engine, c.quantity) == (line.engine, line.quantity)]
        cells = []
        for left_out in ("card", "model", "system"):
            errors = held(mine, left_out)
            cells.append(f"{percentile(errors, 0.5):.1%}, p90 {percentile(errors, 0.9):.1%}" if errors else "")
        shipped = f"{line.median:.1%} | {line.p90:.1%} | {line.inside:.0%} | {line.width:.0%}"
        out.append(f"| {line.engine} | {TITLES[line.quantity]} | {line.n} | {shipped} | {' | '.join(cells)} |")
    out += ["", *own_bands(), "", *sources_differ(), *first_sight()]
    out += ["", "### No evidence, counted apart", "", "| why | rows |", "|---|---|"]
    out += [f"| {why} | {n} |" for why, n in Counter(short(u.reason) for u in flagged).most_common()]
    out += ["", "Their errors all the same:", "", "| engine | speed | rows | median | p90 |", "|---|---|---|---|---|"]
    out += [f"| {x.engine} | {TITLES[x.quantity]} | {x.n} | {x.median:.1%} | {x.p90:.1%} |" for x in speed_table(doubtful)]
    reasons: dict[str, list[str]] = defaultdict(list)
    for u in unread:
        reasons[short(u.reason)].append(u.id)
    out += ["", "### Could not be read", *(f"- {why}: {', '.join(ids)}" for why, ids in sorted(reasons.items(), key=lambda x: -len(x[1])))]
    return out


FIRST = ("found_first.json", "found_again_first.json", "configs_first.json")


def named() -> set[str]:
    """Rows whose model the catalogue did not have when they were entered: they name a config of truth/speed/configs."""
    rows = (json.loads(line) for name in FILES[:4] for line in (HERE / name).read_text(encoding="utf-8").splitlines())
    return {r["id"] for r in rows if r.get("config")}


def first_sight() -> list[str]:
    """What the constants said of rows that were entered before anything was held against them, beside what they say today."""
    rounds = [json.loads((HERE / name).read_text(encoding="utf-8")) for name in FIRST]
    told = "; ".join(f"the {r['rows']} of {r['file']} against the constants of commit {r['commit']}" for r in rounds)
    out = [
        "",
        "### At first sight",
        "Rows that were looked up in public and entered before any prediction was held against them, then held against the constants of",
        f"their time (`first`): {told}. The fit has seen them since, so `today` is no measure of rows that nobody has seen.",
        "",
        "| file | engine | speed | first: rows | median | p90 | in band | today: rows | median | p90 | in band |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for first in rounds:
        rows = checked()[first["file"]].speeds if first["file"] in checked() else [c for c in speeds() if c.id in named()]
        today = {(x.engine, x.quantity): x for x in speed_table(rows)}
        for line in first["lines"]:
            now = today.get((line["engine"], Q(line["quantity"])))
            cells = f"{now.n} | {now.median:.1%} | {now.p90:.1%} | {now.inside:.0%}" if now else "0 | | |"
            was = f"{line['n']} | {line['median']:.1%} | {line['p90']:.1%} | {line['inside']:.0%}"
            out.append(f"| {first['file']} | {line['engine']} | {TITLES[Q(line['quantity'])]} | {was} | {cells} |")
    return out


SIZES = ((1, 5), (6, 15), (16, 10**6))


def held_by_own() -> dict[tuple[int, int], list[bool]]:
    """Of cards with so many rows: whether a card's band holds a row that is predicted without itself, by its card's other rows alone."""
    bands = {(engine, card): (rows, doubt) for engine, card, rows, _, doubt in CARDS}
    out: dict[tuple[int, int], list[bool]] = {s: [] for s in SIZES}
    for name in FILES[:4]:
        for row in map(json.loads, (HERE / name).read_text(encoding="utf-8").splitlines()):
            logarithm = record()["own"].get(row["id"])
            gpu = named_gpu(row["gpu"].replace("_", " ")) if logarithm is not None else None
            if logarithm is not None and gpu is not None:
                engine = "mlx" if row["engine"] == "mlx" else "llama.cpp"
                rows, doubt = bands[engine, base_name(gpu)]
                out[next(s for s in SIZES if s[0] <= rows <= s[1])].append(abs(logarithm) <= math.log(doubt))
    return out


def own_bands() -> list[str]:
    """Whether the bands of cards that were measured hold a row that they have not seen."""
    out = [
        "A card's own band (`CARDS` of src/vram/speed/table.py), one sequence: each row is left out and predicted by its class and its card's other rows.",
        "",
        "| cards with | rows | held by the card's band |",
        "|---|---|---|",
    ]
    told = held_by_own()
    for (least, most), held in told.items():
        what = f"{least} to {most} rows" if most < 10**6 else f"{least} rows and more"
        out.append(f"| {what} | {len(held)} | {sum(held) / len(held):.0%} |")
    everyone = [x for held in told.values() for x in held]
    return [*out, f"| any number | {len(everyone)} | {sum(everyone) / len(everyone):.0%} |"]


def sources_differ() -> list[str]:
    """How far sources differ on the same model, quantization and card, alone: what no constant of a card can undo."""
    values: dict[tuple[str, str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rows = {r["id"]: r for name in FILES[:4] for r in map(json.loads, (HERE / name).read_text(encoding="utf-8").splitlines())}
    for c in speeds():
        if c.quantity is Q.DECODE_DENSE_ALONE and c.engine in LOCAL and c.id in rows:
            row = rows[c.id]
            values[same_model(row["model"]), row["quant"].split()[0].upper(), same_card(row["gpu"]), str(row.get("depth", 0))][row["source"]].append(c.measured)
    pairs = []
    for of in values.values():
        means = [sum(v) / len(v) for v in of.values()]
        pairs += [max(a, b) / min(a, b) - 1 for i, a in enumerate(means) for b in means[i + 1 :]]
    if not pairs:
        return []
    told = sorted(pairs)
    return [
        f"{len(told)} pairs of sources measured the same model, quantization and card, one sequence: they differ by {percentile(told, 0.5):.0%} on the median, {percentile(told, 0.9):.0%} at p90.",
    ]


def same_card(name: str) -> str:
    """A card's name without its maker's and its memory."""
    words = [w for w in name.lower().split() if w not in {"nvidia", "geforce", "amd", "radeon", "apple"} and not w.endswith("gb")]
    return " ".join(words)


def same_model(name: str) -> str:
    """A model's name without what sources write around it."""
    text = name.rsplit("/", maxsplit=1)[-1].lower().removesuffix(".gguf").replace("-instruct", "").replace("-q4_k_m", "").replace(":", "-")
    return text.removesuffix("-4bit")


def short(reason: str) -> str:
    """Reasons of one kind under one head."""
    for start, head in (
        ("its weights take", "weights larger than the card"),
        ("no model is known by", "a model that the catalogue does not have"),
        ("the tag ", "the tag does not tell how the weights are stored"),
        ("speculative decoding", "speculative decoding that no field tells"),
        ("mislabelled: ", "mislabelled"),
        ("the same model on the same card", "much slower than the same model on the same card in another row"),
    ):
        if reason.startswith(start):
            return head
    return reason
