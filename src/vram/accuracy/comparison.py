"""The quantities that a row prints, each beside what a plan says of it. Pure; every figure that can't be compared is told with its reason."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from vram.accuracy.row import Figure, Row, Unread
from vram.accuracy.subject import copies_of, settings_of
from vram.engines.base import RankGap, Settings
from vram.engines.registry import engine as engine_named
from vram.hardware.fleet import Fleet
from vram.memory.part import Part
from vram.model.cache import FullCache
from vram.model.model import Model
from vram.planner.make import make_plan
from vram.planner.plan import GpuPlan, Plan
from vram.units import GIB


class Quantity(StrEnum):
    """What is compared, per GPU."""

    WEIGHTS = "weights"
    """Resident weights of the heaviest rank."""

    KV_GIVEN_POOL = "kv_given_pool"
    """What the measured pool holds: concurrency where it was printed, else tokens, else blocks times their size."""

    KV_POOL = "kv_pool"
    """The pool, from settings alone."""

    KV_TOKENS = "kv_tokens"
    """The tokens that the engine prints, from settings alone."""

    CONCURRENCY = "concurrency"
    """The concurrency that the engine prints, from settings alone."""

    OTHER = "other"
    """Activations, what is not torch's, and CUDA graphs."""

    TOTAL = "total"
    """All that the process holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of one row beside its plan.

    Attributes:
        id: the row.
        engine: its engine.
        family: the model's type.
        quantity: what is compared.
        settings_printed: whether the log printed every setting that shapes it.
        measured: as printed, in bytes (KV tokens and concurrency: as they are).
        predicted: what the plan expects.
        low: the least that the plan allows.
        high: the most.
        doubt: how far the true figure may lie from the printed one.
        total: bytes of the whole plan on that GPU.
    """

    id: str
    engine: str
    family: str
    quantity: Quantity
    settings_printed: bool
    measured: float
    predicted: float
    low: float
    high: float
    doubt: float
    total: float

    @property
    def error(self) -> float:
        """GiB for `other`, else the share of the measured figure; never negative."""
        off = abs(self.predicted - self.measured)
        return off / GIB if self.quantity is Quantity.OTHER else off / abs(self.measured)

    @property
    def inside(self) -> bool:
        """Whether the band holds the measured figure, as far as its digits tell."""
        return self.low - self.doubt <= self.measured <= self.high + self.doubt

    @property
    def width(self) -> float:
        """Width of the band as a share of the plan's total; for counts, of the expected count."""
        whole = self.predicted if self.quantity in {Quantity.KV_TOKENS, Quantity.CONCURRENCY, Quantity.KV_GIVEN_POOL} else self.total
        return (self.high - self.low) / whole if whole else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One way to understand a row: which model, under which settings."""

    model: Model
    settings: Settings


def plan_of(row: Row, model: Model, fleet: Fleet, engine: str, settings: Settings | None = None, context_tokens: int | None = None) -> Plan:
    """The plan of one sequence of the row's full length with the row's settings."""
    return make_plan(
        model,
        fleet,
        engine=engine,
        context_tokens=context_tokens or row.max_model_len,
        kv_dtype=row.kv_dtype or None,
        tp=row.tp,
        pp=row.pp,
        ep=row.ep,
        dp=copies_of(row) if copies_of(row) > 1 else None,
        settings=settings or settings_of(row),
    )


def compare(
    row: Row, model: Model, fleet: Fleet, *, engine: str, gpu_known: bool, others: tuple[Model, ...] = (), settings: tuple[Settings, ...] = ()
) -> Iterator[Comparison | Unread]:
    """Every figure that the row prints beside its plan; an `Unread` for each that can't be compared.

    Args:
        row: the row.
        model: its model, quantised as it was measured.
        fleet: its GPUs.
        engine: whose rules to use.
        gpu_known: whether the fleet is the row's own; a stand-in serves figures that no card shapes.
        others: what else its checkpoint may be, where the row does not tell: their bands are the row's, too.
        settings: what else its settings may be, likewise.

    Raises:
        VramError: the rules refuse the model, the split or a setting.
    """
    plan = plan_of(row, model, fleet, engine)
    asked = settings_of(row)
    more = [*(Reading(model=m, settings=asked) for m in others), *(Reading(model=model, settings=s) for s in settings)]
    readings = (Reading(model=model, settings=asked), *more)
    others_plans = [plan_of(row, r.model, fleet, engine, r.settings) for r in more]
    take = _Taker(row, model, plan)
    if (weights := row.measured.get("weights")) is not None:
        part, *rest = (max((g.parts.weights for g in p.gpus), key=lambda w: w.bytes) for p in (plan, *others_plans))
        low, high = _ends(part, rest)
        # Of a recipe that is told by its name alone nobody knows the scales, and which small layers it left out.
        low -= part.bytes // 50 if model.quantization and "unquantised" in row.config_relation else 0
        yield take(Quantity.WEIGHTS, weights.bytes, part.bytes, low, high, weights.doubt_bytes)
    yield from _given_pool(row, readings, fleet, engine, take)
    budget = ("kv_pool", "kv_tokens", "concurrency", "other", "total")
    if not gpu_known:
        yield from (take.unread(q, "the card's total is not known") for q in budget if _has(row, q))
        return
    if row.utilization is None:
        yield from (take.unread(q, "the share of memory that the engine may use was not printed") for q in budget[:3] if _has(row, q))
    elif row.pool_given:
        yield from (take.unread(q, "the pool was set by hand, not derived") for q in budget[:3] if _has(row, q))
    else:
        yield from _from_settings(row, readings, fleet, engine, (plan, *others_plans), take)
    yield from _rest(row, plan, take)


class _Taker:
    """Makes comparisons of one row."""

    def __init__(self, row: Row, model: Model, plan: Plan) -> None:
        self.row, self.model, self.plan = row, model, plan

    def __call__(self, quantity: Quantity, measured: float, predicted: float, low: float, high: float, doubt: float) -> Comparison:
        return Comparison(
            id=self.row.id,
            engine=self.row.engine,
            family=self.model.model_type,
            quantity=quantity,
            settings_printed=self.row.settings_printed,
            measured=measured,
            predicted=predicted,
            low=min(low, predicted),
            high=max(high, predicted),
            doubt=doubt,
            total=max(g.total_bytes for g in self.plan.gpus),
        )

    def unread(self, quantity: str, reason: str) -> Unread:
        return Unread(id=self.row.id, engine=self.row.engine, quantity=quantity, reason=reason)


def _has(row: Row, quantity: str) -> bool:
    if quantity == "kv_pool":
        return _pool(row) is not None and not row.failure
    if quantity == "kv_tokens":
        return "kv_tokens" in row.counts
    if quantity == "concurrency":
        return "max_concurrency" in row.counts
    if quantity == "other":
        return ("activation_peak" in row.measured and "non_torch" in row.measured) or bool({"derived_other", "derived_act_plus_non_torch"} & set(row.measured))
    return {"activation_peak", "non_torch"} <= set(row.measured) and "init_cuda_used" in row.measured and _pool(row) is not None and "weights" in row.measured


def _pool(row: Row) -> Figure | None:
    """The pool that decides: with pipeline stages the poorest rank's, where the row tells it."""
    found = row.measured.get("kv_cache_min_rank") or row.measured.get("kv_cache")
    return found if found is not None and found.gib > 0 else None


