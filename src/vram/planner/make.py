"""Making a plan: the engine's rules asked for every rank, the verdict, and the limits solved."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from vram.engines.base import Capacity, Demand, Engine, Settings
from vram.engines.registry import engine as engine_named
from vram.errors import PlacementError, UsageError, printable
from vram.hardware.fleet import Fleet
from vram.memory.kv import growth_bytes, sequence_bytes, state_bytes
from vram.memory.part import Part
from vram.memory.placement import Placement, choose, layer_count
from vram.memory.workload import Workload
from vram.model.cache import CacheFormats
from vram.model.format import KV_FORMATS, KV_NAMES, Format
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.planner.limits import largest
from vram.planner.plan import CacheSize, GpuPlan, KvPool, Limits, Plan, Verdict

DEFAULT_HEADROOM = 0.20
DEFAULT_CONTEXT_TOKENS = 8192
# Beyond any context and batch that exists; keeps the solver's numbers small where the model states no limit.
MOST_TOKENS, MOST_SEQUENCES = 2**31, 2**20
MOST_DRAFTED, MOST_ADAPTERS = 1024, 4096
_DEFAULTS = Settings()
UNKNOWN_LIMITS = Limits(max_context_tokens=None, max_concurrency=None, context_bound_by="unknown")


@lru_cache(maxsize=128)
def kv_format(name: str) -> Format:
    """The format of a KV cache by people's name for it.

    Raises:
        UsageError: no such KV type.
    """
    found = KV_FORMATS.get(name.lower())
    if found is None:
        raise UsageError(f"no KV cache type {name!r}", hint=f"known types: {', '.join(sorted(KV_FORMATS))}")
    return found


@once_per_model
def _formats(model: Model, kv_dtype: str | None) -> tuple[str, CacheFormats]:
    if kv_dtype is None or kv_dtype.lower() == "auto":
        formats = model.cache_formats
        return KV_NAMES.get(formats.key.name, formats.key.name.lower()), formats
    first, _, second = kv_dtype.partition("/")
    kv, value = kv_format(first), kv_format(second or first)
    # States stay in the model's own type unless a full-precision type is asked for: engines quantise keys and values only.
    plain = kv if kv.block_elements == 1 and kv.block_bytes >= 2 else model.dtype
    return kv_dtype.lower(), CacheFormats(key=kv, value=value, conv=plain, state=plain)


def _check(name: str, value: object, low: float, high: float, *, whole: bool = True) -> None:
    """Refuse what is no number, no whole one where that is needed, or out of range (not-a-number is never in range)."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        shown = f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else repr(value)
        raise UsageError(f"{name} is {shown[:60]}", hint=f"{'a whole number' if whole else 'a number'} from {low:,} to {high:,} is possible")


def _check_settings(settings: Settings) -> None:
    _check("--gpu-memory-utilization", settings.gpu_memory_utilization, 0.01, 1, whole=False)
    for name, value in (
        ("--max-num-seqs", settings.max_num_seqs),
        ("--max-batched-tokens", settings.max_batched_tokens),
        ("--block-size", settings.block_size),
    ):
        _check(name, value, 1, MOST_TOKENS)
    _check("--ctx-checkpoints", settings.ctx_checkpoints, 0, MOST_SEQUENCES)
    _check("--kv-pool-bytes", settings.kv_pool_bytes, 0, 2**60)
    if settings.draft is not None:
        _check("--draft-tokens", settings.draft.tokens, 1, MOST_DRAFTED)
        _check("--draft-gpu-layers", settings.draft.gpu_layers, 0, MOST_TOKENS)
    if len(settings.lora) > MOST_ADAPTERS:
        raise UsageError(f"{len(settings.lora)} adapters at once", hint=f"at most {MOST_ADAPTERS} can be planned")


