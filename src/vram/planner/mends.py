"""What would make a plan fit: each change planned for real, the gentlest of what works first.

What the plan's engine would refuse is none: a type of cache that it has not, weights that it does not load, another quantization of a file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from vram.engines.base import Demand
from vram.engines.registry import engine
from vram.engines.supports import OFFERED, method_of, supported
from vram.errors import UsageError, VramError
from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu
from vram.hardware.remote import REMOTE_VENDOR
from vram.memory.placement import layer_count
from vram.model.format import SAFETENSORS
from vram.model.model import Model
from vram.planner.limits import largest
from vram.planner.make import free_bytes, make_plan, share_of
from vram.planner.plan import Plan, Verdict
from vram.units import gib

# Smaller weights, from the least loss to the most, as the engines at hand can run them.
QUANTS = ("fp8", "awq", "Q4_K_M")
GGUF_QUANTS = ("Q8_0", "Q4_K_M")
GGUF_ENGINES = frozenset({"llama.cpp", "ollama"})
EIGHT_BITS: Final[Mapping[str, str]] = {"llama.cpp": "q8_0", "ollama": "q8_0", "vllm": "fp8", "sglang": "fp8", "tensorrt-llm": "fp8", "transformers": ""}
"""What each engine calls its 8-bit KV cache (`vram.engines.args`); transformers' own cache holds what the model computes in."""
# Cards that people rent or buy next, by memory; Macs stay Macs.
LADDER = ("RTX 4090", "RTX 5090", "L40S 48GB", "A100 SXM 80GB", "H100 SXM 80GB", "RTX PRO 6000 Blackwell 96GB", "H200 SXM 141GB", "B200", "MI300X", "MI355X")
MAC_LADDER = ("M4 Pro 48GB", "M4 Max 64GB", "M4 Max 128GB", "M3 Ultra 256GB", "M3 Ultra 512GB")
# Where one card is not enough: nodes that exist.
NODES = (("H100 SXM 80GB", (2, 4, 8)), ("H200 SXM 141GB", (8,)), ("B200", (8,)), ("H200 SXM 141GB", (16,)))
MOST_GPUS = 16
# Shares of a card that people give an engine with a pool, the largest first.
SHARES = (0.9, 0.85, 0.8, 0.75, 0.7)
# A mend that leaves less context than this is none.
MIN_CONTEXT_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """One change and what it brings.

    Attributes:
        flag: what to type, e.g. `--kv-dtype fp8`.
        gains_bytes: bytes that the fullest GPU has more to spare.
        verdict: the verdict with the change.
        max_context_tokens: the longest context with the change; None where nothing grows with it or it is not known.
        why: what it costs, in a few words.
    """

    flag: str
    gains_bytes: int
    verdict: Verdict
    max_context_tokens: int | None
    why: str


_ORDER = {Verdict.FITS: 0, Verdict.TIGHT: 1, Verdict.DOES_NOT_FIT: 2}


def find_mends(plan: Plan) -> tuple[Mend, ...]:
    """Ranked mends of a plan that does not fit or is tight; none for one that fits.

    A mend that changes nothing for the better is left out, and so is one with which it still does not fit, unless nothing
    else was found. Changes that cannot be planned (a head count that no split divides) are left out too.
    """
    if plan.verdict is Verdict.FITS:
        return ()
    found: dict[str, Mend] = {}
    for candidates in (_candidates, _nodes):
        for flag, why, changed in candidates(plan):
            gains = changed.spare_bytes - plan.spare_bytes
            if gains > 0 and (plan.verdict is Verdict.DOES_NOT_FIT or changed.verdict is Verdict.FITS):
                found[flag] = Mend(flag=flag, gains_bytes=gains, verdict=changed.verdict, max_context_tokens=changed.limits.max_context_tokens, why=why)
        works = [m for m in found.values() if m.verdict is not Verdict.DOES_NOT_FIT]
        if works:
            # sorted() is stable: within a verdict the candidates' own order, from the gentlest on, stays.
            return tuple(sorted(works, key=lambda m: _ORDER[m.verdict]))
    return tuple(found.values())


Candidate = tuple[str, str, Plan]
"""What to type, what it costs, and the plan with it."""


