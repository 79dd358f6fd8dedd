"""Keys and usage from the command line, budgets over restarts, and a store that cannot be written."""

import asyncio
import csv
import io
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from random import Random

import jsonschema
import pytest
from mock_engine import MockEngine

from vram.errors import UsageError
from vram.gateway.group import Groups
from vram.gateway.keys import KeyRing
from vram.gateway.moment import moment
from vram.gateway.store import Store
from vram.gateway.usage import UsageWriter
from vram.gateway.used import Used

try:
    import httptools
except ImportError:
    httptools = None
else:
    from test_gateway import ask, chat, pools, run, running

needs_gateway = pytest.mark.skipif("httptools is None", reason="the gateway's extra is not installed")


def line(**changed):
    """What one request used; what is not said is the same for all."""
    same = {"at": 0.0, "request_id": b"r", "key": "a", "model": "m", "pool": "p", "replica": "u", "outcome": "ok", "status": 200, "counted": True}
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "kv_byte_seconds": 2**31, "gpu_microseconds": 1_500_000, "nano_dollars": 2_000_001}
    return Used(**{**same, **counts, "queue_seconds": 0.0, "ttft_seconds": 0.1, "total_seconds": 0.2, **changed})


def vram(db, *args):
    env = {**os.environ, "VRAM_GATEWAY_DB": str(db), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "vram", *args], capture_output=True, text=True, env=env, check=False)


def schema(name):
    return json.loads((files("vram") / "schemas" / f"{name}.json").read_text())


def test_a_key_is_printed_once_and_kept_nowhere(tmp_path):
    """`vram keys add` prints the key alone on stdout; the file, the list and the log never hold it; revoking ends it."""
    db = tmp_path / "g.db"
    done = vram(db, "keys", "add", "team-a", "--dollars-per-month", "2.50", "--model", "m", "--requests-per-minute", "9", "--priority", "3")
    key = done.stdout.strip()
    assert done.returncode == 0
    assert key.startswith("vram-")
    assert key not in done.stderr
    listed = vram(db, "keys", "list")
    assert "team-a" in listed.stdout
    assert key not in listed.stdout + listed.stderr
    assert all(key.encode() not in p.read_bytes() for p in tmp_path.iterdir())
    document = json.loads(vram(db, "keys", "list", "--json").stdout)
    jsonschema.validate(document, schema("keys"))
    (row,) = document["keys"]
    assert (row["models"], row["requests_per_minute"], row["tokens_per_minute"], row["dollars_per_month"]) == (["m"], 9, None, 2.5)
    made = json.loads(vram(db, "keys", "add", "b", "--json").stdout)
    jsonschema.validate(made, schema("keys"))
    assert made["keys"][0]["key"].startswith("vram-")
    if os.name == "posix":
        assert db.stat().st_mode & 0o077 == 0
    assert vram(db, "keys", "revoke", "team-a").returncode == 0
    assert [k["name"] for k in json.loads(vram(db, "keys", "list", "--json").stdout)["keys"]] == ["b"]


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("keys", "revoke", "nobody"), "vram keys list"),
        (("keys", "add", "a\x1bb"), "vram keys add"),
        (("keys", "add", "c", "--dollars-per-month", "lots"), "2.50"),
        (("usage", "--by", "prompt"), "outcome"),
        (("usage", "--since", "yesterday"), "7d"),
    ],
)
def test_mistakes_get_a_hint(tmp_path, args, hint):
    """What cannot be meant is an error with a hint and code 2."""
    Store(tmp_path / "g.db").close()
    done = vram(tmp_path / "g.db", *args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert hint in done.stderr.split("hint: ")[1]
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (("usage", "--by", "modell"), "usage has no 'modell'", "model"),
        (("usage", "--json", "--csv"), "--json and --csv", "one of them"),
        (("usage", "--since", "day", "--until", "2020-01-01"), "--until 2020-01-01T00:00:00Z is not after --since", "--since"),
        (("usage",), "no gateway wrote usage", "vram serve pools.toml"),
        (("keys", "add", "c", "--model", ""), "'' is no model", "--model"),
        (("keys", "add", "c", "--model"), "requires an argument", "vram keys add --help"),
        (("keys", "create", "c"), "No such command 'create'", "add, list or revoke"),
        (("keys", "revoke", "team"), "no key 'team'", "vram keys add"),
    ],
)
def test_mistakes_before_there_is_a_file_are_told_and_leave_none(tmp_path, args, error, hint):
    """A new user's first words: what is wrong is said before a file is missed, and nothing that only asks makes one."""
    done = vram(tmp_path / "g.db", *args)
    assert done.returncode == 2
    assert error in done.stderr
    assert hint in done.stderr.split("hint: ")[1]
    assert list(tmp_path.iterdir()) == []


