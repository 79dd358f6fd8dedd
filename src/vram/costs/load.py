"""What a replica does in a busy hour: how its time divides between reading prompts and writing answers. Knows times, no money and no bytes.

`concurrency` sequences run at the same time, each followed by the next. In the time C that a round of them takes, the replica reads each
prompt once and makes output - 1 steps for all of them (the first token of an answer comes with its prompt):

    C = concurrency x prefill + (output - 1) x step

That is the model of published serving benchmarks at a fixed concurrency; prefills are not hidden behind decode steps.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of requests on one replica.

    Attributes:
        concurrency: sequences at the same time.
        prompt_tokens: tokens of each prompt.
        output_tokens: tokens of each answer.
        prefill_seconds: to read one prompt.
        step_seconds: of one decode step of all sequences at their mean length.
        copies: copies of attention that do the same at the same time, each with `concurrency` sequences of its own.
    """

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    prefill_seconds: float
    step_seconds: float
    copies: int = 1

    @property
    def prefill_all_seconds(self) -> float:
        """What the prompts of a round take."""
        return self.concurrency * self.prefill_seconds

    @property
    def decode_all_seconds(self) -> float:
        """What the answers of a round take."""
        return (self.output_tokens - 1) * self.step_seconds

    @property
    def seconds(self) -> float:
        """A whole round; also how long one request runs."""
        return self.prefill_all_seconds + self.decode_all_seconds

    @property
    def prefill_share(self) -> float:
        """Share of the time that goes to prompts, 0 to 1."""
        return self.prefill_all_seconds / self.seconds

    @property
    def requests_per_second(self) -> float:
        """Requests that end per second."""
        return self.copies * self.concurrency / self.seconds

    @property
    def input_tokens_per_second(self) -> float:
        """Prompt tokens read per second."""
        return self.requests_per_second * self.prompt_tokens

    @property
    def output_tokens_per_second(self) -> float:
        """Answer tokens written per second."""
        return self.requests_per_second * self.output_tokens
