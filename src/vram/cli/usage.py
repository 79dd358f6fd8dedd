"""`vram usage`: what the gateway's requests used and what that cost, by key, model, pool, replica and outcome."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vram.gateway.sums import Report


@click.command(name="usage", short_help="What the gateway's requests used and cost.")
@click.option("--by", default="key,model", show_default=True, metavar="GROUPS", help="Group by these, with commas: key, model, pool, replica, outcome.")
@click.option("--since", default="month", show_default=True, metavar="WHEN", help="From then on (UTC): month, day, 24h, 7d, 2026-11-01, or all.")
@click.option("--until", metavar="WHEN", help="Before then. Default: until now.")
@click.option("--key", metavar="NAME", help="Only usage of this key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.usage/1.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows as CSV under a line of names.")
def command(by: str, since: str, until: str | None, key: str | None, *, as_json: bool, as_csv: bool) -> None:
    """What the gateway's requests used and what that cost: tokens, KV cache held over time, GPU time, money.

    A request pays for the bytes that it holds while it holds them, and for its share of the weights; what nobody used of the rent is
    idle and stands apart, for the whole hours that the time touches. Streams that were cut short are in it with what ran.

    \b
    vram usage
    vram usage --by model,outcome --since 7d
    vram usage --key team-a --since 2026-11-01 --until 2026-12-01 --csv
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    import time

    from vram.cli.stored import open_store
    from vram.errors import UsageError
    from vram.gateway.moment import moment
    from vram.gateway.store import check_groups
    from vram.gateway.sums import iso, report

    if as_json and as_csv:
        raise UsageError("--json and --csv are two forms of one answer", hint="give one of them")
    now = time.time()
    begins = moment(since, now, "--since")
    ends = moment(until, now, "--until") if until is not None else None
    groups = tuple(dict.fromkeys(g.strip() for g in by.split(",") if g.strip()))
    check_groups(groups)
    if ends is not None and ends <= begins:
        raise UsageError(f"--until {iso(ends)} is not after --since {iso(begins)}", hint="name the earlier moment with --since")
    with open_store(must_exist=True) as store:
        made = report(store, groups, since=begins, until=ends, key=key)
        if key is not None and not made.total.requests and not store.usage((), key=key):
            # One that is there used nothing yet; one that never was is a mistake.
            store.check_key(key)
    if as_json:
        from vram.cli.output import print_json
        from vram.gateway.sums import usage_document

        print_json(usage_document(made))
    elif as_csv:
        _csv(made)
    else:
        _table(made)


def _csv(made: "Report") -> None:
    import csv
    import sys

    from vram.gateway.sums import FIELDS, figures

    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow((*made.by, *FIELDS))
    out.writerows((*row.group, *figures(row).values()) for row in made.rows)


def _table(made: "Report") -> None:
    from vram.cli.output import print_styled, table_width
    from vram.cli.render.amounts import seconds
    from vram.cli.render.table import table
    from vram.costs.money import show_usd
    from vram.errors import printable
    from vram.gateway.sums import iso
    from vram.units import GIB

    when = f"{f'since {iso(made.since)}' if made.since else 'from the first request on'}{f', until {iso(made.until)}' if made.until is not None else ''}"
    if not made.total.requests:
        whose = f"of {printable(made.key, 100)!r} " if made.key is not None else ""
        click.echo(f"no usage {whose}{when}: requests are summed when they end", err=True)
    else:
        rows = [
            (
                *(name or "-" for name in row.group),
                f"{row.requests:,}",
                f"{row.failed:,}",
                f"{row.prompt_tokens:,}",
                f"{row.completion_tokens:,}",
                f"{row.kv_byte_seconds / GIB:,.2f}",
                seconds(row.gpu_microseconds / 1e6),
                show_usd(row.nano_dollars / 1e9),
            )
            for row in (*made.rows, made.total)
            if made.by or row is not made.total
        ]
        if made.by:
            rows[-1] = ("total", *[""] * (len(made.by) - 1), *rows[-1])
        titles = (*made.by, "requests", "failed", "prompt tokens", "output tokens", "KV GiB·s", "GPU time", "cost")
        below = {"KV GiB·s": "{} KV GiB·s", "GPU time": "{} of GPU time", "failed": "{} failed"}
        print_styled(table(titles, rows, right=titles[len(made.by) :], width=table_width(), cut=made.by, below=below))
        print_styled(when)
    for rent in made.idle:
        if rent.rent_nano_dollars:
            idle, cost = rent.idle_nano_dollars / 1e9, rent.rent_nano_dollars / 1e9
            print_styled(f"idle: {show_usd(max(idle, 0.0))} of the {show_usd(cost)} that {rent.replica} of pool {rent.pool} cost ({max(idle, 0) / cost:.1%})")
