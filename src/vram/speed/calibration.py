"""Which measured rows stand behind an engine on a card, and what they gave: an entry by engine, class of card and of weights.

A class without rows borrows the entry of the nearest that has some, says so, and doubts more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import lru_cache
from math import exp
from typing import Any

from vram.hardware.gpu import Gpu
from vram.speed.rates import Rates

WEIGHTS_16_BITS, WEIGHTS_8_BITS = 12.0, 6.6
"""Mean stored bits from which on linear weights count as 16-bit and as 8-bit ones; below, as 4-bit."""


def weight_class(stored_bits: float) -> str:
    """The class of weights of so many bits on the mean."""
    return "16" if stored_bits >= WEIGHTS_16_BITS else "8" if stored_bits >= WEIGHTS_8_BITS else "4"


class CardClass(StrEnum):
    """Kinds of card that engines treat alike."""

    HBM = "hbm"
    """Stacked memory: data-centre cards."""
    GDDR = "gddr"
    """Graphics memory, with matrix units: NVIDIA's desktop, workstation and small server cards since Turing."""
    PLAIN = "plain"
    """Graphics memory, without matrix units: NVIDIA's Pascal and older."""
    RADEON = "radeon"
    """AMD's desktop and workstation cards, and its chips on a host's own memory (Strix Halo): kernels are the same."""
    ARC = "arc"
    """Intel's desktop and workstation cards."""
    APPLE = "apple"
    """Apple's chips."""
    UNIFIED = "unified"
    """NVIDIA's chips on a host's own memory: DGX Spark, Jetson."""


_HBM = ("H100", "H200", "H20", "H800", "GH200", "B200", "B100", "B300", "GB200", "GB300", "A100", "A800", "A30 ", "V100", "P100", "TITAN V")
_HBM_AMD = ("MI", "Radeon VII")


def card_class(gpu: Gpu) -> CardClass:
    """The class of a card."""
    if gpu.vendor == "Apple":
        return CardClass.APPLE
    if gpu.unified_memory and gpu.vendor != "AMD":
        return CardClass.UNIFIED
    stacked = _HBM_AMD if gpu.vendor == "AMD" else _HBM
    if gpu.name.startswith(stacked) or gpu.vendor not in {"NVIDIA", "AMD", "Intel"} or gpu.name.startswith("Data Center GPU Max"):
        return CardClass.HBM
    if gpu.vendor != "NVIDIA":
        return CardClass.RADEON if gpu.vendor == "AMD" else CardClass.ARC
    return CardClass.PLAIN if gpu.architecture in {"Pascal", "Maxwell", "Kepler"} else CardClass.GDDR


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """How far figures may be off: the factor by which a measured one may exceed, or fall short of, the expected.

    A first token's factors differ: `ttft` for how much later, `ttft_less` for how much earlier than expected it may come.
    """

    decode: float
    tpot: float
    prefill: float
    ttft: float
    ttft_less: float


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


_ALIKE = {"ollama": "llama.cpp"}
SERVERS = frozenset({"vllm", "sglang", "tensorrt-llm"})
# Where a class without rows borrows, the nearest first.
_NEAR = {
    CardClass.HBM: (CardClass.GDDR, CardClass.RADEON),
    CardClass.GDDR: (CardClass.HBM, CardClass.UNIFIED),
    CardClass.PLAIN: (CardClass.GDDR,),
    CardClass.RADEON: (CardClass.GDDR, CardClass.HBM),
    CardClass.ARC: (CardClass.RADEON, CardClass.GDDR),
    CardClass.APPLE: (CardClass.UNIFIED, CardClass.GDDR),
    CardClass.UNIFIED: (CardClass.GDDR, CardClass.HBM),
}
_NEAR_WEIGHTS = {"16": ("8", "4"), "8": ("16", "4"), "4": ("8", "16")}
OTHER_WEIGHTS, OTHER_CARD, OTHER_ENGINE = 1.15, 1.4, 1.3
"""By which factor a borrowed entry doubts more: it is of other weights, another class of card, another engine."""


@lru_cache(maxsize=1)
def _table() -> Mapping[tuple[str, str, str, str], tuple[tuple[Any, ...], ...]]:
    """The table's lines by engine, class of card, class of weights and experts; those for old versions first."""
    from vram.speed.table import ENTRIES  # noqa: PLC0415  (read when a speed is asked for, not when a plan is)

    out: dict[tuple[str, str, str, str], tuple[tuple[Any, ...], ...]] = {}
    for x in sorted(ENTRIES, key=lambda x: x[4] == ""):
        out[x[:4]] = (*out.get(x[:4], ()), x)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """What a card's own rows say beside its class: how much longer a sequence alone takes, and how far that may be off."""

    card: str
    rows: int
    factor: float
    doubt: float


def base_name(gpu: Gpu) -> str:
    """A card's name without its memory: cards that differ in nothing else are as fast."""
    return gpu.name.rpartition(" ")[0]


FIXED = ("layer_seconds", "expert_layer_seconds", "step_seconds")
"""What an engine's age lengthens: launches and small kernels, which newer builds fuse, record and overlap."""


@lru_cache(maxsize=1)
def _yearly() -> Mapping[str, float]:
    from vram.speed.table import YEARLY  # noqa: PLC0415  (see _table)

    return dict(YEARLY)