def test_no_keys_and_no_usage_are_no_errors_but_an_unknown_key_is(tmp_path):
    """Before any key `list` says how to make one; a key that never was is told from one that used nothing yet; the nearest name is named."""
    db = tmp_path / "g.db"
    none = vram(db, "keys", "list")
    assert (none.returncode, none.stdout) == (0, "")
    assert "vram keys add" in none.stderr
    assert json.loads(vram(db, "keys", "list", "--json").stdout)["keys"] == []
    assert not db.exists()
    vram(db, "keys", "add", "team-a")
    unused = vram(db, "usage", "--key", "team-a")
    assert (unused.returncode, unused.stdout) == (0, "")
    assert "no usage of 'team-a' since" in unused.stderr
    assert "when they end" in unused.stderr
    for args in (("usage", "--key", "team-b"), ("keys", "revoke", "team-b")):
        done = vram(db, *args)
        assert done.returncode == 2
        assert done.stderr == "error: no key 'team-b'\nhint: did you mean 'team-a'? All of them: vram keys list\n"
    # Who used something and is gone is known.
    store = Store(db)
    store.add_usage(Groups([line(key="gone", at=time.time() - 9e7)]))
    store.close()
    assert vram(db, "usage", "--key", "gone").returncode == 0


def test_a_file_that_is_not_there_or_not_ours_is_said(tmp_path):
    """No file, another program's file, a folder without permission: an error with a hint each."""
    assert "VRAM_GATEWAY_DB" in vram(tmp_path / "none.db", "usage").stderr
    (tmp_path / "text.db").write_text("hello " * 1000)
    assert "cannot be used" in vram(tmp_path / "text.db", "usage").stderr
    done = vram(tmp_path / "text.db" / "below.db", "keys", "add", "x")
    assert done.returncode == 1
    assert "hint: " in done.stderr


