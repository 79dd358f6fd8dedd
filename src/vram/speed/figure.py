"""A rate or a time that knows how far it can be off and why; the counterpart of `memory.part.Part` for what is no byte."""

from dataclasses import dataclass

from vram.memory.part import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One predicted figure. Its unit stands in the name of the field that holds it (`tpot_seconds`, `tokens_per_second`).

    Attributes:
        value: what is expected.
        low: the least that it may be.
        high: the most that it may be.
        source: `formula`, `calibrated` (fitted to measured rows), or `measured` (on this machine).
        why: one line: what binds it, and how many rows of which class stand behind the band.
    """

    value: float
    low: float
    high: float
    source: Source
    why: str
