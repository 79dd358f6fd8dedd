"""Watching replicas: what their engines say of themselves, and whether they still generate. Each has a task of its own.

What an engine says corrects the books: its capacity where it states one, its usage while that is fresh. A probe generates one token,
because an engine can answer /health and compute no more.
"""

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Final

from vram.admission.books import FRESH_SECONDS
from vram.gateway.call import CallError, SilentError, UnsentError, call
from vram.gateway.ledger import Ledger
from vram.gateway.scrape import (
    Load,
    load_from_info,
    load_from_metrics,
    load_from_models,
    load_from_props,
    load_from_ps,
    load_from_server_info,
    load_from_slots,
    merged,
)
from vram.gateway.seats import Seat
from vram.memory.curve import NO_LIMIT, KvRoom

if TYPE_CHECKING:
    from vram.gateway.exchange import Exchange

log = logging.getLogger("vram.gateway")

SCRAPE_SECONDS: Final = 1.0
ABOUT_SECONDS: Final = 30.0
"""How often an engine is asked for what seldom changes: its cache's size, its longest sequence."""
PROBE_SECONDS: Final = 20.0
"""How long a probe may take: it waits its turn behind whatever runs."""


@dataclass(slots=True)
class Watched:
    """What is known of one replica from itself."""

    seat: Seat
    room: KvRoom
    in_tokens: bool
    model: str
    shared: bool = True
    """Whether sequences share one cache; False: each of llama.cpp's slots has one of its own."""
    load: Load = field(default_factory=Load)
    about: Load = field(default_factory=Load)
    at: float = float("-inf")
    about_at: float = float("-inf")
    told: str = ""
    ledger: Ledger = field(default_factory=Ledger)
    shares: bool = False
    """Whether what its engine says that its sequences hold together is believed where it is less than they are charged for."""

    def waiting(self, now: float) -> int:
        """Requests that wait inside the engine, by its own word while that is fresh."""
        return self.load.waiting or 0 if now - self.at <= FRESH_SECONDS else 0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self.look()
            except asyncio.CancelledError:
                raise
            except Exception:
                # A defect here must not leave a replica unwatched for ever.
                log.exception("watching %s", self.seat.replica.url)
            await asyncio.sleep(SCRAPE_SECONDS)

    async def look(self) -> None:
        """One round: ask the engine, correct the books, probe where that is due."""
        replica, now = self.seat.replica, self.seat.replica.house.now
        if now() - self.about_at > ABOUT_SECONDS:
            self.about = await self._about()
            self.about_at = now()
            self._resize()
        said = []
        self.seat.books.asked(shares=self.saves)
        pages = ((b"/metrics", load_from_metrics), (b"/slots", load_from_slots))
        # llama.cpp serves its metrics only when it is told to, and its slots unless it is told not to.
        for path, read in pages if self.about.engine == "llama.cpp" else pages[:1]:
            with suppress(CallError):
                answer = await call(replica, b"GET", path)
                if answer.status == 200:
                    said.append(read(answer.body))
        if said:
            self.load = merged(*said)
            self.at = now()
            if self.load.blocks is not None and self.load.blocks != self.about.blocks:
                self.about_at = float("-inf")
            self._report(now())
        elif now() - self.at > FRESH_SECONDS:
            self._save_nothing(now())
        books = self.seat.books
        # Of one that is out those who run there say nothing: they may hang.
        idle = not books.sequences or replica.health.out or replica.health.doubted
        if idle and replica.health.wants_probe(now()) and self.ledger.may_probe(books, now()):
            try:
                await self.probe()
            finally:
                self.ledger.probed(books)

    async def _about(self) -> Load:
        replica, said = self.seat.replica, []
        for path, read in (
            (b"/metrics", load_from_metrics),
            (b"/props", load_from_props),
            (b"/get_server_info", load_from_server_info),
            (b"/server_info", load_from_server_info),
            (b"/info", load_from_info),
            (b"/api/ps", lambda body: load_from_ps(body, self.model)),
            (b"/v1/models", load_from_models),
        ):
            with suppress(CallError):
                answer = await call(replica, b"GET", path)
                if answer.status == 200:
                    said.append(read(answer.body))
        return merged(*said)

    def _resize(self) -> None:
        """Capacity by the engine's own word, in the plan's units."""
        about, books = self.about, self.seat.books
        capacity = None
        if about.engine == "vllm" and about.blocks is not None:
            # One block is vLLM's null block, which no sequence gets.
            blocks = max(about.blocks - 1, 0)
            capacity = blocks * (about.block_tokens or 1) if self.in_tokens else self.room.of_blocks(blocks)
        elif about.engine in {"sglang", "tgi"} and about.capacity_tokens is not None:
            capacity = self.room.curve.nbytes(about.capacity_tokens) if not self.in_tokens else about.capacity_tokens
        elif about.engine == "llama.cpp" and about.slots is not None and about.context_tokens is not None:
            books.max_sequences = about.slots
            capacity = self.room.curve.nbytes(about.context_tokens) * (1 if self.shared else about.slots)
        if about.context_tokens is not None:
            books.context_tokens = about.context_tokens
        if capacity is not None and capacity != books.capacity_bytes:
            told = f"{self.seat.replica.url}: its engine holds {capacity / self.room.capacity_bytes:.1%} of the KV cache that was planned"
            if told != self.told:
                self.told = told
                log.info("%s", told)
            books.resize(capacity)

    def _report(self, now: float) -> None:
        load, books = self.load, self.seat.books
        if load.held_tokens is not None and load.running is not None:
            books.report(self.room.curve.nbytes(load.held_tokens) if self.shared else self.room.curve.nbytes(0) * load.running, now)
        elif load.kv_usage is not None:
            books.report(int(load.kv_usage * books.capacity_bytes), now)
            if self.saves and load.running is not None:
                whole = books.capacity_bytes + self.room.aside_bytes
                self.seat.replica.house.desk.save(self.seat, ceil(load.kv_usage * whole), load.running, now)
            else:
                self._save_nothing(now)

    @property
    def saves(self) -> bool:
        """Whether what its sequences share is counted once: the pools file asks for it, and its engine says what can be believed."""
        # vLLM tells its use with the tokens of each step (vllm/v1/engine/async_llm.py of 0.32), of blocks that somebody who runs holds
        # (`get_usage` of vllm/v1/core/block_pool.py). SGLang's figure is as old as forty steps (`--decode-log-interval`).
        sure = self.room.block_bytes > 0 and not self.room.curve.states
        return self.shares and sure and self.load.engine == "vllm" and self.load.parts == 1

    def _save_nothing(self, now: float) -> None:
        if self.seat.books.saving.shared:
            self.seat.replica.house.desk.save(self.seat, NO_LIMIT, 0, now)

    async def probe(self) -> None:
        """One token, generated. An engine that only embeds cannot: its own answer to /v1/models vouches for it."""
        replica = self.seat.replica
        house = replica.house
        began = house.now()
        body = json.dumps({"model": self.model, "prompt": "1", "max_tokens": 1, "temperature": 0}).encode()
        try:
            answer = await call(replica, b"POST", b"/v1/completions", body=body, seconds=PROBE_SECONDS)
            if answer.status in {400, 404, 405, 422, 501}:
                answer = await call(replica, b"GET", b"/v1/models")
        except UnsentError:
            # It was not asked: nothing is proved, and it is tried again in the next round.
            return
        except SilentError as e:
            if self._sent_since(began):
                # Engines of slots have none free for it, and their answers go on.
                return
            why = str(e)
        except CallError as e:
            why = str(e)
        else:
            if answer.status == 200:
                if replica.health.good(house.now()):
                    log.info("%s is back", replica.url)
                    self.seat.books.warm_up(house.now(), self.seat.bench.slow_start_seconds)
                    self.about_at = float("-inf")
                house.desk.refresh()
                return
            why = f"its probe was answered with status {answer.status}"
        if replica.health.bad(house.now(), why, probe=True):
            log.warning("%s is out: %s", replica.url, why)
        house.desk.refresh()

    def _sent_since(self, began: float) -> bool:
        """Whether its engine sent anything of an answer since then: a probe that got none waited its turn."""
        for lease in self.seat.books.leases:
            x: Exchange | None = lease.need.owner
            if x is not None and x.first and x.last > began:
                return True
        return False