def _ends(part: Part, others: Iterable[Part]) -> tuple[int, int]:
    """The least and the most of a part, whichever reading of the row is right."""
    every = (part, *others)
    return min(p.low for p in every), max(p.high for p in every)


def _keeps_values(model: Model) -> bool:
    return any(isinstance(c, FullCache) for c, _ in model.cache_counts)


def _gap(row: Row, plan: Plan, engine: str) -> RankGap:
    """How much less than the printed pool the poorest rank has; nothing where the row tells that rank's pool."""
    if "kv_cache_min_rank" in row.measured:
        return RankGap()
    return engine_named(engine).rank_gap(plan.fleet.gpus[0].gpu, plan.placement)


def _with_pool(settings: Settings, pool_bytes: int) -> Settings:
    return replace(settings, kv_pool_bytes=max(pool_bytes, 1))


def _given_pool(row: Row, readings: tuple[Reading, ...], fleet: Fleet, engine: str, take: "_Taker") -> Iterator[Comparison | Unread]:
    """What the measured pool holds: only the caches' layout is asked, nothing of the budget."""
    pool = _pool(row)
    printed = row.counts.get("max_concurrency") or row.counts.get("kv_tokens") or row.counts.get("kv_blocks")
    if printed is None:
        return
    if pool is None:
        if not row.failure:
            yield take.unread(Quantity.KV_GIVEN_POOL, "tokens or concurrency were printed, the size of the pool was not")
        return
    by_concurrency = "max_concurrency" in row.counts and row.concurrency_tokens is not None
    if "max_concurrency" in row.counts and not by_concurrency and "kv_tokens" not in row.counts:
        yield take.unread(Quantity.KV_GIVEN_POOL, "the length that the printed concurrency counts in was not printed")
        return

    def held(reading: Reading, pool_bytes: int) -> float | None:
        context = row.concurrency_tokens if by_concurrency else None
        kv = plan_of(row, reading.model, fleet, engine, _with_pool(reading.settings, pool_bytes), context).kv_pool
        return kv.max_concurrency if by_concurrency else kv.capacity_tokens

    model = readings[0].model
    gap = _gap(row, plan_of(row, model, fleet, engine), engine)
    # SGLang prints keys and values apart: their sum is twice as uncertain as either. Latents are one figure.
    doubt = pool.doubt_bytes * (2 if row.engine == "sglang" and _keeps_values(model) else 1)
    expected = held(readings[0], pool.bytes - gap.bytes)
    lows = [held(r, pool.bytes - gap.bytes - doubt - gap.doubt_bytes) for r in readings]
    highs = [held(r, pool.bytes - gap.bytes + doubt + gap.doubt_bytes) for r in readings]
    low, high = min((v for v in lows if v is not None), default=None), max((v for v in highs if v is not None), default=None)
    if expected is None or low is None or high is None:
        yield take.unread(Quantity.KV_GIVEN_POOL, "the plan knows no cache that grows with the tokens")
        return
    if by_concurrency:
        yield take(Quantity.KV_GIVEN_POOL, row.counts["max_concurrency"], expected, low, high, 0.005)
    elif "kv_tokens" in row.counts:
        yield take(Quantity.KV_GIVEN_POOL, row.counts["kv_tokens"], expected, low, high, 0.5)
    else:
        block = row.block_size or 16
        yield take(Quantity.KV_GIVEN_POOL, row.counts["kv_blocks"] * block, expected, low, high, block)


