"""What administrators read: pools, replicas, leases, the queue and the usage, as plain documents of one moment.

The form is src/vram/schemas/gateway-admin.json. Prompts and keys are nowhere in it; a key's name stands for it.
"""

import os
import sqlite3
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from vram.errors import UsageError, VramError
from vram.gateway.moment import moment
from vram.gateway.seats import UNKNOWN_TOKENS
from vram.gateway.store import Store
from vram.gateway.sums import report, usage_document

if TYPE_CHECKING:
    from pathlib import Path

    from vram.admission.lease import Lease
    from vram.gateway.exchange import Exchange
    from vram.gateway.seats import Seat
    from vram.gateway.server import Gateway


def pools(gateway: "Gateway") -> dict[str, Any]:
    """Pools with their replicas, and the public models with the pools that serve them."""
    assembled = gateway.assembled
    return {
        "pools": [
            {
                "name": name,
                "model": plan.pool.model,
                "engine": plan.pool.engine,
                "gpu": plan.pool.gpu,
                "dollars_per_hour": plan.pool.dollars_per_hour,
                "notes": list(plan.notes),
                "replicas": [replica(gateway, seat) for seat in assembled.seats[name]],
            }
            for name, plan in assembled.plans.items()
        ],
        "models": [
            {"model": name, "pools": [p.name for p in route.pools], "waiting": len(assembled.desk.counters[name].line)}
            for name, route in assembled.public.items()
        ],
    }


def replicas(gateway: "Gateway") -> dict[str, Any]:
    """All replicas."""
    return {"replicas": [replica(gateway, seat) for seats in gateway.assembled.seats.values() for seat in seats]}


def replica(gateway: "Gateway", seat: "Seat") -> dict[str, Any]:
    """One replica: its health, its load by its own word, its books."""
    now, books, health = gateway.house.now(), seat.books, seat.replica.health
    watched = gateway.watched(seat)
    load = watched.load if watched is not None else None
    balance = seat.meter.balance(int(now * 1e9)) if seat.meter is not None else None
    return {
        "pool": seat.pool.name,
        "number": seat.pool.books.index(books),
        "url": seat.replica.url,
        "state": health.state(now).value,
        "why": health.away_why if health.away is not None else health.why,
        "cause": health.cause.value if health.cause is not None else None,
        "seconds_out": health.seconds_out(now),
        "failures_in_a_row": health.failures,
        "failed_requests": seat.replica.failed,
        "good_seconds_ago": max(now - health.last_good, 0.0) if health.last_good is not None else None,
        "connections": len(seat.replica.open),
        "leases": len(books.leases),
        "sequences": books.sequences,
        "max_sequences": books.max_sequences,
        "context_tokens": books.context_tokens if books.context_tokens < UNKNOWN_TOKENS else None,
        "kv": {
            "unit": unit(gateway, seat),
            "capacity": seat.capacity,
            "held": books.held_bytes - books.saved_bytes(now),
            "saved": books.saved_bytes(now),
            "shared_once": watched is not None and watched.saves,
            "promised": books.promised_bytes,
            "held_by_others": books.foreign_bytes(now),
        },
        "engine": {
            "name": watched.about.engine or load.engine,
            "kv_usage": load.kv_usage,
            "running": load.running,
            "waiting": load.waiting,
            "preemptions": load.preemptions,
            "said_seconds_ago": max(now - watched.at, 0.0),
        }
        if watched is not None and load is not None and watched.at > float("-inf")
        else None,
        "rent_dollars": balance.rent_nanodollars / 1e9 if balance is not None else None,
        "idle_dollars": balance.idle_nanodollars / 1e9 if balance is not None else None,
    }


def unit(gateway: "Gateway", seat: "Seat") -> str:
    """What a replica's books count."""
    return "tokens" if gateway.assembled.plans[seat.pool.name].in_tokens else "bytes"


def leases(gateway: "Gateway", limit: int) -> dict[str, Any]:
    """Requests that run, the oldest of each replica first."""
    found = [
        (seat, lease) for seats in gateway.assembled.seats.values() for seat in seats for lease in sorted(seat.books.leases, key=lambda lease: lease.since)
    ]
    return {"total": len(found), "leases": [_lease(gateway, seat, lease) for seat, lease in found[:limit]]}


