"""`vram ps`: which models `vram up` runs on this machine."""

from typing import Any

import click


@click.command(name="ps", short_help="Models that vram up runs on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.ps/1.")
def command(*, as_json: bool) -> None:
    """The models that run on this machine: their engines, states, GPUs and requests."""
    from vram.cli.output import print_json, print_styled

    documents = all_runs()
    if as_json:
        print_json({"schema": "vram.ps/1", "runs": documents})
        return
    if not documents:
        click.echo("nothing runs: vram up MODEL starts something", err=True)
        return
    print_styled("\n\n".join(_told(d) for d in documents))


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


def _told(document: dict[str, Any]) -> str:
    import time

    from vram.cli.render.table import table
    from vram.units import gib

    def ago(then: float) -> str:
        seconds = max(time.time() - then, 0)
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"

    rows = [
        (
            m["name"],
            m["state"] + (f": {m['why']}" if m["why"] else ""),
            ago(m["since"]),
            f"{m['engine']} {m['version'] or ''}".strip(),
            ", ".join(dict.fromkeys(m["gpus"])),
            gib(sum(m["planned_bytes"])),
            f"{m['context_tokens']:,} x {m['concurrency']}",
            str(m["requests"]),
            # What was loaded again because somebody asked for it did not fail.
            str(max(m["starts"] - max(m["loads"], 1), 0)),
        )
        for m in document["models"]
    ]
    titles = ("model", "state", "for", "engine", "on", "planned", "tokens", "running", "restarts")
    head = f"{document['url'] or 'no address yet'}  process {document['pid']}"
    return head + "\n" + table(titles, rows, right=("for", "planned", "running", "restarts"))
