"""What can be said of a candidate without a replay: whether any number of replicas could keep a level, and how few surely cannot.

Both are bounds, not guesses: a replay never does better. An answer starts no sooner than its prompt can be read alone; a step
never takes fewer seconds per token than a full one, because what is read once per step is then shared by most.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from vram.planner.simulate.spec import ReplicaSpec
from vram.planner.size.levels import Levels, Metric
from vram.planner.size.load import Load, Window

SLACK: Final = 0.95
"""Attention over windows is priced by mean lengths, which a bound may overstate by a little."""
GROUPS: Final = 32
"""Prompts are priced in so many groups of alike length, each at its shortest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The best that a candidate can do for a level with any number of replicas."""

    metric: Metric
    share: float
    seconds: float
    asked: float


def lone_ttft_seconds(spec: ReplicaSpec, prompt_tokens: int) -> float:
    """Time to the first token of a prompt that is alone on a replica."""
    done, total = 0, spec.frontend_seconds
    while done < prompt_tokens:
        new = min(prompt_tokens - done, spec.max_batched_tokens)
        total += spec.clock.seconds(new, new * done + new * (new + 1) // 2, 0, 0)
        done += new
    return total


def broken_floor(load: Load, levels: Levels, spec: ReplicaSpec) -> Floor | None:
    """The first level that no number of replicas can keep; None when there is none."""
    refused = levels.refusals(len(load.requests))
    for level in levels.times:
        # Longer prompts take longer: the time at the level's share of the lengths is the least time at that share. Those that
        # may be refused can be the longest.
        if level.metric is Metric.TTFT:
            lengths = load.prompts[: len(load.prompts) - refused]
            seconds = lone_ttft_seconds(spec, lengths[len(lengths) - 1 - level.allows(len(lengths))]) if lengths else 0.0
        else:
            lengths = load.spoken[: max(len(load.spoken) - refused, 0)]
            seconds = spec.clock.seconds(0, 0, 1, lengths[len(lengths) - 1 - level.allows(len(lengths))]) if lengths else 0.0
        if seconds > level.seconds:
            return Floor(metric=level.metric, share=level.share, seconds=seconds, asked=level.seconds)
    return None


def least_replicas(load: Load, levels: Levels, spec: ReplicaSpec, busiest: Window) -> int:
    """Replicas below which the levels surely break, at least 1.

    Where a time to the first token is asked for, prompts of the busiest stretch, less those that may be late, must be read by
    its end and that time; where none is, nothing must be done by any time and one replica is the bound.
    """
    slack = min((level.seconds for level in levels.times if level.metric is Metric.TTFT), default=None)
    if slack is None:
        return 1
    n, exempt = len(load.requests), load.exempt(levels)
    whole = _reading_seconds(spec, load.prompts[: n - exempt]) / (load.seconds + slack)
    stretch = sorted(r.prompt_tokens for r in load.requests[busiest.first : busiest.last])
    pressed = _reading_seconds(spec, stretch[: max(len(stretch) - exempt, 0)]) / (busiest.seconds + slack)
    return max(1, ceil(max(whole, pressed) * SLACK))


def _reading_seconds(spec: ReplicaSpec, ascending: "tuple[int, ...] | list[int]") -> float:
    """The least seconds in which one replica reads prompts of those lengths."""
    most, total, n = spec.max_batched_tokens, 0.0, len(ascending)
    for k in range(GROUPS):
        group = ascending[n * k // GROUPS : n * (k + 1) // GROUPS]
        if group:
            pairs = most * (group[0] + 1) // 2
            total += sum(group) / most * spec.clock.seconds(most, pairs, 0, 0)
    return total