def _lease(gateway: "Gateway", seat: "Seat", lease: "Lease") -> dict[str, Any]:
    need = lease.need
    x: Exchange = need.owner
    return {
        "request_id": x.request_id.decode("ascii", "replace"),
        "key": need.key,
        "model": x.ask.model,
        "pool": seat.pool.name,
        "number": seat.pool.books.index(seat.books),
        "unit": unit(gateway, seat),
        "held": lease.held_bytes,
        "saved": lease.saved_bytes,
        "promised": lease.promised_bytes,
        "prompt_tokens": need.prompt_tokens,
        "output_tokens": lease.produced,
        "expected_output_tokens": lease.expected,
        "sequences": need.sequences,
        "stream": need.streams,
        "age_seconds": max(gateway.house.now() - lease.since, 0.0),
    }


def queue(gateway: "Gateway", limit: int) -> dict[str, Any]:
    """Who waits for which model, the next one first; at most `limit` of each."""
    now = gateway.house.now()
    lines = []
    for name, counter in gateway.assembled.desk.counters.items():
        line = counter.line
        lines.append(
            {
                "model": name,
                "waiting": len(line),
                # They stand in the order in which they came.
                "oldest_seconds": max(now - next(iter(line)).arrived, 0.0) if len(line) else 0.0,
                "requests": [
                    {
                        "request_id": need.owner.request_id.decode("ascii", "replace"),
                        "key": need.key,
                        "priority": need.priority,
                        "prompt_tokens": need.prompt_tokens,
                        "expected_output_tokens": need.expected_tokens,
                        "sequences": need.sequences,
                        "waited_seconds": max(now - need.arrived, 0.0),
                        "passed_by": need.passed,
                    }
                    for need in islice(line.in_order(), limit)
                ],
            }
        )
    return {"waiting": sum(line["waiting"] for line in lines), "lines": lines}


def worker(gateway: "Gateway", number: int = 0, generation: int = 1) -> dict[str, Any]:
    """One process of the gateway: this one."""
    return {
        "number": number,
        "pid": os.getpid(),
        "generation": generation,
        "up_seconds": max(time.time() - gateway.began, 0.0),
        "requests": len(gateway.house.exchanges),
        "connections": len(gateway.house.fronts),
    }


def workers(gateway: "Gateway") -> dict[str, Any]:
    """The processes of this gateway, where this is the only one."""
    return {"restarts": 0, "hung": 0, "workers": [worker(gateway)]}


def quarantine(gateway: "Gateway", limit: int) -> dict[str, Any]:
    """Requests whose engines died, the last one first: by a number that stands for the body, which is kept nowhere."""
    now, table = gateway.house.now(), gateway.assembled.desk.suspects.quarantine
    return {
        "seconds": table.seconds,
        "shapes": [
            {
                "shape": f"{shape & (1 << 64) - 1:016x}",
                "what": found.told,
                "state": "quarantined" if found.until > now else "suspected",
                "deaths": found.deaths,
                "last_seconds_ago": max(now - found.last, 0.0),
                "seconds_left": max((found.until or found.last + table.seconds) - now, 0.0),
            }
            for shape, found in islice(reversed(table.shapes.items()), limit)
        ],
    }


def usage(path: "Path | None", query: dict[str, str]) -> dict[str, Any]:
    """What `vram usage --json` prints. Opens the file anew: it is called in a thread of its own.

    Raises:
        UsageError: the query makes no sense, or usage is not kept.
        VramError: the file cannot be read.
    """
    if path is None:
        raise UsageError("this gateway keeps no usage", hint="start it with a file for it: VRAM_GATEWAY_DB")
    now = time.time()
    since = moment(query.get("since", "month"), now, "since")
    until = moment(query["until"], now, "until") if "until" in query else None
    by = tuple(dict.fromkeys(query.get("by", "key,model").split(","))) if query.get("by", "key,model") else ()
    try:
        store = Store(path)
        try:
            return usage_document(report(store, by, since=since, until=until, key=query.get("key")))
        finally:
            store.close()
    except (sqlite3.Error, OSError) as e:
        raise VramError(f"usage cannot be read: {e}", hint="is its disk full or its file locked?") from None
