"""A replica that is unlike its pool is left alone and comes back; a pool whose requests all fail is asked on; and why is told everywhere."""

import asyncio
import json
import sys

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
pytest.importorskip("prometheus_client", reason="the test extra is not installed")

from test_gateway import ask, chat, run
from test_gateway_admin import TOKEN, admin
from test_gateway_metrics import scrape, total
from test_gateway_routing import fleet

from vram.cli.render.top import frame
from vram.gateway import watch
from vram.gateway.admin_pages import leases, pools, queue, workers
from vram.gateway.front import _source_of
from vram.gateway.store import Store

RULES = "[outliers]\nleast_requests = 5\nwindow_seconds = 12\nout_seconds = 4\n"


async def spread(gateway, number, **more):
    """So many different requests, one after the other: they go to all replicas."""
    return [(await ask(gateway, chat(words=i, **more)))[0] for i in range(number)]


async def until(true, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  (a state that a tick changes)
            await asyncio.sleep(0.05)


def healths(gateway):
    return [seat.replica.health for seat in gateway.assembled.seats["p0"]]


def states(gateway):
    return [health.state(gateway.house.now()).value for health in healths(gateway)]


def test_who_answers_500_where_others_answer_is_left_alone(tmp_path):
    """Its peers' good answers tell that it is the replica; metrics, pages and `vram top` say why; it is back when it answers again."""

    async def test():
        async with fleet(tmp_path, 3, extra=RULES, admin_port=0, admin_token=TOKEN) as (gateway, engines):
            await until(lambda: all(e.probes for e in engines))
            engines[1].behaviour = "error-500"
            assert set(await spread(gateway, 40)) == {200, 500}
            await until(lambda: healths(gateway)[1].out)
            assert states(gateway) == ["up", "out", "up"]
            before = len(engines[1].bodies)
            assert await spread(gateway, 20) == [200] * 20
            assert len(engines[1].bodies) == before
            found = (await admin(gateway, "/v1/replicas")).body["replicas"][1]
            assert (found["state"], found["cause"], 0 < found["seconds_out"] <= 4) == ("out", "failure_share", True)
            assert found["why"] == "it failed 100% of its requests, its peers 0% of theirs"
            page = {"pools": pools(gateway), "queue": queue(gateway, 9), "leases": leases(gateway, 9), "workers": workers(gateway)}
            assert "it failed 100% of its requests, its peers 0% of theirs; tried again in" in frame(page, "x", "now")
            metrics = await scrape(gateway)
            assert total(metrics, "vram_replica_outs_total", cause="failure_share") == 1
            assert total(metrics, "vram_replica_outs_total") == 1
            assert total(metrics, "vram_replica_state", state="out", replica=engines[1].url) == 1
            engines[1].behaviour = "honest"
            await until(lambda: states(gateway) == ["up"] * 3)
            await spread(gateway, 20)
            assert len(engines[1].bodies) > before

    run(test())


async def settled(gateway):
    """Every replica was judged after what came until now, and what was in doubt was probed."""
    await asyncio.sleep(2.5)
    return states(gateway)


@pytest.mark.parametrize("choked", ["error-500", "die-before-head"])
def test_what_one_conversation_breaks_puts_no_replica_out(tmp_path, choked, caplog):
    """Engines that answer everybody but one, whose every turn they fail: its replicas are healthy, and go on serving the others."""

    async def test():
        async with fleet(tmp_path, 3, extra=RULES + "[limits]\nquarantine_seconds = 0\n") as (gateway, engines):
            await until(lambda: all(e.probes for e in engines))
            for engine in engines:
                engine.chokes_on, engine.choked = "choke", choked
            failed = []
            for i in range(40):
                body = {"model": "m", "messages": [{"role": "user", "content": "choke"}, {"role": "assistant", "content": f"{i}"}]}
                failed.append((await ask(gateway, body))[0])
                assert (await ask(gateway, chat(words=i)))[0] == 200
                assert "out" not in states(gateway)
            assert set(failed) == {500} if choked == "error-500" else {502}
            assert await settled(gateway) == ["up"] * 3
            assert total(await scrape(gateway), "vram_replica_outs_total") == 0
            # Who wonders why one that fails so much is up finds it in the log, once for each replica.
            told = [record.getMessage() for record in caplog.records if "one source" in record.getMessage()]
            assert len(told) == len({text.split()[0] for text in told}) <= 3
            assert told or choked != "error-500"

    run(test())


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this machine on Linux alone")
def test_what_one_address_breaks_puts_no_replica_out_that_serves_others(tmp_path):
    """Where no keys are asked for, an address is a client: what one of two breaks is not held against a replica that answers the other."""

    async def once(gateway, address, body):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=(address, 0))
        data = json.dumps(body).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
        got = await reader.read()
        writer.close()
        return int(got.split()[1])

    async def test():
        async with fleet(tmp_path, 2, extra=RULES) as (gateway, engines):
            await until(lambda: all(e.probes for e in engines))
            engines[0].chokes_on = "choke"
            for i in range(40):
                assert await once(gateway, "127.0.0.2", chat(words=i) | {"user": "choke"}) in {200, 500}
                assert await once(gateway, "127.0.0.1", chat(words=i + 100)) == 200
            assert await settled(gateway) == ["up", "up"]

    run(test())


