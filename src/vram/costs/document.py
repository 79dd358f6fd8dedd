"""Costs as the JSON object `vram.cost/1`, and prices as `vram.prices/1` (schemas: vram/schemas/, printed by `vram schema`)."""

from collections.abc import Iterable
from typing import Any

from vram.costs.cost import Cost
from vram.costs.price import Price
from vram.costs.rent import Rent
from vram.speed.figure import Figure

COST_SCHEMA = "vram.cost/1"
PRICES_SCHEMA = "vram.prices/1"


def price_document(price: Price) -> dict[str, Any]:
    """One price."""
    return {
        "gpu": price.gpu,
        "usd_per_gpu_hour": price.usd_per_gpu_hour,
        "provider": price.provider,
        "kind": price.kind,
        "as_of": price.as_of or None,
        "dated": price.dated,
        "source": price.source,
        "note": price.note,
    }


def rent_document(rent: Rent) -> dict[str, Any]:
    """What a fleet costs an hour, with its prices."""
    return {
        "usd_per_hour": rent.usd_per_hour,
        "nanodollars_per_hour": rent.nanodollars_per_hour,
        "prices": [
            {"gpu": line.gpu, "count": line.count, "price": None if line.price is None else price_document(line.price), "why": line.why} for line in rent.lines
        ],
        "missing": list(rent.missing),
        "hint": rent.hint or None,
    }


def figure_document(figure: Figure | None) -> dict[str, Any] | None:
    """A figure with its band."""
    if figure is None:
        return None
    return {"value": figure.value, "low": figure.low, "high": figure.high, "source": figure.source, "why": figure.why}


def cost_document(cost: Cost) -> dict[str, Any]:
    """One model's cost."""
    b, r, v = cost.bytes, cost.round, cost.vram_time
    return {
        "model": cost.model,
        "fleet": cost.fleet,
        "engine": cost.engine,
        "verdict": cost.verdict,
        "placement": {"label": cost.placement, "gpus": cost.gpus, "replicas": cost.replicas, "gpus_per_replica": cost.gpus_per_replica},
        "load": cost.load,
        "rent": rent_document(cost.rent),
        "bytes": None
        if b is None
        else {"usable": b.usable, "weights": b.weights, "working": b.working, "kv_mean": round(b.kv_mean), "kv_per_token": b.kv_per_token},
        "round": None
        if r is None
        else {
            "concurrency": r.concurrency * r.copies,
            "prompt_tokens": r.prompt_tokens,
            "output_tokens": r.output_tokens,
            "prefill_seconds": r.prefill_seconds,
            "step_seconds": r.step_seconds,
            "seconds": r.seconds,
            "prefill_share": r.prefill_share,
        },
        "input_tokens_per_second": cost.input_tokens_per_second,
        "output_tokens_per_second": cost.output_tokens_per_second,
        "usd_per_million_input": figure_document(cost.usd_per_million_input),
        "usd_per_million_output": figure_document(cost.usd_per_million_output),
        "usd_per_million_tokens": figure_document(cost.usd_per_million_tokens),
        "vram_time": None
        if v is None
        else {
            "usd_per_million_tokens": figure_document(cost.vram_time_usd_per_million_tokens),
            "weights_share": v.weights_share,
            "working_share": v.working_share,
            "kv_share": v.kv_share,
            "idle_share": v.idle_share,
        },
        "why": cost.why,
        "notes": list(cost.notes),
    }


def costs_document(costs: Iterable[Cost]) -> dict[str, Any]:
    """All of them."""
    return {"schema": COST_SCHEMA, "costs": [cost_document(c) for c in costs]}


def prices_document(prices: Iterable[Price], notes: Iterable[str] = ()) -> dict[str, Any]:
    """A list of prices."""
    return {"schema": PRICES_SCHEMA, "prices": [price_document(p) for p in prices], "notes": list(notes)}
