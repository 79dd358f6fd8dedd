"""Which request comes next: what its client does, what its engine is told to do, and how it may end. Thrown by one seeded random.

Ends are as a client sees them: `whole` (every byte of the answer is right), `event CODE` (a stream that ended with a typed error),
`cut` (the connection ended inside the answer), `STATUS CODE` (an answer of the gateway's own), `engine STATUS` (an engine's own error),
`left` (the client went away, as it meant to).
"""

from dataclasses import dataclass
from random import Random

LOST = {"event engine_lost", "cut", "502 engine_unreachable", "422 quarantined"}
BUSY = {"503 overloaded", "503 no_replica"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Throw:
    """One request.

    Attributes:
        kind: its row in the tables below.
        model: which it asks for.
        stream: whether as a stream.
        behaviour: of its engine.
        events: of the answer.
        first_ms: before its first byte.
        pace_ms: between two events.
        leaves: when its client goes: "" (not), "sent", "waiting", "reading", "done", "half" (of its own request).
        after: seconds (waiting), share (reading, half).
        slow: seconds for which the client does not read, after the first bytes.
        fresh: whether on a connection of its own.
        raw: bytes that are sent in place of a request; empty: a request.
        key: which key it shows.
        ends: how it may end, beside the loss of an engine that is killed meanwhile.
    """

    kind: str
    model: str = "m"
    stream: bool = True
    behaviour: str = "honest"
    events: int = 5
    first_ms: int = 0
    pace_ms: int = 0
    leaves: str = ""
    after: float = 0.0
    slow: float = 0.0
    fresh: bool = False
    raw: str = ""
    key: str = "plain"
    ends: frozenset[str] = frozenset({"whole"})


# Of engines: behaviour -> (weight, stream or not or either, ends).
ENGINES: dict[str, tuple[int, str, set[str]]] = {
    "die-before-head-once": (16, "both", {"whole"}),
    "reset-before-head-once": (8, "both", {"whole"}),
    "die-in-head-once": (4, "both", {"whole"}),
    "broken-head-once": (5, "both", {"whole", "502 engine_broken"}),
    "busy-503-once": (10, "both", {"whole", "engine 503"}),
    "die-before-head": (3, "both", {"502 engine_unreachable", "422 quarantined"}),
    "broken-head": (2, "both", {"502 engine_broken", "502 engine_unreachable"}),
    "busy-503": (3, "both", {"engine 503"}),
    "error-500": (10, "both", {"engine 500"}),
    "die-mid-stream": (15, "stream", {"event engine_lost"}),
    "reset-mid-stream": (15, "stream", {"event engine_lost", "cut"}),
    "die-mid-chunk": (10, "stream", {"cut", "event engine_lost"}),
    "broken-chunk": (5, "stream", {"event engine_broken", "cut", "502 engine_broken"}),
    "truncate": (8, "json", {"cut"}),
    "endless-head": (2, "both", {"502 engine_broken"}),
    "endless-size": (2, "stream", {"cut", "502 engine_broken", "502 engine_unreachable", "422 quarantined"}),
    "lie": (15, "both", {"whole"}),
    "no-usage": (10, "stream", {"whole"}),
    "close-after": (10, "json", {"whole"}),
    "close-unsaid": (15, "both", {"whole"}),
    "close-under-request": (15, "both", {"whole"}),
    "until-close": (10, "json", {"whole"}),
    "extra": (5, "both", {"whole"}),
    "hints": (5, "stream", {"whole"}),
}
# Of clients: kind -> weight.
CLIENTS: dict[str, int] = {
    "stream": 300,
    "json": 240,
    "leaves-queued": 40,
    "queued": 40,
    "leaves-sent": 20,
    "leaves-prefill": 40,
    "leaves-reading": 40,
    "leaves-done": 20,
    "half-body": 15,
    "half-head": 10,
    "slow-request": 6,
    "slow-reader": 6,
    "slow-leaver": 4,
    "stalled": 3,
    "stalled-mid-stream": 3,
    "endless-line": 4,
    "ahead": 8,
    "gone-model": 10,
    "limited-key": 6,
    "bad-key": 8,
    "no-model": 8,
    "bad-json": 8,
    "deep-json": 2,
    "many": 3,
    "negative": 3,
    "smuggled": 8,
    "headers": 2,
    "no-path": 4,
    "too-long": 4,
}
KINDS = [*CLIENTS, *ENGINES]
WEIGHTS = [*CLIENTS.values(), *(w for w, _, _ in ENGINES.values())]


def throw(chance: Random) -> Throw:
    """The next request."""
    (kind,) = chance.choices(KINDS, WEIGHTS)
    stream, fresh, events = chance.random() < 0.6, chance.random() < 0.2, chance.randint(1, 12)
    if kind in ENGINES:
        _, form, ends = ENGINES[kind]
        stream = form == "stream" or (form == "both" and stream)
        return Throw(
            kind=kind,
            behaviour=kind,
            stream=stream,
            events=4096 if kind.startswith("endless") else max(events, 2),
            pace_ms=chance.choice([0, 0, 2]),
            fresh=fresh,
            ends=frozenset(ends | ({"cut"} if kind == "until-close" else set())),
        )
    made: dict[str, object] = {"kind": kind, "stream": stream, "events": events, "fresh": fresh}
    gone: dict[str, object] = {"ends": frozenset({"left", "whole", *BUSY}), "fresh": True}
    match kind:
        case "stream" | "json":
            made |= {"stream": kind == "stream", "first_ms": chance.choice([0, 0, 0, 5, 30]), "pace_ms": chance.choice([0, 0, 1, 5])}
        case "queued":
            made |= {"model": "tight", "first_ms": 20, "events": 4, "ends": frozenset({"whole", *BUSY})}
        case "leaves-queued":
            made |= {"model": "tight", "first_ms": 30, "leaves": "waiting", "after": chance.random() * 0.2, **gone}
        case "leaves-sent":
            made |= {"leaves": "sent", "first_ms": chance.choice([0, 50]), **gone}
        case "leaves-prefill":
            made |= {"first_ms": 5000, "leaves": "waiting", "after": chance.random() * 0.2, **gone}
        case "leaves-reading":
            made |= {"stream": True, "events": 40, "pace_ms": 5, "leaves": "reading", "after": chance.random() * 0.8, **gone}
        case "leaves-done":
            made |= {"stream": True, "leaves": "done", **gone}
        case "half-body" | "half-head":
            made |= {"leaves": "half", "after": chance.random() if kind == "half-body" else -chance.random(), **gone}
        case "slow-request":
            made |= {"after": chance.random(), "slow": -chance.random(), "fresh": True}
        case "slow-reader":
            made |= {"stream": True, "behaviour": "endless-line", "events": 3000, "slow": 0.3 + chance.random(), "fresh": True}
        case "slow-leaver":
            made |= {"stream": True, "behaviour": "endless-line", "events": 8000, "slow": 0.2 + chance.random(), "leaves": "reading", "after": 0.0, **gone}
        case "stalled":
            made |= {"behaviour": "stall", "leaves": "waiting", "after": 0.5 + chance.random() * 2, **gone}
        case "stalled-mid-stream":
            made |= {"stream": True, "behaviour": "stall-mid-stream", "events": 6, "leaves": "waiting", "after": 0.5 + chance.random() * 2, **gone}
        case "endless-line":
            made |= {"stream": True, "behaviour": "endless-line", "events": chance.choice([64, 1024, 4096])}
        case "ahead":
            made |= {"raw": "ahead", "fresh": True}
        case "gone-model":
            made |= {"model": "gone", "ends": frozenset({"whole", "404 model_not_found"})}
        case "limited-key":
            made |= {"key": "slow", "ends": frozenset({"whole", "429 requests_exceeded"})}
        case "bad-key":
            made |= {"key": "wrong", "ends": frozenset({"401 invalid_api_key"})}
        case "no-model":
            made |= {"model": "no\r\nSet-Cookie: a=b", "ends": frozenset({"404 model_not_found"})}
        case "bad-json":
            made |= {"raw": "bad-json", "ends": frozenset({"400 bad_json"})}
        case "deep-json":
            made |= {"raw": "deep-json", "ends": frozenset({"400 bad_json"})}
        case "many":
            made |= {"raw": "many", "ends": frozenset({"400 too_many_sequences"})}
        case "negative":
            made |= {"raw": "negative", "ends": frozenset({"400 bad_max_tokens"})}
        case "smuggled":
            made |= {"raw": "smuggled", "fresh": True, "ends": frozenset({"400 bad_http"})}
        case "headers":
            made |= {"raw": "headers", "fresh": True, "ends": frozenset({"431 headers_too_large"})}
        case "no-path":
            made |= {"raw": "no-path", "ends": frozenset({"404 not_found"})}
        case "too-long":
            made |= {"raw": "too-long", "ends": frozenset({"400 context_length_exceeded"})}
    return Throw(**made)  # type: ignore[arg-type]
