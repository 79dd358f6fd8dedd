"""The gateway's file: keys and usage, in SQLite (WAL, synchronous NORMAL). Everything that is written down durably is written here.

With these settings a crash of the process loses nothing that was committed; a crash of the machine may lose the last commits, never
the file's soundness (https://www.sqlite.org/pragma.html#pragma_synchronous). The gateway commits at least once a second.
"""

import calendar
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from vram.errors import UsageError, VramError
from vram.gateway.group import Groups
from vram.gateway.keys import KeyTerms, digest, new_key
from vram.sources.private import make_file

_FORM: Final = 3
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS keys (
  digest BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL, revoked REAL, models TEXT, priority INTEGER NOT NULL DEFAULT 0,
  requests_per_minute INTEGER, tokens_per_minute INTEGER, dollars_per_month REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage (
  at REAL NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, pool TEXT NOT NULL, replica TEXT NOT NULL, outcome TEXT NOT NULL, fallback TEXT NOT NULL,
  counted INTEGER NOT NULL, requests INTEGER NOT NULL, answered INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  kv_byte_seconds INTEGER NOT NULL, gpu_microseconds INTEGER NOT NULL, nano_dollars INTEGER NOT NULL, queue_seconds REAL NOT NULL,
  ttft_seconds REAL NOT NULL, total_seconds REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS rents (
  hour INTEGER NOT NULL, pool TEXT NOT NULL, replica TEXT NOT NULL, rent_nano_dollars INTEGER NOT NULL, idle_nano_dollars INTEGER NOT NULL,
  PRIMARY KEY (hour, pool, replica)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS usage_at ON usage (at);
CREATE INDEX IF NOT EXISTS usage_key ON usage (key, at);
"""
# Until form 2 money was kept in millionths; until form 3 each request had a row of its own, which is now summed by the minute.
_SINCE_FORM_1: Final = "ALTER TABLE usage RENAME COLUMN micro_dollars TO nano_dollars; UPDATE usage SET nano_dollars = nano_dollars * 1000;"
_SINCE_FORM_2: Final = """
INSERT INTO usage SELECT MAX(at), key, model, pool, replica, outcome, fallback, counted, COUNT(*), COUNT(ttft_seconds), SUM(prompt_tokens), SUM(completion_tokens),
  SUM(kv_byte_seconds), SUM(gpu_microseconds), SUM(nano_dollars), TOTAL(queue_seconds), TOTAL(ttft_seconds), TOTAL(total_seconds)
  FROM usage_before GROUP BY CAST(at / 60 AS INTEGER), key, model, pool, replica, outcome, fallback, counted;
DROP TABLE usage_before;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Usage of one group of requests."""

    group: tuple[str, ...]
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    kv_byte_seconds: int
    gpu_microseconds: int
    nano_dollars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rent:
    """What one replica cost, and how much of that no request used, in billionths of a dollar."""

    pool: str
    replica: str
    rent_nano_dollars: int
    idle_nano_dollars: int


COLUMNS: Final = (
    *("at", "key", "model", "pool", "replica", "outcome", "fallback", "counted", "requests", "answered", "prompt_tokens", "completion_tokens"),
    *("kv_byte_seconds", "gpu_microseconds", "nano_dollars", "queue_seconds", "ttft_seconds", "total_seconds"),
)
_INSERT: Final = f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608  (names of ours)
_ADD_RENT: Final = (
    "INSERT INTO rents (hour, pool, replica, rent_nano_dollars, idle_nano_dollars) VALUES (?,?,?,?,?) ON CONFLICT (hour, pool, replica) DO UPDATE "
    "SET rent_nano_dollars = rent_nano_dollars + excluded.rent_nano_dollars, idle_nano_dollars = idle_nano_dollars + excluded.idle_nano_dollars"
)
GROUPS: Final = ("key", "model", "pool", "replica", "outcome")


def check_groups(by: Sequence[str]) -> None:
    """See that usage can be grouped so.

    Raises:
        UsageError: it has no such group.
    """
    for group in by:
        if group not in GROUPS:
            raise UsageError(f"usage has no {group!r}", hint=f"group by: {', '.join(GROUPS)}")


def no_key(name: str, near: str = "") -> UsageError:
    """There is no key of that name; `near`: one that was perhaps meant."""
    hint = f"did you mean {near!r}? All of them: vram keys list" if near else "vram keys list says which there are, vram keys add NAME makes one"
    return UsageError(f"no key {name!r}", hint=hint)


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _alone(method: "Callable[Concatenate[Store, _P], _R]") -> "Callable[Concatenate[Store, _P], _R]":
    """One thread at a time: SQLite's own lock does not cover the end of a connection that another thread still reads."""

    @wraps(method)
    def locked(self: "Store", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class Store:
    """The open file. Threads may share it; they take turns."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        Raises:
            UsageError: it is no file of ours, or of a newer form.
            VramError: it cannot be made or written to: a full disk, no permission.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Hashed or not, who uses what is nobody else's business. SQLite's files beside it are made like it.
            made = make_file(path)
            path.chmod(0o600)
        except OSError as e:
            raise VramError(f"{path}: {e.strerror or e}", hint="keys and usage are kept there; name another file with VRAM_GATEWAY_DB") from None
        try:
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._bring_up_to_date()
        except sqlite3.OperationalError as e:
            # A disk that is full or read-only, or a file that is locked: nothing is wrong with the file itself.
            self._discard(made=made)
            raise VramError(f"{path} cannot be used: {e}", hint="is its disk full, or the file locked? name another with VRAM_GATEWAY_DB") from None
        except sqlite3.DatabaseError as e:
            self._discard(made=made)
            raise UsageError(f"{path} cannot be used: {e}", hint="is it another program's? name another with VRAM_GATEWAY_DB") from None
        except UsageError:
            self._discard(made=made)
            raise

    def _discard(self, *, made: bool) -> None:
        """Leave no handle, and no empty file where there was none."""
        with suppress(sqlite3.Error, AttributeError):
            self._db.close()
        with suppress(OSError):
            if made and not self.path.stat().st_size:
                self.path.unlink()

    def _bring_up_to_date(self) -> None:
        """Make the tables, or make them over out of those of an older form: wholly or not at all, whoever else opens the file now."""
        if self._form() == _FORM:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            form = self._form()
            statements = [_SINCE_FORM_1] if form == 1 else []
            if form in {1, 2}:
                statements += [
                    "ALTER TABLE usage RENAME TO usage_before; DROP INDEX IF EXISTS usage_at; DROP INDEX IF EXISTS usage_key;",
                    _TABLES,
                    _SINCE_FORM_2,
                ]
            elif form == 0:
                statements.append(_TABLES)
            for statement in ";".join(statements).split(";"):
                # One by one: executescript would end the transaction first.
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={_FORM}")
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _form(self) -> int:
        form: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if form > _FORM:
            raise UsageError(f"{self.path} was written by a newer version of this program", hint="update, or name another file with VRAM_GATEWAY_DB")
        return form

    @_alone
    def close(self) -> None:
        """Close it."""
        self._db.close()

    # --- keys

    @_alone
    def add_key(
        self,
        name: str,
        *,
        models: Sequence[str] | None = None,
        priority: int = 0,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        dollars_per_month: float | None = None,
        key: str | None = None,
    ) -> str:
        """Make a key of that name and return it: it cannot be shown again.

        Raises:
            UsageError: the name is taken or empty.
        """
        if not name or len(name) > 100 or not name.isprintable():
            raise UsageError(f"{name!r} is no name for a key", hint="up to 100 printable characters: vram keys add team-a")
        key = key or new_key()
        row = (
            digest(key.encode()),
            name,
            time.time(),
            json.dumps(list(models)) if models is not None else None,
            priority,
            requests_per_minute,
            tokens_per_minute,
            dollars_per_month,
        )
        try:
            self._db.execute(
                "INSERT INTO keys (digest, name, created, models, priority, requests_per_minute, tokens_per_minute, dollars_per_month) VALUES (?,?,?,?,?,?,?,?)",
                row,
            )
        except sqlite3.IntegrityError:
            raise UsageError(f"there is a key {name!r} already", hint=f"take another name, or: vram keys revoke {name}") from None
        return key

    @_alone
    def revoke_key(self, name: str) -> None:
        """End a key: a running gateway refuses it within a second. Its name can be used again, its usage stays.

        Raises:
            UsageError: there is none.
        """
        if not self._db.execute("DELETE FROM keys WHERE name = ?", (name,)).rowcount:
            raise self._no_key(name)

    @_alone
    def check_key(self, name: str) -> None:
        """See that there is a key of that name.

        Raises:
            UsageError: there is none.
        """
        with closing(self._db.execute("SELECT 1 FROM keys WHERE name = ?", (name,))) as rows:
            if rows.fetchone() is None:
                raise self._no_key(name)

    def _no_key(self, name: str) -> UsageError:
        with closing(self._db.execute("SELECT name FROM keys")) as rows:
            near = get_close_matches(name, [row[0] for row in rows], n=1)
        return no_key(name, near[0] if near else "")

    @_alone
    def keys(self) -> dict[bytes, KeyTerms]:
        """All keys by digest, with what they spent this month."""
        now = time.gmtime()
        month, begins = now.tm_year * 12 + now.tm_mon, month_start(now.tm_year, now.tm_mon)
        with closing(
            self._db.execute(
                "SELECT k.digest, k.name, k.models, k.priority, k.requests_per_minute, k.tokens_per_minute, k.dollars_per_month, k.created, "
                "(SELECT COALESCE(SUM(nano_dollars), 0) FROM usage u WHERE u.key = k.name AND u.at >= ?) FROM keys k ORDER BY k.name",
                (begins,),
            )
        ) as rows:
            return {
                d: KeyTerms(
                    name=name,
                    models=frozenset(json.loads(models)) if models is not None else None,
                    priority=priority,
                    requests_per_minute=rpm,
                    tokens_per_minute=tpm,
                    dollars_per_month=dollars,
                    nano_dollars_spent=spent,
                    month=month,
                    created=created,
                )
                for d, name, models, priority, rpm, tpm, dollars, created, spent in rows
            }

    @_alone
    def key_rows(self) -> list[tuple[Any, ...]]:
        """All that is written down of keys, without what they spent: quick to read, and another as soon as a key is."""
        with closing(self._db.execute("SELECT * FROM keys ORDER BY name")) as rows:
            return list(rows)

    @_alone
    def version(self) -> int:
        """A number that changes when another process wrote to the file."""
        found: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return found

    # --- usage

    @_alone
    def add_rents(self, rents: Mapping[tuple[int, str, str], tuple[int, int]]) -> None:
        """Add to what replicas cost and how much of it nobody used, by (hour since 1970, pool, replica); nanodollars."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(_ADD_RENT, [(*at, *sums) for at, sums in rents.items()])
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    @_alone
    def rents(self, *, since: float = 0.0, until: float = 1e18) -> list[Rent]:
        """What each replica cost, and how much of it was idle, in the hours that touch that time."""
        query = "SELECT pool, replica, SUM(rent_nano_dollars), SUM(idle_nano_dollars) FROM rents WHERE hour >= ? AND hour < ? GROUP BY pool, replica"
        with closing(self._db.execute(query, (since // 3600, until / 3600))) as rows:
            return [Rent(pool=pool, replica=replica, rent_nano_dollars=rent, idle_nano_dollars=idle) for pool, replica, rent, idle in rows]

    def _roll_back(self) -> None:
        # Where the disk is full SQLite may have rolled back by itself; that it did must not hide why.
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    @_alone
    def add_usage(self, groups: Groups) -> None:
        """Write down ended requests, a row for each group, all or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(_INSERT, groups.rows())
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    @_alone
    def usage(self, by: Sequence[str] = ("key", "model"), *, since: float = 0.0, until: float = 1e18, key: str | None = None) -> list[Sum]:
        """Usage summed by some of `GROUPS`, the dearest first.

        Raises:
            UsageError: no such group.
        """
        check_groups(by)
        columns = ", ".join(by)
        sums = "SUM(requests), SUM(requests * (outcome NOT IN ('ok', 'client_left'))), SUM(prompt_tokens), SUM(completion_tokens), SUM(kv_byte_seconds), SUM(gpu_microseconds), SUM(nano_dollars)"
        where, args = "at >= ? AND at < ?", [since, until]
        extra: list[Any] = []
        if key is not None:
            where, extra = f"{where} AND key = ?", [key]
        grouped = f"GROUP BY {columns}" if by else ""
        query = f"SELECT {columns + ', ' if by else ''}{sums} FROM usage WHERE {where} {grouped} ORDER BY SUM(nano_dollars) DESC, SUM(requests) DESC"  # noqa: S608  (names from GROUPS only)
        with closing(self._db.execute(query, [*args, *extra])) as rows:
            n = len(by)
            return [
                Sum(
                    group=tuple(str(x) for x in row[:n]),
                    requests=row[n],
                    failed=row[n + 1] or 0,
                    prompt_tokens=row[n + 2] or 0,
                    completion_tokens=row[n + 3] or 0,
                    kv_byte_seconds=row[n + 4] or 0,
                    gpu_microseconds=row[n + 5] or 0,
                    nano_dollars=row[n + 6] or 0,
                )
                for row in rows
                if row[n]
            ]


def month_start(year: int, month: int) -> float:
    """When a month began (UTC), in seconds since 1970."""
    return float(calendar.timegm((year, month, 1, 0, 0, 0, 0, 0, 0)))
