"""What `vram serve --workers N` gives: requests a second and their 99th percentile, for each N, in one run on this machine.

    python benchmarks/gateway/workers.py                        one process, two workers; the median of three rounds
    python benchmarks/gateway/workers.py --compiled build/compiled/site --workers 1,2,4

Nothing is pinned: the engine and the clients share the cores with the gateway, so that N workers never get N cores. Processor time a
request does not depend on that: it says what N workers take of the cores that they get, the ledger that they share included.
Ratios within one run mean something; the figures themselves are this machine's.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import ENGINE, HERE, PORT, clients, cpu_seconds, gateways, get, mebibytes, stop, wait_for


def measure(pid: int, place: Path) -> dict[str, float]:
    """All figures of a gateway that runs."""
    figures: dict[str, float] = {}
    for name, at_once, in_all, chunks, pace_us in (("short", 64, 12_000, 1, 0), ("paced", 256, 768, 40, 25_000)):
        get(f"/set?chunks={chunks}&pace_us={pace_us}")
        load = (str(place / "load"), str(PORT), str(at_once), str(in_all), str(chunks + 2))
        if name == "short":
            clients(*load[:3], "1000", load[4], pinned=False)
        before = cpu_seconds(pid)
        said = clients(*load, pinned=False)
        figures[f"{name}: requests/s"] = in_all / said["seconds"]
        figures[f"{name}: p50 ms"] = said["first_p50"] * 1e3
        figures[f"{name}: p99 ms"] = said["first_p99"] * 1e3
        figures[f"{name}: us/request"] = (cpu_seconds(pid) - before) / in_all * 1e6
    figures["MiB"] = mebibytes(pid)
    return figures


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--compiled", type=Path, help="folder of an installed package whose hot path is compiled")
    options.add_argument("--workers", default="1,2", help="numbers of workers, with commas; the first is what the others are compared with")
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    numbers = [int(n) for n in args.workers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("engine", "load"):
            subprocess.run(["cc", "-O2", "-o", str(place / name), str(HERE / f"{name}.c")], check=True)
        command = gateways(place, args.compiled)["vram" if args.compiled else "vram-pure"]
        engine = subprocess.Popen([str(place / "engine"), str(ENGINE)])
        rounds: dict[int, list[dict[str, float]]] = {n: [] for n in numbers}
        try:
            time.sleep(0.5)
            for turn in range(args.rounds):
                for n in numbers:
                    print(f"round {turn + 1} of {args.rounds}: {n} workers, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
                    with (place / "gateway.log").open("wb") as log:
                        process = subprocess.Popen([*command, "--workers", str(n)], stdout=log, stderr=log, start_new_session=True)
                    try:
                        if not wait_for(process, place / "gateway.log"):
                            raise SystemExit("the gateway does not answer")
                        rounds[n].append(measure(process.pid, place))
                    finally:
                        stop(process)
        finally:
            engine.kill()
            engine.wait()
    rows = {n: {k: statistics.median(r[k] for r in found) for k in found[0]} for n, found in rounds.items()}
    first = rows[numbers[0]]
    print(f"{os.cpu_count()} cores, shared with the engine and the clients; median of {args.rounds} rounds")
    print(f"{'':<20}" + "".join(f"{n} {'process' if n == 1 else 'workers':<8}".rjust(14) for n in numbers) + f"{'ratio':>10}")
    for name in first:
        ratio = rows[numbers[-1]][name] / first[name] if first[name] else float("nan")
        print(f"{name:<20}" + "".join(f"{rows[n][name]:>14,.2f}" for n in numbers) + f"{ratio:>10.2f}")


if __name__ == "__main__":
    main()
