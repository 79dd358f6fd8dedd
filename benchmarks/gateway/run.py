"""The gateway beside nginx and other routers, in one run: the same engine, the same clients, each gateway alone on one core.

    make bench-gateway                          all that are there, each three times; the median is printed
    python benchmarks/gateway/run.py --only nginx,vram --rounds 1

nginx forwards and does nothing else: the floor. The other routers pick a replica; ours reads the key and the body, decides, leases KV
bytes, counts usage. Processor time is the process's own (all its threads and children), by the kernel's clock of 10 ms. Ratios within
one run mean something; the figures themselves are this machine's.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENGINE, PORT = 9301, 9302
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
POOLS = f"""
[[pools]]
name = "bench"
model = "Qwen/Qwen2.5-0.5B-Instruct"
engine = "vllm"
gpu = "H100 SXM 80GB"
replicas = ["http://127.0.0.1:{ENGINE}"]
served_as = "mock"
dollars_per_hour = 2.0
settings = {{ max_num_seqs = 4096 }}
"""
NGINX = f"""
worker_processes 1; daemon off; pid PLACE/nginx.pid; error_log PLACE/nginx.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 1m; keepalive_requests 1000000; client_body_temp_path PLACE/body;
  upstream engine {{ server 127.0.0.1:{ENGINE}; keepalive 2048; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{PORT} backlog=4096;
    location / {{ proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""


def gateways(place: Path, compiled: Path | None) -> dict[str, list[str]]:
    """How each gateway is started, of those that are there."""
    found: dict[str, list[str]] = {}
    if nginx := shutil.which("nginx") or shutil.which("/usr/sbin/nginx"):
        (place / "nginx.conf").write_text(NGINX.replace("PLACE", str(place)))
        found["nginx"] = [nginx, "-c", str(place / "nginx.conf")]
    (place / "pools.toml").write_text(POOLS)
    ours = [sys.executable, "-m", "vram", "serve", str(place / "pools.toml"), "--port", str(PORT), "--admin-port", "0", "--offline", "-q", "--keys"]
    if compiled is not None:
        found["vram"] = ["env", f"PYTHONPATH={compiled}", f"VRAM_GATEWAY_DB={place / 'compiled.db'}", *ours]
    source = HERE.parent.parent / "src"
    found["vram-pure"] = ["env", f"PYTHONPATH={source}", f"VRAM_GATEWAY_DB={place / 'pure.db'}", *ours]
    key = "import sys; from pathlib import Path; from vram.gateway.store import Store; Store(Path(sys.argv[1])).add_key('bench', key='sk-bench')"
    for file in ("compiled.db", "pure.db"):
        subprocess.run([sys.executable, "-c", key, str(place / file)], check=True, env={**os.environ, "PYTHONPATH": str(source)})
    common = ["--worker-urls", f"http://127.0.0.1:{ENGINE}", "--policy", "round_robin", "--host", "127.0.0.1", "--port", str(PORT), "--log-level", "error"]
    for name, command in (("sglang-router", ["launch"]), ("vllm-router", [])):
        folder = os.environ.get(name.upper().replace("-", "_") + "_BIN", str(Path(sys.executable).parent))
        if path := shutil.which(name, path=folder) or shutil.which(name):
            found[name] = [path, *command, *common, "--prometheus-port", "29301"]
    return found


def family(pid: int) -> list[int]:
    """A process and its children's children."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
        except OSError:
            continue
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children."""
    ticks = 0
    for one in family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def mebibytes(pid: int) -> float:
    """Memory of a process and its children, what they share counted once."""
    kib = 0
    for one in family(pid):
        try:
            kib += sum(int(line.split()[1]) for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
        except OSError:
            continue
    return kib / 1024


def get(path: str) -> None:
    """Tell the engine something."""
    urllib.request.urlopen(f"http://127.0.0.1:{ENGINE}{path}", timeout=10).read()


def clients(*command: str, pinned: bool = True, **environment: str) -> dict[str, Any]:
    """Run a load generator beside the engine (`pinned`: on its core); its JSON."""
    done = subprocess.run(
        [*(("taskset", "-c", "1") if pinned else ()), *command], capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )
    try:
        said: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    except (IndexError, ValueError):
        raise SystemExit(f"{command[0]}: {done.stdout[-500:]}{done.stderr[-500:]}") from None
    if said["wrong"]:
        print(f"  {said['wrong']} answers were not right: {done.stderr[:200]}", file=sys.stderr)
    return said


def measure(port: int, pid: int | None, place: Path) -> dict[str, float]:
    """All figures of one gateway that runs (or of none: of the engine itself)."""
    figures: dict[str, float] = {}

    def spent(work: Callable[[], dict[str, Any]], by: str) -> tuple[dict[str, Any], float]:
        before = cpu_seconds(pid) if pid else 0.0
        said = work()
        return said, ((cpu_seconds(pid) if pid else 0.0) - before) / max(said[by], 1) * 1e6

    def requests(connections: int, seconds: int, kilobytes: int = 0) -> dict[str, Any]:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        return clients("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "request.lua"), url, KB=str(kilobytes))

    def streams(at_once: int, in_all: int, chunks: int, pace_us: int) -> dict[str, Any]:
        get(f"/set?chunks={chunks}&pace_us={pace_us}")
        return clients(str(place / "load"), str(port), str(at_once), str(in_all), str(chunks + 2))

    requests(16, 1)
    figures["p50 alone"] = requests(1, 2)["p50"] * 1e3
    said, figures["µs/request"] = spent(lambda: requests(64, 4), "requests")
    figures["requests/s"] = said["requests"] / said["seconds"]
    _, figures["µs/128 KB"] = spent(lambda: requests(16, 3, 128), "requests")
    _, figures["µs/paced"] = spent(lambda: streams(256, 256, 60, 50_000), "events")
    said, figures["µs/flat"] = spent(lambda: streams(256, 1024, 128, 0), "events")
    figures["chunks/s"] = said["events"] / said["seconds"]
    figures["p99 first"] = said["first_p99"] * 1e3
    if pid:
        get("/set?chunks=16&pace_us=250000")
        load = subprocess.Popen(["taskset", "-c", "1", str(place / "load"), str(port), "1000", "1000", "18"], stdout=subprocess.DEVNULL)
        time.sleep(2.5)
        figures["MiB at 1,000"] = mebibytes(pid)
        load.wait(60)
    return figures


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a gateway and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for one in family(process.pid):
            try:
                os.kill(one, number)
            except ProcessLookupError:
                continue
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            continue
        break
    time.sleep(0.5)


def wait_for(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Whether a gateway answers, within half a minute."""
    ask = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/chat/completions",
        data=b'{"model":"mock","max_tokens":8,"messages":[{"role":"user","content":"hello"}]}',
        headers={"Content-Type": "application/json", "Authorization": "Bearer sk-bench"},
    )
    for _ in range(150):
        try:
            urllib.request.urlopen(ask, timeout=5).read()  # noqa: S310  (of ours)
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.2)
        else:
            return True
    print(f"it does not answer: {log.read_text(errors='replace')[-500:]}", file=sys.stderr)
    return False


def one_round(name: str, command: list[str], place: Path) -> dict[str, float] | None:
    """Start a gateway on the first core, measure it, end it."""
    with (place / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(["taskset", "-c", "0", *command], stdout=log, stderr=log, start_new_session=True)
    try:
        return measure(PORT, process.pid, place) if wait_for(process, place / f"{name}.log") else None
    finally:
        stop(process)


def bars(rows: dict[str, dict[str, float]]) -> None:
    """What the gateway has to show, with what it shows."""
    floor, direct = rows.get("nginx"), rows["no gateway"]
    rust = [rows[n] for n in ("sglang-router", "vllm-router") if n in rows]
    for name in (n for n in rows if n.startswith("vram")):
        us = rows[name]
        lines = [
            ("added p50 at one connection", "ms", us["p50 alone"] - direct["p50 alone"], 0.15, "<="),
            ("memory at 1,000 streams", "MiB", us["MiB at 1,000"], 40, "<="),
        ]
        if rust:
            lines += [
                ("requests/s at 64, of the faster Rust router's", "x", us["requests/s"] / max(r["requests/s"] for r in rust), 2.5, ">="),
                ("processor time a paced chunk, of the lesser Rust router's", "x", us["µs/paced"] / min(r["µs/paced"] for r in rust), 1, "<="),
            ]
        if floor:
            lines += [
                ("processor time a request at 64, of nginx's", "x", us["µs/request"] / floor["µs/request"], 1.5, "<="),
                ("processor time a paced chunk, of nginx's", "x", us["µs/paced"] / floor["µs/paced"], 1.3, "<="),
                ("flat out, 256 streams: chunks/s, of nginx's", "x", us["chunks/s"] / floor["chunks/s"], 1, ">="),
                ("flat out, 256 streams: p99 to the first chunk, of nginx's", "x", us["p99 first"] / floor["p99 first"], 3, "<="),
                ("processor time of a 128 KB prompt over 1.5 x nginx's", "µs", us["µs/128 KB"] - 1.5 * floor["µs/128 KB"], 80, "<="),
            ]
        print(f"\n{name}")
        for what, unit, figure, bar, how in lines:
            held = figure <= bar if how == "<=" else figure >= bar
            print(f"  {'held  ' if held else 'MISSED'}  {what:<60} {figure:8.2f} {unit:<4} (bar: {how} {bar} {unit})")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--compiled", type=Path, help="folder of an installed package whose hot path is compiled")
    options.add_argument("--only", help="names, with commas")
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    missing = [tool for tool in ("taskset", "wrk", "cc") if not shutil.which(tool)]
    if missing or (os.cpu_count() or 1) < 2:
        raise SystemExit(f"needed: Linux, two cores, and {', '.join(missing) or 'more than one core'} (apt-get install wrk util-linux gcc)")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("engine", "load"):
            subprocess.run(["cc", "-O2", "-o", str(place / name), str(HERE / f"{name}.c")], check=True)
        engine = subprocess.Popen(["taskset", "-c", "1", str(place / "engine"), str(ENGINE)])
        rounds: dict[str, list[dict[str, float]]] = {}
        try:
            time.sleep(0.5)
            found = gateways(place, args.compiled)
            chosen = {n: c for n, c in found.items() if args.only is None or n in args.only.split(",")}
            for turn in range(args.rounds):
                print(f"round {turn + 1} of {args.rounds}: {', '.join(chosen)}", file=sys.stderr)
                rounds.setdefault("no gateway", []).append(measure(ENGINE, None, place))
                for name, command in chosen.items():
                    if (figures := one_round(name, command, place)) is not None:
                        rounds.setdefault(name, []).append(figures)
        finally:
            engine.kill()
        rows = {n: {k: statistics.median(r[k] for r in found) for k in found[0]} for n, found in rounds.items()}
    names = list(max(rows.values(), key=len))
    print(f"{'':<20}" + "".join(f"{n:>14}" for n in names))
    for name, row in rows.items():
        print(f"{name:<20}" + "".join(f"{row[n]:>14,.2f}" if row.get(n) else f"{'-':>14}" for n in names))
    bars(rows)


if __name__ == "__main__":
    main()
