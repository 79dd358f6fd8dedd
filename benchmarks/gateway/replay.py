"""Real requests against engines with a true KV cache: the gateway beside round robin and least requests, in one run.

    make bench-replay                                        both Azure traces, at and over capacity: some twenty minutes
    python benchmarks/gateway/replay.py --trace conv --load 1.3 --first 4000 --json out.json

The engines are simulated replicas behind HTTP (paged.py), the same for all; the gateway is `vram serve` in a process of its own, and
it is told neither how long answers get nor anything else that a client would not say. Round robin and least requests are done by the
client itself, without a hop between. Offered load is the trace's hour, sped up to so many times what the engines alone can serve.
Times are the trace's, not ours: the world runs `--speed` times faster than the clock on the wall.
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
from paged import Engine, World

from vram.cli.render.amounts import seconds
from vram.cli.render.amounts import share as share_of
from vram.cli.render.axis import Axis
from vram.cli.render.svg import Series, line_chart
from vram.planner.simulate.request import Request
from vram.planner.simulate.run import simulate
from vram.planner.simulate.spec import PoolSpec, ReplicaSpec
from vram.replay import pool_of
from vram.sources.trace import read_trace

ROOT = Path(__file__).parents[2]
MODEL, GPU, QUANT = "Qwen/Qwen3-8B", "RTX 4090", "fp8"
TTFT, TPOT = 2.0, 0.1
SHORT = 512
"""Prompts below so many tokens are called short."""
POLICIES = ("vram", "round robin", "least requests")


class Row:
    """What became of one request, by the world's clock."""

    __slots__ = ("began", "ended", "first", "index", "replica", "status", "tokens")

    def __init__(self, index: int, began: float) -> None:
        self.index, self.began = index, began
        self.first = self.ended = -1.0
        self.status = self.tokens = 0
        self.replica = -1


