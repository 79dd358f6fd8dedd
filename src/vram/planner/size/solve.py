"""One model's pool from its load, levels and candidates: searched, told with its neighbours, or refused with what would make it possible."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vram.costs.money import show_usd
from vram.errors import UnmetError
from vram.planner.simulate.run import check
from vram.planner.size.candidate import Candidate
from vram.planner.size.levels import Levels
from vram.planner.size.load import Load
from vram.planner.size.longer import Longer
from vram.planner.size.options import Rejected
from vram.planner.size.replayer import Replayer, pool_of
from vram.planner.size.search import MOST_REPLICAS, Found, Tried, Why, search
from vram.planner.size.sizing import PoolSizing, Served, Slow
from vram.speed.clock import Clock


def solve(
    load: Load,
    levels: Levels,
    candidates: Sequence[Candidate],
    rejected: Sequence[Rejected] = (),
    *,
    prices: dict[str, str] | None = None,
    most_replicas: int = MOST_REPLICAS,
    rivals: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> PoolSizing:
    """The pool of least cost.

    Args:
        load: the requests of one model.
        levels: what is asked for.
        candidates: what could serve it.
        rejected: what could not, for the answer.
        prices: by a candidate's GPUs, its price in words.
        most_replicas: the most that are tried.
        rivals: of so many other kinds of GPU the exact price is sought, the probably cheapest first.
        progress: called before each replay.

    Raises:
        UsageError: the requests are not in order, or their lengths make no sense.
        UnmetError: nothing keeps the levels; the message says how near the best came, the hint what would make it possible.
    """
    if not candidates:
        raise _nothing_fits(load, rejected)
    check(load.requests, [pool_of(candidates[0], 1)])
    replayer = Replayer(load, levels)
    found = search(load, levels, candidates, replayer, most_replicas=most_replicas, progress=progress)
    if found.best is None:
        raise _unmet(load, found, most_replicas)
    best = found.best
    c = best.candidate

    def served(replicas: int) -> Served:
        outcome = replayer.outcome(c, replicas)
        return Served(replicas=replicas, verdict=replayer.full(c, replicas), outcome=outcome, nanodollars_per_hour=c.nanodollars_per_hour * replicas)

    return PoolSizing(
        load=load,
        levels=levels,
        candidate=c,
        chosen=served(best.replicas),
        fewer=served(best.replicas - 1) if best.replicas > 1 else None,
        more=served(best.replicas + 1),
        price_told=(prices or {}).get(c.gpu, ""),
        tried=found.tried,
        rejected=tuple(rejected),
        replays=found.replays,
        rivals=_rivals(load, levels, found, replayer, rivals, most_replicas, progress),
        slow=slowed(load, levels, c, best.replicas, most_replicas),
    )


def _rivals(
    load: Load, levels: Levels, found: Found, replayer: Replayer, most: int, most_replicas: int, progress: Callable[[str, int, int], None] | None
) -> tuple[Tried, ...]:
    """The best of other kinds of GPU, each by a search of its own."""
    kinds: dict[str, list[Candidate]] = {}
    for t in found.tried:  # by what each would cost at least
        if t.why is not Why.FLOOR:
            kinds.setdefault(t.candidate.kind, []).append(t.candidate)
    chosen = found.best.candidate.kind if found.best else ""
    out: list[Tried] = []
    for kind, candidates in kinds.items():
        if len(out) >= most:
            break
        if kind != chosen and (best := search(load, levels, candidates, replayer, most_replicas=most_replicas, progress=progress).best) is not None:
            out.append(best)
    return tuple(out)


def slowed(load: Load, levels: Levels, candidate: Candidate, replicas: int, most_replicas: int) -> Slow | None:
    """What the chosen replicas do, and how many are needed, when steps take as long as their band allows; None for a clock without a band."""
    clock = candidate.spec.clock.clock if isinstance(candidate.spec.clock, Longer) else candidate.spec.clock
    if not isinstance(clock, Clock):
        return None
    # A step has both, prompts and answers: the wider of their bands holds for it.
    factor = max(clock.entry.doubt.prefill, clock.entry.doubt.tpot)
    slow = replace(candidate, spec=replace(candidate.spec, clock=Longer(clock=clock, factor=factor)))
    replayer = Replayer(load, levels)
    verdict = replayer.full(slow, replicas)
    needed: int | None = replicas
    if not verdict.met:
        found = search(load, levels, [slow], replayer, most_replicas=most_replicas)
        needed = found.best.replicas if found.best else None
    return Slow(
        factor=factor,
        verdict=verdict,
        replicas=needed,
        nanodollars_per_hour=None if needed is None else candidate.nanodollars_per_hour * needed,
        why=clock.entry.why,
    )


def _nothing_fits(load: Load, rejected: Sequence[Rejected]) -> UnmetError:
    longest = load.longest_tokens
    most = max((r.max_context_tokens or 0 for r in rejected), default=0)
    near = next((r for r in rejected if (r.max_context_tokens or 0) == most), None)
    if near is None:
        return UnmetError(f"no GPU to serve {load.model} with", hint='name some: --gpu "H100 SXM 80GB" --gpu L40S')
    share = sum(r.prompt_tokens + r.answered_tokens > most for r in load.requests) / len(load.requests)
    larger = 'more GPUs a replica (--gpu "8x H200"), smaller weights (--quant fp8), a smaller KV type (--kv-dtype fp8)'
    if (full := next((r for r in rejected if r.overfull), None)) is not None:
        return UnmetError(
            f"{load.model} does not fit on any of {len(rejected)} kinds of GPUs that were considered; on {full.gpu}: {full.why}",
            hint=f"{larger}, or a smaller share for the engine's pool where it overfills the card: --gpu-memory-utilization 0.85",
        )
    if not most:
        return UnmetError(f"{load.model} fits on none of {len(rejected)} kinds of GPUs that were considered; on {near.gpu}: {near.why}", hint=larger)
    if share == 1:
        shortest = min(r.prompt_tokens + r.answered_tokens for r in load.requests)
        return UnmetError(
            f"no request of {load.model} fits: the shortest has {shortest:,} tokens, the longest {longest:,}; the most that any of the GPUs holds is {most:,} "
            f"({near.gpu})",
            hint=larger,
        )
    return UnmetError(
        f"the longest request of {load.model} has {longest:,} tokens; the most that any of the GPUs holds is {most:,} ({near.gpu})",
        hint=f"{larger}, or let the {share:.2%} of the requests that are longer be refused: --context {most} --max-refusals {_up(share):g}",
    )


def _up(share: float) -> float:
    """`share` rounded up to what reads well and still lets as many through."""
    step = 0.001
    return min(round((int(share / step) + 1) * step, 3), 0.999)


def _unmet(load: Load, found: Found, most_replicas: int) -> UnmetError:
    """Say what was nearest, and which level it could keep."""
    floors = [t for t in found.tried if t.why is Why.FLOOR and t.floor is not None]
    if len(floors) == len(found.tried):
        near = min(floors, key=lambda t: t.floor.seconds / t.floor.asked if t.floor else 0.0)
        floor = near.floor
        assert floor is not None  # noqa: S101  (only those with one are among them)
        name = f"p{floor.share * 100:g} {floor.metric.upper()}"
        flag = f"--{floor.metric}-p{floor.share * 100:g}"
        return UnmetError(
            f"no number of replicas keeps {name} at {floor.asked:g} s for {load.model}: nearest is {near.candidate.name}, where it is {floor.seconds:.3g} s with nothing else running",
            hint=f"{flag} {_above(floor.seconds)} or more, faster or more GPUs a replica (--gpu), or smaller weights (--quant fp8)",
        )
    tried = [t for t in found.tried if t.verdict is not None]
    if not tried:
        least = min(t.replicas for t in found.tried if t.why is not Why.FLOOR)
        return UnmetError(
            f"{load.model} needs at least {least:,} replicas, and at most {most_replicas:,} are tried", hint="faster GPUs (--gpu), or --max-replicas"
        )
    near = min(tried, key=lambda t: sum(r.late for r in t.verdict.reached) + t.verdict.refused if t.verdict else 0)
    price = show_usd(near.nanodollars_per_hour / 1e9)
    return UnmetError(
        f"{most_replicas:,} replicas are not enough for {load.model}; nearest: {near.replicas:,} of {near.candidate.name} ({price}/hour), {near.verdict.worst if near.verdict else ''}",
        hint="a gentler level, faster GPUs (--gpu), or more replicas (--max-replicas)",
    )


def _above(seconds: float) -> str:
    """A time a little above, as a flag takes it."""
    ms = seconds * 1000
    return f"{int(ms) + 1}ms" if ms < 1000 else f"{int(seconds * 10) / 10 + 0.1:.1f}s"
