"""`vram up --detach`: the same command in the background; what it says is shown here until all its models are ready."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import click

LOOK_SECONDS: Final = 0.2


def in_background(state: Path) -> int:
    """Start this command anew without its terminal, show what it says, and leave it alone once it is ready.

    Returns:
        0 once all its models are ready, else what it ended with.
    """
    from vram.cli.output import error_width
    from vram.errors import VramError
    from vram.runtime.runs import ELSEWHERE, runs
    from vram.sources.private import own_folder

    words = [w for w in sys.argv[1:] if w not in {"--detach", "-d"}]
    folder = own_folder(own_folder(state, hint=ELSEWHERE) / "logs", hint=ELSEWHERE)
    said = folder / f"up-{int(time.time())}.txt"
    # It has no terminal, but what it says is shown on ours.
    env = {**os.environ, "COLUMNS": str(error_width())}
    # For its owner alone: an engine's last lines may stand in it.
    with open(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:  # noqa: PTH123  (a descriptor)
        child = subprocess.Popen([sys.executable, "-m", "vram", *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True)  # noqa: S603  (our own command line, word for word)
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
