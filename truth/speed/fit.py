"""Fits the constants of speed/clock.py to the rows beside this file and writes src/vram/speed/table.py and held_out.json.

    python truth/speed/fit.py            # about a minute
    python truth/speed/fit.py --check    # fits again and fails where the table is another

An engine's constants are fitted first to all of its rows (its base), then per class of card, pulled towards the base; the
shares of bandwidth and peak may differ by the weights' class, pulled towards none. So a class with few rows stays near
its engine. Errors are logarithms of ratios under a loss that outliers hardly bend. `cited.json` holds constants that were
fitted to rows which may be read but not passed on; they pull as the base does, only harder. Needs numpy and scipy.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import numpy as np
from formula import columns, predict, read_rows, usable
from scipy.optimize import least_squares

from vram.speed.rates import Rates

HERE = Path(__file__).parent
TABLE = HERE.parent.parent / "src" / "vram" / "speed" / "table.py"
NAMES = tuple(f.name for f in fields(Rates))
BY_WEIGHTS = ("memory_share", "expert_share", "compute_share")
# Where a constant starts from and is weakly held to, and the ends of what it can be.
PRIOR = {
    "memory_share": (0.8, 0.1, 1.0),
    "expert_share": (0.7, 0.05, 1.0),
    "cache_share": (0.7, 0.1, 1.0),
    "compute_share": (0.4, 0.02, 1.0),
    "attention_share": (0.3, 0.02, 1.0),
    "layer_seconds": (5e-5, 1e-6, 3e-3),
    "expert_layer_seconds": (2e-5, 1e-7, 1e-3),
    "step_seconds": (3e-4, 1e-6, 2e-2),
    "sequence_seconds": (1e-5, 1e-8, 1e-3),
    "message_seconds": (6e-6, 5e-7, 2e-4),
    "link_share": (0.4, 0.02, 1.0),
    "interleave": (0.8, 0.2, 1.2),
    "first_seconds": (2e-2, 1e-3, 0.3),
    "queue": (0.1, 1e-3, 2.0),
}
SCALE = 0.08  # residuals beyond this count less and less
WEIGHT = {"ttft": 0.35, "prefill": 0.5}
# How an engine orders its work is its own, however near its kernels are to others'.
LOAD = {"interleave", "first_seconds", "queue"}
SERVERS = ("vllm", "tensorrt-llm", "sglang")


class Fit:
    """One group's constants: the group's own, and what its weights' classes change."""

    def __init__(self, rows, prior, *, sigma, cited=(), warm=None):
        self.classes = sorted({r["weights"] for r in rows})
        self.prior, self.lows, self.highs = (np.log([prior[n] if k == 0 else PRIOR[n][k] for n in NAMES]) for k in range(3))
        a = columns(rows)
        self.slots = [(n, w) for n in BY_WEIGHTS for w in self.classes if len(self.classes) > 1]
        pulls = [(NAMES.index(c["name"]), c) for c in cited if c["weights"] in {"", *self.classes}]
        which = {w: a["weights"] == w for w in self.classes}
        # Layers and steps trade places where few depths were measured: what a step takes beside its layers is held tighter.
        widths = np.array([max(sigma, 0.3) if n in LOAD else sigma * (0.5 if n == "step_seconds" else 1) for n in NAMES])
        logs, weight = np.log(a["seconds"]), np.array([WEIGHT.get(k, 1.0) for k in a["kind"]]) * np.sqrt(a.get("mass", np.ones(len(rows))))

        def residuals(x):
            r = (np.log(predict(a, self.at(x, which, len(rows)))) - logs) * weight
            robust = np.sign(r) * np.sqrt(2 * (np.sqrt(1 + (r / SCALE) ** 2) - 1))
            own = (x[: len(NAMES)] - self.prior) / widths
            changes = x[len(NAMES) :] / 0.15
            hard = [np.sqrt(min(c["rows"], 25)) * (x[i] + self.change(x, c["name"], c["weights"]) - np.log(c["value"])) / 0.3 for i, c in pulls]
            return np.concatenate([robust, own, changes, hard])

        start = np.concatenate([self.prior, np.zeros(len(self.slots))])
        if warm is not None and warm.slots == self.slots:
            start = warm.x
        self.rows = len(rows)
        self.x = least_squares(residuals, start, max_nfev=40 if warm is None else 12, ftol=1e-6, xtol=1e-6).x

    def change(self, x, name, weights):
        return x[len(NAMES) + self.slots.index((name, weights))] if (name, weights) in self.slots else 0.0

    def at(self, x, which, n):
        out = {}
        for i, name in enumerate(NAMES):
            value = np.full(n, x[i])
            for w, mask in which.items():
                value[mask] += self.change(x, name, w)
            out[name] = np.exp(np.clip(value, self.lows[i], self.highs[i]))
        return out

    def rates(self, weights=""):
        return {n: float(np.exp(np.clip(self.x[i] + self.change(self.x, n, weights), self.lows[i], self.highs[i]))) for i, n in enumerate(NAMES)}

    def predicted(self, rows):
        a = columns(rows)
        return predict(a, self.at(self.x, {w: a["weights"] == w for w in self.classes}, len(rows)))


