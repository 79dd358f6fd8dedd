"""Several workers as one gateway: real processes in front of one engine that counts, one of them killed, all of them killed."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
if sys.platform == "win32" or not hasattr(socket, "SO_REUSEPORT"):
    pytest.skip("several workers need SO_REUSEPORT", allow_module_level=True)

from test_gateway import ENGINE_METRICS, pools
from test_gateway_admin import check

from vram.errors import UsageError
from vram.gateway.block import LAYOUT, Block
from vram.gateway.limits import WireLimits
from vram.gateway.options import Options
from vram.gateway.server import Gateway
from vram.gateway.shared import SharedLedger
from vram.gateway.store import Store
from vram.gateway.supervisor import Supervisor

TOKEN = "a-token-of-administrators"  # noqa: S105  (of this test)


@asynccontextmanager
async def crew(tmp_path, text, *, workers=3, hung_seconds=0.0, **options):
    path = tmp_path / "pools.toml"
    path.write_text(text)
    given = {"store": tmp_path / "gateway.db", "limits": WireLimits(drain_seconds=0.5), "admin_port": 0, "admin_token": TOKEN, **options}
    supervisor = Supervisor(Options(pools=path, port=0, offline=True, **given), workers, hung_seconds=hung_seconds, quiet=True)
    await supervisor.start()
    processes = {w.process.pid for w in supervisor.workers}
    try:
        yield supervisor
    finally:
        processes |= {w.process.pid for w in supervisor.workers}
        await supervisor.stop()
        for pid in processes:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def ask(port, body, *, path="/v1/chat/completions", headers="", method=None):
    """One request on a connection of its own, which the kernel gives to some worker: status, headers, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode() if body is not None else b""
    method = method or ("POST" if body is not None else "GET")
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    try:
        got = await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body


async def admin(supervisor, path, *, method="GET"):
    status, _, body = await ask(supervisor.admin_port, None, path=path, headers=f"Authorization: Bearer {TOKEN}\r\n", method=method)
    assert status == 200, body
    found = json.loads(body)
    check(path.partition("?")[0], method, status, found)
    return found


async def until(true, seconds=20.0):
    ends = time.monotonic() + seconds
    while not (found := await true()):
        assert time.monotonic() < ends, "it never came to be"
        await asyncio.sleep(0.05)
    return found


async def replica(supervisor):
    return (await admin(supervisor, "/v1/replicas"))["replicas"][0]


async def blocks_known(supervisor, blocks):
    """Every worker took over the engine's word on its cache (the null block taken off)."""
    for _ in range(12):
        await until(lambda: _knows(supervisor, blocks))


async def _knows(supervisor, blocks):
    return (await replica(supervisor))["kv"]["capacity"] == (blocks - 1) * 16 * 12_288


def run(test):
    asyncio.run(asyncio.wait_for(test, 100))


class Watching(MockEngine):
    """Remembers the most requests that ran at once, probes aside."""

    most = now = 0

    async def _answer(self, asked, writer):
        if asked.get("prompt") == "1":
            return await super()._answer(asked, writer)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super()._answer(asked, writer)
        finally:
            self.now -= 1


def tokens(n=100, **more):
    """A prompt of so many tokens exactly: with 28 more, 7 or 8 blocks of 16."""
    return {"model": "m", "prompt": [5] * n, "max_tokens": 28, **more}


async def complete(port, body, headers=""):
    return await ask(port, body, path="/v1/completions", headers=headers)


async def metric(supervisor, name, **labels):
    """Of the clients' own page, from whatever worker answers."""
    parser = pytest.importorskip("prometheus_client.parser", reason="the test extra is not installed")
    status, _, body = await ask(supervisor.port, None, path="/metrics")
    assert status == 200
    return sum(
        s.value for f in parser.text_string_to_metric_families(body.decode()) for s in f.samples if s.name == name and labels.items() <= s.labels.items()
    )


