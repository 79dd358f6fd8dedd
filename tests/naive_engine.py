"""vLLM's V1 engine loop written down step by step, sequence by sequence, as its scheduler reads: slow, and with no jump.

The oracle of `planner/simulate/replica.py`: every request keeps its own counters and list of blocks, every step walks over all of
them, and asynchronous scheduling is a queue of two batches as in `EngineCore.step_with_batch_queue`.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from vram.planner.simulate.request import Request
from vram.planner.simulate.spec import ReplicaSpec


@dataclass(eq=False)
class Req:
    index: int
    request: Request
    output_tokens: int = 0
    computed: int = 0
    placeholders: int = 0
    in_flight: int = 0
    stale: int = 0
    status: str = "waiting"
    tables: list[list[int]] = field(default_factory=list)  # per table: [first block index still held, blocks allocated]
    first: float = -1.0
    finish: float = -1.0
    preemptions: int = 0
    prefilled: bool = False

    @property
    def num_tokens(self) -> int:
        return self.request.prompt_tokens + self.output_tokens


class Part(NamedTuple):
    """What a step does for one request."""

    r: Req
    before: int
    new: int
    samples: bool
    decodes: bool


class NaiveEngine:
    def __init__(self, spec: ReplicaSpec) -> None:
        self.spec, self.free = spec, spec.blocks
        self.waiting: deque[Req] = deque()
        self.running: list[Req] = []
        self.preemptions = 0
        self.groups = [g for g in spec.rule.groups for _ in range(g.tables)]
        self.most_used = 0

    # KVCacheManager

    def allocate(self, r: Req, new: int, *, whole: bool) -> bool:
        if not r.tables:
            r.tables = [[0, 0] for _ in self.groups]
        spared = self.spec.watermark_blocks if whole and self.running else 0
        if whole:
            need = sum(min(-(-r.num_tokens // g.block_size), g.most_blocks) if g.block_size else g.fixed_blocks for g in self.groups)
            if need + spared > self.free:
                return False
        for g, table in zip(self.groups, r.tables, strict=True):
            if g.block_size and table[1]:
                passed = g.skipped(max(r.computed - r.in_flight, 0)) // g.block_size
                self.free += max(passed - table[0], 0)
                table[0] = max(table[0], passed)
        wanted = [-(-(r.computed + new) // g.block_size) if g.block_size else g.fixed_blocks for g in self.groups]
        need = sum(max(w - t[1], 0) for w, t in zip(wanted, r.tables, strict=True))
        if need + spared > self.free:
            return False
        self.free -= need
        for w, t in zip(wanted, r.tables, strict=True):
            t[1] = max(t[1], w)
        return True

    def release(self, r: Req) -> None:
        self.free += sum(t[1] - t[0] for t in r.tables)
        r.tables = []

    # Scheduler

    def schedule(self) -> list[Part]:
        spec, budget, preempted = self.spec, self.spec.max_batched_tokens, False
        batch: list[tuple[Req, int]] = []
        i = 0
        while i < len(self.running) and budget > 0:
            r = self.running[i]
            limit = r.request.prompt_tokens + (r.request.max_tokens or 10**9)
            if r.placeholders > 0 and r.computed + 2 - r.placeholders >= limit:
                i += 1
                continue
            new = min(r.num_tokens + r.placeholders - r.computed, budget)
            if new == 0:
                i += 1
                continue
            done = False
            while not self.allocate(r, new, whole=False):
                victim = self.running.pop()
                self.preempt(victim)
                preempted = True
                if victim is r:
                    done = True
                    break
            if done:
                break
            batch.append((r, new))
            budget -= new
            i += 1
        while not preempted and budget > 0 and self.waiting and len(self.running) < spec.max_num_seqs:
            r = self.waiting[0]
            if r.stale:
                break
            new = r.num_tokens - r.computed
            if not spec.chunked_prefill and new > budget:
                break
            new = min(new, budget)
            if not self.allocate(r, new, whole=True):
                break
            self.waiting.popleft()
            self.running.append(r)
            r.status = "running"
            batch.append((r, new))
            budget -= new
        steps = []
        for r, new in batch:
            samples, decodes = r.computed + new >= r.num_tokens + r.placeholders, r.prefilled
            steps.append(Part(r, r.computed, new, samples, decodes))
            r.computed += new
            r.in_flight += new
            if samples:
                r.prefilled = True
                r.placeholders += self.spec.asynchronous
        self.most_used = max(self.most_used, self.spec.blocks - self.free)
        return steps

    def preempt(self, r: Req) -> None:
        self.release(r)
        r.computed, r.prefilled = 0, False
        r.stale = r.in_flight
        r.placeholders = 0
        r.preemptions += 1
        self.preemptions += 1
        r.status = "preempted"
        self.waiting.appendleft(r)

    def update(self, batch: list[Part], now: float) -> None:
        for r, _, new, samples, _ in batch:
            r.in_flight -= new
            stale = r.stale > 0
            if stale:
                r.stale -= new
            if r.finish >= 0 or not samples:
                continue
            r.output_tokens += 1
            if not stale and self.spec.asynchronous:
                r.placeholders -= 1
            if r.first < 0:
                r.first = now
            if r.output_tokens >= r.request.answered_tokens:
                r.finish = now
                if r.status == "running":
                    self.running.remove(r)
                    self.release(r)
                else:
                    self.waiting.remove(r)


def replay(spec: ReplicaSpec, requests: list[Request]) -> tuple[list[Req], NaiveEngine]:
    """Every request's times, and the engine afterwards."""
    engine = NaiveEngine(spec)
    reqs = [Req(i, r) for i, r in enumerate(requests)]
    coming = deque(reqs)
    flight: deque[tuple[float, list[Part]]] = deque()
    now = last_end = 0.0
    depth = 2 if spec.asynchronous else 1
    while True:
        while coming and coming[0].request.arrival_seconds <= now:
            engine.waiting.append(coming.popleft())
        if engine.running or engine.waiting:
            batch = engine.schedule()
        elif flight:
            batch = []
        elif coming:
            now = coming[0].request.arrival_seconds
            continue
        else:
            return reqs, engine
        if batch:
            prefills = [p for p in batch if not p.decodes]
            decodes = [p for p in batch if p.decodes]
            seconds = spec.clock.seconds(
                sum(p.new for p in prefills),
                sum(p.new * p.before + p.new * (p.new + 1) // 2 for p in prefills),
                len(decodes),
                sum(p.before + 1 for p in decodes),
            )
            last_end = max(last_end, now) + seconds
            flight.append((last_end, batch))
            if len(flight) < depth:
                continue
        if flight:
            end, done = flight.popleft()
            now = max(now, end)
            engine.update(done, end)
