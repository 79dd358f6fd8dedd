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
@click.argument("name", metavar="[NAME]", default="plan")
def command(name: str) -> None:
    """The JSON Schema of what `vram NAME --json` prints; of `pools`: that of the pools file; of `gateway` and `gateway-admin`: OpenAPI documents; of `error`: what it prints where it fails."""
    from importlib.resources import files

    if name not in NAMES:
        from difflib import get_close_matches

        from vram.errors import UsageError

        near = get_close_matches(name.lower(), NAMES, n=1)
        raise UsageError(f"no schema is called {name[:60]!r}", hint=f"did you mean {near[0]}?" if near else f"known: {', '.join(NAMES)}")

    click.echo((files("vram") / "schemas" / f"{name}.json").read_text(encoding="utf-8"), nl=False)