def test_no_two_workers_take_the_last_room(tmp_path):
    """Thirty requests at three workers on a cache for two: never more than two run, all are answered, the books end at nothing."""

    async def test():
        async with Watching(chunks=4, delay_seconds=0.02) as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=21))
            async with crew(tmp_path, pools(engine)) as supervisor:
                await blocks_known(supervisor, 21)
                answers = await asyncio.gather(*(complete(supervisor.port, tokens(stream=i % 2 == 0)) for i in range(30)))
                assert [status for status, _, _ in answers] == [200] * 30
                assert engine.most == 2
                assert any("x-vram-queue-seconds" in headers for _, headers, _ in answers)
                found = await replica(supervisor)
                assert found["kv"]["held"] == found["kv"]["promised"] == found["leases"] == found["sequences"] == 0
                # All of them served, and what each counted is one sum on whatever worker's page.
                assert await metric(supervisor, "vram_requests_total", outcome="ok") == 30
                assert await metric(supervisor, "vram_workers") == 3
                assert await metric(supervisor, "vram_request_seconds_count") == 30

    run(test())


def test_a_worker_that_is_killed_gives_everything_back(tmp_path):
    """Killed amid a stream: its room is free for those who wait at others, another takes its place, and counters do not fall."""

    async def test():
        async with Watching(chunks=400, delay_seconds=0.05) as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=21))
            async with crew(tmp_path, pools(engine), workers=2) as supervisor:
                await blocks_known(supervisor, 21)
                streams = [asyncio.create_task(complete(supervisor.port, tokens(stream=True))) for _ in range(2)]
                await until(lambda: _runs(supervisor, 2))
                # Which worker has which, nobody knows: one is killed, and then the other.
                engine.chunks = 2
                waiting = [asyncio.create_task(complete(supervisor.port, tokens(stream=True))) for _ in range(8)]
                await until(lambda: _wait(supervisor, 8))
                refused = await metric(supervisor, "vram_refusals_total")
                (one, _) = (w.process.pid for w in supervisor.workers)
                os.kill(one, signal.SIGKILL)
                for task in [*streams, *waiting]:
                    task.add_done_callback(lambda t: t.exception())
                await until(lambda: _restarted(supervisor, 1))
                (_, two) = (w.process.pid for w in supervisor.workers)
                os.kill(two, signal.SIGKILL)
                await until(lambda: _restarted(supervisor, 2))
                await asyncio.wait([*streams, *waiting], timeout=30)
                await until(lambda: _runs(supervisor, 0))
                assert (await replica(supervisor))["kv"]["held"] == 0
                assert await metric(supervisor, "vram_worker_restarts_total") == 2
                assert await metric(supervisor, "vram_refusals_total") >= refused
                answers = await asyncio.gather(*(complete(supervisor.port, tokens()) for _ in range(6)))
                assert [status for status, _, _ in answers] == [200] * 6
                assert engine.most == 2

    run(test())


async def _runs(supervisor, leases):
    return (await replica(supervisor))["leases"] == leases


async def _hold_nothing(seats):
    return all(seat.books.held_bytes == 0 for seat in seats)


async def _wait(supervisor, requests):
    return (await admin(supervisor, "/v1/queue"))["waiting"] == requests


async def _restarted(supervisor, times):
    await asyncio.sleep(0.1)
    with contextlib.suppress(OSError, AssertionError):
        found = await admin(supervisor, "/v1/workers")
        return found["restarts"] == times and all(w["up_seconds"] is not None for w in found["workers"])
    return False


