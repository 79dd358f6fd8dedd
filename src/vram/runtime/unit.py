"""One engine with one model: started, ready, ended, started again. It knows nothing of clients; who puts it in front of them is told.

planned ──load──▶ starting ──▶ proving ──▶ ready ──it died──▶ waiting ──▶ starting …
                     │             │                              │
                     └──failed─────┴──────▶ out ◀──died too often─┘
ready ──others need the room──▶ ending ──▶ asleep ──it is asked for──▶ starting …
"""

import asyncio
import logging
import signal
import socket
import time
import zlib
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vram.errors import VramError, printable
from vram.runtime.driver import Driver, Exit, Handle, Start
from vram.runtime.engines.base import Address, Line, Short
from vram.runtime.http import NoAnswerError, ask
from vram.runtime.placing import Placed, line_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from vram.runtime.measured import Beside
    from vram.runtime.probe import Proof

log = logging.getLogger("vram.runtime")

READY_LOOK_SECONDS: Final = 0.05
SHOWN_LINES: Final = 12


class State(StrEnum):
    """Where a unit is in its life."""

    PLANNED = "planned"
    STARTING = "starting"
    PROVING = "proving"
    READY = "ready"
    WAITING = "waiting"
    ENDING = "ending"
    ASLEEP = "asleep"
    STOPPED = "stopped"
    OUT = "out"


class StartError(VramError):
    """An engine did not start: what it said, and of which part it had too little."""

    def __init__(self, message: str, *, hint: str = "", lines: list[str] | None = None, short: Short | None = None) -> None:
        super().__init__(message, hint=hint)
        self.lines = lines or []
        self.short = short


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


