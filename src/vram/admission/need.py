"""What one request needs, as far as it can be known before it runs."""

from typing import Any

from vram.admission.learn import OutputTokens


class Need:
    """One request, in tokens. A plain object with slots: one is made for every request of a gateway.

    Attributes:
        prompt_tokens: of each sequence; estimated from above where no tokenizer was asked.
        expected_tokens: output that most requests like it do not pass, at most `most_tokens`.
        most_tokens: output that it may have at most, by its own word; None when it set no limit.
        sequences: sequences that it makes (`n`, prompts of a batch).
        streams: whether its progress can be watched.
        priority: higher ones go first.
        key: whose it is: keys share a queue fairly.
        arrived: when it came, in seconds of the caller's clock.
        deadline: until when it may wait; None: as long as the line allows.
        affinity: what requests that begin alike have in common, as a number above 0; 0: nothing.
        kin: what requests with one beginning have in common, as a number above 0; 0: nothing that is worth a look.
        beside: of those that may have killed an engine, how many may be in a replica together with it, itself among them; 0: it is none.
        law: what is known of how long answers like its own get; None: it gets as long as expected.
        passed: how many later ones were let past it.
    """

    __slots__ = (
        "affinity",
        "arrived",
        "beside",
        "deadline",
        "expected_tokens",
        "key",
        "kin",
        "law",
        "most_tokens",
        "owner",
        "passed",
        "priority",
        "prompt_tokens",
        "sequences",
        "streams",
    )

    def __init__(
        self,
        prompt_tokens: int,
        expected_tokens: int,
        most_tokens: int | None = None,
        *,
        sequences: int = 1,
        streams: bool = True,
        priority: int = 0,
        key: str = "",
        arrived: float = 0.0,
        deadline: float | None = None,
        affinity: int = 0,
        kin: int = 0,
        owner: Any = None,
        law: OutputTokens | None = None,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.expected_tokens = expected_tokens if most_tokens is None or expected_tokens < most_tokens else most_tokens
        self.most_tokens = most_tokens
        self.sequences = sequences
        self.streams = streams
        self.priority = priority
        self.key = key
        self.arrived = arrived
        self.deadline = deadline
        self.affinity = affinity
        self.kin = kin
        self.beside = 0
        self.law = law
        self.passed = 0
        self.owner = owner
        """Whoever asked, for its own use; never looked at here."""
