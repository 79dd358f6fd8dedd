"""`vram up --detach`: the same command in the background; what it says is shown here until all its models are ready."""

import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, Final

import click

LOOK_SECONDS: Final = 0.2


def _own(path: Path, *, new: bool = False) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_EXCL if new else os.O_TRUNC), 0o600), "wb")  # noqa: PTH123  (a descriptor; the caller closes it)


def _new(folder: Path) -> tuple[Path, BinaryIO]:
    """A file for what one says, open: two that begin in the same second have one each."""
    name, number = f"up-{int(time.time())}", 1
    path = folder / f"{name}.txt"
    while True:
        try:
            return path, _own(path, new=True)
        except FileExistsError:
            number += 1
            path = folder / f"{name}-{number}.txt"


def in_background(state: Path, *, as_json: bool = False) -> int:
    """Start this command anew without its terminal, show what it says, and leave it alone once it is ready.

    With `as_json` its one document goes to stdout, as it does in the foreground.

    Returns:
        0 once all its models are ready, else what it ended with.
    """
    from vram.cli.output import error_width
    from vram.errors import VramError
    from vram.runtime.runs import ELSEWHERE, runs
    from vram.sources.private import own_folder

    words = [w for w in sys.argv[1:] if w not in {"--detach", "-d"}]
    folder = own_folder(own_folder(state, hint=ELSEWHERE) / "logs", hint=ELSEWHERE)
    # For its owner alone: an engine's last lines may stand in it.
    said, err = _new(folder)
    # It has no terminal, but what it says is shown on ours.
    env = {**os.environ, "COLUMNS": str(error_width())}
    data = said.with_suffix(".json") if as_json else said
    with err, _own(data) if as_json else nullcontext(err) as out:
        child = subprocess.Popen([sys.executable, "-m", "vram", *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, start_new_session=True)  # noqa: S603  (our own command line, word for word)
    shown = 0
    try:
        while True:
            ended, ready = child.poll(), False
            for run in runs(state / "run"):
                if run.pid == child.pid:
                    try:
                        ready = bool(run.ask({"do": "ps"}, seconds=5).get("ready"))
                    except VramError:
                        # Its socket is not open yet, or no longer.
                        ready = False
            text = said.read_bytes()
            click.echo(text[shown:].decode("utf-8", "replace"), nl=False, err=True)
            shown = len(text)
            # The document is printed just after all is ready, in one piece.
            if ready and as_json and not data.read_bytes().endswith(b"\n"):
                ready = False
            if as_json and (ready or ended is not None):
                click.echo(data.read_bytes().decode("utf-8", "replace"), nl=False)
            if ended is not None:
                return ended
            if ready:
                break
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        # Nobody is to wait for it any more: it ends, too.
        child.terminate()
        child.wait()
        raise
    click.echo(f"it goes on in the background, process {child.pid}: vram ps, vram logs, vram down; what it says: {said}", err=True)
    return 0
