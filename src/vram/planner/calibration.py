"""Parts that were measured on this machine take the place of planned ones: same model, engine, card, split and settings.

A row carries the `signature` of the plan that it was measured against and its figures per part (`parts`), so that nothing
is guessed when it is found again. It knows no file; vram/sources/calibration.py reads and writes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from vram.engines.base import Demand, Settings
from vram.engines.registry import engine as engine_named
from vram.memory.part import Part, Parts
from vram.planner.launch import layers_dealt
from vram.planner.make import free_bytes, judge, kv_room, limits_of, share_of
from vram.planner.plan import GpuPlan, Plan

PART_NAMES: Final = ("weights", "kv_cache", "activations", "cuda_graphs", "runtime", "communication")
_MOST: Final = 2**50


def _told(settings: Settings) -> dict[str, Any]:
    """Settings as a row keeps them: drafts and adapters by what shapes them."""
    told = {f.name: getattr(settings, f.name) for f in fields(settings)}
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}
    if (draft := settings.draft) is not None:
        told["draft"] = [draft.name, draft.tokens, draft.gpu_layers]
    told["lora"] = [[a.rank, a.nbytes] for a in settings.lora]
    return told


_DEFAULTS: Final = _told(Settings())


def signature(plan: Plan) -> dict[str, Any]:
    """What has to be the same for a measurement to hold."""
    m, p = plan.model, plan.placement
    settings = _told(plan.settings)
    return {
        "architecture": m.architecture,
        "model_type": m.model_type,
        "parameters": m.parameters,
        "weight_bytes": m.weight_bytes,
        "quantization": m.quantization,
        "engine": plan.engine,
        "gpu": plan.gpus[0].name,
        "gpus": len(plan.gpus),
        "tp": p.tp,
        "pp": p.pp,
        "ep": p.ep,
        **({"dp": p.dp} if p.dp > 1 else {}),
        "kv_dtype": plan.workload.kv_dtype,
        # Layers are dealt by free memory, unless shares are given: what lies on a GPU is another matter when they fall otherwise.
        **({"layers": list(dealt)} if (dealt := layers_dealt(plan)) else {}),
        "settings": _chosen(settings),
    }


def _chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are not the default: a row saved before a setting was known still holds for plans that don't use it."""
    return {name: value for name, value in settings.items() if name != "version" and value != _DEFAULTS.get(name)}


def find_row(plan: Plan, rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The newest row (the last one) that was measured under the plan's circumstances; None when there is none."""
    found, wanted = None, signature(plan)
    for row in rows:
        held = row.get("signature")
        settings = held.get("settings") if isinstance(held, Mapping) else None
        if not isinstance(held, Mapping) or not isinstance(settings, Mapping) or {**held, "settings": _chosen(settings)} != wanted:
            continue
        version = row.get("engine_version")
        if plan.settings.version and (not isinstance(version, str) or version.lstrip("v") != plan.settings.version.lstrip("v")):
            continue
        found = row
    return found


def calibrated(plan: Plan, row: Mapping[str, Any]) -> Plan:
    """`plan` with the parts that `row` measured, marked so; verdict, pool and limits follow them.

    A cache that the workload shapes counts only where the row's workload is the plan's; a pool counts always.
    """
    rules = engine_named(plan.engine)
    same_work = row.get("context_tokens") == plan.workload.context_tokens and row.get("concurrency") == plan.workload.concurrency
    ranks = row.get("parts")
    measured = [_sizes(r) for r in ranks] if isinstance(ranks, list) and ranks else []
    if not any(measured):
        return plan
    whose = str(row.get("id") or row.get("source") or "a saved log")[:80]
    gpus = []
    for place, gpu in enumerate(plan.gpus):
        sizes = dict(measured[place] if len(measured) == len(plan.gpus) else measured[0])
        if gpu.pool is None and not same_work:
            sizes.pop("kv_cache", None)
            sizes.pop("activations", None)
        gpus.append(_replaced(gpu, sizes, f"measured here ({whose})", pool=gpu.pool is not None))
    kinds: dict[tuple[str, int, int], tuple[GpuPlan, Demand]] = {}
    free = free_bytes(rules, plan.fleet, plan.placement)
    for gpu, member in zip(gpus, plan.fleet.gpus, strict=False):
        demand = Demand(
            model=plan.model,
            gpu=member.gpu,
            placement=plan.placement,
            workload=share_of(plan.workload, plan.placement),
            settings=plan.settings,
            free_bytes=free,
        )
        kinds[gpu.name, gpu.stage, gpu.total_bytes] = gpu, demand
    known = list(kinds.values())
    return replace(
        plan,
        gpus=tuple(gpus),
        kv_pool=kv_room(rules, known),
        limits=limits_of(rules, known, share_of(plan.workload, plan.placement), plan.model.geometry.max_context_tokens),
        verdict=judge(gpus, plan.headroom, certain=plan.model.caches_known),
        notes=(*plan.notes, f"parts marked `measured` are from {whose}"),
    )


def _sizes(value: Any) -> dict[str, int]:
    """Bytes by part; whatever is no size is left out."""
    if not isinstance(value, Mapping):
        return {}
    return {k: v for k, v in value.items() if k in PART_NAMES and isinstance(v, int) and not isinstance(v, bool) and 0 <= v < _MOST}


def _replaced(gpu: GpuPlan, sizes: Mapping[str, int], why: str, *, pool: bool) -> GpuPlan:
    parts = Parts(**{name: Part.exact(sizes[name], "measured", f"{why}; {part.why}") if name in sizes else part for name, part in gpu.parts.items()})
    return replace(gpu, parts=parts, pool=parts.kv_cache if pool else None, kv_needed_bytes=gpu.kv_needed_bytes if pool else parts.kv_cache.bytes)