def test_usage_is_summed_as_the_database_sums_it(tmp_path):
    """Table, JSON and CSV say what plain SQL says; the total is the sum of the rows; money is exact to the billionth."""
    db, now = tmp_path / "g.db", time.time()
    store = Store(db)
    lines = [line(at=now - i * 3600, key="ab"[i % 2], model="mn"[i % 3 == 0], outcome=("ok", "engine_lost")[i % 5 == 0]) for i in range(40)]
    store.add_usage(Groups(lines))
    store.add_rents({(int(now // 3600), "p", "u"): (10**9, 4 * 10**8)})
    store.add_rents({(int(now // 3600), "p", "u"): (10**9, 10**8)})
    store.close()
    document = json.loads(vram(db, "usage", "--since", "all", "--json", "--by", "key,outcome").stdout)
    jsonschema.validate(document, schema("usage"))
    plain = sqlite3.connect(db).execute(
        "SELECT key, outcome, SUM(requests), SUM(nano_dollars), SUM(kv_byte_seconds), SUM(prompt_tokens) FROM usage GROUP BY key, outcome ORDER BY key, outcome"
    )
    said = [
        (r["group"]["key"], r["group"]["outcome"], r["requests"], round(r["dollars"] * 1e9), r["kv_byte_seconds"], r["prompt_tokens"]) for r in document["rows"]
    ]
    assert sorted(said) == plain.fetchall()
    assert document["total"]["requests"] == 40
    assert round(document["total"]["dollars"] * 1e9) == 40 * 2_000_001
    assert document["total"]["failed"] == 8
    assert document["idle"] == [{"pool": "p", "replica": "u", "rent_dollars": 2.0, "idle_dollars": 0.5}]
    rows = list(csv.DictReader(io.StringIO(vram(db, "usage", "--since", "all", "--csv").stdout)))
    assert sum(int(r["completion_tokens"]) for r in rows) == 200
    table = vram(db, "usage", "--since", "5h", "--key", "a").stdout
    assert "idle" not in table
    assert table.splitlines()[-2].split()[1] == "3"  # hours 0, 2 and 4
    assert "idle: $0.500 of the $2.00" in vram(db, "usage", "--since", "all").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("month", "2026-11-01T00:00:00+00:00"),
        ("day", "2026-11-27T00:00:00+00:00"),
        ("24h", "2026-11-26T12:30:00+00:00"),
        ("90min", "2026-11-27T11:00:00+00:00"),
        ("2026-10-05", "2026-10-05T00:00:00+00:00"),
        ("2026-10-05T02:00+02:00", "2026-10-05T00:00:00+00:00"),
    ],
)
def test_moments(text, said):
    """Words, spans and dates become the moment that a calendar gives."""
    now = datetime(2026, 11, 27, 12, 30, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(moment(text, now, "--since"), UTC).isoformat() == said
    with pytest.raises(UsageError):
        moment(text + "?", now, "--since")


OLD_FORM = """
CREATE TABLE usage (
  at REAL NOT NULL, request_id TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, pool TEXT NOT NULL, replica TEXT NOT NULL, outcome TEXT NOT NULL,
  status INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, counted INTEGER NOT NULL, kv_byte_seconds INTEGER NOT NULL,
  gpu_microseconds INTEGER NOT NULL, {money} INTEGER NOT NULL, queue_seconds REAL NOT NULL, ttft_seconds REAL, total_seconds REAL NOT NULL,
  fallback TEXT NOT NULL
);
CREATE INDEX usage_at ON usage (at);
CREATE INDEX usage_key ON usage (key, at);
PRAGMA user_version={form};
"""
"""The table as releases before wrote it."""


@pytest.mark.parametrize(("form", "money", "unit"), [(1, "micro_dollars", 1000), (2, "nano_dollars", 1)])
def test_a_file_of_an_older_form_is_brought_up_to_date(tmp_path, form, money, unit):
    """A row for each request, money in millionths: after the change `vram usage` says the same, of each hour and key, to the billionth."""
    db, random = tmp_path / "g.db", Random(5)  # noqa: S311  (a test's own)
    old = sqlite3.connect(db)
    old.executescript(OLD_FORM.format(form=form, money=money))
    begin = 1_790_000_000.0
    lines = [
        (begin + i * 0.7, f"r{i}", random.choice("ab"), "m", "p", "u", random.choice(("ok", "engine_lost")), 200, i, 5, i % 2, 2**31, 7, i, 0.0, None, 0.5, "")
        for i in range(10_000)
    ]
    old.executemany("INSERT INTO usage VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", lines)
    old.commit()

    def said(table, since, until):
        return old.execute(f"SELECT key, {table} FROM usage WHERE at >= ? AND at < ? GROUP BY key ORDER BY key", (since, until)).fetchall()  # noqa: S608  (sums of ours)

    hours = [(begin // 3600 * 3600 + h * 3600, begin // 3600 * 3600 + h * 3600 + 3600) for h in range(3)]
    before = [said(f"COUNT(*), SUM(outcome != 'ok'), SUM(prompt_tokens), SUM({money}) * {unit}", *hour) for hour in hours]
    for _ in range(2):
        store = Store(db)
        for (since, until), rows in zip(hours, before, strict=True):
            sums = sorted(store.usage(("key",), since=since, until=until), key=lambda row: row.group)
            assert [(*row.group, row.requests, row.failed, row.prompt_tokens, row.nano_dollars) for row in sums] == rows
        assert store.rents() == []
        assert store.keys() == {}
        store.close()
    assert old.execute("SELECT COUNT(*) < 2000, SUM(total_seconds), SUM(answered) FROM usage").fetchone() == (1, 5000.0, 0)
    assert old.execute("SELECT COUNT(*) FROM sqlite_master WHERE name IN ('usage_at', 'usage_key')").fetchone() == (2,)


def test_two_may_bring_an_old_file_up_to_date_at_once(tmp_path):
    """Gateway and `vram usage` open the same old file: one of them changes it, neither fails, nothing is counted twice."""
    db = tmp_path / "g.db"
    old = sqlite3.connect(db)
    old.executescript(OLD_FORM.format(form=2, money="nano_dollars"))
    old.execute("INSERT INTO usage VALUES (1e9, 'r', 'a', 'm', 'p', 'u', 'ok', 200, 1, 1, 1, 1, 1, 1, 0.0, 0.1, 0.5, '')")
    old.commit()
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: Store(db), range(4)))
    for store in stores:
        assert store.usage(())[0].requests == 1
        store.close()


def test_requests_that_differ_in_nothing_share_a_row(tmp_path):
    """The file grows with what differs, not with requests; every sum is that of the requests."""
    store = Store(tmp_path / "g.db")
    writer = UsageWriter(store)
    lines = [line(at=1_790_000_040 + i / 100, key="ab"[i % 2], ttft_seconds=None if i % 4 else 0.25, nano_dollars=i) for i in range(4000)]
    for one in lines:
        writer.add(one)
    writer.flush()
    rows = store._db.execute(
        "SELECT key, MAX(at), SUM(requests), SUM(answered), SUM(ttft_seconds), SUM(nano_dollars), COUNT(*) FROM usage GROUP BY key"
    ).fetchall()
    assert rows == [
        (key, mine[-1].at, 2000, len(first := [x for x in mine if x.ttft_seconds is not None]), 0.25 * len(first), sum(x.nano_dollars for x in mine), 1)
        for key in "ab"
        for mine in [[x for x in lines if x.key == key]]
    ]
    store.close()


@needs_gateway
def test_what_keys_paid_and_what_was_idle_is_the_rent(tmp_path):
    """Paid + idle = rent to the last billionth, and the rent is price times the time that passed."""

    async def test():
        began = time.monotonic()
        async with MockEngine(chunks=20, delay_seconds=0.01) as engine, running(tmp_path, pools(engine)) as gateway:
            served = time.monotonic()
            await asyncio.gather(*(ask(gateway, chat(stream=i % 2 == 0)) for i in range(6)))
            await asyncio.sleep(0.2)
            least = time.monotonic() - served
        most = time.monotonic() - began
        store = Store(tmp_path / "gateway.db")
        (rent,) = store.rents()
        paid = store.usage(())[0].nano_dollars
        store.close()
        assert paid > 0
        assert paid + rent.idle_nano_dollars == rent.rent_nano_dollars
        # The books are open from before the first request to after the last, and no longer than all of this took.
        assert 0.5e9 / 3600 * least <= rent.rent_nano_dollars <= 0.5e9 / 3600 * most

    run(test())


@needs_gateway
def test_a_budget_holds_over_restarts_and_ends_with_the_month(tmp_path):
    """A key that spent its month's dollars is refused by a gateway started anew, by name of the limit; last month's money does not count."""

    async def test():
        store = Store(tmp_path / "gateway.db")
        poor, rich = store.add_key("poor", dollars_per_month=1.0), store.add_key("rich", dollars_per_month=100.0)
        before = store.add_key("before", dollars_per_month=1.0)
        store.add_usage(Groups([line(at=time.time(), key=k, nano_dollars=1_000_000_000) for k in ("poor", "rich")]))
        store.add_usage(Groups([line(at=time.time() - 32 * 86400, key="before", nano_dollars=10**10)]))
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            said = {k: await ask(gateway, chat(), headers=f"Authorization: Bearer {k}\r\n") for k in (poor, rich, before)}
            assert [s[0] for s in said.values()] == [429, 200, 200]
            error = json.loads(said[poor][2])["error"]
            assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
            assert error["message"] == "this key's budget of the month is spent"
            # A month later: the spent one may ask again.
            ring = gateway.house.keys
            ring.replace({d: replace(t, month=t.month + 1, nano_dollars_spent=0) for d, t in store.keys().items()})
            assert (await ask(gateway, chat(), headers=f"Authorization: Bearer {poor}\r\n"))[0] == 200
        store.close()

    run(test())


@needs_gateway
def test_a_budget_holds_while_the_usage_cannot_be_written(tmp_path, monkeypatch):
    """Money spent counts at once, written down or not."""

    async def test():
        store = Store(tmp_path / "gateway.db")
        key = store.add_key("k", dollars_per_month=1e-9)
        store.close()
        async with MockEngine(delay_seconds=0.05) as engine, running(tmp_path, pools(engine)) as gateway:
            monkeypatch.setattr(gateway.store, "add_usage", full_disk)
            headers = f"Authorization: Bearer {key}\r\n"
            assert [(await ask(gateway, chat(), headers=headers))[0] for _ in range(2)] == [200, 429]
            monkeypatch.undo()

    run(test())


def full_disk(_):
    raise sqlite3.OperationalError("database or disk is full")


def test_a_full_disk_is_told_once_and_loses_nothing_within_bounds(tmp_path, monkeypatch, caplog):
    """While the file cannot be written usage waits, bounded; the failure, the first loss and the end of it are told once each; then all is written."""
    store = Store(tmp_path / "g.db")
    writer = UsageWriter(store, most_waiting=5)
    monkeypatch.setattr(store, "add_usage", full_disk)
    with caplog.at_level(logging.WARNING, "vram.gateway"):
        for i in range(8):
            writer.add(line(key=str(i)))
            writer.flush()
        assert (writer.waiting, writer.lost, writer.failing) == (5, 3, True)
        monkeypatch.undo()
        writer.flush()
    assert [r.levelname for r in caplog.records] == ["ERROR", "ERROR", "WARNING"]
    assert (writer.waiting, writer.failing) == (0, False)
    assert store.usage(())[0].requests == 5
    store.close()


def test_a_really_full_file_keeps_what_it_has(tmp_path):
    """SQLite's own refusal (no page more) leaves file and memory whole: nothing is written twice, nothing is lost."""
    store = Store(tmp_path / "g.db")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages + 2}")
    writer = UsageWriter(store)
    for i in range(2000):
        writer.add(line(key=f"{i:050}"))
    writer.flush()
    assert writer.failing
    assert writer.waiting == 2000
    store._db.execute("PRAGMA max_page_count=100000")
    writer.flush()
    assert not writer.failing
    assert store.usage(())[0].requests == 2000
    store.close()


def test_a_store_may_be_closed_while_threads_use_it(tmp_path):
    """Threads that still ask a store that is being closed get an answer or an error, never a crash of the process."""
    for i in range(20):
        store = Store(tmp_path / f"{i}.db")

        def work(store=store):
            for _ in range(200):
                try:
                    store.version()
                    store.add_usage(Groups([line()]))
                except sqlite3.ProgrammingError:
                    return

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.005)
        store.close()
        for thread in threads:
            thread.join()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@needs_gateway
def test_a_full_disk_holds_up_no_request(small_disk):
    """A gateway whose disk fills goes on answering and writes all of it down once there is room again; keys and budgets stay in force meanwhile."""

    async def test():
        store = Store(small_disk / "gateway.db")
        key = store.add_key("k")
        store.close()
        async with MockEngine() as engine, running(small_disk, pools(engine)) as gateway:
            with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
                while filler.write(b"x" * 4096):
                    pass
            for _ in range(300):
                status, _, _ = await ask(gateway, chat(), headers=f"Authorization: Bearer {key}\r\n")
                assert status == 200
            await asyncio.sleep(0.7)
            assert (await ask(gateway, chat(), headers="Authorization: Bearer vram-none\r\n"))[0] == 401
            assert gateway.writer.failing
            assert gateway.writer.waiting + gateway.writer.lost > 0
            (small_disk / "filler").unlink()
            await asyncio.sleep(0.7)
            assert (gateway.writer.failing, gateway.writer.lost) == (False, 0)
        store = Store(small_disk / "gateway.db")
        assert store.usage(())[0].requests == 300
        store.close()

    run(test())


@needs_gateway
def test_a_locked_file_holds_up_no_request(tmp_path):
    """Another program holds the file for seconds: requests are answered meanwhile, and written down after it."""

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine)) as gateway:
            other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            ticks, desk = [], gateway.house.desk

            class Ticked:
                def __getattr__(self, name):
                    return getattr(desk, name)

                def tick(self, now):
                    ticks.append(now)
                    desk.tick(now)

            gateway.house.desk = Ticked()
            for _ in range(50):
                assert (await ask(gateway, chat()))[0] == 200
                await asyncio.sleep(0.05)
            # The house's own clock goes on: overdue requests are still ended.
            assert len(ticks) >= time.monotonic() - began - 1.5
            other.execute("ROLLBACK")
            other.close()
            gateway.house.desk = desk
        store = Store(tmp_path / "gateway.db")
        assert store.usage(())[0].requests == 50
        store.close()

    run(test())


def test_an_open_gateway_asks_for_keys_from_the_first_one_on(tmp_path):
    """Who adds a key wants it asked for: the ring that follows the store closes, and revoking the last key opens nothing."""
    store = Store(tmp_path / "g.db")
    ring = KeyRing(required=False, follows=True)
    ring.replace(store.keys())
    assert ring.find(b"Bearer wrong") is not None
    secret = store.add_key("a")
    ring.replace(store.keys())
    assert ring.find(b"Bearer wrong") is None
    assert ring.find(b"Bearer " + secret.encode()) is not None
    ring.replace({})
    assert ring.find(b"Bearer wrong") is None
