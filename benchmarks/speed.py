"""What peers expect of speed beside what was measured, and beside us, on the same cases in one run.

Served models: aiconfigurator 0.12 (its own measured database; the cases are runs of its own `silicon_sample.csv`) on the cases that it
supports. One sequence alone: llmfit 1.1.17 with the card's bandwidth as its hardware profile. Ours twice: as shipped, fitted to rows
that include these, and with the case's model (served) or card (alone) left out of the fit (truth/speed/held_out.json).

    python benchmarks/speed.py           # writes benchmarks/speed.md
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from vram.accuracy.row import parse_rows
from vram.accuracy.speed_check import SpeedQuantity, check_speed, find
from vram.catalog import find as catalogued
from vram.cli.accuracy import loader

HERE = Path(__file__).parent
ROOT = HERE.parent
SPEED = ROOT / "truth" / "speed"
PACKAGES = ("aiconfigurator==0.12.0", "llmfit==1.1.17")
AICONFIGURATOR = """
import json, logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from aiconfigurator.cli.api import cli_estimate
out = []
for case in json.load(open(sys.argv[1])):
    try:
        found = cli_estimate(**case)
        out.append({"tpot": found.tpot, "ttft": found.ttft})
    except Exception as e:
        out.append({"error": f"{type(e).__name__}: {e}"[:120]})
