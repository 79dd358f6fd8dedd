"""What is tried when an engine ran out of memory though its plan fits: one setting down, by the part that was short. Pure.

What costs least comes first: a smaller physical batch costs a little speed, an 8-bit cache hardly any quality; then fewer sequences at
once, then a shorter context.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from vram.planner.mends import EIGHT_BITS
from vram.planner.plan import Plan
from vram.runtime.engines.base import Short
from vram.runtime.wanted import Wanted

LEAST_UBATCH: Final = 64
LEAST_CONTEXT: Final = 512
LEAST_SEQUENCES: Final = 8
UBATCH: Final = 512
"""llama.cpp's own (`vram.engines.llama_cpp_build`)."""
MOST_STEPS: Final = 8
_ORDER: Final = {
    "activations": ("batch", "sequences", "context"),
    "cuda_graphs": ("batch",),
    "kv_cache": ("kv_dtype", "sequences", "context"),
    "": ("batch", "kv_dtype", "sequences", "context"),
    # What the files hold does not become less by any setting, nor what other programs hold.
    "weights": (),
    "free": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One setting down."""

    wanted: Wanted
    flag: str
    """As it would be typed."""


def steps(wanted: Wanted, plan: Plan, short: Short | None) -> Iterator[Step]:
    """What to try, the gentlest first; nothing where no setting helps."""
    for kind in _ORDER.get(short.part if short is not None else "", ()):
        step = _DOWN[kind](wanted, plan)
        if step is not None:
            yield step


def _batch(wanted: Wanted, plan: Plan) -> Step | None:
    if plan.engine in {"llama.cpp", "ollama"}:
        less = (wanted.ubatch or UBATCH) // 2
        return Step(wanted=replace(wanted, ubatch=less), flag=f"--ubatch {less}") if less >= LEAST_UBATCH else None
    less = (wanted.max_num_seqs or 256) // 2
    return Step(wanted=replace(wanted, max_num_seqs=less), flag=f"--max-num-seqs {less}") if less >= max(LEAST_SEQUENCES, wanted.concurrency) else None


def _kv_dtype(wanted: Wanted, plan: Plan) -> Step | None:
    eight = EIGHT_BITS.get(plan.engine)
    now = plan.workload.formats.key
    if not eight or now.block_bytes / now.block_elements < 1.5:
        return None
    return Step(wanted=replace(wanted, kv_dtype=eight), flag=f"--kv-dtype {eight}")


def _sequences(wanted: Wanted, plan: Plan) -> Step | None:  # noqa: ARG001  (one signature for all)
    if wanted.concurrency <= 1:
        return None
    less = wanted.concurrency // 2
    return Step(wanted=replace(wanted, concurrency=less, parallel=min(wanted.parallel, less) if wanted.parallel else None), flag=f"--concurrency {less}")


def _context(wanted: Wanted, plan: Plan) -> Step | None:
    # Caches come in cells of 256 tokens: less would change nothing.
    less = plan.workload.context_tokens * 3 // 4 // 256 * 256
    return Step(wanted=replace(wanted, context_tokens=less), flag=f"--context {less}") if less >= LEAST_CONTEXT else None


_DOWN: Final = {"batch": _batch, "kv_dtype": _kv_dtype, "sequences": _sequences, "context": _context}
