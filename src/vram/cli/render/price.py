"""One line beside a plan: what its GPUs cost an hour, who says so and as of when; nothing where no price is known.

The built-in list is looked at as it lies: a plan must not pay for the types of `vram.costs`, which only `vram cost` and a user's own prices
need. A test holds both ways to the same answer.
"""

from collections import Counter

from vram.errors import VramError
from vram.planner.plan import Plan


def price_line(plan: Plan) -> str:
    """The rent of the GPUs that the plan uses, in words; empty where one of them has no price."""
    from vram.sources.price_lists import has_own_prices

    detected = plan.fleet.origin.value == "detected"
    if has_own_prices():
        return _own(plan)
    return "" if detected else _listed(Counter(gpu.name for gpu in plan.gpus))


def _listed(counts: "Counter[str]") -> str:
    from vram.sources.price_lists import built_in_prices

    rows = [row for row in built_in_prices()["rental"] if row["kind"] == "on-demand" and row["gpu"] in counts]
    total, told = 0.0, []
    for gpu, count in counts.items():
        offers = sorted((row["usd_per_gpu_hour"], row["provider"], row) for row in rows if row["gpu"] == gpu)
        if not offers:
            return ""
        usd, provider, row = offers[(len(offers) - 1) // 2]
        total += usd * count
        when = f"as of {row['as_of']}" if row["dated"] == "stated" else f"in a list read {row['as_of']}"
        told.append(f"{f'{gpu} ' if len(counts) > 1 else ''}{provider} on-demand, {when}")
    return _words(total, sum(counts.values()), told)


def _own(plan: Plan) -> str:
    from vram.pricing import plan_rent

    try:
        paid = plan_rent(plan)
    except VramError as e:
        return f"{e.message} ({e.hint})"
    if paid.usd_per_hour is None:
        return ""
    told = [f"{f'{line.gpu} ' if len(paid.lines) > 1 else ''}{line.price.who}" for line in paid.lines if line.price is not None]
    return _words(paid.usd_per_hour, len(plan.gpus), told)


def _words(total: float, gpus: int, told: list[str]) -> str:
    each = f" for {gpus} GPUs" if gpus > 1 else ""
    return f"${total:,.2f} an hour{each}: {'; '.join(told)} (vram cost tells it by the token)"
