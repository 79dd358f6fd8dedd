"""llama.cpp as a plan asks it: whole layers on each GPU, the rest on the host. Rules of b11434, older builds where logs tell.

Exact: weights, caches and states per device, logits on the host (llama_cpp.py, llama_cpp_buffers.py). A floor with a
measured band: compute buffers (llama_cpp_compute.py). Bands alone: the driver's context and workspaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Final

from vram.engines.base import Capacity, Demand, Engine, Settings
from vram.engines.draft import Draft
from vram.engines.generic import RUNTIME, RUNTIME_REMOTE, RUNTIME_UNIFIED, UNKNOWN_WORKING
from vram.engines.llama_cpp import PADDING, KvReservation, is_gguf, layer_kinds, reserve_kv
from vram.engines.llama_cpp_buffers import Offload, Spread, cache_spread, offload, weight_spread
from vram.engines.llama_cpp_build import NEWEST, Build, build_of
from vram.engines.llama_cpp_checkpoints import CELL_BYTES, HEAD_BYTES, LEAST, checkpoint_bytes, checkpoints_part
from vram.engines.llama_cpp_compute import compute_spread, head_bytes, streamed_bytes, widths
from vram.engines.llama_cpp_draft import DRAFT_TOKENS, Drafter, drafter, rolls_back
from vram.engines.llama_cpp_host import HOST_VENDOR, on_host
from vram.engines.llama_cpp_lora import DEVICE_ALIGNMENT, HOST_ALIGNMENT, Adapters, lora_spread
from vram.errors import UsageError
from vram.hardware.remote import REMOTE_VENDOR
from vram.memory.curve import KvCurve, KvRoom, Term, blocks
from vram.memory.part import Part, Parts
from vram.memory.placement import layer_count
from vram.model.adapter import Adapter
from vram.model.cache import CacheFormats, ChunkedCache, WindowCache
from vram.model.format import F16, Format
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.mtp import mtp_of
from vram.model.quantization.gguf_mix import gguf_tensors
from vram.model.role import Component, Role
from vram.units import GIB, MIB

# Compute buffers were 6 % more than the closed form at most, and 3 % less, in 841 buffers of 698 runs; 9 % more and 10 %
# less in 1,200 others (tests/oracle/test_llama_cpp_oracle.py). The form is coarser for states and
# latents, and where some layers stay on the host.
COMPUTE_LOW, COMPUTE_LOW_SPLIT, COMPUTE_HIGH, COMPUTE_HIGH_STATES = 0.93, 0.75, 1.10, 1.30
# With few layers on a device or on the host: 36 % less than the form in 23 models at their splits' edges, 75 % with a single one.
COMPUTE_LOW_FEW, COMPUTE_LOW_ONE, FEW_LAYERS = 0.6, 0.2, 12
# The second context on multi-token-prediction layers: 14 % less to 15 % more than the form in 252 buffers of 144 runs.
MTP_LOW, MTP_HIGH = 0.75, 1.25
# Builds before #23861: seven logs that print everything agree to 0.01 MiB with flash attention, and to 1 % without.
OLD_LOW, OLD_HIGH = 0.75, 1.35
PROMPT_CACHE: Final = 8 * GIB
"""`--cache-ram`: prompts of the past, kept on the host (8192 MiB by default). Where that is the GPU's memory, our commands switch it off."""
MMPROJ_COMPUTE: Final = GIB
"""What an image encoder computes in at most, as Ollama leaves free for it (`mmprojOffloadHeadroom`, llm/llama_server.go)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One start of the program: what its flags come to."""

    context: int
    slots: int
    unified: bool
    outputs: int