def test_an_address_is_known_by_its_network():
    """IPv6 gives one client as many addresses as it likes of its /64; of IPv4 each counts. What is told of none is one client, too."""
    same = {_source_of((host, 1, 0, 0)) for host in ("2001:db8::1", "2001:db8:0:0:ffff::2", "2001:db8::3%eth0")}
    assert len(same) == 1
    others = [("2001:db8:0:1::1", 1, 0, 0), ("192.0.2.1", 1), ("192.0.2.2", 1), ("2001:db8:zz", 1), None, ""]
    assert len(same | {_source_of(peer) for peer in others}) == 6
    assert 0 not in {_source_of(peer) for peer in others}


def test_what_one_key_breaks_puts_no_replica_out_that_serves_others(tmp_path):
    """A key whose every request fails, each in a session of its own, all at one replica: the others' good answers there vouch for it."""

    async def test():
        store = Store(tmp_path / "gateway.db")
        bad, good = (f"Authorization: Bearer {store.add_key(name)}\r\n" for name in ("bad", "good"))
        store.close()
        async with fleet(tmp_path, 2, extra=RULES) as (gateway, engines):
            await until(lambda: all(e.probes for e in engines))
            engines[0].chokes_on = "choke"
            for i in range(40):
                # The other engine survives them: so only one of them fails what it is asked by that key.
                assert (await ask(gateway, chat(words=i) | {"user": "choke"}, headers=bad))[0] in {200, 500}
                assert (await ask(gateway, chat(words=i + 100), headers=good))[0] == 200
            assert await settled(gateway) == ["up", "up"]
            # It is the replica where it fails the other as well.
            engines[0].behaviour = "error-500"
            for i in range(40):
                await ask(gateway, chat(words=i), headers=bad)
                await ask(gateway, chat(words=i), headers=good)
            await until(lambda: states(gateway) == ["out", "up"])
            assert healths(gateway)[0].cause.value == "failing"

    run(test())


def test_what_one_key_kills_puts_no_replica_out_that_serves_others(tmp_path):
    """A key at whose every request engines break off, each in a session of its own: three in a row, of one client, where the other is answered."""

    async def test():
        store = Store(tmp_path / "gateway.db")
        bad, good = (f"Authorization: Bearer {store.add_key(name)}\r\n" for name in ("bad", "good"))
        store.close()
        async with fleet(tmp_path, 2, extra="[limits]\nquarantine_seconds = 0\nretry_share = 1\n") as (gateway, engines):
            await until(lambda: all(e.probes for e in engines))
            for i in range(8):
                assert (await ask(gateway, chat(words=i), headers=good))[0] == 200
            assert all(e.bodies for e in engines)
            for engine in engines:
                engine.chokes_on, engine.choked = "choke", "die-before-head"
            for i in range(12):
                assert (await ask(gateway, chat(words=i) | {"user": "choke"}, headers=bad))[0] == 502
                assert states(gateway) == ["up", "up"]
            # It is the replicas where they break off for the other as well.
            for engine in engines:
                engine.chokes_on = "messages"
            assert not any(health.outs for health in healths(gateway))
            for i in range(6):
                await ask(gateway, chat(words=i), headers=good)
                await ask(gateway, chat(words=i + 100), headers=bad)
            assert any(health.outs for health in healths(gateway))

    run(test())


@pytest.mark.parametrize("busy", [False, True])
def test_who_answers_one_client_no_more_is_probed_at_once(tmp_path, busy):
    """One conversation's failures in a row are no proof: the replica is asked for a token, and is out when it gives none, also while it answers somebody."""

    async def test():
        async with fleet(tmp_path, 2, extra="[limits]\nquarantine_seconds = 0\nretry_share = 1\n") as (gateway, engines):
            await until(lambda: all(e.probes for e in engines))
            topic = {"model": "m", "messages": [{"role": "user", "content": "all the same"}]}
            assert (await ask(gateway, topic))[0] == 200
            home = next(i for i, e in enumerate(engines) if e.bodies)
            stream = None
            if busy:
                engines[home].chunks, engines[home].delay_seconds = 400, 0.05
                stream = asyncio.create_task(ask(gateway, topic | {"stream": True}))
                await until(lambda: gateway.assembled.seats["p0"][home].books.sequences)
            engines[home].behaviour = "die-before-head"
            for _ in range(4):
                assert (await ask(gateway, topic))[0] == 200
            await until(lambda: healths(gateway)[home].out, 5.0)
            assert healths(gateway)[home].cause.value == "probe"
            assert not healths(gateway)[1 - home].out
            if stream is not None:
                assert not stream.done()
                stream.cancel()

    run(test())


