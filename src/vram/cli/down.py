"""`vram down`: end every `vram up` on this machine."""

import click


@click.command(name="down", short_help="End all that vram up runs.")
@click.option("--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True, help="How long to wait for their ends.")
def command(seconds: float) -> None:
    """End everything that vram up runs on this machine, gateways and engines, and wait until nothing of it is left."""
    import time

    from vram.errors import VramError
    from vram.runtime.runs import runs
    from vram.settings import settings

    folder = settings().state / "run"
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
    ends = time.monotonic() + seconds
    while left := runs(folder):
        if time.monotonic() > ends:
            raise VramError(
                f"still there after {seconds:g} s: {', '.join(str(r.pid) for r in left)}", hint="a second SIGTERM ends one without waiting for its requests"
            )
        time.sleep(0.1)
    click.echo(f"{len(found)} ended" if found else "nothing ran", err=True)
