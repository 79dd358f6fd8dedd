"""The gateway's life: read the pools file, plan, listen, watch, reload, drain, stop.

What is read anew (SIGHUP) is read whole and checked before anything changes; streams that run go on under the old file's rooms.
"""

import asyncio
import gc
import logging
import time
from typing import TYPE_CHECKING, Any

from vram.errors import UsageError, VramError
from vram.gateway.admin import AdminHouse
from vram.gateway.after import After
from vram.gateway.assemble import Assembled, PoolPlan, addresses_of, assemble
from vram.gateway.doors import open_doors
from vram.gateway.ends import Ends
from vram.gateway.exposition import TEXT, metrics
from vram.gateway.follow import follow_keys
from vram.gateway.front import Front
from vram.gateway.house import House
from vram.gateway.idle import IDLE_SECONDS
from vram.gateway.keys import KeyRing
from vram.gateway.options import Options
from vram.gateway.pages import Pages
from vram.gateway.planned import read_and_plan
from vram.gateway.store import Store
from vram.gateway.tally import Tally
from vram.gateway.usage import UsageWriter
from vram.gateway.watch import Watched
from vram.readers.pools import PoolsFile

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from vram.gateway.crew import Crew
    from vram.gateway.doors import OwnDoors
    from vram.gateway.exchange import Exchange
    from vram.gateway.house import Answer
    from vram.gateway.keys import Key
    from vram.gateway.request import Request
    from vram.gateway.seats import Seat

log = logging.getLogger("vram.gateway")


