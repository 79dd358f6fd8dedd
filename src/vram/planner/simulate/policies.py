"""Policies by the names that people type."""

import re
from difflib import get_close_matches
from typing import Final

from vram.errors import UsageError
from vram.planner.simulate.counts import RequestCounts
from vram.planner.simulate.leases import SHARE, KvLeases
from vram.planner.simulate.policy import EngineOwn, Policy

NAMES: Final = ("engine", "requests", "kv-worst", "kv-learned")
"""What can be named, each with what it does in `TOLD`."""
TOLD: Final = {
    "engine": "no admission: the engines queue and preempt",
    "requests": "at most N requests in a replica (requests=N; else as many as fit at their longest)",
    "kv-worst": "KV leases of the prompt and all that the answer may be",
    "kv-learned": "the gateway's own: growing KV leases, all that is let in fits with a chance of S at every moment (kv-learned=0.9; else 0.999)",
}
DEFAULT: Final = ("engine", "requests", "kv-worst", "kv-learned")


def policy_of(text: str, *, queue_seconds: float | None = None) -> Policy:
    """The policy of a name: `engine`, `requests=16`, `kv-worst`, `kv-learned=0.9`.

    Args:
        text: the name, and behind = its number where it has one.
        queue_seconds: a request that waits so long before it is let in is refused; the engines' own queues have no end.

    Raises:
        UsageError: no such policy, or no such number.
    """
    name, equals, value = text.strip().partition("=")
    name = name.lower().replace("_", "-")
    if name not in NAMES:
        close = get_close_matches(name, NAMES, n=1)
        raise UsageError(f"no policy {text!r}", hint=f"did you mean {close[0]}?" if close else "; ".join(f"{n}: {told}" for n, told in TOLD.items()))
    if name == "engine" and not equals:
        return EngineOwn()
    if name == "kv-worst" and not equals:
        return KvLeases(queue_seconds=queue_seconds)
    if name == "requests" and (not equals or (re.fullmatch(r"[0-9]{1,6}", value) and int(value))):
        return RequestCounts(most=int(value) if equals else None, queue_seconds=queue_seconds)
    if name == "kv-learned":
        share = SHARE if not equals else float(value) if re.fullmatch(r"0?\.[0-9]{1,6}", value) else 0.0
        if 0 < share < 1:
            return KvLeases(share=share, queue_seconds=queue_seconds)
    raise UsageError(f"{text!r} is no policy", hint=f"{name}: {TOLD[name]}")
