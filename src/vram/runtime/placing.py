"""A model with its plan, on GPUs of this machine: what its engine is to be told, and shown. Nothing is started here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vram.engines.args.base import Beside, Launch
from vram.hardware.fleet import Fleet, FleetGpu, Origin
from vram.hardware.remote import REMOTE_VENDOR, reached, remote_of
from vram.planner.launch import launch_of, layers_dealt
from vram.planner.plan import Plan, Verdict
from vram.readers.ollama import is_stored
from vram.runtime.engines.base import Address, Installed, Line, Program, visible
from vram.runtime.planning import plan_one
from vram.runtime.remote import local_devices
from vram.runtime.wanted import Wanted, is_path
from vram.sources.ollama import find_stored

if TYPE_CHECKING:
    from vram.model.model import Model
    from vram.sources.ollama import Stored

Report = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One model with its plan: all that has to be known to start it.

    Attributes:
        wanted: what was asked for.
        model: what it is.
        engine: the program that runs it.
        here: where that is on this machine; None where it is not, and only a plan is shown.
        fleet: the GPUs it was planned on, with what others hold of them.
        plan: the plan.
        note: why it is planned otherwise than it was asked for; empty where it is not.
        on: which GPUs of the machine those are, by their place in it.
        reserved: what is kept of each of them for it, by what was measured; empty: what its plan says at most.
    """

    wanted: Wanted
    model: "Model"
    engine: Program
    here: Installed | None
    fleet: Fleet
    plan: Plan
    note: str = ""
    on: tuple[int, ...] = ()
    reserved: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Whoever keeps what was measured is told what was asked for, and by this also who ran it."""
        version = (self.here.release or self.here.version) if self.here is not None else ""
        object.__setattr__(self, "wanted", replace(self.wanted, program=f"{self.engine.name} {version}".strip()))

    @property
    def loadable(self) -> bool:
        """Whether there is room for it: by what it was seen to hold, where that is known, else by its plan."""
        if self.reserved:
            return all(size <= gpu.free_bytes for size, gpu in zip(self.reserved, self.fleet.gpus, strict=False))
        return self.plan.verdict is not Verdict.DOES_NOT_FIT

    @property
    def alias(self) -> str:
        """What its engine calls it."""
        return self.engine.calls(self.wanted.model) or self.wanted.alias

    @property
    def launch(self) -> Launch:
        """What its command has to say."""
        if is_stored(self.wanted.model) and not self.engine.calls(self.wanted.model):
            made = self._of_file(find_stored(self.wanted.model))
        else:
            path = is_path(self.wanted.model)
            name = str(Path(self.wanted.model).expanduser().absolute()) if path else self.wanted.model
            made = launch_of(self.plan, model=name, quant=self.wanted.quant or "", kv_dtype=self.wanted.kv_dtype or "", is_path=path)
        remotes = [r for r in map(remote_of, self.gpus) if r is not None]
        rpc, devices = reached(remotes, self.wanted.door, self.wanted.doors)
        if rpc and (local := len(self.gpus) - len(remotes)):
            devices = (*local_devices(self.here.program[0] if self.here is not None else "", self.gpus[0].gpu.vendor, local), *devices)
        # By free memory the engine would deal anew when it starts, and what is free has changed by then: a layer more here, one less there.
        dealt = tuple(map(float, layers_dealt(self.plan)))
        return replace(made, rpc=rpc, devices=devices, tensor_split=dealt if any(dealt) else ())

    def _of_file(self, stored: "Stored") -> Launch:
        """The same for an engine that is given the files of Ollama's store."""
        projector = stored.projector
        beside = Beside(adapters=tuple(map(str, stored.adapters)), mmproj=str(projector) if projector is not None else "")
        made = launch_of(self.plan, model=str(stored.weights), quant=self.wanted.quant or "", kv_dtype=self.wanted.kv_dtype or "", is_path=True, beside=beside)
        return replace(made, is_gguf=True)

    @property
    def gpus(self) -> tuple[FleetGpu, ...]:
        """The GPUs that it takes."""
        return self.fleet.gpus[: len(self.plan.gpus)]

    @property
    def variables(self) -> dict[str, str]:
        """What shows the engine its GPUs and no others."""
        vendor = self.gpus[0].gpu.vendor
        # What RPC servers show comes after the cards of this machine, and is no matter of these variables; alone it hides all of them.
        here = [g for g in self.gpus if g.gpu.vendor != REMOTE_VENDOR]
        if self.fleet.origin is not Origin.DETECTED:
            # Cards that are only named: which of them is told where it is not simply the first ones.
            on = self.on[: len(here)]
            elsewhere = vendor != "host" and (on != tuple(range(len(on))) or not here)
            return visible(vendor, map(str, on)) if elsewhere else {}
        return visible(vendor, (g.identifier or str(g.index) for g in here))


def line_of(placed: Placed, at: Address) -> Line:
    """What starts it there: the engine's own words for the plan, the variables that show it its GPUs, what the operator adds.

    Raises:
        UsageError: the engine cannot do what was planned.
    """
    here = placed.here or Installed(program=(placed.engine.name,), version="", where="")
    made = placed.engine.line(placed.launch, here, at)
    return Line(words=(*made.words, *placed.wanted.more), variables={**placed.variables, **made.variables}, notes=made.notes)


def replan(placed: Placed, wanted: Wanted) -> Placed:
    """The same model and engine on the same GPUs with other settings, of which nothing was measured.

    Raises:
        UsageError: a number that makes no sense.
    """
    return replace(placed, wanted=wanted, plan=plan_one(wanted, placed.model, placed.fleet, placed.engine, placed.here), reserved=())


def beside(fleet: Fleet, sizes: Sequence[int], on: Sequence[int]) -> Fleet:
    """The GPUs with so many bytes more held of each of those that `on` names."""
    taken = dict(zip(on, sizes, strict=True))
    return replace(fleet, gpus=tuple(replace(g, used_bytes=g.used_bytes + taken.get(i, 0)) for i, g in enumerate(fleet.gpus)))