class Gateway:
    """One process of the gateway."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.house: House
        self.assembled: Assembled
        self.port = self.admin_port = 0
        self.admin: AdminHouse | None = None
        self._admin_server: asyncio.Server | None = None
        self.store = Store(options.store) if options.store is not None else None
        self.writer = UsageWriter(self.store) if self.store is not None else None
        self._watchers: dict[str, tuple[Watched, asyncio.Task[None]]] = {}
        self.after = After(list(options.listeners)) if options.listeners else None
        self.crew = options.crew
        self._idle = options.ledger.idle()
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.Server | OwnDoors] = []
        self._reading = asyncio.Lock()
        self.began = int(time.time())
        self.tally = Tally()
        self.ends = Ends(self.tally, self.writer, self.after)

    async def start(self) -> None:
        """Plan, listen, watch.

        Raises:
            UsageError: the pools file is wrong.
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        file, plans = await asyncio.to_thread(self._read)
        addresses = await asyncio.to_thread(addresses_of, file)
        ring = KeyRing(required=keys_required(self.options, self.store), follows=self.options.keys_required is None, make=self.options.ledger.key)
        keys_version = 0
        if self.store is not None:
            keys_version = self.store.version()
            ring.replace(self.store.keys())
        limits = self.options.limits
        self.house = House(loop, ring, limits)
        self.house.on_end = self.ends.ended
        self.house.on_refusal = self.ends.turned_away
        self.house.begin_span = self.options.begin_span
        self._take(file, plans, addresses)
        if self.writer is not None:
            self.writer.start()
        if self.after is not None:
            self.after.start()
        self._servers = await open_doors(self.house, self.options.host, self.options.port, shared=self.crew is not None)
        self.port = self._servers[0].sockets[0].getsockname()[1]
        await self._open_admin()
        self._tasks = [loop.create_task(self._tick())]
        if self.store is not None:
            self._tasks.append(loop.create_task(follow_keys(self.store, ring, keys_version)))
        for server in self._servers:
            await server.start_serving()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    def _read(self) -> tuple[PoolsFile, dict[str, PoolPlan]]:
        if self.options.read is not None:
            return self.options.read()
        known = self.assembled.plans if hasattr(self, "assembled") else None
        return read_and_plan(self.options.pools, offline=self.options.offline, plan=self.options.plan, known=known)

    async def _open_admin(self) -> None:
        options, loop = self.options, self.house.loop
        if options.admin_port is None:
            return
        self.admin = admin = AdminHouse(loop, self, options.admin_token)
        try:
            self._admin_server = await loop.create_server(
                lambda: Front(admin), options.admin_host, options.admin_port, reuse_port=self.crew is not None or None
            )
        except OSError as e:
            raise admin_taken(options, e) from None
        self.admin_port = self._admin_server.sockets[0].getsockname()[1]

    def _take(self, file: PoolsFile, plans: dict[str, PoolPlan], addresses: dict[str, Any]) -> None:
        before = getattr(self, "assembled", None)
        if before is not None:
            self._write_idle()
        self.assembled = assembled = assemble(self.house, file, plans, addresses, before, self.options.ledger)
        self.ends.plans = assembled.plans
        for plan in plans.values():
            for note in plan.notes:
                log.warning("%s", note)
        if before is not None:
            _move(before, assembled, self.house.exchanges)
            there = {seat.replica for seats in assembled.seats.values() for seat in seats}
            for seat in (seat for seats in before.seats.values() for seat in seats):
                if seat.replica not in there:
                    seat.replica.retire()
        self.house.desk = assembled.desk
        if self.crew is not None:
            assembled.desk.suspects.told = self.crew.suspect
        if self.options.taken is not None:
            self.options.taken(assembled)
        if file.limits.body_bytes is not None:
            from dataclasses import replace  # noqa: PLC0415  (once a file)

            self.house.limits = replace(self.options.limits, body_bytes=file.limits.body_bytes)
        pages = Pages(assembled, self.began, self.crew)
        self.house.open_pages = {b"/health": pages.health, b"/ready": pages.ready, b"/openapi.json": pages.openapi}
        self.house.pages = {b"/v1/models": pages.models, b"/metrics": self._metrics}
        watched = {seat.replica.url: (seat, plans[name]) for name, seats in assembled.seats.items() for seat in seats}
        for url in [u for u in self._watchers if u not in watched or self._watchers[u][0].seat is not watched[u][0]]:
            self._watchers.pop(url)[1].cancel()
        for url, (seat, plan) in watched.items():
            if url not in self._watchers:
                watcher = Watched(seat, plan.room, plan.in_tokens, plan.pool.served_as or plan.pool.model, plan.shared, ledger=self.options.ledger)
                self._watchers[url] = watcher, self.house.loop.create_task(watcher.run())
            self._watchers[url][0].shares = file.limits.count_shared_once

    async def reload(self) -> bool:
        """Read the pools file again. Returns whether it was taken; a file with an error changes nothing."""
        try:
            await self.read_again()
        except VramError as e:
            log.error("the pools file was not taken: %s (%s)", e.message, e.hint)  # noqa: TRY400  (the message is all there is to say)
            return False
        return True

    async def read_again(self) -> None:
        """Read the pools file again.

        Raises:
            VramError: it has an error; nothing changed.
        """
        if self.crew is not None:
            # Read once, and taken by all workers.
            await self.crew.ask("reload")
            return
        # One after the other: of two readings that overlap, the older file might be taken last.
        async with self._reading:
            file, plans = await asyncio.to_thread(self._read)
            await self.take(file, plans)
        log.info("the pools file was read again: %d pools", len(file.pools))

    async def take(self, file: PoolsFile, plans: dict[str, PoolPlan]) -> None:
        """Go on by another file.

        Raises:
            VramError: a replica of it leads nowhere; nothing changed.
        """
        self._take(file, plans, await asyncio.to_thread(addresses_of, file))

    async def _tick(self) -> None:
        due = self.house.now() + IDLE_SECONDS
        while True:
            await asyncio.sleep(1.0)
            try:
                self.options.ledger.tick()
                self.house.tick()
                if self.admin is not None:
                    self.admin.tick()
                if self.house.now() >= due:
                    due = self.house.now() + IDLE_SECONDS
                    self._write_idle()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the once-a-second work")

    def _write_idle(self) -> None:
        if self.writer is not None:
            seats = ((name, seat) for name, seats in self.assembled.seats.items() for seat in seats)
            self.writer.add_rents(self._idle.since(seats, self.house.now()))

    def watched(self, seat: "Seat") -> Watched | None:
        """What a replica's engine said of itself."""
        found = self._watchers.get(seat.replica.url)
        return found[0] if found is not None else None

    def _metrics(self, _: "Request", key: "Key") -> "Answer | Coroutine[Any, Any, Answer] | None":
        # A key learns nothing of models that it may not ask for.
        if key.terms.models is not None:
            return None
        return (200, TEXT, metrics(self)) if self.crew is None else self._all_metrics(self.crew)

    async def _all_metrics(self, crew: "Crew") -> "Answer":
        text: str = await crew.ask("metrics")
        return 200, TEXT, text.encode(errors="replace")

    async def stop(self) -> None:
        """Let what runs end, bounded; then end everything."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for _, task in self._watchers.values():
            task.cancel()
        await self.house.stop()
        if self.admin is not None and self._admin_server is not None:
            self._admin_server.close()
            await self.admin.stop()
        for seats in self.assembled.seats.values():
            for seat in seats:
                seat.replica.close()
        if self.writer is not None:
            self._write_idle()
            await asyncio.to_thread(self.writer.close)
        if self.store is not None:
            self.store.close()
        if self.after is not None:
            await asyncio.to_thread(self.after.close)


def admin_taken(options: Options, e: OSError) -> UsageError:
    """The administrators' port is another's."""
    return UsageError(
        f"cannot listen on {options.admin_host}:{options.admin_port} for administrators: {e.strerror or e}",
        hint="is another gateway running? choose another port, or none: --admin-port 0",
    )


def keys_required(options: Options, store: Store | None) -> bool:
    """Whether clients need a key."""
    if options.keys_required is not None:
        return options.keys_required
    return (store is not None and bool(store.keys())) or options.host not in {"127.0.0.1", "::1", "localhost"}


def _move(before: Assembled, after: Assembled, exchanges: "Iterable[Exchange]") -> None:
    """Whoever waited in a line that is still there goes on waiting in the new one; the others are told that their model is gone.

    Whoever runs belongs to the new line as well: that is where it waits if its replica fails it.
    """
    for x in exchanges:
        there = after.desk.counters.get(x.ask.model)
        if x.ticket is not None and x.ticket.lease is not None and there is not None:
            x.ticket.counter = there
    for name, counter in before.desk.counters.items():
        for need in list(counter.line):
            counter.line.leave(need)
            exchange: Any = need.owner
            there = after.desk.counters.get(name)
            if there is None:
                before.desk.gone(exchange)
            else:
                exchange.ticket.counter = there
                there.line.join(need)
