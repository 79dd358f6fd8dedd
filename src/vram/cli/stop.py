"""`vram stop NAME`: end one model of a running `vram up`; the others go on."""

import click


@click.command(name="stop", short_help="End one model of vram up.")
@click.argument("name")
def command(name: str) -> None:
    """End the model NAME: what it answers now may end first, for a few seconds. All other models go on."""
    from vram.cli.ps import all_runs
    from vram.errors import UsageError, VramError
    from vram.runtime.runs import runs
    from vram.settings import settings

    where = {d["pid"]: [m["name"] for m in d["models"]] for d in all_runs()}
    for run in runs(settings().state / "run"):
        if name in where.get(run.pid, ()):
            answer = run.ask({"do": "stop", "name": name}, seconds=60)
            if "error" in answer:
                raise VramError(str(answer["error"]), hint=str(answer.get("hint", "")))
            click.echo(f"{name} has ended", err=True)
            return
    names = [n for found in where.values() for n in found]
    raise UsageError(f"no model {name!r} runs here", hint=f"those that do: {', '.join(names)}" if names else "nothing runs: vram up MODEL starts something")
