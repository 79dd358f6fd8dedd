"""Pools for a workload: finds models, GPUs and prices, then asks the planner. What traces look like is the sources' to know."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vram.costs.money import show_usd
from vram.costs.price import KINDS, Price
from vram.engines.base import Settings
from vram.errors import UnmetError, UsageError
from vram.hardware.fleet import Fleet
from vram.model.model import Model
from vram.planner.simulate.from_plan import replica_of
from vram.planner.simulate.request import Request
from vram.planner.simulate.spec import ReplicaSpec
from vram.planner.size.levels import Level, Levels, Metric
from vram.planner.size.load import Load
from vram.planner.size.longer import Longer
from vram.planner.size.options import Offer, options
from vram.planner.size.search import MOST_REPLICAS
from vram.planner.size.sizing import PoolSizing, Sizing
from vram.planner.size.solve import solve
from vram.readers.pools import Capacity, EngineSettings, Placement, Pool, PoolsFile, Route

COUNTS = (1, 2, 4, 8)
"""GPUs of one replica that are tried of each kind: as many as hosts have that are rented whole."""
DEFAULT_LEVELS = Levels(times=(Level(metric=Metric.TTFT, share=0.99, seconds=2.0), Level(metric=Metric.TPOT, share=0.99, seconds=0.1)))
"""What is asked for where nobody says: a first token within two seconds, then ten a second, which is faster than people read."""
CONTEXT_STEP = 256
"""The context of a pool is the longest request, rounded up to a multiple of so many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demanded:
    """A model and the requests that it is to serve.

    Attributes:
        model: a path, hub id or catalogue name, or a model that was loaded before.
        requests: in the order of their arrival.
        name: its public name; the model's own when empty.
    """

    model: str | Model
    requests: Sequence[Request]
    name: str = ""


