"""Which replicas could serve a model: every kind and number of GPUs that is offered, with the settings worth trying; what fits no request is left out, with the reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vram.engines.base import Settings
from vram.engines.supports import ENGINES, supported
from vram.errors import PlacementError, UnmetError, UsageError
from vram.hardware.fleet import Fleet
from vram.model.model import Model
from vram.planner.make import make_plan
from vram.planner.mends import SHARES
from vram.planner.plan import Plan, Verdict
from vram.planner.simulate.spec import ReplicaSpec
from vram.planner.size.candidate import Candidate
from vram.units import gib

CHUNKS: Final = (2048, 1024, 512)
"""Tokens of a step that are tried beside the engine's default: shorter steps keep answers flowing while long prompts are read."""
SEQUENCES: Final = 256
"""Sequences of a batch where a shorter step is tried: the default of larger steps may be more than a short one holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """GPUs that one replica could have.

    Attributes:
        fleet: they.
        nanodollars_per_hour: what they cost together.
        told: the price in words, with its day and source.
    """

    fleet: Fleet
    nanodollars_per_hour: int
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An offer that cannot hold the model or its longest request.

    Attributes:
        gpu: its GPUs.
        why: in words.
        max_context_tokens: the longest request that it holds; 0 for none, None when that is not known.
        overfull: whether it is the engine's pool alone that leaves too little beside it, so that a smaller share would serve.
    """

    gpu: str
    why: str
    max_context_tokens: int | None
    overfull: bool = False


def options(
    model: Model,
    offers: Sequence[Offer],
    spec_of: Callable[[Plan], ReplicaSpec],
    *,
    engine: str,
    context_tokens: int,
    kv_dtype: str | None = None,
    tp: int | None = None,
    settings: Settings | None = None,
    stored: str | None = None,
) -> tuple[tuple[Candidate, ...], tuple[Rejected, ...]]:
    """What could serve requests of at most `context_tokens` tokens.

    Args:
        model: the model.
        offers: GPUs of one replica, and what they cost.
        spec_of: from a plan to what a replay needs of it.
        engine: name of the engine.
        context_tokens: tokens of the longest request.
        kv_dtype: type of the KV cache; the model's own when None.
        tp: tensor-parallel ranks; all GPUs of an offer when None.
        settings: the engine's settings; where they name no `max_batched_tokens`, some are tried.
        stored: how the weights are stored (`--quant`'s name, or the checkpoint's label): then cards of which no page says that the
            engine runs such weights there are left out; None: nothing is left out for that.

    Returns:
        The candidates, and the offers that are none.

    Raises:
        UsageError: an engine, a KV type or a number that makes no sense.
    """
    base = settings or Settings()
    found: list[Candidate] = []
    rejected: list[Rejected] = []
    version = f"@{base.version}" if base.version else ""
    for offer in offers:
        name = offer.fleet.name
        if stored is not None and engine in ENGINES and not all(supported(engine, stored, m.gpu) for m in offer.fleet.gpus):
            how = f"weights in {stored}" if stored else "16-bit weights"
            rejected.append(
                Rejected(gpu=name, why=f"no page of {engine} says that it runs {how} there; naming it (--gpu) tries it all the same", max_context_tokens=None)
            )
            continue
        for chunk in (None,) if base.max_batched_tokens is not None else (None, *CHUNKS):
            # A step holds at least one token of each sequence of a batch.
            sequences = base.max_num_seqs or SEQUENCES
            if chunk is not None and sequences > chunk:
                continue
            chosen = base if chunk is None else replace(base, max_batched_tokens=chunk, max_num_seqs=sequences)
            made = _replica(model, offer, spec_of, engine, context_tokens, kv_dtype, tp, chosen)
            if isinstance(made, Rejected):
                if chunk is None:
                    rejected.append(made)
                continue
            plan, spec = made
            if chunk is not None and any(c.gpu == name and c.spec.max_batched_tokens == spec.max_batched_tokens for c in found):
                continue
            found.append(
                Candidate(
                    gpu=name,
                    gpus=plan.placement.gpus,
                    engine=f"{engine}{version}",
                    plan=plan,
                    spec=spec,
                    nanodollars_per_hour=offer.nanodollars_per_hour,
                    told=_told(chunk, plan.settings.gpu_memory_utilization if base.gpu_memory_utilization is None else None),
                )
            )
    return tuple(found), tuple(rejected)


def _told(chunk: int | None, share: float | None) -> str:
    """The settings that were chosen, in words."""
    words = [f"steps of {chunk:,} tokens"] if chunk is not None else []
    words += [f"--gpu-memory-utilization {share:g}"] if share is not None else []
    return ", ".join(words)


def _replica(
    model: Model,
    offer: Offer,
    spec_of: Callable[[Plan], ReplicaSpec],
    engine: str,
    context_tokens: int,
    kv_dtype: str | None,
    tp: int | None,
    settings: Settings,
) -> tuple[Plan, ReplicaSpec] | Rejected:
    """A replica on all GPUs of an offer, or why there is none; an engine or a number that makes no sense is an error of every offer."""
    name, count = offer.fleet.name, len(offer.fleet)
    try:
        plan = make_plan(model, offer.fleet, engine=engine, context_tokens=context_tokens, kv_dtype=kv_dtype, tp=tp, settings=settings)
        if _overfull(plan) and settings.gpu_memory_utilization is None:
            for share in SHARES:
                smaller = replace(settings, gpu_memory_utilization=share)
                again = make_plan(model, offer.fleet, engine=engine, context_tokens=context_tokens, kv_dtype=kv_dtype, tp=tp, settings=smaller)
                if again.verdict is not Verdict.DOES_NOT_FIT and again.spare_bytes > plan.spare_bytes:
                    plan = again
                    break
    except PlacementError as e:
        return Rejected(gpu=name, why=e.message, max_context_tokens=None)
    if plan.placement.gpus != count:
        return Rejected(gpu=name, why=f"{plan.placement.gpus} of its {count} GPUs would be used", max_context_tokens=None)
    if plan.verdict is Verdict.DOES_NOT_FIT:
        return Rejected(gpu=name, why=_short(plan), max_context_tokens=plan.limits.max_context_tokens, overfull=_overfull(plan))
    try:
        return plan, spec_of(plan)
    except (UnmetError, UsageError) as e:
        return Rejected(gpu=name, why=e.message, max_context_tokens=None)


def _overfull(plan: Plan) -> bool:
    """Whether it is the engine's pool, which takes its share of the card whatever is needed, that leaves too little beside it."""
    return any(g.overfull for g in plan.gpus) and all(g.pool is not None and g.kv_needed_bytes <= g.pool.bytes for g in plan.gpus)


def _short(plan: Plan) -> str:
    most = plan.limits.max_context_tokens
    if _overfull(plan):
        return f"the engine's pool and what it holds beside it are {gib(-plan.spare_bytes)} more than a GPU has"
    if most:
        return f"holds requests of {most:,} tokens at most"
    return "the weights and working memory alone do not fit"
