"""Where pools files lie: read one, write one with the schema that editors complete from beside it."""

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from vram.errors import UsageError
from vram.readers.pools import MAX_BYTES, PoolsFile, parse_pools, pools_text

SCHEMA_FILE = "pools.schema.json"


def read_pools(path: str | Path) -> PoolsFile:
    """The pools file at `path`.

    Raises:
        UsageError: there is none, or something in it is wrong (see `parse_pools`).
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as e:
        raise UsageError(
            f"{path} cannot be read: {e.strerror or e}", hint="vram size writes one: vram size --trace FILE --model MODEL --out pools.toml"
        ) from None
    return parse_pools(data, path.name)


def write_pools(path: str | Path, file: PoolsFile, *, head: tuple[str, ...] = (), notes: Mapping[str, tuple[str, ...]] | None = None) -> tuple[Path, ...]:
    """Write a pools file, and the schema beside it where none lies there yet; what was there before is replaced whole or not at all.

    Returns:
        What was written.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = Path(path)
    text = pools_text(file, head=head, notes=notes, schema=f"./{SCHEMA_FILE}")
    wrote = [path]
    _replace(path, text)
    beside = path.parent / SCHEMA_FILE
    if not beside.exists():
        _replace(beside, (files("vram") / "schemas" / "pools.json").read_text(encoding="utf-8"))
        wrote.append(beside)
    return tuple(wrote)


def _replace(path: Path, text: str) -> None:
    if path.exists() and not path.is_file():  # a pipe or a terminal: /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
