"""Planning no more than the answer needs: no row of a model can be worth more than the model unquantised, so the best models are planned first.

The answer is that of planning everything; a test holds it to that. Counting what there would be to plan costs next to nothing.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from vram.engines.supports import ENGINES, rule_for
from vram.planner.bulk.candidates import _groups, _variants, _wanted
from vram.planner.choosing.quality import Quality

if TYPE_CHECKING:
    from vram.planner.bulk import Facts, Place

STAGES: Final = (24, 72)
"""Families of models that are planned first, and next; then all."""


def count_rows(facts: "Facts", places: "Sequence[Place]", *, models: Sequence[str], quants: Sequence[str] | None, engines: Sequence[str] | None) -> int:
    """How many rows `candidates` would plan (rows that an engine then refuses are counted)."""
    names, chosen, total = tuple(engines or ENGINES), _variants(facts, models, quants), 0
    body = facts.column["body"]
    owners = np.array([m.body for m in facts.models], dtype=np.int64)[_wanted(facts, models)]
    times = np.bincount(owners, minlength=len(facts.bodies))
    for group in _groups(facts, names, tuple(places), chosen):
        gpus = [places[i].gpu for i in group.places]
        known = np.array([sum(rule_for(group.engine, m, g.vendor, g.compute_capability) is not None for g in gpus) for m in facts.methods])
        total += int((known[facts.method[group.variants]] * times[body[group.variants]]).sum())
    return total


def stages(facts: "Facts", quality: Quality, models: Sequence[str]) -> Iterator[tuple[list[str], float]]:
    """Growing sets of models, the best families first, each with the most that any row of the others could be worth."""
    wanted = set(models)
    merit: dict[str, float] = {}
    members: dict[str, list[str]] = {}
    for entry in facts.models:
        if entry.id in wanted:
            family = quality.models[entry.id].of if entry.id in quality.models else entry.id
            members.setdefault(family, []).append(entry.id)
            merit[family] = max(merit.get(family, -np.inf), quality.merit(entry.id, entry.parameters, entry.active_parameters))
    families = sorted(members, key=lambda f: (-merit[f], f))
    for many in STAGES:
        if many < len(families):
            yield [name for f in families[:many] for name in members[f]], merit[families[many]]
    yield [name for f in families for name in members[f]], -np.inf