@pytest.mark.parametrize("behaviour", ["honest", "no-answer"])
def test_who_is_slow_or_hangs_is_left_alone(tmp_path, behaviour):
    """First tokens that take many times as long as at its peers, or never come, put a replica out; nobody has to fail for it."""

    async def test():
        async with fleet(tmp_path, 2, extra=RULES + '[limits]\naffinity = "off"\n', chunks=2) as (gateway, engines):
            await until(lambda: all(e.probes for e in engines))
            engines[0].delay_seconds, engines[0].behaviour = 1.3, behaviour
            asked = [asyncio.create_task(ask(gateway, chat(words=i, stream=True))) for i in range(20)]
            async with asyncio.timeout(30):
                while not healths(gateway)[0].out:
                    asked += [asyncio.create_task(ask(gateway, chat(words=i, stream=True))) for i in range(6)]
                    await asyncio.sleep(0.5)
            assert states(gateway) == ["out", "up"]
            assert healths(gateway)[0].cause.value == "slow"
            before = len(engines[0].bodies)
            assert await spread(gateway, 10, stream=True) == [200] * 10
            assert len(engines[0].bodies) == before
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)

    run(test())


def test_where_all_fail_all_are_asked_on(tmp_path):
    """Requests that no engine of a pool survives put none out: whoever comes next is answered. Once nobody listens there, all are out."""

    async def test():
        async with fleet(tmp_path, 2, extra="[limits]\nquarantine_seconds = 0\nretry_share = 1\n", chunks=5) as (gateway, engines):
            await until(lambda: all(e.probes for e in engines))
            for engine in engines:
                engine.behaviour = "die-mid-stream"
            for i in range(12):
                status, _, body = await ask(gateway, chat(words=i, stream=True))
                assert status == 200
                assert json.loads(body.split(b"data: ")[-1].split(b"\n")[0])["error"]["code"] == "engine_lost"
            assert "out" not in states(gateway)
            assert all(health.out and not health.proven for health in healths(gateway))
            metrics = await scrape(gateway)
            assert total(metrics, "vram_replica_state", state="suspect") == 2
            for engine in engines:
                engine.behaviour = "honest"
            assert await spread(gateway, 12) == [200] * 12
            assert states(gateway) == ["up", "up"]
            for engine in engines:
                await engine.die()
            codes = await spread(gateway, 12)
            assert codes[0] == 502
            assert codes[-1] == 503
            assert all(health.cause.value in {"refused", "probe"} for health in healths(gateway))

    run(test())


def test_a_probe_that_waits_behind_answers_proves_nothing(tmp_path, monkeypatch):
    """A suspect whose slots are all taken answers no probe, and its streams go on: it is asked on. When nothing comes any more, it is out."""
    monkeypatch.setattr(watch, "PROBE_SECONDS", 0.3)

    async def test():
        async with fleet(tmp_path, 1, chunks=2000, delay_seconds=0.05) as (gateway, (engine,)):
            await until(lambda: engine.probes)
            (health,) = healths(gateway)
            stream = asyncio.create_task(ask(gateway, chat(stream=True)))
            await until(lambda: any(x.first for x in gateway.house.exchanges))
            engine.behaviour = "no-answer"
            probes = engine.probes
            for _ in range(3):
                health.bad(gateway.house.now(), "no")
            gateway.house.desk.refresh()
            await until(lambda: engine.probes >= probes + 2)
            assert states(gateway) == ["suspect"]
            stream.cancel()
            await until(lambda: health.proven)
            assert health.cause.value == "probe"

    run(test())


def test_the_rules_are_the_files(tmp_path):
    """A file that lets requests put out all of a pool has it out at three failures; read again, its rules are others at once."""

    async def test():
        text = "[outliers]\nmost_out_share = {}\n[limits]\nquarantine_seconds = 0\n"
        async with fleet(tmp_path, 1, extra=text.format(1.0), behaviour="die-mid-stream") as (gateway, engines):
            await until(lambda: engines[0].probes)
            engines[0].behaviour = "die-before-head"
            codes = await spread(gateway, 4)
            assert (codes[0], codes[-1]) == (502, 503)
            path = tmp_path / "pools.toml"
            path.write_text(path.read_text().replace("1.0", "0.5"))
            assert await gateway.reload()
            gateway.house.desk.refresh()
            assert states(gateway) == ["suspect"]
            engines[0].behaviour = "honest"
            assert await spread(gateway, 2) == [200] * 2

    run(test())
