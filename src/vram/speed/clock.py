"""The seconds of one engine step: a roofline over the work of each stage, with the calibrated rates of engine and card.

A step's weights are read once, for all of its tokens; its operations grow with the tokens. Each kind of work (dense layers,
output layer, experts, attention) takes the longer of its bytes and its operations, rounded where both are alike; what a
layer takes beside that, and the exchange between ranks, is added.
"""

from dataclasses import dataclass
from typing import Any

from vram.engines.base import Demand
from vram.engines.registry import engine as engine_named
from vram.errors import UsageError
from vram.hardware.gpu import Gpu
from vram.speed.calibration import WEIGHTS_16_BITS, Entry, entry_for
from vram.speed.era import build_age
from vram.speed.rates import Rates
from vram.speed.spread import Spread
from vram.speed.step import StepClock
from vram.speed.unpacking import unpacking
from vram.speed.work import Work, work_of

SLOW_LINK = 16e9
"""Bytes a second of a link that the catalogue does not tell: PCIe 3.0 x16, what any host has."""
LLAMA_CPP = frozenset({"llama.cpp", "ollama"})
LOCAL = LLAMA_CPP | {"mlx"}
"""Engines whose kernels for a lone sequence unpack weights beside multiplying them, and are launched one by one."""
RECURRENT = 2
"""Times as long as another's that what no byte explains takes of a recurrent layer there: its convolution, gates, norms of keys and queries and
the state's own update are kernels each. Chosen among 1, 1.5, 2 and 3 by leaving every card out (truth/speed/README.md)."""
ROCM_VECTORS = 0.7
"""Share of the vector units' work, against Vulkan's kernels, that ROCm's do while they unpack: chosen likewise among 0.5 to 1; pairs of rows that
one source measured on one card differ by 1.04 to 1.39, the most where most is unpacked."""
SAMPLING_SECONDS = 2e-9
"""What llama.cpp's sampler takes on the host for every entry of the vocabulary: it copies its logit into a list of candidates and sorts the
largest out. Chosen among 1, 2 and 3 ns as `RECURRENT` was."""
HOP_MESSAGES = 10
"""Handing a step to the next stage waits for this many exchanges' time: it is not overlapped, as an exchange is."""
_NO_PEAK = 1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class StageClock:
    """One stage's work in seconds per unit, on its card at an engine's rates."""

    work: Work
    rates: Rates
    dense_read: float
    head_read: float
    expert_read: float
    cache_byte: float
    dense_token: float
    head_row: float
    expert_token: float
    decode_pair: float
    decode_windows: tuple[float, ...]
    prefill_pair: float
    fixed: float
    sampled_row: float
    message_token: float

    def seconds(self, prefill_tokens: float, prefill_pairs: float, decode_sequences: float, kv_tokens: float) -> float:
        """Seconds of one step of this stage."""
        tokens = prefill_tokens + decode_sequences
        rows = decode_sequences or 1
        total = self.fixed + roof(self.dense_read, self.dense_token * tokens) + roof(self.head_read, self.head_row * rows)
        if self.expert_read:
            total += roof(self.expert_read * self.work.expert_share(tokens), self.expert_token * tokens)
        if decode_sequences:
            held = kv_tokens / decode_sequences
            ops = self.decode_pair * kv_tokens
            for one, (_, window) in zip(self.decode_windows, self.work.reads.windows, strict=True):
                ops += one * decode_sequences * min(held, window)
            total += (
                roof(self.cache_byte * decode_sequences * self.work.reads.at(held), ops) + (self.rates.sequence_seconds + self.sampled_row) * decode_sequences
            )
        if prefill_tokens:
            held = prefill_pairs / prefill_tokens
            total += self.prefill_pair * prefill_pairs
            for one, (_, window) in zip(self.decode_windows, self.work.reads.windows, strict=True):
                total += one * prefill_tokens * min(held, window)
        return total + self.message_token * tokens


