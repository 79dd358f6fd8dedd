"""One gateway of several workers is as fair, as bounded and as learned as one process: real processes, keys at one of them and at all."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager, suppress

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
if sys.platform == "win32" or not hasattr(socket, "SO_REUSEPORT"):
    pytest.skip("several workers need SO_REUSEPORT", allow_module_level=True)

from test_gateway import ENGINE_METRICS, pools
from test_gateway_workers import Watching, _restarted, _wait, admin, blocks_known, complete, crew, run, tokens, until

from vram.gateway.store import Store


class Connection:
    """One connection, so one worker: requests one after the other."""

    def __init__(self, port, key=""):
        self.port = port
        self.bearer = f"Authorization: Bearer {key}\r\n" if key else ""

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def close(self):
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    async def complete(self, body):
        data = json.dumps(body).encode()
        self.writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n{self.bearer}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)
        fields = dict(line.lower().split(": ", 1) for line in head.decode().strip().split("\r\n")[1:])
        await self.reader.readexactly(int(fields["content-length"]))
        return int(head.split()[1]), fields


@asynccontextmanager
async def connections(supervisor, key=""):
    """A connection to each worker, by number."""
    found, made = {}, []
    try:
        while len(found) < len(supervisor.workers):
            assert len(made) < 200
            before = {w["number"]: w["connections"] for w in (await admin(supervisor, "/v1/workers"))["workers"]}
            one = Connection(supervisor.port, key)
            made.append(one)
            await one.open()

            async def more(before=before):
                after = {w["number"]: w["connections"] for w in (await admin(supervisor, "/v1/workers"))["workers"]}
                return [n for n in after if after[n] > before[n]]

            (number, *_) = await until(more)
            found.setdefault(number, one)
        yield [found[n] for n in sorted(found)]
    finally:
        for one in made:
            await one.close()


class Ordered(Watching):
    """Remembers whose requests came to it, in order: a prompt's first token says whose."""

    def __init__(self, **more):
        super().__init__(**more)
        self.order = []

    async def _answer(self, asked, writer):
        if asked.get("prompt") != "1":
            self.order.append(asked["prompt"][0])
        return await super()._answer(asked, writer)


def test_a_key_has_one_share_however_many_workers_it_waits_at(tmp_path):
    """A crowd of one key at every worker, one request at a time of another at one of them: it comes next whenever it comes, as in one process."""
    store = Store(tmp_path / "gateway.db")
    crowd, single = store.add_key("crowd"), store.add_key("single")
    store.close()

    async def test():
        async with Ordered(chunks=1, delay_seconds=0.04) as engine:
            # Room for one.
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=11))
            async with crew(tmp_path, pools(engine), workers=4) as supervisor:
                await blocks_known(supervisor, 11)
                ends = False

                async def ask_on():
                    while not ends:
                        assert (await complete(supervisor.port, tokens(), f"Authorization: Bearer {crowd}\r\n"))[0] == 200

                many = [asyncio.create_task(ask_on()) for _ in range(32)]
                passed = []
                async with connections(supervisor, single) as (mine, *_):
                    for _ in range(24):
                        await asyncio.sleep(0.02)
                        came = len(engine.order)
                        assert (await mine.complete({**tokens(), "prompt": [7] * 100}))[0] == 200
                        passed.append(engine.order[came:].index(7))
                ends = True
                await asyncio.gather(*many)
                # One may have been let in while it came. By chance of four workers, three would pass it on average, and often ten.
                assert sum(passed) / len(passed) < 1.5, passed
                assert engine.most == 1

    run(test())


def test_a_line_is_bounded_over_all_workers(tmp_path):
    """Room for two, five may wait: of thirty at once at three workers, two run, five wait, the others are refused, each told of five."""

    async def test():
        async with Watching(chunks=2, delay_seconds=30) as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=21))
            async with crew(tmp_path, pools(engine, extra="[limits]\nqueue_requests = 5\n")) as supervisor:
                await blocks_known(supervisor, 21)
                asked = [asyncio.create_task(complete(supervisor.port, tokens(stream=True))) for _ in range(30)]
                done = set()
                while len(done) < 23:
                    found, _ = await asyncio.wait([t for t in asked if t not in done], timeout=30, return_when=asyncio.FIRST_COMPLETED)
                    assert found
                    done |= found
                await until(lambda: _wait(supervisor, 5))
                assert len([t for t in asked if t.done()]) == 23
                for task in done:
                    status, headers, body = task.result()
                    assert status == 503
                    assert "retry-after" in headers
                    assert b"5 requests wait" in body
                # Who leaves the line makes room in it for one more, wherever that one comes.
                for task in asked:
                    task.cancel()
                await asyncio.wait(asked)
                await until(lambda: _wait(supervisor, 0))

    run(test())


