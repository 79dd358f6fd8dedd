"""`/metrics`: the gateway's counts and gauges in Prometheus' text form, in base units.

Beside them stand the names of vLLM's that other routers read, so that replicas whose engines have no such names gain them.
The form is that of https://prometheus.io/docs/instrumenting/exposition_formats/ (text, 0.0.4). Where a pool is counted in tokens its
cache is told in tokens, under names of their own: bytes are never made up.
"""

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from vram.gateway.health import Cause, State
from vram.memory.curve import NO_LIMIT
from vram.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vram.admission.books import Books
    from vram.gateway.seats import Seat
    from vram.gateway.server import Gateway
    from vram.gateway.tally import Histogram
    from vram.gateway.watch import Watched
    from vram.memory.curve import KvCurve

TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Writer:
    """Families one after the other. Labels come as `labelled` writes them, once for all families of a thing: a page may have thousands of lines."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: str, meaning: str, samples: "Iterable[tuple[str, float]]") -> None:
        """A metric with all its series; nothing where there are none."""
        lines = [f"{name}{{{labels}}} {value!r}" if labels else f"{name} {value!r}" for labels, value in samples]
        if lines:
            self._lines += (f"# HELP {name} {meaning}", f"# TYPE {name} {kind}")
            self._lines += lines

    def histogram(self, name: str, meaning: str, series: "Iterable[tuple[str, Histogram]]") -> None:
        """A histogram with all its series."""
        lines: list[str] = []
        for labels, found in series:
            below = 0
            head = f'{name}_bucket{{{labels},le="'
            for bound, count in zip((*found.bounds, "+Inf"), found.counts, strict=True):
                below += count
                lines.append(f'{head}{bound}"}} {below}')
            lines += (f"{name}_sum{{{labels}}} {found.total!r}", f"{name}_count{{{labels}}} {below}")
        if lines:
            self._lines += (f"# HELP {name} {meaning}", f"# TYPE {name} histogram")
            self._lines += lines

    def text(self) -> bytes:
        """All of it."""
        return ("\n".join(self._lines) + "\n").encode(errors="replace")


def labelled(**labels: str) -> str:
    """Labels as they stand between the braces; names of models are strangers' words, and are escaped."""
    return ",".join([f'{k}="{v.translate(_ESCAPES)}"' for k, v in labels.items()])


def metrics(gateway: "Gateway") -> bytes:
    """The whole page."""
    out = Writer()
    seats = [(name, seat, gateway.watched(seat)) for name, seats in gateway.assembled.seats.items() for seat in seats]
    out.family("vram_build_info", "gauge", "The running version.", [(labelled(version=__version__), 1)])
    _requests(out, gateway)
    _replicas(out, gateway, seats)
    _vllm(out, gateway, seats)
    _process(out, gateway)
    return out.text()