def roof(reading: float, computing: float) -> float:
    """The longer of two times that overlap, rounded where they are alike."""
    return float((reading**4 + computing**4) ** 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock(StepClock):
    """The clock of one replica.

    Attributes:
        stages: its pipeline stages.
        spread: how its ranks share a step.
        entry: the calibration that it stands on.
    """

    stages: tuple[StageClock, ...]
    spread: Spread
    entry: Entry

    def seconds(self, prefill_tokens: float, prefill_pairs: float, decode_sequences: float, kv_tokens: float) -> float:
        """Seconds of one step (see `StepClock.seconds`).

        Where pipeline stages overlap, each works on its share of the sequences at a time, and a sequence's token passes all.
        """
        share = 1.0 if self.spread.sequential else float(self.spread.pp)
        n, p = decode_sequences / share, prefill_tokens / share
        if decode_sequences and n < 1:
            n, share = 1.0, float(decode_sequences)
        kv = kv_tokens / share
        pairs = prefill_pairs / self.spread.pp if not self.spread.sequential else prefill_pairs
        total = self.entry.rates.step_seconds + HOP_MESSAGES * self.entry.rates.message_seconds * (self.spread.pp - 1)
        for stage in self.stages:
            total += stage.seconds(p, pairs, n, kv)
        return total


def clock(demand: Demand, engine: str) -> Clock:
    """The step clock of a demand under an engine.

    Args:
        demand: model, card, placement, workload and settings.
        engine: name of the engine.

    Raises:
        UsageError: no such engine, or the card's bandwidth is not known.
        PlacementError: more stages than layers.
    """
    rules = engine_named(engine)
    return clock_over(demand, rules.name, Spread.of(demand.placement, sequential=rules.layer_split))


def unknown(gpu: Gpu) -> str:
    """Why nothing is said of a card's speed; empty when there is nothing against it."""
    return "" if gpu.bandwidth_bytes_per_second else f"the memory bandwidth of {gpu.name} is not known"


def peak_flops(gpu: Gpu, computes_in: str) -> float | None:
    """Operations a second of the type that kernels compute in on that card; None when not known.

    Where the card lacks the type, weights are unpacked and multiplied at 16 bits (weight-only kernels).
    """
    own: float | None = getattr(gpu.tflops, computes_in, None)
    best = own or gpu.tflops.half
    return None if best is None else best * 1e12


def engine_peak(engine: str, gpu: Gpu, computes_in: str, stored_bits: float) -> float | None:
    """`peak_flops` of what an engine's kernels multiply in.

    llama.cpp multiplies quantised weights as 8-bit integers where NVIDIA's matrix units can, and 16-bit ones with 16-bit
    sums, which is half that rate on every such card (GeForce cards halve their 32-bit sums only).
    """
    if engine in LLAMA_CPP and gpu.vendor == "NVIDIA" and gpu.tflops.int8 and gpu.tflops.half:
        return gpu.tflops.int8 * (1e12 if stored_bits < WEIGHTS_16_BITS else 0.5e12)
    return peak_flops(gpu, computes_in)


def vector_flops(engine: str, gpu: Gpu, quantization: str = "", backend: str = "") -> float | None:
    """Operations a second of the units that unpack quantised weights for a single sequence; None where nothing is known to wait for them.

    Kernels for one sequence multiply on them too, the longer the more a `quantization` takes to unpack (speed/unpacking.py), so a card with little beside much bandwidth (GTX 1050 Ti, MI50) is held up by
    arithmetic before its memory is. Volta's and Turing's issue integers beside floats, which later cards' figures count already.
    Apple states no such rate (the figures that are told stand on reports, and of M5 on nothing), and all of its chips have about as much of it a
    byte: what unpacking takes there is in the share of bandwidth.
    """
    if engine not in LOCAL or gpu.vector_tflops is None or gpu.vendor == "Apple":
        return None
    rate = gpu.vector_tflops * (2e12 if gpu.architecture in {"Volta", "Turing"} else 1e12)
    return rate * (ROCM_VECTORS if backend == "ROCm" else 1.0) / unpacking(quantization)


def launched_layers(engine: str, layers: Any, recurrent: Any) -> Any:
    """So many layers of the plain kind would take as long beside their bytes: recurrent ones count `RECURRENT` times where kernels are launched one by one.

    Numbers or arrays.
    """
    return layers + (RECURRENT - 1) * recurrent if engine in LOCAL else layers


def sampling_seconds(engine: str, head_ops: Any, message_bytes: Any) -> Any:
    """What sampling a token takes on the host beside the card's work; numbers or arrays.

    Args:
        engine: whose sampler.
        head_ops: operations of the output layer for a token, two for each of hidden size times vocabulary.
        message_bytes: a token's activations, two bytes for each of hidden size.
    """
    return SAMPLING_SECONDS * head_ops / message_bytes if engine in LLAMA_CPP else 0.0 * head_ops


def clock_over(demand: Demand, engine: str, spread: Spread, *, years: float | None = None, backend: str = "", samples: bool = True) -> Clock:
    """`clock` for a spread that a plan's placement cannot say (data-parallel attention).

    Args:
        demand: model, card, placement, workload and settings.
        engine: name of the engine.
        spread: how ranks share a step.
        years: how old the engine's build is; None: as old as the version of the settings, today's where it names no build.
        backend: what the kernels were written for, where it is known (`ROCm`, `Vulkan`, `CUDA`, `Metal`, `SYCL`); empty: it is not.
        samples: whether tokens are sampled: a server does, llama-bench does not.

    Raises:
        UsageError: no such engine, or the card's bandwidth is not known.
        PlacementError: more stages than layers.
    """
    gpu, model = demand.gpu, demand.model
    bandwidth = gpu.bandwidth_bytes_per_second
    if not bandwidth:
        raise UsageError(unknown(gpu), hint="name a card whose bandwidth the catalogue knows: vram gpus")
    works = work_of(model, spread, demand.workload.formats)
    age = (build_age(demand.settings.version) if engine in LLAMA_CPP else 0.0) if years is None else years
    entry = entry_for(engine, gpu, works[0].stored_bits, experts=works[-1].experts > 0, version=demand.settings.version, years=age)
    vector = vector_flops(engine, gpu, model.quantization, backend)
    return Clock(stages=tuple(_stage(w, gpu, bandwidth, entry.rates, spread, engine, vector, samples=samples) for w in works), spread=spread, entry=entry)


def _read(reading: float, operations: float, r: Rates, vector: float | None) -> float:
    """Seconds in which weights come in: read, and unpacked, whatever the number of tokens."""
    return reading if vector is None else roof(reading, operations / (r.vector_share * vector))


def _stage(w: Work, gpu: Gpu, bandwidth: float, r: Rates, spread: Spread, engine: str, vector: float | None, *, samples: bool) -> StageClock:
    dense, expert = (r.compute_share * (engine_peak(engine, gpu, t, w.stored_bits) or _NO_PEAK) for t in (w.dense_type, w.expert_type))
    half = engine_peak(engine, gpu, "bf16", 16) or _NO_PEAK
    attention = r.attention_share * half
    link = (gpu.link.bytes_per_second if gpu.link else None) or SLOW_LINK
    ranks = spread.expert_ranks
    exchanges = 2 * w.layers if ranks > 1 else 0
    return StageClock(
        work=w,
        rates=r,
        dense_read=_read(w.dense_bytes / (r.memory_share * bandwidth), w.dense_ops, r, vector),
        head_read=_read(w.head_bytes / (r.memory_share * bandwidth), w.head_ops, r, vector),
        expert_read=_read(w.expert_bytes / (r.expert_share * bandwidth), w.all_expert_ops, r, vector),
        cache_byte=1 / (r.cache_share * bandwidth),
        dense_token=w.dense_ops / dense,
        head_row=w.head_ops / (r.compute_share * half),
        expert_token=w.expert_ops / expert,
        decode_pair=w.decode_pair / attention,
        decode_windows=tuple(one / attention for one in w.decode_windows),
        prefill_pair=w.prefill_pair / attention,
        fixed=r.layer_seconds * launched_layers(engine, w.layers, w.recurrent_layers)
        + r.expert_layer_seconds * w.expert_layers
        + exchanges * r.message_seconds,
        sampled_row=float(sampling_seconds(engine, w.head_ops, w.message_bytes)) if samples else 0.0,
        # A ring passes every number twice, less each rank's own share (NCCL's all-reduce).
        message_token=exchanges * 2 * (ranks - 1) / ranks * w.message_bytes / (r.link_share * link),
    )
