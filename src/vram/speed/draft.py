"""What drafting ahead makes of a decode step. It knows the cost of drafts and of checking them, not how often they are kept: that is told."""

from dataclasses import dataclass, replace

from vram.engines.base import Demand
from vram.errors import UsageError
from vram.memory.weights import rank_weights
from vram.model.model import Model
from vram.speed.clock import Clock, clock_over

MOST_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """Speculative decoding.

    Attributes:
        model: the drafter; None for the checkpoint's own multi-token-prediction layers.
        tokens: tokens drafted for each step.
        acceptance: chance that a drafted token is kept when all before it were, 0 to 1: as measured, it is not guessed here.
    """

    model: Model | None = None
    tokens: int
    acceptance: float

    def __post_init__(self) -> None:
        """Refuse what no step could be.

        Raises:
            UsageError: a number of tokens or a chance that makes no sense.
        """
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise UsageError(f"{self.tokens} drafted tokens", hint=f"1 to {MOST_TOKENS} are possible")
        if not 0 <= self.acceptance <= 1:
            raise UsageError(f"an acceptance of {self.acceptance}", hint="it is a chance, 0 to 1; engines print theirs in their logs")

    @property
    def gained_tokens(self) -> float:
        """Tokens that a step yields on the mean: its own and the drafts that are kept (Leviathan et al., arXiv:2211.17192, eq. 1)."""
        a = self.acceptance
        return float(self.tokens + 1) if a == 1 else (1 - a ** (self.tokens + 1)) / (1 - a)


def drafted_seconds(c: Clock, demand: Demand, engine: str, drafting: Drafting, held_tokens: int, sequences: int) -> float:
    """Seconds of each token that is kept: drafts one after the other, then one step that checks them all.

    Args:
        c: the clock of the model itself.
        demand: its demand.
        engine: name of the engine.
        drafting: what drafts, how many, how well.
        held_tokens: cached tokens of a sequence.
        sequences: sequences at the same time.
    """
    k = drafting.tokens
    checked = c.seconds(k * sequences, k * sequences * held_tokens, sequences, sequences * held_tokens)
    return (k * _one_draft(c, demand, engine, drafting, held_tokens, sequences) + checked) / drafting.gained_tokens


def _one_draft(c: Clock, demand: Demand, engine: str, drafting: Drafting, held_tokens: int, sequences: int) -> float:
    if drafting.model is not None:
        its = replace(demand, model=drafting.model, workload=replace(demand.workload, formats=drafting.model.cache_formats))
        return clock_over(its, engine, c.spread).seconds(0, 0, sequences, sequences * held_tokens)
    held = max(rank.draft_bytes for rank in rank_weights(demand.model, demand.placement))
    if not held:
        raise UsageError(f"{demand.model.name} has no multi-token-prediction layers", hint="name a model that drafts for it")
    last = c.stages[-1]
    # One layer and the output layer once more: experts of an appended layer are visited as the others are.
    experts = last.work.expert_share(sequences) if last.work.experts else 1.0
    bandwidth = demand.gpu.bandwidth_bytes_per_second or 1.0
    return held * experts / (c.entry.rates.memory_share * bandwidth) + last.head_read + c.entry.rates.layer_seconds + c.entry.rates.step_seconds