def test_pages_are_of_all_workers(tmp_path):
    """What runs and waits at any of them stands once on each page, in the form of the document, whichever worker answers."""

    async def test():
        # So slow that nothing grows between two pages.
        async with Watching(chunks=20, delay_seconds=20) as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=21))
            async with crew(tmp_path, pools(engine)) as supervisor:
                await blocks_known(supervisor, 21)
                asked = [asyncio.create_task(complete(supervisor.port, tokens(stream=True), f"x-request-id: r{i}\r\n")) for i in range(9)]
                await until(lambda: _runs(supervisor, 2))
                await until(lambda: _wait(supervisor, 7))
                for _ in range(6):
                    leases, queue = await admin(supervisor, "/v1/leases"), await admin(supervisor, "/v1/queue")
                    assert leases["total"] == 2
                    (line,) = queue["lines"]
                    known = [x["request_id"] for x in [*leases["leases"], *line["requests"]]]
                    assert sorted(known) == [f"r{i}" for i in range(9)]
                    (pool,) = (await admin(supervisor, "/v1/pools"))["pools"]
                    (found,) = pool["replicas"]
                    assert (found["leases"], found["sequences"]) == (2, 2)
                    assert found["kv"]["held"] == sum(lease["held"] for lease in leases["leases"])
                    assert found["kv"]["promised"] == sum(lease["promised"] for lease in leases["leases"])
                    status, _, body = await ask(supervisor.port, None, path="/v1/models")
                    (model,) = json.loads(body)["data"]
                    assert (status, model["vram"]["waiting"]) == (200, 7)
                    assert model["vram"]["kv_bytes_free"] == found["kv"]["capacity"] - found["kv"]["promised"]
                    assert len((await admin(supervisor, "/v1/queue?limit=2"))["lines"][0]["requests"]) == 2
                    assert len((await admin(supervisor, "/v1/leases?limit=1"))["leases"]) == 1
                workers = (await admin(supervisor, "/v1/workers"))["workers"]
                assert [w["number"] for w in workers] == [0, 1, 2]
                assert sum(w["requests"] for w in workers) == 9
                assert {w["pid"] for w in workers} == {w.process.pid for w in supervisor.workers}
                assert await metric(supervisor, "vram_queue_requests") == 7
                assert await metric(supervisor, "vram_leases") == 2
                for task in asked:
                    task.cancel()
                await asyncio.wait(asked)
                await until(lambda: _runs(supervisor, 0))
                await until(lambda: _wait(supervisor, 0))

    run(test())


def test_a_keys_limit_holds_over_all_workers(tmp_path):
    """Forty requests of a key that may make twelve a minute: twelve go, whichever workers they come to."""

    async def test():
        store = Store(tmp_path / "gateway.db")
        key = store.add_key("team", requests_per_minute=12)
        store.close()
        async with MockEngine(chunks=1) as engine, crew(tmp_path, pools(engine)) as supervisor:
            bearer = f"Authorization: Bearer {key}\r\n"
            answers = await asyncio.gather(*(complete(supervisor.port, tokens(), bearer) for _ in range(40)))
            # The bucket fills by one in five seconds.
            assert 12 <= [status for status, _, _ in answers].count(200) <= 14
            assert {status for status, _, _ in answers} == {200, 429}
            # A key that is made while they run is known to all within moments.
            other = Store(tmp_path / "gateway.db")
            new = other.add_key("later")
            other.close()

            async def known():
                found = await asyncio.gather(*(complete(supervisor.port, tokens(), f"Authorization: Bearer {new}\r\n") for _ in range(12)))
                return {status for status, _, _ in found} == {200}

            await until(known)

    run(test())


def test_usage_is_what_was_served_and_money_adds_up(tmp_path):
    """Requests at three workers on one priced replica: the file has each of them once, and paid and idle are the rent to the billionth."""

    async def test():
        async with MockEngine(chunks=6, delay_seconds=0.02) as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=41))
            async with crew(tmp_path, pools(engine)) as supervisor:
                answers = await asyncio.gather(*(complete(supervisor.port, tokens(stream=i % 2 == 0)) for i in range(60)))
                assert [status for status, _, _ in answers] == [200] * 60
                shown = await replica(supervisor)
                assert 0 <= shown["idle_dollars"] < shown["rent_dollars"]
        db = sqlite3.connect(tmp_path / "gateway.db")
        rows = db.execute("SELECT SUM(requests), SUM(prompt_tokens), SUM(completion_tokens), SUM(nano_dollars) FROM usage").fetchall()
        (rent, idle), (requests, prompt, completion, paid) = db.execute("SELECT SUM(rent_nano_dollars), SUM(idle_nano_dollars) FROM rents").fetchone(), rows[0]
        db.close()
        assert (requests, prompt, completion) == (60, 600, 360)
        assert 0 < paid < rent
        # What the last worker to stop told is the rent up to then; nobody paid after that.
        assert paid + idle == rent

    run(test())


