"""A worker that stands still: real processes, stopped by a signal, in the ledger and out of it; and who is to blame when several are silent."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
if sys.platform != "linux" or not hasattr(socket, "SO_REUSEPORT"):
    pytest.skip("looks into /proc", allow_module_level=True)

from test_gateway import ENGINE_METRICS, pools
from test_gateway_ledger import ROOM
from test_gateway_workers import Watching, admin, blocks_known, complete, crew, metric, run, tokens, until

from vram.admission.need import Need
from vram.errors import UsageError
from vram.gateway import workers as workers_module
from vram.gateway.block import BEAT, HOLDER, VISITS, Block
from vram.gateway.options import Options
from vram.gateway.shared import SharedLedger
from vram.gateway.supervisor import Supervisor
from vram.gateway.watchdog import Watchdog, beat

SECONDS = 2.0


def state(pid):
    """The kernel's letter for it; none: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def stopped(pid):
    return state(pid) in {"T", "t"}


async def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    while not stopped(pid):  # noqa: ASYNC110  (the kernel tells nobody)
        await asyncio.sleep(0)


async def back(supervisor, *, hung):
    """All serve, and so many hung before."""

    async def serve():
        with suppress(OSError, AssertionError):
            found = await admin(supervisor, "/v1/workers")
            return found["hung"] == found["restarts"] == hung and all(w["up_seconds"] is not None for w in found["workers"])
        return False

    await until(serve, 30)


def test_a_worker_that_stands_still_is_killed_and_gives_everything_back(tmp_path):
    """Stopped amid a stream: within its time it is dead, its room is another's, another has its place, and the other worker's stream went on."""

    async def test():
        async with Watching(chunks=80, delay_seconds=0.1) as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=21))
            async with crew(tmp_path, pools(engine), workers=2, hung_seconds=SECONDS) as supervisor:
                await blocks_known(supervisor, 21)
                # One stream at each worker: room for two, so nobody else comes in.
                first = await on_each_worker(supervisor)
                one = supervisor.workers[0].process.pid
                engine.chunks = 1
                # So many that the kernel hardly gives all of them to one worker.
                waiting = [asyncio.create_task(complete(supervisor.port, tokens(stream=True))) for _ in range(12)]
                await asyncio.sleep(0.3)
                before = time.monotonic()
                await stop(one)
                answered = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)
                # Those at the dead one ended with it; nobody came before it was found out, and nobody had to wait for the long streams.
                assert SECONDS - 1 < time.monotonic() - before < SECONDS + 3
                assert sum(isinstance(a, tuple) and a[0] == 200 for a in answered) >= 1
                await back(supervisor, hung=1)
                assert await metric(supervisor, "vram_workers_hung_total") == 1
                assert supervisor.workers[0].process.pid != one
                whole = await asyncio.gather(*first.values(), return_exceptions=True)
                assert isinstance(whole[1], tuple), "the stream at the worker that is well was cut"
                assert whole[1][0] == 200
                assert whole[1][2].count(b"data: ") > 80
                assert engine.most == 2

                async def free():
                    found = (await admin(supervisor, "/v1/replicas"))["replicas"][0]
                    return (found["leases"], found["kv"]["held"]) == (0, 0)

                await until(free)

    run(test())


async def on_each_worker(supervisor):
    """A long stream at each of two workers: by worker, tasks. Connections go where the kernel sends them, so some are given up."""
    found = {}
    for _ in range(60):
        task = asyncio.create_task(complete(supervisor.port, tokens(stream=True)))
        counts = {n: r for n, r in found.items() if not r.done()}
        number = None
        for _ in range(100):
            await asyncio.sleep(0.05)
            listed = (await admin(supervisor, "/v1/workers"))["workers"]
            new = [w["number"] for w in listed if w["requests"] > (w["number"] in counts)]
            if new:
                number = new[0]
                break
        if number in found:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.2)
            continue
        found[number] = task
        if len(found) == 2:
            return dict(sorted(found.items()))
    raise AssertionError("the kernel gave all connections to one worker")


def test_a_worker_that_stops_in_the_ledger_alone_is_killed(tmp_path):
    """Stopped with the lock in its hand, every other worker stands still, too: it is killed, they are not, and go on."""

    async def test():
        async with MockEngine(chunks=1) as engine, crew(tmp_path, pools(engine), workers=2, hung_seconds=SECONDS) as supervisor:
            words = supervisor._block.words
            ends = asyncio.Event()

            async def ask_on():
                while not ends.is_set():
                    with suppress(OSError, IndexError):
                        await complete(supervisor.port, tokens())

            load = [asyncio.create_task(ask_on()) for _ in range(16)]
            one, two = (w.process.pid for w in supervisor.workers)
            until_then = time.monotonic() + 30
            while True:
                await stop(one)
                if words[HOLDER] == 1:
                    break
                os.kill(one, signal.SIGCONT)
                assert time.monotonic() < until_then, "it was never stopped in the ledger"
                await asyncio.sleep(0.0005)
            await back(supervisor, hung=1)
            assert supervisor.workers[1].process.pid == two
            ends.set()
            await asyncio.wait(load, timeout=10)
            answers = await asyncio.gather(*(complete(supervisor.port, tokens()) for _ in range(12)))
            assert [status for status, _, _ in answers] == [200] * 12

    run(test())