def _requests(out: Writer, gateway: "Gateway") -> None:
    tally, desk, now = gateway.tally, gateway.assembled.desk, gateway.house.now()
    by = [(labelled(model=model, pool=pool), sums) for (model, pool), sums in tally.sums.items()]
    ended = [(f'{labels},outcome="{outcome}"', count) for labels, sums in by for outcome, count in sums.outcomes.items()]
    out.family("vram_requests_total", "counter", "Requests that ended, by how: ok, client_left, refused, or an engine's failure.", ended)
    codes = [(labelled(code=code, status=str(status)), count) for (code, status), count in tally.refusals.items()]
    out.family("vram_refusals_total", "counter", "Answers of the gateway's own in place of an engine's, by their code.", codes)
    fallbacks = [(labelled(model=model, fallback=what), count) for (model, what), count in tally.fallbacks.items()]
    out.family("vram_fallbacks_total", "counter", "Requests let in otherwise than they asked.", fallbacks)
    out.family("vram_retries_total", "counter", "Times that a request was sent to another replica.", [(labels, s.retries) for labels, s in by])
    out.family("vram_prompt_tokens_total", "counter", "Prompt tokens.", [(labels, s.prompt_tokens) for labels, s in by])
    out.family("vram_output_tokens_total", "counter", "Output tokens.", [(labels, s.output_tokens) for labels, s in by])
    out.family(
        "vram_kv_byte_seconds_total",
        "counter",
        "KV cache that requests held, bytes times seconds (tokens times seconds in pools counted in tokens).",
        [(labels, s.kv_byte_seconds) for labels, s in by],
    )
    out.family(
        "vram_kv_saved_byte_seconds_total",
        "counter",
        "KV cache that they would have held beside that if their engines shared nothing.",
        [(labels, s.saved_byte_seconds) for labels, s in by],
    )
    out.family("vram_gpu_seconds_total", "counter", "GPU time of requests.", [(labels, s.gpu_microseconds / 1e6) for labels, s in by])
    out.family("vram_paid_dollars_total", "counter", "What requests paid for the bytes that they held.", [(labels, s.nano_dollars / 1e9) for labels, s in by])
    benches = [seats[0].bench for seats in gateway.assembled.seats.values()]
    placed = [(labelled(pool=b.pool, placed=how), count) for b in benches for how, count in (("together", b.met), ("apart", b.apart))]
    out.family("vram_affinity_requests_total", "counter", "Requests that begin as others do, by whether they came to the same replica.", placed)
    budgets = [(labelled(pool=b.pool), b.retries) for b in benches]
    out.family("vram_retries_denied_total", "counter", "Retries not made, for want of retry budget.", [(labels, r.denied) for labels, r in budgets])
    out.family("vram_retry_budget", "gauge", "Retries that a pool may make now.", [(labels, r.left()) for labels, r in budgets])
    counting = desk.counting
    how = (("counted", counting.counted), ("remembered", counting.remembered), ("failed", counting.failed))
    out.family(
        "vram_counted_prompts_total",
        "counter",
        "Prompts that were too long by an estimate, by how they were counted.",
        [(labelled(result=r), n) for r, n in how],
    )
    table = desk.suspects.quarantine
    held = sum(found.until > now for found in table.shapes.values())
    out.family(
        "vram_quarantine_shapes",
        "gauge",
        "Requests whose engines died: kept from engines, or suspected.",
        [(labelled(state="quarantined"), held), (labelled(state="suspected"), len(table.shapes) - held)],
    )
    out.family("vram_quarantines_total", "counter", "Requests that were quarantined.", [("", table.begun)])
    times = [(labelled(model=model), t) for model, t in tally.times.items()]
    out.histogram("vram_request_queue_seconds", "Time in the gateway's queue.", [(labels, t.queue) for labels, t in times])
    out.histogram("vram_time_to_first_token_seconds", "Arrival to first bytes of a stream.", [(labels, t.ttft) for labels, t in times])
    out.histogram("vram_time_per_output_token_seconds", "Seconds for each token of a stream after its first.", [(labels, t.tpot) for labels, t in times])
    out.histogram("vram_request_seconds", "Arrival to end of requests that ended well.", [(labels, t.total) for labels, t in times])
    lines = [(labelled(model=name), counter.line) for name, counter in desk.counters.items()]
    out.family("vram_queue_requests", "gauge", "Requests that wait.", [(labels, len(line)) for labels, line in lines])
    # They stand in the order in which they came.
    oldest = [(labels, max(now - next(iter(line)).arrived, 0.0) if len(line) else 0.0) for labels, line in lines]
    out.family("vram_queue_oldest_seconds", "gauge", "How long the oldest of them waits.", oldest)
    out.family("vram_requests_open", "gauge", "Requests that wait or run.", [("", len(gateway.house.exchanges))])
    out.family("vram_client_connections", "gauge", "Connections of clients.", [("", len(gateway.house.fronts))])


def _replicas(out: Writer, gateway: "Gateway", seats: "list[tuple[str, Seat, Watched | None]]") -> None:
    now = gateway.house.now()
    rows = [(labelled(pool=pool, replica=seat.replica.url), seat, gateway.assembled.plans[pool].in_tokens) for pool, seat, _ in seats]
    states = [(f'{labels},state="{state.value}"', int(seat.replica.health.state(now) is state)) for labels, seat, _ in rows for state in State]
    out.family("vram_replica_state", "gauge", "1 for the state that a replica is in.", states)
    outs = [(f'{labels},cause="{cause.value}"', seat.replica.health.outs.get(cause, 0)) for labels, seat, _ in rows for cause in Cause]
    out.family("vram_replica_outs_total", "counter", "Times that a replica was taken out of service, by what spoke against it.", outs)
    out.family("vram_upstream_failures_total", "counter", "Requests that a replica failed.", [(labels, s.replica.failed) for labels, s, _ in rows])
    out.family("vram_leases", "gauge", "Requests that a replica runs.", [(labels, len(s.books.leases)) for labels, s, _ in rows])
    out.family("vram_sequences", "gauge", "Sequences of these requests.", [(labels, s.books.sequences) for labels, s, _ in rows])
    for unit, wanted in (("bytes", False), ("tokens", True)):
        mine = [(labels, s.books) for labels, s, in_tokens in rows if in_tokens is wanted]
        known = [(labels, s.capacity) for labels, s, in_tokens in rows if in_tokens is wanted and s.capacity is not None]
        each = f"{unit} on each GPU of the replica" if unit == "bytes" else "tokens, where the model's bytes are not known"
        out.family(f"vram_kv_capacity_{unit}", "gauge", f"KV cache there is, {each}; absent where nobody knows.", known)
        held = [(labels, b.held_bytes - b.saved_bytes(now)) for labels, b in mine]
        out.family(f"vram_kv_held_{unit}", "gauge", f"KV cache that requests hold now, what they share once, {each}.", held)
        saved = [(labels, b.saved_bytes(now)) for labels, b in mine]
        out.family(f"vram_kv_saved_{unit}", "gauge", f"KV cache that they would hold beside that if they shared nothing, {each}.", saved)
        out.family(
            f"vram_kv_promised_{unit}",
            "gauge",
            f"KV cache that they will hold at their expected ends, {each}.",
            [(labels, b.promised_bytes) for labels, b in mine],
        )
    balances = [(labels, s.meter.balance(int(now * 1e9))) for labels, s, _ in rows if s.meter is not None]
    out.family(
        "vram_rent_dollars_total", "counter", "What a replica cost since the gateway began.", [(labels, b.rent_nanodollars / 1e9) for labels, b in balances]
    )
    out.family("vram_idle_dollars_total", "counter", "Of which no request used.", [(labels, max(b.idle_nanodollars, 0) / 1e9) for labels, b in balances])


