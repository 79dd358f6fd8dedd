"""A hundred thousand requests of clients that misbehave, to engines that misbehave, through one `vram serve`; then the books are asked.

    make chaos
    python tests/chaos/run.py --requests 3000 --seed 7 --json chaos.json

What must hold, or the exit code is 1: every request ends in exactly one way, and in one that its kind allows; the gateway's log has
exactly one line for each, which says the same; log, metrics and usage file have the same number; every ledger is at 0; no engine works
for anybody who left; as many descriptors are open as before the first request; resident memory is flat. Linux only: it reads /proc.
"""

import argparse
import asyncio
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from client import KEYS, Client
from dice import BUSY, LOST, Throw, throw

from vram.gateway.store import Store

HERE = Path(__file__).parent
TOKEN = "chaos-admin-token"  # noqa: S105  (of a gateway that lives for this run)
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# Ends of a client's that go with an outcome of the gateway's. Who left may have left before or after anything.
AGREES = {"whole": {"ok"}, "cut": {"engine_lost", "engine_broken", "engine_unreachable"}}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Run:
    """One run: gateway and engines as processes, clients here."""

    def __init__(self, requests: int, seed: int, at_once: int, endless_mib: int, workers: int, place: Path) -> None:
        self.requests, self.at_once, self.endless_mib, self.workers, self.place = requests, at_once, endless_mib, workers, place
        self.kills: list[float] = []
        self.cuts: list[tuple[str, Throw, str]] = []
        self.lag = 0.0
        self.when: dict[str, float] = {}
        self.chance = Random(seed)  # noqa: S311  (dice)
        self.port, self.admin, self.tight, *self.engines = free_ports(7)
        self.gateway: subprocess.Popen[bytes]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.next = self.done = 0
        self.idle: list[Client] = []
        self.ends: Counter[tuple[str, str]] = Counter()
        self.said: dict[str, tuple[str, str]] = {}
        self.turned_away: Counter[str] = Counter()
        self.faults: list[str] = []
        self.deeds: Counter[str] = Counter()
        self.memory: list[tuple[int, float]] = []
        self.most: Counter[str] = Counter()
        self.began = 0.0

    # --- processes

    def pools(self, *, fewer: bool = False) -> str:
        """The pools file; `fewer`: less a replica and a model."""
        engines = self.engines[: 3 if fewer else 4]
        return f"""
[[pools]]
name = "a"
model = "Qwen/Qwen2.5-0.5B-Instruct"
engine = "vllm"
gpu = "RTX 4090"
replicas = [{", ".join(f'"http://127.0.0.1:{p}"' for p in engines)}]
served_as = "served"
dollars_per_hour = 0.5
[[pools]]
name = "t"
model = "Qwen/Qwen2.5-0.5B-Instruct"
engine = "vllm"
gpu = "RTX 4090"
replicas = ["http://127.0.0.1:{self.tight}"]
dollars_per_hour = 0.5
[[routes]]
model = "m"
pools = ["a"]
[[routes]]
model = "tight"
pools = ["t"]
{"[[routes]]" + chr(10) + 'model = "gone"' + chr(10) + 'pools = ["a"]' if not fewer else ""}
[limits]
count_shared_once = true
queue_seconds = 4
"""

    def write(self, text: str) -> None:
        new = self.place / "pools.new"
        new.write_text(text)
        new.replace(self.place / "pools.toml")

    def start_gateway(self) -> None:
        self.write(self.pools())
        store = Store(self.place / "gateway.db")
        store.add_key("plain", key=KEYS["plain"])
        store.add_key("slow", key=KEYS["slow"], requests_per_minute=30)
        store.close()
        command = [sys.executable, "-m", "vram", "serve", str(self.place / "pools.toml"), "--port", str(self.port), "--admin-port", str(self.admin)]
        environment = {**os.environ, "VRAM_GATEWAY_DB": str(self.place / "gateway.db"), "VRAM_ADMIN_TOKEN": TOKEN}
        with (self.place / "gateway.log").open("wb") as log:
            self.gateway = subprocess.Popen(
                [*command, "--offline", "--keys", "--log-json", *(["--workers", str(self.workers), "--hung-after", "4"] if self.workers > 1 else [])],
                stderr=log,
                env=environment,
            )

    def start_engine(self, name: str) -> None:
        ports = [f"{p}" for p in self.engines[:3]] + [f"{self.tight}:24"] if name == "most" else [str(self.engines[3])]
        self.processes[name] = subprocess.Popen([sys.executable, str(HERE / "hostile.py"), *ports])

    def ask_admin(self, path: str, method: str = "GET") -> Any:
        asked = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", headers={"Authorization": f"Bearer {TOKEN}"}, method=method)
        for tries in range(20 if self.workers > 1 else 1):
            try:
                with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310  (of ours)
                    return json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                # The worker that was asked may be the one that was killed.
                if tries == 19 or self.workers == 1:
                    raise
                time.sleep(0.3)
        raise AssertionError

    async def admin_page(self, path: str, method: str = "GET") -> Any:
        return await asyncio.to_thread(self.ask_admin, path, method)

    async def until(self, what: str, true: Any, seconds: float = 30.0) -> bool:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            try:
                if await asyncio.to_thread(true):
                    return True
            except OSError:
                pass
            if self.gateway.poll() is not None:
                break
            await asyncio.sleep(0.2)
        self.faults.append(f"not within {seconds:g} s: {what}")
        return False

    def children(self) -> list[int]:
        """The workers' processes."""
        return [int(p) for p in Path(f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/children").read_text().split()]

    def rss_mib(self, *, workers: bool) -> float:
        """Of the process that was started, and of its workers; what they share is counted once for each."""
        pages = 0
        for pid in (self.gateway.pid, *(self.children() if workers else ())):
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:
                continue
        return pages * PAGE / 2**20

    def descriptors(self) -> list[str]:
        found = []
        for pid in (self.gateway.pid, *self.children()):
            for path in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    found.append(str(path.readlink()).partition(":")[0])
                except OSError:
                    continue
        return sorted(found)

    async def fewest_descriptors(self) -> list[str]:
        """The fewest of some looks: once a second it asks engines for a moment."""
        looks = []
        for _ in range(25):
            looks.append(self.descriptors())
            await asyncio.sleep(0.1)
        return min(looks, key=len)

    # --- clients

    async def client(self) -> None:
        loop = asyncio.get_running_loop()
        while self.next < self.requests:
            number, self.next = self.next, self.next + 1
            t = throw(self.chance)
            if number == self.requests // 2:
                t = Throw(kind="endless-whole", behaviour="endless-line", events=self.endless_mib * 1024, fresh=True, ends=frozenset({"whole"}))
            name = f"c{number}"
            client = None
            while self.idle and not t.fresh and client is None:
                client = self.idle.pop()
                if client.closed or loop.time() - client.since > 20:
                    if client.surplus:
                        self.faults.append(f"after an answer came {client.surplus!r}")
                    client.transport.close()
                    client = None
            if client is None:
                client = await self.connected()
            end = await client.ask(name, t)
            self.done += 1
            self.judge(name, t, end)
            if client.free and len(self.idle) < self.at_once:
                client.since = loop.time()
                self.idle.append(client)
            else:
                client.transport.close()

    async def connected(self) -> Client:
        """A new connection. Of several workers none may be there for a moment, when another is killed before the last one is back."""
        loop, tries = asyncio.get_running_loop(), 0
        while True:
            try:
                return (await loop.create_connection(Client, "127.0.0.1", self.port))[1]
            except OSError:
                tries += 1
                if self.workers == 1 or tries > 200:
                    raise
                await asyncio.sleep(0.1)

    def judge(self, name: str, t: Throw, end: str) -> None:
        self.ends[t.kind, end] += 1
        if end.startswith("WRONG"):
            for other in set(re.findall(r"c\d+", end)) - {name}:
                print(f"  {name} got of {other}: {self.said.get(other)}", file=sys.stderr)
            end = end[:600]
        self.when[name] = time.monotonic()
        if self.workers > 1 and end in {"cut", "cut before its head"}:
            # A worker that is killed takes its connections along. When each died, its supervisor's log says.
            self.cuts.append((name, t, end))
            return
        self.judge_end(name, t, end)

    def judge_end(self, name: str, t: Throw, end: str) -> None:
        allowed = t.ends | LOST | BUSY if t.key != "wrong" and t.raw in {"", "ahead", "too-long", "many"} else t.ends
        if end not in allowed:
            self.faults.append(f"{t.kind} ended as {end} ({name})")
        if t.leaves == "half":
            return
        if t.raw in {"bad-json", "deep-json", "negative", "smuggled", "headers", "no-path"} or t.key == "wrong":
            self.turned_away[end.partition(" ")[2]] += 1
        else:
            self.said[name] = t.kind, end

    def near_a_kill(self, name: str) -> bool:
        """Whether a request ended when a worker died, or so shortly before that its line was not written yet; on a busy machine both take longer."""
        return any(k - 1 - self.lag <= self.when.get(name, 0.0) <= k + 2 + self.lag for k in self.kills)

    # --- meanwhile

    async def watch(self) -> None:
        """Memory and books once in a while; progress for people."""
        last = time.monotonic()
        while True:
            # Workers that are killed and replaced are as large as they are old: of several, the one process that stays is judged.
            self.memory.append((self.done, self.rss_mib(workers=self.workers == 1)))
            found = await self.admin_page("/v1/replicas")
            for one in found["replicas"]:
                if one["kv"]["capacity"] and one["kv"]["held"] > one["kv"]["capacity"]:
                    self.faults.append(f"{one['pool']}/{one['number']} holds {one['kv']['held']} of {one['kv']['capacity']}")
            self.most["leases"] = max(self.most["leases"], sum(one["leases"] for one in found["replicas"]))
            self.most["saved"] = max(self.most["saved"], sum(one["kv"]["saved"] for one in found["replicas"]))
            self.most["waiting"] = max(self.most["waiting"], (await self.admin_page("/v1/queue?limit=1"))["waiting"])
            now = time.monotonic()
            if now - last > 5:
                last = now
                rate = self.done / (now - self.began)
                print(
                    f"  {self.done:>7,} of {self.requests:,}  {rate:,.0f}/s  {(self.requests - self.done) / max(rate, 1):,.0f} s left  "
                    f"{self.memory[-1][1]:.1f} MiB  {len(self.faults)} faults",
                    file=sys.stderr,
                )
            asleep = time.monotonic()
            await asyncio.sleep(0.5)
            self.lag = max(self.lag, time.monotonic() - asleep - 0.5)

    async def disturb(self) -> None:
        """Reload, drain, kill and restart, one after the other, as long as requests run."""
        fewer = False
        while True:
            await asyncio.sleep(0.7)
            match self.chance.choice(["reload", "reload", "broken file", "drain", "kill", *(["worker", "worker", "hang"] if self.workers > 1 else [])]):
                case "worker" if len(self.children()) == self.workers:
                    self.kills.append(time.monotonic())
                    os.kill(self.chance.choice(self.children()), signal.SIGKILL)
                    self.deeds["workers killed"] += 1
                    await asyncio.sleep(2.0)
                case "hang" if len(self.children()) == self.workers:
                    pid = self.chance.choice(self.children())
                    os.kill(pid, signal.SIGSTOP)
                    self.deeds["workers stopped"] += 1
                    while pid in self.children():
                        # Who leaves meanwhile leaves no line.
                        self.kills.append(time.monotonic())
                        await asyncio.sleep(0.5)
                    await asyncio.sleep(2.0)
                case "reload":
                    fewer = not fewer
                    self.write(self.pools(fewer=fewer))
                    self.gateway.send_signal(signal.SIGHUP)
                    self.deeds["reloads"] += 1
                case "broken file":
                    self.write("nonsense = [")
                    self.gateway.send_signal(signal.SIGHUP)
                    await asyncio.sleep(0.3)
                    self.write(self.pools(fewer=fewer))
                    self.deeds["broken files"] += 1
                case "drain":
                    number = self.chance.randrange(3)
                    await self.admin_page(f"/v1/replicas/a/{number}/drain", "POST")
                    await asyncio.sleep(0.5)
                    await self.admin_page(f"/v1/replicas/a/{number}/undrain", "POST")
                    self.deeds["drains"] += 1
                case "kill":
                    process = self.processes["one"]
                    process.kill()
                    await asyncio.to_thread(process.wait)
                    await asyncio.sleep(0.3)
                    self.start_engine("one")
                    self.deeds["engines killed"] += 1

    # --- the whole

    async def whole(self) -> dict[str, Any]:
        self.start_gateway()
        try:
            return await self.run()
        finally:
            for process in (*self.processes.values(), self.gateway):
                process.kill()
                process.wait()

    async def run(self) -> dict[str, Any]:
        await self.until("the gateway answers", lambda: self.ask_admin("/health"))
        # Without engines: what it has open of itself.
        before = await self.fewest_descriptors()
        self.start_engine("most")
        self.start_engine("one")
        await self.until("all replicas are up", lambda: all(r["good_seconds_ago"] is not None for r in self.ask_admin("/v1/replicas")["replicas"]), 60)
        self.began = time.monotonic()
        others = [asyncio.create_task(self.watch()), asyncio.create_task(self.disturb())]
        await asyncio.gather(*(self.client() for _ in range(self.at_once)))
        seconds = time.monotonic() - self.began
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        for task in others:
            if not task.cancelled() and task.exception() is not None:
                self.faults.append(f"beside the clients: {task.exception()!r}")
        for one in self.idle:
            if one.surplus:
                self.faults.append(f"after an answer came {one.surplus!r}")
            one.transport.close()
        after = await self.settle(before)
        self.gateway.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self.gateway.wait, 40)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            self.faults.append(f"the gateway ended with {code} after SIGTERM")
        return self.report(seconds, before, after)

    async def settle(self, before: list[str]) -> list[str]:
        """Nobody asks any more: everything has to be at 0, soon."""

        def at_zero() -> bool:
            replicas, queue, leases = self.ask_admin("/v1/replicas")["replicas"], self.ask_admin("/v1/queue"), self.ask_admin("/v1/leases")
            kept = [(r["leases"], r["sequences"], r["kv"]["held"], r["kv"]["saved"], r["kv"]["promised"]) for r in replicas]
            return all(k == (0, 0, 0, 0, 0) for k in kept) and queue["waiting"] == leases["total"] == 0

        if not await self.until("every ledger is at 0", at_zero, 15):
            self.faults.append(f"not at 0: {json.dumps(self.ask_admin('/v1/leases'))[:2000]} {json.dumps(self.ask_admin('/v1/queue'))[:1000]}")
        self.page = await asyncio.to_thread(self.metrics)
        gauges = [(name, self.counted(name)) for name in ("vram_requests_open", "vram_client_connections", "vram_leases", "vram_queue_requests")]
        self.faults += [f"{name} is {value}" for name, value in gauges if value]
        for port in [self.engines[0]] + [self.engines[3]] * (self.processes["one"].poll() is None):
            stats = json.loads(await asyncio.to_thread(lambda port=port: urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=10).read()))
            if stats["running"]:
                self.faults.append(f"an engine still works for {stats['running']} who left: {stats}")
        for process in self.processes.values():
            process.kill()
            process.wait()
        await asyncio.sleep(1.5)
        kept = sum(one["connections"] for one in (await self.admin_page("/v1/replicas"))["replicas"])
        if kept > len(self.engines):
            self.faults.append(f"{kept} connections to engines that are gone")
        after = await self.fewest_descriptors()
        if len(after) > len(before):
            self.faults.append(f"{len(after)} descriptors are open, {len(before)} were: {Counter(after) - Counter(before)}")
        return after

    def metrics(self) -> str:
        asked = urllib.request.Request(f"http://127.0.0.1:{self.admin}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        return urllib.request.urlopen(asked, timeout=20).read().decode()  # noqa: S310  (of ours)

    def counted(self, name: str) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in self.page.splitlines() if line.startswith((f"{name}{{", f"{name} ")))

    def report(self, seconds: float, before: list[str], after: list[str]) -> dict[str, Any]:
        lines = [json.loads(line) for line in (self.place / "gateway.log").read_text().splitlines()]
        requests = [line for line in lines if line.get("event") == "request"]
        since = time.time() - time.monotonic()
        self.kills += [datetime.fromisoformat(line["time"]).timestamp() - since for line in lines if "leases of it are given back" in line.get("message", "")]
        for name, t, end in self.cuts:
            if not self.near_a_kill(name):
                self.judge_end(name, t, end)
        away = Counter(line["code"] for line in lines if line.get("event") == "turned_away")
        errors = [
            line
            for line in lines
            if line.get("level") in {"error", "critical"}
            and not ("was not taken" in line["message"] or (self.kills and ("ended with -9" in line["message"] or "it hangs" in line["message"])))
        ]
        self.faults += [f"the gateway logged {json.dumps(e)[:1500]}" for e in errors[:5]]
        ids = Counter(line["request_id"] for line in requests)
        self.faults += [f"{count} lines for {name}" for name, count in list(ids.items())[: 10**6] if count != 1][:20]
        missing, surplus = self.said.keys() - ids.keys(), ids.keys() - self.said.keys()
        if self.workers > 1:
            missing = {name for name in missing if not self.near_a_kill(name)}
            surplus = {name for name in surplus if not self.near_a_kill(name)}
        if missing and self.kills:
            away = sorted(min(abs(self.when.get(name, 0.0) - k) for k in self.kills) for name in missing)
            self.faults.append(
                f"requests without a line ended {away[0]:.1f} to {away[-1]:.1f} s from a worker's end; this machine was late by {self.lag:.1f} s"
            )
        if missing or surplus:
            self.faults.append(f"{len(missing)} requests have no line ({[(m, self.said[m]) for m in list(missing)[:5]]}), {len(surplus)} lines have no request")
        pairs: Counter[tuple[str, str]] = Counter()
        for line in requests:
            kind, end = self.said.get(line["request_id"], ("", ""))
            outcome = line["outcome"]
            pairs[end, outcome] += 1
            agrees = AGREES.get(end)
            if end.startswith("event "):
                agrees = {end[6:]}
            elif end.startswith("engine "):
                agrees = {"engine_error"}
            elif end[:3].isdigit():
                agrees = {"refused" if not line["tries"] else end[4:]}
            if agrees is not None and line["request_id"] in self.said and outcome not in agrees and not (end == "cut" and kind == "until-close"):
                self.faults.append(f"{kind} ended as {end}, and is logged as {outcome} ({line['request_id']})")
        if away != self.turned_away and self.workers == 1:
            self.faults.append(f"turned away by the log {dict(away - self.turned_away)} more, by the clients {dict(self.turned_away - away)} more")
        # Of those refused before they reached a line there is a log line, and no usage.
        ticketless = sum(1 for line in requests if not line["pool"] and line["code"] in {"model_not_found", "too_many_sequences", "requests_exceeded"})
        with sqlite3.connect(self.place / "gateway.db") as db:
            used = db.execute("SELECT SUM(requests) FROM usage").fetchone()[0]
        counted = int(self.counted("vram_requests_total"))
        if self.workers == 1 and (used != counted or not len(requests) - ticketless <= counted <= len(requests)):
            self.faults.append(f"usage has {used} requests, metrics {counted}, the log {len(requests)} of which {ticketless} may have no usage")
        memory = self.judge_memory()
        return {
            "requests": self.done,
            "seconds": round(seconds, 1),
            "ends": {f"{kind}: {end}": count for (kind, end), count in sorted(self.ends.items())},
            "agreement": {f"{end} = {outcome}": count for (end, outcome), count in sorted(pairs.items())},
            "turned_away": dict(away),
            "deeds": dict(self.deeds),
            "most": dict(self.most),
            "memory_mib": memory,
            "descriptors": {"before": len(before), "after": len(after)},
            "logged": len(requests),
            "metrics": counted,
            "usage": used,
            "faults": self.faults,
        }

    def judge_memory(self) -> dict[str, float]:
        """Flat: its median in the last tenth of the requests is that after the first three tenths, but for 5 % and 4 MiB; and so is the line through
        the second half, drawn on to 100,000 requests."""  # noqa: D205, D209
        early = [m for done, m in self.memory if 0.3 <= done / self.requests < 0.4] or [self.memory[-1][1]]
        late = [m for done, m in self.memory if done / self.requests >= 0.9] or [self.memory[-1][1]]
        half = [(done, m) for done, m in self.memory if done / self.requests >= 0.5]
        a, z = statistics.median(early), statistics.median(late)
        slope = statistics.linear_regression(*zip(*half, strict=True)).slope * 1e5 if len(half) > 10 else 0.0
        if z > a * 1.05 + 4:
            self.faults.append(f"memory grew from {a:.1f} to {z:.1f} MiB")
        if self.requests >= 100_000 and slope > 0.05 * a + 4:
            self.faults.append(f"memory grows by {slope:.1f} MiB in 100,000 requests")
        return {
            "after_three_tenths": round(a, 1),
            "last_tenth": round(z, 1),
            "most": round(max(m for _, m in self.memory), 1),
            "slope_per_100000_requests": round(slope, 2),
        }