json.dump(out, open(sys.argv[2], "w"))
"""
NAMES = {"meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B"}
QUANTS = {"fp8": ("fp8", "fp8"), "fp4": ("nvfp4", "nvfp4"), "bf16": ("bfloat16", "bfloat16")}


def rows(name):
    lines = (SPEED / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def spread_out(found, key, each):
    """The first `each` of every group, in the order of the file: the same cases on every machine."""
    groups = defaultdict(list)
    for row in found:
        groups[key(row)].append(row)
    return [row for _, mine in sorted(groups.items()) for row in mine[:: max(1, len(mine) // each)][:each]]


def peers(folder):
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in PACKAGES:
            subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", package], check=False)
    return python


def served_cases(each):
    kept = [r for r in rows("serving_tpot.jsonl") if not r.get("flag") and not r.get("duplicate_of") and r["tp"] <= 8 and r["dp"] == 1]
    return spread_out(kept, lambda r: (r["engine"], r["model"], r["gpu"], r["quant"]), each)


def aiconfigurator(python, cases):
    asked = []
    for r in cases:
        gemm, moe = QUANTS[r["quant"]]
        dense = "Llama" in r["model"]
        asked.append(
            {
                "model_path": NAMES.get(r["model"], r["model"]),
                "system_name": r["gpu"],
                "backend_name": r["engine"],
                "isl": r["input_len"],
                "osl": r["output_len"],
                "batch_size": r["batch_or_concurrency"],
                "tp_size": r["tp"],
                "gemm_quant_mode": gemm,
                **({} if dense else {"moe_tp_size": int(r["moe_tp"]), "moe_ep_size": int(r["moe_ep"]), "moe_quant_mode": moe}),
            }
        )
    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder) / "given.json", Path(folder) / "got.json"
        given.write_text(json.dumps(asked))
        subprocess.run([python, "-W", "ignore", "-c", AICONFIGURATOR, given, got], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(got.read_text())


def llmfit(python, row, model, gpu):
    """Tokens a second of its GPU path, or None where it does not know the model."""
    known = catalogued(model.name)
    if known is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "card.json"
        hardware = {"gpu_memory_bandwidth_gbps": gpu.bandwidth_bytes_per_second / 1e9, "total_ram_gb": 256.0, "unified_memory": gpu.unified_memory}
        if gpu.tflops.half:
            hardware["gpu_compute_tflops_fp16"] = gpu.tflops.half
        profile.write_text(json.dumps({"schema_version": 1, "name": "card", "hardware": hardware}))
        quant = next((q for q in ("Q4_K_M", "Q8_0", "Q4_0", "Q5_K_M", "Q6_K") if q in row["model"] or q in row["quant"]), "Q4_K_M")
        command = [python.parent / "llmfit", "--json", "--profile", profile, "plan", known.id, "--context", "1024", "--quant", quant]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not done.stdout.startswith("{"):
            return None
        return next((p["estimated_tps"] for p in json.loads(done.stdout)["run_paths"] if p["path"] == "gpu"), None)


def ours(row, load):
    parsed = next(iter(parse_rows([json.dumps(row)])))
    found, flag = check_speed(parsed, load)
    return parsed, found, flag


def line(name, errors):
    errors = sorted(errors)
    if not errors:
        return f"| {name} | 0 | | |"
    return f"| {name} | {len(errors)} | {statistics.median(errors):.1%} | {errors[int(0.9 * (len(errors) - 1))]:.1%} |"


def served(python, each, held):
    load = loader(SPEED, online=False)
    cases = served_cases(each)
    answers = aiconfigurator(python, cases)
    table = defaultdict(lambda: defaultdict(list))
    unsupported = defaultdict(int)
    for row, answer in zip(cases, answers, strict=True):
        _, found, flag = ours(row, load)
        if flag or not hasattr(found, "error"):
            continue
        kind = "dense" if found.quantity is SpeedQuantity.TPOT_DENSE_SERVED else "experts"
        if "error" in answer:
            unsupported[answer["error"].split(":")[0]] += 1
            table[kind, "the others"]["vram, as shipped"].append(found.error)
            continue
        group = table[kind, "supported by aiconfigurator"]
        group["aiconfigurator 0.12.0"].append(abs(answer["tpot"] / row["value"] - 1))
        group["vram, as shipped"].append(found.error)
        if row["id"] in held["model"]:
            group["vram, model left out"].append(abs(math.expm1(held["model"][row["id"]])))
    return table, dict(unsupported), len(cases)


def alone(python, each, held):
    load = loader(SPEED, online=False)
    kept = [
        r
        for name in ("community.jsonl", "batch_one.jsonl")
        for r in rows(name)
        if r["metric"] == "decode_tok_s_per_seq" and r["engine"] != "mlx" and not r.get("flag") and not r.get("depth")
    ]
    table = defaultdict(list)
    for row in spread_out(kept, lambda r: r["gpu"], each):
        parsed, found, flag = ours(row, load)
        if flag or not hasattr(found, "error") or found.quantity is not SpeedQuantity.DECODE_DENSE_ALONE:
            continue
        peer = llmfit(python, row, *find(parsed, load))
        if peer is None:
            continue
        table["llmfit 1.1.17"].append(abs(peer / row["value"] - 1))
        table["vram, as shipped"].append(found.error)
        if row["id"] in held["card"]:
            table["vram, card left out"].append(abs(math.expm1(-held["card"][row["id"]])))
    return table


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--peers", default=str(ROOT / ".venv-peers-speed"), help="folder of the peers' environment, made when absent (1 GB)")
    a.add_argument("--each", type=int, default=1, help="cases of each engine, model, card and quantization")
    args = a.parse_args()
    python = peers(Path(args.peers))
    held = json.loads((SPEED / "held_out.json").read_text(encoding="utf-8"))
    tables, unsupported, count = served(python, args.each, held)
    out = ["# Speeds: our peers and us on the same measured cases", "", "Written by benchmarks/speed.py. Errors are shares of the measured figure.", ""]
    for (kind, which), table in sorted(tables.items()):
        out += [f"## Time per output token, {kind} models, {which}", "", "| who | cases | median | p90 |", "|---|---|---|---|"]
        out += [*(line(who, e) for who, e in table.items()), ""]
    out += [
        f"{count} cases; aiconfigurator answers none of {sum(unsupported.values())} of them ({', '.join(f'{n} {why}' for why, n in unsupported.items())}).",
        "",
    ]
    out += ["## One sequence alone, dense models, llama.cpp and Ollama, that llmfit knows", "", "| who | cases | median | p90 |", "|---|---|---|---|"]
    out += [line(who, e) for who, e in alone(python, args.each * 4, held).items()]
    text = "\n".join(out).rstrip() + "\n"
    (HERE / "speed.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
