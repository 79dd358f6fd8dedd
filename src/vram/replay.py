"""Replays for callers: finds traces, pools files, models and GPUs, then asks the planner. All arithmetic is below."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from vram.errors import UsageError
from vram.planner.simulate.from_plan import replica_of
from vram.planner.simulate.outcome import Outcome
from vram.planner.simulate.policies import policy_of
from vram.planner.simulate.policy import Policy
from vram.planner.simulate.request import Request
from vram.planner.simulate.run import simulate as replay
from vram.planner.simulate.spec import LinearClock, PoolSpec, ServiceLevel
from vram.readers.pools import Pool, PoolsFile

CONTEXT_STEP: Final = 256
"""A context that nobody states is the longest request, rounded up to a multiple of so many tokens."""


def simulate(
    trace: str | Path | Sequence[Request],
    pools: str | Path | PoolsFile | Sequence[PoolSpec],
    policy: str | Policy = "engine",
    *,
    levels: ServiceLevel | None = None,
    queue_seconds: float | None = None,
    offline: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Replay requests against pools under a policy of admission.

    Args:
        trace: requests in the order of their arrival, or a file of them: CSV or JSON lines, plain or gzipped.
        pools: the pools, or the pools file (`vram size` writes one).
        policy: who is sent where and when: `"engine"`, `"requests=16"`, `"kv-worst"`, `"kv-learned"`, or a policy of one's own.
        levels: what counts as good service: TTFT of 2 s and TPOT of 0.1 s when None.
        queue_seconds: a request that waits so long before it is let in is refused; no policy refuses it when None.
        offline: touch no network.
        progress: called now and then with requests arrived, and requests in all.

    Returns:
        Every request with its times and end, what the pools did over time, and the figures that sum it up. The replay batches
        as vLLM does, to the block; step times are predicted or stated (docs/simulate.md says how far they may be off).

    Raises:
        UsageError: a trace, pools file, policy or number that makes no sense.
        ModelError: a model of the pools file cannot be read.
    """
    from vram.sizing import requests_of  # noqa: PLC0415  (readers only when a file is named)

    requests = requests_of(trace)[0] if isinstance(trace, (str, Path)) else trace
    if isinstance(pools, (str, Path)):
        from vram.sources.pools import read_pools  # noqa: PLC0415  (the same)

        pools = read_pools(pools)
    if isinstance(pools, PoolsFile):
        pools = specs_of(pools, requests, offline=offline)
    chosen = policy_of(policy, queue_seconds=queue_seconds) if isinstance(policy, str) else policy
    return replay(requests, pools, chosen, levels=levels, progress=progress)


def specs_of(file: PoolsFile, requests: Sequence[Request], *, offline: bool | None = None) -> tuple[PoolSpec, ...]:
    """The pools of a file as they are replayed: planned, with the capacity and the speed that the file states in place of planned ones.

    Args:
        file: the pools.
        requests: what they are to serve; where a pool states no context, its longest counts.
        offline: touch no network.

    Raises:
        UsageError: a pool cannot be planned as the file says.
        ModelError: a model cannot be read.
    """
    public: dict[str, str] = {}
    for route in file.all_routes:
        for name in route.pools:
            public.setdefault(name, route.model)
    one = len(file.all_routes) == 1
    named = {r.model for r in requests} - {""}
    # A trace that names models of its own (ChatGPT, GPT-4) and pools of one model: they serve all of it.
    anonymous = one and not named & {r.model for r in file.all_routes}
    return tuple(_spec(pool, "" if anonymous else public.get(pool.name, pool.model), requests, offline=offline) for pool in file.pools)