def groups_of(rows):
    """Rows by engine and, on servers, by whether the model has experts."""
    out = defaultdict(list)
    for r in rows:
        out[r["engine"], r["experts"] if r["engine"] in SERVERS else "any"].append(r)
    return out


START = {n: v[0] for n, v in PRIOR.items()}


POOLED = "servers"
NEAREST = "gddr"
"""The class whose constants the other classes of an engine start from: the one with the most cards."""


def start_of(experts, rows):
    """Where the constants of models with experts start: where those of dense models ended, but for what experts have alone."""
    dense = [r for r in rows if r["engine"] in SERVERS and r["experts"] == "dense"]
    if experts != "moe" or not dense:
        return START
    told = {"expert_share", "expert_layer_seconds"}
    return {n: START[n] if n in told else v for n, v in Fit(dense, START, sigma=0.5).rates().items()}


def fit_engine(engine, experts, rows, cited, warm=None):
    """(engine, experts, card class or '') -> Fit, for one engine; a server's start from what all servers share."""
    warm = warm or {}
    mine = [r for r in rows if r["engine"] == engine and experts in {"any", r["experts"]}]
    out = {}
    if engine in SERVERS:
        pool = [r for r in rows if r["engine"] in SERVERS and r["experts"] == experts]
        shared = Fit(pool, start_of(experts, rows), sigma=0.5, warm=warm.get((POOLED, experts, "")))
        out[POOLED, experts, ""] = shared
        if not mine:
            return out
        # Models with experts differ more than engines do, and each engine has but a few: what all share tells more of a new one.
        sigma = 0.2 if experts == "dense" else 0.03
        base = Fit(mine, shared.rates(), sigma=sigma, warm=warm.get((engine, experts, "")))
    else:
        base = Fit(mine, START, sigma=0.5, warm=warm.get((engine, experts, "")))
    out[engine, experts, ""] = base
    cards = sorted({r["card"] for r in mine}, key=lambda c: (c != NEAREST, c))
    for card in cards:
        some = [r for r in mine if r["card"] == card]
        told = [c for c in cited if c["engine"] == engine and c["card"] == card]
        near = out.get((engine, experts, NEAREST), base)
        key = engine, experts, card
        if engine in SERVERS and len(cards) == 1:
            out[key] = Fit(some, shared.rates(), sigma=sigma, cited=told, warm=warm.get(key))
        else:
            out[key] = Fit(some, near.rates(), sigma=0.2, cited=told, warm=warm.get(key))
    return out


def fit_all(rows, cited):
    """(engine, experts, card class or '') -> Fit."""
    out = {}
    for engine, experts in groups_of(rows):
        out.update(fit_engine(engine, experts, rows, cited))
    return out


def held_out(rows, cited, fits, by, only):
    """Seconds predicted for every row with all rows, of any engine, that share its `by` left out of the fit."""
    out = {}
    for (engine, experts), mine in groups_of(rows).items():
        if not only(engine, experts):
            continue
        for value in sorted({r[by] for r in mine}):
            asked, rest = [r for r in mine if r[by] == value], [r for r in rows if r[by] != value]
            left = [r for r in rest if r["engine"] == engine and experts in {"any", r["experts"]}]
            if not left and not (engine in SERVERS and any(r["engine"] in SERVERS and r["experts"] == experts for r in rest)):
                continue
            again = fit_engine(engine, experts, rest, cited, warm=fits)
            for r in asked:
                keys = ((engine, experts, r["card"]), (engine, experts, NEAREST), (engine, experts, ""), (POOLED, experts, ""))
                fit = next(again[k] for k in keys if k in again)
                out[r["id"]] = float(fit.predicted([r])[0])
    return out


