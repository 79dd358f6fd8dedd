"""`vram cost MODEL [MODEL...]`: what models cost on a fleet, by the hour, by the token, and by the bytes that tokens hold."""

from typing import TYPE_CHECKING

import click

from vram.cli.types import TOKENS, last_fleet
from vram.errors import ExitCode

if TYPE_CHECKING:
    from vram.costs.price import Price
    from vram.hardware.fleet import Fleet


@click.command(name="cost", short_help="What models cost on a fleet, by the hour and by the token.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--gpu", metavar="NAME", multiple=True, callback=last_fleet, help='All GPUs that are paid: "4090", "8x H100". This machine\'s when not given.')
@click.option("--prompt", "prompt_tokens", type=TOKENS, default=1024, show_default=True, help="Tokens of a request's prompt.")
@click.option("--output", "output_tokens", type=TOKENS, default=256, show_default=True, help="Tokens of its answer.")
@click.option("--load", type=float, default=1.0, show_default=True, help="Share of the time in which the replicas are busy (0.6).")
@click.option("--context", "context_tokens", type=TOKENS, help="Tokens of a sequence to leave room for. Default: prompt and answer together.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Sequences of each replica. Default: as many as fit, at most 256.")
@click.option("--quant", metavar="NAME", help="Weights stored so: fp8, awq, Q4_K_M ...")
@click.option("--kv-dtype", metavar="NAME", help="Type of the KV cache: bf16, fp8, q8_0 ... Default: the model's own.")
@click.option("--engine", metavar="NAME[@VERSION]", default="generic", show_default=True, help="Whose memory rules and speed to use.")
@click.option("--tp", type=click.IntRange(min=1), help="Tensor-parallel ranks of a replica. Default: what serves most tokens.")
@click.option("--pp", type=click.IntRange(min=1), help="Pipeline stages of a replica.")
@click.option("--price", "prices", multiple=True, metavar="USD", help='Dollars an hour for each GPU: 2.5, or of one kind "RTX 4090=0.4" (repeat it).')
@click.option("--fleet-price", metavar="USD", help="Dollars an hour for all GPUs together.")
@click.option("--provider", metavar="NAME", help="Take this provider's prices: vram prices lists them.")
@click.option("--kind", metavar="NAME", default="on-demand", show_default=True, help="And this kind: on-demand, spot, reserved.")
@click.option("--own", metavar="USD", help="The cards are yours and cost so much each to buy; launch: what they cost when they came out.")
@click.option("--lifetime", metavar="SPAN", default="3y", show_default=True, help="How long they serve: 3y, 18mo.")
@click.option("--resale", metavar="USD", help="What each brings at the end.")
@click.option("--utilisation", type=float, default=1.0, show_default=True, help="Share of that time in which they are switched on for this.")
@click.option("--watts", type=float, help="What each draws. Default: the catalogue's figure.")
@click.option("--power-price", metavar="USD", help="Dollars for a kWh.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of a hub repository.")
@click.option("--offline", is_flag=True, help="Touch no network: local files, the hub's cache and the built-in catalogue.")
@click.option("--html", "html_file", metavar="FILE", type=click.Path(dir_okay=False, writable=True), help="Write the answer as a page too.")
@click.option("--svg", "svg_file", metavar="FILE", type=click.Path(dir_okay=False, writable=True), help="Write the picture of where the rent goes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.cost/1.")
@click.option("--quiet", "-q", is_flag=True, help="Print the dollars for a million input and output tokens only.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    gpu: str | None,
    prompt_tokens: int,
    output_tokens: int,
    load: float,
    context_tokens: int | None,
    concurrency: int | None,
    quant: str | None,
    kv_dtype: str | None,
    engine: str,
    tp: int | None,
    pp: int | None,
    prices: tuple[str, ...],
    fleet_price: str | None,
    provider: str | None,
    kind: str,
    own: str | None,
    lifetime: str,
    resale: str | None,
    utilisation: float,
    watts: float | None,
    power_price: str | None,
    revision: str | None,
    html_file: str | None,
    svg_file: str | None,
    *,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """What each MODEL costs on a fleet: by the hour, by the million tokens, and by the bytes that tokens hold and for how long.

    Each model is costed as if the whole fleet served it alone, with as many replicas as go on it. The rent comes from --price, --own, your
    own prices.toml or the price list, with its day and source; docs/what-a-token-costs.md shows the arithmetic.

    \b
    vram cost meta-llama/Llama-3.1-8B-Instruct meta-llama/Llama-3.1-70B-Instruct --gpu "8x H100"
    vram cost Qwen/Qwen3-8B --gpu "RTX 4090" --own 1600 --power-price 0.30
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    from vram.api import detect, parse_gpus
    from vram.cli.output import progress
    from vram.costs.money import MOST_USD_PER_GPU_HOUR, parse_usd
    from vram.costs.price import KINDS
    from vram.errors import UsageError
    from vram.pricing import cost

    if kind not in KINDS:
        raise UsageError(f"no kind of price {kind!r}", hint=f"known kinds: {', '.join(KINDS)}")
    fleet = parse_gpus(gpu) if gpu is not None else detect()
    each, named = stated(prices)
    if own is not None:
        named = {**_owned(fleet, own, lifetime, resale, utilisation, watts, power_price), **named}
    elif power_price is not None or watts is not None or resale is not None:
        raise UsageError("--power-price, --watts and --resale are of a card that is yours", hint="add --own with what it cost")
    whole = None if fleet_price is None else parse_usd(fleet_price, "--fleet-price", MOST_USD_PER_GPU_HOUR * len(fleet))
    found = []
    for model in models:
        with progress(f"reading {model}") as report:
            found.append(
                cost(
                    model,
                    gpu=fleet,
                    prompt_tokens=prompt_tokens,
                    output_tokens=output_tokens,
                    load=load,
                    context_tokens=context_tokens,
                    concurrency=concurrency,
                    quant=quant,
                    kv_dtype=kv_dtype,
                    engine=engine,
                    tp=tp,
                    pp=pp,
                    price_usd=each,
                    fleet_usd=whole,
                    prices=named,
                    provider=provider,
                    kind=kind,
                    revision=revision,
                    offline=offline or None,
                    progress=report,
                )
            )
    if html_file or svg_file:
        from pathlib import Path

        from vram.cli.render.cost_page import chart, whole_page

        for name, text in ((html_file, whole_page), (svg_file, chart)):
            if name:
                Path(name).write_text(text(found), encoding="utf-8")
    if as_json:
        from vram.cli.output import print_json
        from vram.costs.document import costs_document

        print_json(costs_document(found))
    elif quiet:
        from vram.cli.render.cost import one_line

        for one in found:
            click.echo(one_line(one))
    else:
        from vram.cli.output import print_styled, table_width, terminal_width
        from vram.cli.render.cost import picture

        print_styled(picture(found, terminal_width(), table_columns=table_width()))
    ctx.exit(ExitCode.DOES_NOT_FIT if all(c.verdict == "does_not_fit" for c in found) else ExitCode.OK)


def stated(prices: "tuple[str, ...]") -> "tuple[float | None, dict[str, Price]]":
    """`--price 2.5` for each GPU, `--price "RTX 4090=0.4"` by name."""
    from vram.costs.money import MOST_USD_PER_GPU_HOUR, parse_usd
    from vram.pricing import gpu_name, stated_price

    each, named = None, {}
    for text in prices:
        name, equals, amount = text.rpartition("=")
        usd = parse_usd(amount, "--price", MOST_USD_PER_GPU_HOUR)
        if equals:
            gpu = gpu_name(name)
            named[gpu] = stated_price(gpu, usd)
        else:
            each = usd
    return each, named


def _owned(fleet: "Fleet", own: str, lifetime: str, resale: str | None, utilisation: float, watts: float | None, power_price: str | None) -> "dict[str, Price]":
    """An hour of each kind of card of the fleet, reckoned."""
    from vram.costs.money import MOST_USD, parse_usd
    from vram.pricing import owned_card, purchase_usd

    made = {}
    for gpu in {member.gpu.name for member in fleet.gpus}:
        card = owned_card(
            gpu,
            purchase_usd=purchase_usd(gpu) if own == "launch" else parse_usd(own, "--own", MOST_USD),
            lifetime=lifetime,
            resale_usd=0.0 if resale is None else parse_usd(resale, "--resale", MOST_USD),
            utilisation=utilisation,
            watts=watts,
            usd_per_kwh=0.0 if power_price is None else parse_usd(power_price, "--power-price", 100.0),
        )
        made[gpu] = card.price(gpu)
    return made