class Call(asyncio.Protocol):
    """A client's connection: a request out, a stream of events in."""

    def __init__(self, world: World, over: Callable[["Call"], None]) -> None:
        self.world, self.over = world, over
        self.row: Row | None = None
        self.tail = b""
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, row: Row, port: int, body: bytes) -> None:
        """Ask."""
        self.row, self.tail, self.port = row, b"", port
        self.transport.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def data_received(self, data: bytes) -> None:
        row = self.row
        if row is None:
            return
        if not row.status:
            row.status = int(data[9:12])
        row.tokens += data.count(b"word ")
        if row.first < 0 and data.find(b'"text"') >= 0:
            row.first = self.world.now
        self.tail = (self.tail + data)[-64:]
        if (self.tail.endswith(b"0\r\n\r\n") and self.tail.find(b"[DONE]") >= 0) or (row.status != 200 and data.find(b"}") >= 0):
            row.ended = self.world.now
            self.row = None
            self.over(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's word)
        if self.row is not None:
            self.row.ended = self.world.now
            self.row.status = self.row.status if self.row.status not in {0, 200} else 599
            self.row = None
            self.over(self)


async def replayed(requests: list[Request], spec: ReplicaSpec, policy: str, args: argparse.Namespace, place: Path) -> dict[str, Any]:
    """One trace under one policy."""
    world = World(args.speed)
    engines = [Engine(world, spec, requests, args.interval) for _ in range(args.replicas)]
    for engine in engines:
        await engine.start()
    gateway, port = None, 0
    if policy == "vram":
        gateway, port = await started([e.port for e in engines], args, place)
    loop = asyncio.get_running_loop()
    rows: list[Row] = []
    idle: dict[int, list[Call]] = {}
    open_at = [0] * len(engines)
    ended = asyncio.Event()
    left = len(requests)
    running: set[asyncio.Task[None]] = set()

    def over(call: Call) -> None:
        nonlocal left
        left -= 1
        row = rows[call_rows.pop(call)]
        if row.replica >= 0:
            open_at[row.replica] -= 1
        if not call.transport.is_closing():
            idle.setdefault(call.port, []).append(call)
        if not left:
            ended.set()

    call_rows: dict[Call, int] = {}

    async def sent(row: Row) -> None:
        request = requests[row.index]
        if policy != "vram":
            row.replica = row.index % len(engines) if policy == "round robin" else min(range(len(engines)), key=lambda i: (open_at[i], i))
            open_at[row.replica] += 1
        to = port if policy == "vram" else engines[row.replica].port
        body = b'{"model":"replay","seed":%d,"stream":true,"max_tokens":%d,"prompt":[%b]}' % (
            row.index,
            args.max_tokens,
            b",".join([b"17"] * request.prompt_tokens),
        )
        waiting = idle.get(to)
        call = waiting.pop() if waiting else (await loop.create_connection(lambda: Call(world, over), "127.0.0.1", to))[1]
        call_rows[call] = row.index
        call.send(row, to, body)

    def each(now: float) -> None:
        while len(rows) < len(requests) and requests[len(rows)].arrival_seconds <= now:
            row = Row(len(rows), requests[len(rows)].arrival_seconds)
            rows.append(row)
            task = loop.create_task(sent(row))
            running.add(task)
            task.add_done_callback(running.discard)

    async def settle() -> None:
        # Its loop takes things in turn: when this is answered, what came before is done.
        ping[1].write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await ping[0].readuntil(b"\r\n\r\n")
        await ping[0].readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))

    world.each = each
    if gateway is not None:
        ping = await asyncio.open_connection("127.0.0.1", port)
        world.settle = settle
    # Whoever came and is in no engine yet waits for one.
    world.waits = lambda: len(call_rows) > sum(len(e.streams) for e in engines)
    began, spent = time.perf_counter(), time.process_time()
    passing = loop.create_task(world.run())
    try:
        await asyncio.wait({loop.create_task(ended.wait()), passing}, return_when=asyncio.FIRST_COMPLETED)
        if passing.done():
            passing.result()
    finally:
        passing.cancel()
        if gateway is not None:
            gateway.send_signal(signal.SIGTERM)
            usage = os.wait4(gateway.pid, 0)[2]  # noqa: ASYNC222  (nothing else is left to do)
            gateway.returncode = 0
    told = summary(rows, requests, engines)
    told |= {"policy": policy, "wall_seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - spent}
    if gateway is not None:
        told["gateway_cpu_seconds"] = usage.ru_utime + usage.ru_stime
    return told


async def started(ports: list[int], args: argparse.Namespace, place: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """The gateway before engines on these ports."""
    urls = ", ".join(f'"http://127.0.0.1:{p}"' for p in ports)
    pools = place / "pools.toml"
    pools.write_text(
        f'schema = "vram.pools/1"\n[[pools]]\nname = "replay"\nmodel = "{MODEL}"\nengine = "vllm"\ngpu = "{GPU}"\nreplicas = [{urls}]\n'
        f'served_as = "replay"\n[pools.settings]\nquant = "{QUANT}"\n[limits]\nqueue_seconds = 3600\nqueue_requests = 100000\naffinity = "off"\n'
    )
    log = (place / "gateway.log").open("wb")
    source = str(args.compiled or ROOT / "src")
    port = 9411
    gateway = subprocess.Popen(  # noqa: ASYNC220  (before the world begins)
        [sys.executable, "-m", "vram", "serve", str(pools), "--port", str(port), "--admin-port", "0", "--offline", "-q"],
        stdout=log,
        stderr=log,
        env={**os.environ, "PYTHONPATH": source, "VRAM_GATEWAY_DB": str(place / f"gateway{time.time_ns()}.db")},
    )
    for _ in range(300):
        await asyncio.sleep(0.2)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if b" 200 " in await reader.readline():
                writer.close()
                break
            writer.close()
        except OSError:
            continue
        if gateway.poll() is not None:
            break
    else:
        gateway.kill()
    if gateway.poll() is not None:
        raise SystemExit(f"the gateway does not start: {(place / 'gateway.log').read_text(errors='replace')[-2000:]}")
    # It asks the engines how much they have once a second.
    await asyncio.sleep(2.5)
    return gateway, port


def share(values: list[float], at: float) -> float:
    """A quantile."""
    ordered = sorted(values)
    return ordered[min(int(at * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def summary(rows: list[Row], requests: list[Request], engines: list[Engine]) -> dict[str, Any]:
    """The figures."""
    good_rows = [r for r in rows if r.status == 200 and r.first >= 0]
    waits = [r.first - r.began for r in good_rows]
    short = [r.first - r.began for r in good_rows if requests[r.index].prompt_tokens < SHORT]
    paces = [(r.ended - r.first) / (r.tokens - 1) for r in good_rows if r.tokens > 1]
    good = sum(r.first - r.began <= TTFT and (r.tokens < 2 or (r.ended - r.first) / (r.tokens - 1) <= TPOT) for r in good_rows)
    lasted = max(r.ended for r in rows) - rows[0].began
    queued = sum(e.queued_seconds for e in engines)
    return {
        "requests": len(rows),
        "answered": len(good_rows),
        "refused": sum(400 <= r.status < 599 for r in rows),
        "broken": sum(r.status in {0, 599} or (r.status == 200 and r.tokens != requests[r.index].answered_tokens) for r in rows),
        "preemptions": sum(e.replica.preemptions for e in engines),
        "preempted_at": sorted(t for e in engines for t in e.preempted_at),
        "kv_mean_queued": sum(e.used_queued for e in engines) / queued if queued else None,
        "queued_share": queued / sum(e.seen for e in engines),
        "kv_mean": sum(e.used_seconds for e in engines) / sum(e.seen for e in engines),
        "kv_peak": max(e.replica.peak_blocks for e in engines) / engines[0].spec.blocks,
        "seconds": lasted,
        "tokens_per_second": sum(r.tokens for r in good_rows) / lasted,
        "good_per_second": good / lasted,
        "good_share": good / len(rows),
        "ttft_p50": statistics.median(waits),
        "ttft_p99": share(waits, 0.99),
        "ttft_p99_short": share(short, 0.99),
        "tpot_p50": statistics.median(paces),
        "tpot_p99": share(paces, 0.99),
        "kv_over_time": [
            [round(t, 1), round(statistics.mean(e.levels[min(i, len(e.levels) - 1)][1] for e in engines), 4)] for i, (t, _) in enumerate(engines[0].levels)
        ],
    }


COLUMNS = (
    ("preempted", "preemptions", "{:,}"),
    ("KV, queue", "kv_mean_queued", "{:.1%}"),
    ("KV mean", "kv_mean", "{:.1%}"),
    ("peak", "kv_peak", "{:.1%}"),
    ("TTFT p50", "ttft_p50", "{:.2f} s"),
    ("p99", "ttft_p99", "{:.1f} s"),
    ("short p99", "ttft_p99_short", "{:.1f} s"),
    ("TPOT p99", "tpot_p99", "{:.3f} s"),
    ("good", "good_share", "{:.0%}"),
    ("good/s", "good_per_second", "{:.2f}"),
    ("tokens/s", "tokens_per_second", "{:,.0f}"),
    ("refused", "refused", "{}"),
    ("broken", "broken", "{}"),
    ("time", "seconds", "{:,.0f} s"),
)


def table(found: list[dict[str, Any]]) -> None:
    """Side by side."""
    lines = [["", *(name for name, _, _ in COLUMNS)]]
    lines += [[f["policy"], *("-" if f[key] is None else form.format(f[key]) for _, key, form in COLUMNS)] for f in found]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))))


def picture(title: str, found: list[dict[str, Any]]) -> str:
    """The KV cache in use over time, a line for each policy: SVG."""
    told = {f["policy"]: f"{f['preemptions']:,} preemptions, p99 to the first token {f['ttft_p99']:.0f} s" for f in found}
    return line_chart(
        title,
        [Series(name=f["policy"], points=thinned(f["kv_over_time"]), note=told[f["policy"]]) for f in found],
        x=Axis(label="time since the first request", show=seconds, time=True),
        y=Axis(label="share of all KV blocks", show=share_of, low=0, high=1),
        summary="; ".join(f"{name}: {note}" for name, note in told.items()),
    )


def thinned(points: list[list[float]], most: int = 160) -> list[tuple[float, float]]:
    """Means of neighbours, so that a line has at most so many points."""
    each = -(-len(points) // most)
    return [(points[i][0], statistics.mean(v for _, v in points[i : i + each])) for i in range(0, len(points), each)]


def capacity(requests: list[Request], spec: ReplicaSpec, replicas: int) -> float:
    """Requests a second that the engines alone serve when all come at once, the trace's first two thousand."""
    some = [Request(arrival_seconds=0.0, prompt_tokens=r.prompt_tokens, output_tokens=r.output_tokens, max_tokens=r.max_tokens) for r in requests[:2000]]
    return len(some) / simulate(some, [PoolSpec(name="a", replica=spec, replicas=replicas)]).summary.seconds


def main() -> None:
    """Replay and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trace", action="append", choices=("conv", "code"))
    options.add_argument("--load", action="append", type=float, help="offered load, in what the engines alone can serve (0.95 and 1.3)")
    options.add_argument("--policy", action="append", choices=POLICIES)
    options.add_argument("--first", type=int, help="requests of the trace; default: all")
    options.add_argument("--skip", type=int, default=0, help="requests to leave out in front")
    options.add_argument("--replicas", type=int, default=4)
    options.add_argument("--blocks", type=int, help="KV blocks of a replica; default: as planned")
    options.add_argument("--max-tokens", type=int, default=2000, help="what clients set as their limit")
    options.add_argument("--interval", type=int, default=1, help="tokens of an event, as vLLM's --stream-interval")
    options.add_argument("--speed", type=float, default=6.0, help="seconds of the world in one on the wall")
    options.add_argument("--compiled", type=Path, help="folder of an installed package whose hot path is compiled")
    options.add_argument("--json", type=Path)
    options.add_argument("--svg", type=Path, help="folder for pictures of the KV cache in use over time")
    args = options.parse_args()
    if hasattr(resource, "RLIMIT_NOFILE"):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    results = []
    for trace in args.trace or ("conv", "code"):
        lines, _ = read_trace(ROOT / "truth" / "traces" / f"azure_llm_2023_{trace}.csv.gz")
        lines = lines[args.skip :][: args.first]
        began = lines[0].seconds
        plain = [
            Request(arrival_seconds=r.seconds - began, prompt_tokens=r.prompt_tokens, output_tokens=r.output_tokens, max_tokens=args.max_tokens) for r in lines
        ]
        pool = pool_of(MODEL, gpu=GPU, quant=QUANT, requests=plain, context_tokens=16_384, max_batched_tokens=8192 if trace == "code" else None, offline=True)
        spec = pool.replica
        if args.blocks:
            spec = replace(spec, blocks=args.blocks)
        most = capacity(plain, spec, args.replicas)
        for load in args.load or (0.95, 1.3):
            faster = load * most * plain[-1].arrival_seconds / len(plain)
            requests = [
                Request(arrival_seconds=r.arrival_seconds / faster, prompt_tokens=r.prompt_tokens, output_tokens=r.output_tokens, max_tokens=r.max_tokens)
                for r in plain
            ]
            print(
                f"\n{trace}: {len(requests):,} requests {faster:.1f} times as fast as they came, {load:.2f} x the {most:.2f} requests/s of {args.replicas} engines; "
                f"{MODEL} {QUANT} on {GPU}, {spec.blocks:,} KV blocks each, {spec.max_batched_tokens:,} tokens a step; "
                f"max_tokens {args.max_tokens:,}, lengths not told; good: first token in {TTFT:.0f} s, then {TPOT * 1000:.0f} ms a token"
            )
            found = []
            for policy in args.policy or POLICIES:
                with tempfile.TemporaryDirectory() as folder:
                    found.append(asyncio.run(replayed(requests, spec, policy, args, Path(folder))))
                f = found[-1]
                print(
                    f"  {policy}: {f['wall_seconds']:.0f} s on the wall, {f['cpu_seconds']:.0f} s of processor for clients and engines"
                    + (f", {f['gateway_cpu_seconds']:.0f} for the gateway" if "gateway_cpu_seconds" in f else "")
                    + f"; {f['seconds'] / f['wall_seconds']:.1f} times as fast as the clock",
                    file=sys.stderr,
                )
                results.append({"trace": trace, "load": load, "faster": faster, "capacity_per_second": most, "blocks": spec.blocks, **f})
            table(found)
            if args.svg:
                title = f"KV cache in use: {trace} trace at {load:g} times what the engines alone serve"
                (args.svg / f"replay_{trace}_{load:g}.svg").write_text(picture(title, found))
    if args.json:
        args.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