class Stuck(logging.Handler):
    """A log that stands still at the line of a worker that hangs, until that worker is dead."""

    def __init__(self):
        super().__init__()
        self.pid, self.dead = 0, None

    def emit(self, record):
        if "it hangs" in record.getMessage():
            ends = time.monotonic() + 5
            while not (dead := state(self.pid) in {"Z", ""}) and time.monotonic() < ends:
                time.sleep(0.01)
            self.dead = dead


def test_a_log_that_is_stuck_keeps_nobody_alive(tmp_path):
    """The worker is killed before a line says so: whoever waits for its lock does not wait for whoever reads the log."""
    log, stuck = logging.getLogger("vram.gateway"), Stuck()

    async def test():
        async with MockEngine(chunks=1) as engine, crew(tmp_path, pools(engine), workers=2, hung_seconds=SECONDS) as supervisor:
            stuck.pid = supervisor.workers[0].process.pid
            log.addHandler(stuck)
            await stop(stuck.pid)
            await back(supervisor, hung=1)
            assert stuck.dead

    try:
        run(test())
    finally:
        log.removeHandler(stuck)


def test_a_worker_that_hangs_as_it_starts_is_replaced(tmp_path, monkeypatch):
    """The one that takes a dead one's place stands still before it serves: it gets its time to start, and another takes its place."""

    async def test():
        async with MockEngine(chunks=1) as engine, crew(tmp_path, pools(engine), workers=2, hung_seconds=SECONDS) as supervisor:
            monkeypatch.setattr(workers_module, "START_SECONDS", 1.0)
            dead = supervisor.workers[0].process.pid
            os.kill(dead, signal.SIGKILL)

            async def another():
                return supervisor.workers[0].process.pid != dead

            await until(another)
            second = supervisor.workers[0].process.pid
            monkeypatch.undo()
            await stop(second)
            assert not supervisor.workers[0].ready.is_set()

            async def third():
                return supervisor.workers[0].process.pid != second and supervisor.workers[0].ready.is_set()

            await until(third, 30)
            found = await admin(supervisor, "/v1/workers")
            assert (found["hung"], found["restarts"]) == (1, 2)

    run(test())


def test_a_stop_waits_for_nobody_who_hangs(tmp_path):
    """Told to end while a worker stands still: the others end what they run, it is killed in its time and not after the longest drain."""

    async def test():
        async with MockEngine(chunks=1) as engine, crew(tmp_path, pools(engine), workers=2, hung_seconds=SECONDS) as supervisor:
            await stop(supervisor.workers[1].process.pid)
            before = time.monotonic()
            await supervisor.stop()
            # STOP_SECONDS are ten.
            assert time.monotonic() - before < 6

    run(test())


def beats_of(block, ages):
    """Each worker beat so many seconds ago."""
    for number, age in enumerate(ages):
        beat(block, number, -age)


@pytest.mark.parametrize(
    ("ages", "holder", "goes_round", "hung"),
    [
        ([0.1, 0.2, 0.3], None, True, []),
        ([0.1, 5.1, 0.3], None, True, [1]),
        ([0.1, 5.1, 6.0], None, True, [1, 2]),
        # One is in the ledger, and it is another visit each time: who is silent is so by itself.
        ([0.1, 5.1, 0.3], 0, True, [1]),
        # All wait for one visit: whose it is is to blame, also where it beat a little later than they did.
        ([5.4, 5.1, 5.2], 1, False, [1]),
        ([5.4, 4.9, 5.2], 1, False, [1]),
        # A worker that is starting may be silent for long; not where others wait for it.
        ([0.1, -40.0, 0.2], None, True, []),
        ([5.1, -40.0, 5.2], 1, False, [1]),
        # One took the lock, and stopped before it said so, or as it went: one after the other, whoever was silent first.
        ([5.2, 5.4, 5.1], None, False, [1]),
        ([5.2, -40.0, 5.1], None, False, [0]),
        # Dead already, and the lock not yet handed on.
        ([5.2, 5.4, 5.1], 7, False, [1]),
    ],
)
def test_who_is_to_blame(ages, holder, goes_round, hung):
    """Of several that are silent: each by itself, or the one in the ledger whom they wait for."""
    block = Block.make(workers=3, places=1, slots=1, keys=1)
    dog, never, now = Watchdog(block, 5.0), Watchdog(block, 0), time.monotonic()
    beats_of(block, ages)
    block.words[HOLDER] = 0 if holder is None else holder + 1
    found = []
    for step in range(-10, 1):
        block.words[VISITS] += goes_round
        found = dog.hung(range(3), now + step / 2) if step == 0 or not found else found
        assert never.hung(range(3), now + step / 2) == []
    assert found == hung
    block.close()


