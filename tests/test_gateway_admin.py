"""The administrators' door: what it says holds by its own OpenAPI document and by the books, what it does is done, and nobody else gets in."""

import asyncio
import json
import os
import re
from importlib.resources import files
from types import SimpleNamespace

import jsonschema
import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from test_gateway import ask, chat, pools, run, running

from vram.errors import UsageError
from vram.gateway.token import admin_token

DOCUMENT = json.loads((files("vram") / "schemas" / "gateway-admin.json").read_text())
TOKEN = "a-token-of-administrators"  # noqa: S105  (of this test)
BEARER = f"Authorization: Bearer {TOKEN}\r\n"


async def admin(gateway, path, *, method="GET", headers=BEARER):
    """One request to the administrators' door; what it answers is held against the document."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.admin_port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
    got = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    head, _, body = got.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    content = json.loads(body) if b"application/json" in head else body
    check(path.partition("?")[0], method, status, content)
    return SimpleNamespace(status=status, body=content, head=head.decode().lower())


def check(path, method, status, content):
    """The content has the form that the document gives for that path and status."""
    for template, operations in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in operations:
            responses = operations[method.lower()]["responses"]
            kinds = responses.get(str(status), responses["default"])["content"]
            if "application/json" in kinds:
                jsonschema.validate(content, {**kinds["application/json"]["schema"], "components": DOCUMENT["components"]})


def opened(tmp_path, text, **options):
    return running(tmp_path, text, admin_port=0, admin_token=TOKEN, **options)


def test_every_page_has_the_form_of_the_document(tmp_path):
    """All that the document lists answers, in its form, while requests run and wait; the figures are those of the books."""

    async def test():
        async with (
            MockEngine(chunks=60, delay_seconds=0.02) as engine,
            opened(tmp_path, pools(engine, per_pool="settings = { max_num_seqs = 1 }")) as gateway,
        ):
            (seat,) = gateway.assembled.seats["p0"]
            tasks = [asyncio.create_task(ask(gateway, chat(stream=True), headers=f"x-request-id: r{i}\r\n")) for i in range(3)]
            await asyncio.sleep(0.6)
            for path, operations in DOCUMENT["paths"].items():
                if "get" in operations:
                    assert (await admin(gateway, path)).status == 200
            (pool,) = (await admin(gateway, "/v1/pools")).body["pools"]
            (replica,) = pool["replicas"]
            assert (pool["name"], replica["url"], replica["state"], replica["leases"]) == ("p0", engine.url, "up", 1)
            assert replica["kv"]["capacity"] == seat.books.capacity_bytes
            (lease,) = (await admin(gateway, "/v1/leases")).body["leases"]
            assert (lease["request_id"], lease["key"], lease["unit"]) == ("r0", "anonymous", "bytes")
            assert 0 < lease["held"] <= lease["promised"] <= replica["kv"]["capacity"]
            assert lease["output_tokens"] >= 16
            queue = (await admin(gateway, "/v1/queue?limit=1")).body
            assert queue["waiting"] == queue["lines"][0]["waiting"] == 2
            assert [r["request_id"] for r in queue["lines"][0]["requests"]] == ["r1"]
            assert queue["lines"][0]["oldest_seconds"] > 0.4
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    run(test())


def test_nobody_gets_in_without_the_token(tmp_path):
    """No token, a wrong one, a client's key: 401 for every path that is not open, and nothing is done; the clients' port has none of it."""

    async def test():
        async with MockEngine() as engine, opened(tmp_path, pools(engine)) as gateway:
            for path, operations in DOCUMENT["paths"].items():
                for method in operations:
                    for headers in ("", "Authorization: Bearer x\r\n", f"Authorization: Basic {TOKEN}\r\n", f"Authorization: Bearer {TOKEN}x\r\n"):
                        got = await admin(gateway, path.format(pool="p0", number=0), method=method.upper(), headers=headers)
                        expected = 200 if operations[method].get("security") == [] else 401
                        assert got.status == expected
                        assert expected == 200 or "www-authenticate: bearer" in got.head
            assert gateway.assembled.seats["p0"][0].replica.health.usable()
            assert (await ask(gateway, None, path="/v1/pools"))[0] == 404

    run(test())


def test_draining_lets_what_runs_end_and_nothing_new_in(tmp_path):
    """A drained replica ends its stream, takes nothing new (it goes to the other), stays drained over a reload, and comes back."""

    async def test():
        async with MockEngine(chunks=30, delay_seconds=0.02) as one, MockEngine() as two:
            text = pools(one).replace(f'["{one.url}"]', f'["{one.url}", "{two.url}"]')
            async with opened(tmp_path, text) as gateway:
                first = gateway.assembled.seats["p0"][0]
                stream, words = None, 10
                while stream is None or not first.books.leases:
                    # Another conversation: one goes to the same replica each time.
                    words += 1
                    stream = asyncio.create_task(ask(gateway, chat(stream=True, words=words)))
                    await asyncio.sleep(0.03)
                assert (await admin(gateway, "/v1/replicas/p0/0/drain", method="POST")).body["state"] == "draining"
                before = len(one.bodies)
                for _ in range(6):
                    assert (await ask(gateway, chat()))[0] == 200
                assert (await admin(gateway, "/v1/reload", method="POST")).body == {"taken": True, "pools": 1}
                assert (await ask(gateway, chat()))[0] == 200
                assert len(one.bodies) == before
                status, _, body = await stream
                assert (status, b"[DONE]" in body) == (200, True)
                assert (await admin(gateway, "/v1/replicas/p0/1/drain", method="POST")).status == 200
                assert (await ask(gateway, chat()))[0] == 503
                assert (await admin(gateway, "/v1/replicas/p0/0/undrain", method="POST")).body["state"] == "up"
                assert (await ask(gateway, chat()))[0] == 200
                assert len(one.bodies) == before + 1

    run(test())


def test_a_file_with_an_error_is_not_taken(tmp_path):
    """Reloading a broken file is 409 with the reason; what is served stays."""

    async def test():
        async with MockEngine() as engine, opened(tmp_path, pools(engine)) as gateway:
            (tmp_path / "pools.toml").write_text("nonsense = 1")
            got = await admin(gateway, "/v1/reload", method="POST")
            assert (got.status, got.body["error"]["code"]) == (409, "not_taken")
            assert "nonsense" in got.body["error"]["message"]
            assert (await ask(gateway, chat()))[0] == 200

    run(test())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/pools", 405),
        ("GET", "/v1/reload", 405),
        ("DELETE", "/v1/replicas/p0/0/drain", 405),
        ("POST", "/v1/replicas/p0/9/drain", 404),
        ("POST", "/v1/replicas/p0/-1/drain", 404),
        ("POST", "/v1/replicas/p0/0/burn", 404),
        ("POST", "/v1/replicas/%ff/0/drain", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/leases?limit=0", 400),
        ("GET", "/v1/leases?limit=many", 400),
        ("GET", "/v1/pools?x=1", 400),
        ("GET", "/v1/usage?by=prompt", 400),
        ("GET", "/v1/usage?since=soon", 400),
        ("GET", "/v1/usage?by=key&by=pool", 400),
    ],
)
def test_mistakes_are_told(tmp_path, method, path, status):
    """What cannot be meant is refused with its reason; a wrong method says which one is right."""

    async def test():
        async with MockEngine() as engine, opened(tmp_path, pools(engine)) as gateway:
            got = await admin(gateway, path, method=method)
            assert got.status == status
            assert got.body["error"]["message"]
            assert ("allow: " in got.head) == (status == 405)

    run(test())


def test_usage_is_that_of_the_command_line(tmp_path):
    """`/v1/usage` sums what was written down."""

    async def test():
        async with MockEngine(chunks=4) as engine, opened(tmp_path, pools(engine)) as gateway:
            for _ in range(3):
                await ask(gateway, chat())
            await asyncio.to_thread(gateway.writer.flush)
            got = (await admin(gateway, "/v1/usage?by=model,outcome&since=1h")).body
            assert [(r["group"], r["requests"], r["completion_tokens"]) for r in got["rows"]] == [({"model": "m", "outcome": "ok"}, 3, 12)]

    run(test())


def test_the_clients_pages_have_the_form_of_their_document(tmp_path):
    """What the clients' port says of models, health and errors is what `vram schema gateway` publishes; every response header is in it."""
    document = json.loads((files("vram") / "schemas" / "gateway.json").read_text())

    def valid(content, name):
        jsonschema.validate(content, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            assert json.loads((await ask(gateway, None, path="/openapi.json"))[2]) == document
            valid(json.loads((await ask(gateway, None, path="/v1/models"))[2]), "Models")
            for path in ("/health", "/ready"):
                valid(json.loads((await ask(gateway, None, path=path))[2]), "Status")
            gateway.assembled.seats["p0"][0].replica.health.drain(draining=True)
            gateway.assembled.desk.refresh()
            status, _, body = await ask(gateway, None, path="/ready")
            assert status == 503
            valid(json.loads(body), "Status")
            gateway.assembled.seats["p0"][0].replica.health.drain(draining=False)
            gateway.assembled.desk.refresh()
            valid(json.loads((await ask(gateway, chat("nobody")))[2]), "Error")
            status, headers, body = await ask(gateway, None, path="/v1/embeddings")
            assert (status, headers["allow"]) == (405, "post")
            _, headers, _ = await ask(gateway, chat())
            listed = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["headers"]
            assert {h for h in headers if h.startswith("x-")} <= set(listed)

    run(test())


def test_the_token_is_its_owners(tmp_path):
    """The token's file is made once, readable by its owner alone; one that others may read is refused, with what to type."""
    path = tmp_path / "deep" / "admin.token"
    with pytest.raises(UsageError):
        admin_token(None, path, make=False)
    made = admin_token(None, path, make=True)
    assert len(made) >= 40
    assert admin_token(None, path, make=True) == admin_token(None, path, make=False) == made
    assert admin_token("given", path, make=False) == "given"
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        with pytest.raises(UsageError, match="others may read") as e:
            admin_token(None, path, make=False)
        assert e.value.hint == f"chmod 600 {path}"
