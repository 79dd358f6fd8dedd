"""From a plan to its cost: how many replicas a fleet holds, what a busy one does, and what lies on it. Knows no prices; the rent is given."""

from dataclasses import replace
from typing import Final

from vram.costs.cost import Bytes, Cost
from vram.costs.load import Round
from vram.costs.rent import Rent
from vram.costs.vram_time import kv_byte_seconds
from vram.engines.base import Demand, Engine
from vram.engines.registry import engine as engine_named
from vram.errors import UsageError, printable
from vram.hardware.fleet import Fleet
from vram.planner.make import free_bytes
from vram.planner.plan import Plan, Verdict
from vram.speed.clock import clock
from vram.speed.estimate import chunk_tokens, decode_seconds, each_copys, reading_seconds, why_unknown
from vram.units import gib

DEFAULT_PROMPT_TOKENS: Final = 1024
DEFAULT_OUTPUT_TOKENS: Final = 256
"""About what people ask: the median request of Azure's conversation trace is 1,020 tokens with an answer of 129 (Splitwise, ISCA 2024)."""
DEFAULT_CONCURRENCY: Final = 256
"""Sequences of a replica where nobody says and more would fit: vLLM's own default limit of a batch since 0.8 on smaller cards."""
DEFAULT_LOAD: Final = 1.0
MOST_TOKENS: Final = 2**24


def check_load(load: float, prompt_tokens: int, output_tokens: int) -> None:
    """Refuse a load or lengths that make no sense.

    Raises:
        UsageError: with what is possible.
    """
    if isinstance(load, bool) or not isinstance(load, (int, float)) or not 0 < load <= 1:
        raise UsageError(f"--load is {printable(str(load), 60)}", hint="a share above 0 and up to 1 is possible: 0.6 for 60 % of the time")
    for flag, tokens in (("--prompt", prompt_tokens), ("--output", output_tokens)):
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= MOST_TOKENS:
            raise UsageError(f"{flag} is {printable(str(tokens), 60)}", hint=f"1 to {MOST_TOKENS:,} tokens are possible")


def replica_sizes(fleet: Fleet, tp: int | None, pp: int | None) -> tuple[int, ...]:
    """GPUs that one replica may take, the fewest first: as asked, else powers of two, and all of them; a mixed fleet is one replica."""
    n = len(fleet)
    if tp is not None or pp is not None:
        return (min((tp or 1) * (pp or 1), n),)
    if not fleet.uniform:
        return (n,)
    return (*(k for k in (1 << i for i in range(n.bit_length())) if k < n), n)


def cost_of(plan: Plan, fleet: Fleet, rent: Rent, *, prompt_tokens: int, output_tokens: int, load: float = DEFAULT_LOAD) -> Cost:
    """What a fleet costs that holds as many replicas of `plan` as go on it.

    Args:
        plan: one replica, on the first GPUs of the fleet.
        fleet: all GPUs that are paid.
        rent: what they cost an hour.
        prompt_tokens: tokens of a request's prompt.
        output_tokens: tokens of its answer.
        load: share of the time in which the replicas are busy.

    Raises:
        UsageError: a load or lengths that make no sense.
    """
    check_load(load, prompt_tokens, output_tokens)
    rules, placement = engine_named(plan.engine), plan.placement
    replicas = len(fleet) // placement.gpus
    fits = plan.verdict is not Verdict.DOES_NOT_FIT
    # Ranks wait for each other: where cards differ, the one with the slowest memory sets the pace.
    cards = plan.fleet.gpus[: placement.gpus]
    slowest = min(range(len(cards)), key=lambda i: cards[i].gpu.bandwidth_bytes_per_second or 0.0)
    first = _demand(plan, rules, slowest)
    why = "" if fits else f"it does not fit: {gib(-plan.spare_bytes)} too much on a GPU; vram plan tells what would mend it"
    why = why or why_unknown(first) or _needs_arithmetic(first)
    if fits and prompt_tokens + output_tokens > plan.workload.context_tokens:
        why = f"a request of {prompt_tokens + output_tokens:,} tokens is longer than the {plan.workload.context_tokens:,} planned for"
    doubt, turn, calibrated = (1.0, 1.0), None, False
    if not why:
        c = clock(first, plan.engine)
        n = each_copys(first)
        turn = Round(
            concurrency=n,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            prefill_seconds=reading_seconds(c, prompt_tokens, chunk=chunk_tokens(plan.engine, plan.settings)),
            step_seconds=decode_seconds(c, prompt_tokens, output_tokens, n),
            copies=placement.dp,
        )
        calibrated = c.entry.calibrated
        doubt, why = (c.entry.doubt.prefill, c.entry.doubt.decode if n == 1 else c.entry.doubt.tpot), c.entry.why
    return Cost(
        model=plan.model.name,
        fleet=fleet.name,
        engine=plan.engine,
        verdict=plan.verdict.value,
        placement=placement.label,
        gpus=len(fleet),
        replicas=replicas if fits else 0,
        gpus_per_replica=placement.gpus,
        load=load,
        rent=rent,
        bytes=_bytes(plan, fleet, rules, turn, replicas) if fits else None,
        round=turn,
        doubt=doubt,
        source="calibrated" if calibrated else "formula",
        why=why,
        notes=_notes(plan, fleet, replicas, fits=fits),
    )


