"""Fits the constants of speed/clock.py to the rows beside this file and writes src/vram/speed/table.py and held_out.json.

    python truth/speed/fit.py            # a minute or two
    python truth/speed/fit.py --check    # fits again and fails where the table is another

An engine's constants are fitted first to all of its rows (its base), then per class of card, pulled towards the base; the
shares of bandwidth and peak may differ by the weights' class, pulled towards none. So a class with few rows stays near
its engine. Errors are logarithms of ratios under a loss that outliers hardly bend. `cited.json` holds constants that were
fitted to rows which may be read but not passed on; they pull as the base does, only harder. Needs numpy and scipy.
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

# One thread: in which order numbers are added up, and with it the last digit of what is written, is not left to a machine's cores.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from constants import POOLED, PRIOR, SERVERS, Fit, groups_of
from formula import read_rows, usable
from lines import entries, own_doubts, table

HERE = Path(__file__).parent
TABLE = HERE.parent.parent / "src" / "vram" / "speed" / "table.py"
START = {n: v[0] for n, v in PRIOR.items()}


CLASS_SIGMA = 0.2
"""How far (in logarithms) a class of card is taken to lie from its engine before its rows are looked at; local engines."""
ALIKE_IN_SOURCE, ALIKE_IN_CLASS = 0.5, 0.5
"""How much rows of one card in one source repeat each other, and a card's deviation weighed against a source's from its card."""
LAUNCHES = 3.0
"""How much wider than that what no byte explains of a layer may lie: kernels are launched by another driver (CUDA's graphs, Metal, Vulkan, ROCm)."""
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
        base = Fit(mine, START, sigma=0.5, warm=warm.get((engine, experts, "")), launches=LAUNCHES)
    out[engine, experts, ""] = base
    cards = sorted({r["card"] for r in mine}, key=lambda c: (c != NEAREST, c))
    for card in cards:
        some = [r for r in mine if r["card"] == card]
        told = [c for c in cited if c["engine"] == engine and c["card"] == card]
        key = engine, experts, card
        if engine in SERVERS and len(cards) == 1:
            out[key] = Fit(some, shared.rates(), sigma=sigma, cited=told, warm=warm.get(key))
        elif engine in SERVERS:
            near = out.get((engine, experts, NEAREST), base)
            out[key] = Fit(some, near.rates(), sigma=0.2, cited=told, warm=warm.get(key))
        else:
            out[key] = Fit(some, base.rates(), sigma=CLASS_SIGMA, cited=told, warm=warm.get(key), yearly=base.yearly, launches=LAUNCHES)
    return out


def fit_all(rows, cited):
    """(engine, experts, card class or '') -> Fit."""
    out = {}
    for engine, experts in groups_of(rows):
        out.update(fit_engine(engine, experts, rows, cited))
    return out


def weigh(rows):
    """Gives every row its mass: rows of one card in one source repeat each other, so a hundred of them tell little more than two."""
    groups = defaultdict(list)
    for r in rows:
        groups[r["engine"], r["gpu"], r["source"], r["kind"]].append(r)
    for mine in groups.values():
        for r in mine:
            r["mass"] = 1.0 if r["engine"] in SERVERS else 1 / (1 + (len(mine) - 1) * ALIKE_IN_SOURCE)


def own_factors(rows, fits):
    """How much longer one sequence takes on a card than its class says, drawn in where few sources say so.

    (engine, card) -> rows, factor; and row -> logarithm of predicted over measured where the card's other rows alone say so.
    """
    found = defaultdict(list)
    for (engine, experts), mine in groups_of(rows).items():
        for r in mine if engine not in SERVERS else ():
            if r["kind"] == "decode" and r["sequences"] == 1:
                fit = fits[engine, experts, r["card"]]
                found[engine, r["gpu"]].append((r["id"], r["mass"], float(np.log(r["seconds"] / fit.predicted([r])[0]))))
    out, left = {}, {}
    for key, told in found.items():
        ids, mass, logs = [t[0] for t in told], np.array([t[1] for t in told]), np.array([t[2] for t in told])
        out[key] = len(told), float(np.exp(drawn_in(mass, logs)))
        for i, name in enumerate(ids):
            others = np.arange(len(told)) != i
            left[name] = drawn_in(mass[others], logs[others]) - float(logs[i])
    return out, left


def drawn_in(mass, logs):
    """What rows say of their card, as a logarithm: 0 where there are none, nearer to 0 the fewer sources they are of."""
    if not len(logs):
        return 0.0
    at = np.median(logs)
    mean = float(np.average(np.clip(logs, at - 0.2, at + 0.2), weights=mass))
    return mean * float(mass.sum() / (mass.sum() + ALIKE_IN_CLASS))


def yearly_of(fits):
    """Engine -> by how much a year's age lengthens its layers and steps, as a logarithm; engines without aged rows are left out."""
    return {engine: fit.yearly for (engine, _, card), fit in fits.items() if not card and fit.yearly}


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
                near = (engine, experts, NEAREST) if engine in SERVERS else (engine, experts, "")
                keys = ((engine, experts, r["card"]), near, (engine, experts, ""), (POOLED, experts, ""))
                fit = next(again[k] for k in keys if k in again)
                out[r["id"]] = float(fit.predicted([r])[0])
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--check", action="store_true", help="fit again and fail where the table is another")
    args = a.parse_args()
    cited = json.loads((HERE / "cited.json").read_text())
    pulls = [c for c in cited if "before" not in c]
    rows, seen = read_rows()
    good = usable(rows)
    weigh(good)
    fits = fit_all(good, pulls)
    print(f"{seen} rows, {len(rows)} read, {len(good)} fitted to", file=sys.stderr)
    # A card that is new is what a local engine meets; a model that is new is what a server meets.
    by_card = held_out(good, pulls, fits, "gpu", lambda engine, _: engine not in SERVERS)
    by_model = held_out(good, pulls, fits, "model", lambda engine, _: engine in SERVERS)
    by_system = held_out(good, pulls, fits, "gpu", lambda engine, _: engine in SERVERS)
    owns, own = own_factors(good, fits)
    fitted = {}
    for (engine, experts), mine in groups_of(good).items():
        for r in mine:
            seconds = float(fits[engine, experts, r["card"]].predicted([r])[0])
            _, factor = owns.get((engine, r["gpu"]), (0, 1.0))
            fitted[r["id"]] = seconds * (factor if r["kind"] in {"decode", "tpot"} else 1.0)
    # Where one model is all that a group has, leaving it out leaves nothing: its cards are left out instead.
    outside = {**by_system, **by_model, **by_card}
    text = table(entries(good, fits, (fitted, outside), cited), own_doubts(good, owns, own), yearly_of(fits))
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
    document["own"] = {i: float(f"{v:.4f}") for i, v in sorted(own.items())}
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