def test_drained_and_reloaded_at_once(tmp_path):
    """What an administrator does at one worker holds at all, also at one that starts later; a file with an error changes nothing, ever."""

    async def test():
        async with MockEngine(chunks=1) as one, MockEngine(chunks=1) as two, crew(tmp_path, pools(one)) as supervisor:
            (tmp_path / "pools.toml").write_text(pools(one).replace(f'["{one.url}"]', f'["{one.url}", "{two.url}"]'))
            assert await admin(supervisor, "/v1/reload", method="POST") == {"taken": True, "pools": 1}
            assert len((await admin(supervisor, "/v1/replicas"))["replicas"]) == 2
            drained = await admin(supervisor, "/v1/replicas/p0/0/drain", method="POST")
            assert (drained["state"], drained["url"]) == ("draining", one.url)
            (tmp_path / "pools.toml").write_text("pools = nonsense")
            status, _, body = await ask(supervisor.admin_port, None, path="/v1/reload", headers=f"Authorization: Bearer {TOKEN}\r\n", method="POST")
            assert (status, json.loads(body)["error"]["code"]) == (409, "not_taken")
            os.kill(supervisor.workers[0].process.pid, signal.SIGKILL)
            await until(lambda: _restarted(supervisor, 1))
            await asyncio.sleep(1.1)
            before = len(one.bodies)
            answers = await asyncio.gather(*(complete(supervisor.port, tokens()) for _ in range(24)))
            assert [status for status, _, _ in answers] == [200] * 24
            assert len(one.bodies) == before
            assert (await admin(supervisor, "/v1/replicas/p0/0/undrain", method="POST"))["state"] == "up"

            async def back():
                # Of requests that begin differently, half belong there.
                await asyncio.gather(*(complete(supervisor.port, {**tokens(), "prompt": [i] * 100}) for i in range(12)))
                return len(one.bodies) > before

            await until(back)

    run(test())


def test_a_taken_port_is_told(tmp_path):
    """A port that another has is no port to share, also where that other is a gateway with workers itself."""

    async def test():
        async with MockEngine() as engine, crew(tmp_path, pools(engine), workers=2) as supervisor:
            other = Supervisor(Options(pools=tmp_path / "pools.toml", port=supervisor.port, offline=True), 2)
            with pytest.raises(OSError, match="in use"):
                await other.start()

    run(test())


def _command(tmp_path, *more):
    env = {**os.environ, "VRAM_GATEWAY_DB": str(tmp_path / "gateway.db"), "VRAM_ADMIN_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "vram", "serve", str(tmp_path / "pools.toml"), "--port", "0", "--admin-port", "0", "--offline", "--workers", "3", *more],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )


def _children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in found.split()]


