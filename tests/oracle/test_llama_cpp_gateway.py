"""The gateway in front of a real llama-server whose cache is tight: alone it fails what runs, through the gateway all is answered.

llama.cpp has no preemption: where its slots share one cache (`-kvu`, the default) and that is full, every running request fails with
"Context size has been exceeded."; slots with a cache of their own cut answers off instead. Needs the llama-server of `make
oracle-llama-cpp` (VRAM_LLAMA_SERVER names another); a model of 1.7 MB with random weights is made on the spot. Half a minute.
"""

import asyncio
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]
pytest.importorskip("httptools", reason="the gateway's extra is not installed")
import tiny_gguf  # noqa: E402  (beside the fast tests)
from test_gateway import running  # noqa: E402  (the same)

CACHED = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vram-ci/llama-cpp-b11434/build/bin"
SERVER = Path(os.environ.get("VRAM_LLAMA_SERVER") or CACHED / "llama-server")
pytestmark = [pytest.mark.skipif(not SERVER.exists(), reason="no llama-server of b11434; `make oracle-llama-cpp` makes one"), pytest.mark.timeout(300)]

CELL = 2 * 4 * 2 * 32 * 2
"""Bytes of a token: keys and values, 4 layers, 2 heads of 32, two bytes each (llama.cpp's own log says so: see below)."""
PROMPT, OUTPUT = 100, 300


@contextmanager
def server(model, *flags):
    """llama-server: its port and its log; ended at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = model.with_suffix(f".{port}.log")
    command = [
        SERVER,
        "-m",
        model,
        *map(str, flags),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-warmup",
        "--offline",
        "-fit",
        "off",
        "-t",
        "1",
        "-lv",
        "4",
    ]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            until = time.monotonic() + 60
            while "listening" not in log.read_text(errors="replace"):
                assert process.poll() is None, log.read_text(errors="replace")[-2000:]
                assert time.monotonic() < until
                time.sleep(0.05)
            yield port, log
        finally:
            process.kill()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf")


def page(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.loads(answer.read())


def busy(port):
    return sum(s["is_processing"] for s in page(port, "/slots"))


def pools(model, port, **settings):
    lines = "\n".join(f"{k} = {json.dumps(v)}" for k, v in settings.items())
    return f"""
[[pools]]
name = "p"
model = "{model}"
engine = "llama.cpp@b11434"
gpu = "24GiB"
replicas = ["http://127.0.0.1:{port}"]
served_as = "m"
[pools.settings]
{lines}
[limits]
queue_seconds = 240
"""


def body(i, prompt=PROMPT, output=OUTPUT, **more):
    return {
        "model": "m",
        "prompt": [(i * 7919 + k * 31) % 600 for k in range(prompt)],
        "max_tokens": output,
        "ignore_eos": True,
        "stream": True,
        "temperature": 0,
        "cache_prompt": False,
        **more,
    }


async def ask(port, asked, path="/v1/completions"):
    """Status, head and body of one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(asked).encode()
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )
    try:
        got = await reader.read()
    finally:
        writer.close()
    head, _, rest = got.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head, rest


def failed(answer):
    """Whether an answer is not what was asked for: an error, or fewer tokens than its limit."""
    return answer[0] != 200 or b'"error"' in answer[2] or b'"finish_reason":"length"' not in answer[2] or b"[DONE]" not in answer[2]


async def known(gateway, capacity_bytes):
    """Until the engine has been asked and the books have its capacity."""
    (seat,) = gateway.assembled.seats["p"]
    for _ in range(200):
        if seat.books.capacity_bytes == capacity_bytes:
            return seat
        await asyncio.sleep(0.02)
    raise AssertionError((seat.books.capacity_bytes, capacity_bytes))