def alone_in_class(rows):
    """Ids of the rows of a card that is, or nearly is, all that its class has."""
    cards = defaultdict(lambda: defaultdict(list))
    for r in rows:
        cards[r["engine"], r["card"]][r["gpu"]].append(r["id"])
    return {i for mine in cards.values() for ids in mine.values() if len(ids) > 0.9 * sum(map(len, mine.values())) for i in ids}


def errors(rows, seconds):
    """Logarithms of predicted over measured, by quantity."""
    out = defaultdict(list)
    for r in rows:
        if r["id"] in seconds:
            out[r["kind"]].append(float(np.log(seconds[r["id"]] / r["seconds"])))
    return out


LEAST = {"decode": 1.12, "tpot": 1.15, "prefill": 1.3, "ttft": 1.4}
UNTOLD = {"decode": 1.5, "tpot": 1.6, "prefill": 2.0, "ttft": 2.5}
COVER = 0.92
MOST = {"prefill": 2.5, "ttft": 3.0}  # beyond, a band would say nothing: what lies outside is told by the report


def doubts(rows, seconds, fallback):
    """The factor that holds 92 of 100 figures, those that were fitted to and the same held out; where few were measured, no less than the engine's own."""
    found = defaultdict(list)
    for one in seconds:
        for kind, some in errors(rows, one).items():
            found[kind] += some
    out = {}
    for kind, floor in LEAST.items():
        mine = sorted(abs(e) for e in found[kind])
        own = float(np.exp(mine[min(int(np.ceil(COVER * (len(mine) + 1))) - 1, len(mine) - 1)])) if mine else 0.0
        least = floor if len(mine) >= 16 else fallback.get(kind, UNTOLD[kind])
        if kind == "decode" and len(mine) < 16 and len(found["tpot"]) >= 16:
            own, least = 0.0, 0.0  # a sequence alone is a batch of one: as doubtful as a small batch
        out[kind] = round(min(max(own, least), MOST.get(kind, 2.5)), 3)
    out["decode"] = out["decode"] or out["tpot"]
    return out


def entries(rows, fits, seconds, cited):
    """The table's lines, as keyword arguments."""
    out = []
    whole = {}
    for (engine, experts), mine in groups_of(rows).items():
        whole[engine, experts] = doubts(mine, seconds, UNTOLD)
    for (engine, experts, card), fit in fits.items():
        if engine == POOLED:
            mine = [r for r in rows if r["engine"] in SERVERS and r["experts"] == experts]
            out.append(line(engine, "", "", experts, fit.rates(), doubts(mine, seconds, UNTOLD), mine))
            continue
        mine = [r for r in groups_of(rows)[engine, experts] if card in {"", r["card"]}]
        if not card:
            out.append(line(engine, "", "", experts, fit.rates(), whole[engine, experts], mine))
            continue
        for weights in fit.classes:
            some = [r for r in mine if r["weights"] == weights]
            told = [c for c in cited if (c["engine"], c["card"]) == (engine, card) and c["weights"] in {"", weights} and "before" not in c]
            out.append(line(engine, card, weights, experts, fit.rates(weights), doubts(some, seconds, whole[engine, experts]), some, cited=told))
    return out + cited_entries(fits, cited)


def cited_entries(fits, cited):
    """Entries that stand on cited constants alone: engines and versions of which no open row was found."""
    groups = defaultdict(list)
    for c in cited:
        if "before" in c or c["engine"] == "transformers":
            groups[c["engine"], c["card"], c["weights"], c.get("before", "")].append(c)
    out = []
    for (engine, card, weights, before), told in sorted(groups.items()):
        rates = {**fits["vllm", "dense", "hbm"].rates(weights), "step_seconds": 1e-6}
        rates["memory_share"] = 0.8
        rates.update({c["name"]: c["value"] for c in told})
        experts = "any" if engine == "transformers" else "dense"
        out.append(line(engine, card, weights, experts, rates, {"decode": 1.3, "tpot": 1.8, "prefill": 2.0, "ttft": 2.5}, [], cited=told, before=before))
    return out