def _spec(pool: Pool, model: str, requests: Sequence[Request], *, offline: bool | None) -> PoolSpec:
    spec = pool_of(
        pool.model,
        gpu=pool.gpu,
        requests=requests,
        name=pool.name,
        public=model,
        replicas=pool.size,
        engine=pool.engine,
        context_tokens=pool.settings.context_tokens,
        quant=pool.settings.quant,
        kv_dtype=pool.settings.kv_dtype,
        tp=pool.placement.tp,
        pp=pool.placement.pp,
        ep=pool.placement.ep,
        gpu_memory_utilization=pool.settings.gpu_memory_utilization,
        max_num_seqs=pool.settings.max_num_seqs,
        max_batched_tokens=pool.settings.max_batched_tokens,
        block_size=pool.settings.block_size,
        kv_pool_bytes=pool.capacity.kv_bytes,
        clock=None if pool.speed is None else LinearClock(**{name: getattr(pool.speed, name) for name in LinearClock.__dataclass_fields__}),
        usd_per_hour=pool.dollars_per_hour,
        offline=offline,
    )
    if pool.capacity.kv_blocks is not None:
        return replace(spec, replica=replace(spec.replica, blocks=pool.capacity.kv_blocks))
    size = spec.replica.rule.simple_block_size
    if pool.capacity.kv_tokens is not None and pool.capacity.kv_bytes is None and size:
        return replace(spec, replica=replace(spec.replica, blocks=max(pool.capacity.kv_tokens // size, 1)))
    return spec


def pool_of(
    model: str,
    *,
    gpu: str,
    requests: Sequence[Request],
    name: str = "",
    public: str = "",
    replicas: int = 1,
    engine: str = "vllm",
    context_tokens: int | None = None,
    quant: str | None = None,
    kv_dtype: str | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: bool = False,
    gpu_memory_utilization: float | None = None,
    max_num_seqs: int | None = None,
    max_batched_tokens: int | None = None,
    block_size: int | None = None,
    kv_pool_bytes: int | None = None,
    clock: LinearClock | None = None,
    usd_per_hour: float | None = None,
    offline: bool | None = None,
) -> PoolSpec:
    """Replicas of a model on GPUs, planned; arguments as of `vram.plan`.

    Raises:
        UsageError: a number, name or flag that makes no sense, or no room for one sequence.
        ModelError: the model cannot be read.
    """
    from vram.api import load_model, plan  # noqa: PLC0415  (readers only when a model is read)

    found = load_model(model, offline=offline)
    if not found.caches_known or not found.layers:
        raise UsageError(f"what {found.name} keeps for each token is not known, so its replicas cannot be replayed", hint="vram plan says what is known of it")
    stated = found.geometry.max_context_tokens or None
    if context_tokens is None:
        longest = max((r.prompt_tokens + r.answered_tokens for r in requests), default=CONTEXT_STEP)
        context_tokens = -(-longest // CONTEXT_STEP) * CONTEXT_STEP
        if stated is not None:
            context_tokens = min(context_tokens, stated)
    made = plan(
        found,
        gpu=gpu,
        context_tokens=context_tokens,
        quant=quant,
        kv_dtype=kv_dtype,
        engine=engine,
        tp=tp,
        pp=pp,
        ep=ep,
        gpu_memory_utilization=gpu_memory_utilization,
        max_num_seqs=max_num_seqs,
        max_batched_tokens=max_batched_tokens,
        block_size=block_size,
        kv_pool_bytes=kv_pool_bytes,
        offline=offline,
    )
    return PoolSpec(name=name or found.name, replica=replica_of(made, clock), replicas=replicas, model=public, dollars_per_hour=usd_per_hour)


def check_sizes(requests: Sequence[Request], pools: Sequence[PoolSpec]) -> None:
    """Refuse requests that no pool could ever serve; a replay would refuse them one by one.

    Raises:
        UsageError: the first of them, and what would make it possible.
    """
    longest: dict[str, int] = {}
    for pool in pools:
        for model in {pool.model, ""}:
            longest[model] = max(longest.get(model, 0), pool.replica.max_model_len)
    anyone = max((p.replica.max_model_len for p in pools if not p.model), default=0)
    for i, r in enumerate(requests, 1):
        most = max(longest.get(r.model, 0), anyone)
        if not most:
            models = sorted({p.model for p in pools})
            raise UsageError(
                f"request {i} asks for {r.model!r}, which no pool serves",
                hint=f"pools serve {', '.join(models[:10])}; add a route of that name, or --refuse-oversize counts such requests as refused",
            )
        if r.prompt_tokens >= most:
            more = sum(x.prompt_tokens >= most for x in requests)
            raise UsageError(
                f"request {i} has a prompt of {r.prompt_tokens:,} tokens, and the longest context of a pool that serves it is {most:,} ({more:,} such requests)",
                hint=f"--context {r.prompt_tokens + r.answered_tokens} where the model and the cache allow it, or --refuse-oversize counts such requests as refused",
            )