def _gone(pids):
    def alive(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return not any(alive(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_supervisors_end_is_the_end_of_all(tmp_path, how):
    """Killed or told to stop, amid a stream: within seconds no process is left."""

    async def test():
        async with MockEngine(chunks=2000, delay_seconds=0.05) as engine:
            (tmp_path / "pools.toml").write_text(pools(engine))
            with _command(tmp_path, "--log-json") as process:
                line = json.loads(await asyncio.to_thread(process.stderr.readline))
                port = int(line["message"].partition("127.0.0.1:")[2].partition("/")[0])
                assert line["message"].endswith("by 3 workers")
                workers = _children(process.pid)
                assert len(workers) == 3
                for _ in range(6):
                    assert (await complete(port, tokens(max_tokens=1)))[0] == 200
                stream = asyncio.create_task(complete(port, tokens(stream=True)))
                await asyncio.sleep(0.5)
                process.send_signal(how)
                if how != signal.SIGKILL:
                    # A stream would get thirty seconds; its client leaves.
                    stream.cancel()
                ends = time.monotonic() + (5 if how == signal.SIGKILL else 15)
                while not _gone([process.pid, *workers]):
                    assert time.monotonic() < ends
                    await asyncio.sleep(0.05)
                lines = [json.loads(text) for text in (await asyncio.to_thread(process.stderr.read)).splitlines()]
                assert sum(x["event"] == "request" and x["outcome"] == "ok" for x in lines) == 6
                assert process.wait() == (0 if how != signal.SIGKILL else -signal.SIGKILL)
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)

    run(test())


def test_workers_where_ports_cannot_be_shared(monkeypatch, tmp_path):
    """A system without SO_REUSEPORT is told so, with what to do."""
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(UsageError, match="SO_REUSEPORT") as told:
        Supervisor(Options(pools=tmp_path / "pools.toml"), 2)
    assert "--workers" in told.value.hint


def test_a_worker_of_another_version_touches_no_ledger(tmp_path, caplog):
    """What is installed was upgraded meanwhile, and lays the memory that all share out otherwise: a worker that starts then says so and ends."""

    async def test():
        async with MockEngine(chunks=1) as engine, crew(tmp_path, pools(engine), workers=2) as supervisor:
            words = supervisor._block.words
            words[LAYOUT] += 1
            os.kill(supervisor.workers[0].process.pid, signal.SIGKILL)

            async def told():
                return "another version" in caplog.text

            await until(told)
            assert (await ask(supervisor.port, {"model": "m", "messages": []}))[0] == 200
            words[LAYOUT] -= 1
            await until(lambda: _is(lambda: metric(supervisor, "vram_workers"), 2))

    run(test())


def test_what_killed_two_engines_is_kept_from_all_workers(tmp_path):
    """Whichever worker a poison request comes to, two engines die of it and no more; administrators see it once, and clear it for all."""

    async def test():
        async with MockEngine(chunks=1, poison="poison", down_seconds=0.3) as one, MockEngine(chunks=1, poison="poison", down_seconds=0.3) as two:
            text = pools(one).replace(f'["{one.url}"]', f'["{one.url}", "{two.url}"]')
            async with crew(tmp_path, text) as supervisor:
                poison = {"model": "m", "messages": [{"role": "user", "content": "poison"}]}
                status, _, body = await ask(supervisor.port, poison)
                assert (status, json.loads(body)["error"]["code"]) == (422, "quarantined")

                async def told():
                    return (await admin(supervisor, "/v1/quarantine"))["shapes"]

                await until(told)
                for _ in range(12):
                    assert (await ask(supervisor.port, poison))[0] == 422
                assert one.deaths + two.deaths == 2
                assert [(s["state"], s["deaths"]) for s in await told()] == [("quarantined", 2)]
                assert await admin(supervisor, "/v1/quarantine/clear", method="POST") == {"cleared": 1}
                assert await told() == []

    run(test())


def test_a_replica_is_judged_by_the_requests_of_all_workers(tmp_path):
    """What neither of two workers saw often enough both saw together: the engine that answers 500 is out at both, and at both for the same reason."""

    async def test():
        async with MockEngine(chunks=1) as one, MockEngine(chunks=1) as two:
            text = pools(one).replace(f'["{one.url}"]', f'["{one.url}", "{two.url}"]') + "[outliers]\nleast_requests = 32\nout_seconds = 300\n"
            async with crew(tmp_path, text, workers=2) as supervisor:

                async def states():
                    return [r["state"] for r in (await admin(supervisor, "/v1/replicas"))["replicas"] if r["good_seconds_ago"] is not None]

                await until(lambda: _is(states, ["up", "up"]))
                # Probes it answers: so it is its requests that tell, however long they take on a machine with other work.
                two.chokes_on = "messages"
                bodies = [{"model": "m", "messages": [{"role": "user", "content": f"{i}"}]} for i in range(80)]

                async def out():
                    # Again, as the engine that fails may have got fewer than it is judged by; together, as a slow machine takes long for one by one.
                    await asyncio.gather(*(ask(supervisor.port, body) for body in bodies))
                    return await states() == ["up", "out"]

                assert {(await ask(supervisor.port, body))[0] for body in bodies} == {200, 500}
                await until(out, 40.0)
                # Every worker knows it within a second.
                await asyncio.sleep(1.2)
                assert {(await ask(supervisor.port, body))[0] for body in bodies} == {200}
                _, _, page = await ask(supervisor.port, None, path="/metrics")
                outs = [line for line in page.decode().splitlines() if line.startswith("vram_replica_outs_total") and not line.endswith(" 0")]
                assert [line.partition("cause=")[2] for line in outs] == ['"failure_share"} 1']

    run(test())


def test_one_conversation_at_all_workers_puts_no_replica_out(tmp_path):
    """What fails at one worker and what fails at another is one conversation's: the engine goes on answering others, and is asked on."""

    async def test():
        async with MockEngine(chunks=1) as one, MockEngine(chunks=1) as two:
            text = pools(one).replace(f'["{one.url}"]', f'["{one.url}", "{two.url}"]') + "[outliers]\nleast_requests = 8\nwindow_seconds = 24\n"
            async with crew(tmp_path, text, workers=2) as supervisor:
                one.chokes_on = two.chokes_on = "choke"
                choke = {"model": "m", "messages": [{"role": "user", "content": "choke"}]}
                for i in range(60):
                    assert (await ask(supervisor.port, choke))[0] == 500
                    assert (await ask(supervisor.port, {"model": "m", "messages": [{"role": "user", "content": f"{i}"}]}))[0] == 200
                # Judged by both workers, each twelfth of the window.
                await asyncio.sleep(3.5)
                assert [r["state"] for r in (await admin(supervisor, "/v1/replicas"))["replicas"]] == ["up", "up"]
                _, _, page = await ask(supervisor.port, None, path="/metrics")
                assert not [line for line in page.decode().splitlines() if line.startswith("vram_replica_outs_total") and not line.endswith(" 0")]

    run(test())


async def _is(told, expected):
    return (await told()) == expected


def test_a_long_line_at_one_worker_does_not_starve_another(tmp_path):
    """Room for one: forty at one worker, then five at another. Room is free for both in turns, and the five need not wait for the forty."""

    async def test():
        async with Watching(chunks=1, delay_seconds=0.005) as engine:
            engine.pages["/metrics"] = (200, ENGINE_METRICS.format(blocks=11))
            (tmp_path / "pools.toml").write_text(pools(engine))
            block = Block.make(workers=2, places=8, slots=16, keys=1)
            options = {"pools": tmp_path / "pools.toml", "port": 0, "offline": True, "limits": WireLimits(drain_seconds=0.2)}
            gateways = [Gateway(Options(ledger=SharedLedger(block, n), **options)) for n in range(2)]
            for gateway in gateways:
                await gateway.start()
            seats = [gateway.assembled.seats["p0"][0] for gateway in gateways]
            ends = time.monotonic() + 20
            while any(seat.books.capacity_bytes != 10 * 16 * 12_288 for seat in seats):
                assert time.monotonic() < ends
                await asyncio.sleep(0.02)
            order = []

            async def one(number):
                assert (await complete(gateways[number].port, tokens(), f"x-session-id: {len(order)}\r\n"))[0] == 200
                order.append(number)

            many = [asyncio.create_task(one(0)) for _ in range(40)]
            await asyncio.sleep(0.1)
            few = [asyncio.create_task(one(1)) for _ in range(5)]
            await asyncio.gather(*many, *few)
            assert engine.most == 1
            # Whose turn is next is a matter of chance: that the five go last of all is one chance in 2^30.
            assert len(order) - 1 - order[::-1].index(1) < 40
            # What the other holds is seen at the next look.
            await until(lambda: _hold_nothing(seats))
            for gateway in gateways:
                await gateway.stop()
            block.close()

    run(test())
