"""A gateway that runs out of descriptors or ports says so, holds it against no engine, and takes as many as it may have."""

import asyncio
import contextlib
import errno
import json
import os
import socket
import subprocess
import sys

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
pytest.importorskip("resource", reason="descriptors have no such limit here")

import resource

from gateway_loops import LOOPS
from mock_engine import MockEngine
from test_gateway import MODEL, ask, chat, running
from test_gateway_wire import run

from vram.gateway.call import UnsentError, call
from vram.gateway.house import House
from vram.gateway.keys import KeyRing
from vram.gateway.replica import Replica
from vram.gateway.watch import Watched

on_each_loop = pytest.mark.parametrize("loop", LOOPS)


@contextlib.contextmanager
def no_descriptor_left():
    """From the lowest free number on none is given; those that are there go on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def one_pool(*engines):
    urls = ", ".join(f'"{e.url}"' for e in engines)
    return f'[[pools]]\nname = "p"\nmodel = "{MODEL}"\nengine = "vllm"\ngpu = "RTX 4090"\nreplicas = [{urls}]\nserved_as = "m"\n'


async def answered(reader, writer):
    """One request on a connection that is there: its status, its headers in small letters, its body."""
    body = json.dumps(chat()).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), head, await asyncio.wait_for(reader.readexactly(length), 5)


@on_each_loop
def test_who_has_no_descriptor_left_blames_no_engine(tmp_path, monkeypatch, loop):
    """Four requests and a probe that cannot be sent: 503 with a time to come back, replicas as sound as before, and answers once there are some again."""
    monkeypatch.setenv("VRAM_GATEWAY_LOOP", loop)

    async def test():
        async with MockEngine() as one, MockEngine() as two, running(tmp_path, one_pool(one, two), store=False) as gateway:
            seats = gateway.assembled.seats["p"]
            clients = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(5)]
            # The loop accepted all of them once the last one is answered.
            assert (await answered(*clients[-1]))[0] == 200
            for seat in seats:
                seat.replica.close()
            await asyncio.sleep(0.05)
            before = [(s.replica.failed, s.replica.health.failures, s.replica.health.outs) for s in seats]
            with no_descriptor_left():
                got = [await answered(*client) for client in clients[:4]]
                await Watched(seat=seats[0], room=None, in_tokens=False, model="m").probe()
            for status, head, body in got:
                assert (status, json.loads(body)["error"]["code"]) == (503, "gateway_out_of_sockets")
                assert "\r\nretry-after: " in head
                # What it held here is free for others.
                assert "\r\nconnection: close\r\n" in head
            assert [(s.replica.failed, s.replica.health.failures, s.replica.health.outs) for s in seats] == before
            assert all(s.replica.health.sound() for s in seats)
            assert (await ask(gateway, chat()))[0] == 200
            for _, writer in clients:
                writer.close()

    run(test())


@pytest.mark.skipif("sockets" not in LOOPS, reason="the door is asyncio's own")
def test_a_door_that_shut_for_want_of_descriptors_opens_again(tmp_path, monkeypatch):
    """A client that came while none was left is served when there are some again, without coming anew."""
    monkeypatch.setenv("VRAM_GATEWAY_LOOP", "sockets")

    async def test():
        async with MockEngine() as engine, running(tmp_path, one_pool(engine), store=False) as gateway:
            client = await asyncio.open_connection("127.0.0.1", gateway.port)
            assert (await answered(*client))[0] == 200
            # Made before none is left: the gateway's end of it has no number yet.
            late = socket.socket()
            late.settimeout(0)
            with no_descriptor_left():
                await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", gateway.port))
                await asyncio.sleep(0.05)
            late_client = await asyncio.open_connection(sock=late)
            assert (await answered(*late_client))[0] == 200
            for _, writer in (client, late_client):
                writer.close()

    run(test())


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize("seen", [True, False])
def test_what_is_wanting_here_is_told_from_an_engine_that_is_not_there(code, seen):
    """Each error of our own, of one that answered before and of one that never did: an address that this machine cannot have is no port that is wanting."""

    class Lacking:
        def __init__(self, loop):
            self.time, self.create_task, self.create_future = loop.time, loop.create_task, loop.create_future

        async def create_connection(self, *_, **__):
            raise OSError(code, os.strerror(code))

    async def test():
        house = House(asyncio.get_running_loop(), KeyRing(required=False))
        house.loop, house.sockets = Lacking(house.loop), None
        replica = Replica(house, url="http://127.0.0.1:1", host="127.0.0.1", port=1)
        if seen:
            replica.health.good(house.now())
        with pytest.raises(Exception, match=r"reached|left to ask it") as told:
            await call(replica, b"GET", b"/metrics")
        assert isinstance(told.value, UnsentError) == (seen or code != errno.EADDRNOTAVAIL)

    run(test())


def alone(code, soft, hard=None):
    """What Python code prints in a process that begins with that limit."""
    hard = hard or resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    begin = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.split()


SHOW = "print(*resource.getrlimit(resource.RLIMIT_NOFILE), began_with())\n"
RAISE = "from vram.gateway.descriptors import began_with, raise_limit\nraise_limit()\n"


def test_the_limit_of_descriptors_is_raised_to_the_hard_one():
    """Up to what is permitted, never down, and as often as one likes; it is remembered what there was."""
    assert alone(RAISE + "raise_limit()\n" + SHOW, 256, 4000) == ["4000", "4000", "256"]
    assert alone(RAISE + SHOW, 4000, 4000) == ["4000", "4000", "None"]


def test_a_limit_that_may_not_be_raised_stays():
    """macOS refuses more than it has, whatever its hard limit says: less is asked for, and at last nothing changes."""
    refuse = (
        "real = resource.setrlimit\nasked = []\n"
        "def setrlimit(what, limits):\n    asked.append(limits[0])\n    if limits[0] > {most}:\n        raise ValueError('no')\n    real(what, limits)\n"
        "resource.setrlimit = setrlimit\nresource.getrlimit = lambda what, get=resource.getrlimit: (get(what)[0], resource.RLIM_INFINITY)\n"
    )
    keep = "real = lambda what, limits, set=real: set(what, (min(limits[0], 3000), 4000))\n"
    assert alone(refuse.format(most=20_000) + keep + RAISE + "print(*asked)", 256, 4000) == ["1048576", "65536", "10240"]
    assert alone(refuse.format(most=0) + RAISE + SHOW, 256, 4000)[::2] == ["256", "None"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_and_its_workers_begin_with_more(tmp_path, workers):
    """`vram serve`, started with 256 descriptors of 4,000 that it may have: each of its processes may have 4,000."""
    pools = tmp_path / "pools.toml"
    pools.write_text(f'[[pools]]\nname = "p"\nmodel = "{MODEL}"\nengine = "vllm"\ngpu = "RTX 4090"\nreplicas = ["http://127.0.0.1:9"]\nserved_as = "m"\n')
    words = ["serve", str(pools), "--port", "0", "--admin-port", "0", "--offline", "--workers", str(workers)]
    begin = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4000)); os.execv(sys.executable, [sys.executable, '-m', 'vram', *{words!r}])"
    environment = {**os.environ, "VRAM_GATEWAY_DB": str(tmp_path / "gateway.db")}
    with subprocess.Popen([sys.executable, "-c", begin], stderr=subprocess.PIPE, text=True, env=environment) as serving:
        try:
            for line in serving.stderr:
                if "serving m on" in line:
                    break
            with open(f"/proc/{serving.pid}/task/{serving.pid}/children") as children:  # noqa: PTH123
                processes = [serving.pid, *map(int, children.read().split())]
            assert len(processes) >= (1 if workers == 1 else 3)
            assert [resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in processes] == [(4000, 4000)] * len(processes)
        finally:
            serving.terminate()
            serving.communicate(timeout=20)


@pytest.mark.skipif(sys.platform != "linux", reason="engines are started by a guard")
def test_an_engine_begins_with_the_limit_that_vram_began_with():
    """What `vram up` takes for its gateway is none of its engines': they get the soft limit that they would have had, and may raise it."""
    start = (
        "from vram.runtime.driver import Start\nfrom vram.runtime.local import LocalDriver\n"
        "code = 'import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))'\n"
        "import sys\nhandle = LocalDriver().start(Start(name='e', words=[sys.executable, '-c', code]))\n"
        "handle.wait(20)\nprint(*handle.tail())\n"
    )
    assert alone(RAISE + start, 256, 4000) == ["256", "4000"]
    assert alone(start, 256, 4000) == ["256", "4000"]
