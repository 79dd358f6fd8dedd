"""One request of a trace, and how it ended. It knows lengths and times, not texts."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sends, and what the model will answer.

    Attributes:
        arrival_seconds: when it arrives, counted from the start of the trace.
        prompt_tokens: tokens of its prompt, at least 1.
        output_tokens: tokens that the model answers before it stops by itself, at least 1.
        max_tokens: what the client lets it answer at most; None: as much as the context allows. Policies see this, not
            `output_tokens`.
        model: name of the model that is asked for; empty: whatever the pools serve.
        priority: lower goes first where a policy looks at it.
        deadline_seconds: how long the client waits for admission; None: without end.
    """

    arrival_seconds: float
    prompt_tokens: int
    output_tokens: int
    max_tokens: int | None = None
    model: str = ""
    priority: int = 0
    deadline_seconds: float | None = None

    @property
    def answered_tokens(self) -> int:
        """Tokens of the answer: the model's own end or the client's, whichever comes first."""
        return self.output_tokens if self.max_tokens is None else min(self.output_tokens, self.max_tokens)


class End(StrEnum):
    """How a request ended; each ends in exactly one way."""

    FINISHED = "finished"
    """All tokens were answered."""
    SHORTENED = "shortened"
    """The context or a clamp of the policy ended the answer before its own end."""
    TOO_LARGE = "too_large"
    """No pool could ever hold it."""
    EXPIRED = "expired"
    """It waited for admission longer than it or the policy allows."""
    NO_POOL = "no_pool"
    """No pool serves its model."""

    @property
    def refused(self) -> bool:
        """Whether the client got no answer."""
        return self in {End.TOO_LARGE, End.EXPIRED, End.NO_POOL}
