"""What of this machine is used: which of its GPUs, and which of the engines that are installed. Nothing is planned here."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vram.engines.args.base import Launch
from vram.errors import HardwareNotFoundError, UsageError
from vram.hardware.fleet import Fleet
from vram.readers.ollama import is_stored
from vram.runtime.engines.base import Installed, Program
from vram.runtime.engines.registry import PROGRAMS, program
from vram.runtime.wanted import Wanted, is_path

if TYPE_CHECKING:
    from vram.model.model import Model
    from vram.settings import Settings


FIRST_CARD_DIGITS: Final = 4
"""A number of so many digits names a card (4090), a shorter one is a GPU's place in this machine."""


@dataclass(slots=True)
class Finder:
    """Looks for engines on this machine, once each."""

    settings: "Settings"
    _found: dict[str, Installed | None] = field(default_factory=dict)

    def find(self, one: Program) -> Installed | None:
        """Where it is."""
        if one.name not in self._found:
            self._found[one.name] = one.find(self.settings)
        return self._found[one.name]


def fleet_of(text: str | None, *, dry: bool) -> Fleet:
    """The GPUs that may be used: this machine's, those of the numbers or names given, its main memory where it has none (or for `cpu`).

    Args:
        text: `0`, `0,1`, `RTX 4090`, `2x H100`, `cpu`; None for all.
        dry: only planned: the GPUs need not be here.

    Raises:
        UsageError: this machine has no such GPU.
        HardwareNotFoundError: it has none, and its main memory is not known.
    """
    from vram.hardware.probe import detect  # noqa: PLC0415  (drivers are asked only when needed)
    from vram.hardware.probe.cpu import cpu_fleet  # noqa: PLC0415  (the same)

    def host() -> Fleet:
        found = cpu_fleet()
        if found is None:
            raise HardwareNotFoundError("no GPU found, and the size of main memory is not known", hint='plan for others: vram up --dry-run --gpu "RTX 4090"')
        return found

    if text is not None and text.strip().lower() in {"cpu", "host", "none"}:
        return host()
    try:
        here = detect()
    except HardwareNotFoundError:
        if text is None:
            return host()
        here = None
    if text is None and here is not None:
        return here
    words = [w.strip() for w in (text or "").split(",")]
    if all(w.isdecimal() and len(w) < FIRST_CARD_DIGITS for w in words):
        numbers = [int(w) for w in words]
        if here is None or any(n >= len(here) for n in numbers):
            raise UsageError(
                f"this machine has {len(here) if here is not None else 'no'} GPUs: no {text}",
                hint="vram gpus shows them"
                if here is not None
                else '--gpu cpu takes main memory; --dry-run --gpu "RTX 4090" plans for GPUs that are elsewhere',
            )
        return here.only(numbers)
    from vram.api import parse_gpus  # noqa: PLC0415  (reads the catalogue)

    asked = parse_gpus(text or "")
    if here is not None:
        left, taken = list(range(len(here))), []
        for member in asked.gpus:
            match = next((i for i in left if here.gpus[i].gpu.name == member.gpu.name), None)
            if match is None:
                break
            left.remove(match)
            taken.append(match)
        else:
            return here.only(taken)
    if dry:
        return asked
    raise UsageError(
        f"this machine has no {asked.name}: it has {here.name if here is not None else 'no GPU'}",
        hint="vram gpus shows what it has; --dry-run plans for GPUs that are elsewhere",
    )


def choose_engine(wanted: Wanted, model: "Model", fleet: Fleet, finder: Finder, *, dry: bool) -> tuple[Program, Installed | None]:
    """The program that is to run a model: the one asked for, else the first that is here and can load it.

    Raises:
        UsageError: it is not here, or none that can load the model is.
    """
    host, stored = fleet.gpus[0].gpu.vendor == "host", is_stored(wanted.model)
    gguf = stored or wanted.model.lower().endswith(".gguf") or any(t.format.name.startswith(("Q", "IQ", "TQ")) for t in model.tensors)
    # Others than Ollama are given the file.
    path = stored or is_path(wanted.model)
    launch = Launch(model=wanted.model, context_tokens=1, concurrency=wanted.concurrency, parallel=wanted.parallel, is_path=path, is_gguf=gguf)
    if wanted.engine:
        asked = program(wanted.engine)
        # Nobody is told to install what would then refuse the model.
        if why := asked.takes(launch):
            raise UsageError(f"{wanted.name}: {why}", hint=_others(launch, finder, host=host))
        here = finder.find(asked)
        if here is None and not dry:
            raise UsageError(f"{asked.name} is not installed here", hint=asked.install)
        if here is not None and host and not asked.runs_on_host(here):
            raise UsageError(
                f"{asked.name} {here.version} runs on GPUs, and none is used here",
                hint=f"--gpu names one of this machine's; {_others(launch, finder, host=host)}",
            )
        return asked, here
    able = [p for p in map(program, PROGRAMS) if not p.takes(launch) and (p.on_host or not host)]
    for one in able:
        if (here := finder.find(one)) is not None and (not host or one.runs_on_host(here)):
            return one, here
    if dry and able:
        return able[0], None
    hint = "; ".join(f"{p.name}: {p.install}" for p in able[:2])
    raise UsageError(f"no engine that can run {wanted.name} is installed here", hint=hint or f"engines that can be started: {', '.join(PROGRAMS)}")


def _others(launch: Launch, finder: Finder, *, host: bool) -> str:
    """Which engines load what one refused: those that are here, else how one is installed."""
    able = [p for p in map(program, PROGRAMS) if not p.takes(launch) and (p.on_host or not host)]
    here = [p.name for p in able if (found := finder.find(p)) is not None and (not host or p.runs_on_host(found))]
    if here:
        return f"of those that are here {' and '.join(here)} can: --engine {here[0]}"
    return f"{able[0].name} can, and is not here: {able[0].install}" if able else "no engine that can be started loads it; vram plan plans for more"