def counted(port):
    """Tokens made and steps taken, as the engine counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = dict(line.split() for line in answer.read().decode().splitlines() if not line.startswith("#"))
    return int(lines["llamacpp:tokens_predicted_total"]), int(lines["llamacpp:n_decode_total"])


def full(log):
    """How often the cache was full; the log is written by a thread of its own."""
    time.sleep(0.3)
    return log.read_text(errors="replace").count("Context size has been exceeded. off = ")


def test_a_shared_cache_at_twice_its_load(model, tmp_path):
    """16 requests of 400 tokens on 8 slots that share 2,048: alone all that run fail together, behind the gateway none does.

    Those that can never fit are told so at once.
    """
    with server(model, "-c", 2048, "-np", 8, "-kvu") as (port, log):
        # What it has, by its own log: "size = 2.00 MiB (2048 cells, …".
        cells, mib = 2048, float(re.search(r"llama_kv_cache: size =\s+([\d.]+) MiB \(\s*2048 cells", log.read_text())[1])
        assert cells * CELL == mib * 2**20

        async def test():
            alone = await asyncio.gather(*(ask(port, body(i)) for i in range(16)))
            errors, before = sum(map(failed, alone)), full(log)
            assert any(b"Context size has been exceeded" in a[2] for a in alone)
            assert errors >= 4
            # Planned with half of what it has: the engine's word goes before.
            async with running(tmp_path, pools(model, port, context_tokens=1024, max_num_seqs=4, kv_unified=True)) as gateway:
                seat = await known(gateway, cells * CELL)
                assert (seat.books.context_tokens, seat.books.max_sequences) == (cells, 8)
                never = asyncio.gather(*(ask(gateway.port, body(i, output=2000)) for i in range(4)))
                answers = await asyncio.gather(*(ask(gateway.port, body(i)) for i in range(16)))
                assert not sum(map(failed, answers))
                assert [(a[0], json.loads(a[2])["error"]["code"]) for a in await never] == [(400, "context_length_exceeded")] * 4
            assert full(log) == before
            return errors

        errors = asyncio.run(asyncio.wait_for(test(), 200))
    print(f"one cache: {errors} of 16 failed alone, none behind the gateway")


def test_it_makes_as_many_tokens_a_step_as_the_engine_at_its_best(model, tmp_path):
    """Requests of many lengths, all at once through the gateway, beside the engine with as many at a time as it takes without an error.

    In tokens per step, by the engine's own counters: time on a shared machine says little, so it is printed only.
    """
    draw = random.Random(20261127)  # noqa: S311  (lengths, no secrets)
    asks = [body(i, draw.randrange(40, 300), draw.randrange(40, 360)) for i in range(40)]

    async def at_most(port, many):
        turn = asyncio.Semaphore(many)

        async def one(asked):
            async with turn:
                return await ask(port, asked)

        return await asyncio.gather(*map(one, asks))

    async def measured(port, doing):
        tokens, steps = counted(port)
        began = time.monotonic()
        answers = await doing
        seconds = time.monotonic() - began
        made, taken = (b - a for a, b in zip((tokens, steps), counted(port), strict=True))
        return sum(map(failed, answers)), made / taken, made / seconds

    async def test(port):
        found = {many: await measured(port, at_most(port, many)) for many in (4, 5, 6)}
        assert any(errors for errors, _, _ in found.values())
        best = max(found, key=lambda many: (not found[many][0], found[many][1]))
        assert not found[best][0]
        async with running(tmp_path, pools(model, port, context_tokens=2048, max_num_seqs=8, kv_unified=True)) as gateway:
            await known(gateway, 2048 * CELL)
            errors, a_step, a_second = await measured(port, at_most(gateway.port, len(asks)))
        return best, found, errors, a_step, a_second

    with server(model, "-c", 2048, "-np", 8, "-kvu", "--metrics") as (port, _):
        best, found, errors, a_step, a_second = asyncio.run(asyncio.wait_for(test(port), 250))
    for many, (wrong, step, second) in found.items():
        print(f"engine alone, {many} at a time: {wrong} failed, {step:.2f} tokens a step, {second:,.0f} a second")
    print(f"through the gateway, {len(asks)} at once: {errors} failed, {a_step:.2f} tokens a step, {a_second:,.0f} a second")
    assert not errors
    assert a_step >= 0.95 * found[best][1]


def test_slots_with_a_cache_each(model, tmp_path):
    """Four slots of 512: alone an answer of 600 is cut off; the gateway says so before, and lets in what fits to the last token."""
    with server(model, "-c", 2048, "-np", 4, "-no-kvu") as (port, _):
        assert {s["n_ctx"] for s in page(port, "/slots")} == {512}

        async def test():
            cut = await ask(port, body(0, output=600, stream=False))
            assert json.loads(cut[2])["usage"]["completion_tokens"] < 600
            async with running(tmp_path, pools(model, port, context_tokens=512, max_num_seqs=4)) as gateway:
                seat = await known(gateway, 2048 * CELL)
                assert (seat.books.context_tokens, seat.books.max_sequences) == (512, 4)
                most = 0

                async def watch():
                    nonlocal most
                    while True:
                        most = max(most, seat.books.sequences)
                        assert seat.books.held_bytes == seat.books.sequences * 512 * CELL
                        await asyncio.sleep(0.005)

                watcher = asyncio.create_task(watch())
                answers = await asyncio.gather(*(ask(gateway.port, body(i, output=512 - PROMPT, stream=i % 2 == 0)) for i in range(9)))
                watcher.cancel()
                assert [a[0] for a in answers] == [200] * 9
                counts = [int(re.search(rb'"completion_tokens": ?(\d+)', a[2])[1]) for a in answers[1::2]]
                assert counts == [512 - PROMPT] * 4
                assert most == 4
                status, _, said = await ask(gateway.port, body(0, output=513 - PROMPT))
                assert (status, json.loads(said)["error"]["code"]) == (400, "context_length_exceeded")

        asyncio.run(asyncio.wait_for(test(), 200))


def test_answers_without_a_limit_take_turns(model, tmp_path):
    """Who sets no limit may fill the whole cache: alone three of them fail each other, behind the gateway each gets all that there is."""
    asks = [{k: v for k, v in body(i).items() if k != "max_tokens"} for i in range(3)]
    with server(model, "-c", 768, "-np", 4, "-kvu") as (port, log):

        async def test():
            # (Chat: a completion without a limit is one of 16 tokens, by OpenAI's rule.)
            chats = [
                {**{k: v for k, v in a.items() if k != "prompt"}, "messages": [{"role": "user", "content": tiny_gguf.text(20, i)}]} for i, a in enumerate(asks)
            ]
            alone = await asyncio.gather(*(ask(port, c, "/v1/chat/completions") for c in chats))
            assert sum(map(failed, alone)) >= 2
            before = full(log)
            async with running(tmp_path, pools(model, port, context_tokens=768, kv_unified=True)) as gateway:
                await known(gateway, 768 * CELL)
                answers = await asyncio.gather(*(ask(gateway.port, c, "/v1/chat/completions") for c in chats))
            assert not sum(map(failed, answers))
            assert full(log) == before

        asyncio.run(asyncio.wait_for(test(), 200))


def test_who_leaves_frees_the_slot(model, tmp_path):
    """A client that goes mid-stream: its slot works no more, its lease is gone, and a giant behind it comes."""
    with server(model, "-c", 4096, "-np", 2, "-kvu") as (port, _):

        async def test():
            async with running(tmp_path, pools(model, port, context_tokens=4096, max_num_seqs=2, kv_unified=True)) as gateway:
                seat = await known(gateway, 4096 * CELL)
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                data = json.dumps(body(0, output=3900)).encode()
                writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
                assert b"200" in await reader.readline()
                while b"data:" not in await reader.readline():
                    pass
                assert await asyncio.to_thread(busy, port) == 1
                behind = asyncio.create_task(ask(gateway.port, body(1, output=3000)))
                await asyncio.sleep(0.05)
                assert not behind.done()
                assert seat.books.sequences == 1
                writer.close()
                answer = await behind
                assert not failed(answer)
                for _ in range(100):
                    if not await asyncio.to_thread(busy, port):
                        break
                    await asyncio.sleep(0.02)
                # 3,900 tokens were asked for: had it gone on, it would be there yet.
                assert not await asyncio.to_thread(busy, port)
                made = [s["next_token"][0]["n_decoded"] for s in await asyncio.to_thread(page, port, "/slots") if "next_token" in s]
                assert all(m < 3900 for m in made)

        asyncio.run(asyncio.wait_for(test(), 200))


def test_sequences_are_charged_one_by_one(model, tmp_path):
    """`n` and a batch of prompts take as many slots as they are charged for; more than there are slots is refused before the engine is asked."""
    with server(model, "-c", 4096, "-np", 4, "-kvu") as (port, _):

        async def test():
            async with running(tmp_path, pools(model, port, context_tokens=4096, max_num_seqs=4, kv_unified=True)) as gateway:
                seat = await known(gateway, 4096 * CELL)
                for asked, sequences in (
                    (body(0, 50, 700, n=3), 3),
                    (body(1, 50, 700), 1),
                    ({**body(2, 50, 700), "prompt": [[i] * 50 for i in (5, 6)]}, 2),
                ):
                    task = asyncio.create_task(ask(gateway.port, asked))
                    seen = set()
                    while not task.done():
                        seen.add((seat.books.sequences, await asyncio.to_thread(busy, port)))
                    assert not failed(task.result()), task.result()
                    assert max(charged for charged, _ in seen) == max(real for _, real in seen) == sequences, seen
                    assert len(re.findall(rb'"finish_reason":"length"', task.result()[2])) == sequences
                status, _, said = await ask(gateway.port, body(3, 50, 10, n=5))
                assert status == 400, said

        asyncio.run(asyncio.wait_for(test(), 200))


TOOLS = [
    {"type": "function", "function": {"name": "water", "description": "the river", "parameters": {"type": "object", "properties": {"old": {"type": "string"}}}}}
]
SAME = {
    "a chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": tiny_gguf.text(30)}], "max_tokens": 12}),
    "a chat in parts": ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": tiny_gguf.text(30)}]}], "max_tokens": 12}),
    "tools": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, "tool_choice": "none", "max_tokens": 12}),
    "a form": (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 40,
            "response_format": {"type": "json_schema", "json_schema": {"name": "y", "schema": {"enum": ["under", "stone"]}}},
        },
    ),
    "a text": ("/v1/completions", {"prompt": tiny_gguf.text(30), "max_tokens": 12}),
    "a response": ("/v1/responses", {"input": tiny_gguf.text(30), "instructions": "the old", "max_output_tokens": 12}),
    "vectors": ("/v1/embeddings", {"input": [tiny_gguf.text(9), tiny_gguf.text(20)], "encoding_format": "float"}),
}
CHANGING = {"id", "created", "created_at", "completed_at", "timings", "call_id"}


def constant(node):
    """An answer without what differs from one to the next."""
    if isinstance(node, dict):
        return {k: constant(v) for k, v in node.items() if k not in CHANGING and not k.startswith("prompt_tokens_d") and not k.startswith("input_tokens_d")}
    return [constant(v) for v in node] if isinstance(node, list) else node


def test_every_endpoint_says_what_the_engine_says(model, tmp_path):
    """The engine's own answer to the same request is the gateway's: chat, tools, forms, texts, responses, vectors; and all of it is settled."""
    with server(model, "-c", 2048, "-np", 2, "-kvu", "--embeddings", "--pooling", "mean", "--jinja") as (port, _):

        async def test():
            async with running(tmp_path, pools(model, port, context_tokens=2048, max_num_seqs=2, kv_unified=True)) as gateway:
                await known(gateway, 2048 * CELL)
                for name, (path, asked) in SAME.items():
                    whole = {"model": "m", "temperature": 0, "seed": 1, **asked}
                    mine, real = await ask(gateway.port, whole, path), await ask(port, whole, path)
                    assert (mine[0], real[0]) == (200, 200), (name, mine, real)
                    assert constant(json.loads(mine[2])) == constant(json.loads(real[2])), name
                    assert b"x-vram-pool: p" in mine[1]

        asyncio.run(asyncio.wait_for(test(), 200))
