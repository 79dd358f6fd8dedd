"""What is told of requests after their end: a thread of its own hands them on to whoever writes log lines or makes spans.

The event loop only appends. A listener that blocks (a pipe that nobody reads, a collector that is away) holds up no request: what
does not fit in the bounded list meanwhile is counted, and told with the next line that gets through.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from vram.gateway.used import Used

HAND_ON_SECONDS: Final = 0.2
MOST_WAITING: Final = 100_000

log = logging.getLogger("vram.gateway")


class Ended(NamedTuple):
    """A request that is over.

    Attributes:
        used: what it used.
        path: path of the API that it called.
        engine: kind of the engine that answered; empty where none did.
        stream: whether its answer was a stream.
        max_tokens: the client's own limit.
        sequences: sequences that it asked for.
        tries: replicas that it was sent to.
        code: of the error that the gateway answered; empty where an engine answered.
        span: what was begun for it; None: nothing was.
    """

    used: "Used"
    path: str
    engine: str
    stream: bool
    max_tokens: int | None
    sequences: int
    tries: int
    code: str
    span: Any


class TurnedAway(NamedTuple):
    """A request that was answered before it was one: unreadable, without a key, to no path of ours."""

    at: float
    code: str
    status: int


Listener = Callable[[list[Ended | TurnedAway]], None]


class Begun(NamedTuple):
    """The span of a request, and the `traceparent` under which it goes to its engine."""

    span: Any
    trace: bytes


Begin = Callable[[bytes, str, bytes], Begun]
"""Begins the span of a request: its path, its model, the client's `traceparent` (empty where it sent none that is one)."""


class After:
    """Ended requests on their way to listeners."""

    def __init__(self, listeners: list[Listener], *, most_waiting: int = MOST_WAITING) -> None:
        self._listeners = listeners
        self._most = most_waiting
        self._waiting: list[Ended | TurnedAway] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="after", daemon=True)
        self.lost = 0

    def start(self) -> None:
        """Begin to hand on."""
        self._thread.start()

    def add(self, ended: Ended | TurnedAway) -> None:
        """Take one; never waits."""
        with self._lock:
            if len(self._waiting) < self._most:
                self._waiting.append(ended)
            else:
                self.lost += 1

    def _run(self) -> None:
        while not self._stop.wait(HAND_ON_SECONDS):
            self.hand_on()
        self.hand_on()

    def hand_on(self) -> None:
        """Give what waits to each listener; one that fails is told and keeps nobody from the others."""
        with self._lock:
            ended, self._waiting = self._waiting, []
            lost, self.lost = self.lost, 0
        if lost:
            log.warning("%d requests were not logged: the log is written too slowly", lost)
        if not ended:
            return
        for listener in self._listeners:
            try:
                listener(ended)
            except Exception:
                log.exception("telling of ended requests")

    def close(self) -> None:
        """Hand on the rest and end, within seconds even where a listener is stuck."""
        self._stop.set()
        self._thread.join(5)
