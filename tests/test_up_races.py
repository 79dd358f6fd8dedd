"""What happens to a unit while something else is under way with it: stopped amid a start, closed amid a reload, cut off in a thread. No process is started."""

import asyncio
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from vram.admission.residency import TurnRules
from vram.gateway.health import Health
from vram.gateway.health import State as HealthState
from vram.runtime import watchdog
from vram.runtime.driver import Exit
from vram.runtime.http import NoAnswerError, ask
from vram.runtime.residence import Residence
from vram.runtime.runs import Entry, runs
from vram.runtime.unit import StartError, State, Unit
from vram.runtime.watchdog import Kept, Watchdog


class Handle:
    """A process that lives until it is asked to end."""

    def __init__(self, on_exit):
        self.mark, self.trouble, self.pid, self.exit = "m", "", 1, None
        self.on_exit = on_exit

    def head(self):
        return []

    def tail(self, _=40):
        return []

    def stop(self, _):
        if self.exit is None:
            self.exit = Exit(signal=9)
            self.on_exit(self.exit)

    def wait(self, _=None):
        return self.exit


class Driver:
    """Starts them, as slowly as it is told."""

    def __init__(self):
        self.handles = []
        self.held = threading.Event()
        self.held.set()
        self.asked = threading.Event()

    def start(self, _, on_exit):
        self.asked.set()
        self.held.wait(10)
        self.handles.append(Handle(on_exit))
        return self.handles[-1]

    @property
    def alive(self):
        return sum(h.exit is None for h in self.handles)


class Fake(Unit):
    """A unit whose engine answers nobody unless it is said."""

    answers = False

    def line(self):
        return SimpleNamespace(words=("x",), variables={})

    async def _answers(self):
        await asyncio.sleep(0)
        return self.answers


def unit(tmp_path, driver, name="m"):
    engine = SimpleNamespace(name="e", rules="llama.cpp", ready_path="/health", grace_seconds=1.0, short_of=lambda _: None, loads=lambda _: ())
    plan = SimpleNamespace(gpus=[SimpleNamespace(total_bytes=6, capacity_bytes=6, pool=True)])
    return Fake(
        SimpleNamespace(wanted=SimpleNamespace(name=name), alias=name, reserved=(), engine=engine, plan=plan, on=(0,)), driver, tmp_path, ready_seconds=20
    )


async def until(found):
    async with asyncio.timeout(10):
        while not found():  # noqa: ASYNC110  (threads change it, too)
            await asyncio.sleep(0.005)


def test_what_a_thread_starts_after_nobody_waits_for_it_is_ended(tmp_path):
    async def scene():
        driver = Driver()
        driver.held.clear()
        starting = asyncio.create_task(unit(tmp_path, driver).start())
        await until(driver.asked.is_set)
        starting.cancel()
        await asyncio.sleep(0.01)
        driver.held.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert len(driver.handles) == 1
        assert driver.alive == 0

    asyncio.run(scene())


def test_who_is_stopped_by_hand_amid_its_start_stays_so(tmp_path):
    """While its process comes to be there is nothing to end yet; what comes is ended all the same."""

    async def scene():
        driver = Driver()
        driver.held.clear()
        one = unit(tmp_path, driver)
        one.answers = True
        starting = asyncio.create_task(one.start())
        await until(driver.asked.is_set)
        one.enter(State.STOPPED, "stopped by hand")
        await one.end()
        driver.held.set()
        with pytest.raises(StartError):
            await starting
        one.enter(State.READY)
        one.enter(State.ASLEEP)
        assert (one.state, one.why, driver.alive) == (State.STOPPED, "stopped by hand", 0)
        with pytest.raises(StartError):
            await one.start()
        assert len(driver.handles) == 1

    asyncio.run(scene())


def test_who_answers_for_an_engine_that_has_ended_is_a_stranger(tmp_path):
    async def scene():
        driver = Driver()
        one = unit(tmp_path, driver)
        starting = asyncio.create_task(one.start())
        await until(lambda: driver.handles)
        driver.handles[0].stop(0.0)
        one.answers = True
        with pytest.raises(StartError):
            await starting

    asyncio.run(scene())


def test_a_port_that_somebody_took_meanwhile_is_left_to_him(tmp_path):
    one = unit(tmp_path, Driver())
    assert not one.moved()
    with socket.socket() as other:
        other.bind(("127.0.0.1", one.port))
        other.listen(1)
        taken = one.port
        assert one.moved()
        assert one.port != taken
        assert not one.moved()


class Keeper:
    """Three models of 6 bytes on a card; what runs and waits is as the test says."""

    def __init__(self, tmp_path, names):
        self.units = {n: unit(tmp_path, Driver(), n) for n in names}
        self.lines = {n: [] for n in names}
        self.busy = dict.fromkeys(names, 0)
        self.serving = {}
        self.unloaded = asyncio.Event()
        self.breaks = False

    def line(self, name):
        return self.lines[name]

    def waited(self, name):
        return 1000.0 if self.lines[name] else 0.0

    def running(self, name):
        return self.busy[name]

    def ended(self, _):
        return 0

    def serves(self, unit, *, ready):
        self.serving[unit.name] = ready

    async def load(self, *_):
        return True

    async def unload(self, unit):
        if self.breaks:
            raise RuntimeError("a defect")
        await self.unloaded.wait()
        unit.state = State.ASLEEP


def residence(keeper, capacity, pinned=()):
    ways = {n: (u.placed,) for n, u in keeper.units.items()}
    rules = TurnRules(turn_loads=0.0, least_seconds=0.0, linger_share=0.0)
    return Residence(keeper, ways, capacity, rules=rules, pinned=frozenset(pinned), clock=time.monotonic)


