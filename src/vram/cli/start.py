"""`vram start NAME`: a model of a running `vram up` that was stopped comes again."""

import click


@click.command(name="start", short_help="Let a stopped model of vram up come again.")
@click.argument("name")
def command(name: str) -> None:
    """Let the model NAME come again that vram stop ended, or that failed too often: its engine starts when it is asked for.

    It is for models of a vram up that runs; vram up MODEL begins one.
    """
    from vram.cli.stop import found
    from vram.errors import VramError

    run, _ = found(name)
    answer = run.ask({"do": "start", "name": name})
    if "error" in answer:
        raise VramError(str(answer["error"]), hint=str(answer.get("hint", "")))
    click.echo(f"{name} is loaded when it is asked for; vram ps shows it", err=True)
