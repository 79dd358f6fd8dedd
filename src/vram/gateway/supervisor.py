"""Several workers as one gateway: started, kept running, asked together, and ended by one process that serves no request itself.

It reads and plans the pools file once for all, holds the ledger's memory and the port, and buries a worker that died before another
gets its number. What a worker asks comes here: a reload is done for all, and what all are asked is the panel's.
"""

import asyncio
import logging
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from vram.errors import UsageError, VramError
from vram.gateway.assemble import PoolPlan, addresses_of
from vram.gateway.block import HUNG, MOST_WORKERS, Block
from vram.gateway.options import Options
from vram.gateway.panel import Panel
from vram.gateway.planned import planned_document, read_and_plan
from vram.gateway.server import admin_taken, keys_required
from vram.gateway.store import Store
from vram.gateway.tenure import bury
from vram.gateway.watchdog import BEAT_SECONDS, HUNG_SECONDS, Watchdog, check_seconds
from vram.gateway.worker import Order
from vram.gateway.workers import START_SECONDS, Worker
from vram.readers.pools import PoolsFile

FIRST_BACKOFF_SECONDS: Final = 0.1
LONGEST_BACKOFF_SECONDS: Final = 30.0
GOOD_SECONDS: Final = 30.0
"""A worker that lived so long is started anew at once when it dies."""
STOP_SECONDS: Final = 10.0
"""What a worker gets beyond its drain before it is killed."""

log = logging.getLogger("vram.gateway")


