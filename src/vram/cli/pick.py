"""`vram pick [NEED]`: which model, quantization, engine and placement serve a need best; or which cards serve a model best."""

import click

from vram.cli.types import TOKENS, last_fleet
from vram.errors import ExitCode


@click.command(name="pick", short_help="Which models serve a need best on some GPUs, or which GPUs a model.")
@click.argument("need", required=False)
@click.option(
    "--gpu",
    metavar="NAME",
    multiple=True,
    callback=last_fleet,
    help='GPUs to choose for: "4090", "2x H100 SXM 80GB". This machine\'s when neither they nor a model are named.',
)
@click.option("--model", metavar="NAME", help="A path, hub id or catalogue name: only its rows; without --gpu, the cheapest and the fastest GPUs for it.")
@click.option(
    "--context",
    "context_tokens",
    type=TOKENS,
    help="Tokens of one sequence. Default: 8192 for chat and vision, 32768 for code and reasoning, 512 for embedding.",
)
@click.option("--concurrency", type=click.IntRange(min=1), help="Sequences held at the same time. Default: 1, 32 for embedding.")
@click.option("--min-speed", type=click.FloatRange(min=0), help="Least tokens a second of each sequence while it is written.")
@click.option("--budget", type=click.FloatRange(min=0), help="Most US dollars an hour for the GPUs used.")
@click.option("--licence", metavar="NAMES", help="Licences that will do: apache-2.0,mit or permissive. Default: any.")
@click.option("--quant", metavar="NAME", help="Only this quantization; none for models as they are published.")
@click.option("--engine", metavar="NAME", help="Only this engine.")
@click.option("--kv-dtype", metavar="NAME", help="Type of the KV cache: bf16, fp8, q8_0 ... Default: the model's own.")
@click.option("--price", "prices", multiple=True, metavar="USD", help='Dollars an hour for each GPU: 2.5, or of one kind "RTX 4090=0.4" (repeat it).')
@click.option("--sort", metavar="ORDER", help="quality, speed or cost. Default: quality; cost where GPUs are looked for.")
@click.option("--limit", type=click.IntRange(min=1), help="Most choices. Default: 5; 10 where GPUs are looked for; 100 with --all.")
@click.option("--all", "every", is_flag=True, help="Every row that fits, not the best one of each model.")
@click.option("--headroom", type=click.FloatRange(0, 10), default=0.20, show_default=True, help="Share of the weights to keep free above them.")
@click.option("--offline", is_flag=True, help="Touch no network for a --model that the catalogue does not know.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.pick/1.")
@click.option("--quiet", "-q", is_flag=True, help="Print the commands that open the choices only.")
@click.option("--html", "html_file", metavar="FILE", type=click.Path(dir_okay=False, writable=True), help="Write the answer as a page too.")
@click.option(
    "--svg", "svg_file", metavar="FILE", type=click.Path(dir_okay=False, writable=True), help="Write what fills the GPUs of each choice as a picture too."
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    need: str | None,
    gpu: str | None,
    model: str | None,
    context_tokens: int | None,
    concurrency: int | None,
    min_speed: float | None,
    budget: float | None,
    licence: str | None,
    quant: str | None,
    engine: str | None,
    kv_dtype: str | None,
    prices: tuple[str, ...],
    sort: str | None,
    limit: int | None,
    headroom: float,
    html_file: str | None,
    svg_file: str | None,
    *,
    every: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Which model x quantization x engine x placement of the catalogue serves NEED best: chat, code, reasoning, vision or embedding.

    Every choice fits, says why it stands where it stands, and can be opened with the command below it. How they are ranked is one
    page, docs/how-we-pick.md. With --model and no --gpu: which GPUs serve that model, the cheapest first.

    \b
    vram pick chat --gpu "RTX 4090"
    vram pick code --gpu "2x H100 SXM 80GB" --context 64k --concurrency 8 --licence permissive
    vram pick --model Qwen/Qwen3-8B --context 32k
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    from vram.cli.cost import stated
    from vram.picking import pick

    each, named = stated(prices)
    found = pick(
        need,
        model=model,
        gpu=gpu,
        context_tokens=context_tokens,
        concurrency=concurrency,
        min_tokens_per_second=min_speed,
        budget_usd_per_hour=budget,
        licence=licence,
        quant=quant,
        engine=engine,
        kv_dtype=kv_dtype,
        price_usd=each,
        prices=named,
        sort=sort,
        limit=limit or (100 if every else 10 if model is not None and gpu is None else 5),
        every=every,
        headroom=headroom,
        offline=offline or None,
    )
    if html_file or svg_file:
        from pathlib import Path

        from vram.cli.render.pick_page import chart, report

        for name, text in ((html_file, report), (svg_file, chart)):
            if name:
                Path(name).write_text(text(found), encoding="utf-8")
    if as_json:
        from vram.cli.output import print_json
        from vram.planner.choosing.document import pick_document

        print_json(pick_document(found))
    elif quiet:
        for choice in found.choices:
            click.echo(choice.command)
    else:
        from vram.cli.output import print_styled, terminal_width
        from vram.cli.render.pick import picture

        print_styled(picture(found, terminal_width()))
    ctx.exit(ExitCode.OK if found.choices else ExitCode.DOES_NOT_FIT)
