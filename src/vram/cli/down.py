"""`vram down`: end every `vram up` on this machine."""

from typing import Any

import click


@click.command(name="down", short_help="End all that vram up runs.")
@click.option("--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True, help="How long to wait for their ends.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.down/1.")
def command(seconds: float, *, as_json: bool) -> None:
    """End everything that vram up runs on this machine, gateways and engines, and wait until nothing of it is left."""
    import time

    from vram.cli.output import print_json
    from vram.cli.ps import all_runs
    from vram.errors import VramError
    from vram.runtime.runs import runs
    from vram.settings import settings

    folder = settings().state / "run"
    models = {d["pid"]: [m["name"] for m in d["models"]] for d in all_runs()}
    found = runs(folder)
    silent: list[VramError] = []
    for run in found:
        try:
            run.ask({"do": "down"})
        except VramError as e:
            # The others are asked all the same.
            silent.append(e)
    if silent and len(silent) == len(found):
        raise silent[0]
    if found:
        click.echo(f"{', '.join(n for run in found for n in models.get(run.pid, ())) or 'all'}: what runs may end first, for up to 10 s …", err=True)
    began = time.monotonic()
    ended: dict[int, dict[str, Any]] = {}
    while True:
        left = {r.pid for r in runs(folder)} & {r.pid for r in found}
        for run in found:
            if run.pid not in left and run.pid not in ended:
                ended[run.pid] = {"pid": run.pid, "models": models.get(run.pid, []), "seconds": round(time.monotonic() - began, 3)}
        if not left:
            break
        if time.monotonic() - began > seconds:
            raise VramError(
                f"still there after {seconds:g} s: {', '.join(map(str, sorted(left)))}", hint="a second SIGTERM ends one without waiting for its requests"
            )
        time.sleep(0.1)
    if as_json:
        print_json({"schema": "vram.down/1", "ended": list(ended.values())})
        return
    click.echo(f"{len(found)} ended" if found else "nothing ran", err=True)
