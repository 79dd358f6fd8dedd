"""llama.cpp's buffers beside their plans, for REPORT.md: dry runs at true shapes, and what public logs of real GPUs print."""

import sys
from collections.abc import Iterable
from pathlib import Path

from vram.accuracy.summary import percentile

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from llama_cpp_runs import LOGS, Buffer, dry_buffers, log_buffers, plans

KINDS = (
    ("model", "weights"),
    ("context", "caches and states (KV, RS)"),
    ("output", "logits"),
    ("compute", "compute"),
)
# Why a buffer of a public log differs, by the start of its model's name.
WHY = {
    "Yi-34B": "the file was quantised with an importance matrix: then llama-quantize leaves the first eighth of the layers' `ffn_down` "
    "in IQ4_XS, which without one it makes Q5_K: 7 layers, 153.1 MiB",
}
HEAD = [
    "| buffer | n | exact | median | p95 | max | above its band | inside its band | median width of the band |",
    "|---|---|---|---|---|---|---|---|---|",
]


def lines(found: Iterable[Buffer]) -> list[str]:
    every = list(found)
    out = list(HEAD)
    for kind, name in KINDS:
        some = [b for b in every if b.kind == kind]
        if not some:
            continue
        errors = sorted(abs(b.planned - b.real) / b.real if b.real else float(b.planned > 0) for b in some)
        cells = [f"{percentile(errors, p):.3%}" for p in (0.5, 0.95, 1.0)]
        above, inside = sum(b.real > b.high and not b.exact for b in some), sum(b.low <= b.real <= b.high or b.exact for b in some)
        width = percentile(sorted((b.high - b.low) / b.real for b in some if b.real), 0.5)
        cells += [f"{above}", f"{inside / len(some):.1%}", f"{width:.1%}"]
        out.append(f"| {name} | {len(some)} | {sum(b.exact for b in some)} | {' | '.join(cells)} |")
    return out


def section() -> list[str]:
    """The part of REPORT.md on llama.cpp."""
    dry, (logged, told) = list(dry_buffers()), log_buffers()
    kept = [b for b in logged if b.kind != "compute"]
    exact = sum(b.exact for b in kept)
    compute = [b for b in dry if b.kind == "compute"]
    errors = sorted(abs(b.planned - b.real) / b.real for b in compute)
    median, high = percentile(errors, 0.5), percentile(errors, 0.95)
    above = sum(b.real > b.high for b in compute)
    same = [b for b in dry if b.kind != "compute"]
    bars = (
        ("weights, caches, states and logits of dry runs", len(same), "to the byte", f"{sum(b.exact for b in same)} exact", all(b.exact for b in same)),
        ("compute buffers of dry runs: median error", len(compute), "0.5 %", f"{median:.3%}", median <= 0.005),
        ("compute buffers of dry runs: p95", len(compute), "10 %", f"{high:.2%}", high <= 0.1),
        ("compute buffers of dry runs above their band", len(compute), "0", str(above), above == 0),
        ("weights and caches of public GPU logs", len(kept), "97 % to 0.1 MiB a buffer", f"{exact / len(kept):.2%}", exact >= 0.97 * len(kept)),
    )
    out = ["| quantity | n | bar | reached | |", "|---|---|---|---|---|"]
    out += [f"| {name} | {n} | {bar} | {value} | {'yes' if met else '**no**'} |" for name, n, bar, value, met in bars]
    out += ["", f"Dry runs: {len(plans())} contexts that llama.cpp b11434 laid out without allocating, host and up to two devices.", "", *lines(dry)]
    out += ["", f"Public logs of real GPUs: {len(LOGS)}, of which {len(told)} say too little. A buffer is exact to 0.1 MiB for each place.", "", *lines(logged)]
    out += ["", "Buffers of public logs that differ:"]
    for b in kept:
        if not b.exact:
            why = next((text for start, text in WHY.items() if b.model.startswith(start)), "not explained")
            out.append(f"- {b.model} ({b.run}): {b.kind}, {b.real / 2**20:,.1f} MiB printed, {b.planned / 2**20:,.1f} planned: {why}")
    reasons: dict[str, list[str]] = {}
    for run, name, why in told:
        reasons.setdefault(why, []).append(f"{name} ({run.removeprefix('https://github.com/')})")
    out += ["", "Logs that could not be compared:", *(f"- {why} ({len(names)}): {'; '.join(names)}" for why, names in sorted(reasons.items()))]
    return out
