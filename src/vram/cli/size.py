"""`vram size`: the pools of least cost that keep a service level for a workload."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vram.cli.loads import load_options
from vram.cli.types import SECONDS, TOKENS
from vram.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vram.planner.size.levels import Levels

MOST_NAME = 200


@click.command(name="size", short_help="Pools of least cost for a workload.")
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="[NAME=]MODEL",
    help="What is served, as vram plan reads it; NAME is its public name and that of a trace. Repeat it.",
)
@load_options
@click.option(
    "--share", "shares", multiple=True, type=float, metavar="N", help="A share of one trace for each --model. Default: each serves all of it, or what names it."
)
@click.option(
    "--gpu", "gpus", multiple=True, metavar="NAME", help='GPUs of a replica to choose from: L40S (1, 2, 4 or 8 of them), "2x H100". Default: all with a price.'
)
@click.option("--ttft-p50", type=SECONDS, help="Half of the requests see their first token within this time (2s, 200ms).")
@click.option("--ttft-p90", type=SECONDS, help="90 of 100 do.")
@click.option("--ttft-p99", type=SECONDS, help="99 of 100 do. Default: 2s, where no level is asked for.")
@click.option("--tpot-p50", type=SECONDS, help="Half of the answers take at most this time for each further token, on average over the answer.")
@click.option("--tpot-p90", type=SECONDS, help="90 of 100 do.")
@click.option("--tpot-p99", type=SECONDS, help="99 of 100 do. Default: 100ms, where no level is asked for.")
@click.option("--max-refusals", type=float, default=0.0, show_default=True, help="Share of the requests that may be refused or cut short.")
@click.option("--budget", metavar="USD", help="Dollars an hour that all pools together may cost.")
@click.option("--price", "prices", multiple=True, metavar="USD", help='Dollars an hour for each GPU: 2.5, or of one kind "RTX 4090=0.4" (repeat it).')
@click.option("--provider", metavar="NAME", help="Take this provider's prices: vram prices lists them.")
@click.option("--kind", metavar="NAME", default="on-demand", show_default=True, help="And this kind: on-demand, spot, reserved.")
@click.option("--engine", metavar="NAME[@VERSION]", default="vllm", show_default=True, help="Whose memory rules and speed to use.")
@click.option("--quant", metavar="NAME", help="Serve with the weights stored so: fp8, awq ...")
@click.option("--kv-dtype", metavar="NAME", help="Type of the KV cache: bf16, fp8 ... Default: the model's own.")
@click.option("--context", "context_tokens", type=TOKENS, help="The longest sequence a replica takes. Default: the longest request.")
@click.option("--tp", type=click.IntRange(min=1), help="Tensor-parallel ranks of a replica. Default: all its GPUs.")
@click.option("--gpu-memory-utilization", type=click.FloatRange(0, 1, min_open=True), help="Share of each GPU's memory that may be used.")
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Most sequences in one batch. Default: the engine's.")
@click.option("--max-batched-tokens", type=TOKENS, help="Most tokens in one step. Default: the engine's, and shorter steps where they serve better.")
@click.option(
    "--slower", type=click.FloatRange(0.01, 100), default=1.0, show_default=True, help="Size as if every step took so many times as long as predicted."
)
@click.option("--max-replicas", type=click.IntRange(1, 4096), default=1024, show_default=True, help="Most replicas of a pool that are tried.")
@click.option("--rivals", type=click.IntRange(0, 100), default=0, show_default=True, help="Seek the exact price of so many other kinds of GPU, too.")
@click.option("--out", metavar="FILE", help="Write the pools file here (pools.toml), for vram simulate and the gateway.")
@click.option("--html", metavar="FILE", help="Write the answer with its pictures as one HTML file.")
@click.option("--svg", metavar="FILE", help="Write the picture of the KV cache in use over time.")
@click.option("--offline", is_flag=True, help="Touch no network: local files, the hub's cache and the built-in catalogue.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.size/1.")
@click.option("--quiet", "-q", is_flag=True, help="Print the replicas and GPUs of each model only.")
def command(
    *,
    models: tuple[str, ...],
    shares: tuple[float, ...],
    gpus: tuple[str, ...],
    max_refusals: float,
    budget: str | None,
    prices: tuple[str, ...],
    provider: str | None,
    kind: str,
    engine: str,
    quant: str | None,
    kv_dtype: str | None,
    context_tokens: int | None,
    tp: int | None,
    gpu_memory_utilization: float | None,
    max_num_seqs: int | None,
    max_batched_tokens: int | None,
    slower: float,
    max_replicas: int,
    rivals: int,
    out: str | None,
    html: str | None,
    svg: str | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **rest: Any,
) -> None:
    """The pools of least cost for a workload: for each model the GPUs, placement, replicas and engine settings that keep a service level.

    The requests of a trace, or of a rate with lengths, are replayed on replicas that batch as vLLM does, under their real KV capacity. What is
    told: the money, how full the pools were over time, and what one replica more or less would do. docs/size.md shows an example.

    \b
    vram size --model meta-llama/Llama-3.1-8B-Instruct --trace requests.csv --ttft-p99 2s --tpot-p99 100ms --out pools.toml
    vram size --model small=Qwen/Qwen3-8B --model large=Qwen/Qwen3-32B --share 4 --share 1 --rate 5 --prompt 800~0.9 --gpu "H100 SXM" --gpu L40S
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    from vram.cli.cost import stated
    from vram.cli.loads import arrivals, dealt
    from vram.costs.money import MOST_USD, parse_usd
    from vram.sizing import Demanded, pools_of, size

    named = [_named(text) for text in models]
    levels = _levels(rest, max_refusals)
    found = arrivals(**rest)
    parts = dealt(found, [name or model for name, model in named], shares)
    each, by_gpu = stated(prices)
    with _progress() as report:
        sizing = size(
            [Demanded(model=model, name=name, requests=requests) for (name, model), requests in zip(named, parts, strict=True)],
            levels=levels,
            gpus=gpus,
            engine=engine,
            quant=quant,
            kv_dtype=kv_dtype,
            context_tokens=context_tokens,
            tp=tp,
            gpu_memory_utilization=gpu_memory_utilization,
            max_num_seqs=max_num_seqs,
            max_batched_tokens=max_batched_tokens,
            price_usd=each,
            prices=by_gpu,
            provider=provider,
            kind=kind,
            budget_usd=None if budget is None else parse_usd(budget, "--budget", MOST_USD),
            slower=slower,
            max_replicas=max_replicas,
            rivals=rivals,
            offline=offline or None,
            progress=report,
        )
    for a in found:
        if a.skipped:
            click.echo(f"note: {a.skipped:,} lines of {a.told} were left out", err=True)
    notes = _why(sizing)
    if out is not None:
        from vram.sources.pools import write_pools

        for path in write_pools(
            out,
            pools_of(sizing),
            head=('written by vram size; add the replicas\' addresses: replicas = ["http://HOST:PORT"], or start them on one machine: vram up',),
            notes=notes,
        ):
            click.echo(f"wrote {path}", err=True)
    if html is not None or svg is not None:
        _draw(sizing, html, svg, notes)
    if as_json:
        from vram.cli.output import print_json
        from vram.planner.size.document import size_document

        print_json(size_document(sizing))
    elif quiet:
        for p in sizing.pools:
            click.echo(f"{p.chosen.replicas} x {p.candidate.name}: {printable(p.load.model)}")
    else:
        from vram.cli.output import print_styled, terminal_width
        from vram.cli.render.size import picture

        print_styled(picture(sizing, terminal_width()))


