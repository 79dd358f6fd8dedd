"""Plans by the hundred thousand: how many a second in this process, and what a whole process that makes them takes.

    python benchmarks/bulk.py [--command COMMAND …]        the default asks for every model, quantization and engine on forty places

CPU time, the best of a few runs: the rest is the machine's. Rows are held to the scalar planner's by tests/test_bulk.py.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CARDS = ("RTX 4090", "RTX 5090", "L40S", "A100 SXM 80GB", "H100 SXM 80GB", "H200 SXM 141GB", "B200", "MI300X")
COUNTS = (1, 2, 4, 8)
PROGRAM = f"""
from vram.api import catalogue_facts, parse_gpus
from vram.planner.bulk import Place, candidates
places = [Place(gpu=parse_gpus(name).gpus[0].gpu, count=n) for name in {CARDS!r} for n in {COUNTS!r}]
table = candidates(catalogue_facts(), places, context_tokens=32768, concurrency=8)
print(len(table))
"""


def in_process(rounds):
    from vram.api import catalogue_facts, parse_gpus
    from vram.planner.bulk import Place, candidates

    places = [Place(gpu=parse_gpus(name).gpus[0].gpu, count=n) for name in CARDS for n in COUNTS]
    print(f"\ncandidates() in this process, 324 models x quantizations x engines (best of {rounds})")
    for label, some in (
        ("one card, 1, 2, 4 and 8 of it", [p for p in places if p.gpu.name.startswith("H100")]),
        (f"{len(CARDS)} cards, 1, 2, 4 and 8 of each", places),
    ):
        facts, best, rows = catalogue_facts(), float("inf"), 0
        for _ in range(rounds):
            start = time.process_time()
            rows = len(candidates(facts, some, context_tokens=32768, concurrency=8))
            best = min(best, time.process_time() - start)
        print(f"  {label:34} {rows:>9,} plans {best:7.3f} s {rows / best:>11,.0f} plans/s")


def whole(label, command, rounds):
    cpu, rss = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            result, output = Path(folder) / "result", Path(folder) / "output"
            subprocess.run([sys.executable, "-S", "-E", HERE / "measure.py", result, output, *command], check=True)
            seconds, kib, code = result.read_text().split()
            text = output.read_text(errors="replace")
        if code not in {"0", "3"}:
            print(f"  {label}: failed: {(text.strip().splitlines() or ['?'])[-1][:120]}")
            return
        cpu.append(float(seconds))
        rss.append(int(kib) / 1024)
    print(f"  {label:34} {min(cpu):7.3f} s CPU, {max(rss):6.1f} MB   {text.strip().splitlines()[0][:60] if text.strip() else ''}")


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--command", nargs=argparse.REMAINDER, help="measure this command too")
    args = a.parse_args()
    in_process(args.rounds)
    print("\nwhole processes, start-up included")
    whole("nothing", [sys.executable, "-c", "pass"], args.rounds)
    whole("every plan, no more", [sys.executable, "-c", PROGRAM], args.rounds)
    if args.command:
        whole(" ".join(args.command)[:34], args.command, args.rounds)


main()