def _again(
    plan: Plan,
    *,
    model: Model | None = None,
    fleet: Fleet | None = None,
    context_tokens: int | None = None,
    concurrency: int | None = None,
    kv_dtype: str | None = None,
    gpu_layers: int | None = None,
    share: float | None = None,
) -> Plan | None:
    """The plan with some of it changed; None where the change cannot be planned."""
    w, settings = plan.workload, plan.settings
    if gpu_layers is not None:
        settings = replace(settings, gpu_layers=gpu_layers)
    if share is not None:
        settings = replace(settings, gpu_memory_utilization=share)
    tp, pp = plan.asked if fleet is None else (None, None)
    if model is not None and kv_dtype is None and plan.model.kv_format is not None and not _own_kv(plan):
        kv_dtype = "auto"
    try:
        return make_plan(
            model or plan.model,
            fleet or plan.fleet,
            engine=plan.engine,
            context_tokens=context_tokens or w.context_tokens,
            concurrency=concurrency or w.concurrency,
            kv_dtype=kv_dtype or w.kv_dtype,
            tp=tp,
            pp=pp,
            ep=plan.placement.ep,
            dp=plan.placement.dp if plan.placement.dp > 1 else None,
            headroom=plan.headroom,
            settings=settings,
        )
    except UsageError:  # no such split, or a type of cache that this engine has not
        return None


def _gguf(plan: Plan) -> bool:
    """Whether llama.cpp's types are the ones that apply: its engines, its files, and Macs."""
    if plan.engine in OFFERED:
        return plan.engine in GGUF_ENGINES
    if plan.model.gguf or any(m.gpu.vendor.lower() == "apple" for m in plan.fleet.gpus):
        return True
    return any(name not in SAFETENSORS for name in plan.model.bytes_by_format)


def _small_kv(plan: Plan, quant: str = "") -> str | None:
    """An 8-bit cache that goes with the engine and the weights; None where it has none, or the cache is small already, or not known."""
    if not plan.cache.bytes_per_token or plan.workload.formats.key.bits < 16:
        return None
    return EIGHT_BITS.get(plan.engine, "q8_0" if quant in GGUF_QUANTS or _gguf(plan) else "fp8") or None


def _quants(plan: Plan) -> tuple[str, ...]:
    """Smaller weights that the plan's engine loads on its cards, from the least loss on; none of a file, which is stored as it is."""
    if plan.model.gguf:
        return ()
    names = GGUF_QUANTS if _gguf(plan) else QUANTS
    offered = OFFERED.get(plan.engine)
    # Of a card that is not told by its kind, and of main memory, no page says anything.
    cards = {m.gpu for m in plan.fleet.gpus if m.gpu.compute_capability}
    found = tuple(
        name
        for name in names
        if offered is None or (name in offered and (method_of(name) == "gguf" or all(supported(plan.engine, name, gpu) for gpu in cards)))
    )
    return ("bf16", *found) if plan.model.dtype.name == "F32" and not plan.model.quantization else found


def _candidates(plan: Plan) -> Iterator[Candidate]:
    """Changes from the gentlest to the dearest, each planned."""
    w, limits = plan.workload, plan.limits
    yield from _other_share(plan)
    small_kv = _small_kv(plan)
    if small_kv and (changed := _again(plan, kv_dtype=small_kv)):
        yield f"--kv-dtype {small_kv}", "half the KV cache, hardly any loss", changed
    if (
        w.concurrency > 1
        and limits.max_concurrency
        and limits.max_concurrency < w.concurrency
        and (changed := _again(plan, concurrency=limits.max_concurrency))
    ):
        yield f"--concurrency {limits.max_concurrency}", "fewer sequences at once", changed
    stated = plan.model.geometry.max_context_tokens or w.context_tokens
    for longest in (_safe_context(plan), limits.max_context_tokens or 0):
        tokens = round_tokens(min(longest, stated)) if longest else 0
        if MIN_CONTEXT_TOKENS <= tokens < w.context_tokens and (changed := _again(plan, context_tokens=tokens)):
            yield f"--context {tokens}", "a shorter context", changed
    yield from _smaller_weights(plan)
    yield from _together(plan)
    yield from _fewer_layers(plan)
    yield from _more_gpus(plan)
    yield from _other_gpus(plan)


