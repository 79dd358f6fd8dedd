"""An answer as the JSON object `vram.pick/1` (schema: vram/schemas/pick.json, printed by `vram schema pick`)."""

from itertools import groupby
from typing import Any

from vram.planner.choosing.choice import Choice, Merits, Miss, Pick
from vram.planner.document import figure_document
from vram.speed.estimate import Speed

SCHEMA = "vram.pick/1"


def pick_document(found: Pick) -> dict[str, Any]:
    """The whole answer, in whole bytes and tokens."""
    ask = found.ask
    return {
        "schema": SCHEMA,
        "need": ask.need.value if ask.need else None,
        "model": found.model or None,
        "fleet": found.fleet or None,
        "workload": {"context_tokens": ask.context_tokens, "concurrency": ask.concurrency},
        "bounds": {
            "min_tokens_per_second": ask.min_tokens_per_second,
            "budget_usd_per_hour": ask.budget_usd_per_hour,
            "licences": sorted(ask.licences) or None,
        },
        "sort": ask.order.value,
        "considered": found.considered,
        "planned": found.planned,
        "fitting": found.fitting,
        "choices": [choice_document(c) for c in found.choices],
        "near_misses": [miss_document(m) for m in found.misses],
        "notes": list(found.notes),
    }


def choice_document(choice: Choice) -> dict[str, Any]:
    """One choice."""
    return {
        "model": choice.model,
        "quant": choice.quant,
        "stored": choice.stored,
        "engine": choice.engine,
        "gpus": _cards(choice.gpus),
        "placement": {"tp": choice.placement.tp, "pp": choice.placement.pp, "ep": choice.placement.ep},
        "verdict": choice.verdict.value,
        "spare_bytes": choice.spare_bytes,
        "limits": {
            "max_context_tokens": choice.limits.max_context_tokens,
            "max_concurrency": choice.limits.max_concurrency,
            "context_bound_by": choice.limits.context_bound_by,
        },
        "speed": None if choice.speed is None else _speed(choice.speed),
        "cost": None
        if choice.cost is None
        else {
            "usd_per_hour": choice.cost.usd_per_hour,
            "usd_per_million_output_tokens": choice.cost.usd_per_million_output_tokens,
            "why": choice.cost.why,
        },
        "why": choice.why,
        "merits": _merits(choice.merits),
        "licence": choice.licence,
        "command": choice.command,
    }


def miss_document(miss: Miss) -> dict[str, Any]:
    """One near miss."""
    return {
        "model": miss.model,
        "quant": miss.quant,
        "engine": miss.engine,
        "gpus": _cards(miss.gpus),
        "verdict": miss.verdict.value,
        "spare_bytes": miss.spare_bytes,
        "bound": miss.bound,
        "reason": miss.reason,
        "mend": miss.mend or None,
        "command": miss.command,
    }


def _cards(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"name": name, "count": sum(1 for _ in run)} for name, run in groupby(names)]


def _merits(merits: Merits) -> dict[str, Any]:
    return {
        "points": round(merits.points, 3),
        "best_points": round(merits.best_points, 3),
        "parameters": merits.parameters,
        "active_parameters": merits.active_parameters,
        "generation": merits.generation.name if merits.generation else None,
        "released": merits.generation.released if merits.generation else None,
        "loss": None
        if merits.loss is None
        else {
            "perplexity": merits.loss.perplexity,
            "unquantized": merits.loss.unquantized,
            "source": merits.loss.source,
            "note": merits.loss.note or None,
        },
        "loss_known": merits.loss_known,
    }


def _speed(speed: Speed) -> dict[str, Any]:
    return {
        "decode_tokens_per_second": figure_document(speed.decode_tokens_per_second),
        "tpot_seconds": figure_document(speed.tpot_seconds),
        "decode_total_tokens_per_second": figure_document(speed.decode_total_tokens_per_second),
        "prefill_tokens_per_second": figure_document(speed.prefill_tokens_per_second),
        "ttft_seconds": figure_document(speed.ttft_seconds),
    }
