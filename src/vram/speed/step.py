"""How long one step of an engine takes: the seam between what predicts speed and what replays a workload with it."""

from typing import Protocol


class StepClock(Protocol):
    """The seconds of one engine step on one replica. Pure and cheap: a replay calls it hundreds of thousands of times.

    A step of continuous batching processes some new prompt tokens (chunks of prefills) and one token of each sequence that
    decodes, all in one pass over the weights.
    """

    def seconds(self, prefill_tokens: int, prefill_pairs: int, decode_sequences: int, kv_tokens: int) -> float:
        """Seconds of one step.

        Args:
            prefill_tokens: new prompt tokens of the step, over all sequences.
            prefill_pairs: pairs of a new prompt token and a token that it attends to, itself included: what attention of a
                prefill costs. A whole prompt of n tokens has n (n + 1) / 2.
            decode_sequences: sequences that get one token each.
            kv_tokens: cached tokens that those sequences attend to, all together.
        """
        ...
