"""A speed row made ready to be predicted: its model as it was stored, its card, how its ranks shared the work, what was counted."""

import re
from dataclasses import dataclass
from math import isqrt

from vram.accuracy.speed_row import Metric, SpeedRow
from vram.engines.base import Demand, Settings
from vram.errors import UsageError
from vram.hardware.gpu import Gpu
from vram.memory.kv import rank_caches, sequence_bytes
from vram.memory.placement import Placement
from vram.memory.workload import Workload
from vram.model.cache import CacheFormats
from vram.model.format import F8_E4M3, KV_FORMATS
from vram.model.model import Model
from vram.speed.era import build_age, day_age
from vram.speed.spread import Spread
from vram.speed.work import work_of

PROMPT_TOKENS, OUTPUT_TOKENS = 64, 256
"""What a chat benchmark is taken to have asked where it does not say: a line of prompt and a short answer."""
_SILICON = "silicon_sample"
HOST_GPUS = 8
DEFAULT_CONTEXT = 4096
POOL_SHARE = 0.9
"""Of a card's memory, what weights and caches take together: vLLM's and TensorRT-LLM's default."""
LEAST_BESIDE = 3 * 2**27
"""Bytes that a program holds beside its weights at the very least: context, caches, work buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row and all that its prediction looks at.

    Attributes:
        row: the row.
        demand: model, card, placement, workload.
        spread: how its ranks shared a step.
        sequences: sequences at the same time on each copy of attention.
        prompt_tokens: tokens of the prompt.
        output_tokens: tokens of the answer.
        held_tokens: tokens cached before the prompt.
        flag: why it is no evidence, empty when it is.
        note: how its labels were read where they are not taken as they stand.
    """

    row: SpeedRow
    demand: Demand
    spread: Spread
    sequences: int
    prompt_tokens: int
    output_tokens: int
    held_tokens: int
    flag: str
    note: str

    @property
    def years(self) -> float:
        """How old the build was, of the engine whose builds' ages are known: by its number, else by the row's day."""
        if self.row.engine not in {"llama.cpp", "ollama"}:
            return 0.0
        return build_age(self.row.engine_version) or day_age(self.row.date)

    @property
    def mean_tokens(self) -> int:
        """Cached tokens of a sequence when half of its answer is written."""
        return self.held_tokens + self.prompt_tokens + self.output_tokens // 2


def case_of(row: SpeedRow, model: Model, gpu: Gpu) -> Case:
    """The case of a row whose model and card are found.

    Raises:
        UsageError: it says what no plan can be made of.
        PlacementError: its model has fewer layers than it has pipeline stages.
    """
    if not model.layers:
        raise UsageError("what a layer of this model keeps is not known" if not model.caches_known else "the model does not decode")
    tp, dp, sequences, note = _ranks(row)
    layer_split = row.engine in {"llama.cpp", "ollama"}
    pp = row.pp
    if layer_split and tp * pp > 1:
        pp, tp = tp * pp, 1
    placement = Placement(tp=tp, pp=pp, ep=row.ep)
    formats = _formats(row, model)
    prompt = PROMPT_TOKENS if row.input_tokens is None else row.input_tokens
    output = OUTPUT_TOKENS if row.output_tokens is None else row.output_tokens
    demand = Demand(
        model=model,
        gpu=gpu,
        placement=placement,
        workload=Workload(context_tokens=max(1, row.held_tokens + prompt + output), concurrency=sequences, kv_dtype="", formats=formats),
        settings=Settings(version=row.engine_version),
    )
    spread = Spread.of(placement, dp=dp, sequential=layer_split)
    return Case(
        row=row,
        demand=demand,
        spread=spread,
        sequences=sequences if row.metric is Metric.TTFT else min(sequences, _room(demand, spread)),
        prompt_tokens=prompt,
        output_tokens=output,
        held_tokens=row.held_tokens,
        flag=row.flag or _too_large(row, demand, spread),
        note=note,
    )