def make_plan(
    model: Model,
    fleet: Fleet,
    *,
    engine: str = "generic",
    context_tokens: int | None = None,
    concurrency: int = 1,
    kv_dtype: str | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: bool = False,
    dp: int | None = None,
    headroom: float = DEFAULT_HEADROOM,
    settings: Settings | None = None,
) -> Plan:
    """Plan a model on a fleet. Pure; a few dozen microseconds for a model that was planned before.

    Args:
        model: the model.
        fleet: the GPUs; the first tp x dp x pp of them are used.
        engine: whose rules to use.
        context_tokens: tokens of one sequence; 8,192 or the model's own limit, whichever is less, when None.
        concurrency: sequences held at the same time.
        kv_dtype: type of the KV cache; the model's own when None.
        tp: tensor-parallel ranks; as many of the GPUs as divide the attention heads when None.
        pp: pipeline stages; what tensor parallelism leaves over when None.
        ep: deal whole experts to the ranks.
        dp: copies of attention and its caches, each with its own sequences; the experts are spread over all of them. Engines whose
            own `--tp` counts all ranks of a stage (SGLang, TensorRT-LLM) are asked in their words: tp 8 with dp 8 is 8 GPUs.
        headroom: share of the weights to keep free above them, 0.20 for 20 %.
        settings: the engine's settings.

    Raises:
        UsageError: a number out of range, an unknown engine or KV type.
        PlacementError: the model cannot be split so.
    """
    settings = settings or _DEFAULTS
    rules = engine_named(engine)
    stated = model.geometry.max_context_tokens
    if context_tokens is None:
        context_tokens = rules.default_context(model, fleet, settings)
    if context_tokens is None:
        context_tokens = min(stated, DEFAULT_CONTEXT_TOKENS) if stated else DEFAULT_CONTEXT_TOKENS
    _check("--context", context_tokens, 1, MOST_TOKENS)
    _check("--concurrency", concurrency, 1, MOST_SEQUENCES)
    _check("--headroom", headroom, 0, 10, whole=False)
    if settings is not _DEFAULTS:
        _check_settings(settings)
    for name, value in (("--tp", tp), ("--pp", pp), ("--dp", dp)):
        _check(name, value, 1, 4096)
    name, formats = _formats(model, rules.kv_dtype if kv_dtype is None else kv_dtype)
    workload = Workload(context_tokens=context_tokens, concurrency=concurrency, kv_dtype=name, formats=formats)
    asked = (tp, pp)
    if dp is not None and dp > 1:
        tp = _within(rules, tp, dp)
    if rules.layer_split:
        if tp is not None and tp > 1:
            raise PlacementError(f"{rules.name} deals whole layers to GPUs, it does not split them", hint=f"use --pp {tp}, or name the GPUs alone")
        asked, tp, pp = (None, pp), 1, pp or max(1, min(len(fleet.gpus), layer_count(model)))
    placement = choose(model, len(fleet.gpus), tp=tp, pp=pp, ep=ep, dp=dp or 1, dense_over_all=rules.dense_over_all)
    mine = share_of(workload, placement)
    gpus, ranks = _ranks(model, rules, fleet, placement, mine, settings)
    return Plan(
        model=model,
        engine=rules.name,
        fleet=fleet,
        placement=placement,
        workload=workload,
        settings=settings,
        headroom=headroom,
        gpus=gpus,
        cache=_cache_size(model, workload),
        kv_pool=kv_room(rules, ranks),
        limits=limits_of(rules, ranks, mine, stated) if model.caches_known else UNKNOWN_LIMITS,
        verdict=judge([gpu for gpu, _ in ranks], headroom, certain=model.caches_known),
        notes=_notes(model, rules, fleet, placement, workload, settings, asked),
        asked=asked,
        host=rules.host(ranks[0][1]),
    )


def _within(rules: Engine, tp: int | None, dp: int) -> int | None:
    """Ranks of one copy of attention, for an engine whose `--tp` counts those of all copies.

    Raises:
        PlacementError: the engine has no such copies, or they do not divide its ranks.
    """
    if rules.layer_split:
        raise PlacementError(f"{rules.name} keeps one copy of attention", hint="leave --dp out; --parallel gives it slots")
    if not rules.copies_in_tp or tp is None:
        return tp
    if tp % dp:
        raise PlacementError(f"--dp {dp} does not divide the {tp} ranks of --tp", hint=f"{rules.name} counts all copies in --tp: --tp {dp} --dp {dp}")
    return tp // dp


