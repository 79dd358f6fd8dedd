"""What one request used: the line that its sums, its log line and its span are made of."""


class Used:
    """One request that ended.

    Attributes:
        at: when it ended, seconds since 1970 (UTC).
        counted: whether the tokens are the engine's own count (else they are estimates).
        kv_byte_seconds: bytes of KV cache that it held, times seconds; what several share, each its part.
        saved_byte_seconds: bytes that it would have held beside these if nothing were shared, times seconds.
        gpu_microseconds: its share of its replica's GPU time.
        nano_dollars: what it cost, in billionths of a dollar: a short request costs some 30 millionths, which would be rounded by percents.
        ttft_seconds: until the first byte of its answer; None where there was none.
        fallback: what was done for it beyond its first pool: "" or larger_pool, other_model, shorter_output, joined by commas.
    """

    __slots__ = (
        "at",
        "completion_tokens",
        "counted",
        "fallback",
        "gpu_microseconds",
        "key",
        "kv_byte_seconds",
        "model",
        "nano_dollars",
        "outcome",
        "pool",
        "prompt_tokens",
        "queue_seconds",
        "replica",
        "request_id",
        "saved_byte_seconds",
        "status",
        "total_seconds",
        "ttft_seconds",
    )

    def __init__(
        self,
        *,
        at: float,
        request_id: bytes,
        key: str,
        model: str,
        pool: str,
        replica: str,
        outcome: str,
        status: int,
        prompt_tokens: int,
        completion_tokens: int,
        counted: bool,
        kv_byte_seconds: int,
        gpu_microseconds: int,
        nano_dollars: int,
        queue_seconds: float,
        ttft_seconds: float | None,
        total_seconds: float,
        fallback: str = "",
        saved_byte_seconds: int = 0,
    ) -> None:
        self.at = at
        self.request_id = request_id
        self.key = key
        self.model = model
        self.pool = pool
        self.replica = replica
        self.outcome = outcome
        self.status = status
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.counted = counted
        self.kv_byte_seconds = kv_byte_seconds
        self.gpu_microseconds = gpu_microseconds
        self.nano_dollars = nano_dollars
        self.queue_seconds = queue_seconds
        self.ttft_seconds = ttft_seconds
        self.total_seconds = total_seconds
        self.fallback = fallback
        self.saved_byte_seconds = saved_byte_seconds