def test_a_visit_that_began_a_moment_ago_is_not_to_blame():
    """A worker that hangs by itself is silent; another, that is well, is seen in the ledger twice: neither it nor, before it left, anybody is killed."""
    block = Block.make(workers=3, places=1, slots=1, keys=1)
    dog, now = Watchdog(block, 5.0), time.monotonic()
    beats_of(block, [5.4, 0.1, 0.2])
    block.words[HOLDER], block.words[VISITS] = 2, 8
    assert dog.hung(range(3), now - 1.0) == []
    block.words[VISITS] = 9
    assert dog.hung(range(3), now - 0.5) == []
    assert dog.hung(range(3), now) == []
    block.words[HOLDER], block.words[VISITS] = 0, 10
    assert dog.hung(range(3), now + 0.5) == [0]
    block.close()


def test_one_that_stopped_before_it_said_that_it_is_in_is_found_without_killing_all():
    """It took the lock and says nothing: those that wait are well again as soon as it is dead, and only it was killed."""
    block = Block.make(workers=3, places=1, slots=1, keys=1)
    dog, now = Watchdog(block, 5.0), time.monotonic()
    beats_of(block, [0.2, 0.4, 0.1])
    killed = []
    for step in range(24):
        left = [n for n in range(3) if n not in killed]
        found = dog.hung(left, now + step / 2)
        killed += found
        if 1 in found:
            for n in left:
                block.words[block.worker(n) + BEAT] = int((now + 60) * 1e9)
    assert killed == [1]
    block.close()


def test_who_waited_for_a_dead_ones_lock_has_time_anew():
    """The next look finds them silent still, and kills nobody; one that stays so is killed when its time is over."""
    block = Block.make(workers=2, places=1, slots=1, keys=1)
    dog, now = Watchdog(block, 5.0), time.monotonic()
    beats_of(block, [5.4, 5.2])
    block.words[HOLDER], block.words[VISITS] = 1, 1
    for step in range(-9, 0):
        assert dog.hung([0, 1], now + step / 2) == []
    assert dog.hung([0, 1], now) == [0]
    block.words[HOLDER] = 0
    block.words[VISITS] += 1
    found = [(step, dog.hung([1], now + step / 2)) for step in range(1, 14)]
    assert [step for step, hung in found if hung] == [11, 12, 13]
    block.close()


def test_a_machine_that_slept_kills_nobody():
    """Nobody was looked at for a minute, as after a machine's sleep: the silence of that minute counts for nobody."""
    block = Block.make(workers=2, places=1, slots=1, keys=1)
    dog, now = Watchdog(block, 5.0), time.monotonic()
    beats_of(block, [0.1, 0.1])
    assert dog.hung([0, 1], now) == []
    assert dog.hung([0, 1], now + 60) == []
    assert dog.hung([0, 1], now + 60.5) == []
    block.close()


def test_a_visit_that_fails_is_over():
    """Whatever is raised as one goes in or out, the lock is free for others, and the next visit is a whole one."""
    block = Block.make(workers=2, places=2, slots=4, keys=1)
    ledgers = [SharedLedger(block, n) for n in range(2)]
    books = [ledger.books("http://a", "p/0", ROOM) for ledger in ledgers]
    place, nowhere = books[0].place, 10**9
    for _ in range(2):
        books[1].reserve(Need(4, 4), 4, 4, 0.0)
        books[0].place = nowhere
        with pytest.raises(IndexError):
            ledgers[0].enter()
        assert free(block)
    books[0].place = place
    ledgers[0].enter()
    assert block.words[HOLDER] == 1
    assert books[0].sequences == 2
    books[0].place = nowhere
    with pytest.raises(IndexError):
        ledgers[0].leave()
    assert free(block)
    books[0].place = place
    books[0].reserve(Need(4, 4), 4, 4, 0.0)
    ledgers[1].look()
    assert books[1].sequences == 3
    block.close()


def free(block):
    """Whether another process could go in: a thread, for the lock is asked for by thread."""
    got = threading.Event()

    def take():
        block.lock()
        got.set()
        block.unlock()

    threading.Thread(target=take, daemon=True).start()
    return got.wait(5) and block.words[HOLDER] == 0


def test_too_short_a_time_is_refused(tmp_path):
    """A busy moment is no hang."""
    with pytest.raises(UsageError, match="busy") as told:
        Supervisor(Options(pools=tmp_path / "pools.toml"), 2, hung_seconds=0.5)
    assert "--hung-after" in told.value.hint