@lru_cache(maxsize=1)
def _owns() -> Mapping[tuple[str, str], _Own]:
    from vram.speed.table import CARDS  # noqa: PLC0415  (see _table)

    return {(engine, card): _Own(card=card, rows=rows, factor=factor, doubt=doubt) for engine, card, rows, factor, doubt in CARDS}


def entry_for(engine: str, gpu: Gpu, stored_bits: float, *, experts: bool, version: str = "", years: float = 0.0) -> Entry:
    """The entry for an engine on a card with weights of so many bits, or the nearest that has rows behind it.

    Args:
        engine: name of the engine (`mlx` beside those that have memory rules).
        gpu: the card.
        stored_bits: mean stored bits of a linear weight.
        experts: whether the model has routed experts.
        version: the engine's version, empty for the newest.
        years: how much older than today's its build is: older ones took longer for what no byte explains.
    """
    entry = _entry(engine, card_class(gpu), weight_class(stored_bits), "moe" if experts else "dense", _version(version), base_name(gpu))
    return _aged(entry, years, _ALIKE.get(engine, engine)) if years else entry


@lru_cache(maxsize=4096)
def _aged(entry: Entry, years: float, engine: str) -> Entry:
    """An entry for a build of so many years ago."""
    r, longer = entry.rates, exp(_yearly().get(engine, 0.0) * years)
    if longer == 1:
        return entry
    rates = replace(r, **{n: getattr(r, n) * longer for n in FIXED})
    return replace(entry, rates=rates, why=f"{entry.why}; a build {years:.1f} years old: layers take {longer:.2f} times as long")


def _version(text: str) -> tuple[int, int]:
    """Major and minor number; far ahead where there is none."""
    numbers = text.lstrip("vb").split(".")[:2]
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and all(n.isdigit() for n in numbers) else (9999, 0)


@lru_cache(maxsize=4096)
def _entry(engine: str, card: CardClass, weights: str, experts: str, version: tuple[int, int], base: str) -> Entry:
    for name, factor in _engines(engine, card):
        for place, further in _places(card, weights):
            for kind in (experts, "any"):
                for line in _table().get((name, *place, kind), ()):
                    if not line[4] or version < _version(line[4]):
                        return _made(line, factor * further, engine, card, weights, _owns().get((name, base)))
    raise LookupError(f"the table has no line for servers, {experts}")


def _engines(engine: str, card: CardClass) -> tuple[tuple[str, float], ...]:
    """Whose rows to look at, and the factor of doubt for looking there."""
    own = _ALIKE.get(engine, engine)
    if own == "generic":
        return (("vllm", OTHER_ENGINE), ("servers", OTHER_ENGINE)) if card is CardClass.HBM else (("llama.cpp", OTHER_ENGINE),)
    if own in SERVERS:
        return ((own, 1.0), ("servers", OTHER_ENGINE))
    if own == "mlx":
        return ((own, 1.0), ("llama.cpp", OTHER_ENGINE))
    return ((own, 1.0), ("servers", 2 * OTHER_ENGINE))


def _places(card: CardClass, weights: str) -> Iterator[tuple[tuple[str, str], float]]:
    """Classes of card and weights, the nearest first, each with its factor of doubt."""
    for kind, factor in ((card, 1.0), *((near, OTHER_CARD) for near in _NEAR[card])):
        yield (kind, weights), factor
        for other in _NEAR_WEIGHTS[weights]:
            yield (kind, other), factor * OTHER_WEIGHTS
    yield ("", ""), OTHER_CARD


def _made(line: tuple[Any, ...], factor: float, engine: str, card: CardClass, weights: str, own: _Own | None) -> Entry:
    name, of_card, of_weights, experts, before, rows, cards, models, cited, doubt, rates = line
    what = f"{of_weights}-bit weights" if of_weights else "all weights"
    where = f"{of_card} cards" if of_card else "all cards"
    kind = {"moe": ", models with experts", "dense": ", dense models"}.get(experts, "")
    told = f"{rows} rows ({cards} cards, {models} models)" if rows else f"{cited} rows that are cited, not held"
    why = f"{told} of {name}{f' before {before}' if before else ''}, {where}, {what}{kind}"
    if factor > 1:
        why += f"; borrowed: none of {engine} on {card} cards with {weights}-bit weights"
    found = Rates(**dict(zip(_names(), rates, strict=True)))
    doubts = dict(zip((f.name for f in fields(Doubt)), doubt, strict=True))
    if own:
        found, doubts["decode"] = _slower(found, own.factor), own.doubt
        why += f"; {own.rows} of {own.card} itself put it at {own.factor:.2f} of their time"
    return Entry(
        rates=found,
        doubt=Doubt(**{n: v * factor for n, v in doubts.items()}),
        rows=rows,
        why=why,
        calibrated=factor == 1.0,
    )


def _slower(r: Rates, factor: float) -> Rates:
    """Rates with which a sequence alone takes so many times as long; what prompts and exchanges take stays."""
    shares = ("memory_share", "expert_share", "cache_share", "vector_share")
    return replace(r, **{n: getattr(r, n) / factor for n in shares}, **{n: getattr(r, n) * factor for n in FIXED})


def _names() -> tuple[str, ...]:
    from vram.speed.table import RATES  # noqa: PLC0415  (see _table)

    return RATES
