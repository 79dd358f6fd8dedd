"""What an engine printed of its memory when it started, beside what was planned: buffer by buffer, each judged against its band."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vram.engines.llama_cpp_host import HOST_VENDOR
from vram.engines.logs.base import EngineLog, Reading
from vram.engines.logs.parts import parts_of
from vram.engines.logs.reader import read_log
from vram.engines.registry import engine
from vram.hardware.remote import remote_of
from vram.memory.part import Part
from vram.planner.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

# llama.cpp's devices: CUDA0, ROCm1, MTL0_Mapped; RPC0[HOST:PORT], where the number counts within that server.
_DEVICE: Final = re.compile(r"[A-Za-z]+(\d+)(?:\[(\S+)\])?")
# A figure of llama.cpp's log -> its name here, and in the host's parts of a plan.
_HOST_BUFFERS = {"weights": "weights", "kv_cache": "kv_cache", "mamba_state": "kv_cache", "output": "output", "activation_peak": "compute", "lora": "lora"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One part, buffer or count, planned and measured.

    Attributes:
        name: `weights`, `kv_cache`, `activations`, `compute`, `output` …
        place: the GPU or device, as the engine calls it; `host` for main memory.
        planned: as planned.
        measured: as printed; None where the engine did not print it.
        doubt: how far that may be off, by its digits.
        unit: `bytes`, or `tokens` (of the KV pool).
    """

    name: str
    place: str
    planned: Part
    measured: int | None
    doubt: int = 0
    unit: str = "bytes"

    @property
    def inside(self) -> bool | None:
        """Whether what was measured lies in the plan's band, as precisely as it was printed."""
        if self.measured is None:
            return None
        return self.planned.low - self.doubt <= self.measured <= self.planned.high + self.doubt


def read_start(lines: Iterable[str], rules: str) -> EngineLog:
    """The figures of a start-up log."""
    return read_log((line.encode() + b"\n" for line in lines), engine=rules)


def beside(plan: Plan, log: EngineLog) -> tuple[Beside, ...]:
    """Every part that was planned or printed: of each GPU, then of the host where its buffers are planned."""
    if log.engine in {"llama.cpp", "ollama"}:
        return tuple(_buffers(plan, log))
    found = []
    measured = parts_of(log, len(plan.gpus))
    doubt = max((r.doubt for r in log.readings if r.is_bytes), default=0.0)
    for place, sizes in enumerate(measured):
        gpu = plan.gpus[place]
        for name, part in gpu.parts.items():
            if part.high or name in sizes:
                size = round(sizes[name]) if name in sizes else None
                found.append(Beside(name=name, place=str(gpu.index) if len(measured) > 1 else gpu.name, planned=part, measured=size, doubt=round(doubt)))
    counted = [round(r.value) for r in log.of("kv_tokens")]
    if counted and plan.kv_pool.capacity_tokens is not None:
        found.append(Beside(name="kv_cache", place="pool", planned=_tokens(plan), measured=min(counted), unit="tokens"))
    return tuple(found)


