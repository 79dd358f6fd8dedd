"""`vram simulate TRACE`: requests replayed against pools, several policies of admission side by side."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vram.cli.loads import load_options
from vram.cli.types import BYTES, SECONDS, TOKENS, last_fleet
from vram.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vram.planner.simulate.outcome import Outcome
    from vram.planner.simulate.request import Request
    from vram.planner.simulate.spec import PoolSpec


@click.command(name="simulate", short_help="A trace replayed against pools under several policies.")
@click.argument("trace", required=False)
@click.option("--pools", "pools_file", metavar="FILE", help="The pools file that vram size writes and the gateway reads (pools.toml).")
@click.option("--model", metavar="MODEL", help="Instead of a file: this model, as vram plan reads it.")
@click.option("--gpu", metavar="NAME", multiple=True, callback=last_fleet, help='On these GPUs, those of one replica: "L40S", "2x H100".')
@click.option("--replicas", type=click.IntRange(1, 4096), default=1, show_default=True, help="So many replicas.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="engine, requests[=N], kv-worst, kv-learned[=SHARE]; repeat it. Default: all four.",
)
@click.option("--queue-seconds", type=SECONDS, help="A request that waits so long before it is let in is refused. Default: none is.")
@click.option("--max-tokens", type=TOKENS, help="What clients allow an answer to be. Default: as the trace says, else what the context leaves.")
@click.option("--ttft", type=SECONDS, default="2s", show_default=True, help="A request is well served when its first token comes within this time")
@click.option("--tpot", type=SECONDS, default="100ms", show_default=True, help="and each further one takes at most this on average.")
@click.option("--refuse-oversize", is_flag=True, help="Count requests that no pool could ever serve as refused instead of stopping.")
@load_options
@click.option("--engine", metavar="NAME[@VERSION]", default="vllm", show_default=True, help="Whose memory rules and speed to use (with --model).")
@click.option("--quant", metavar="NAME", help="Weights stored so: fp8, awq ... (with --model)")
@click.option("--kv-dtype", metavar="NAME", help="Type of the KV cache: bf16, fp8 ... (with --model)")
@click.option("--context", "context_tokens", type=TOKENS, help="The longest sequence. Default: the longest request. (with --model)")
@click.option("--tp", type=click.IntRange(min=1), help="Tensor-parallel ranks of a replica. Default: all its GPUs. (with --model)")
@click.option("--gpu-memory-utilization", type=click.FloatRange(0, 1, min_open=True), help="Share of each GPU's memory. (with --model)")
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Most sequences in one batch. (with --model)")
@click.option("--max-batched-tokens", type=TOKENS, help="Most tokens in one step. (with --model)")
@click.option("--kv-pool-bytes", type=BYTES, help="Bytes of the KV pool per GPU. (with --model)")
@click.option("--html", metavar="FILE", help="Write the comparison with its pictures as one HTML file.")
@click.option("--svg", metavar="FILE", help="Write the picture of the KV cache in use over time.")
@click.option("--offline", is_flag=True, help="Touch no network: local files, the hub's cache and the built-in catalogue.")
@click.option("--each", is_flag=True, help="With --json: every request with its times and its end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.simulate/1.")
@click.option("--quiet", "-q", is_flag=True, help="Print each policy with its requests a second that were served well only.")
def command(
    *,
    trace: str | None,
    pools_file: str | None,
    policies: tuple[str, ...],
    queue_seconds: float | None,
    max_tokens: int | None,
    ttft: float,
    tpot: float,
    refuse_oversize: bool,
    html: str | None,
    svg: str | None,
    offline: bool,
    each: bool,
    as_json: bool,
    quiet: bool,
    **rest: Any,
) -> None:
    """Requests replayed against pools under several policies of admission, side by side.

    The replay batches as vLLM does, to the block: chunks of prompts, preemptions, queues. It tells how many requests are served well, how long
    they wait, how often the cache runs over and how full it is. TRACE is a file as `--trace` reads it; docs/simulate.md shows an example.

    \b
    vram simulate requests.csv --pools pools.toml
    vram simulate requests.csv.gz --model Qwen/Qwen3-8B --gpu L40S --replicas 2 --policy engine --policy kv-learned --html replay.html
    vram simulate --rate 1 --prompt 200-2000 --output 200~0.8 --model Qwen/Qwen3-8B --gpu "RTX 4090"
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    from vram.cli.loads import arrivals
    from vram.planner.simulate.policies import DEFAULT, policy_of
    from vram.planner.simulate.spec import ServiceLevel
    from vram.replay import check_sizes
    from vram.replay import simulate as replay

    chosen = [policy_of(text, queue_seconds=queue_seconds) for text in policies or DEFAULT]
    own = {name: rest.pop(name) for name in _OWN}
    if trace is not None:
        rest["traces"] = (trace, *rest["traces"])
    if len(rest["traces"]) > 1:
        raise UsageError(f"{len(rest['traces'])} traces", hint="one is replayed at a time")
    found = arrivals(**rest)[0]
    requests = _limited(found.requests, max_tokens)
    pools = _pools(pools_file, own, requests, offline=offline)
    if not refuse_oversize:
        check_sizes(requests, pools)
    if found.skipped:
        click.echo(f"note: {found.skipped:,} lines of {found.told} were left out", err=True)
    outcomes = []
    for policy in chosen:
        with _progress(policy.name) as report:
            outcomes.append(replay(requests, pools, policy, levels=ServiceLevel(ttft_seconds=ttft, tpot_seconds=tpot), progress=report))
    if html is not None or svg is not None:
        _draw(outcomes, found.told, html, svg)
    if as_json:
        from vram.cli.output import print_json
        from vram.planner.simulate.document import simulate_document

        print_json(simulate_document(outcomes, each=each))
    elif quiet:
        for o in outcomes:
            click.echo(f"{o.policy}\t{o.summary.goodput_per_second:.6g}")
    else:
        from vram.cli.output import print_styled, table_width, terminal_width
        from vram.cli.render.simulate import picture

        print_styled(picture(outcomes, terminal_width(), told=found.told, table_columns=table_width()))


