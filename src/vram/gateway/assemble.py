"""From the pools file to desks and replicas: each pool planned, its cache turned into books, its names into routes.

The planner that signs a pool and the gateway that guards it call the same functions: a pool's cache is what `vram plan` says of it,
until its engine says more.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vram.admission.decide import Pool as AdmissionPool
from vram.admission.decide import Route
from vram.errors import UsageError, VramError
from vram.gateway.addresses import Address, Resolve, address_of, resolve
from vram.gateway.bench import Bench
from vram.gateway.ledger import Ledger
from vram.gateway.replica import Replica
from vram.gateway.seats import UNKNOWN_TOKENS, Counter, Seat
from vram.memory.curve import KvRoom, blocks
from vram.readers.pools import Pool, PoolsFile

if TYPE_CHECKING:
    from vram.admission.books import Books
    from vram.costs.vram_time import Meter
    from vram.gateway.desk import Desk
    from vram.gateway.house import House
    from vram.model.model import Model
    from vram.planner.plan import Plan

log = logging.getLogger("vram.gateway")

SLOTTED = frozenset({"llama.cpp", "ollama"})
"""Engines of slots. They have no preemption: what does not fit the cache fails, and with it all that run."""
TOKEN_UNIT = 1
"""Where a model's bytes are not known, a token is one unit: the books are kept in tokens."""
Planner = Callable[..., "Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What is known of a pool before its engines are asked.

    Attributes:
        pool: as the file has it.
        room: what the cache of one replica holds.
        in_tokens: whether `room` counts tokens, because the model's bytes are not known.
        usable_bytes: of all GPUs of a replica; 0 where it was not planned.
        shared_bytes: of which weights and all else that is no cache.
        gpus: GPUs of a replica.
        notes: what an operator should know.
    """

    pool: Pool
    room: KvRoom
    in_tokens: bool
    usable_bytes: int
    shared_bytes: int
    gpus: int
    notes: tuple[str, ...] = ()

    @property
    def slotted(self) -> bool:
        """Whether its engine has slots."""
        return self.pool.engine.partition("@")[0] in SLOTTED

    @property
    def shared(self) -> bool:
        """Whether sequences share one cache; False: each slot has one of its own."""
        if not self.slotted:
            return True
        if not self.in_tokens:
            return self.room.curve.step_bytes > 0
        settings = self.pool.settings
        return settings.kv_unified if settings.kv_unified is not None else settings.max_num_seqs is None


def plan_pool(pool: Pool, plan: Planner, *, offline: bool | None = None) -> PoolPlan:
    """Plan one replica of a pool.

    Where its model cannot be read, its capacity in tokens (from the file, else without limit until the engine says it) takes the
    place of bytes; that is noted.
    """
    from vram.planner.room import kv_room_of  # noqa: PLC0415  (a gateway that only checks its file plans nothing)

    s = pool.settings

    def planned(model: "str | Model", context_tokens: int | None) -> "Plan":
        return plan(
            model,
            gpu=pool.gpu,
            engine=pool.engine,
            context_tokens=context_tokens,
            quant=s.quant if isinstance(model, str) else None,
            kv_dtype=s.kv_dtype,
            tp=pool.placement.tp,
            pp=pool.placement.pp,
            ep=pool.placement.ep,
            gpu_memory_utilization=s.gpu_memory_utilization,
            max_num_seqs=s.max_num_seqs,
            # llama.cpp's sequences are its slots.
            parallel=s.max_num_seqs if pool.engine.partition("@")[0] in SLOTTED else None,
            max_batched_tokens=s.max_batched_tokens,
            block_size=s.block_size,
            kv_unified=s.kv_unified,
            kv_pool_bytes=pool.capacity.kv_bytes,
            offline=offline,
        )

    try:
        made = planned(pool.model, s.context_tokens)
        stated = made.model.geometry.max_context_tokens
        if s.context_tokens is None and stated and stated != made.workload.context_tokens:
            # Engines that are told no length take the model's own.
            made = planned(made.model, stated)
        room = kv_room_of(made)
    except VramError as e:
        made, room = None, None
        why = e.message
    else:
        why = "what its layers cache is not known"
    sequences, slotted = s.max_num_seqs or 256, pool.engine.partition("@")[0] in SLOTTED
    if made is None or room is None:
        tokens = pool.capacity.kv_tokens or UNKNOWN_TOKENS
        room = KvRoom(curve=blocks(TOKEN_UNIT, 1), capacity_bytes=tokens, context_tokens=s.context_tokens or tokens, max_sequences=sequences, firm=slotted)
        note = f"pool {pool.name}: counted in tokens, not in bytes: {why}"
        return PoolPlan(pool=pool, room=room, in_tokens=True, usable_bytes=0, shared_bytes=0, gpus=1, notes=(note,))
    usable = sum(g.usable_bytes for g in made.gpus)
    notes = []
    if pool.capacity.kv_blocks is not None:
        room = replace(room, capacity_bytes=room.of_blocks(pool.capacity.kv_blocks))
    if made.verdict == "does_not_fit":
        notes.append(f"pool {pool.name}: by its plan {pool.model} does not fit {pool.gpu}: vram plan {pool.model} --gpu {pool.gpu!r} says why")
    return PoolPlan(
        pool=pool,
        room=room,
        in_tokens=False,
        usable_bytes=usable,
        shared_bytes=min(sum(g.parts.total_bytes - g.parts.kv_cache.bytes for g in made.gpus), usable),
        gpus=len(made.gpus),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A gateway's rooms: the desk, and everything it seats."""

    desk: "Desk"
    seats: dict[str, list[Seat]]
    """By pool name."""
    plans: dict[str, PoolPlan]
    public: dict[str, Route]


def addresses_of(file: PoolsFile, look_up: Resolve = resolve) -> dict[str, Address]:
    """Every replica's address by URL.

    Raises:
        UsageError: a pool has no replica, or one leads nowhere.
    """
    found: dict[str, Address] = {}
    for pool in file.pools:
        if not pool.replicas:
            raise UsageError(f"pool {pool.name!r} has no replicas", hint='a gateway needs their addresses: replicas = ["http://127.0.0.1:8000"]')
        for url in pool.replicas:
            found[url] = address_of(url, look_up)
    return found


def assemble(
    house: "House",
    file: PoolsFile,
    plans: dict[str, PoolPlan],
    addresses: dict[str, Address],
    before: "Assembled | None" = None,
    ledger: Ledger | None = None,
) -> Assembled:
    """Desk, routes and replicas of a file. What `before` has of the same replicas and models goes on: connections, books, what was learned."""
    ledger = ledger or Ledger()
    old_seats = {seat.replica.url: seat for seats in before.seats.values() for seat in seats} if before is not None else {}
    seats: dict[str, list[Seat]] = {}
    pools: dict[str, AdmissionPool] = {}
    for pool in file.pools:
        plan = plans[pool.name]
        made = AdmissionPool(pool.name, pool.served_as or pool.model, [])
        old_bench = before.seats.get(pool.name) if before is not None else None
        bench = old_bench[0].bench if old_bench else Bench(pool.name)
        bench.retries.share, bench.slow_start_seconds = file.limits.retry_share, file.limits.slow_start_seconds
        bench.rules, bench.seats = file.outliers, seats.setdefault(pool.name, [])
        for i, url in enumerate(pool.replicas):
            old = old_seats.get(url)
            if old is not None and old.books.curve == plan.room.curve:
                # Leases that run stay where they are: the same books under the new file's limits.
                books = old.books
                books.context_tokens, books.max_sequences = plan.room.context_tokens, plan.room.max_sequences
            else:
                books = ledger.books(url, f"{pool.name}/{i}", plan.room)
            address = addresses[url]
            replica = old.replica if old is not None else Replica(house, url=url, host=address.host, port=address.port, prefix=address.prefix, tls=address.tls)
            meter = old.meter if old is not None and old.books is books else _meter(ledger, books, plan, house.now())
            seat = Seat(replica, books, meter, made, bench)
            seat.engine = pool.engine.partition("@")[0]
            books.owner = seat
            made.books.append(books)
            bench.seats.append(seat)
        pools[pool.name] = made
    shares = before.desk.shares if before is not None else ledger.shares()
    public = _routes(file, pools)
    counters: dict[str, Counter] = {}
    for name, route in public.items():
        counter = ledger.counter(route, shares)
        if before is not None and (known := before.desk.counters.get(name)) is not None:
            counter.prompts, counter.outputs, counter.events = known.prompts, known.outputs, known.events
        counters[name] = counter
    limits = file.limits
    ledger.seated({seat.books for found in seats.values() for seat in found})
    desk = ledger.desk(
        counters,
        shares,
        queue_seconds=60.0 if limits.queue_seconds is None else limits.queue_seconds,
        queue_requests=limits.queue_requests or 10_000,
        output_tokens=limits.output_tokens,
        affinity=limits.affinity,
    )
    if before is not None:
        desk.suspects, desk.counting = before.desk.suspects, before.desk.counting
    desk.suspects.quarantine.seconds = limits.quarantine_seconds
    return Assembled(desk=desk, seats=seats, plans=plans, public=public)


def _meter(ledger: Ledger, books: "Books", plan: PoolPlan, now: float) -> "Meter | None":
    if plan.pool.dollars_per_hour is None or not plan.usable_bytes:
        return None
    rent = round(plan.pool.dollars_per_hour * 1_000_000_000)
    return ledger.meter(
        books,
        nanodollars_per_hour=rent,
        usable_bytes=plan.usable_bytes // plan.gpus,
        shared_bytes=plan.shared_bytes // plan.gpus,
        began_ns=int(now * 1e9),
    )


def _routes(file: PoolsFile, pools: dict[str, AdmissionPool]) -> dict[str, Route]:
    """Routes by public name; those that others fall back to have no fallback of their own there: one step, no chain."""
    plain = {
        r.model: Route(
            model=r.model,
            pools=tuple(pools[name] for name in r.pools),
            larger_pool=r.fallback.larger_pool,
            least_output_tokens=r.fallback.least_output_tokens,
        )
        for r in file.all_routes
    }
    return {
        r.model: Route(
            model=r.model,
            pools=plain[r.model].pools,
            larger_pool=r.fallback.larger_pool,
            others=tuple(plain[name] for name in r.fallback.models),
            least_output_tokens=r.fallback.least_output_tokens,
        )
        for r in file.all_routes
    }


def stored_plan(path: Path) -> dict[str, Any]:
    """A plan that was written down with `vram plan --json`.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        found = json.loads(path.read_bytes()[: 2**24])
    except (OSError, ValueError, RecursionError) as e:
        raise UsageError(f"{path} is no plan: {e}", hint="write one with: vram plan MODEL … --json > plan.json") from None
    if not isinstance(found, dict) or found.get("schema") != "vram.plan/1":
        raise UsageError(f"{path} is no plan of schema vram.plan/1", hint="write one with: vram plan MODEL … --json > plan.json")
    return found
