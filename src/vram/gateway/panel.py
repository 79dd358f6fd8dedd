"""All workers as those who are asked: a question goes to each, and what they say comes back as one: pages of administrators, metrics, deeds.

It remembers what workers that are no more had counted. How answers are put together is `together`'s.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from vram.errors import UsageError, VramError
from vram.gateway import together
from vram.gateway.block import HUNG, RESTARTS, Block
from vram.gateway.exposition import Writer
from vram.gateway.workers import Worker

_PAGES: Final = frozenset({"metrics", "pools", "replicas", "leases", "queue", "quarantine"})

log = logging.getLogger("vram.gateway")


class Panel:
    """The workers of one gateway, asked together."""

    def __init__(self, workers: Sequence[Worker], block: Block) -> None:
        self._workers = workers
        self._block = block
        self._gone: list[together.Series] = []

    async def ask(self, what: str, asked: Any, *, seconds: float = 2.0) -> list[tuple[Worker, Any]]:
        """Ask all that serve, each for so long; those that do not answer in time are left out."""

        async def one(worker: Worker) -> tuple[Worker, Any] | None:
            if worker.channel is None or not worker.ready.is_set():
                return None
            try:
                return worker, await worker.channel.ask(what, asked, seconds=seconds)
            except VramError as e:
                log.warning("worker %d did not answer for %s: %s", worker.number, what, e.message)
                return None

        return [found for found in await asyncio.gather(*(one(worker) for worker in self._workers)) if found is not None]

    async def answer(self, what: str, asked: Any = None) -> Any:
        """What all say together.

        Raises:
            VramError: nobody answered, or nothing is known of the question.
        """
        if what == "waiting":
            return together.waiting([page for _, page in await self.ask(what, None)])
        if what == "workers":
            return await self._list()
        if what in {"refresh", "suspect"}:
            await self.ask(what, asked)
            return None
        if what == "clear":
            return max((cleared for _, cleared in await self.ask(what, None)), default=0)
        if what in _PAGES:
            return await self._page(what, asked)
        raise UsageError(f"nothing is known of {what!r}", hint="are the processes of one version?")

    def bury(self, worker: Worker) -> None:
        """It is dead: what it had counted stays."""
        if worker.said is not None:
            self._gone.append(worker.said)
            if len(self._gone) > 1:
                self._gone = [together.Series(together.metrics((), self._gone))]

    async def _page(self, what: str, asked: Any = None) -> Any:
        """A page of all workers together.

        Raises:
            VramError: none answered.
        """
        said = await self.ask(what, asked)
        if what == "metrics":
            return self._metrics(said)
        pages = [page for _, page in said]
        if not pages:
            raise VramError("no worker answers", hint="do they start? the log says why they end")
        if what == "pools":
            return together.pools(pages)
        if what == "replicas":
            return together.replicas(pages)
        if what == "quarantine":
            return together.quarantine(pages, asked["limit"])
        return (together.leases if what == "leases" else together.queue)(pages, asked["limit"])

    def _metrics(self, said: list[tuple[Worker, Any]]) -> str:
        for worker, text in said:
            worker.said = together.Series(text)
        own = Writer()
        own.family("vram_workers", "gauge", "Workers that answer.", [("", len(said))])
        words = self._block.words
        own.family("vram_worker_restarts_total", "counter", "Workers that ended and were replaced.", [("", words[RESTARTS])])
        own.family("vram_workers_hung_total", "counter", "Workers that stood still and were killed.", [("", words[HUNG])])
        # One that is too busy to answer now has not lost what it counted.
        return together.metrics([w.said for w in self._workers if w.said is not None], self._gone) + own.text().decode()

    async def _list(self) -> dict[str, Any]:
        said = {worker.number: page for worker, page in await self.ask("worker", None)}
        return {
            "restarts": self._block.words[RESTARTS],
            "hung": self._block.words[HUNG],
            "workers": [
                {
                    "up_seconds": None,
                    "requests": None,
                    "connections": None,
                    **said.get(worker.number, {}),
                    "number": worker.number,
                    "pid": worker.process.pid if worker.process is not None else None,
                    "generation": worker.generation,
                }
                for worker in self._workers
            ],
        }