def _demand(plan: Plan, rules: Engine, place: int) -> Demand:
    return Demand(
        model=plan.model,
        gpu=plan.fleet.gpus[place].gpu,
        placement=plan.placement,
        workload=plan.workload,
        settings=plan.settings,
        free_bytes=free_bytes(rules, plan.fleet, plan.placement),
    )


def _needs_arithmetic(demand: Demand) -> str:
    known = demand.gpu.tflops.half is not None
    return "" if known else f"the arithmetic of {demand.gpu.name} is not known, so neither is the time of a prompt"


def _bytes(plan: Plan, fleet: Fleet, rules: Engine, turn: Round | None, replicas: int) -> Bytes:
    """What lies on the fleet; caches at their mean over a round."""
    placement = plan.placement
    unused = sum(g.free_bytes for g in fleet.gpus[replicas * placement.gpus :])
    weights = sum(g.parts.weights.bytes for g in plan.gpus)
    working = sum(g.parts.total_bytes - g.parts.weights.bytes - g.parts.kv_cache.bytes for g in plan.gpus)
    demands = [(_demand(plan, rules, stage * placement.ranks), stage) for stage in range(placement.pp)]

    def held(tokens: int) -> int:
        return placement.tp * sum(rules.kv_bytes(d, stage, tokens, 1) for d, stage in demands) if tokens else 0

    kv_mean = 0.0
    if turn is not None:
        points = sorted({p for d, stage in demands for p in rules.breakpoints(d, stage)})
        # Of a round, a request spends its own prompt's time growing, the rest writing; an answer of one token ends with its prompt.
        writing = turn.seconds - turn.prefill_seconds if turn.output_tokens > 1 else 0.0
        own = kv_byte_seconds(
            held,
            prompt_tokens=turn.prompt_tokens,
            output_tokens=turn.output_tokens,
            prefill_seconds=turn.prefill_seconds,
            decode_seconds=writing,
            breakpoints=points,
        )
        kv_mean = sum(own) * turn.requests_per_second
    context = plan.workload.context_tokens
    return Bytes(
        usable=sum(g.usable_bytes for g in plan.gpus) * replicas + unused,
        weights=weights * replicas,
        working=working * replicas,
        kv_mean=kv_mean * replicas,
        kv_per_token=held(context) / context,
    )


def _notes(plan: Plan, fleet: Fleet, replicas: int, *, fits: bool) -> tuple[str, ...]:
    notes = list(dict.fromkeys((*plan.model.notes, *fleet.notes)))
    used = {g.gpu.name for g in fleet.gpus[: plan.placement.gpus]}
    if len(used) > 1:
        notes.append("cards differ: the speed is that of the slowest in every place, and each is paid at its own price")
    left = len(fleet) - replicas * plan.placement.gpus
    if fits and left:
        notes.append(f"{left} of {len(fleet)} GPUs hold no replica and are paid all the same")
    return tuple(notes)


def with_concurrency(most: int | None, wanted: int | None) -> int:
    """Sequences of a replica: as asked, else as many as fit, at most `DEFAULT_CONCURRENCY`."""
    return wanted if wanted is not None else max(1, min(most or DEFAULT_CONCURRENCY, DEFAULT_CONCURRENCY))


def best(costs: list[Cost]) -> Cost:
    """The split of a fleet that serves most tokens for the same rent; the first one where none serves any."""
    return max(costs, key=lambda c: (c.output_tokens_per_second or 0.0) + (c.input_tokens_per_second or 0.0))


def noted(cost: Cost, *notes: str) -> Cost:
    """`cost` with more to say."""
    return replace(cost, notes=(*cost.notes, *notes))