def _tokens(plan: Plan) -> Part:
    """The pool in tokens: as exact as its bytes."""
    tokens, pool = plan.kv_pool.capacity_tokens or 0, min((g.pool for g in plan.gpus if g.pool is not None), key=lambda p: p.bytes, default=None)
    low, high = (pool.low / pool.bytes, pool.high / pool.bytes) if pool is not None and pool.bytes else (1.0, 1.0)
    return Part(bytes=tokens, low=int(tokens * low), high=-int(-tokens * high // 1), source="formula", why="what the planned pool holds")


def _buffers(plan: Plan, log: EngineLog) -> "Iterator[Beside]":
    """llama.cpp prints every buffer with its device."""
    printed = _printed(plan, log)
    for place, gpu in enumerate([] if plan.demand.gpu.vendor == HOST_VENDOR else plan.gpus):
        names = dict.fromkeys(s.device for (where, _), s in printed.items() if where == place)
        for name, part in (("weights", gpu.parts.weights), ("kv_cache", gpu.parts.kv_cache), ("compute", gpu.parts.activations)):
            # A device without layers is not named at all, nor what there is nothing of.
            if part.high or (place, name) in printed:
                yield _one(name, next(iter(names), f"{gpu.name} {gpu.index}"), part, printed.get((place, name)))
    parts = dict(_host_parts(plan))
    for name in ("weights", "kv_cache", "output", "compute"):
        if name in parts or (None, name) in printed:
            yield _one(name, "host", parts.get(name) or Part.exact(0, "formula", "nothing is planned there"), printed.get((None, name)))


@dataclass(slots=True)
class _Sum:
    """What one device printed of one kind of buffer."""

    device: str
    value: float = 0.0
    doubt: float = 0.0

    def add(self, reading: Reading) -> None:
        self.value, self.doubt = self.value + reading.value, self.doubt + reading.doubt


def _printed(plan: Plan, log: EngineLog) -> "dict[tuple[int | None, str], _Sum]":
    """The buffers of each of the plan's GPUs, and of the host (None), by name."""
    on_host = plan.demand.gpu.vendor == HOST_VENDOR
    found: dict[tuple[int | None, str], _Sum] = {}
    for r in log.readings:
        name = _HOST_BUFFERS.get(r.name)
        if name is not None and r.is_bytes:
            place = None if on_host or r.rank in log.host else _place(r.rank, plan)
            found.setdefault((place, name), _Sum(r.rank)).add(r)
    return found


def _place(device: str, plan: Plan) -> int:
    """Which of the plan's GPUs a device is. Those that an engine sees are numbered as they are shown to it; an RPC server's, by its address."""
    match = _DEVICE.match(device)
    if match is None:
        return 0
    number, address = int(match[1]), match[2]
    if address is None:
        return number
    remotes = [remote_of(g) for g in plan.fleet.gpus[: len(plan.gpus)]]
    return next((i for i, r in enumerate(remotes) if r is not None and r.place == number and r.server.listens(address)), number)


def _one(name: str, place: str, part: Part, found: _Sum | None) -> Beside:
    if found is None:
        return Beside(name=name, place=place, planned=part, measured=None, doubt=1)
    # llama.cpp prints hundredths of a MiB; what rounds to nothing is printed as 0.00.
    return Beside(name=name, place=place, planned=part, measured=round(found.value), doubt=round(found.doubt) + 1)


def _host_parts(plan: Plan) -> tuple[tuple[str, Part], ...]:
    rules: Any = engine(plan.engine)
    if plan.demand.gpu.vendor == HOST_VENDOR:
        found: tuple[tuple[str, Part], ...] = rules.host_parts(plan.demand)
        return found
    return plan.host


def measured_row(plan: Plan, log: EngineLog, found: Iterable[Beside], *, model: str, source: str) -> dict[str, Any]:
    """The start as a row that later plans on this machine are calibrated with (`vram.planner.calibration`)."""
    from vram.engines.logs.row import row_of  # noqa: PLC0415  (once a start)
    from vram.planner.calibration import signature  # noqa: PLC0415  (the same)

    row = row_of(log, source, model=model, gpu=plan.gpus[0].name)
    row["id"] = source
    row["engine_version"] = plan.settings.version or row["engine_version"]
    row["signature"] = signature(plan)
    row["context_tokens"], row["concurrency"] = plan.workload.context_tokens, plan.workload.concurrency
    if plan.demand.gpu.vendor == HOST_VENDOR:
        sizes: dict[str, int] = {}
        for one in found:
            if one.measured is not None:
                name = {"output": "activations", "compute": "activations"}.get(one.name, one.name)
                sizes[name] = sizes.get(name, 0) + one.measured
        row["parts"] = [sizes]
    elif log.engine in {"llama.cpp", "ollama"}:
        printed = _printed(plan, log)
        names = (("weights", "weights"), ("kv_cache", "kv_cache"), ("activations", "compute"))
        row["parts"] = [{part: round(printed[i, name].value) for part, name in names if (i, name) in printed} for i in range(len(plan.gpus))]
    else:
        row["parts"] = [{name: round(size) for name, size in sizes.items()} for sizes in parts_of(log, len(plan.gpus))]
    return row
