"""What would make a model of `vram up` fit: flags, each planned as it would be typed and kept only where its engine takes it and it fits then."""

import shlex
from dataclasses import replace
from math import ceil
from typing import Any, Final

from vram.errors import UsageError
from vram.hardware.fleet import Fleet, Origin
from vram.planner.plan import Plan, Verdict
from vram.runtime.choosing import fleet_of
from vram.runtime.engines.base import Address
from vram.runtime.placing import Placed, line_of, replan
from vram.runtime.together import Household, within
from vram.runtime.wanted import Wanted
from vram.units import GIB

MOST_SHOWN: Final = 3
BUDGET_STEP_BYTES: Final = GIB // 10
BUDGET_TRIES: Final = 8
_FIELDS: Final = {
    "--context": ("context_tokens", int),
    "--concurrency": ("concurrency", int),
    "--kv-dtype": ("kv_dtype", str),
    "--quant": ("quant", str),
    "--gpu-memory-utilization": ("gpu_memory_utilization", float),
    "--gpu-layers": ("gpu_layers", int),
    "--tp": ("tp", int),
}
"""Options of `vram up` that a mend may name, and what they set."""


def mends_of(household: Household, one: Placed) -> list[str]:
    """What would make a model fit, as flags behind the same command; where a budget is short and not the machine, a larger one first.

    None where nothing is to be mended: it fits, or room for it is reserved by what it was seen to hold.
    """
    if one.plan.verdict is Verdict.FITS or (one.reserved and one.loadable):
        return []
    found = [_budget(household, one)] if household.budget_bytes is not None else []
    found += [m.flag for m in one.plan.mends if m.verdict is not Verdict.DOES_NOT_FIT and _works(household, one, m.flag)]
    return [flag for flag in found if flag][:MOST_SHOWN]


def all_at_once(household: Household) -> str:
    """The budget with which all models are loaded at the start, in steps of 0.1 GiB; empty where they are, or where several GPUs or the machine's room decide."""
    machine = household.machine
    if machine is None or len(machine) != 1 or len(household.first) == len(household.ways):
        return ""
    most = sum(sum(p.reserved) or max(p.plan.gpus[0].parts.high_bytes, p.plan.gpus[0].total_bytes) for p in household.placed)
    tenths = ceil(most / BUDGET_STEP_BYTES)
    return f"--budget {tenths / 10:g}GiB" if tenths * GIB // 10 <= machine.gpus[0].free_bytes else ""


def _works(household: Household, one: Placed, flags: str) -> bool:
    """Whether a model is accepted and fits with those flags behind the command."""
    words = shlex.split(flags)
    fleet = one.fleet
    changed: dict[str, Any] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name == "--gpu":
            # Cards that are only named may be named otherwise; a machine has what it has.
            if fleet.origin is Origin.DETECTED or household.budget_bytes is not None or len(household.ways) > 1:
                return False
            fleet = fleet_of(value, dry=True)
        elif name in _FIELDS:
            field, kind = _FIELDS[name]
            changed[field] = kind(value)
        else:
            return False
    return _better(one, replace(one.wanted, **changed), fleet)


def _better(one: Placed, wanted: Wanted, fleet: Fleet) -> bool:
    made = _tried(one, wanted, fleet)
    return made is not None and (made.verdict is Verdict.FITS or (made.verdict is Verdict.TIGHT and one.plan.verdict is Verdict.DOES_NOT_FIT))


def _tried(one: Placed, wanted: Wanted, fleet: Fleet) -> Plan | None:
    """The plan with other settings; None where its engine refuses them."""
    try:
        made = replan(replace(one, fleet=fleet), wanted)
        line_of(made, Address(port=0, name=made.alias))
    except UsageError:
        return None
    return made.plan


def _budget(household: Household, one: Placed) -> str:
    """The smallest budget, in steps of 0.1 GiB, with which a model fits for sure; empty where the machine has no such room."""
    machine = household.machine
    if machine is None:
        return ""
    mine = machine.only(one.on)
    most = max(max(g.parts.high_bytes, g.total_bytes, int(g.parts.weights.bytes * (1 + one.plan.headroom))) for g in one.plan.gpus)
    steps = ceil(most / BUDGET_STEP_BYTES)
    for tenths in range(steps, steps + BUDGET_TRIES):
        made = _tried(one, one.wanted, within(mine, tenths * GIB // 10))
        if made is not None and made.verdict is Verdict.FITS:
            return f"--budget {tenths / 10:g}GiB" if all(tenths * GIB // 10 <= g.free_bytes for g in mine.gpus) else ""
    return ""
