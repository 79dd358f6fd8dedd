"""`vram logs [NAME]`: what an engine of `vram up` prints."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path


@click.command(name="logs", short_help="What an engine of vram up prints.")
@click.argument("name", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is printed from now on; Ctrl-C ends it.")
@click.option("--lines", "-n", type=click.IntRange(min=0), default=100, show_default=True, help="Lines of the past.")
def command(name: str | None, lines: int, *, follow: bool) -> None:
    """The last lines of the engine of NAME, also of one that has ended. NAME may be left out where there is only one."""
    path = _file(name)
    text = _tail(path, lines)
    _show(text)
    if not follow:
        return
    try:
        _follow(path)
    except KeyboardInterrupt:
        click.echo(err=True)


def _file(name: str | None) -> "Path":
    """The log file of a model, running or not.

    Raises:
        UsageError: there is none, or several and no name.
    """
    from pathlib import Path

    from vram.cli.ps import all_runs
    from vram.errors import UsageError
    from vram.runtime.unit import file_name
    from vram.settings import settings

    running = {m["name"]: Path(m["log"]) for d in all_runs() for m in d["models"]}
    folder = settings().state / "logs"
    past = {p.name.removesuffix(".log"): p for p in sorted(folder.glob("*.log"))}
    if name is None:
        found = running or past
        if len(found) == 1:
            return next(iter(found.values()))
        hint = f"one of: {', '.join(found)}" if found else "vram up MODEL starts something"
        raise UsageError("whose log?" if found else "nothing has run here", hint=hint)
    path = running.get(name) or past.get(file_name(name))
    if path is None:
        known = ", ".join(dict.fromkeys([*running, *past]))
        raise UsageError(f"no model {name!r} has run here", hint=f"those that have: {known}" if known else "vram up MODEL starts something")
    return path


def _tail(path: "Path", lines: int) -> bytes:
    """The last lines, also out of the file before it; at most 8 MiB are read of each."""
    data = b""
    for one in (path, path.with_name(f"{path.name}.1")):
        if data.count(b"\n") >= lines:
            break
        try:
            with one.open("rb") as file:
                file.seek(0, 2)
                file.seek(max(file.tell() - 8 * 2**20, 0))
                data = file.read() + data
        except OSError:
            continue
    return b"".join(line + b"\n" for line in data.splitlines()[-lines:]) if lines else b""


def _follow(path: "Path") -> None:
    import os
    import time

    file = None
    place = path.stat().st_size if path.exists() else 0
    try:
        while True:
            if file is None and path.exists():
                file = path.open("rb")
                file.seek(place)
            if file is not None:
                if data := file.read(2**20):
                    _show(data)
                    continue
                try:
                    there = path.stat()
                except OSError:
                    there = None
                if there is None or there.st_ino != os.fstat(file.fileno()).st_ino:
                    # It was put aside: the new one is read from its beginning.
                    file.close()
                    file, place = None, 0
            time.sleep(0.2)
    finally:
        if file is not None:
            file.close()


def _show(data: bytes) -> None:
    """Lines of a stranger's program on a terminal: without what a terminal takes for commands."""
    text = data.decode("utf-8", "replace")
    clean = "".join(c if c.isprintable() or c in "\n\t" else "" if c == "\r" else repr(c)[1:-1] for c in text)
    click.echo(clean, nl=False)
