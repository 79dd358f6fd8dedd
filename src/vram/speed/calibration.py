"""Which measured rows stand behind an engine on a card, and what they gave: an entry by engine, class of card and of weights.

A class without rows borrows the entry of the nearest that has some, says so, and doubts more.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from vram.hardware.gpu import Gpu
from vram.speed.rates import Rates


class CardClass(StrEnum):
    """Kinds of card that engines treat alike."""

    HBM = "hbm"
    """Stacked memory: data-centre cards."""
    GDDR = "gddr"
    """Graphics memory: desktop, workstation and small server cards."""
    APPLE = "apple"
    UNIFIED = "unified"
    """A host's own memory: DGX Spark, Strix Halo, Jetson."""


_HBM = ("H100", "H200", "H20", "H800", "GH200", "B200", "B100", "B300", "GB200", "GB300", "A100", "A800", "A30 ", "V100", "P100", "TITAN V")
_HBM_AMD = ("MI", "Radeon VII")


def card_class(gpu: Gpu) -> CardClass:
    """The class of a card."""
    if gpu.vendor == "Apple":
        return CardClass.APPLE
    if gpu.unified_memory and not gpu.name.startswith("MI"):
        return CardClass.UNIFIED
    stacked = _HBM_AMD if gpu.vendor == "AMD" else _HBM
    if gpu.name.startswith(stacked) or gpu.vendor not in {"NVIDIA", "AMD", "Intel"} or gpu.name.startswith("Data Center GPU Max"):
        return CardClass.HBM
    return CardClass.GDDR


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """How far figures may be off: the factor by which a measured one may exceed, or fall short of, the expected."""

    decode: float
    tpot: float
    prefill: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the calibration.

    Attributes:
        rates: the constants.
        doubt: factors around the figures.
        rows: measured rows behind it.
        why: whose rows they are, and what was borrowed.
        calibrated: whether any row stands behind it.
    """

    rates: Rates
    doubt: Doubt
    rows: int
    why: str
    calibrated: bool


_COMMON = Rates(
    memory_share=0.85,
    expert_share=0.6,
    cache_share=0.7,
    compute_share=0.5,
    attention_share=0.3,
    layer_seconds=1.0e-4,
    expert_layer_seconds=4.0e-5,
    step_seconds=5e-4,
    sequence_seconds=1e-5,
    message_seconds=8e-6,
    link_share=0.5,
)


def entry_for(engine: str, gpu: Gpu, stored_bits: float, *, experts: bool) -> Entry:  # noqa: ARG001  (the table comes with its rows)
    """The entry for an engine on a card with weights of so many bits."""
    rates = _COMMON
    if engine == "transformers":
        rates = replace(rates, layer_seconds=8e-4)
    return Entry(rates=rates, doubt=Doubt(decode=1.6, tpot=1.8, prefill=2.5), rows=0, why="no rows yet: rates common to engines", calibrated=False)
