"""What a plan asks of an engine: the parts that one rank holds, and what it reserves for a number of sequences.

Engines hold what changes every month; each is one file beside this one, found by its name in registry.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from vram.engines.draft import Draft
from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu
from vram.memory.curve import KvRoom, sampled
from vram.memory.part import Part, Parts
from vram.memory.placement import Placement
from vram.memory.workload import Workload
from vram.model.adapter import Adapter
from vram.model.model import Model

DEFAULT_SEQUENCES: Final = 256
"""Sequences in one batch of an engine that states no limit of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The engine's own settings, as its launch flags name them; None is the engine's default.

    Attributes:
        version: the engine's version, empty for the newest that is known.
        gpu_memory_utilization: share of a GPU's memory that the engine may use, 0 to 1.
        max_num_seqs: most sequences in one batch.
        max_batched_tokens: most tokens in one step (the chunk of a chunked prefill).
        block_size: tokens of one KV block.
        kv_pool_bytes: bytes of the KV pool per GPU when it is known.
        enforce_eager: no CUDA graphs are captured (vLLM's `--enforce-eager`, SGLang's `--disable-cuda-graph`).
        prefix_caching: whether blocks of equal prefixes are shared (vLLM's `--enable-prefix-caching`).
        ubatch: llama.cpp's physical batch (`-ub`).
        parallel: llama.cpp's slots (`-np`).
        flash_attention: whether attention is fused, so that scores are never held.
        gpu_layers: llama.cpp's `-ngl`: layers on GPUs, counted from the last, the output as the last one.
        tensor_split: llama.cpp's `-ts`: shares of the GPUs; empty for their free memory.
        kv_unified: llama.cpp's `-kvu`: slots share one cache.
        kv_offload: false for llama.cpp's `-nkvo`: caches stay on the host.
        swa_full: llama.cpp's `--swa-full`: windowed layers keep every token.
        ctx_checkpoints: llama.cpp's `--ctx-checkpoints`: checkpoints of past prompts that a slot keeps.
        output_rows: rows of logits that llama.cpp reserves at most.
        draft: what drafts tokens for the model; None for nothing.
        lora: LoRA adapters that serve at once.
    """

    version: str = ""
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None
    max_batched_tokens: int | None = None
    block_size: int | None = None
    kv_pool_bytes: int | None = None
    enforce_eager: bool = False
    prefix_caching: bool | None = None
    ubatch: int | None = None
    parallel: int | None = None
    flash_attention: bool = True
    gpu_layers: int | None = None
    tensor_split: tuple[float, ...] = ()
    kv_unified: bool | None = None
    kv_offload: bool = True
    swa_full: bool = False
    ctx_checkpoints: int | None = None
    output_rows: int | None = None
    draft: Draft | None = None
    lora: tuple[Adapter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One model on one placement of one kind of GPU with one workload: all that an engine's rules may look at.

    Attributes:
        model: the model.
        gpu: the GPU whose rank is meant.
        placement: how the model is spread.
        workload: what it is planned for.
        settings: the engine's settings.
        free_bytes: of an engine that splits by layers: free memory of each GPU used, in order.
    """

    model: Model
    gpu: Gpu
    placement: Placement
    workload: Workload
    settings: Settings
    free_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a pool holds, as the engine prints it.

    Attributes:
        tokens: the token count that the engine prints; None when sequences keep nothing.
        concurrency: sequences of the workload's context, not rounded; None when sequences keep nothing.
    """

    tokens: int | None
    concurrency: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankGap:
    """Ranks of one stage do not find equally much memory: the poorest one's pool decides, the first one's is what is printed.

    Attributes:
        bytes: how much less the poorest has.
        doubt_bytes: how far that may be off.
    """

    bytes: int = 0
    doubt_bytes: int = 0


class Engine(ABC):
    """An engine's memory rules. Methods are pure; `stage` is the pipeline stage whose ranks are meant.

    Two kinds: most take what a workload needs; some (`pools`) take one KV pool of all that is left when they start, and a
    workload has to fit in there.
    """

    name: ClassVar[str]
    pools: ClassVar[bool] = False
    """Whether the engine takes all that is left as one KV pool when it starts: then `parts().kv_cache` is that pool."""

    heeds: ClassVar[frozenset[str] | None] = None
    """Fields of `Settings` that change its answers, None for all; a plan says which of those asked for it does not heed."""
    layer_split: ClassVar[bool] = False
    """Whether it deals whole layers to the GPUs (stages) where others split every tensor."""
    copies_in_tp: ClassVar[bool] = False
    """Whether its tensor-parallel ranks count those of all copies of attention (`--dp`)."""
    dense_over_all: ClassVar[bool] = False
    """Whether it splits MLPs and the head over all copies of attention."""
    kv_dtype: ClassVar[str | None] = None
    """Type of a KV cache that nobody asked a type for; None: the model's own."""

    newest: ClassVar[str | None] = None
    """The newest version whose rules are known, None where versions do not matter; a plan says so of one that is later."""

    def default_context(self, model: Model, fleet: Fleet, settings: Settings) -> int | None:  # noqa: ARG002  (engines that have one look at them)
        """Tokens of a context that nobody asked a length for; None: the planner's own."""
        return None

    def host(self, demand: Demand) -> tuple[tuple[str, Part], ...]:  # noqa: ARG002  (engines that tell look at it)
        """What lies in the host's memory, part by part; empty where the engine's rules do not tell."""
        return ()

    @abstractmethod
    def kv_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """Bytes that one rank reserves for `sequences` sequences of `context_tokens` tokens each."""

    def capacity(self, demand: Demand, stage: int, pool_bytes: int) -> Capacity:
        """What a pool of `pool_bytes` on one rank holds in sequences of the workload's context."""
        one = self.kv_bytes(demand, stage, demand.workload.context_tokens, 1)
        if not one:
            return Capacity(tokens=None, concurrency=None)
        return Capacity(tokens=pool_bytes * demand.workload.context_tokens // one, concurrency=pool_bytes / one)

    def rank_gap(self, gpu: Gpu, placement: Placement) -> RankGap:  # noqa: ARG002  (engines that know look at them)
        """How much smaller the pool of a stage's poorest rank is than its first rank's."""
        return RankGap()

    def kv_room(self, demand: Demand, stage: int, pool_bytes: int) -> KvRoom:
        """How a pool of `pool_bytes` on one rank is handed out to sequences: what each takes as it grows, how many there may be.

        Engines that hand out blocks or slots say so; the others' caches grow token by token.
        """
        context = demand.workload.context_tokens
        return KvRoom(
            curve=sampled(lambda tokens: self.kv_bytes(demand, stage, tokens, 1), self.breakpoints(demand, stage), context),
            capacity_bytes=max(pool_bytes, 0),
            context_tokens=context,
            max_sequences=demand.settings.max_num_seqs or DEFAULT_SEQUENCES,
        )

    @abstractmethod
    def parts(self, demand: Demand, stage: int) -> Parts:
        """All that one rank holds at the worst instant of the demand."""

    @abstractmethod
    def working_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """Expected working memory of one forward pass on one rank (the `bytes` of the part `activations`)."""

    def kept(self, demand: Demand, context_tokens: int, sequences: int) -> Part | None:  # noqa: ARG002  (engines that keep some look at it)
        """What it keeps of past requests in the memory of the demand's GPU, among its `parts`; it comes with them, after the first ones. None: nothing."""
        return None

    @abstractmethod
    def breakpoints(self, demand: Demand, stage: int) -> Sequence[int]:
        """Context lengths, ascending, between which `kv_bytes` and `working_bytes` are linear in the context."""
