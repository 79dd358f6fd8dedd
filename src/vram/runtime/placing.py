"""What was asked for, planned: which engine runs which model on which GPUs, with which settings. Nothing is started here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from vram.engines.args.base import Beside, Launch
from vram.engines.llama_cpp_checkpoints import MOST, OF_ONE_REQUEST
from vram.engines.supports import method_of
from vram.errors import HardwareNotFoundError, UsageError
from vram.hardware.fleet import Fleet, FleetGpu, Origin
from vram.hardware.remote import reached, remote_of
from vram.model.quantization.names import GGUF_NAMES
from vram.planner.launch import launch_of, layers_dealt
from vram.planner.plan import Plan
from vram.planner.reserve import kept_that_fit, later_bytes, reserved_bytes
from vram.readers.ollama import PREFIX, is_stored
from vram.runtime.engines.base import Address, Installed, Line, Program, visible
from vram.runtime.engines.registry import PROGRAMS, program
from vram.sources.ollama import adapters_of, find_stored

if TYPE_CHECKING:
    from vram.model.model import Model
    from vram.settings import Settings
    from vram.sources.ollama import Stored

NAME_LENGTH: Final = 200
LEAST_POOL: Final = 64 * 2**20
Report = Callable[[int, int, int], None]


class Lessons(Protocol):
    """What was learned of plans on this machine."""

    def works(self, asked: Plan, wanted: "Wanted") -> "tuple[Wanted, str] | None":
        """The settings that worked where a plan failed, and why."""

    def held(self, plan: Plan, wanted: "Wanted") -> tuple[int, ...] | None:
        """What its engine held of each of its GPUs at most, the worst request included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One model that somebody wants to be served.

    Attributes:
        name: what clients ask for, and what it is called in lists.
        model: as `vram plan` reads it.
        engine: the program's name; empty for the first that is here and can load it.
        context_tokens, concurrency, kv_dtype, ubatch, parallel, gpu_layers, tensor_split, gpu_memory_utilization, max_num_seqs, max_batched_tokens,
            block_size, kv_pool_bytes, enforce_eager, tp, pp, ep, kv_unified, ctx_checkpoints: as `vram plan` has them.
        alone: no other model shares its memory, now or later.
        served_as: what its engine calls it; empty for its name.
        door: which port of an RPC server is its, from 0 on.
        more: words that the operator adds to the engine's command as they are.
        program: the engine that runs it, by name and version, once that is known: what was measured holds for no other.
    """

    name: str
    model: str
    engine: str = ""
    context_tokens: int | None = None
    concurrency: int = 1
    quant: str | None = None
    kv_dtype: str | None = None
    ubatch: int | None = None
    parallel: int | None = None
    gpu_layers: int | None = None
    tensor_split: tuple[float, ...] = ()
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None
    max_batched_tokens: int | None = None
    block_size: int | None = None
    kv_pool_bytes: int | None = None
    enforce_eager: bool = False
    tp: int | None = None
    pp: int | None = None
    ep: bool = False
    kv_unified: bool | None = None
    ctx_checkpoints: int | None = None
    alone: bool = False
    served_as: str = ""
    door: int = 0
    more: tuple[str, ...] = ()
    program: str = field(default="", compare=False)

    @property
    def alias(self) -> str:
        """What its engine calls it."""
        return self.served_as or self.name


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
    def alias(self) -> str:
        """What its engine calls it."""
        return self.engine.calls(self.wanted.model) or self.wanted.alias

    @property
    def launch(self) -> Launch:
        """What its command has to say."""
        if is_stored(self.wanted.model) and not self.engine.calls(self.wanted.model):
            return self._of_file(find_stored(self.wanted.model))
        path = is_path(self.wanted.model)
        name = str(Path(self.wanted.model).expanduser().absolute()) if path else self.wanted.model
        made = launch_of(self.plan, model=name, quant=self.wanted.quant or "", kv_dtype=self.wanted.kv_dtype or "", is_path=path)
        remotes = [r for r in map(remote_of, self.gpus) if r is not None]
        rpc, devices = reached(remotes, self.wanted.door)
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
        if self.fleet.origin is not Origin.DETECTED:
            # Cards that are only named: which of them is told where it is not simply the first ones.
            elsewhere = self.on and self.on != tuple(range(len(self.on))) and self.gpus[0].gpu.vendor != "host"
            return visible(self.gpus[0].gpu.vendor, map(str, self.on)) if elsewhere else {}
        return visible(self.gpus[0].gpu.vendor, (g.identifier or str(g.index) for g in self.gpus))


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


def line_of(placed: Placed, at: Address) -> Line:
    """What starts it there: the engine's own words for the plan, the variables that show it its GPUs, what the operator adds.

    Raises:
        UsageError: the engine cannot do what was planned.
    """
    here = placed.here or Installed(program=(placed.engine.name,), version="", where="")
    made = placed.engine.line(placed.launch, here, at)
    return Line(words=(*made.words, *placed.wanted.more), variables={**placed.variables, **made.variables}, notes=made.notes)


def is_path(model: str) -> bool:
    """Whether a model is a file or folder here."""
    try:
        return Path(model).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def wanted_of(text: str) -> tuple[str, str]:
    """`NAME=MODEL` or `MODEL` as (name, model); a path without a name is called as its file.

    Raises:
        UsageError: no name can be made of it.
    """
    name, sign, model = text.partition("=")
    if is_stored(text):
        # Its clients need not know where it lies.
        name, model = text[len(PREFIX) :], text
    elif not sign or is_path(text):
        model, name = text, Path(text).stem if is_path(text) and not Path(text).is_dir() else Path(text).absolute().name if is_path(text) else text
    if not model or not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise UsageError(f"{text[:80]!r} is no model", hint="give a path, a hub id or a name of the catalogue; NAME=MODEL gives it a name of its own")
    return name, model


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
    if all(w.isdecimal() for w in words):
        numbers = [int(w) for w in words]
        if here is None or any(n >= len(here) for n in numbers):
            raise UsageError(f"this machine has {len(here) if here is not None else 'no'} GPUs: no {text}", hint="vram gpus shows them")
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
        here = finder.find(asked)
        if here is None and not dry:
            raise UsageError(f"{asked.name} is not installed here", hint=asked.install)
        if here is not None and host and not asked.runs_on_host(here):
            raise UsageError(
                f"{asked.name} {here.version} runs on GPUs, and none is used here",
                hint=f"--gpu names one of this machine's; {_others(launch, finder, host=host)}",
            )
        if why := asked.takes(launch):
            raise UsageError(f"{wanted.name}: {why}", hint=_others(launch, finder, host=host))
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


def plan_one(wanted: Wanted, model: "Model", fleet: Fleet, engine: Program, here: Installed | None) -> Plan:
    """The plan of one model on those GPUs by its engine's rules.

    Raises:
        UsageError: a number that makes no sense, a setting that would be without effect.
    """
    _refuse_layers(wanted, fleet, engine)
    _refuse_quant(wanted, model, engine)
    made = _planned(wanted, model, fleet, engine, here, wanted.kv_pool_bytes)
    gpu = made.gpus[0]
    if wanted.kv_pool_bytes is None and gpu.pool is not None and fleet.gpus[0].gpu.vendor == "host":
        # In main memory no engine should take all that is left: what the workload needs, and a quarter more for its blocks.
        pool = max(gpu.kv_needed_bytes * 5 // 4, LEAST_POOL)
        made = _planned(wanted, model, fleet, engine, here, pool)
    batch = engine.batch(made, wanted.model)
    if batch is not None and wanted.ubatch not in {None, batch}:
        raise UsageError(f"{engine.name} takes a batch of {batch} by itself with {wanted.name}, and no other", hint="leave --ubatch out")
    if batch is not None and made.settings.ubatch != batch:
        made = _planned(replace(wanted, ubatch=batch), model, fleet, engine, here, wanted.kv_pool_bytes)
    if wanted.ctx_checkpoints is None and engine.ctx_checkpoints is None and later_bytes(made):
        made = _with_checkpoints(wanted, model, fleet, engine, here, made)
    engine.refuse(made, wanted.model)
    return made


def _with_checkpoints(wanted: Wanted, model: "Model", fleet: Fleet, engine: Program, here: Installed | None, made: Plan) -> Plan:
    """Where its own number of checkpoints would not fit, or take the room of others: those that one request leaves, or as many as there is room for."""
    if wanted.alone and all(g.short_bytes <= 0 for g in made.gpus):
        return made
    one = replace(wanted, ctx_checkpoints=1, ubatch=made.settings.ubatch)
    few = kept_that_fit(_planned(one, model, fleet, engine, here, wanted.kv_pool_bytes), MOST if wanted.alone else OF_ONE_REQUEST)
    return _planned(replace(one, ctx_checkpoints=few), model, fleet, engine, here, wanted.kv_pool_bytes)


def _refuse_quant(wanted: Wanted, model: "Model", engine: Program) -> None:
    """Weights are what the files hold: a plan for others would be true of nothing that is started."""
    if wanted.quant is None:
        return
    from vram.model.quantization.named import canonical  # noqa: PLC0415  (only where it is asked for)

    asked = canonical(wanted.quant)
    same = asked == model.quantization if model.gguf else bool(model.quantization) and method_of(asked) == method_of(model.quantization)
    if same or (not model.gguf and not model.quantization and asked in engine.quantizes):
        return
    if engine.rules == "llama.cpp" and not is_path(wanted.model) and not is_stored(wanted.model) and asked in GGUF_NAMES:
        # The file of that name in a hub repository is loaded.
        return
    online = f"; while it loads 16-bit weights it makes {' and '.join(sorted(engine.quantizes))} of them" if engine.quantizes else ""
    raise UsageError(
        f"{wanted.name} is stored as {model.quantization or model.dtype.name}, and {engine.name} loads what is stored: not {asked}",
        hint=f"leave --quant out, and name a file or repository that is stored so in place of the model{online}",
    )


def _refuse_layers(wanted: Wanted, fleet: Fleet, engine: Program) -> None:
    """Which layers lie where is for engines that are told, and for GPUs."""
    given = [flag for flag, there in (("--gpu-layers", wanted.gpu_layers is not None), ("--tensor-split", bool(wanted.tensor_split))) if there]
    if not given:
        return
    if not engine.deals_layers:
        able = " and ".join(p.name for p in map(program, PROGRAMS) if p.deals_layers)
        raise UsageError(f"{engine.name} takes no {given[0]}: it deals layers to GPUs itself", hint=f"leave it out; {able} take it, with GGUF files")
    # No layer on GPUs is what a plan for main memory has anyway.
    if fleet.gpus[0].gpu.vendor == "host" and (wanted.gpu_layers or wanted.tensor_split):
        flag = "--gpu-layers" if wanted.gpu_layers else "--tensor-split"
        raise UsageError(f"{flag} has no effect without a GPU: all layers lie in main memory", hint="leave it out, or name GPUs of this machine with --gpu")


def _planned(wanted: Wanted, model: "Model", fleet: Fleet, engine: Program, here: Installed | None, pool: int | None) -> Plan:
    from vram.api import plan  # noqa: PLC0415  (start-up)

    version = here.version if here is not None else ""
    context = wanted.context_tokens if wanted.context_tokens is not None else engine.context(wanted.model)
    return plan(
        model,
        gpu=fleet,
        engine=f"{engine.rules}@{version}" if version else engine.rules,
        context_tokens=context,
        concurrency=wanted.concurrency,
        quant=wanted.quant,
        kv_dtype=wanted.kv_dtype,
        tp=wanted.tp,
        pp=wanted.pp,
        ep=wanted.ep,
        kv_unified=wanted.kv_unified,
        ubatch=wanted.ubatch,
        gpu_layers=wanted.gpu_layers,
        tensor_split=wanted.tensor_split,
        parallel=engine.slots or wanted.parallel,
        gpu_memory_utilization=wanted.gpu_memory_utilization,
        max_num_seqs=wanted.max_num_seqs,
        max_batched_tokens=wanted.max_batched_tokens,
        block_size=wanted.block_size,
        kv_pool_bytes=pool,
        ctx_checkpoints=engine.ctx_checkpoints if engine.ctx_checkpoints is not None else wanted.ctx_checkpoints,
        enforce_eager=wanted.enforce_eager,
        lora=adapters_of(wanted.model),
    )


def learned_of(placed: Placed, lessons: Lessons | None) -> Placed:
    """With the settings that worked where its plan failed here before, and why; and with what it was seen to hold."""
    if lessons is None:
        return placed
    if (lesson := lessons.works(placed.plan, placed.wanted)) is not None:
        placed = replace(replan(placed, lesson[0]), note=lesson[1])
    return held_of(placed, lessons)


def held_of(placed: Placed, lessons: Lessons | None) -> Placed:
    """With what its plan was seen to hold here."""
    if lessons is None:
        return placed
    if (held := lessons.held(placed.plan, placed.wanted)) is not None:
        coming = later_bytes(placed.plan)
        # Kept is what was held: where that is more than the plan says at most, it is more than that here, too.
        placed = replace(placed, reserved=tuple(reserved_bytes(g, size, size, coming) for g, size in zip(placed.plan.gpus, held, strict=True)))
    return placed


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