class LlamaCpp(Engine):
    """llama-server and, with one slot, llama-cli: layers dealt to GPUs, the rest on the host."""

    name = "llama.cpp"
    newest: ClassVar[str | None] = f"b{NEWEST}"
    layer_split = True
    kv_dtype = "f16"

    def build(self, settings: Settings) -> Build:
        """What the version of the settings does."""
        return build_of(settings.version)

    def draft_of(self, settings: Settings) -> Draft | None:
        """What drafts; None for nothing."""
        return settings.draft

    def kv_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """Cells in multiples of 256, slot by slot or shared, of the layers that lie on this GPU; and of those on the host where that is the same memory."""
        if not demand.model.caches_known:
            return 0
        reservation = self._reservation(demand, context_tokens, sequences)
        beside = 0 if self.draft_of(demand.settings) is None else self._draft_kv(demand, stage, context_tokens, sequences)
        where, layers = self.where(demand), reservation.layer_bytes
        if _shared(demand) and (None in where.layers or not demand.settings.kv_offload):
            spread = cache_spread(reservation, where, offload_kqv=demand.settings.kv_offload)
            return beside + spread.devices[stage] + spread.host
        if not demand.settings.kv_offload:
            return beside
        return beside + sum([layers[i] for i in _layers_on(where, stage) if i < len(layers)])

    def _draft_kv(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """Caches of the drafter on one GPU."""
        own = drafter(self, demand)
        if own.layers is None:
            return self.kv_bytes(own.demand, stage, context_tokens, sequences)
        reservation = self._reservation(own.demand, context_tokens, sequences)
        spread = cache_spread(reservation, own.layers, offload_kqv=demand.settings.kv_offload)
        return spread.devices[stage] + (spread.host if _shared(demand) else 0)

    def capacity(self, demand: Demand, stage: int, pool_bytes: int) -> Capacity:
        """What `pool_bytes` hold when all slots are in use: slots of their own come all at once."""
        tokens = demand.workload.context_tokens
        slots = self._run(demand.settings, tokens, demand.workload.concurrency).slots
        taken = self.kv_bytes(demand, stage, tokens, slots)
        if not taken:
            return Capacity(tokens=None, concurrency=None)
        return Capacity(tokens=pool_bytes * tokens * slots // taken, concurrency=pool_bytes * slots / taken)

    def kv_room(self, demand: Demand, stage: int, pool_bytes: int) -> KvRoom:  # noqa: ARG002  (the cache is reserved whole when the context is made)
        """Cells that slots share, or slots that each have theirs: nothing more is taken while requests run."""
        w = demand.workload
        run = self._run(demand.settings, w.context_tokens, w.concurrency)
        held = self.kv_bytes(demand, stage, w.context_tokens, w.concurrency)
        if run.unified:
            unit = -(-held // run.context)
            return KvRoom(curve=blocks(unit, 1), capacity_bytes=unit * run.context, context_tokens=run.context, max_sequences=run.slots, firm=True)
        slot = -(-held // run.slots)
        curve = KvCurve(terms=(Term(slot, 1, 0, 1),))
        return KvRoom(curve=curve, capacity_bytes=slot * run.slots, context_tokens=w.context_tokens, max_sequences=run.slots, firm=True)

    def breakpoints(self, demand: Demand, stage: int) -> Sequence[int]:  # noqa: ARG002  (all devices have the same)
        """Windows that fill up, batches that no longer grow."""
        build, s = self.build(demand.settings), demand.settings
        ubatch = s.ubatch or build.ubatch
        slots = max(s.parallel or build.slots, demand.workload.concurrency)
        found = {ubatch, s.max_batched_tokens or build.batch}
        for kind in layer_kinds(demand.model)[0]:
            for c in kind:
                if isinstance(c, (WindowCache, ChunkedCache)):
                    window = c.window if isinstance(c, WindowCache) else c.chunk
                    found |= {window, window + ubatch, window * slots + ubatch}
        return sorted(found)

    def working_bytes(self, demand: Demand, stage: int, context_tokens: int, sequences: int) -> int:
        """The compute buffer of this GPU, and the host's where that is the same memory, without what fragments add."""
        unified = demand.gpu.unified_memory
        if demand.gpu.vendor == HOST_VENDOR:
            spread = self._compute(replace(demand, settings=replace(demand.settings, gpu_layers=0)), context_tokens, sequences)
            rows = self._reservation(demand, context_tokens, sequences).output_bytes if demand.model.caches_known else 0
            return rows + (UNKNOWN_WORKING[0] if spread is None else spread.host)
        spread = self._compute(demand, context_tokens, sequences)
        size = UNKNOWN_WORKING[0] if spread is None else spread.devices[stage] + self._streamed(demand) + (spread.host if unified else 0)
        if self.draft_of(demand.settings) is not None:
            own = drafter(self, demand)
            beside = self._compute(own.demand, context_tokens, sequences, own)
            size += beside.devices[stage] + (beside.host if unified else 0) if beside is not None else 0
        return size

    def parts(self, demand: Demand, stage: int) -> Parts:
        """All that one GPU holds at the worst instant of the demand."""
        if demand.gpu.vendor == HOST_VENDOR:
            return on_host(
                dict(self.host_parts(demand)), self._kv_part(demand, stage), self.kept(demand, demand.workload.context_tokens, demand.workload.concurrency)
            )
        model, unified_memory = demand.model, demand.gpu.unified_memory
        where = self.where(demand)
        draft = self.draft_of(demand.settings)
        held = _weights(_as_gguf(model), where, draft is not None and draft.model is None)
        size, drafts = held.devices[stage], _drafts(_as_gguf(model), where, stage)
        layers = len(_layers_on(where, stage))
        why = f"{layers} of {layer_count(model)} layers{' and the output' if where.output == stage else ''}"
        if model.quantization and not is_gguf(model) and not model.quantization.upper().startswith(("Q", "IQ", "TQ", "MXFP4")):
            why += f"; as stored ({model.quantization}): llama.cpp needs it converted to a GGUF"
        low, high = size, size
        if drafts and draft is not None and draft.model is None:
            why += f"; {drafts / GIB:.2f} GiB are multi-token-prediction layers"
        elif drafts:
            # Builds before `load_mtp` loaded them with the rest.
            why += f"; {drafts / GIB:.2f} GiB of multi-token-prediction layers are only loaded for speculative decoding (--draft mtp)"
            high += drafts
        if unified_memory:
            why += ", and what stays on the host: it is the same memory"
            size, low, high = size + held.host, low + held.host, high + held.host
        weights = Part(bytes=size, low=low, high=high, source="header" if model.source == "header" else "formula", why=why)
        remote = demand.gpu.vendor == REMOTE_VENDOR
        expected, low, high = RUNTIME_REMOTE if remote else RUNTIME_UNIFIED if unified_memory else RUNTIME
        why = "what grows of a driver that is loaded already" if remote else "driver context, kernels, cuBLAS workspaces"
        runtime = Part(bytes=expected, low=low, high=high, source="formula", why=f"{why}; pools grew by 0.29 GiB under load")
        if unified_memory and (kept := self.kept(demand, demand.workload.context_tokens, demand.workload.concurrency)) is not None:
            runtime = _joined(runtime, kept, kept.why)
        made = Parts(
            weights=weights,
            kv_cache=self._kv_part(demand, stage),
            activations=self._compute_part(demand, stage),
            cuda_graphs=Part.exact(0, "formula", "captured graphs reuse the compute buffer"),
            runtime=runtime,
            communication=Part.exact(0, "formula", "layers hand over one batch; copies for it are in the compute buffer"),
        )
        if demand.settings.lora:
            made = self._with_lora(made, demand, stage)
        return made if draft is None else self._with_draft(made, demand, stage)

    def _with_lora(self, parts: Parts, demand: Demand, stage: int) -> Parts:
        """The parts with the adapters' buffers, and what their products compute in."""
        adapters, found = demand.settings.lora, self._lora(demand)
        least, size, most = (s.devices[stage] + (s.host if demand.gpu.unified_memory else 0) for s in (found.least, found.expected, found.most))
        w, ubatch = parts.weights, demand.settings.ubatch or self.build(demand.settings).ubatch
        weights = Part(bytes=w.bytes + size, low=w.low + least, high=w.high + most, source=w.source, why=f"{w.why}; {size / GIB:.2f} GiB of {_told(adapters)}")
        # The products of A, and one of B as wide as the widest linear, beside what the linear itself gives.
        rows = min(ubatch, demand.workload.context_tokens)
        extra = 4 * rows * (sum(a.rank for a in adapters) + widths(demand.model).inner) if size else 0
        a = parts.activations
        work = Part(bytes=a.bytes, low=a.low, high=a.high + extra, source=a.source, why=f"{a.why}; adapters' products beside it, up to {extra / MIB:.0f} MiB")
        return replace(parts, weights=weights, activations=work)

    def _lora(self, demand: Demand) -> Adapters:
        alignment = DEVICE_ALIGNMENT if demand.gpu.vendor.lower() in {"nvidia", "amd"} else HOST_ALIGNMENT
        return lora_spread(_as_gguf(demand.model), self.where(demand), demand.settings.lora, alignment=alignment)

    def _with_draft(self, parts: Parts, demand: Demand, stage: int) -> Parts:
        """The parts with the drafter's own: weights, caches and compute buffer beside the target's."""
        own = drafter(self, demand)
        name = own.name
        if own.layers is None:
            beside = self.parts(own.demand, stage)
            weights = _joined(parts.weights, beside.weights, f"{beside.weights.bytes / GIB:.2f} GiB of {name}: {beside.weights.why}")
            work = beside.activations
        else:
            weights = parts.weights
            work = self._mtp_part(own, stage)
        w = demand.workload
        kept = self._draft_kv(demand, stage, w.context_tokens, w.concurrency)
        return replace(
            parts,
            weights=weights,
            kv_cache=replace(parts.kv_cache, why=f"{parts.kv_cache.why}; {kept / GIB:.2f} GiB of them of {name}, f16"),
            activations=_joined(parts.activations, work, f"{work.bytes / MIB:.0f} MiB for {name}: {work.why}"),
        )

    def host(self, demand: Demand) -> tuple[tuple[str, Part], ...]:
        """What lies in the host's memory, where that is not the place of all of it anyway (then `parts` has it)."""
        return () if demand.gpu.vendor == HOST_VENDOR else self.host_parts(demand)

    def host_parts(self, demand: Demand) -> tuple[tuple[str, Part], ...]:
        """What lies in the host's memory, buffer by buffer; all of it where the host is all there is."""
        if demand.gpu.vendor == HOST_VENDOR:
            demand = replace(demand, settings=replace(demand.settings, gpu_layers=0))
        model, w = demand.model, demand.workload
        where = self.where(demand)
        draft = self.draft_of(demand.settings)
        held = _weights(_as_gguf(model), where, draft is not None and draft.model is None)
        repacked = _repackable(_as_gguf(model), where)
        why = "embeddings are looked up on the host"
        if repacked:
            why = (
                f"embeddings and {sum(1 for p in where.layers if p is None)} layers; {repacked / GIB:.2f} GiB of them are held twice where the CPU repacks them"
            )
        weights = Part(
            bytes=held.host,
            low=held.host,
            high=max(held.host, _mapped(_as_gguf(model), where)) + repacked,
            source="header" if model.source == "header" else "formula",
            why=f"{why}; mapped from the file",
        )
        found = [("weights", weights)]
        if model.caches_known:
            r = self._reservation(demand, w.context_tokens, w.concurrency)
            kept = cache_spread(r, where, offload_kqv=demand.settings.kv_offload).host
            if kept:
                found.append(("kv_cache", Part.exact(kept, "formula", "of the layers on the host")))
            found.append(("output", Part.exact(r.output_bytes, "formula", "a row of logits a slot")))
        spread = self._compute(demand, w.context_tokens, w.concurrency)
        if spread is not None:
            factor = self._factors(demand)[1]
            why = "inputs of a batch" if None not in where.layers else "inputs and layers of a batch"
            size = spread.host
            # Unlike a device's, the host's share of old builds is known where all layers are offloaded.
            low = int(size * min(self._factors(demand)[0], low_of(where, None)))
            compute = Part(bytes=size, low=low, high=int(size * factor) + 8 * MIB, source="calibrated", why=why)
            found.append(("compute", compute))
        if (kept_back := self._checkpoints(demand, w.context_tokens, w.concurrency)) is not None:
            found.append(("checkpoints", kept_back))
        if self.build(demand.settings).prompt_cache and not _shared(demand):
            why = "llama-server keeps prompts of the past, 8 GiB at most (--cache-ram)"
            found.append(("prompt_cache", Part(bytes=0, low=0, high=PROMPT_CACHE, source="formula", why=why)))
        if demand.settings.lora:
            lora = self._lora(demand)
            least, size, most = (s.host for s in (lora.least, lora.expected, lora.most))
            if most:
                found.append(("lora", Part(bytes=size, low=least, high=most, source="formula", why=f"{_told(demand.settings.lora)}, of what lies on the host")))
        if draft is not None:
            found += self._draft_host(demand)
        found.append(("runtime", Part(bytes=300 * MIB, low=20 * MIB, high=GIB, source="formula", why="the process, vocabulary and libraries")))
        return tuple(found)

    def _draft_host(self, demand: Demand) -> list[tuple[str, Part]]:
        """What the drafter keeps in the host's memory, its parts under names of their own."""
        own = drafter(self, demand)
        w = demand.workload
        if own.layers is None:
            return [(f"draft_{name}", part) for name, part in self.host(own.demand) if name in {"weights", "kv_cache", "output", "compute"}]
        r = self._reservation(own.demand, w.context_tokens, w.concurrency)
        kept = cache_spread(r, own.layers, offload_kqv=demand.settings.kv_offload).host
        found = [("draft_kv_cache", Part.exact(kept, "formula", "of the multi-token-prediction layers on the host"))] if kept else []
        found.append(("draft_output", Part.exact(r.output_bytes, "formula", "a row of logits a slot")))
        spread = self._compute(own.demand, w.context_tokens, w.concurrency, own)
        if spread is not None:
            size = spread.host
            compute = Part(bytes=size, low=int(size * MTP_LOW), high=int(size * MTP_HIGH) + 8 * MIB, source="calibrated", why="inputs of the second context")
            found.append(("draft_compute", compute))
        return found

    def kept(self, demand: Demand, context_tokens: int, sequences: int) -> Part | None:
        """Checkpoints of past prompts, where the host's memory is the GPU's."""
        return self._checkpoints(demand, context_tokens, sequences) if _shared(demand) else None

    def _checkpoints(self, demand: Demand, context_tokens: int, sequences: int) -> Part | None:
        """What all slots keep in the host's memory, the drafter's beside the target's."""
        s, formats = demand.settings, demand.workload.formats
        build = self.build(s)
        # Where they take the GPU's own memory our commands say how many there may be: one at least, and what else there is room for.
        default = min(build.checkpoints, LEAST) if _shared(demand) else build.checkpoints
        most = default if s.ctx_checkpoints is None or not build.checkpoints else s.ctx_checkpoints
        if not most or not demand.model.caches_known:
            return None
        full = s.swa_full or build.full_windows
        cells = self._reservation(demand, context_tokens, sequences).window_cells if build.whole_windows else 0
        one = checkpoint_bytes(demand.model, context_tokens, formats.key, formats.value, full, cells)
        if one and self.draft_of(s) is not None:
            one += self._drafted(demand, context_tokens, sequences, full=full)
        return checkpoints_part(one, most, self._run(s, context_tokens, sequences).slots, sequences) if one else None

    def _drafted(self, demand: Demand, context_tokens: int, sequences: int, *, full: bool) -> int:
        """What a drafter adds to a checkpoint: what it could not be rolled back to; of a cache that keeps every token, all of it (PR #28873 is open)."""
        own = drafter(self, demand)
        if own.layers is None and (one := checkpoint_bytes(own.demand.model, context_tokens, F16, F16, full, 0)):
            return one
        r = self._reservation(own.demand, context_tokens, sequences)
        held = r.context_bytes
        if own.layers is not None:
            spread = cache_spread(r, own.layers)
            held = spread.host + sum(spread.devices)
        return -(-held * context_tokens // r.context_tokens) + CELL_BYTES * context_tokens + HEAD_BYTES if r.context_tokens else 0

    # What the flags come to

    def _run(self, settings: Settings, context_tokens: int, sequences: int) -> _Run:
        build = self.build(settings)
        slots = max(settings.parallel or build.slots, sequences)
        unified = settings.kv_unified if settings.kv_unified is not None else build.unified and settings.parallel is None
        # Slots that share a cache need room for the sequences that are there; slots of their own are all equally long.
        context = context_tokens * (sequences if unified else slots)
        ubatch = settings.ubatch or build.ubatch
        rows = ubatch if build.all_logits else slots
        if (draft := self.draft_of(settings)) is not None and not build.all_logits:
            # A row for every token that is verified (server_output_limits).
            rows = min(slots * (1 + (draft.tokens or DRAFT_TOKENS)), settings.max_batched_tokens or max(build.batch, ubatch))
        return _Run(context=context, slots=slots, unified=unified, outputs=settings.output_rows or rows)

    def where(self, demand: Demand) -> Offload:
        """Which GPU holds which layer; those that predict further tokens count, loaded or not.

        Raises:
            UsageError: not one share for each GPU.
        """
        s, gpus = demand.settings, demand.placement.pp
        shares = s.tensor_split or demand.free_bytes or (1.0,) * gpus
        if len(shares) != gpus:
            raise UsageError(f"--tensor-split names {len(shares)} shares for {gpus} GPUs", hint="give one share for each GPU")
        past = mtp_of(demand.model)
        layers = len(demand.model.layers) or layer_count(demand.model)
        return _offload(layers + (past.layers if past is not None else 0), s.gpu_layers, tuple(shares))

    def _reservation(self, demand: Demand, context_tokens: int, sequences: int) -> KvReservation:
        s, build = demand.settings, self.build(demand.settings)
        run = self._run(s, context_tokens, sequences)
        formats, draft = demand.workload.formats, self.draft_of(s)
        return _reserve(
            demand.model,
            run.context,
            run.slots,
            formats,
            s.ubatch or build.ubatch,
            s.max_batched_tokens or max(build.batch, s.ubatch or 0),
            PADDING if s.flash_attention else build.padding,
            unified=run.unified,
            swa_full=s.swa_full or build.full_windows,
            flash_attention=s.flash_attention,
            snapshots=(draft.tokens or DRAFT_TOKENS) if draft is not None and draft.model is None and rolls_back(demand.model) else 0,
        )

    def _compute(self, demand: Demand, context_tokens: int, sequences: int, own: Drafter | None = None, reserved: KvReservation | None = None) -> Spread | None:
        """The compute buffers, beside what is `reserved` where the caller knows it."""
        s, build = demand.settings, self.build(demand.settings)
        if not demand.model.caches_known:
            return None
        run = self._run(s, context_tokens, sequences)
        return compute_spread(
            demand.model,
            reserved or self._reservation(demand, context_tokens, sequences),
            own.within if own is not None and own.within is not None else self.where(demand),
            n_parallel=run.slots,
            n_outputs=run.outputs,
            type_k=_ggml_type(demand.workload.formats.key),
            flash_attention=s.flash_attention,
            offload_kqv=s.kv_offload,
            reserves_all_logits=build.all_logits,
            drafting=own.layers if own is not None else None,
        )

    def _streamed(self, demand: Demand) -> int:
        """CUDA multiplies large batches with host weights that it copies over; other backends leave that to the CPU."""
        if demand.gpu.vendor.lower() not in {"nvidia", "amd"}:
            return 0
        where = self.where(demand)
        if where.output is not None and None not in where.layers:
            return 0
        model = _as_gguf(demand.model)
        layer = streamed_bytes(model, where)
        build, g = self.build(demand.settings), model.geometry
        if where.output is not None or not build.all_logits:
            return layer
        # The lm_head, too, and the whole batch's logits: 248.54 and 548.18 MiB of two logs without a layer on the GPU.
        ubatch = min(demand.settings.ubatch or build.ubatch, demand.workload.context_tokens)
        return max(layer, head_bytes(model) + 4 * ubatch * (g.vocab_size + 2 * g.hidden_size))

    def _factors(self, demand: Demand) -> tuple[float, float]:
        if self.build(demand.settings).all_logits:
            return OLD_LOW, OLD_HIGH
        w, split = widths(demand.model), None in self.where(demand).layers
        return COMPUTE_LOW_SPLIT if split else COMPUTE_LOW, COMPUTE_HIGH_STATES if w.mixer or w.rotary else COMPUTE_HIGH

    def _mtp_part(self, own: Drafter, stage: int) -> Part:
        """The second context's compute buffer, where the multi-token-prediction layers are computed."""
        w = own.demand.workload
        spread = self._compute(own.demand, w.context_tokens, w.concurrency, own)
        if spread is None:
            expected, low, high = UNKNOWN_WORKING
            return Part(bytes=expected, low=low, high=high, source="formula", why="a second context: no closed form is known for this architecture")
        size = spread.devices[stage] + (spread.host if own.demand.gpu.unified_memory else 0)
        if not size:
            return Part.exact(0, "formula", "a second context, computed elsewhere")
        return Part(
            bytes=size,
            low=int(size * MTP_LOW),
            high=int(size * MTP_HIGH) + 8 * MIB,
            source="calibrated",
            why="a second context; 144 dry runs of 3 architectures",
        )

    def _compute_part(self, demand: Demand, stage: int) -> Part:
        w = demand.workload
        return self.compute_part(demand, stage, self._compute(demand, w.context_tokens, w.concurrency))

    def compute_part(self, demand: Demand, stage: int, spread: Spread | None) -> Part:
        """The compute buffer of one GPU, of those that `spread` gives; None: nothing is known of the model's widths."""
        w, where = demand.workload, self.where(demand)
        if spread is None:
            expected, low, high = UNKNOWN_WORKING
            return Part(
                bytes=expected, low=low, high=high, source="formula", why="no closed form is known for this architecture: a guess that covers common ones"
            )
        streamed = self._streamed(demand)
        size, (low_factor, high_factor) = spread.devices[stage], self._factors(demand)
        low_factor = min(low_factor, low_of(where, stage))
        run = self._run(demand.settings, w.context_tokens, w.concurrency)
        ubatch = demand.settings.ubatch or self.build(demand.settings).ubatch
        if not size and not streamed and not demand.gpu.unified_memory and not (stage == 0 and _towers(demand.model)):
            return Part.exact(0, "formula", "nothing is computed here")
        high = int(size * high_factor) + 8 * MIB
        why = f"a physical batch of {ubatch} tokens, {run.outputs} row{'s' if run.outputs != 1 else ''} of logits"
        if None in where.layers:
            # Experts that choose on the host, six rows of the stream in one run; and a second copy that is on its way.
            high += 8 * 4 * ubatch * widths(demand.model).hidden + streamed + (spread.host if streamed else 0)
            why += f"; {streamed / GIB:.2f} GiB for weights of the host on their way" if streamed else ""
        low = int(size * low_factor)
        if stage == 0 and _towers(demand.model):
            high += MMPROJ_COMPUTE
            why += "; the image encoder's own buffer is not known: up to 1 GiB"
        size += streamed
        if demand.gpu.unified_memory:
            size, high, why = size + spread.host, high + int(spread.host * high_factor), f"{why}, and the host's share"
        return Part(
            bytes=size, low=low, high=max(high, size), source="calibrated", why=f"{why}; 698 dry runs" if not self.build(demand.settings).all_logits else why
        )

    def _kv_part(self, demand: Demand, stage: int) -> Part:
        w, model = demand.workload, demand.model
        if not model.caches_known:
            high = w.concurrency * w.context_tokens * 4 * model.geometry.hidden_size * max(layer_count(model), 1)
            return Part(bytes=0, low=0, high=high, source="formula", why="unknown: nothing tells what this architecture keeps per token")
        run = self._run(demand.settings, w.context_tokens, w.concurrency)
        r = self._reservation(demand, w.context_tokens, w.concurrency)
        slots = "1 slot" if run.slots == 1 else f"{run.slots:,} slots {'that share it' if run.unified else 'of their own'}"
        parts = [f"{r.cells * r.streams:,} cells"] if r.cells else []
        parts += [f"{r.window_cells * r.streams:,} window cells"] if r.window_cells else []
        parts += [f"{r.recurrent_bytes / MIB:.0f} MiB of 32-bit states"] if r.recurrent_bytes else []
        size = self.kv_bytes(demand, stage, w.context_tokens, w.concurrency)
        return Part.exact(size, "formula", f"{', '.join(parts) or 'no cache'} for {slots}, {w.kv_dtype}")


def _shared(demand: Demand) -> bool:
    """Whether the host's memory is the GPU's."""
    return demand.gpu.unified_memory or demand.gpu.vendor == HOST_VENDOR


_PLAIN: Final = frozenset({"BF16", "F16", "F32"})
# common/arg.cpp, kv_cache_types
_CACHED: Final = _PLAIN | {"Q8_0", "Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1"}


def _ggml_type(fmt: Format) -> Format:
    """The cache's type as it was asked for.

    Raises:
        UsageError: llama.cpp keeps no cache of that type.
    """
    if fmt.name not in _CACHED:
        raise UsageError(f"llama.cpp keeps no cache of type {fmt.name}", hint=f"one of {', '.join(sorted(n.lower() for n in _CACHED))}")
    return fmt


@lru_cache(maxsize=64)
def _reserve(
    model: Model,
    context: int,
    slots: int,
    formats: CacheFormats,
    ubatch: int,
    batch: int,
    padding: int,
    *,
    unified: bool,
    swa_full: bool,
    flash_attention: bool,
    snapshots: int,
) -> KvReservation:
    """One context's caches: a plan asks for those of each length once for every GPU, and once more for the compute buffer."""
    return reserve_kv(
        model,
        n_ctx=context,
        n_parallel=slots,
        unified=unified,
        type_k=_ggml_type(formats.key),
        type_v=_ggml_type(formats.value),
        n_ubatch=ubatch,
        n_batch=batch,
        swa_full=swa_full,
        flash_attention=flash_attention,
        n_rs_seq=snapshots,
        padding=padding,
    )


@lru_cache(maxsize=512)
def _offload(layers: int, wanted: int | None, shares: tuple[float, ...]) -> Offload:
    return offload(layers, n_gpu_layers=wanted, shares=shares)


def low_of(where: Offload, place: int | None) -> float:
    """How far below the closed form the compute buffer of a place may be: few layers need not have the widest among them."""
    layers = len(_layers_on(where, place))
    return COMPUTE_LOW_ONE if layers == 1 else COMPUTE_LOW_FEW if 0 < layers < FEW_LAYERS and layers < len(where.layers) else 1.0


@lru_cache(maxsize=256)
def _layers_on(where: Offload, stage: int | None) -> tuple[int, ...]:
    return tuple(i for i, place in enumerate(where.layers) if place == stage)


@lru_cache(maxsize=64)
def _as_gguf(model: Model) -> Model:
    """The model as llama.cpp's converter would write it: norms in 32 bits. Quantised ones stay as they are."""
    if is_gguf(model) or model.quantization:
        return model
    mix = model.dtype.name if model.dtype.name in _PLAIN else "BF16"
    try:
        return replace(model, tensors=gguf_tensors(model.tensors, model.geometry, model.model_type, mix))
    except UsageError:
        return model


def _told(adapters: tuple[Adapter, ...]) -> str:
    """Adapters in words."""
    ranks = sorted({a.rank for a in adapters})
    return f"{len(adapters)} LoRA adapter{'s' if len(adapters) > 1 else ''} of rank {' and '.join(map(str, ranks[-2:]))}"


def _joined(part: Part, beside: Part, why: str) -> Part:
    return Part(bytes=part.bytes + beside.bytes, low=part.low + beside.low, high=part.high + beside.high, source=part.source, why=f"{part.why}; {why}")


@lru_cache(maxsize=256)
def _weights(model: Model, where: Offload, mtp: bool) -> Spread:  # noqa: FBT001  (a key, not a switch)
    return weight_spread(model, where, mtp=mtp)


@lru_cache(maxsize=256)
def _drafts(model: Model, where: Offload, stage: int) -> int:
    past = mtp_of(model)
    if past is None:
        return 0
    return weight_spread(model, where, mtp=True).devices[stage] - weight_spread(model, where).devices[stage]


@once_per_model
def _towers(model: Model) -> bool:
    return any(t.component in {Component.VISION, Component.AUDIO} for t in model.tensors)


@lru_cache(maxsize=256)
def _mapped(model: Model, where: Offload) -> int:
    """What is mapped of a GGUF for the host: from its first tensor to the last, and those between that lie elsewhere (llama_model_loader::get_mapping_range)."""
    if not is_gguf(model):
        return 0
    sizes, first, last = 0, None, 0
    for t in model.tensors:
        on_host = where.layers[t.layer] is None if t.layer is not None and t.layer < len(where.layers) else t.role in {Role.EMBEDDING, Role.POSITION}
        first = sizes if on_host and first is None else first
        sizes += t.nbytes
        last = sizes if on_host else last
    return last - (first or 0)


# Types that ggml's CPU backend repacks for its wide instructions (ggml-cpu/repack.cpp).
_REPACKED: Final = frozenset({"Q4_0", "Q4_K", "Q2_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"})


@lru_cache(maxsize=256)
def _repackable(model: Model, where: Offload) -> int:
    return sum(
        t.nbytes for t in model.tensors if t.layer is not None and t.layer < len(where.layers) and where.layers[t.layer] is None and t.format.name in _REPACKED
    )