def _from_settings(
    row: Row, readings: tuple[Reading, ...], fleet: Fleet, engine: str, plans: tuple[Plan, ...], take: "_Taker"
) -> Iterator[Comparison | Unread]:
    """The pool and what it holds, with nothing measured given."""
    if not engine_named(engine).pools:
        yield from (take.unread(q, f"the rules of {engine} reserve no pool") for q in ("kv_pool", "kv_tokens", "concurrency") if _has(row, q))
        return
    part, *more = (min((g.parts.kv_cache for g in p.gpus), key=lambda k: k.bytes) for p in plans)
    low, high = _ends(part, more)
    # The card's total is printed to two decimals, too, and the pool is a share of it.
    coarse = int((row.utilization or 1) * row.total.doubt_bytes) if row.total is not None else 0
    low, high = max(low - coarse, 0), high + coarse
    pool = _pool(row)
    if pool is not None and not row.failure:
        yield take(Quantity.KV_POOL, pool.bytes, part.bytes, low, high, pool.doubt_bytes)

    def held(reading: Reading, pool_bytes: int, context: int | None) -> tuple[int | None, float | None]:
        kv = plan_of(row, reading.model, fleet, engine, _with_pool(reading.settings, pool_bytes), context).kv_pool
        return kv.capacity_tokens, kv.max_concurrency

    if row.failure:
        return
    gap = engine_named(engine).rank_gap(fleet.gpus[0].gpu, plans[0].placement).bytes
    for quantity, which, doubt, context in (
        (Quantity.KV_TOKENS, 0, 0.5, row.max_model_len),
        (Quantity.CONCURRENCY, 1, 0.005, row.concurrency_tokens),
    ):
        if not _has(row, quantity):
            continue
        if quantity is Quantity.CONCURRENCY and context is None:
            yield take.unread(quantity, "the length that it counts in was not printed")
            continue
        expected = held(readings[0], max(part.bytes - gap, 0), context)[which]
        ends = [held(r, max(size - gap, 0), context)[which] for r in readings for size in (low, high)]
        known = [v for v in ends if v is not None]
        measured = row.counts["kv_tokens" if quantity is Quantity.KV_TOKENS else "max_concurrency"]
        if expected is None or not known or not measured:
            yield take.unread(quantity, "the plan knows no cache that grows with the tokens")
            continue
        yield take(quantity, measured, expected, min(known), max(known), doubt)


