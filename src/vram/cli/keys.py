"""`vram keys`: who may ask the gateway, and how much. A key is printed once, when it is made; it is never an argument."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vram.gateway.keys import KeyTerms


@click.group(name="keys", short_help="Keys of the gateway: make, end and list them.", subcommand_metavar="add|revoke|list …")
def command() -> None:
    """Keys of the gateway: make, end and list them.

    They are kept as digests in the gateway's file (VRAM_GATEWAY_DB); a running gateway takes a change over within a second.

    \b
    vram keys add team-a --dollars-per-month 200 --model llama-70b
    vram keys list
    vram keys revoke team-a
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)


@command.command(name="add", short_help="Make a key and print it, once.")
@click.argument("name")
@click.option("--model", "models", multiple=True, metavar="NAME", help="A public model name that it may ask for; once for each. Default: all.")
@click.option("--priority", type=click.IntRange(0, 9999), default=0, show_default=True, help="Higher ones go first in a queue.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="Requests that may begin in a minute.")
@click.option("--tokens-per-minute", type=click.IntRange(min=1), help="Prompt and output tokens in a minute.")
@click.option("--dollars-per-month", metavar="AMOUNT", help="What it may spend in a calendar month (UTC).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.keys/1, with the key in it.")
def add(
    name: str,
    models: tuple[str, ...],
    priority: int,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    dollars_per_month: str | None,
    *,
    as_json: bool,
) -> None:
    """Make a key of that NAME and print it on stdout: it cannot be shown again.

    A budget stops new requests once it is spent; those that run end, so that it may be passed by what they cost.
    """
    from vram.cli.stored import open_store
    from vram.costs.money import MOST_USD, parse_usd
    from vram.errors import UsageError

    if not all(model.strip() and model.isprintable() for model in models):
        raise UsageError(
            f"{next(m for m in models if not (m.strip() and m.isprintable()))!r} is no model", hint="--model NAME, as pools.toml and /v1/models name it"
        )
    dollars = parse_usd(dollars_per_month, "--dollars-per-month", MOST_USD) if dollars_per_month is not None else None
    with open_store() as store:
        key = store.add_key(
            name,
            models=models or None,
            priority=priority,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            dollars_per_month=dollars,
        )
        if as_json:
            from vram.cli.output import print_json

            (terms,) = [t for t in store.keys().values() if t.name == name]
            print_json({"schema": "vram.keys/1", "keys": [{**_row(terms), "key": key}]})
            return
    click.echo(key)
    click.echo("keep it: it cannot be shown again", err=True)


@command.command(name="revoke", short_help="End a key.")
@click.argument("name")
def revoke(name: str) -> None:
    """End the key of that NAME: a running gateway refuses it within a second. Its usage stays, its name can be used again."""
    from vram.cli.stored import is_stored, open_store
    from vram.gateway.store import no_key

    if not is_stored():
        raise no_key(name)
    with open_store() as store:
        store.revoke_key(name)
    click.echo(f"revoked {name!r}", err=True)


@command.command(name="list", short_help="List the keys by name, with what they may and what they spent.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.keys/1.")
def listed(*, as_json: bool) -> None:
    """List the keys by name, with their limits and what each spent this month. The keys themselves are not kept."""
    from vram.cli.stored import is_stored, open_store

    terms: list[KeyTerms] = []
    if is_stored():
        with open_store() as store:
            terms = list(store.keys().values())
    if as_json:
        from vram.cli.output import print_json

        print_json({"schema": "vram.keys/1", "keys": [_row(t) for t in terms]})
        return
    from vram.cli.output import print_styled, table_width
    from vram.cli.render.table import table
    from vram.costs.money import show_usd
    from vram.gateway.sums import iso

    def limit(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    rows = [
        (
            t.name,
            iso(t.created)[:10],
            ", ".join(sorted(t.models)) if t.models is not None else "all",
            str(t.priority),
            limit(t.requests_per_minute),
            limit(t.tokens_per_minute),
            show_usd(t.nano_dollars_spent / 1e9),
            show_usd(t.dollars_per_month) if t.dollars_per_month is not None else "-",
        )
        for t in terms
    ]
    if not rows:
        click.echo("no keys; to make one: vram keys add NAME", err=True)
        return
    titles = ("key", "made", "models", "priority", "requests/min", "tokens/min", "spent this month", "of")
    below = {"priority": "priority {}", "made": "made {}", "requests/min": "{} requests/min", "tokens/min": "{} tokens/min", "models": "models: {}"}
    print_styled(table(titles, rows, right=titles[3:], width=table_width(), cut=("key", "models"), below=below))


def _row(t: "KeyTerms") -> dict[str, object]:
    from vram.gateway.sums import iso

    return {
        "name": t.name,
        "created": iso(t.created),
        "models": sorted(t.models) if t.models is not None else None,
        "priority": t.priority,
        "requests_per_minute": t.requests_per_minute,
        "tokens_per_minute": t.tokens_per_minute,
        "dollars_per_month": t.dollars_per_month,
        "dollars_this_month": t.nano_dollars_spent / 1e9,
    }
