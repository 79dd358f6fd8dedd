"""The requests that a command line names: traces, or a rate with lengths; whole, shared out, or by the model that a trace names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from vram.cli.types import SECONDS
from vram.errors import UsageError

if TYPE_CHECKING:
    from vram.planner.simulate.generate import Lengths
    from vram.planner.simulate.request import Request


def load_options(command: Any) -> Any:
    """The options that say what arrives, for any command that replays requests."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--trace",
        "traces",
        multiple=True,
        metavar="FILE",
        help="Requests: CSV (Azure, BurstGPT) or JSON lines (Mooncake), plain or .gz; one for each --model, or one for all.",
    ),
    click.option("--rate", metavar="N", type=float, help="Instead of a trace: so many requests a second."),
    click.option("--duration", type=SECONDS, default="1h", show_default=True, help="For so long."),
    click.option(
        "--prompt",
        metavar="TOKENS",
        default="1024",
        show_default=True,
        help="Lengths of prompts: 1024, 200-2000 (even), 800~0.9 (log-normal: median and sigma).",
    ),
    click.option("--output", metavar="TOKENS", default="256", show_default=True, help="Lengths of answers, likewise."),
    click.option(
        "--burst",
        type=click.FloatRange(0, 100),
        default=1.0,
        show_default=True,
        help="Variation of the gaps between requests: 0 steady, 1 Poisson, more in bursts.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Other requests for another seed."),
    click.option("--first", type=click.IntRange(min=1), help="Take so many requests of a trace at most."),
    click.option("--sort", is_flag=True, help="Bring a trace in order of time instead of refusing what is not."),
    click.option("--skip-bad", is_flag=True, help="Leave out lines of a trace that cannot be used instead of refusing them."),
    click.option(
        "--speedup", type=click.FloatRange(min=0.001, max=10000), default=1.0, show_default=True, help="Let the requests of a trace come so many times faster."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What was named.

    Attributes:
        requests: in the order of their arrival.
        told: in a few words.
        skipped: lines of a trace that were left out.
    """

    requests: "tuple[Request, ...]"
    told: str
    skipped: int = 0


def arrivals(
    traces: Sequence[str],
    rate: float | None,
    duration: float,
    prompt: str,
    output: str,
    burst: float,
    seed: int,
    first: int | None,
    speedup: float,
    *,
    sort: bool,
    skip_bad: bool,
) -> list[Arrivals]:
    """Each trace, or the one stream of a rate.

    Raises:
        UsageError: neither or both, or something in them makes no sense.
    """
    if bool(traces) == (rate is not None):
        raise UsageError("a trace or a rate is needed" if not traces else "a trace and a rate", hint="--trace FILE, or --rate 5 --prompt 1024 --output 256")
    if rate is not None:
        from vram.planner.simulate.generate import Load, generate

        load = Load(per_second=rate, seconds=duration, prompt=lengths(prompt, "--prompt"), output=lengths(output, "--output"), variation=burst, seed=seed)
        return [Arrivals(requests=tuple(generate(load)), told=f"{rate:g} {'request' if rate == 1 else 'requests'} a second")]

    from vram.sizing import requests_of

    out = []
    for path in traces:
        requests, skipped = requests_of(path, speedup=speedup, first=first, sort=sort, skip_bad=skip_bad)
        out.append(Arrivals(requests=requests, told=path, skipped=skipped))
    return out


def lengths(text: str, flag: str) -> "Lengths":
    """Where lengths come from: `1024`, `200-2000`, `800~0.9`.

    Raises:
        UsageError: the text is none of these.
    """
    from vram.planner.simulate.generate import Fixed, LogNormal, Uniform

    plain = text.replace(",", "").replace(" ", "")
    if re.fullmatch(r"\d{1,9}", plain) and int(plain):
        return Fixed(tokens=int(plain))
    if (match := re.fullmatch(r"(\d{1,9})-(\d{1,9})", plain)) and 1 <= int(match[1]) <= int(match[2]):
        return Uniform(low=int(match[1]), high=int(match[2]))
    if (match := re.fullmatch(r"(\d{1,9})~(\d{1,2}(?:\.\d{1,6})?)", plain)) and int(match[1]):
        return LogNormal(median=float(match[1]), sigma=float(match[2]))
    raise UsageError(f"{flag} {text!r} are no lengths", hint=f"{flag} 1024, {flag} 200-2000 (even), or {flag} 800~0.9 (log-normal: median and sigma)")


def dealt(found: Sequence[Arrivals], names: Sequence[str], shares: Sequence[float]) -> "list[tuple[Request, ...]]":
    """The requests of each model: its own trace; those of one trace that name it; its share of one; or all of one.

    Raises:
        UsageError: traces and models do not match.
    """
    if shares:
        return _shared(found, names, shares)
    if len(found) == len(names) > 1:
        return [a.requests for a in found]
    if len(found) != 1:
        raise UsageError(f"{len(found)} traces for {len(names)} models", hint="one --trace for each --model, in the same order, or one for all")
    requests = found[0].requests
    named = {r.model for r in requests}
    if len(names) == 1 or not named & set(names):
        return [requests] * len(names)
    if strangers := sorted(named - set(names)):
        raise UsageError(
            f"requests of {found[0].told} ask for {', '.join(strangers[:5])}, for which no model is named", hint=f'name it: --model "{strangers[0]}=MODEL"'
        )
    return [_alone([r for r in requests if r.model == name]) for name in names]


def _shared(found: Sequence[Arrivals], names: Sequence[str], shares: Sequence[float]) -> "list[tuple[Request, ...]]":
    """Requests dealt out in turn, so that each model's share is even over time."""
    if len(shares) != len(names) or len(found) != 1:
        raise UsageError(
            f"{len(shares)} shares for {len(names)} models and {len(found)} traces", hint="one --share for each --model, of one trace: --share 0.8 --share 0.2"
        )
    if any(not 0 < s < float("inf") for s in shares):
        raise UsageError("a share is not above 0", hint="shares are parts of their sum: --share 4 --share 1")
    total, owed, out = sum(shares), [0.0] * len(names), [[] for _ in names]  # type: ignore[var-annotated]
    for r in found[0].requests:
        for i, share in enumerate(shares):
            owed[i] += share / total
        k = max(range(len(names)), key=lambda i: owed[i])
        owed[k] -= 1.0
        out[k].append(r)
    return [_alone(part) for part in out]


def _alone(requests: "Sequence[Request]") -> "tuple[Request, ...]":
    """From time 0 on."""
    if not requests:
        return ()
    start = requests[0].arrival_seconds
    return tuple(replace(r, arrival_seconds=r.arrival_seconds - start) for r in requests)