def _rest(row: Row, plan: Plan, take: "_Taker") -> Iterator[Comparison | Unread]:
    """Working memory and runtime, and the whole."""
    if _has(row, "other"):
        yield _other(row, plan, take)
    if _has(row, "total") and not row.failure:
        gpu = max(plan.gpus, key=lambda g: g.total_bytes)
        pieces = [row.measured[k] for k in ("weights", "activation_peak", "non_torch", "init_cuda_used")]
        graphs = row.measured.get("cuda_graph")
        pieces += [p for p in (_pool(row), graphs) if p is not None]
        low, high = _total_band(gpu)
        less = gpu.parts.cuda_graphs.bytes if graphs is None else 0
        yield take(Quantity.TOTAL, sum(p.bytes for p in pieces), gpu.total_bytes - less, low - less, high - less, sum(p.doubt_bytes for p in pieces))
    if (peak := row.measured.get("max_memory_allocated")) is not None:
        # What torch allocated: neither the context nor the libraries' own memory.
        gpu = max(plan.gpus, key=lambda g: g.total_bytes)
        outside = gpu.parts.runtime
        low, high = _total_band(gpu)
        yield take(Quantity.TOTAL, peak.bytes, gpu.total_bytes - outside.bytes, low - outside.low, high - outside.high, peak.doubt_bytes)


def _total_band(gpu: GpuPlan) -> tuple[int, int]:
    """The ends of a GPU's total. A pool takes what the others leave: its low end goes with their high ends."""
    parts = gpu.parts
    low = sum(p.low for _, p in parts.items())
    if gpu.pool is None:
        return low, parts.high_bytes
    ends = (low - parts.kv_cache.low + gpu.pool.high, parts.high_bytes - parts.kv_cache.high + gpu.pool.low)
    return min(ends), max(ends)


def _peak_holds_graphs(row: Row, plan: Plan) -> bool:
    """Whether the printed activation peak has the estimate of the graphs in it: some versions that deduct it print it so, others beside it."""
    figures, pool = row.measured, _pool(row)
    if row.total is None or row.utilization is None or pool is None or "weights" not in figures or plan.gpus[0].pool is None:
        return False
    parts, budget = plan.gpus[0].parts, row.utilization * row.total.bytes
    planned = (parts.weights, parts.activations, parts.communication, parts.cuda_graphs, plan.gpus[0].pool)
    deducted = abs(budget - sum(p.bytes for p in planned)) < _SAME
    rest = budget - figures["weights"].bytes - pool.bytes
    return deducted and abs(rest - figures["activation_peak"].bytes - figures["non_torch"].bytes) < _SAME


_SAME: Final = int(0.03 * GIB)
"""Five figures that are printed to 0.01 GiB are the same within so much."""


def _other(row: Row, plan: Plan, take: "_Taker") -> Comparison:
    """Activation peak, non-torch and, where it was printed, graphs; with the context where the row has it.

    Where only the pool was printed, what is left of the budget (`derived_…`) stands for the sum.
    """
    # The first stage's rank prints first; the activation peak of a row with stages is that rank's.
    parts = plan.gpus[0].parts
    chosen = [parts.activations, parts.communication]
    if "activation_peak" in row.measured and "non_torch" in row.measured:
        pieces = [row.measured["activation_peak"], row.measured["non_torch"]]
        graphs = row.measured.get("cuda_graph")
        # Older versions print the difference of free memory, which other processes move: it can be negative.
        if graphs is not None and graphs.gib >= 0:
            pieces += [] if _peak_holds_graphs(row, plan) else [graphs]
            chosen.append(parts.cuda_graphs)
        used = row.measured.get("init_cuda_used") or row.measured.get("init_non_torch")
        if used is not None:
            pieces.append(used)
        # "Memory used outside torch" of TensorRT-LLM is all that is: the context, too.
        if used is not None or row.engine.startswith("tensorrt"):
            chosen.append(parts.runtime)
    else:
        pieces = [row.measured.get("derived_other") or row.measured["derived_act_plus_non_torch"]]
        if row.graphs_deducted:
            chosen.append(parts.cuda_graphs)
    return take(
        Quantity.OTHER,
        sum(p.bytes for p in pieces),
        sum(p.bytes for p in chosen),
        sum(p.low for p in chosen),
        sum(p.high for p in chosen),
        sum(p.doubt_bytes for p in pieces),
    )
