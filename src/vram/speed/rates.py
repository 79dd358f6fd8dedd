"""What an engine makes of a card: shares of its bandwidth and peak, and the time that no byte explains. Constants only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Constants of the step's formula (speed/clock.py), fitted to measured rows.

    Attributes:
        memory_share: share of the card's bandwidth that reading weights reaches.
        expert_share: the same for routed experts.
        cache_share: the same for cached keys, values and states.
        compute_share: share of the peak of the type that the kernels compute in.
        attention_share: share of the 16-bit peak that attention reaches.
        vector_share: operations that multiply weights, as a share of what the vector units could do, where unpacking holds them up.
        layer_seconds: time of a layer that neither bytes nor operations explain (launches, norms, small kernels).
        expert_layer_seconds: what routing adds to a layer that has experts.
        step_seconds: the same for a whole step (scheduling, sampling).
        sequence_seconds: what each sequence of the batch adds to a step.
        message_seconds: the least that one exchange between ranks takes, two in every layer.
        link_share: share of the link's bandwidth that exchanges reach.
        interleave: share of the other sequences' prompts that an output token waits for.
        first_seconds: what a request takes before its prompt is read and after its first token is there.
        queue: share of each other sequence's prompt that a first token waits for under load.
    """

    memory_share: float
    expert_share: float
    cache_share: float
    compute_share: float
    attention_share: float
    vector_share: float
    layer_seconds: float
    expert_layer_seconds: float
    step_seconds: float
    sequence_seconds: float
    message_seconds: float
    link_share: float
    interleave: float
    first_seconds: float
    queue: float