def show(found: dict[str, Any]) -> None:
    """What came of it, for people."""
    by: dict[str, Counter[str]] = {}
    for row, count in found["ends"].items():
        kind, _, end = row.partition(": ")
        by.setdefault(kind, Counter())[end] += count
    print(f"{found['requests']:,} requests in {found['seconds']:,.0f} s; " + ", ".join(f"{v} {k}" for k, v in found["deeds"].items()))
    for kind, ends in sorted(by.items(), key=lambda item: -item[1].total()):
        print(f"  {kind:<24}{ends.total():>8,}  " + ", ".join(f"{end} {count:,}" for end, count in ends.most_common(6)))
    memory = found["memory_mib"]
    print(
        f"most at once: {found['most'].get('leases', 0)} leases, {found['most'].get('waiting', 0)} waiting, {found['most'].get('saved', 0) / 2**20:.1f} MiB saved"
    )
    print(
        f"memory: {memory['after_three_tenths']} MiB after three tenths, {memory['last_tenth']} MiB in the last tenth, most {memory['most']} MiB; "
        f"slope of the second half {memory['slope_per_100000_requests']:+} MiB in 100,000 requests"
    )
    print(f"descriptors: {found['descriptors']['before']} before, {found['descriptors']['after']} after")
    print(f"log {found['logged']:,} requests + {sum(found['turned_away'].values()):,} turned away; metrics {found['metrics']:,}; usage {found['usage']:,}")
    for fault in found["faults"][:40]:
        print(f"FAULT  {fault}")
    print("every ledger at 0, every request answered in one way" if not found["faults"] else f"{len(found['faults'])} faults")


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--at-once", type=int, default=128, help="clients at once")
    options.add_argument("--endless-mib", type=int, default=1024, help="size of the one line without an end that is read whole")
    options.add_argument("--workers", type=int, default=1, help="processes of the gateway; with several, some are killed meanwhile")
    options.add_argument("--json", type=Path, help="file for the result")
    args = options.parse_args()
    if not Path("/proc/self/fd").exists():
        raise SystemExit("Linux only: descriptors and memory are read from /proc")
    with tempfile.TemporaryDirectory() as folder:
        work = Run(args.requests, args.seed, args.at_once, args.endless_mib, args.workers, Path(folder)).whole()
        try:
            import uvloop
        except ImportError:
            found = asyncio.run(work)
        else:
            found = uvloop.run(work)
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1))
    show(found)
    sys.exit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
