"""`vram`: finds the command, prints errors with their hints, and turns them into exit codes."""

import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from vram.errors import ExitCode, VramError, printable
from vram.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

# command -> what it does. Its module is vram.cli.<command> (- as _), its click command is `command` there.
COMMANDS = {
    "plan": "How many bytes a model takes on which GPU, part by part, and whether it fits.",
    "pick": "Which models serve a need best on some GPUs, or which GPUs a model.",
    "cost": "What models cost on a fleet, by the hour and by the token.",
    "prices": "What an hour of which GPU costs, and who says so as of when.",
    "up": "Models planned for this machine, their engines started, served at one address.",
    "ps": "The models that vram up runs on this machine.",
    "logs": "What an engine of vram up prints.",
    "stop": "One model of vram up ended, the others go on.",
    "start": "A stopped model of vram up let in again.",
    "down": "All that vram up runs ended.",
    "serve": "An OpenAI-compatible gateway that lets in what fits.",
    "size": "Pools of least cost for a workload and a service level.",
    "simulate": "Requests replayed against pools, policies of admission side by side.",
    "keys": "Keys of the gateway: make, end and list them.",
    "top": "A running gateway, live: pools, leases, queue.",
    "usage": "What the gateway's requests used and cost.",
    "gpus": "The GPUs of this machine, and those that can be named with --gpu.",
    "models": "The models that can be named without a network.",
    "args": "The launch command that makes a plan true.",
    "read-log": "What an engine printed about memory when it started, beside its plan.",
    "accuracy": "Plans held against measured rows.",
    "schema": "The JSON Schema of what --json prints.",
}


class Commands(click.Group):
    """Imports a command's module only when that command is called: start-up time is a feature."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The commands, in the order in which they are useful."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"vram.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Say which command was probably meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean: vram {close[0]}" if close else f"to plan a model: vram plan {args[0]}"
            raise _Unknown(f"no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


class _Unknown(click.UsageError):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="vram", message="%(prog)s %(version)s")
def vram() -> None:
    """How many bytes an AI model takes on which GPU, part by part, before anything is downloaded."""


def complain(message: str, hint: str = "") -> None:
    """Print an error and what to do about it, to stderr, free of control characters, in lines that its window holds."""
    from vram.cli.output import troubled

    sys.stderr.write(troubled(printable(message, 1000), printable(hint, 1000)) + "\n")


def _asked_of(args: "Sequence[str]") -> str:
    """The command that was asked for, as far as the words go: click does not say it of an option without its argument."""
    found: click.Command | None = vram
    path, context = ["vram"], click.Context(vram)
    for word in args:
        found = found.get_command(context, word) if isinstance(found, click.Group) and not word.startswith("-") else None
        if found is None:
            break
        path.append(word)
    return " ".join(path)


def _usage_hint(error: click.UsageError, args: "Sequence[str]") -> str:
    if possible := getattr(error, "possibilities", None):
        # The nearest first.
        return f"did you mean {' or '.join(possible[:2])}?"
    if hint := getattr(error, "hint", ""):
        return str(hint)
    if error.ctx is not None and isinstance(error.ctx.command, click.Group) and error.message.startswith("No such command"):
        *some, last = sorted(error.ctx.command.commands)
        return f"{error.ctx.command_path} has {', '.join(some)} or {last}: {error.ctx.command_path} --help"
    return f"see: {error.ctx.command_path if error.ctx else _asked_of(args)} --help"


def run(args: "Sequence[str] | None" = None) -> int:
    """Run the command line and give its exit code; never raises for what a user can cause."""
    as_json = "--json" in (sys.argv[1:] if args is None else args)
    if as_json:
        from vram.cli.output import begin_json

        begin_json()

    def failed(code: ExitCode, message: str, hint: str = "") -> int:
        complain(message, hint)
        if as_json:
            from vram.cli.output import print_trouble

            with suppress(OSError):
                print_trouble(printable(message, 1000), printable(hint, 1000), code)
        return code

    try:
        result = vram.main(args=list(args) if args is not None else None, prog_name="vram", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except click.exceptions.Exit as e:
        return e.exit_code
    except NoArgsIsHelpError as e:
        click.echo(e.format_message(), err=True)
        return ExitCode.USAGE
    except click.UsageError as e:
        # click would add its guesses to the message; here they are the hint.
        return failed(
            ExitCode.USAGE, e.message if getattr(e, "possibilities", None) else e.format_message(), _usage_hint(e, sys.argv[1:] if args is None else args)
        )
    except (KeyboardInterrupt, click.Abort):
        return failed(ExitCode.INTERRUPTED, "interrupted")
    except VramError as e:
        if os.environ.get("VRAM_DEBUG") == "1":
            raise
        return failed(e.exit_code, e.message, e.hint)
    except BrokenPipeError:
        # The reader of our output left (head, less): say nothing, and let no later flush complain.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        return ExitCode.OK
    except OSError as e:
        if os.environ.get("VRAM_DEBUG") == "1":
            raise
        folder = os.path.dirname(str(e.filename)) if isinstance(e, FileNotFoundError) and e.filename else ""  # noqa: PTH120  (pathlib would be loaded for this alone)
        told = f"there is no folder {folder}: make it, or name another" if folder and not os.path.isdir(folder) else "set VRAM_DEBUG=1 to see where"  # noqa: PTH112
        return failed(ExitCode.ERROR, f"{e.strerror or e}{f': {e.filename}' if e.filename else ''}", told)
    except Exception as e:
        # A defect of ours; still no traceback on a user's screen unless it is asked for.
        if os.environ.get("VRAM_DEBUG") == "1":
            raise
        return failed(ExitCode.ERROR, f"this should not happen: {type(e).__name__}: {e}", "please report it with what VRAM_DEBUG=1 prints")


def main() -> NoReturn:
    """Entry point of the `vram` script."""
    code = run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