def _named(text: str) -> tuple[str, str]:
    """Public name and model of `NAME=MODEL` or `MODEL`."""
    name, equals, model = text.partition("=")
    if not equals:
        return "", text
    if not name or not model:
        raise UsageError(f"--model {text!r} names {'no model' if name else 'nothing'}", hint="write --model NAME=MODEL, or --model MODEL")
    if len(name) > MOST_NAME:
        raise UsageError(f"a public name of {len(name):,} characters", hint=f"at most {MOST_NAME} are possible")
    return name, model


def _levels(rest: dict[str, Any], refusals: float) -> "Levels":
    """The levels that were asked for, or those that are taken where none was."""
    from vram.planner.size.levels import Level, Levels, Metric
    from vram.sizing import DEFAULT_LEVELS

    times = []
    for metric in Metric:
        for percent in (50, 90, 99):
            value = rest.pop(f"{metric.value}_p{percent}")
            if value is not None:
                times.append(Level(metric=metric, share=percent / 100, seconds=value))
    return Levels(times=tuple(times) or DEFAULT_LEVELS.times, refused_share=refusals)


def _why(sizing: Any) -> dict[str, tuple[str, ...]]:
    """By a pool's name, why it is as it is: comments of the pools file."""
    from vram.cli.render.size import asked, reached
    from vram.costs.money import show_usd
    from vram.sizing import pools_of

    out = {}
    for pool, p in zip(pools_of(sizing).pools, sizing.pools, strict=True):
        lines = [f"asked: {asked(p.levels)}", f"{p.chosen.replicas} replicas: {reached(p.chosen.verdict)}; {show_usd(p.chosen.usd_per_hour)} an hour"]
        if p.fewer is not None:
            lines.append(f"{p.fewer.replicas} would not do: {reached(p.fewer.verdict)}")
        out[pool.name] = tuple(lines)
    return out


def _draw(sizing: Any, html: str | None, svg: str | None, notes: dict[str, tuple[str, ...]]) -> None:
    from pathlib import Path
    from shlex import join

    from vram.cli.render.size_report import report, use_chart
    from vram.readers.pools import pools_text
    from vram.sizing import pools_of

    if svg is not None:
        Path(svg).write_text(use_chart(sizing), encoding="utf-8")
        click.echo(f"wrote {svg}", err=True)
    if html is not None:
        text = report(sizing, pools_file=pools_text(pools_of(sizing), notes=notes), command=join(["vram", *sys.argv[1:]]))
        Path(html).write_text(text, encoding="utf-8")
        click.echo(f"wrote {html}", err=True)


@contextmanager
def _progress() -> "Iterator[Callable[[str], None] | None]":
    """One line on stderr about what is being replayed; silence where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from time import monotonic

    start = monotonic()

    def report(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{monotonic() - start:4.0f} s  {printable(text, 110)}")
        sys.stderr.flush()

    try:
        yield report
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