_OWN = (
    "model",
    "gpu",
    "replicas",
    "engine",
    "quant",
    "kv_dtype",
    "context_tokens",
    "tp",
    "gpu_memory_utilization",
    "max_num_seqs",
    "max_batched_tokens",
    "kv_pool_bytes",
)


def _limited(requests: "Sequence[Request]", max_tokens: int | None) -> "Sequence[Request]":
    """Requests whose clients allow so much, where the trace does not say."""
    if max_tokens is None:
        return requests
    from dataclasses import replace

    return tuple(replace(r, max_tokens=max_tokens) if r.max_tokens is None else r for r in requests)


def _pools(path: str | None, own: dict[str, Any], requests: "Sequence[Request]", *, offline: bool) -> "Sequence[PoolSpec]":
    from vram.replay import pool_of, specs_of

    if path is not None:
        if own["model"] or own["gpu"]:
            raise UsageError("--pools names models and GPUs already", hint="leave --model and --gpu out, or --pools")
        from vram.sources.pools import read_pools

        return specs_of(read_pools(path), requests, offline=offline or None)
    if not own["model"] or not own["gpu"]:
        raise UsageError("no pool to replay against", hint='--pools pools.toml, or --model Qwen/Qwen3-8B --gpu "RTX 4090"')
    return (pool_of(requests=requests, offline=offline or None, **own),)


def _draw(outcomes: "Sequence[Outcome]", told: str, html: str | None, svg: str | None) -> None:
    from pathlib import Path
    from shlex import join

    from vram.cli.render.simulate_report import report, use_chart

    for path, text in (
        (html, html and report(outcomes, told=told, command=join(["vram", *sys.argv[1:]]))),
        (svg, svg and use_chart(outcomes)),
    ):
        if not path or not text:
            continue
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as e:
            raise UsageError(f"{path} cannot be written: {e.strerror or e}", hint="name a file in a folder that you may write to") from None
        click.echo(f"wrote {path}", err=True)


@contextmanager
def _progress(what: str) -> "Iterator[Callable[[int, int], None] | None]":
    """A line on stderr about a replay that takes long, where somebody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from time import monotonic

    start, shown = monotonic(), False

    def report(done: int, total: int) -> None:
        nonlocal shown
        seconds = monotonic() - start
        if seconds < 0.5 and not shown:
            return
        sys.stderr.write(f"\r\x1b[K{what}: {done:,} of {total:,} requests, {seconds / max(done, 1) * (total - done):.0f} s left")
        sys.stderr.flush()
        shown = True

    try:
        yield report
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
