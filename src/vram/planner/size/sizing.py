"""The answer of a sizing: for each model the replicas of least cost, how they serve, and what one more or one less would do."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vram.planner.simulate.outcome import Outcome, PoolOutcome
from vram.planner.size.candidate import Candidate
from vram.planner.size.levels import Levels, Verdict
from vram.planner.size.load import Load
from vram.planner.size.options import Offer, Rejected
from vram.planner.size.search import Tried, Why


@dataclass(frozen=True, kw_only=True)
class Served:
    """How so many replicas serve the load.

    Attributes:
        replicas: how many.
        verdict: held against the levels.
        outcome: the whole replay.
        nanodollars_per_hour: what they cost.
    """

    replicas: int
    verdict: Verdict
    outcome: Outcome
    nanodollars_per_hour: int

    @property
    def usd_per_hour(self) -> float:
        """For people."""
        return self.nanodollars_per_hour / 1e9

    @property
    def pool(self) -> PoolOutcome:
        """What the replicas did."""
        return self.outcome.pools[0]


@dataclass(frozen=True, kw_only=True)
class Slow:
    """The answer when every step takes as long as the high end of its band allows.

    Attributes:
        factor: by which steps are longer than predicted.
        verdict: of the chosen replicas then.
        replicas: how many of them keep the levels then; None when no number does.
        nanodollars_per_hour: what so many cost.
        why: where the band comes from.
    """

    factor: float
    verdict: Verdict
    replicas: int | None
    nanodollars_per_hour: int | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """The best that another kind or number of GPUs does.

    Attributes:
        gpu: its GPUs.
        nanodollars_per_hour: what it costs, or at least costs; 0 when it cannot keep the levels.
        exact: whether that is its price, not a bound of it.
        why: in words.
    """

    gpu: str
    nanodollars_per_hour: int
    exact: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class PoolSizing:
    """The pool of one model.

    Attributes:
        load: what arrives for it.
        levels: what is asked for.
        candidate: what each replica is.
        chosen: how its replicas serve.
        fewer: one replica less; None when it has one only.
        more: one replica more.
        price_told: the price in words.
        tried: every candidate and what became of it.
        rejected: offers that hold no such request.
        replays: full replays that the search took.
        rivals: the best with other kinds of GPU, where their exact price was asked for.
        slow: when steps are as slow as their band allows; None where they have none.
        reference: the model as it was named.
        quant: how its weights are stored, where that was asked for.
        kv_dtype: the type of its KV cache, where one was asked for.
    """

    load: Load
    levels: Levels
    candidate: Candidate
    chosen: Served
    fewer: Served | None
    more: Served
    price_told: str
    tried: tuple[Tried, ...]
    rejected: tuple[Rejected, ...]
    replays: int
    rivals: tuple[Tried, ...] = ()
    slow: Slow | None = None
    reference: str = ""
    quant: str | None = None
    kv_dtype: str | None = None

    @property
    def usd_per_million_tokens(self) -> float:
        """Dollars for a million prompt and answer tokens, the idle time of the trace paid too."""
        summary = self.chosen.outcome.summary
        tokens = summary.prompt_tokens + summary.answered_tokens
        return self.chosen.usd_per_hour * summary.seconds / 3600 / tokens * 1e6 if tokens else 0.0

    @cached_property
    def alternatives(self) -> tuple[Alternative, ...]:
        """For each other offer the best of its candidates, the cheapest first; what can never do it at the end."""
        best: dict[str, Alternative] = {}
        for t in self.tried:
            if t.candidate.gpu == self.candidate.gpu:
                continue
            one = _alternative(t, len(self.load.requests))
            known = best.get(one.gpu)
            if known is None or _order(one) < _order(known):
                best[one.gpu] = one
        for t in self.rivals:
            steps = f" with {t.candidate.told}" if t.candidate.told else ""
            one = Alternative(gpu=t.candidate.gpu, nanodollars_per_hour=t.nanodollars_per_hour, exact=True, why=f"{_replicas(t.replicas)} do it{steps}")
            best[one.gpu] = one
        for r in self.rejected:
            best.setdefault(r.gpu, Alternative(gpu=r.gpu, nanodollars_per_hour=0, exact=True, why=r.why))
        return tuple(sorted(best.values(), key=_order))


def foremost(alternatives: Sequence[Alternative], most: int) -> tuple[Alternative, ...]:
    """The first `most`, those with an exact price among them whatever they cost, in their order."""
    exact = [a for a in alternatives if a.exact and a.nanodollars_per_hour]
    rest = [a for a in alternatives if a not in exact][: max(most - len(exact), 0)]
    return tuple(sorted([*exact, *rest], key=_order))


def _order(a: Alternative) -> tuple[bool, int, str]:
    return (a.nanodollars_per_hour == 0, a.nanodollars_per_hour, a.gpu)


def _replicas(n: int) -> str:
    return f"{n:,} replica{'s' if n != 1 else ''}"


def _alternative(t: Tried, requests: int) -> Alternative:
    c, price = t.candidate, t.candidate.nanodollars_per_hour
    each = _replicas(t.replicas)
    if t.why is Why.FLOOR and t.floor is not None:
        words = f"p{t.floor.share * 100:g} {t.floor.metric.upper()} is {t.floor.seconds:.3g} s even when nothing else runs"
        return Alternative(gpu=c.gpu, nanodollars_per_hour=0, exact=True, why=words)
    if t.why is Why.BEATEN:
        return Alternative(gpu=c.gpu, nanodollars_per_hour=t.nanodollars_per_hour, exact=True, why=f"{each} do it")
    if t.why is Why.COSTLY:
        return Alternative(
            gpu=c.gpu,
            nanodollars_per_hour=t.nanodollars_per_hour,
            exact=False,
            why="one replica costs as much or more" if t.replicas == 1 else f"no less than {each} could read the prompts in time",
        )
    told = ""
    if t.verdict is not None:
        told = f": {t.verdict.worst}{' in the busiest stretch' if t.verdict.requests < requests else ''}"
    return Alternative(gpu=c.gpu, nanodollars_per_hour=price * (t.replicas + 1), exact=False, why=f"{each} too few{told}")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Sizing:
    """Pools for a workload.

    Attributes:
        pools: one for each model.
        notes: what a reader has to know.
    """

    pools: tuple[PoolSizing, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line; the whole is `size_document(sizing)`."""
        return f"<Sizing {', '.join(f'{p.load.model}: {p.chosen.replicas} of {p.candidate.name}' for p in self.pools)}: ${self.usd_per_hour:.2f} an hour>"

    @property
    def nanodollars_per_hour(self) -> int:
        """Of all pools together, exactly."""
        return sum(p.chosen.nanodollars_per_hour for p in self.pools)

    @property
    def usd_per_hour(self) -> float:
        """For people."""
        return self.nanodollars_per_hour / 1e9

    @property
    def gpus(self) -> int:
        """Of all pools together."""
        return sum(p.candidate.gpus * p.chosen.replicas for p in self.pools)


__all__ = ["Alternative", "Offer", "PoolSizing", "Served", "Sizing"]
