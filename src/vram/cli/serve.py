"""`vram serve pools.toml`: the gateway in front of engines that run."""

from typing import TYPE_CHECKING

import click

from vram.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


@click.command(name="serve", short_help="An OpenAI-compatible gateway that admits what fits.")
@click.argument("pools", type=click.Path(dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. Other than loopback, clients need keys (vram keys add).")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on; 0 for a free one.")
@click.option("--keys/--no-keys", "keys", default=None, help="Whether clients need a key. Default: when keys exist, or on any address but loopback.")
@click.option("--admin-port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="Port of the administrators' API; 0: none.")
@click.option("--admin-host", default="127.0.0.1", show_default=True, help="Address of the administrators' API.")
@click.option("--workers", type=click.IntRange(1, 32), default=1, show_default=True, help="Processes that serve together, one ledger for all of them.")
@click.option(
    "--hung-after",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="With --workers: kill and replace a worker that stands still for so long; 0: never.",
)
@click.option("--check", is_flag=True, help="Read and plan the pools file, say what would be served, and end.")
@click.option("--offline", is_flag=True, help="Plan without a network: local files, the hub's cache and the built-in catalogue.")
@click.option("--json", "as_json", is_flag=True, help="With --check: print one JSON object, schema vram.serve/1.")
@click.option("--log-json", is_flag=True, help="Log JSON lines, with a line for each request.")
@click.option("--otel", is_flag=True, help="Send a span for each request by OTLP, where the OTEL_… variables say (extra: vram[otel]).")
@click.option("--quiet", "-q", is_flag=True, help="Log warnings only.")
@click.pass_context
def command(
    ctx: click.Context,
    pools: str,
    *,
    host: str,
    port: int,
    keys: bool | None,
    admin_port: int,
    admin_host: str,
    workers: int,
    hung_after: float,
    check: bool,
    offline: bool,
    as_json: bool,
    log_json: bool,
    otel: bool,
    quiet: bool,
) -> None:
    """Serve the engines of POOLS behind one OpenAI-compatible address.

    Each request is let in only when its KV cache fits beside those that run, by the same arithmetic as vram plan; else it waits, goes to
    another pool or model, or gets a shorter answer, as its route allows. SIGHUP reads the file again without dropping a stream.

    \b
    vram serve pools.toml --check
    vram serve pools.toml --port 8080
    vram serve pools.toml --workers 4
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    from pathlib import Path

    from vram.settings import settings

    if check:
        _check(Path(pools), offline=offline or None, as_json=as_json)
        return
    need_extra()
    import logging

    from vram.cli.top import watching
    from vram.gateway.options import Options
    from vram.gateway.ports import check_ports
    from vram.gateway.run import Started, run
    from vram.gateway.telling import set_up
    from vram.gateway.token import admin_token
    from vram.sources.pools import read_pools

    # A file that is not there, or says nothing that can be understood, is the first thing to know.
    read_pools(Path(pools))
    check_ports(host, port, admin_host, admin_port)
    found = settings()
    # Requests are told of where they are served.
    telling = set_up(log_json=log_json, quiet=quiet, otel=otel and workers == 1)

    def say(text: str) -> None:
        # A reader of JSON lines gets nothing else.
        if log_json:
            logging.getLogger("vram.gateway").info("%s", text)
        else:
            click.echo(text, err=True)

    def told(started: Started) -> None:
        by = f" by {len(started.workers)} workers" if started.workers else ""
        say(f"serving {', '.join(started.models)} on http://{host}:{started.port}/v1{by}")
        if started.admin_port is not None:
            token = "VRAM_ADMIN_TOKEN" if found.admin_token else str(found.admin_token_file)
            say(f"administrators: http://{admin_host}:{started.admin_port}/v1 (token: {token}); live: {watching(started.admin_port, admin_host)}")
        if not started.keys_required:
            say("no key is asked for; to ask for keys: vram keys add NAME")

    options = Options(
        pools=Path(pools),
        host=host,
        port=port,
        keys_required=keys,
        offline=offline or None,
        store=found.gateway_db,
        listeners=telling.listeners if workers == 1 else (),
        begin_span=telling.begin_span,
        admin_host=admin_host,
        admin_port=admin_port or None,
        admin_token=admin_token(found.admin_token, found.admin_token_file, make=True) if admin_port else "",
    )
    try:
        if workers == 1:
            run(options, told=told)
        else:
            from vram.gateway.run_workers import run_workers
            from vram.gateway.supervisor import Supervisor

            run_workers(Supervisor(options, workers, hung_seconds=hung_after, log_json=log_json, quiet=quiet, otel=otel), told=told)
    finally:
        telling.end()
    ctx.exit(ExitCode.OK)


def need_extra() -> None:
    """Refuse where the gateway's own packages are missing.

    Raises:
        UsageError: they are.
    """
    from importlib.util import find_spec

    from vram.errors import UsageError

    if find_spec("httptools") is None:
        raise UsageError("the gateway's own packages are not installed", hint="pip install 'vram[serve]'")


def _check(pools: "Path", *, offline: bool | None, as_json: bool) -> None:
    from vram.gateway.assemble import addresses_of
    from vram.gateway.checked import check_document, check_rows
    from vram.gateway.planned import read_and_plan

    file, plans = read_and_plan(pools, offline=offline)
    if as_json:
        from vram.cli.output import print_json

        print_json(check_document(file, plans))
    else:
        from vram.cli.output import print_styled, table_width
        from vram.cli.render.table import table

        titles = ("pool", "model", "engine", "GPU", "replicas", "out at most", "KV cache each", "longest", "at once")
        right = ("replicas", "out at most", "longest", "at once")
        below = {
            "out at most": "at most {} put out for failing",
            "engine": "{}",
            "GPU": "on {}",
            "at once": "{} at once",
            "replicas": "replicas: {}",
            "model": "{}",
        }
        print_styled(table(titles, check_rows(file, plans), right=right, width=table_width(), cut=("pool", "model"), below=below))
        for route in file.all_routes:
            print_styled(f"{route.model}: {', then '.join(route.pools)}")
        for plan in plans.values():
            for note in plan.notes:
                print_styled(f"note: {note}")
    # Last: a file fresh from `vram size` has no addresses yet, and what its pools will hold is told all the same.
    addresses_of(file)
