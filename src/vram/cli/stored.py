"""The gateway's file as commands open it: what can go wrong with it is said as an error with a hint."""

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vram.errors import UsageError, VramError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vram.gateway.store import Store


def is_stored() -> bool:
    """Whether there is a file: who only asks makes none."""
    from vram.settings import settings

    return settings().gateway_db.exists()


@contextmanager
def open_store(*, must_exist: bool = False) -> "Iterator[Store]":
    """Keys and usage, closed at the end.

    Raises:
        UsageError: there is no file (where one must be), or it is none of ours.
        VramError: it is locked, or its disk is full or read-only.
    """
    from vram.gateway.store import Store
    from vram.settings import settings

    path = settings().gateway_db
    if must_exist and not path.exists():
        raise UsageError(
            f"no gateway wrote usage to {path} yet", hint="to start a gateway: vram serve pools.toml; if its file is elsewhere, name it with VRAM_GATEWAY_DB"
        )
    try:
        store = Store(path)
        try:
            yield store
        finally:
            store.close()
    except sqlite3.Error as e:
        raise VramError(f"{path}: {e}", hint="is the disk full or read-only, or does another program hold the file?") from None
    except OSError as e:
        raise VramError(f"{path}: {e.strerror or e}", hint="name a file that can be written with VRAM_GATEWAY_DB") from None