def _ranks(row: SpeedRow) -> tuple[int, int, int, str]:
    """Ranks of attention, its copies, sequences of each, and how that was read.

    Dumps in aiconfigurator's `silicon_sample.csv` count a run's cards twice where the same cards split attention and hold
    experts: 64 cards for TP 8 and EP 8 on 8, 16 for 4 on 4, and its concurrency as if shared by copies that were not
    there. Every such row whose run is in the file a second time, labelled plainly, has the same figure to the digit there.
    """
    tp, dp, n, sequences = row.tp, row.dp, row.gpus, row.concurrency
    side = isqrt(n)
    if _SILICON in row.source and n > 1 and tp * dp == n and row.expert_ranks > 1:
        # Slicing and dealing at once is a real setting of TensorRT-LLM's, on as many cards as one host has.
        twice = n > HOST_GPUS or row.engine != "tensorrt-llm"
        if row.expert_slices == row.expert_ranks == side and side * side == n and twice:
            if tp > dp:
                return side, 1, sequences, f"TP {tp} of {n} cards is read as TP {side} of {side}"
            told = re.search(r"_c(\d+)_", row.note)
            total = int(told[1]) if told else sequences * dp
            return 1, side, max(1, total // side), f"{dp} copies of attention on {n} cards are read as {side} on {side}"
        if row.expert_slices == 1 and row.expert_ranks == n and tp == dp:
            return tp, 1, sequences * dp, f"{dp} copies of TP {tp} on {n} cards are read as TP {tp} of {tp}"
    return tp, dp, sequences, ""


def _formats(row: SpeedRow, model: Model) -> CacheFormats:
    """The caches' types: as told; in the dumps of `silicon_sample.csv` 8-bit where weights are 8-bit or less, else the model's own.

    The rows do not state it; with 16-bit caches they would have read them at 1.3 to 2 times their cards' bandwidth.
    """
    own = model.cache_formats
    name = row.kv_dtype.lower()
    if name in KV_FORMATS:
        kv = KV_FORMATS[name]
    elif not name and _SILICON in row.source and row.quant in {"fp8", "fp4"}:
        kv = F8_E4M3
    else:
        return own
    return CacheFormats(key=kv, value=kv, conv=own.conv, state=own.state)


def _room(demand: Demand, spread: Spread) -> int:
    """Sequences that a server's caches have room for: those beyond it wait, and slow nobody down."""
    if demand.gpu.unified_memory or spread.sequential:
        return demand.workload.concurrency
    workload = demand.workload
    held = max(w.dense_bytes + w.head_bytes + w.expert_bytes for w in work_of(demand.model, spread, workload.formats))
    each = max(sequence_bytes(caches, workload.context_tokens, workload.formats) for caches in rank_caches(demand.model, demand.placement))
    left = POOL_SHARE * demand.gpu.capacity_bytes - held
    # Where weights nearly fill the card, runs raise the share by hand: nothing can be told.
    return max(1, int(left / each)) if each and left > 0.15 * demand.gpu.capacity_bytes else workload.concurrency


def _too_large(row: SpeedRow, demand: Demand, spread: Spread) -> str:
    """Why a row can't be what it says: its weights and one sequence's cache are more than the memory of its cards.

    Where no lengths are told, a chat program's default context is held. A shared memory of untold size says nothing.
    """
    model, gpu, workload = demand.model, demand.gpu, demand.workload
    if gpu.unified_memory and "GB" not in row.gpu.replace("GB10", ""):
        return ""
    held = max(w.dense_bytes + w.head_bytes + w.expert_bytes for w in work_of(model, spread, workload.formats))
    context = workload.context_tokens if row.input_tokens is not None else DEFAULT_CONTEXT
    cached = max(sequence_bytes(caches, context, workload.formats) for caches in rank_caches(model, demand.placement))
    if held + cached + LEAST_BESIDE <= gpu.capacity_bytes * (1.2 if gpu.unified_memory else 1):  # a unified memory's limit can be raised
        return ""
    size = f"its weights take {held / 1e9:.0f} GB and a sequence's cache {cached / 1e9:.1f} GB of each {gpu.name}"
    return f"{size}: part of them lay elsewhere, or the labels are wrong"
