"""Keys that others add and revoke while a gateway runs: looked for once a second, in a task of its own, so that a locked file holds up nothing else."""

import asyncio
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vram.gateway.keys import KeyRing
    from vram.gateway.store import Store

log = logging.getLogger("vram.gateway")


async def follow_keys(store: "Store", ring: "KeyRing", seen: int) -> None:
    """Take over what changed since version `seen` of the file, and begin a new month's budgets; until cancelled."""
    month, told = time.gmtime().tm_mon, False
    rows: list[tuple[Any, ...]] | None = None
    while True:
        try:
            version = await asyncio.to_thread(store.version)
            now = time.gmtime()
            if version != seen or now.tm_mon != month:
                # Other workers write their usage all the time; what keys spent is summed only when a key changed.
                found = await asyncio.to_thread(store.key_rows)
                if found != rows or now.tm_mon != month:
                    ring.replace(await asyncio.to_thread(store.keys))
                rows, seen, month = found, version, now.tm_mon
            told = False
        except sqlite3.Error as e:
            if not told:
                log.error("keys cannot be read, those known stay: %s", e)  # noqa: TRY400  (the reason is enough)
            told = True
        await asyncio.sleep(1.0)
