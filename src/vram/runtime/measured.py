"""What an engine printed of its memory when it started, beside what was planned: buffer by buffer, each judged against its band."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vram.engines.llama_cpp_host import HOST_VENDOR
from vram.engines.logs.base import EngineLog
from vram.engines.logs.parts import parts_of
from vram.engines.logs.reader import read_log
from vram.engines.registry import engine
from vram.memory.part import Part
from vram.planner.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    on_host = plan.demand.gpu.vendor == HOST_VENDOR
    sums: dict[tuple[str, str], float] = {}
    doubts: dict[tuple[str, str], float] = {}
    for r in log.readings:
        name = _HOST_BUFFERS.get(r.name)
        if name is None or not r.is_bytes:
            continue
        key = ("host" if on_host or r.rank in log.host else r.rank, name)
        sums[key] = sums.get(key, 0.0) + r.value
        doubts[key] = doubts.get(key, 0.0) + r.doubt
    if not on_host:
        devices = list(dict.fromkeys(place for place, _ in sums if place != "host"))
        for gpu, device in zip(plan.gpus, devices, strict=False):
            for name, part in (("weights", gpu.parts.weights), ("kv_cache", gpu.parts.kv_cache), ("compute", gpu.parts.activations)):
                yield _one(name, device, part, sums, doubts, (device, name))
    parts = dict(_host_parts(plan))
    for name in ("weights", "kv_cache", "output", "compute"):
        if name in parts or ("host", name) in sums:
            yield _one(name, "host", parts.get(name) or Part.exact(0, "formula", "nothing is planned there"), sums, doubts, ("host", name))


def _one(name: str, place: str, part: Part, sums: dict[tuple[str, str], float], doubts: dict[tuple[str, str], float], key: tuple[str, str]) -> Beside:
    # llama.cpp prints hundredths of a MiB; what rounds to nothing is printed as 0.00.
    return Beside(name=name, place=place, planned=part, measured=round(sums[key]) if key in sums else None, doubt=round(doubts.get(key, 0.0)) + 1)


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
    else:
        row["parts"] = [{name: round(size) for name, size in sizes.items()} for sizes in parts_of(log, len(plan.gpus))]
    return row
