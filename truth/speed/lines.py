"""The lines of src/vram/speed/table.py: constants rounded, how far figures may be off, and the text of the file."""

from collections import defaultdict

import numpy as np
from constants import NAMES, POOLED, SERVERS, groups_of


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
COVER_SHORTEST = 0.94  # of what was looked for among many: the shortest of them holds fewer of others
FEW, FEW_DOUBT = 16, 1.15  # so few rows of a server are hardly more than what another class of weights lends
MOST = {"prefill": 2.5, "ttft": 3.0}  # beyond, a band would say nothing: what lies outside is told by the report


def doubts(rows, seconds, fallback):
    """The factor that holds 92 of 100 figures, those that were fitted to and the same held out; where few were measured, no less than the engine's own."""
    found = defaultdict(list)
    for number, one in enumerate(seconds):
        for kind, some in errors(rows, one).items():
            # Of a card that was measured its own line (CARDS) tells; a class's is what another card of it is off by.
            if number or kind != "decode" or rows[0]["engine"] in SERVERS:
                found[kind] += some
    out = {}
    for kind, floor in LEAST.items():
        mine = sorted(abs(e) for e in found[kind])
        own = float(np.exp(mine[min(int(np.ceil(COVER * (len(mine) + 1))) - 1, len(mine) - 1)])) if mine else 0.0
        least = floor if len(mine) >= FEW else fallback.get(kind, UNTOLD[kind])
        if kind == "decode" and len(mine) < FEW and len(found["tpot"]) >= FEW:
            own, least = 0.0, 0.0  # a sequence alone is a batch of one: as doubtful as a small batch
        out[kind] = round(min(max(own, least), MOST.get(kind, 2.5)), 3)
    out["decode"] = out["decode"] or out["tpot"]
    return {**out, **waiting(found["ttft"], out["ttft"], fallback)}


def waiting(logs, both, fallback):
    """How many times longer (`ttft`) and how many times shorter (`ttft_less`) a first token may take: the shortest band that holds 94 of 100.

    A queue that fills makes some first tokens many times as late, none as early: a band as wide to both sides is wide for nothing. Where it is
    the shorter all the same, it is taken.
    """
    if len(logs) < FEW:
        return {"ttft": both, "ttft_less": max(both, fallback.get("ttft_less", both))}
    times = np.sort(np.exp(-np.array(logs)))  # measured over predicted
    many = min(int(np.ceil(COVER_SHORTEST * (len(times) + 1))), len(times))
    lows, highs = np.minimum(times[: len(times) - many + 1], 1 / LEAST["ttft"]), np.maximum(times[many - 1 :], LEAST["ttft"])
    at = int(np.argmin(highs - lows))
    if both - 1 / both <= highs[at] - lows[at]:
        return {"ttft": both, "ttft_less": both}
    return {"ttft": round(min(float(highs[at]), MOST["ttft"]), 3), "ttft_less": round(min(1 / float(lows[at]), MOST["ttft"]), 3)}


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
            doubt = doubts(some, seconds, whole[engine, experts])
            if engine in SERVERS and len(some) < FEW:
                doubt = {n: round(v * FEW_DOUBT, 3) for n, v in doubt.items()}
            out.append(line(engine, card, weights, experts, fit.rates(weights), doubt, some, cited=told))
    return out + cited_entries(fits, cited)


CARD_FEW, CARD_MANY = 5, 16
"""Rows of one sequence up to which a card has few of its own, and from which it has enough to say how far they scatter."""


def own_doubts(rows, owns, left):
    """(engine, card) -> rows, factor, doubt: what holds 92 of 100 figures of cards with as few rows, each predicted without itself.

    `left`: row -> logarithm of predicted over measured, its card's other rows alone counted. A fitted figure says nothing of a card with one row.
    """
    logs = defaultdict(list)
    for r in rows:
        if r["id"] in left:
            logs[r["engine"], r["gpu"]].append(abs(left[r["id"]]))
    out = {}
    for key, (n, factor) in owns.items():
        alike = [e for card, some in logs.items() if card[0] == key[0] and size(len(some)) == size(n) for e in some]
        if len(alike) < FEW:
            alike = [e for card, some in logs.items() if card[0] == key[0] for e in some]
        own = float(np.quantile(logs[key], COVER)) if n >= CARD_MANY else 0.0
        doubt = max(LEAST["decode"], float(np.exp(max(own, float(np.quantile(alike, COVER))))))
        out[key] = n, factor, round(doubt, 3)
    return out


def size(rows):
    """Whether so many rows of a card are few, some or many."""
    return (rows > CARD_FEW) + (rows >= CARD_MANY)


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
        out.append(
            line(
                engine,
                card,
                weights,
                experts,
                rates,
                {"decode": 1.3, "tpot": 1.8, "prefill": 2.0, "ttft": 2.5, "ttft_less": 2.5},
                [],
                cited=told,
                before=before,
            )
        )
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


def table(lines, owns, yearly):
    """The text of src/vram/speed/table.py."""
    out = [HEAD, f"RATES = {quoted(NAMES)}\n", '"""Order of an entry\'s rates."""\n\n', "ENTRIES = (\n"]
    out.append(
        "    # engine, class of card, of weights, experts, before version, rows, cards, models, cited rows, doubt (decode, tpot, prefill, ttft, ttft_less), rates\n"
    )
    for x in sorted(lines, key=lambda x: (x["engine"], x["experts"], x["before"], x["card"], x["weights"])):
        key = tuple(x[k] for k in ("engine", "card", "weights", "experts", "before", "rows", "cards", "models", "cited"))
        out.append(f"    ({', '.join(map(quoted, key))}, {tuple(x['doubt'].values())!r}, {tuple(x['rates'][n] for n in NAMES)!r}),\n")
    out.append(")\n\nCARDS = (\n    # engine, card, rows of one sequence, their time as a share of its class's, doubt\n")
    out += [f"    ({quoted(engine)}, {quoted(card)}, {n}, {factor:.3f}, {doubt}),\n" for (engine, card), (n, factor, doubt) in sorted(owns.items())]
    out.append(")\n\nYEARLY = (\n    # engine, by how much each year of a build's age lengthens layers and steps (a logarithm)\n")
    out += [f"    ({quoted(engine)}, {value:.3f}),\n" for engine, value in sorted(yearly.items())]
    return "".join([*out, ")\n"])
