"""vLLM, 0.6 to 0.33: what each rank holds, and the KV pool that it takes when it starts.

The pool is utilization x the device's total, as CUDA reports it, less weights, the profile run's peak, workspaces and (from 0.20)
an estimate of the CUDA graphs (vllm/v1/worker/gpu_worker.py, determine_available_memory). The CUDA context and, before 0.20, the
graphs lie outside of that budget. Versions differ as release.py lists; what is measured stands in constants.py.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from typing import Any, ClassVar

from vram.engines.base import Capacity, Demand, Engine, RankGap, Settings
from vram.engines.draft import is_head
from vram.engines.vllm import profile
from vram.engines.vllm.buffers import per_token
from vram.engines.vllm.draft import drafted, tokens_of, with_columns
from vram.engines.vllm.kv_layout import MOST_TOKENS, Layout, LayoutError, lay_out
from vram.engines.vllm.kv_layout import Settings as LayoutSettings
from vram.engines.vllm.lora import lora_bytes, slots_of
from vram.engines.vllm.quirks import formats_of, kept
from vram.engines.vllm.release import NEWEST, Release, release_of
from vram.engines.vllm.weights import Resident, resident
from vram.hardware.gpu import Gpu
from vram.memory.curve import KvCurve, KvRoom
from vram.memory.curve import Term as CurveTerm
from vram.memory.kv import rank_caches, sequence_bytes
from vram.memory.part import Part, Parts
from vram.memory.placement import Placement, Stage, layer_count, stages
from vram.model.cache import Cache, CacheFormats, ChunkedCache, CrossCache, FullCache, LatentCache, StateCache, WindowCache
from vram.model.format import F32
from vram.model.model import Model
from vram.units import GIB, MIB

KERNEL_BLOCK = 16
"""Smallest block of vLLM's CUDA and ROCm attention kernels (v1/attention/backends/*.py, get_supported_kernel_block_sizes)."""
CPU_BLOCK, CPU_KERNEL_BLOCK, CPU_LATENT_BLOCK = 128, 32, 16
"""The CPU's default block, the smallest of CPU_ATTN, and that of its MLA kernel without AMX (platforms/cpu.py, cpu_attn.py, cpu_mla.py)."""
SPARSE_BLOCK = 64
"""Block of sparse MLA (flashmla_sparse.py, indexer.py) on CUDA, and of MLA kernels on Blackwell (flashinfer_mla.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How one rank comes to its KV pool, in bytes.

    Attributes:
        requested: utilization x the device's total.
        weights: the model as loaded.
        activations: the profile run's peak above it.
        non_torch: memory beside torch's that the profile run added.
        graphs: CUDA graphs.
        graphs_deducted: what of them is taken off the pool.
        context: in use before vLLM counts, outside the budget.
        pool: what is left; negative when the weights and the peak alone exceed the request.
        pool_low: the least that it may be.
        pool_high: the most.
        batch: the batch that is profiled.
        layout: how the pool is dealt; None when the model keeps nothing, or its mix of layers has pages that are not known.
    """

    requested: int
    weights: Part
    activations: profile.Band
    non_torch: profile.Band
    graphs: profile.Band
    graphs_deducted: int
    context: profile.Band
    pool: int
    pool_low: int
    pool_high: int
    batch: profile.Batch
    layout: Layout | None


