"""`vram prices`: what an hour of which GPU costs, and who says so as of when."""

import click


@click.command(name="prices", short_help="What an hour of which GPU costs, and who says so.")
@click.argument("words", nargs=-1, metavar="[GPU | refresh [LIST...]]")
@click.option("--kind", metavar="NAME", help="Only prices of this kind: on-demand, spot, reserved, tco.")
@click.option("--provider", metavar="NAME", help="Only prices of this provider.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.prices/1.")
def command(words: tuple[str, ...], kind: str | None, provider: str | None, *, as_json: bool) -> None:
    """What an hour of which GPU costs, and who says so as of when; of one GPU also what it costs to buy.

    With refresh, price lists of cloud providers are fetched (SkyPilot's catalogues, or the mirror that VRAM_PRICES_URL names) and kept for
    this user; which lists can be said: vram prices refresh lambda runpod.

    \b
    vram prices "H100 SXM"
    vram prices refresh
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    if words and words[0] == "refresh":
        _refresh(words[1:], as_json=as_json)
        return
    from vram.costs.price import KINDS
    from vram.errors import UsageError
    from vram.pricing import gpu_name, price_book, purchases, user_prices

    if kind is not None and kind not in KINDS:
        raise UsageError(f"no kind of price {kind!r}", hint=f"known kinds: {', '.join(KINDS)}")
    name = gpu_name(" ".join(words)) if words else None
    book, own = price_book(), user_prices().by_gpu
    if provider is not None:
        book.check_provider(provider)
    gpus = [name] if name else sorted({p.gpu for p in book.prices} | set(own))
    found = [
        p for gpu in gpus for p in ([own[gpu]] if gpu in own and kind is None and provider is None else []) + list(book.of(gpu, provider=provider, kind=kind))
    ]
    bought = [p for p in purchases() if p.gpu == name]
    notes = [f"{p.gpu} to buy: ${p.usd:,.0f}, {'as of' if p.dated == 'stated' else 'read'} {p.as_of}, {p.note}, {p.source}" for p in bought]
    if name and not found:
        notes.insert(0, f"no price known for {name}: give --price")
    if as_json:
        from vram.cli.output import print_json
        from vram.costs.document import prices_document

        print_json(prices_document(found, notes))
        return
    from vram.cli.output import print_styled, table_width
    from vram.cli.render.table import table

    rows = [(p.gpu, f"{p.usd_per_gpu_hour:.4g}", p.provider, p.kind, p.as_of or "-", "" if p.dated == "stated" else "read", p.note) for p in found]
    if rows:
        print_styled(
            table(("GPU", "$/hour", "provider", "kind", "as of", "", "note"), rows, right=("$/hour",), width=table_width(), cut=("GPU",), below={"note": "{}"})
        )
        print_styled("\nfrom")
        for source in dict.fromkeys(p.source for p in found):
            print_styled(f"  {source}")
    for note in notes:
        print_styled(note)
    if not name:
        print_styled(f"{len(rows)} prices; read: the list states no day, it was read on that one")


def _refresh(lists: tuple[str, ...], *, as_json: bool) -> None:
    from vram.cli.output import print_json
    from vram.costs.document import prices_document
    from vram.pricing import refresh_prices

    prices, notes, path = refresh_prices(lists)
    if as_json:
        print_json(prices_document(prices, notes))
    else:
        for note in notes:
            click.echo(note)
        click.echo(f"{len(prices)} prices kept in {path}")
