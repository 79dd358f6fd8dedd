"""A gateway before an engine that says that its sequences share: the room is others', each pays its part, and an operator can have it otherwise."""

import asyncio
import json

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from gateway_loops import run_on_loop as run
from test_gateway import ask, pools, running

from vram.cli.render.top import frame
from vram.gateway import together
from vram.gateway.admin_pages import leases, queue, replica, replicas, workers
from vram.gateway.admin_pages import pools as pool_pages
from vram.gateway.exposition import metrics
from vram.units import gib

BLOCKS = 1000
ON = "[limits]\ncount_shared_once = true\n"
SAYS = (
    'vllm:cache_config_info{{block_size="16",engine="0",num_gpu_blocks="{blocks}"}} 1.0\n'
    'vllm:kv_cache_usage_perc{{engine="0"}} {usage}\nvllm:num_requests_running{{engine="0"}} {running}\n'
)
SYSTEM = "You are of few words. " * 300


def chat(which):
    """One of those that begin alike."""
    return {
        "model": "m",
        "stream": True,
        "max_tokens": 400,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Say {which}."}],
    }


@pytest.mark.parametrize(
    ("limits", "usage", "ran", "saves"),
    [
        (ON, 0.35, 4, True),
        ("", 0.35, 4, False),
        (ON, 0.95, 4, False),
        (ON, 0.35, 0, False),
    ],
)
def test_an_engines_word_of_what_is_shared_is_room(tmp_path, limits, usage, ran, saves):
    """Four with one system prompt run; their engine says that it holds less than they are charged for."""

    async def test():
        async with MockEngine(chunks=150, delay_seconds=0.02) as engine:
            engine.pages["/metrics"] = (200, SAYS.format(blocks=BLOCKS + 1, usage=0.0, running=0))
            async with running(tmp_path, pools(engine, extra=limits)) as gateway:
                (seat,) = gateway.assembled.seats["p0"]
                for _ in range(200):
                    await asyncio.sleep(0.02)
                    if seat.books.capacity_bytes == BLOCKS * 16 * 12_288:
                        break
                tasks = [asyncio.create_task(ask(gateway, chat(i))) for i in range(4)]
                await asyncio.sleep(0.5)
                engine.pages["/metrics"] = (200, SAYS.format(blocks=BLOCKS + 1, usage=usage, running=ran))
                most = 0
                while not all(task.done() for task in tasks):
                    await asyncio.sleep(0.02)
                    saved = seat.books.saved_bytes(gateway.house.now())
                    if saved > most:
                        most = saved
                        page = replica(gateway, seat)["kv"]
                        assert page["held"] + page["saved"] == seat.books.held_bytes
                        assert page["saved"] == saved
                        pages = {"pools": pool_pages(gateway), "queue": queue(gateway, 9), "leases": leases(gateway, 9), "workers": workers(gateway)}
                        shown = next(text for text in frame(pages, "x", "now").splitlines() if engine.url in text)
                        assert f"{gib(saved)} saved by sharing" in shown
                        assert sum(lease["saved"] for lease in leases(gateway, 9)["leases"]) == pytest.approx(saved, abs=4)
                        assert seat.books.held_bytes - saved >= usage * seat.books.capacity_bytes
                        assert f"}} {saved}\n" in metrics(gateway).decode().split("# TYPE vram_kv_saved_bytes")[1].split("# HELP")[0]
                        assert seat.meter.balance(int(gateway.house.now() * 1e9)).idle_nanodollars > 0
                assert (most > 0) == saves
                assert replica(gateway, seat)["kv"]["shared_once"] == (limits == ON)
                assert [task.result()[0] for task in tasks] == [200] * 4
                (sums,) = gateway.tally.sums.values()
                assert (sums.saved_byte_seconds > 0) == saves
                assert sums.kv_byte_seconds > 0
                assert seat.books.saved_bytes(gateway.house.now()) == 0

    run(test(), 60)


def test_the_switch_is_read_again(tmp_path):
    """Turned off in the file that runs, nothing is saved from then on, and who runs pays for all again."""

    async def test():
        async with MockEngine(chunks=250, delay_seconds=0.02) as engine:
            engine.pages["/metrics"] = (200, SAYS.format(blocks=BLOCKS + 1, usage=0.35, running=4))
            text = pools(engine)
            async with running(tmp_path, text + ON) as gateway:
                (seat,) = gateway.assembled.seats["p0"]
                tasks = [asyncio.create_task(ask(gateway, chat(i))) for i in range(4)]
                while not seat.books.saving.shared:
                    await asyncio.sleep(0.02)
                    assert not all(task.done() for task in tasks)
                assert any(lease.saved_bytes for lease in seat.books.leases)
                (tmp_path / "pools.toml").write_text(text)
                assert await gateway.reload()
                for _ in range(150):
                    await asyncio.sleep(0.02)
                    if not seat.books.saving.shared:
                        break
                assert not seat.books.saving.shared
                assert len(seat.books.leases) == 4
                assert all(lease.paid_bytes == lease.held_bytes for lease in seat.books.leases)
                await asyncio.gather(*tasks)
                (seat,) = gateway.assembled.seats["p0"]
                assert not gateway.watched(seat).shares

    run(test(), 60)


def test_engines_of_several_caches_behind_one_address_save_nothing(tmp_path):
    """vLLM's data parallelism: nobody knows which of them a request came to."""

    async def test():
        async with MockEngine(chunks=100, delay_seconds=0.02) as engine:
            two = SAYS.format(blocks=BLOCKS + 1, usage=0.1, running=4) + 'vllm:kv_cache_usage_perc{engine="1"} 0.1\n'
            engine.pages["/metrics"] = (200, two)
            async with running(tmp_path, pools(engine, extra=ON)) as gateway:
                (seat,) = gateway.assembled.seats["p0"]
                tasks = [asyncio.create_task(ask(gateway, chat(i))) for i in range(4)]
                while not all(task.done() for task in tasks):
                    await asyncio.sleep(0.05)
                    assert seat.books.saved_bytes(gateway.house.now()) == 0
                assert gateway.watched(seat).load.parts == 2
                found = json.loads(json.dumps(replica(gateway, seat)))["kv"]
                assert (found["saved"], found["shared_once"]) == (0, False)

    run(test(), 60)


def test_of_several_workers_the_one_that_saves_most_tells(tmp_path):
    """Each counts what its own requests save; together they save no less than any of them, and what they hold and save is what all are charged."""

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine, extra=ON)) as gateway:
            page = replicas(gateway)
            said = []
            for saved in (0, 70, 20):
                one = json.loads(json.dumps(page))
                one["replicas"][0]["kv"] |= {"held": 100 - saved, "saved": saved, "shared_once": saved > 0}
                said.append(one)
            (told,) = together.replicas(said)["replicas"]
            assert (told["kv"]["held"], told["kv"]["saved"], told["kv"]["shared_once"]) == (30, 70, True)

    run(test(), 60)
