"""The socket of a running `vram up`: what `vram ps`, `vram stop`, `vram start` and `vram down` ask it."""

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from vram.errors import VramError
from vram.hardware.remote import called
from vram.runtime.runs import ELSEWHERE, Entry
from vram.runtime.together import reserved_of

if TYPE_CHECKING:
    from vram.runtime.supervisor import Supervisor
    from vram.runtime.unit import Unit

LINE_BYTES: Final = 64 * 1024


class Control:
    """Answers commands about one supervisor."""

    def __init__(self, supervisor: "Supervisor", entry: Entry) -> None:
        self._supervisor = supervisor
        self.entry = entry
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; only the owner of the folder can reach the socket.

        Raises:
            VramError: the socket cannot be made.
        """
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self.entry.socket), limit=LINE_BYTES)
            self.entry.socket.chmod(0o600)
        except OSError as e:
            raise VramError(f"{self.entry.socket}: {e.strerror or e}", hint=ELSEWHERE) from None

    async def stop(self) -> None:
        """Be gone."""
        if self._server is not None:
            self._server.close()
        self.entry.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, ValueError):
            line = await asyncio.wait_for(reader.readline(), 10.0)
            try:
                answer = await self._do(json.loads(line))
            except VramError as e:
                answer = {"error": e.message, "hint": e.hint}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _do(self, request: Any) -> dict[str, Any]:
        word = request.get("do") if isinstance(request, dict) else None
        if word == "ps":
            return run_document(self._supervisor)
        if word == "stop":
            await self._supervisor.stop_one(str(request.get("name")))
            return {"stopped": request.get("name")}
        if word == "start":
            self._supervisor.start_one(str(request.get("name")))
            return {"started": request.get("name")}
        if word == "down":
            self._supervisor.done.set()
            return {"ending": True}
        return {"error": f"{str(word)[:40]!r} is no command", "hint": "is this another version of vram?"}


def run_document(supervisor: "Supervisor") -> dict[str, Any]:
    """One run as `vram ps --json` shows it."""
    import os  # noqa: PLC0415  (one name)

    gateway, options = supervisor.gateway, supervisor.options.gateway
    return {
        "pid": os.getpid(),
        "url": f"http://{options.host}:{gateway.port}/v1" if gateway.port else None,
        "admin_url": f"http://{options.admin_host}:{gateway.admin_port}" if gateway.admin_port else None,
        "ready": supervisor.ready,
        "began": supervisor.began,
        "models": [unit_document(supervisor, unit) for unit in supervisor.units.values()],
    }


def unit_document(supervisor: "Supervisor", unit: "Unit") -> dict[str, Any]:
    """One unit as `vram ps --json` shows it."""
    placed, handle = unit.placed, unit.handle
    use, line = supervisor.residence.uses[unit.name], supervisor.line(unit.name)
    plan = placed.plan
    return {
        "name": unit.name,
        "model": placed.wanted.model,
        "engine": placed.engine.name,
        "version": (placed.here.version or None) if placed.here is not None else None,
        "state": unit.state.value,
        "why": unit.why,
        "since": unit.since,
        "pid": handle.pid if handle is not None and handle.exit is None else None,
        "port": unit.port,
        "gpus": [called(g) for g in placed.gpus],
        "context_tokens": plan.workload.context_tokens,
        "concurrency": plan.workload.concurrency,
        "planned_bytes": [g.total_bytes for g in plan.gpus],
        "reserved_bytes": list(reserved_of(placed)),
        "reserved_by": "measured" if placed.reserved else "plan",
        "starts": unit.starts,
        "loads": use.loads,
        "evictions": use.evictions,
        "loading_seconds": round(use.loading_seconds, 3),
        "ready_after_seconds": unit.ready_after_seconds,
        "requests": supervisor.running(unit.name),
        "waiting": len(line) if line is not None else 0,
        "log": str(unit.log_file),
    }