class Vllm(Engine):
    """vLLM's rules by version."""

    name = "vllm"
    pools: ClassVar[bool] = True
    newest = ".".join(map(str, NEWEST))

    def __init__(self) -> None:
        # The planner asks for the same demand some twenty times in a row; hashing all of it each time costs more than the answer.
        self._last: tuple[Demand, int, Layout | None] | None = None

    def budget(self, demand: Demand, stage: int) -> Budget:
        """How one rank of a stage comes to its KV pool.

        Raises:
            UsageError: the settings name no version of vLLM.
        """
        return _budget(demand.model, demand.gpu, demand.placement, stage, demand.settings, demand.workload.formats, demand.workload.context_tokens)

    def kv_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """Whole blocks of so many sequences and, from 0.29, the null block; logical bytes where the pages are not known."""
        layout = self._layout(demand, stage)
        if layout is not None:
            return layout.held_bytes(context_tokens, sequences)
        return sequences * sequence_bytes(rank_caches(demand.model, demand.placement)[stage], context_tokens, demand.workload.formats)

    def _layout(self, demand: Demand, stage: int) -> Layout | None:
        last = self._last
        if last is not None and last[0] is demand and last[1] == stage:
            return last[2]
        release = release_of(demand.settings.version)
        found = _layout(demand.model, demand.gpu, demand.placement, stage, demand.settings, release, demand.workload.formats, demand.workload.context_tokens)
        self._last = demand, stage, found
        return found

    def capacity(self, demand: Demand, stage: int, pool_bytes: int) -> Capacity:
        """The token count and the concurrency that vLLM prints."""
        layout = self._layout(demand, stage)
        if layout is None:
            return super().capacity(demand, stage, pool_bytes)
        release = release_of(demand.settings.version)
        blocks = max(layout.blocks(pool_bytes), 0)
        if release.tokens_from_concurrency:
            return Capacity(tokens=layout.tokens(blocks), concurrency=layout.concurrency(blocks))
        if not release.hybrid:
            tokens = blocks * layout.block_size
            return Capacity(tokens=tokens, concurrency=tokens / layout.settings.max_model_len)
        return Capacity(tokens=blocks // len(layout.groups) * layout.block_size, concurrency=layout.concurrency(blocks))

    def kv_room(self, demand: Demand, stage: int, pool_bytes: int) -> KvRoom:
        """Whole blocks of every group's table, as many as a sequence has while it generates; the null block is nobody's.

        In a window's table a prompt has more than it keeps, but only while it is computed, and no step computes more than its batch: that
        is set aside once. Where it would be more than a quarter of the pool, each sequence is charged for its own.
        """
        layout = self._layout(demand, stage)
        if layout is None:
            return super().kv_room(demand, stage, pool_bytes)
        unit, blocks = layout.bytes_per_block, max(layout.blocks(pool_bytes) - 1, 0)
        terms, aside = layout.while_generating()
        if 4 * aside > blocks:
            terms, aside = layout.terms, 0
        return KvRoom(
            curve=KvCurve(terms=tuple(CurveTerm(unit * n, t.block_size, t.most_tokens, t.extra) for t, n in Counter(terms).items())),
            capacity_bytes=(blocks - aside) * unit,
            block_bytes=unit,
            aside_bytes=aside * unit,
            context_tokens=layout.settings.max_model_len,
            max_sequences=self.budget(demand, stage).batch.sequences,
        )

    def rank_gap(self, gpu: Gpu, placement: Placement) -> RankGap:
        """What the ranks' figures in truth/engine_logs.jsonl say."""
        return profile.rank_gap(placement, gpu)

    def working_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:  # noqa: ARG002  (the profile run is what counts)
        """The profile run's peak: vLLM sets it aside whatever then runs."""
        return self.budget(demand, stage).activations.bytes

    def breakpoints(self, demand: Demand, stage: int) -> Sequence[int]:
        """Lengths at which windows and chunks take no more blocks."""
        layout = self._layout(demand, stage)
        if layout is None:
            return ()
        return sorted({t.most_tokens for t in layout.terms if 0 < t.most_tokens < MOST_TOKENS})

    def parts(self, demand: Demand, stage: int) -> Parts:
        """All that one rank holds once vLLM has started."""
        b = self.budget(demand, stage)
        release = release_of(demand.settings.version)
        withheld = max(demand.gpu.capacity_bytes - demand.gpu.engine_total_bytes, 0)
        context = b.context
        # 0.8 counts the context inside its budget: it is in the workspaces already.
        outside = 0 if release.context_counts else 1
        runtime = Part(bytes=context.bytes * outside, low=context.low * outside, high=context.high * outside + withheld, source="calibrated", why=context.why)
        return Parts(
            weights=b.weights,
            kv_cache=self._pool(b, demand, release),
            activations=_calibrated(b.activations),
            cuda_graphs=_calibrated(b.graphs),
            runtime=runtime,
            communication=_calibrated(b.non_torch),
        )

    @staticmethod
    def _pool(b: Budget, demand: Demand, release: Release) -> Part:
        if demand.settings.kv_pool_bytes is not None:
            return Part.exact(demand.settings.kv_pool_bytes, "formula", "as given (--kv-cache-memory-bytes)")
        share = b.requested / max(demand.gpu.engine_total_bytes, 1)
        total = demand.gpu.engine_total_bytes / GIB
        deducted = ", CUDA graphs" if b.graphs_deducted else ""
        why = f"{share:.2f} x {total:.2f} GiB less weights, activations, workspaces{deducted} (vLLM {release.label})"
        if b.layout is not None:
            why += f"; {len(b.layout.groups)} layer group{'' if len(b.layout.groups) == 1 else 's'}, blocks of {b.layout.block_size} tokens"
        elif demand.model.layers:
            why += "; how it is dealt to this mix of layers is not known: logical bytes are counted"
        return Part(bytes=max(b.pool, 0), low=max(b.pool_low, 0), high=max(b.pool_high, 0), source="calibrated", why=why)


def _calibrated(band: profile.Band) -> Part:
    return Part(bytes=band.bytes, low=band.low, high=band.high, source="calibrated", why=band.why)


@lru_cache(maxsize=256)
def _budget(model: Model, gpu: Gpu, placement: Placement, stage: int, settings: Settings, formats: CacheFormats, max_model_len: int) -> Budget:
    release = release_of(settings.version)
    batch = profile.batch_of(settings, gpu, release, max_model_len)
    layers = stages(layer_count(model), placement.pp)[stage]
    utilization = settings.gpu_memory_utilization if settings.gpu_memory_utilization is not None else release.utilization
    requested = int(gpu.engine_total_bytes * utilization)
    weights = _weights_part(
        resident(model, placement, stage, release, gpu),
        model,
        placement,
        gpu,
        batch.tokens if stage == 0 else 0,
        mtp=settings.draft is not None and settings.draft.model is None,
    )
    peak = profile.activation_peak(model, placement, stage, batch, release, gpu)
    drafts = settings.draft is not None and stage == placement.pp - 1
    if settings.lora:
        weights = _with_lora(weights, lora_bytes(model, placement, stage, slots_of(settings.lora)), settings)
    if drafts:
        weights, peak = _with_draft(weights, settings, model, placement), profile.with_verification(peak, model, batch)
    beside = profile.non_torch(placement, release, gpu)
    graphs = profile.graphs(model, placement, layers.last - layers.first, release, gpu)
    graphs = profile.with_drafter(graphs) if drafts else graphs
    around = profile.context(placement, gpu)
    if settings.enforce_eager or release.cpu:
        graphs = profile.Band(bytes=0, low=0, high=0, why="no CUDA graphs with --enforce-eager" if settings.enforce_eager else "no CUDA graphs on a CPU")
    if release.cpu:
        beside = profile.Band(bytes=0, low=0, high=2 * GIB, why="not known for a CPU")
        around = profile.Band(bytes=0, low=0, high=2 * GIB, why="the process itself; not known for a CPU")
    deducted = graphs if release.graphs_deducted and (profile.is_nvidia(gpu) or release.version >= (0, 29)) else None
    fixed = (weights.bytes, peak.bytes, beside.bytes, deducted.bytes if deducted else 0)
    most = (weights.high, peak.high, beside.high, deducted.high if deducted else 0)
    # Graphs may have been switched off (--enforce-eager), or their estimate (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS=0).
    least = (weights.low, peak.low, beside.low, 0)
    pool, down, up = pool_of(requested, fixed, most, least, other_programs(gpu.engine_total_bytes) if gpu.unified_memory else 0)
    if model.caches_known and not any(layer.caches for layer in model.layers):
        pool, down, up = 0, 0, 0  # encoders keep nothing, and no pool is taken for them
    if settings.kv_pool_bytes is not None:
        pool, down, up = settings.kv_pool_bytes, 0, 0
    return Budget(
        requested=requested,
        weights=weights,
        activations=peak,
        non_torch=beside,
        graphs=graphs,
        graphs_deducted=deducted.bytes if deducted else 0,
        context=around,
        pool=pool,
        pool_low=pool - down,
        pool_high=pool + up,
        batch=batch,
        layout=_layout(model, gpu, placement, stage, settings, release, formats, max_model_len),
    )


def pool_of(
    requested: Any,
    fixed: Sequence[Any],
    most: Sequence[Any],
    least: Sequence[Any],
    others: Any = 0,
    *,
    real: Callable[[Any], Any] = float,
    root: Callable[[Any], Any] = sqrt,
    integer: Callable[[Any], Any] = int,
) -> tuple[Any, Any, Any]:
    """The pool, and how much less or more it may be: of numbers, or of arrays with the functions of arrays.

    Parts are wrong independently of each other: the pool's band is their deviations' root of squares, never less than one MiB.
    """

    def apart(lower: Sequence[Any], upper: Sequence[Any]) -> Any:
        a, b, c, d = (real(high - low) for low, high in zip(lower, upper, strict=True))
        return integer(root(a * a + b * b + c * c + d * d)) + MIB + others

    return requested - fixed[0] - fixed[1] - fixed[2] - fixed[3], apart(fixed, most), apart(least, fixed)


def other_programs(total: Any) -> Any:
    """What they free or fill meanwhile on shared memory counts as vLLM's: -3.6 to 49 GiB of "non-torch" in logs of GB10 and Orin."""
    return total // 20


def _with_lora(weights: Part, size: int, settings: Settings) -> Part:
    """The weights with the adapters' buffers, which are there from the load on."""
    slots = slots_of(settings.lora)
    why = f"{weights.why}; {size / GIB:.2f} GiB for {slots.count} LoRA adapter{'s' if slots.count > 1 else ''} of rank {slots.rank}"
    return Part(bytes=weights.bytes + size, low=weights.low + int(size * 0.7), high=weights.high + int(size * 1.25), source=weights.source, why=why)


def _with_draft(weights: Part, settings: Settings, model: Model, placement: Placement) -> Part:
    """The weights with the drafter's, which are loaded with the model."""
    draft = settings.draft
    if draft is None:
        return weights
    found = drafted(model, draft, placement)
    name = "the multi-token-prediction layers" if draft.model is None else draft.name
    why = f"{weights.why}; {found.weight_bytes / GIB:.2f} GiB of {name}, {found.tokens} token{'s' if found.tokens > 1 else ''} at a time"
    if found.shared_bytes:
        why += ", its embedding and head shared with the model"
    slack = found.weight_bytes // 100 + 4 * MIB
    return Part(
        bytes=weights.bytes + found.weight_bytes,
        low=weights.low + found.weight_bytes - slack,
        # A head whose embedding or lm_head differs from the target's keeps its own.
        high=weights.high + found.weight_bytes + slack + (found.shared_bytes if draft.model is not None else 0),
        source=weights.source,
        why=why,
    )


def _weights_part(held: Resident, model: Model, placement: Placement, gpu: Gpu, batched_tokens: int, *, mtp: bool = False) -> Part:
    """Weights with the band that the rows justify: tight for plain types on NVIDIA, wider where kernels may keep copies."""
    why = "headers of the files" if model.source == "header" else "tensors that the config describes"
    if model.quantization:
        why += f", {model.quantization}"
    if placement.tp > 1 and held.whole_bytes >= 5 * MIB:
        why += f"; {held.whole_bytes / GIB:.2f} GiB on every rank"
    buffers = batched_tokens * per_token(model)
    extras = (
        (buffers, "rows for each batched token"),
        (held.rotary_bytes, "rotary table"),
        (held.copied_bytes, "keys and values that the checkpoint shares"),
        (held.unlisted_bytes, "audio tower that the config leaves out"),
        (held.absorbed_bytes, "MLA's absorbed projections"),
        (held.padded_bytes, "padding of kernels"),
        (held.wasted_bytes, "whole segments of torch's allocator"),
    )
    why += "".join(f"; {size / GIB:.2f} GiB {what}" for size, what in extras if size >= 5 * MIB)
    if held.doubtful_bytes + held.possible_bytes >= 5 * MIB:
        why += f"; {(held.doubtful_bytes + held.possible_bytes) / GIB:.2f} GiB that not every build or checkpoint takes"
    if held.draft_bytes and not mtp:
        why += f"; {held.draft_bytes / GIB:.2f} GiB of multi-token-prediction layers are not loaded"
    size, low, high = weight_band(
        held.bytes,
        held.doubtful_bytes,
        held.possible_bytes,
        buffers,
        amd=profile.is_amd(gpu),
        copies=bool(model.quantization or held.absorbed_bytes),
        repacks=bool(model.quantization and model.geometry.experts),
    )
    return Part(
        bytes=size,
        low=low,
        high=high,
        source="header" if model.source == "header" else "formula",
        why=why,
    )


def weight_band(
    held: Any,
    doubtful: Any,
    possible: Any,
    buffers: Any,
    *,
    amd: bool,
    copies: Any,
    repacks: Any,
    choose: Callable[[Any, Any, Any], Any] = lambda told, yes, no: yes if told else no,
    most: Callable[[Any, int], Any] = max,
    integer: Callable[[Any], Any] = int,
) -> tuple[Any, Any, Any]:
    """Weights expected, least and most: of numbers, or of arrays with the functions of arrays.

    Args:
        held: bytes that loading takes.
        doubtful: what of them some builds do not take.
        possible: what some take beside.
        buffers: rows for batched tokens; the offline class batches four times as many as the server does.
        amd: ROCm's kernels.
        copies: kernels may keep copies of quantised weights, and MLA's projections are kept twice.
        repacks: kernels repack and pad quantised experts: 4 to 10 % more than the checkpoint in 9 rows (Maverick FP8, DeepSeek NVFP4, Kimi K2).
        choose: `yes if told else no`.
        most: the greater.
        integer: the whole part.
    """
    below, above = (0.02, 0.04) if amd else (choose(copies, 0.01, 0.004), choose(copies, 0.03, 0.006))
    above = choose(repacks, 0.10, above)
    slack = 30 * MIB
    return held + buffers, most(integer((held - doubtful) * (1 - below)) - slack, 0), integer((held + possible) * (1 + above)) + slack + 4 * buffers


def _layout(
    model: Model, gpu: Gpu, placement: Placement, stage: int, settings: Settings, release: Release, formats: CacheFormats, max_model_len: int
) -> Layout | None:
    tokens = profile.batch_of(settings, gpu, release, max_model_len).tokens
    # Only the blocks of states without attention are as long as a request; else one layout serves every length.
    length = max_model_len if _keeps_states(model) else 1
    found = _laid_out(model, gpu, placement, stage, settings, release, formats, tokens, length)
    if found is None or length == max_model_len:
        return found
    return replace(found, settings=replace(found.settings, max_model_len=max_model_len))


@lru_cache(maxsize=64)
def _keeps_states(model: Model) -> bool:
    return any(isinstance(c, StateCache) for layer in model.layers for c in layer.caches)


@lru_cache(maxsize=512)
def _laid_out(
    model: Model, gpu: Gpu, placement: Placement, stage: int, settings: Settings, release: Release, formats: CacheFormats, batched_tokens: int, length: int
) -> Layout | None:
    part = stages(layer_count(model), placement.pp)[stage]
    caches = tuple((i, c) for i, c in _rank_caches(model, placement, part) if release.v1 or not isinstance(c, StateCache))
    tokens, modules, drafts = 0, 1, 0
    if settings.draft is not None:
        tokens = tokens_of(model, settings.draft)
        caches = tuple((i, with_columns(c, tokens)) for i, c in caches)
        if part.is_last:
            beside = drafted(model, settings.draft, placement)
            if caches and beside.caches and all(isinstance(c, StateCache) for _, c in caches):
                return None  # blocks of states alone are as long as a request; what an attention beside them makes of that is not known
            caches, modules, drafts = caches + beside.caches, min(beside.modules, tokens), len(beside.caches)
    if not release.hybrid:
        caches = tuple((i, _in_full(c)) for i, c in caches)
    if not caches:
        return None
    asked = LayoutSettings(
        max_model_len=length,
        max_batched_tokens=batched_tokens,
        block_size=_cpu_block_size(model, settings, release) if release.cpu else _block_size(caches, settings, release, gpu),
        kernel_block=CPU_KERNEL_BLOCK if release.cpu else KERNEL_BLOCK,
        prefix_caching=release.hybrid_prefixes if settings.prefix_caching is None else settings.prefix_caching,
        batches_in_flight=1 if release.batches_in_flight == 1 else max(placement.pp, release.batches_in_flight),
        near_equal=release.near_equal,
        speculative_tokens=tokens,
        retained_tokens=tokens - 1 if modules > 1 else 0,
        null_block=release.null_block,
        checkpoints=release.checkpoints,
    )
    try:
        return lay_out(caches, _stored(formats_of(model, formats), model, release), asked, drafts)
    except LayoutError:
        return None


@lru_cache(maxsize=256)
def _rank_caches(model: Model, placement: Placement, part: Stage) -> tuple[tuple[int, Cache], ...]:
    return tuple((i, c.split(placement.tp)) for i, c in kept(model) if part.first <= i < part.last)


def _in_full(cache: Cache) -> Cache:
    """Before 0.9 windows, chunks and an encoder's keys take as many blocks as full attention."""
    if isinstance(cache, (WindowCache, ChunkedCache, CrossCache)):
        return FullCache(kv_heads=cache.kv_heads, key_dim=cache.key_dim, value_dim=cache.value_dim)
    return cache


def _block_size(caches: Sequence[tuple[int, Cache]], settings: Settings, release: Release, gpu: Gpu) -> int:
    """Tokens of a block: 16, or as asked for in multiples of 16; MLA and sparse attention on NVIDIA have their own."""
    asked = -(-(settings.block_size or KERNEL_BLOCK) // KERNEL_BLOCK) * KERNEL_BLOCK
    latent = [c for _, c in caches if isinstance(c, LatentCache)]
    if not latent or not profile.is_nvidia(gpu) or not release.v1:
        return asked
    if any(c.index_bytes for c in latent):
        return max(asked, SPARSE_BLOCK)
    hopper = gpu.compute_capability.startswith("9")
    return max(asked, release.latent_block if hopper else SPARSE_BLOCK if gpu.compute_capability.startswith("1") else KERNEL_BLOCK)


def _cpu_block_size(model: Model, settings: Settings, release: Release) -> int:
    """Tokens of a block on a CPU: 128, or as asked for; its MLA kernel without AMX takes 16 alone.

    vLLM looks at one model at a time (platforms/cpu.py, `check_and_update_config`), a draft model after its target (draft_model.py,
    `_create_draft_vllm_config`), and both write to one `CacheConfig`. MLA writes 16 whatever was asked for, others 128 unless something
    was. So beside a draft model that is not MLA an MLA model gets 128, which its kernel then refuses: such a server does not start.
    """
    latent = [_is_latent(model)]
    if settings.draft is not None and settings.draft.model is not None and not is_head(settings.draft.model):
        latent.append(_is_latent(settings.draft.model))
    if not release.amx and (latent[-1] or (settings.block_size and any(latent))):
        return CPU_LATENT_BLOCK
    return settings.block_size or CPU_BLOCK


def _is_latent(model: Model) -> bool:
    return any(isinstance(c, LatentCache) for _, c in kept(model))


def _stored(formats: CacheFormats, model: Model, release: Release) -> CacheFormats:
    """States have the model's own type (`--mamba-cache-dtype auto`), whatever keys and values have; on most CPUs the SSM's are float32."""
    return CacheFormats(key=formats.key, value=formats.value, conv=model.dtype, state=F32 if release.wide_states else model.dtype)