def share_of(workload: Workload, placement: Placement) -> Workload:
    """What one copy of attention has of a workload: its share of the sequences."""
    return workload if placement.dp == 1 else replace(workload, concurrency=-(-workload.concurrency // placement.dp))


_Rank = tuple[GpuPlan, Demand]


def _ranks(model: Model, rules: Engine, fleet: Fleet, placement: Placement, workload: Workload, settings: Settings) -> tuple[tuple[GpuPlan, ...], list[_Rank]]:
    """Every GPU used; and one of each kind of rank (card, stage, others' use) with the demand behind it.

    Ranks of one kind hold the same, so whatever is decided over all GPUs is decided over the kinds.
    """
    gpus: list[GpuPlan] = []
    # By identity: equal GPUs of a fleet are one object, and hashing all their fields costs more than planning again.
    kinds: dict[tuple[int, int, int], _Rank] = {}
    free = free_bytes(rules, fleet, placement)
    for place, member in enumerate(fleet.gpus[: placement.gpus]):
        stage = place // placement.ranks
        key = (id(member.gpu), stage, member.used_bytes)
        if key in kinds:
            gpus.append(_same_rank(kinds[key][0], member.index))
            continue
        demand = Demand(model=model, gpu=member.gpu, placement=placement, workload=workload, settings=settings, free_bytes=free)
        capacity = member.gpu.capacity_bytes
        usable = capacity - member.used_bytes
        # An engine with a pool heeds the utilization itself, and holds some of its memory outside of it.
        if settings.gpu_memory_utilization is not None and not rules.pools:
            usable = min(usable, int(capacity * settings.gpu_memory_utilization))
        parts = rules.parts(demand, stage)
        pool = parts.kv_cache if rules.pools else None
        if settings.kv_pool_bytes is not None and pool is None:
            # A pool set apart by hand is held whole, and the workload has to fit in there, whoever the engine is.
            pool = Part.exact(settings.kv_pool_bytes, "formula", "the pool as given")
            parts = replace(parts, kv_cache=pool)
        gpu = GpuPlan(
            index=member.index,
            name=member.gpu.name,
            capacity_bytes=capacity,
            used_bytes=member.used_bytes,
            usable_bytes=usable,
            stage=stage,
            parts=parts,
            pool=pool,
            kv_needed_bytes=parts.kv_cache.bytes if pool is None else rules.kv_bytes(demand, stage, workload.context_tokens, workload.concurrency),
        )
        kinds[key] = gpu, demand
        gpus.append(gpu)
    return tuple(gpus), list(kinds.values())


def free_bytes(rules: Engine, fleet: Fleet, placement: Placement) -> tuple[int, ...]:
    """Free memory of the GPUs used, which engines that deal out layers deal by; nothing for the others."""
    if not rules.layer_split:
        return ()
    return tuple(member.gpu.capacity_bytes - member.used_bytes for member in fleet.gpus[: placement.gpus])


def _same_rank(gpu: GpuPlan, index: int) -> GpuPlan:
    return GpuPlan(
        index=index,
        name=gpu.name,
        capacity_bytes=gpu.capacity_bytes,
        used_bytes=gpu.used_bytes,
        usable_bytes=gpu.usable_bytes,
        stage=gpu.stage,
        parts=gpu.parts,
        pool=gpu.pool,
        kv_needed_bytes=gpu.kv_needed_bytes,
    )


def judge(gpus: Sequence[GpuPlan], headroom: float, *, certain: bool = True) -> Verdict:
    """The verdict over all GPUs: the worst one decides. What is not `certain` (unknown caches) never fits for sure."""
    if any(g.spare_bytes < 0 for g in gpus):
        return Verdict.DOES_NOT_FIT
    safe = certain and all(g.short_bytes <= 0 and g.parts.weights.bytes * (1 + headroom) <= g.usable_bytes for g in gpus)
    return Verdict.FITS if safe else Verdict.TIGHT


def _cache_size(model: Model, workload: Workload) -> CacheSize:
    caches, formats, tokens = model.cache_counts, workload.formats, workload.context_tokens
    return CacheSize(
        bytes_per_token=growth_bytes(caches, tokens, formats),
        bytes_per_sequence=sequence_bytes(caches, tokens, formats),
        state_bytes_per_sequence=state_bytes(caches, formats),
    )


def kv_room(rules: Engine, ranks: Sequence[_Rank]) -> KvPool:
    """The rank that holds the fewest sequences decides."""
    poorest: tuple[int, Capacity] | None = None
    for gpu, demand in ranks:
        room = gpu.pool.bytes if gpu.pool is not None else max(gpu.usable_bytes - gpu.total_bytes + gpu.parts.kv_cache.bytes, 0)
        derived = gpu.pool is not None and demand.settings.kv_pool_bytes is None
        held = rules.capacity(demand, gpu.stage, max(room - rules.rank_gap(demand.gpu, demand.placement).bytes, 0) if derived else room)
        # A stage that keeps nothing binds nothing.
        if poorest is None or poorest[1].concurrency is None or (held.concurrency is not None and held.concurrency < poorest[1].concurrency):
            poorest = room, held
    if poorest is None:
        return KvPool(bytes_per_gpu=0, capacity_tokens=None, max_concurrency=None)
    return KvPool(bytes_per_gpu=poorest[0], capacity_tokens=poorest[1].tokens, max_concurrency=poorest[1].concurrency)


def limits_of(rules: Engine, ranks: Sequence[_Rank], workload: Workload, stated: int) -> Limits:
    """Where the verdict turns, or the `stated` length of the model's publisher if that comes first (0: none stated)."""
    context, sequences = MOST_TOKENS, MOST_SEQUENCES
    for gpu, demand in ranks:
        stage, parts = gpu.stage, gpu.parts
        pool = gpu.pool is not None
        if gpu.pool is None:
            room = gpu.usable_bytes - parts.total_bytes + parts.kv_cache.bytes + parts.activations.bytes
        else:
            # A pool that the card has no room for serves nobody, however little of it is needed.
            room = 0 if gpu.overfull else gpu.pool.bytes
        if not pool and (kept := rules.kept(demand, workload.context_tokens, workload.concurrency)) is not None:
            room += kept.bytes
        context = largest(_by_context(rules, demand, stage, workload.concurrency, pool=pool), rules.breakpoints(demand, stage), room, context)
        sequences = largest(_by_sequences(rules, demand, stage, workload.context_tokens, pool=pool), (), room, sequences)
    sequences *= max((demand.placement.dp for _, demand in ranks), default=1)
    bound = "memory"
    if stated and context >= stated:
        context, bound = stated, "model"
    elif context >= MOST_TOKENS:
        return Limits(max_context_tokens=None, max_concurrency=sequences, context_bound_by="nothing")
    return Limits(max_context_tokens=context, max_concurrency=sequences, context_bound_by=bound)


def _by_context(rules: Engine, demand: Demand, stage: int, sequences: int, *, pool: bool) -> Callable[[int], int]:
    """What must fit as a function of the context: the cache and, unless a pool was set apart for it, the working memory."""
    if pool:
        return lambda tokens: rules.kv_bytes(demand, stage, tokens, sequences)
    return lambda tokens: _taken(rules, demand, stage, tokens, sequences)


def _by_sequences(rules: Engine, demand: Demand, stage: int, tokens: int, *, pool: bool) -> Callable[[int], int]:
    """The same as a function of the number of sequences."""
    if pool:
        return lambda sequences: rules.kv_bytes(demand, stage, tokens, sequences)
    return lambda sequences: _taken(rules, demand, stage, tokens, sequences)


def _taken(rules: Engine, demand: Demand, stage: int, tokens: int, sequences: int) -> int:
    kept = rules.kept(demand, tokens, sequences)
    return rules.kv_bytes(demand, stage, tokens, sequences) + rules.working_bytes(demand, stage, tokens, sequences) + (kept.bytes if kept is not None else 0)


# Settings by the flag that sets them, to tell which of them an engine does not heed.
FLAGS = {
    "gpu_memory_utilization": "--gpu-memory-utilization",
    "max_num_seqs": "--max-num-seqs",
    "max_batched_tokens": "--max-batched-tokens",
    "block_size": "--block-size",
    "ubatch": "--ubatch",
    "parallel": "--parallel",
    "flash_attention": "--flash-attention",
    "gpu_layers": "--gpu-layers",
    "tensor_split": "--tensor-split",
    "kv_unified": "--kv-unified",
    "kv_offload": "--no-kv-offload",
    "swa_full": "--swa-full",
    "ctx_checkpoints": "--ctx-checkpoints",
    "enforce_eager": "--enforce-eager",
    "prefix_caching": "--prefix-caching",
    "draft": "--draft",
    "lora": "--lora",
    "version": "a version",
}


def _notes(
    model: Model,
    rules: Engine,
    fleet: Fleet,
    placement: Placement,
    workload: Workload,
    settings: Settings,
    asked: tuple[int | None, int | None],
) -> tuple[str, ...]:
    stated = model.geometry.max_context_tokens
    notes = [*model.notes, *fleet.notes]
    if stated and workload.context_tokens > stated:
        notes.append(f"{workload.context_tokens:,} tokens is past the {stated:,} that the model's publisher states")
    if not model.caches_known:
        notes.append("what this architecture caches per token is not known: the KV cache is left out, so this plan never counts as a sure fit")
    if placement.gpus < len(fleet.gpus):
        notes.append(f"{len(fleet.gpus) - placement.gpus} of {len(fleet.gpus)} GPUs stay unused: {placement.label} takes {placement.gpus}")
    elif placement.pp > 1 and asked == (None, None) and not rules.layer_split:
        notes.append(f"{model.geometry.attention_heads} attention heads do not divide over {len(fleet.gpus)} GPUs: {placement.label} (--tp, --pp)")
    if rules.heeds is not None and settings is not _DEFAULTS:
        unheeded = [flag for name, flag in FLAGS.items() if name not in rules.heeds and getattr(settings, name) != getattr(_DEFAULTS, name)]
        if unheeded:
            notes.append(f"the {rules.name} engine does not heed {', '.join(unheeded)}")
    if rules.newest is not None and settings.version and _later(settings.version, rules.newest):
        notes.append(f"{rules.name} {printable(settings.version, 40)} is later than {rules.newest}, the newest whose rules are known: those are taken")
    return tuple(notes)


def _later(version: str, newest: str) -> bool:
    """Whether a version is later than another, to as many places as that one has; words and dates are not."""
    found, known = (re.fullmatch(r"[vb]?(\d{1,6}(?:\.\d{1,6})*)", text.strip()) for text in (version, newest))
    if found is None or known is None:
        return False
    numbers, most = ([int(n) for n in match[1].split(".")] for match in (found, known))
    return numbers[: len(most)] > most
