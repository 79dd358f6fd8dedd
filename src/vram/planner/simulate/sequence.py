"""A request while a replica works on it. Its counters are read off the replica's step counter, so that a step touches no sequence."""

from enum import IntEnum

from vram.planner.simulate.request import End, Request


class State(IntEnum):
    """Where a sequence stands in its replica."""

    WAITING = 0
    PREFILL = 1
    DECODE = 2
    ENDING = 3
    """Its last token is being computed: it holds its blocks until that step is over."""
    DONE = 4


class Sequence:
    """Mutable; one per request.

    While it decodes, `generated` is `step - zero`: the replica counts steps, not each sequence.
    """

    __slots__ = (
        "admitted_seconds",
        "computed",
        "end",
        "ends_unseen",
        "finish_seconds",
        "first_seconds",
        "flew_at",
        "flown",
        "generated",
        "grows_at",
        "held",
        "index",
        "lease",
        "opened",
        "pool",
        "preemptions",
        "prompt",
        "replica",
        "request",
        "state",
        "target",
        "zero",
    )

    def __init__(self, index: int, request: Request) -> None:
        """A request that has not arrived yet."""
        self.index, self.request = index, request
        self.prompt, self.target = request.prompt_tokens, request.answered_tokens
        self.ends_unseen = request.max_tokens is None or request.output_tokens < request.max_tokens
        """Whether the engine learns of the end only from the last token (not from a limit that it can count to)."""
        self.state = State.WAITING
        self.computed = self.generated = self.held = self.zero = self.preemptions = 0
        self.opened = 0
        """Bits of the windows that are full and give blocks back."""
        self.flown = self.flew_at = 0
        """Tokens that its last step computed, and which step that was: kept while it matters to windows."""
        self.grows_at = 0
        """Tokens of the answer at which a lease wants to grow; 0 for never."""
        self.lease: object = None
        self.pool = self.replica = -1
        self.admitted_seconds = self.first_seconds = self.finish_seconds = -1.0
        self.end: End | None = None

    @property
    def known(self) -> int:
        """Tokens that must be computed before the next can be sampled: the prompt and, after a preemption, the answer so far."""
        return self.prompt + self.generated
