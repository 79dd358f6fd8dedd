"""Where a candidate would run: so many equal cards. Mixed fleets are offered kind by kind."""

from dataclasses import dataclass, replace

from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`count` cards of one kind.

    Attributes:
        gpu: the kind.
        count: how many of them a plan takes, all of them.
        used_bytes: what others hold of each.
    """

    gpu: Gpu
    count: int
    used_bytes: int = 0

    @property
    def fleet(self) -> Fleet:
        """The cards as a fleet that `make_plan` takes."""
        made = Fleet.of([self.gpu] * self.count)
        return replace(made, gpus=tuple(replace(member, used_bytes=self.used_bytes) for member in made.gpus)) if self.used_bytes else made

    @property
    def name(self) -> str:
        """As a person types it: `2x H100 SXM 80GB`."""
        return f"{self.count}x {self.gpu.name}" if self.count > 1 else self.gpu.name
