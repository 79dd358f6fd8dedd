"""What somebody asks for an hour of one GPU: how much, who, what kind, as of when, and who says so."""

import re
from dataclasses import dataclass
from typing import Final

from vram.costs.money import MOST_USD_PER_GPU_HOUR, check_usd, nanodollars, show_usd
from vram.errors import UsageError

KINDS: Final = {
    "on-demand": "by the hour, kept as long as wanted",
    "spot": "by the hour, may be taken away",
    "reserved": "for months or years",
    "tco": "what owning one costs an operator per hour, all told",
    "stated": "given by the user",
    "owned": "from purchase price, lifetime and power",
}
_DAY: Final = re.compile(r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One price of one kind of GPU.

    Attributes:
        gpu: the full name of the GPU catalogue (`H100 SXM 80GB`).
        usd_per_gpu_hour: dollars for one GPU for one hour, with its share of the machine around it.
        provider: who asks it.
        kind: a key of `KINDS`.
        as_of: a day (`2026-04-03`); empty for what the user states.
        dated: what that day is: `stated` by the source, or the one on which the list was `read`, because the list tells none.
        source: where it stands.
        note: what a reader has to know besides.

    Raises:
        UsageError: an amount, kind or day that makes no sense.
    """

    gpu: str
    usd_per_gpu_hour: float
    provider: str
    kind: str
    as_of: str
    source: str
    dated: str = "stated"
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        check_usd(f"the price of {self.gpu or 'a GPU'}", self.usd_per_gpu_hour, MOST_USD_PER_GPU_HOUR)
        if self.kind not in KINDS:
            raise UsageError(f"no kind of price {self.kind!r}", hint=f"known kinds: {', '.join(KINDS)}")
        if self.dated not in {"stated", "read"}:
            raise UsageError(f"a day is not {self.dated!r}", hint="it is stated by the source, or that on which the list was read")
        if self.as_of and not _DAY.fullmatch(self.as_of):
            raise UsageError(f"{self.as_of!r} is no day", hint="write it as 2026-11-23")

    @property
    def nanodollars_per_gpu_hour(self) -> int:
        """The same, exactly."""
        return nanodollars(self.usd_per_gpu_hour)

    @property
    def when(self) -> str:
        """The day as it is shown beside every amount."""
        if not self.as_of:
            return "as you state it"
        return f"as of {self.as_of}" if self.dated == "stated" else f"in a list read {self.as_of}"

    @property
    def who(self) -> str:
        """Who asks it, and as of when."""
        return self.source if self.kind in {"stated", "owned"} else f"{self.provider} {self.kind}, {self.when}"

    @property
    def told(self) -> str:
        """One line: amount, who, kind, day."""
        return f"{show_usd(self.usd_per_gpu_hour)}/GPU-hour, {self.who}"