def test_one_that_never_fits_opens_no_door_that_is_closed_for_another(tmp_path):
    """Before, each look at a model that cannot be placed let requests in again where one made room: with enough of them it never emptied."""

    async def scene():
        keeper = Keeper(tmp_path, ["old", "new", "large", "pin"])
        for name in ("old", "pin"):
            keeper.units[name].state = State.READY
        for name in ("new", "large"):
            keeper.units[name].state = State.ASLEEP
        keeper.units["large"].placed.plan.gpus[0].total_bytes = 9
        keeper.lines["new"] = [SimpleNamespace(priority=0)]
        keeper.busy["old"] = 1
        found = residence(keeper, (12,), pinned=["pin"])
        found.look()
        assert keeper.serving == {"old": False}
        keeper.lines["large"] = [SimpleNamespace(priority=0)]
        found.look()
        # Its own requests are refused from now on, and nobody else's door moves.
        assert keeper.serving == {"old": False, "large": False}
        assert found.never("large")
        assert "does not fit" in keeper.units["large"].why
        assert not found.open("old")

    asyncio.run(scene())


def test_who_works_makes_room_for_other_programs_and_comes_back_with_their_end(tmp_path):
    """A card loses memory while both models of it answer: one takes no new requests, ends its work, goes, and waits until the memory is there again."""

    async def scene():
        keeper = Keeper(tmp_path, ["often", "seldom"])
        keeper.unloaded.set()
        for one in keeper.units.values():
            one.state = State.READY
        keeper.busy = {"often": 1, "seldom": 1}
        found = residence(keeper, (12,))
        found.uses["often"].per_second = 5.0
        found.look()
        assert keeper.serving == {}
        found.capacity = (8,)
        found.look()
        assert keeper.serving == {"seldom": False}
        keeper.lines["seldom"] = [SimpleNamespace(priority=0)]
        found.look()
        assert not found.open("seldom")
        assert keeper.units["seldom"].state is State.READY
        keeper.busy["seldom"] = 0
        found.look()
        await until(lambda: keeper.units["seldom"].state is State.ASLEEP)
        keeper.lines["seldom"] = []
        found.capacity = (4,)
        found.look()
        # The other one is the last of the card: it stays.
        assert found.open("often")
        found.capacity = (12,)
        keeper.lines["seldom"] = [SimpleNamespace(priority=0)]
        loads = found.uses["seldom"].loads
        found.look()
        await until(lambda: found.uses["seldom"].loads == loads + 1)
        assert found.open("often")

    asyncio.run(scene())


def test_who_is_to_go_takes_nobody_until_it_is_gone(tmp_path):
    async def scene():
        keeper = Keeper(tmp_path, ["old", "new"])
        keeper.units["old"].state, keeper.units["new"].state = State.READY, State.ASLEEP
        keeper.lines["new"] = [SimpleNamespace(priority=0)]
        found = residence(keeper, (6,))
        found.uses["old"].used_at -= 100
        assert found.open("old")
        found.look()
        assert keeper.serving["old"] is False
        assert not found.open("old")
        await asyncio.sleep(0)
        keeper.unloaded.set()
        await until(lambda: found.open("old"))

    asyncio.run(scene())


def test_a_defect_amid_an_unloading_shuts_nobody_out(tmp_path):
    async def scene():
        keeper = Keeper(tmp_path, ["old", "new"])
        keeper.units["old"].state, keeper.units["new"].state = State.READY, State.ASLEEP
        keeper.lines["new"] = [SimpleNamespace(priority=0)]
        keeper.breaks = True
        found = residence(keeper, (6,))
        found.uses["old"].used_at -= 100
        found.look()
        assert keeper.serving["old"] is False
        await until(lambda: keeper.serving["old"])

    asyncio.run(scene())


def test_an_answer_whose_status_is_no_number_is_none():
    async def scene():
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 " + b"9" * 5000 + b" OK\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            with pytest.raises(NoAnswerError):
                await ask(server.sockets[0].getsockname()[1], "GET", "/health")

    asyncio.run(scene())


@pytest.mark.parametrize("out", [False, True])
def test_one_that_is_to_make_room_is_not_taken_for_hung(tmp_path, monkeypatch, out):
    """It takes nobody while it ends what it runs, which may last long after its last probe that failed; one that is out of service is ended."""
    monkeypatch.setattr(watchdog, "HUNG_SECONDS", 0.0)

    async def scene():
        driver = Driver()
        one = unit(tmp_path, driver)
        one.answers = True
        await one.start()
        one.enter(State.READY)
        health = Health()
        health.bad(time.monotonic(), "no answer", probe=out)
        health.leave(HealthState.DRAINING, "makes room")
        seat = SimpleNamespace(replica=SimpleNamespace(health=health))
        looking = asyncio.create_task(Watchdog({"m": Kept(one)}, None, lambda _: [seat], lambda _: None).look())
        await asyncio.sleep(2.5)
        looking.cancel()
        assert driver.alive == (0 if out else 1)

    asyncio.run(scene())


def test_two_runs_of_one_number_keep_files_and_sockets_of_their_own(tmp_path):
    """Containers that share a folder have processes of the same number: the second one took the first one's file and socket over."""
    first, second = Entry(tmp_path), Entry(tmp_path)
    assert first.file != second.file
    assert first.socket != second.socket
    assert {r.socket for r in runs(tmp_path)} == {first.socket, second.socket}
    first.close()
    assert [r.file for r in runs(tmp_path)] == [second.file]
    second.close()
    assert runs(tmp_path) == []