def line(engine, card, weights, experts, rates, doubt, rows, *, cited=(), before=""):
    return {
        "engine": engine,
        "card": card,
        "weights": weights,
        "experts": experts,
        "before": before,
        "rows": len(rows),
        "cards": len({r["gpu"] for r in rows}),
        "models": len({r["model"] for r in rows}),
        "cited": max((c["rows"] for c in cited), default=0),
        "doubt": doubt,
        "rates": {n: float(f"{v:.4g}") for n, v in rates.items()},
    }


HEAD = '"""Constants of the step clock by engine, class of card and of weights. Written by truth/speed/fit.py; not edited by hand."""\n\n# fmt: off\n'


def quoted(value):
    return repr(value).replace("'", '"')


def table(lines):
    """The text of src/vram/speed/table.py."""
    out = [HEAD, f"RATES = {quoted(NAMES)}\n", '"""Order of an entry\'s rates."""\n\n', "ENTRIES = (\n"]
    out.append(
        "    # engine, class of card, of weights, experts, before version, rows, cards, models, cited rows, doubt (decode, tpot, prefill, ttft), rates\n"
    )
    for x in sorted(lines, key=lambda x: (x["engine"], x["experts"], x["before"], x["card"], x["weights"])):
        key = tuple(x[k] for k in ("engine", "card", "weights", "experts", "before", "rows", "cards", "models", "cited"))
        out.append(f"    ({', '.join(map(quoted, key))}, {tuple(x['doubt'].values())!r}, {tuple(x['rates'][n] for n in NAMES)!r}),\n")
    return "".join([*out, ")\n"])


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--check", action="store_true", help="fit again and fail where the table is another")
    args = a.parse_args()
    cited = json.loads((HERE / "cited.json").read_text())
    pulls = [c for c in cited if "before" not in c]
    rows, seen = read_rows()
    good = usable(rows)
    fits = fit_all(good, pulls)
    print(f"{seen} rows, {len(rows)} read, {len(good)} fitted to", file=sys.stderr)
    # A card that is new is what a local engine meets; a model that is new is what a server meets.
    by_card = held_out(good, pulls, fits, "gpu", lambda engine, _: engine not in SERVERS)
    by_model = held_out(good, pulls, fits, "model", lambda engine, _: engine in SERVERS)
    by_system = held_out(good, pulls, fits, "gpu", lambda engine, _: engine in SERVERS)
    fitted = {}
    for (engine, experts), mine in groups_of(good).items():
        for r in mine:
            fitted[r["id"]] = float(fits[engine, experts, r["card"]].predicted([r])[0])
    # Where one model is all that a group has, leaving it out leaves nothing: its cards are left out instead. A card that is
    # all of its class says nothing of another card of that class: what a class without rows is off by, borrowing doubts.
    outside = {**by_system, **by_model, **{i: s for i, s in by_card.items() if i not in alone_in_class(good)}}
    text = table(entries(good, fits, (fitted, outside), cited))
    if args.check:
        if text != TABLE.read_text(encoding="utf-8"):
            sys.exit("truth/speed/fit.py gives another src/vram/speed/table.py: run it without --check")
        return
    TABLE.write_text(text, encoding="utf-8")
    told = {r["id"]: r for r in good}
    document = {
        name: {i: float(f"{np.log(s / told[i]['seconds']):.4f}") for i, s in sorted(found.items())}
        for name, found in (("fitted", fitted), ("card", by_card), ("model", by_model), ("system", by_system))
    }
    document["alone_in_class"] = sorted(alone_in_class([r for r in good if r["engine"] not in SERVERS]))
    (HERE / "held_out.json").write_text(json.dumps(document, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    report(good, document)


def report(rows, document):
    groups = defaultdict(list)
    for r in rows:
        groups[r["engine"], r["experts"], r["kind"] if r["kind"] != "decode" or r["sequences"] > 1 else "decode alone"].append(r["id"])
    print(f"{'engine':13}{'':6}{'quantity':14}{'':>20}{'n':>6}{'median':>9}{'p90':>9}")
    for (engine, experts, kind), ids in sorted(groups.items()):
        for name in ("fitted", "card", "model", "system"):
            found = document[name]
            e = np.abs(np.expm1([found[i] for i in ids if i in found]))
            if len(e):
                print(
                    f"{engine:13}{experts:6}{kind:14}{'fitted' if name == 'fitted' else f'{name} left out':>20}{len(e):>6}{np.median(e):>9.1%}{np.quantile(e, 0.9):>9.1%}"
                )


if __name__ == "__main__":
    main()