def _other_share(plan: Plan) -> Iterator[Candidate]:
    """Another share of the card for an engine that fills whatever share it is given.

    A smaller one where that leaves too little beside it, a larger one where what the engine chooses by itself leaves the pool too little.
    """
    rules = engine(plan.engine)
    heeded = rules.heeds is None or "gpu_memory_utilization" in rules.heeds
    if not rules.pools or not heeded or plan.settings.kv_pool_bytes is not None:
        return
    asked = plan.settings.gpu_memory_utilization or 1.0
    tight: Candidate | None = None
    for share in (s for s in SHARES if s < asked):
        changed = _again(plan, share=share)
        if changed is None or changed.verdict is Verdict.DOES_NOT_FIT:
            continue
        larger = changed.kv_pool.bytes_per_gpu > plan.kv_pool.bytes_per_gpu
        why = "a larger pool, and less beside it" if larger else "a smaller pool, and room for what the engine holds beside it"
        made = (f"--gpu-memory-utilization {share:g}", why, changed)
        if changed.verdict is Verdict.FITS:
            yield made
            return
        tight = tight or made
    if tight is not None:
        yield tight


def _safe_context(plan: Plan) -> int:
    """The longest context that would fit even if every part took its most; 0 when none would, or what a token keeps is not known.

    The high ends of the other parts are taken as they are at the context asked for: shorter ones take no more.
    """
    if not plan.model.caches_known:
        return 0
    rules, w, tokens = engine(plan.engine), share_of(plan.workload, plan.placement), plan.workload.context_tokens
    free = free_bytes(rules, plan.fleet, plan.placement)
    for gpu, member in zip(plan.gpus, plan.fleet.gpus, strict=False):
        demand = Demand(model=plan.model, gpu=member.gpu, placement=plan.placement, workload=w, settings=plan.settings, free_bytes=free)
        room = gpu.pool.low if gpu.pool is not None else gpu.usable_bytes - gpu.parts.high_bytes + gpu.parts.kv_cache.high

        def reserved(n: int, demand: Demand = demand, stage: int = gpu.stage) -> int:
            return rules.kv_bytes(demand, stage, n, w.concurrency)

        tokens = largest(reserved, rules.breakpoints(demand, gpu.stage), room, tokens)
    return tokens


