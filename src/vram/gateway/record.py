"""One line of usage out of an exchange that ended: what it used, what it cost, and how long it took."""

import time
from typing import TYPE_CHECKING

from vram.gateway.used import Used

if TYPE_CHECKING:
    from vram.gateway.exchange import Exchange


def _untouched(x: "Exchange", now: float) -> Used:
    """Of one that was refused before it reached a line: nothing was used."""
    return Used(
        at=time.time(),
        request_id=x.request_id,
        key=x.key.terms.name,
        model=x.ask.model,
        pool="",
        replica="",
        outcome=x.outcome,
        status=x.status,
        prompt_tokens=0,
        completion_tokens=0,
        counted=False,
        kv_byte_seconds=0,
        gpu_microseconds=0,
        nano_dollars=0,
        queue_seconds=0.0,
        ttft_seconds=None,
        total_seconds=max(now - x.arrived, 0.0),
    )


def record(x: "Exchange", now: float) -> Used:
    """The usage of an exchange.

    Tokens are the engine's own count where it told one; of a stream that was cut short they are what came through, and the prompt's
    estimate, marked as not counted.
    """
    ticket = x.ticket
    if ticket is None:
        return _untouched(x, now)
    counted = x.prompt_tokens >= 0
    ran = x.sent > 0
    rate = ticket.counter.events.rate
    completion = x.completion_tokens if x.completion_tokens >= 0 else int(x.chunks * rate)
    answer = ticket.answer
    kv_byte_ns, nanodollars = ticket.held
    seat = ticket.seat
    # A request's share of its replica's GPU time, by the money's own shares where there is money, else by the bytes it held.
    gpu_us = 0
    if ran and seat is not None:
        books = seat.books
        gpu_us = int(kv_byte_ns / max(books.capacity_bytes, 1) / 1000)
        if seat.meter is not None and seat.meter.nanodollars_per_hour:
            gpu_us = int(nanodollars * 3600 * 1_000_000 / seat.meter.nanodollars_per_hour)
    return Used(
        at=time.time(),
        request_id=x.request_id,
        key=ticket.need.key,
        model=x.ask.model,
        pool=answer.pool.name if answer is not None else "",
        replica=x.replica.url if x.replica is not None else "",
        outcome=x.outcome,
        status=x.status,
        prompt_tokens=(x.prompt_tokens if counted else ticket.need.prompt_tokens) if ran else 0,
        completion_tokens=completion if ran else 0,
        counted=counted,
        kv_byte_seconds=kv_byte_ns // 1_000_000_000,
        gpu_microseconds=gpu_us,
        nano_dollars=nanodollars,
        queue_seconds=max((x.sent or now) - x.arrived, 0.0),
        ttft_seconds=x.first - x.arrived if x.first else None,
        total_seconds=now - x.arrived,
        fallback=",".join(answer.fallback) if answer is not None and answer.fallback else "",
        saved_byte_seconds=int(ticket.saved),
    )