def size(
    demands: str | Model | Demanded | Sequence[Demanded],
    trace: str | Path | Sequence[Request] | None = None,
    *,
    levels: Levels | None = None,
    gpus: Sequence[str | Fleet] = (),
    engine: str = "vllm",
    quant: str | None = None,
    kv_dtype: str | None = None,
    context_tokens: int | None = None,
    tp: int | None = None,
    gpu_memory_utilization: float | None = None,
    max_num_seqs: int | None = None,
    max_batched_tokens: int | None = None,
    price_usd: float | None = None,
    prices: Mapping[str, Price] | None = None,
    provider: str | None = None,
    kind: str = "on-demand",
    budget_usd: float | None = None,
    max_replicas: int = MOST_REPLICAS,
    slower: float = 1.0,
    rivals: int = 0,
    offline: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> Sizing:
    """Pools of least cost that keep a service level, one for each model.

    Args:
        demands: a model and, as `trace`, what it is to serve; or several with theirs.
        trace: requests in the order of their arrival, or a file of them: CSV or JSON lines, plain or gzipped.
        levels: what is asked for; p99 TTFT of 2 s and p99 TPOT of 0.1 s, nothing refused, when None.
        gpus: GPUs of one replica to choose from: `"L40S"` stands for 1, 2, 4 or 8 of them, `"2x H100"` for just that; when empty,
            every kind whose price is known.
        engine: whose memory rules to use, `name` or `name@version`; the replay batches as vLLM does.
        quant: serve with the weights stored so.
        kv_dtype: type of the KV cache; the model's own when None.
        context_tokens: the longest sequence a replica takes; the longest request when None. Longer requests are refused.
        tp: tensor-parallel ranks of a replica; all its GPUs when None.
        gpu_memory_utilization: share of each GPU's memory that may be used.
        max_num_seqs: most sequences in one batch.
        max_batched_tokens: most tokens in one step; some are tried when None.
        price_usd: dollars an hour for each GPU, whatever its kind.
        prices: prices by the GPU's name, before the list's.
        provider: take this provider's prices.
        kind: and this kind: on-demand, spot, reserved.
        budget_usd: dollars an hour that all pools together may cost.
        max_replicas: most replicas of a pool that are tried.
        slower: size as if every step took so many times as long as predicted.
        rivals: of so many other kinds of GPU the exact price is sought, too; of the rest only a least price is told.
        offline: touch no network.
        progress: called with a line about what is being tried.

    Returns:
        The pools. All figures are of a replay of the requests; step times are predicted (docs/size.md says how far they may be off).

    Raises:
        UsageError: a number, name or trace that makes no sense; GPUs without a price.
        UnmetError: nothing that was considered keeps the levels or the budget.
        ModelError: a model cannot be read.
    """
    if not 0.01 <= slower <= 100:
        raise UsageError(f"--slower {slower:g}", hint="a factor from 0.01 to 100: 1.3 for steps that take 30 % longer than predicted")
    wanted = _wanted(demands, trace)
    if not wanted:
        raise UsageError("no model to size for", hint="name one: --model Qwen/Qwen3-8B")
    asked = levels or DEFAULT_LEVELS
    name, _, version = engine.partition("@")
    settings = Settings(version=version, gpu_memory_utilization=gpu_memory_utilization, max_num_seqs=max_num_seqs, max_batched_tokens=max_batched_tokens)
    offered = offers(gpus, price_usd=price_usd, prices=prices, provider=provider, kind=kind)
    found: list[PoolSizing] = []
    notes: list[str] = []
    for demand in wanted:
        model = _loaded(demand.model, quant, offline=offline)
        load = _load(demand, model)
        candidates, rejected = options(
            model,
            offered,
            replica_of if slower == 1 else lambda plan: _slower(replica_of(plan), slower),
            engine=name,
            context_tokens=_context(load, model, asked, context_tokens),
            kv_dtype=kv_dtype,
            tp=tp,
            settings=settings,
            # Who names a card means it; of all others only those are taken of which it is known that they can.
            stored=None if gpus else quant or model.quantization,
        )
        pool = solve(
            load,
            asked,
            candidates,
            rejected,
            prices={o.fleet.name: o.told for o in offered},
            most_replicas=max_replicas,
            rivals=rivals,
            progress=None if progress is None else _teller(load.model, progress),
        )
        reference = demand.model if isinstance(demand.model, str) else model.name
        found.append(replace(pool, reference=reference, quant=quant, kv_dtype=kv_dtype))
        notes += [n for n in model.notes if n not in notes]
    sizing = Sizing(pools=tuple(found), notes=tuple(dict.fromkeys((*notes, *_notes(found)))))
    if budget_usd is not None and sizing.usd_per_hour > budget_usd:
        parts = ", ".join(f"{p.load.model} {show_usd(p.chosen.usd_per_hour)}" for p in found)
        raise UnmetError(
            f"the cheapest pools cost {show_usd(sizing.usd_per_hour)} an hour, more than {show_usd(budget_usd)}: {parts}",
            hint=f"--budget {sizing.usd_per_hour:.2f}, gentler levels (--ttft-p99, --tpot-p99), smaller weights (--quant fp8), or other prices (--kind spot, --provider)",
        )
    return sizing


def _wanted(demands: str | Model | Demanded | Sequence[Demanded], trace: str | Path | Sequence[Request] | None) -> tuple[Demanded, ...]:
    if not isinstance(demands, (str, Model)):
        return (demands,) if isinstance(demands, Demanded) else tuple(demands)
    if trace is None:
        raise UsageError("no requests to size for", hint='name a trace: vram.size("Qwen/Qwen3-8B", "requests.csv")')
    return (Demanded(model=demands, requests=requests_of(trace)[0] if isinstance(trace, (str, Path)) else trace),)


def requests_of(path: str | Path, *, speedup: float = 1.0, **how: Any) -> tuple[tuple[Request, ...], int]:
    """The requests of a trace file, and how many lines were left out; `how` as of `vram.sources.trace.read_trace`.

    Raises:
        UsageError: it cannot be read, or a line of it cannot be used.
    """
    from vram.sources.trace import read_trace  # noqa: PLC0415  (readers only when a file is named)

    rows, skipped = read_trace(path, **how)
    requests = tuple(
        Request(
            arrival_seconds=r.seconds / speedup,
            prompt_tokens=r.prompt_tokens,
            output_tokens=r.output_tokens,
            max_tokens=r.max_tokens,
            model=r.model,
            priority=r.priority,
        )
        for r in rows
    )
    return requests, skipped


def offers(
    gpus: Sequence[str | Fleet],
    *,
    price_usd: float | None = None,
    prices: Mapping[str, Price] | None = None,
    provider: str | None = None,
    kind: str = "on-demand",
) -> tuple[Offer, ...]:
    """GPUs of one replica to choose from, with what they cost; see `size`.

    Raises:
        UsageError: an unknown GPU, provider or kind, or one of the named GPUs has no price.
    """
    from vram.api import parse_gpus  # noqa: PLC0415  (reads the catalogue)
    from vram.costs.rent import rent  # noqa: PLC0415  (the same)
    from vram.pricing import price_book, user_prices  # noqa: PLC0415  (the same)

    if kind not in KINDS:
        raise UsageError(f"no kind of price {kind!r}", hint=f"known kinds: {', '.join(KINDS)}")
    book, own = price_book(), {**user_prices().by_gpu, **(prices or {})}
    if gpus:
        fleets = [f for g in gpus for f in (_counted(g, parse_gpus) if isinstance(g, str) else [g])]
    else:
        if provider is not None:
            book.check_provider(provider)
        named = dict.fromkeys([*own, *(p.gpu for p in book.prices if p.kind == kind)])
        fleets = [parse_gpus(f"{n}x {gpu}" if n > 1 else gpu) for gpu in named for n in COUNTS]
    out: dict[str, Offer] = {}
    for fleet in fleets:
        cost = rent([m.gpu.name for m in fleet.gpus], book, own=own, price_usd=price_usd, provider=provider, kind=kind)
        total = cost.nanodollars_per_hour
        if total is None:
            if not gpus:
                continue
            raise UsageError(
                f"no price is known of {', '.join(cost.missing)}", hint=f'give one: --price "{cost.missing[0]}=1.50", or another --kind or --provider'
            )
        out[fleet.name] = Offer(fleet=fleet, nanodollars_per_hour=total, told="; ".join(cost.told))
    if not out:
        raise UsageError("no GPU has a price of that kind and provider", hint='name GPUs and a price: --gpu "H100 SXM 80GB" --price 2.50')
    return tuple(sorted(out.values(), key=lambda o: (o.nanodollars_per_hour, len(o.fleet))))


def _counted(text: str, parse: Callable[[str], Fleet]) -> Iterable[Fleet]:
    """The fleet that is named or, where no number is, 1, 2, 4 and 8 of it."""
    fleet = parse(text)
    if len(fleet) > 1 or any(mark in text for mark in ("1x", "1 x", ":1")):
        return [fleet]
    return [fleet if n == 1 else Fleet.of([fleet.gpus[0].gpu] * n, notes=fleet.notes) for n in COUNTS]


def _loaded(model: str | Model, quant: str | None, *, offline: bool | None) -> Model:
    from vram.api import load_model  # noqa: PLC0415  (readers only when a model is read)

    found = load_model(model, offline=offline) if isinstance(model, str) else model
    if quant is not None:
        from vram.model.quantization.named import requantize  # noqa: PLC0415  (only when asked for)

        found = requantize(found, quant)
    if found.geometry.encoder_only:
        raise UsageError(f"{found.name} writes no answers: there is nothing to batch token by token", hint="vram plan says what a batch of its prompts takes")
    if not found.caches_known or not found.layers:
        raise UsageError(f"what {found.name} keeps for each token is not known, so its replicas cannot be replayed", hint="vram plan says what is known of it")
    return found


def _load(demand: Demanded, model: Model) -> Load:
    if not demand.requests:
        raise UsageError(f"no request asks for {demand.name or model.name}", hint="name the models as the trace does: --model NAME=MODEL")
    return Load(model=demand.name or (demand.model if isinstance(demand.model, str) else model.name), requests=demand.requests)


def _context(load: Load, model: Model, levels: Levels, asked: int | None) -> int:
    """Tokens of the longest sequence that replicas are planned for.

    Raises:
        UsageError: requests are longer than the model was made for, and may not be refused.
    """
    stated = model.geometry.max_context_tokens or None
    if asked is not None:
        return asked
    if stated is not None and load.longest_tokens > stated:
        longer = sum(r.prompt_tokens + r.answered_tokens > stated for r in load.requests)
        if longer == len(load.requests):
            shortest = min(r.prompt_tokens + r.answered_tokens for r in load.requests)
            raise UnmetError(
                f"no request fits: {load.model} was made for {stated:,} tokens; the shortest of the {longer:,} has {shortest:,}, the longest {load.longest_tokens:,}",
                hint="a model that was made for longer contexts, or shorter requests: --prompt, --output",
            )
        if longer > levels.refusals(len(load.requests)):
            raise UnmetError(
                f"{longer:,} of {len(load.requests):,} requests are longer than {load.model} was made for ({stated:,} tokens; the longest has {load.longest_tokens:,})",
                hint=f"--max-refusals {_share(longer, len(load.requests)):g} lets them be refused or cut short; or another model",
            )
        return stated
    rounded = -(-load.longest_tokens // CONTEXT_STEP) * CONTEXT_STEP
    return rounded if stated is None else min(rounded, stated)


def _share(part: int, whole: int) -> float:
    """At least `part` of `whole`, with three digits behind the point."""
    return min(round(-(-part * 1000 // whole) / 1000, 3), 0.999)


def _slower(spec: ReplicaSpec, factor: float) -> ReplicaSpec:
    return replace(spec, clock=Longer(clock=spec.clock, factor=factor))


def _teller(model: str, progress: Callable[[str], None]) -> Callable[[str, int, int], None]:
    return lambda name, replicas, replays: progress(f"{model}: {replicas:,} of {name}, {replays} replays done")


def _notes(found: Sequence[PoolSizing]) -> list[str]:
    out = []
    for p in found:
        plan = p.candidate.plan
        if plan is not None and plan.engine != "vllm":
            out.append(f"the replay batches as vLLM does; {plan.engine} may do otherwise")
        if plan is not None and plan.verdict.value == "tight":
            out.append(f"{p.load.model} on {p.candidate.gpu} is tight: vram plan shows what could go wrong when a replica starts")
    return out


def pools_of(sizing: Sizing) -> PoolsFile:
    """The pools file of a sizing: what `vram simulate` and the gateway read. Replicas have no addresses yet."""
    pools: list[Pool] = []
    routes: list[Route] = []
    for p in sizing.pools:
        c, plan = p.candidate, p.candidate.plan
        if plan is None:
            raise ValueError("a candidate without a plan has no place in a pools file")
        name = p.load.model.rpartition("/")[2] or p.load.model
        if any(q.name == name for q in pools):
            name = f"{name}-{len(pools) + 1}"
        s = plan.settings
        pools.append(
            Pool(
                name=name,
                model=p.reference or plan.model.name,
                engine=c.engine,
                gpu=c.gpu,
                count=p.chosen.replicas,
                dollars_per_hour=c.usd_per_hour,
                placement=Placement(tp=plan.placement.tp, pp=plan.placement.pp, ep=plan.placement.ep),
                settings=EngineSettings(
                    context_tokens=c.spec.max_model_len,
                    quant=p.quant,
                    kv_dtype=p.kv_dtype,
                    gpu_memory_utilization=s.gpu_memory_utilization,
                    max_num_seqs=s.max_num_seqs,
                    max_batched_tokens=s.max_batched_tokens,
                ),
                capacity=Capacity(kv_bytes=plan.kv_pool.bytes_per_gpu, kv_blocks=c.spec.blocks, kv_tokens=plan.kv_pool.capacity_tokens),
            )
        )
        routes.append(Route(model=p.load.model, pools=(name,)))
    return PoolsFile(pools=tuple(pools), routes=tuple(routes))
