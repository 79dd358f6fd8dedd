"""`vram schema`: the published JSON Schemas."""

import click

NAMES = (
    "plan",
    "models",
    "gpus",
    "accuracy",
    "args",
    "read-log",
    "pools",
    "size",
    "pick",
    "simulate",
    "cost",
    "prices",
    "up",
    "ps",
    "down",
    "serve",
    "keys",
    "usage",
    "top",
    "gateway",
    "gateway-admin",
    "error",
)


@click.command(name="schema", short_help="The JSON Schema of what --json prints, and of pools.toml.")
@click.argument("name", type=click.Choice(NAMES), default="plan")
def command(name: str) -> None:
    """The JSON Schema of what `vram NAME --json` prints; of `pools`: that of the pools file; of `gateway` and `gateway-admin`: OpenAPI documents; of `error`: what it prints where it fails."""
    from importlib.resources import files

    click.echo((files("vram") / "schemas" / f"{name}.json").read_text(encoding="utf-8"), nl=False)
