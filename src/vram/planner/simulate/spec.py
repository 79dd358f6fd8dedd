"""What is simulated: replicas of an engine in pools, and what counts as good service."""

from dataclasses import dataclass

from vram.errors import UsageError
from vram.planner.simulate.blocks import BlockRule
from vram.speed.step import StepClock


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """One replica of an engine that batches continuously, as vLLM V1 does.

    Attributes:
        blocks: KV blocks that sequences can hold (vLLM: `num_gpu_blocks` less the null block).
        rule: blocks of a sequence as it grows.
        clock: how long a step takes.
        max_model_len: tokens of the longest sequence, prompt and answer together.
        max_num_seqs: most sequences in one batch.
        max_batched_tokens: most tokens in one step.
        chunked_prefill: whether a prompt may be computed in several steps.
        watermark_blocks: blocks that stay free when a sequence is admitted beside others.
        asynchronous: whether a step is scheduled while the one before it still runs (vLLM on GPUs since 0.14): what ends or
            arrives during a step is then seen one step later.
        block_bytes: bytes of one block, for ledgers and pictures; 0 when they are not known.
        frontend_seconds: what a request waits before the engine sees it and its first token after it is there, together.
    """

    blocks: int
    rule: BlockRule
    clock: StepClock
    max_model_len: int
    max_num_seqs: int = 256
    max_batched_tokens: int = 2048
    chunked_prefill: bool = True
    watermark_blocks: int = 0
    asynchronous: bool = False
    block_bytes: int = 0
    frontend_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no engine would start with.

        Raises:
            UsageError: a number that makes no sense, or a pool that does not hold one sequence of the greatest length.
        """
        for name in ("blocks", "max_model_len", "max_num_seqs", "max_batched_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", hint="a replica needs at least 1")
        if self.max_batched_tokens < self.max_num_seqs:
            raise UsageError(
                f"{self.max_num_seqs} sequences get one token each in a step of {self.max_batched_tokens} tokens",
                hint=f"--max-num-seqs {self.max_batched_tokens}, or --max-batched-tokens {self.max_num_seqs}",
            )
        if not self.chunked_prefill and self.max_batched_tokens < self.max_model_len:
            raise UsageError(
                f"without chunked prefill a prompt of {self.max_model_len:,} tokens does not fit in a step of {self.max_batched_tokens:,}",
                hint=f"--max-batched-tokens {self.max_model_len}, or leave chunked prefill on",
            )
        need = self.rule.peak(self.max_model_len, self.max_batched_tokens) + self.watermark_blocks
        if need > self.blocks:
            raise UsageError(
                f"a sequence of {self.max_model_len:,} tokens takes {need:,} KV blocks, and the replica has {self.blocks:,}",
                hint="a shorter context (--context), a larger KV pool, or a smaller KV type (--kv-dtype fp8)",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Replicas of one kind behind one name.

    Attributes:
        name: the pool's name.
        replica: what each of them is.
        replicas: how many.
        model: name of the model that it serves.
        dollars_per_hour: price of one replica; None when it is not known.
    """

    name: str
    replica: ReplicaSpec
    replicas: int = 1
    model: str = ""
    dollars_per_hour: float | None = None

    def __post_init__(self) -> None:
        """Refuse a pool of nothing.

        Raises:
            UsageError: no replica.
        """
        if not 1 <= self.replicas <= 4096:
            raise UsageError(f"pool {self.name!r} has {self.replicas} replicas", hint="from 1 to 4,096 replicas are possible")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevel:
    """When a request counts as well served.

    Attributes:
        ttft_seconds: most seconds from arrival to the first token; None: any.
        tpot_seconds: most seconds per token after the first, on average; None: any.
    """

    ttft_seconds: float | None = 2.0
    tpot_seconds: float | None = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearClock:
    """An explicit clock: a fixed time per step and so much per token, for pools whose speed was measured.

    Attributes:
        step_seconds: of every step.
        prefill_token_seconds: of each new prompt token.
        prefill_pair_seconds: of each pair of a prompt token and a token that it attends to.
        decode_sequence_seconds: of each sequence that decodes.
        kv_token_seconds: of each cached token that is read.
    """

    step_seconds: float
    prefill_token_seconds: float = 0.0
    prefill_pair_seconds: float = 0.0
    decode_sequence_seconds: float = 0.0
    kv_token_seconds: float = 0.0

    def seconds(self, prefill_tokens: int, prefill_pairs: int, decode_sequences: int, kv_tokens: int) -> float:
        """Seconds of one step; see `vram.speed.step.StepClock`."""
        return (
            self.step_seconds
            + prefill_tokens * self.prefill_token_seconds
            + prefill_pairs * self.prefill_pair_seconds
            + decode_sequences * self.decode_sequence_seconds
            + kv_tokens * self.kv_token_seconds
        )