def _vllm(out: Writer, gateway: "Gateway", seats: "list[tuple[str, Seat, Watched | None]]") -> None:
    # Names and labels of vLLM's docs/design/metrics.md; pool and replica tell the series apart.
    now = gateway.house.now()
    rows = [(labelled(model_name=seat.pool.model, engine=seat.books.name, pool=pool, replica=seat.replica.url), seat, w) for pool, seat, w in seats]
    out.family("vllm:num_requests_running", "gauge", "Requests that the gateway lets a replica run.", [(labels, len(s.books.leases)) for labels, s, _ in rows])
    waiting = [(labels, w.waiting(now) if w is not None else 0) for labels, _, w in rows]
    waiting += [(labelled(model_name=name, engine="", pool="", replica=""), len(c.line)) for name, c in gateway.assembled.desk.counters.items()]
    out.family("vllm:num_requests_waiting", "gauge", "Requests that wait inside an engine; of empty engine: in the gateway.", waiting)
    used = [
        (labels, min((s.books.held_bytes - s.books.saved_bytes(now) + s.books.foreign_bytes(now)) / s.capacity, 1.0)) for labels, s, _ in rows if s.capacity
    ]
    out.family("vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache in use, 0 to 1.", used)
    info = []
    for labels, seat, watched in rows:
        if seat.capacity is None:
            continue
        block = (watched.about.block_tokens if watched is not None else None) or max((t.step_tokens for t in seat.books.curve.terms), default=1)
        blocks = _all_tokens(seat.books) // block
        info.append((f'{labels},block_size="{block}",num_gpu_blocks="{blocks}"', 1))
    out.family("vllm:cache_config_info", "gauge", "Blocks of a replica's KV cache, as tokens of one long sequence fill them.", info)


@lru_cache(maxsize=4096)
def _most_tokens(curve: "KvCurve", capacity_bytes: int) -> int:
    # A search of forty steps, which changes when an engine says another size.
    return curve.most_tokens(capacity_bytes)


def _all_tokens(books: "Books") -> int:
    """Tokens that a replica's cache holds: of one long sequence, or of all its slots where a slot is as large however long its sequence."""
    most = _most_tokens(books.curve, books.capacity_bytes)
    return max(most, 0) if most < NO_LIMIT else books.context_tokens * books.max_sequences


def _process(out: Writer, gateway: "Gateway") -> None:
    if gateway.writer is not None:
        out.family("vram_usage_waiting_records", "gauge", "Lines of usage not written down yet.", [("", gateway.writer.waiting)])
        out.family("vram_usage_lost_records_total", "counter", "Lines of usage lost because their file could not be written.", [("", gateway.writer.lost)])
    times = os.times()
    out.family("process_cpu_seconds_total", "counter", "CPU time of the gateway.", [("", times.user + times.system)])
    out.family("process_start_time_seconds", "gauge", "When the gateway began, in seconds since 1970.", [("", gateway.began)])
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  (a kernel's file, not a path of ours)
            pages = int(file.read().split()[1])
    except OSError:
        return
    out.family("process_resident_memory_bytes", "gauge", "Memory of the gateway.", [("", pages * os.sysconf("SC_PAGE_SIZE"))])