class Unit:
    """One engine with one model.

    Attributes:
        placed: what it runs, where, and why so.
        port: where it listens.
        state: where it is in its life.
        why: what brought it there, for people.
        starts: how often it was started.
        since: when its state began (wall clock).
        handle: its process; None where there is none.
        ready_after_seconds: how long the last start took.
        measured: what it printed of its memory, beside its plan.
        proof: what it was put to before clients came.
        on_change: who is told of every change of state.
    """

    def __init__(
        self, placed: Placed, driver: Driver, folder: Path, *, ready_seconds: float = 600.0, on_change: "Callable[[Unit], None] | None" = None
    ) -> None:
        self.placed = placed
        self.driver = driver
        self.log_file = folder / f"{file_name(placed.wanted.name)}.log"
        self.port = free_port()
        self.ready_seconds = ready_seconds
        self.state = State.PLANNED
        self.why = ""
        self.starts = 0
        self.since = time.time()
        self.handle: Handle | None = None
        self.ready_after_seconds: float | None = None
        self.measured: tuple[Beside, ...] = ()
        self.proof: Proof | None = None
        self.on_change = on_change or (lambda _: None)
        self.ended = asyncio.Event()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.placed.wanted.name

    @property
    def url(self) -> str:
        """Its engine's base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> Address:
        """Where its engine listens, and what that calls the model."""
        return Address(port=self.port, name=self.placed.alias)

    def line(self) -> Line:
        """What starts it.

        Raises:
            UsageError: the engine is not here, or cannot do what was planned.
        """
        return line_of(self.placed, self.address)

    def enter(self, state: State, why: str = "") -> None:
        """Begin a state, and tell. Who was stopped by hand stays so, whatever was under way."""
        if self.state is State.STOPPED:
            return
        self.state, self.why, self.since = state, why, time.time()
        self.on_change(self)

    def wake(self, why: str) -> None:
        """One that was stopped or taken out is as any that is asleep: it comes when it is asked for."""
        self.state, self.why, self.since = State.ASLEEP, why, time.time()
        self.on_change(self)

    async def start(self) -> None:
        """Start the engine and wait until it is ready to answer.

        Raises:
            StartError: it ended, was stopped by hand, or was not ready in time; nothing of it is left.
            VramError: it could not be started at all.
        """
        made = self.line()
        self._not_stopped()
        self.enter(State.STARTING)
        self.starts += 1
        loop = asyncio.get_running_loop()
        self.ended = ended = asyncio.Event()

        def over(_: Exit) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

        began = time.monotonic()
        wanted = Start(name=self.name, words=made.words, variables=made.variables, log=self.log_file)
        starting = asyncio.ensure_future(asyncio.to_thread(self.driver.start, wanted, over))
        try:
            self.handle = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread goes on when nobody waits for it any more: what it starts is ours to end.
            with suppress(Exception):
                self.handle = await starting
                await self.end(1.0)
            raise
        self.on_change(self)
        try:
            if self.state is State.STOPPED:
                # While its process came to be: who stopped it had nothing to end yet.
                await self.end()
            async with asyncio.timeout(self.ready_seconds):
                # Who answers for one that has ended is a stranger at its port.
                while not await self._answers() or ended.is_set():
                    self._not_stopped()
                    if ended.is_set():
                        raise self.failed(f"{self.name}: {self.placed.engine.name} {_end(self.handle)}")
                    await asyncio.sleep(READY_LOOK_SECONDS if time.monotonic() - began < 10 else 0.5)
                await self._load()
        except TimeoutError:
            error = self.failed(f"{self.name}: {self.placed.engine.name} was not ready after {self.ready_seconds:g} s", hint="give it longer: --ready-seconds")
            await self.end(0.0)
            raise error from None
        except asyncio.CancelledError:
            await self.end(1.0)
            raise
        self.ready_after_seconds = time.monotonic() - began

    async def _load(self) -> None:
        """Have an engine load its model that does not do so by itself.

        Raises:
            StartError: it did not.
        """
        asked = self.placed.engine.loads(self.address)
        if not asked:
            return
        said = b""
        for one in asked:
            try:
                answer = await ask(self.port, "POST", one.path, one.document, seconds=self.ready_seconds + 1.0)
            except NoAnswerError as e:
                self._not_stopped()
                why = _end(self.handle) if self.handle is not None and self.handle.exit is not None else str(e)
                raise self.failed(f"{self.name}: {self.placed.engine.name} did not load it: {why}") from None
            if answer.status == 200:
                return
            said = answer.body
            if answer.status != 400:
                break
        told = said.decode("utf-8", "replace")
        raise self.failed(f"{self.name}: {self.placed.engine.name} did not load it: {printable(told, 300)}", told=told)

    def _not_stopped(self) -> None:
        if self.state is State.STOPPED:
            raise StartError(f"{self.name}: stopped by hand")

    def moved(self) -> bool:
        """Take another port where somebody took its own while it was not there. Returns whether that is so."""
        with socket.socket() as one:
            # As servers do: connections of the past are no hindrance, who listens is.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", self.port))
            except OSError:
                self.port = free_port()
                return True
        return False

    async def _answers(self) -> bool:
        try:
            return (await ask(self.port, "GET", self.placed.engine.ready_path, seconds=5.0)).status == 200
        except NoAnswerError:
            return False

    def failed(self, message: str, hint: str = "", told: str = "") -> StartError:
        """An error with the engine's last words, and of what it had too little by them, or by what it `told` in an answer."""
        lines = self.handle.tail(200) if self.handle is not None else []
        # An answer may be here before the lines that it followed.
        short = self.placed.engine.short_of([*lines, told])
        ended = self.handle.exit if self.handle is not None else None
        if short is None and ended is not None and ended.signal == signal.SIGKILL:
            # The kernel ends who takes the last of main memory without a word of its own.
            short = Short(part="", said=ended.words)
        if short is not None:
            what = {"weights": "weights", "kv_cache": "the KV cache", "activations": "working memory", "cuda_graphs": "CUDA graphs"}.get(short.part, "")
            message += f": out of memory{f' for {what}' if what else ''}"
            hint = mend_of(short.part)
        return StartError(message, hint=hint or f"its log: {self.log_file}", lines=[printable(x, 300) for x in lines[-SHOWN_LINES:]], short=short)

    async def end(self, grace_seconds: float | None = None) -> None:
        """End the engine, if there is one; nothing of it is left afterwards."""
        handle = self.handle
        if handle is None:
            return
        grace = self.placed.engine.grace_seconds if grace_seconds is None else grace_seconds
        handle.stop(grace)
        await asyncio.to_thread(handle.wait, grace + 10.0)

    def last_lines(self, number: int = SHOWN_LINES) -> list[str]:
        """What it printed last."""
        return [printable(x, 300) for x in self.handle.tail(number)] if self.handle is not None else []


def mend_of(part: str) -> str:
    """What makes a part smaller."""
    return {
        "weights": "a smaller quantization of the model, more GPUs, or other programs' memory freed: vram plan says what fits",
        "kv_cache": "a shorter --context, a lower --concurrency, or --kv-dtype q8_0 (llama.cpp) or fp8 (vLLM, SGLang)",
        "activations": "a smaller --ubatch, or a lower --concurrency",
        "cuda_graphs": "a lower --max-num-seqs",
        "free": "other programs hold memory of this GPU: end them, or give a lower --gpu-memory-utilization",
    }.get(part, "a shorter --context or a lower --concurrency; vram plan says what fits")


def _end(handle: Handle | None) -> str:
    ended = handle.exit if handle is not None else None
    return ended.words if ended is not None else "ended"


def file_name(name: str) -> str:
    """A model's name as that of a file."""
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)[:100].lstrip(".") or "model"
    # Two names never share a file.
    return clean if clean == name else f"{clean}-{zlib.crc32(name.encode()):08x}"
