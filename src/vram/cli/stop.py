"""`vram stop NAME`: end one model of a running `vram up`; the others go on."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vram.runtime.runs import Run

LOOK_SECONDS = 1.0


@click.command(name="stop", short_help="End one model of vram up.")
@click.argument("name")
def command(name: str) -> None:
    """End the model NAME: what it answers now may end first, for a few seconds. All other models go on.

    Its clients are told that it was stopped. vram start NAME lets it come again; vram down ends all.
    """
    import sys
    import threading
    import time

    from vram.errors import VramError

    run, model = found(name)
    running = f"; {model['requests']} that run may end first, for up to 10 s" if model["requests"] else ""
    click.echo(f"{name} takes no new requests{running}, then its engine ends …", err=True)
    began = time.monotonic()
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        try:
            answers.append(run.ask({"do": "stop", "name": name}, seconds=60))
        except VramError as e:
            answers.append({"error": e.message, "hint": e.hint})

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    while asking.is_alive():
        asking.join(LOOK_SECONDS)
        if asking.is_alive() and sys.stderr.isatty():
            click.echo(f"\r\x1b[K{name}: {time.monotonic() - began:.0f} s", err=True, nl=False)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    if "error" in answers[0]:
        raise VramError(str(answers[0]["error"]), hint=str(answers[0].get("hint", "")))
    click.echo(f"{name} has ended, after {time.monotonic() - began:.1f} s. To let it come again: vram start {name}; to end all: vram down", err=True)


def found(name: str) -> "tuple[Run, dict[str, Any]]":
    """The run that has a model of that name, and what it says of it.

    Raises:
        UsageError: none has.
    """
    from vram.cli.ps import all_runs
    from vram.errors import UsageError
    from vram.runtime.runs import runs
    from vram.settings import settings

    where = {d["pid"]: {m["name"]: m for m in d["models"]} for d in all_runs()}
    for run in runs(settings().state / "run"):
        if name in where.get(run.pid, ()):
            return run, where[run.pid][name]
    names = [n for models in where.values() for n in models]
    raise UsageError(f"no model {name!r} runs here", hint=f"those that do: {', '.join(names)}" if names else "nothing runs: vram up MODEL starts something")