def round_tokens(tokens: int) -> int:
    """A context length that a person would type, at most `tokens`."""
    step = 1024 if tokens >= 16 * 1024 else 256 if tokens >= 1024 else 1
    return max(tokens // step * step, 1)


def _requantized(model: Model, name: str) -> Model | None:
    """The model with smaller weights; None where they would not be smaller, or cannot be told."""
    from vram.model.quantization.named import requantize  # noqa: PLC0415  (its tables are only needed here)

    try:
        made = requantize(model, name)
    except VramError:
        return None
    return made if made.weight_bytes < 0.95 * model.weight_bytes else None


def _smaller_weights(plan: Plan) -> Iterator[Candidate]:
    for name in _quants(plan):
        model = _requantized(plan.model, name)
        changed = _again(plan, model=model) if model else None
        if model is None or changed is None:
            continue
        why = f"weights in {model.weight_bytes / plan.model.weight_bytes:.0%} of the bytes"
        yield f"--quant {name}{_own_kv(plan)}", why, changed
        kv = _small_kv(plan, name)
        if changed.verdict is Verdict.DOES_NOT_FIT and kv and (both := _again(plan, model=model, kv_dtype=kv)):
            yield f"--quant {name} --kv-dtype {kv}", f"{why} and half the KV cache", both


def _own_kv(plan: Plan) -> str:
    """The type of cache that the checkpoint prescribes, to be typed beside other weights: with those of another checkpoint it would be gone."""
    return f" --kv-dtype {plan.workload.kv_dtype}" if plan.model.kv_format is not None and EIGHT_BITS.get(plan.engine, "fp8") else ""


def _together(plan: Plan) -> Iterator[Candidate]:
    """All of it at once, where one change alone may not do: small weights, small cache, and as much context as then fits."""
    w, name = plan.workload, next(reversed(_quants(plan)), "")
    model = _requantized(plan.model, name) if name else None
    kv = _small_kv(plan, name if model else "")
    flags = [f"--quant {name}{'' if kv else _own_kv(plan)}"] if model else []
    flags += [f"--kv-dtype {kv}"] if kv else []
    stated = plan.model.geometry.max_context_tokens or w.context_tokens
    for sequences in dict.fromkeys((w.concurrency, 1)):
        changed = _again(plan, model=model, kv_dtype=kv, concurrency=sequences)
        if changed is None:
            continue
        tokens = _safe_context(changed)
        # Where nothing is safe, what is expected to fit is still better than nothing.
        if tokens < MIN_CONTEXT_TOKENS:
            tokens = min(changed.limits.max_context_tokens or 0, w.context_tokens)
        if tokens < MIN_CONTEXT_TOKENS:
            continue
        words = [*flags, *([f"--concurrency {sequences}"] if sequences != w.concurrency else [])]
        if tokens < w.context_tokens:
            tokens = round_tokens(min(tokens, stated))
            words.append(f"--context {tokens}")
            changed = _again(plan, model=model, kv_dtype=kv, concurrency=sequences, context_tokens=tokens)
        if changed and len(words) > 1:
            yield " ".join(words), "all of it at once", changed
            return


def _on(plan: Plan, gpu: Gpu, n: int) -> tuple[str, Plan] | None:
    """The plan on `n` cards of a kind, split anew, and what to type for it: the split too, where the user stated one."""
    changed = _again(plan, fleet=Fleet.of([gpu] * n))
    if changed is None:
        return None
    flag = f'--gpu "{f"{n}x " if n > 1 else ""}{gpu.name}"'
    tp, pp = plan.asked
    if tp is not None:
        flag += f" --tp {changed.placement.tp}"
    if pp is not None:
        flag += f" --pp {changed.placement.pp}"
    return flag, changed


def _fewer_layers(plan: Plan) -> Iterator[Candidate]:
    """As many layers on the GPUs as are expected to fit, the rest on the host, for engines that can; found by halving."""
    if not plan.host or any(m.gpu.unified_memory for m in plan.fleet.gpus):
        return
    most = layer_count(plan.model) + 1
    low, high, best = 0, min(most, plan.settings.gpu_layers if plan.settings.gpu_layers is not None else most), None
    while high - low > 1:
        middle = (low + high) // 2
        changed = _again(plan, gpu_layers=middle)
        if changed is not None and changed.verdict is not Verdict.DOES_NOT_FIT:
            low, best = middle, changed
        else:
            high = middle
    if best is not None:
        yield f"--gpu-layers {low}", f"{most - low} of {most} layers on the host, in {gib(sum(p.bytes for _, p in best.host))} of its memory: much slower", best


def _more_gpus(plan: Plan) -> Iterator[Candidate]:
    """The same card more often: the smallest number that fits. Nobody puts several Macs or unknown cards together."""
    have = len(plan.fleet.gpus)
    kinds = {member.gpu for member in plan.fleet.gpus}
    gpu = next(iter(kinds))
    if len(kinds) != 1 or gpu.unified_memory or not gpu.sources:
        return
    n = have * 2
    while n <= MOST_GPUS:
        made = _on(plan, gpu, n)
        if made is not None:
            yield made[0], f"{n - have} more GPUs" if n - have > 1 else "one more GPU", made[1]
            if made[1].verdict is Verdict.FITS:
                return
        n *= 2


def _elsewhere(plan: Plan) -> bool:
    """Whether the GPUs are devices of RPC servers: what is behind those is not known, and no card by its name takes their place."""
    return any(member.gpu.vendor == REMOTE_VENDOR for member in plan.fleet.gpus)


def _other_gpus(plan: Plan) -> Iterator[Candidate]:
    """The smallest larger cards that fit, as many of them as there are now."""
    from vram.hardware.spelling import parse_gpu  # noqa: PLC0415  (reads the catalogue; only when mends are asked for)

    if _elsewhere(plan):
        return
    have = max(member.gpu.capacity_bytes for member in plan.fleet.gpus)
    mac = any(member.gpu.vendor.lower() == "apple" for member in plan.fleet.gpus)
    n, shown = len(plan.fleet.gpus), 0
    for name in MAC_LADDER if mac else LADDER:
        gpu = parse_gpu(name).gpu
        made = _on(plan, gpu, n) if gpu.capacity_bytes > have else None
        if made is None or made[1].verdict is not Verdict.FITS:
            continue
        yield made[0], f"{'a Mac' if mac else 'a card'} of {gpu.capacity_bytes / 2**30:.0f} GiB", made[1]
        shown += 1
        if shown == 2:  # the next cheapest and one alternative are enough
            return


def _nodes(plan: Plan) -> Iterator[Candidate]:
    """Machines that exist, for what no single card and no change of settings can hold."""
    from vram.hardware.spelling import parse_gpu  # noqa: PLC0415  (as above)

    if _elsewhere(plan):
        return
    for name, counts in NODES:
        gpu = parse_gpu(name).gpu
        for n in counts:
            made = _on(plan, gpu, n)
            if made is not None and made[1].verdict is not Verdict.DOES_NOT_FIT:
                yield made[0], f"{n} cards of {gpu.capacity_bytes / 2**30:.0f} GiB", made[1]
                if made[1].verdict is Verdict.FITS:
                    return