def test_a_dead_workers_line_does_not_count(tmp_path):
    """All that wait at a worker go with it when it is killed: as many may wait as before."""

    async def test():
        async with Watching(chunks=2, delay_seconds=30) as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=11))
            async with crew(tmp_path, pools(engine, extra="[limits]\nqueue_requests = 4\n"), workers=2) as supervisor:
                await blocks_known(supervisor, 11)
                first = asyncio.create_task(complete(supervisor.port, tokens(stream=True)))
                await until(lambda: _one_runs(engine))
                asked = [asyncio.create_task(complete(supervisor.port, tokens(stream=True))) for _ in range(4)]
                await until(lambda: _wait(supervisor, 4))
                assert (await complete(supervisor.port, tokens()))[0] == 503
                for times, worker in enumerate(supervisor.workers):
                    os.kill(worker.process.pid, signal.SIGKILL)
                    await until(lambda times=times: _restarted(supervisor, times + 1))
                await asyncio.wait([first, *asked], timeout=20)
                again = [asyncio.create_task(complete(supervisor.port, tokens(stream=True))) for _ in range(5)]
                await until(lambda: _wait(supervisor, 4))
                assert not any(t.done() for t in again)
                for task in again:
                    task.cancel()
                await asyncio.wait(again)

    run(test())


async def _one_runs(engine):
    return engine.now == 1


def test_what_one_worker_learns_all_know(tmp_path):
    """Thirty answers at one worker: within a second leases are as short at the others, and at those that take their places when they die."""

    async def test():
        async with MockEngine(chunks=40) as engine, crew(tmp_path, pools(engine)) as supervisor:
            body = {"model": "m", "prompt": "word " * 40, "max_tokens": 4000}
            async with connections(supervisor) as (one, *others):
                before = [int((await x.complete(body))[1]["x-vram-lease-bytes"]) for x in (one, *others)]
                assert len(set(before)) == 1
                for _ in range(30):
                    assert (await one.complete(body))[0] == 200
                await asyncio.sleep(1.2)
                after = [int((await x.complete(body))[1]["x-vram-lease-bytes"]) for x in (one, *others)]
                # 40 tokens instead of 1,024, and 10 of a prompt instead of half of its 202 bytes; a block has 16 of 12,288 bytes.
                assert len(set(after)) == 1
                assert after[0] < 7 * 16 * 12_288 < before[0] / 5
            for times, worker in enumerate(supervisor.workers):
                os.kill(worker.process.pid, signal.SIGKILL)
                await until(lambda times=times: _restarted(supervisor, times + 1))
            async with connections(supervisor) as all_anew:
                assert [int((await x.complete(body))[1]["x-vram-lease-bytes"]) for x in all_anew] == after

    run(test())


def test_turns_cost_no_time(tmp_path):
    """Where a better one waits elsewhere and does not fit, the others go on: a moment for each that asks, not its whole wait."""
    store = Store(tmp_path / "gateway.db")
    crowd, single = store.add_key("crowd"), store.add_key("single")
    store.close()

    async def test():
        async with Watching(chunks=1, delay_seconds=0.01) as engine:
            # Twenty blocks: two small ones at once. The giant wants all, and nobody else beside it.
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=21))
            async with crew(tmp_path, pools(engine), workers=2) as supervisor:
                await blocks_known(supervisor, 21)
                ends = False
                served = 0

                async def ask_on():
                    nonlocal served
                    while not ends:
                        assert (await complete(supervisor.port, tokens(), f"Authorization: Bearer {crowd}\r\n"))[0] == 200
                        served += 1

                many = [asyncio.create_task(ask_on()) for _ in range(12)]
                await asyncio.sleep(1)
                async with connections(supervisor, single) as (mine, *_):
                    began, before = time.monotonic(), served
                    assert (await mine.complete(tokens(290)))[0] == 200
                    waited, went = time.monotonic() - began, served - before
                ends = True
                await asyncio.gather(*many)
                # It comes within the ten seconds after which the replica is kept for it, and some more; meanwhile the small ones were served.
                assert waited < 25
                assert waited < 1 or went > 10 * waited

    run(test())
