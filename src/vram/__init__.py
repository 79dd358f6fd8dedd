"""VRAM: how many bytes an AI model takes on which GPU, part by part, before anything is downloaded.

import vram

p = vram.plan("Qwen/Qwen3-8B", gpu="RTX 4090", context_tokens=32_768)
p.verdict, p.gpus[0].parts.kv_cache.bytes, p.limits.max_context_tokens
"""

from typing import TYPE_CHECKING, Any

from vram.version import __version__

if TYPE_CHECKING:
    from vram.api import detect, load_model, parse_gpus, plan
    from vram.costs.cost import Cost
    from vram.errors import (
        HardwareNotFoundError,
        ModelError,
        ModelFormatError,
        ModelNotFoundError,
        PlacementError,
        PriceListError,
        SourceError,
        UnknownArchitectureError,
        UnknownGpuError,
        UnmetError,
        UsageError,
        VramError,
    )
    from vram.hardware.fleet import Fleet
    from vram.hardware.gpu import Gpu
    from vram.memory.part import Part, Parts
    from vram.model.model import Model
    from vram.picking import pick
    from vram.planner.choosing.choice import Choice, Miss, Pick
    from vram.planner.choosing.document import pick_document
    from vram.planner.document import plan_document
    from vram.planner.mends import Mend
    from vram.planner.plan import GpuPlan, KvPool, Limits, Plan, Verdict
    from vram.planner.simulate.outcome import Outcome
    from vram.planner.simulate.request import Request
    from vram.planner.simulate.spec import PoolSpec, ServiceLevel
    from vram.planner.size.document import size_document
    from vram.planner.size.levels import Level, Levels, Metric
    from vram.planner.size.sizing import Sizing
    from vram.pricing import cost, price_book
    from vram.replay import pool_of, simulate
    from vram.sizing import Demanded, pools_of, size

_HOMES = {
    "detect": "vram.api",
    "load_model": "vram.api",
    "parse_gpus": "vram.api",
    "plan": "vram.api",
    "Cost": "vram.costs.cost",
    "cost": "vram.pricing",
    "pick": "vram.picking",
    "Choice": "vram.planner.choosing.choice",
    "Miss": "vram.planner.choosing.choice",
    "Pick": "vram.planner.choosing.choice",
    "pick_document": "vram.planner.choosing.document",
    "price_book": "vram.pricing",
    "HardwareNotFoundError": "vram.errors",
    "ModelError": "vram.errors",
    "ModelFormatError": "vram.errors",
    "ModelNotFoundError": "vram.errors",
    "PlacementError": "vram.errors",
    "PriceListError": "vram.errors",
    "SourceError": "vram.errors",
    "UnknownArchitectureError": "vram.errors",
    "UnknownGpuError": "vram.errors",
    "UnmetError": "vram.errors",
    "UsageError": "vram.errors",
    "VramError": "vram.errors",
    "Fleet": "vram.hardware.fleet",
    "Gpu": "vram.hardware.gpu",
    "Part": "vram.memory.part",
    "Parts": "vram.memory.part",
    "Model": "vram.model.model",
    "plan_document": "vram.planner.document",
    "Mend": "vram.planner.mends",
    "GpuPlan": "vram.planner.plan",
    "KvPool": "vram.planner.plan",
    "Limits": "vram.planner.plan",
    "Plan": "vram.planner.plan",
    "Verdict": "vram.planner.plan",
    "Request": "vram.planner.simulate.request",
    "size_document": "vram.planner.size.document",
    "Level": "vram.planner.size.levels",
    "Levels": "vram.planner.size.levels",
    "Metric": "vram.planner.size.levels",
    "Outcome": "vram.planner.simulate.outcome",
    "PoolSpec": "vram.planner.simulate.spec",
    "ServiceLevel": "vram.planner.simulate.spec",
    "Sizing": "vram.planner.size.sizing",
    "Demanded": "vram.sizing",
    "pools_of": "vram.sizing",
    "size": "vram.sizing",
    "pool_of": "vram.replay",
    "simulate": "vram.replay",
}

__all__ = [
    "Choice",
    "Cost",
    "Demanded",
    "Fleet",
    "Gpu",
    "GpuPlan",
    "HardwareNotFoundError",
    "KvPool",
    "Level",
    "Levels",
    "Limits",
    "Mend",
    "Metric",
    "Miss",
    "Model",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "Outcome",
    "Part",
    "Parts",
    "Pick",
    "PlacementError",
    "Plan",
    "PoolSpec",
    "PriceListError",
    "Request",
    "ServiceLevel",
    "Sizing",
    "SourceError",
    "UnknownArchitectureError",
    "UnknownGpuError",
    "UnmetError",
    "UsageError",
    "Verdict",
    "VramError",
    "__version__",
    "cost",
    "detect",
    "load_model",
    "parse_gpus",
    "pick",
    "pick_document",
    "plan",
    "plan_document",
    "pool_of",
    "pools_of",
    "price_book",
    "simulate",
    "size",
    "size_document",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562): `import vram` itself costs nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'vram' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
