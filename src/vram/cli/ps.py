"""`vram ps`: which models `vram up` runs on this machine."""

from typing import Any

import click


@click.command(name="ps", short_help="Models that vram up runs on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.ps/1.")
def command(*, as_json: bool) -> None:
    """The models that run on this machine: their engines, states, GPUs and requests.

    A model is planned, starting, proving (put to the most that its plan admits), ready, ending (it makes room), asleep (loaded when it is asked
    for), waiting (its engine ended and is started again), out (it ended too often) or stopped (by hand). Where the window is narrow, what has no
    room stands below its row.
    """
    from vram.cli.output import print_json, print_styled, table_width
    from vram.cli.render.ps import told

    documents = all_runs()
    if as_json:
        print_json({"schema": "vram.ps/1", "runs": documents})
        return
    if not documents:
        click.echo("nothing runs: vram up MODEL starts something", err=True)
        return
    width = table_width()
    print_styled("\n\n".join(told(d, width) for d in documents))


def all_runs() -> list[dict[str, Any]]:
    """What every `vram up` on this machine says of itself; one that ends meanwhile is left out."""
    from contextlib import suppress

    from vram.errors import VramError
    from vram.runtime.runs import runs
    from vram.settings import settings

    found = []
    for run in runs(settings().state / "run"):
        with suppress(VramError):
            found.append(run.ask({"do": "ps"}))
    return [d for d in found if "models" in d]