class Supervisor:
    """Keeps the workers.

    Attributes:
        port: where clients come.
        admin_port: where administrators do; None: nowhere.
        workers: by number.
    """

    def __init__(
        self, options: Options, workers: int, *, hung_seconds: float = HUNG_SECONDS, log_json: bool = False, quiet: bool = False, otel: bool = False
    ) -> None:
        check_platform(workers)
        check_seconds(hung_seconds)
        self.options = options
        self.port = 0
        self.admin_port: int | None = None
        self.workers = [Worker(number) for number in range(workers)]
        self.keys_required = True
        self.file: PoolsFile
        self._told = {"log_json": log_json, "quiet": quiet, "otel": otel}
        self._plans: dict[str, PoolPlan] = {}
        self._planned: dict[str, Any] = {}
        self._hung_seconds = hung_seconds
        # Who waits for the ledger's lock is a thread: a worker that is stuck in there is killed from the loop.
        self._clerk = ThreadPoolExecutor(1, "ledger")
        self._block: Block
        self._panel: Panel
        self._held: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._reloading = asyncio.Lock()

    async def start(self) -> None:
        """Plan, hold the ports, start all workers.

        Raises:
            VramError: the pools file is wrong, or a worker cannot start.
            OSError: the port is taken.
        """
        options = self.options
        self.file, self._plans = await asyncio.to_thread(self._read)
        self._planned = planned_document(self.file, self._plans)
        store = Store(options.store) if options.store is not None else None
        self.keys_required = keys_required(options, store)
        keys = len(store.keys()) if store is not None else 0
        if store is not None:
            store.close()
        self.port = self._hold(options.host, options.port)
        if options.admin_port is not None:
            try:
                self.admin_port = self._hold(options.admin_host, options.admin_port)
            except OSError as e:
                raise admin_taken(options, e) from None
        routes = len(tuple(self.file.all_routes))
        replicas = sum(len(pool.replicas) for pool in self.file.pools)
        slots = min(max(plan.room.max_sequences for plan in self._plans.values()), 4096)
        self._block = Block.make(workers=len(self.workers), places=max(64, 4 * replicas), slots=slots, keys=max(1024, 8 * keys), models=max(64, 4 * routes))
        self._panel = Panel(self.workers, self._block)
        try:
            await asyncio.gather(*(self._spawn(worker) for worker in self.workers))
            for worker in self.workers:
                await self._come_up(worker)
        except BaseException:
            await self.stop()
            raise
        self._tasks += [asyncio.create_task(self._keep(worker)) for worker in self.workers]
        self._tasks.append(asyncio.create_task(self._watch()))

    def _read(self) -> tuple[PoolsFile, dict[str, PoolPlan]]:
        options = self.options
        file, plans = (
            options.read() if options.read is not None else read_and_plan(options.pools, offline=options.offline, plan=options.plan, known=self._plans or None)
        )
        addresses_of(file)
        return file, plans

    def _hold(self, host: str, port: int) -> int:
        """Take a port for all workers, and make sure that it is nobody else's. Returns which it is.

        Raises:
            OSError: it is taken.
        """
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        if port:
            # With SO_REUSEPORT alone another gateway of the same user would share its connections with this one, unnoticed.
            with socket.socket(family, kind, proto) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
                alone.listen(1)
        held = socket.socket(family, kind, proto)
        self._held.append(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Bound and not listening: it gets no connection, and keeps the port while a worker starts anew.
        held.bind(address)
        found: int = held.getsockname()[1]
        return found

    # --- workers

    async def _spawn(self, worker: Worker) -> None:
        async def answer(what: str, asked: Any) -> Any:
            return await self._answer(worker, what, asked)

        options = self.options
        order = Order(
            number=worker.number,
            block=self._block.descriptor,
            planned=self._planned,
            pools=str(options.pools),
            host=options.host,
            port=self.port,
            store=str(options.store) if options.store is not None else None,
            # Where none is needed yet, each worker asks for one from the first key on.
            keys_required=True if self.keys_required else self.options.keys_required,
            admin_host=options.admin_host,
            admin_port=self.admin_port,
            admin_token=options.admin_token,
            limits=asdict(options.limits),
            **self._told,
        )
        await worker.start(order, self._block, answer, self._clerk)
        if worker.channel is not None:
            running = asyncio.create_task(worker.channel.run())
            self._tasks.append(running)
            running.add_done_callback(self._tasks.remove)

    async def _come_up(self, worker: Worker) -> None:
        """Wait until a worker serves.

        Raises:
            VramError: it does not.
        """
        process = worker.process
        if process is None:
            return
        ended = asyncio.create_task(process.wait())
        ready = asyncio.create_task(worker.ready.wait())
        await asyncio.wait({ended, ready}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        ready.cancel()
        if not worker.ready.is_set():
            raise worker.failed or VramError(f"worker {worker.number} does not start", hint="its log says why")

    async def _keep(self, worker: Worker) -> None:
        """Bury a worker that dies, and start another in its place, again and again, ever more slowly while none lives long."""
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            process = worker.process
            if process is None:
                return
            code = await process.wait()
            left = await self._bury(worker, process)
            if self._stopping:
                return
            lived = time.monotonic() - worker.began
            why = f": {worker.failed.message}" if worker.failed is not None else ""
            log.error("worker %d (process %d) ended with %d%s; %d leases of it are given back", worker.number, process.pid, code, why, left)
            backoff = FIRST_BACKOFF_SECONDS if lived > GOOD_SECONDS else min(backoff * 2, LONGEST_BACKOFF_SECONDS)
            await asyncio.sleep(backoff)
            try:
                await self._spawn(worker)
            except OSError as e:
                log.error("worker %d cannot be started: %s", worker.number, e)  # noqa: TRY400  (the reason is enough)

    async def _watch(self) -> None:
        """Kill workers whose loops stand still: as of all that die, what they held is given back, and others take their places."""
        watchdog = Watchdog(self._block, self._hung_seconds)
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            alive = {w.number: w.process for w in self.workers if w.process is not None and w.process.returncode is None and not w.hung}
            hung = watchdog.hung(alive, time.monotonic())
            # Killed first: a log that is stuck would keep them alive, and kill one that is well again when it is read.
            for number in hung:
                self.workers[number].hung = True
                self._block.words[HUNG] += 1
                with suppress(ProcessLookupError):
                    alive[number].kill()
            for number in hung:
                why = f"did nothing for {watchdog.seconds:g} s" if self.workers[number].ready.is_set() else "did not come to serve"
                log.error("worker %d (process %d) %s: it hangs, and is killed", number, alive[number].pid, why)

    async def _bury(self, worker: Worker, process: asyncio.subprocess.Process) -> int:
        self._panel.bury(worker)
        worker.ended()
        return await asyncio.get_running_loop().run_in_executor(
            self._clerk, bury, self._block, worker.number, process.pid, worker.generation, time.monotonic_ns()
        )

    # --- questions

    async def _answer(self, worker: Worker, what: str, asked: Any) -> Any:
        """A worker asks."""
        if what == "ready":
            worker.ready.set()
            if worker.planned is not self._planned and worker.channel is not None:
                # The file was read again while it started.
                await worker.channel.ask("take", self._planned, seconds=30)
        elif what == "failed":
            worker.failed = UsageError(asked[0], hint=asked[1])
        elif what == "reload":
            await self.read_again()
        else:
            return await self._panel.answer(what, asked)
        return None

    # --- reload and end

    async def read_again(self) -> None:
        """Read the pools file again, for all workers.

        Raises:
            VramError: it has an error; nothing changed.
        """
        async with self._reloading:
            file, plans = await asyncio.to_thread(self._read)
            self.file, self._plans, self._planned = file, plans, planned_document(file, plans)
            took = await self._panel.ask("take", self._planned, seconds=30)
        log.info("the pools file was read again: %d pools, %d workers", len(file.pools), len(took))

    async def reload(self) -> None:
        """The same, for a signal: what is wrong is logged."""
        try:
            await self.read_again()
        except VramError as e:
            log.error("the pools file was not taken: %s (%s)", e.message, e.hint)  # noqa: TRY400  (the message is all there is to say)

    async def stop(self) -> None:
        """Let all workers end what they run, bounded; then end them. Only the first call does."""
        if self._stopping:
            return
        self._stopping = True
        alive = []
        for worker in self.workers:
            if worker.process is not None and worker.process.returncode is None:
                alive.append(worker.process)
                with suppress(ProcessLookupError):
                    # One that does not serve yet has nothing to end.
                    worker.process.terminate() if worker.ready.is_set() else worker.process.kill()
        waits = [asyncio.create_task(process.wait()) for process in alive]
        if waits:
            _, late = await asyncio.wait(waits, timeout=self.options.limits.drain_seconds + STOP_SECONDS)
            for process in alive:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        process.kill()
            if late:
                await asyncio.wait(late)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for held in self._held:
            held.close()
        self._clerk.shutdown()
        if hasattr(self, "_block"):
            self._block.close()


def check_platform(workers: int) -> None:
    """Whether several workers can share a port here.

    Raises:
        UsageError: they cannot.
    """
    if not 1 < workers <= MOST_WORKERS:
        raise UsageError(f"{workers} workers", hint=f"from 1 to {MOST_WORKERS} are possible")
    if sys.platform == "win32" or not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError("several workers need SO_REUSEPORT, which this system does not have", hint="leave out --workers: one process serves")
