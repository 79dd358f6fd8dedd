"""A replica out of a plan: blocks and their rule from the engine's layout, batch limits from its defaults, the clock from its speed.

The replay batches as vLLM V1 does, whichever engine was planned for; what an engine does otherwise is not modelled here. Pipeline stages
share out every step as if they were always full: how many tokens they write is right, a lone prompt's first token comes too early.
"""

from typing import Final

from vram.engines.base import Demand
from vram.engines.vllm import profile
from vram.engines.vllm.engine import Vllm
from vram.engines.vllm.release import release_of
from vram.errors import UnmetError
from vram.planner.plan import Plan
from vram.planner.simulate.blocks import BlockRule, Group
from vram.planner.simulate.spec import ReplicaSpec
from vram.speed.clock import clock as clock_of
from vram.speed.step import StepClock

SEQUENCES: Final = 256
BATCHED_TOKENS: Final = 8192
"""Batch limits of an engine whose defaults the planner does not know."""
ASYNCHRONOUS_SINCE: Final = (0, 14)
"""vllm/config/vllm.py: `async_scheduling` is on by default from 0.14; platforms/cpu.py turns it off."""


def replica_of(plan: Plan, clock: StepClock | None = None) -> ReplicaSpec:
    """One replica of a plan; the plan's context is the longest sequence.

    Args:
        plan: where the model lies and how much room its caches have.
        clock: how long a step takes; None: as `vram.speed` predicts it.

    Raises:
        UnmetError: there is no room for a cache.
        UsageError: the card's speed is not known.
    """
    demand = Demand(model=plan.model, gpu=plan.fleet.gpus[0].gpu, placement=plan.placement, workload=plan.workload, settings=plan.settings)
    settings, longest = plan.settings, plan.workload.context_tokens
    clock = clock or clock_of(demand, plan.engine)
    if plan.engine == Vllm.name and (found := _vllm(plan, demand)) is not None:
        rule, blocks, block_bytes = found
        release = release_of(settings.version)
        batch = profile.batch_of(settings, demand.gpu, release, longest)
        sequences, tokens = batch.sequences, max(batch.tokens, batch.sequences)
        asynchronous = release.version >= ASYNCHRONOUS_SINCE and not release.cpu
    else:
        rule, blocks, block_bytes = _by_tokens(plan)
        sequences, tokens, asynchronous = settings.max_num_seqs or SEQUENCES, settings.max_batched_tokens or BATCHED_TOKENS, False
        tokens = max(tokens, sequences)
    if blocks < 1:
        raise UnmetError(
            f"{plan.model.name} leaves no room for a KV cache on {plan.fleet.name}",
            hint="vram plan says what would make room: a larger card, a smaller --quant",
        )
    return ReplicaSpec(
        blocks=blocks,
        rule=rule,
        clock=clock,
        max_model_len=longest,
        max_num_seqs=sequences,
        max_batched_tokens=tokens,
        asynchronous=asynchronous,
        block_bytes=block_bytes,
    )


def _vllm(plan: Plan, demand: Demand) -> tuple[BlockRule, int, int] | None:
    """Rule, blocks and bytes of a block as vLLM lays its pool out; None when its pages are not known for this model."""
    engine, least = Vllm(), 0
    layout = engine.budget(demand, 0).layout
    if layout is None:
        return None
    for gpu in plan.gpus:
        theirs = engine.budget(demand, gpu.stage).layout
        # Stages share block tables: the one with the fewest blocks decides. One block of each pool is the null block.
        if theirs is not None and gpu.pool is not None:
            blocks = theirs.blocks(min(gpu.pool.bytes, plan.kv_pool.bytes_per_gpu)) - 1
            least = min(least or blocks, blocks)
    return BlockRule.of(layout), least, layout.bytes_per_block


def _by_tokens(plan: Plan) -> tuple[BlockRule, int, int]:
    """Rule and blocks when only the pool's tokens are known: blocks of the asked size, or single tokens."""
    size = plan.settings.block_size or 1
    tokens, pool = plan.kv_pool.capacity_tokens, plan.kv_pool.bytes_per_gpu
    if tokens is None:
        # Nothing grows with the tokens: a sequence is one block.
        sequences = int(plan.kv_pool.max_concurrency or SEQUENCES)
        return BlockRule(groups=(Group(block_size=0, fixed_blocks=1),)), sequences, pool // sequences if sequences else 0
    return BlockRule.plain(size), tokens // size, pool * size // tokens if tokens else 0
