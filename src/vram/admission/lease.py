"""A lease: the KV bytes that one request holds in one replica, from its admission to its one release, and what it pays for of them.

What it holds and promises its replica's books say (`vram.admission.books`); it counts bytes times seconds, and knows no clock.
"""

from typing import TYPE_CHECKING

from vram.admission.need import Need
from vram.admission.peak import Growth

if TYPE_CHECKING:
    from vram.admission.books import Books


class Lease:
    """KV bytes of one request in one replica, from its admission to its one release.

    Attributes:
        books: the replica's.
        need: the request.
        held_bytes: in the cache now (or about to be: a prompt counts whole from the start).
        promised_bytes: at its expected end.
        saved_bytes: of what it holds, what its engine does not hold for it alone, by the engine's last word: it pays for the rest.
        shared_bytes: of what it holds, what its end is foreseen not to free, because others share it.
        produced: output tokens so far, of each sequence.
        began: steps of its replica when it came.
        expected: output tokens that it is expected to have in the end.
        live: whether it is not released yet.
        on_trial: whether it may have killed an engine, and has not shown yet that it does not.
        since: when it began.
    """

    __slots__ = (
        "_at",
        "_byte_seconds",
        "_saved_byte_seconds",
        "began",
        "books",
        "expected",
        "held_bytes",
        "live",
        "most",
        "need",
        "on_trial",
        "produced",
        "promised_bytes",
        "saved_bytes",
        "shared_bytes",
        "since",
    )

    def __init__(self, books: "Books", need: Need, expected: int, most: int, held_bytes: int, promised_bytes: int, now: float) -> None:
        self.books = books
        self.need = need
        self.expected = expected
        self.most = most
        self.held_bytes = held_bytes
        self.promised_bytes = promised_bytes
        self.saved_bytes = self.shared_bytes = 0
        self.began = books.steps
        self.produced = 0
        self.live = True
        self.on_trial = False
        self.since = self._at = now
        self._byte_seconds = self._saved_byte_seconds = 0.0

    @property
    def paid_bytes(self) -> int:
        """What it pays for now."""
        return self.held_bytes - self.saved_bytes

    def byte_seconds(self, now: float) -> float:
        """Bytes that it pays for times seconds, up to `now` (up to its release, once it is released)."""
        return self._byte_seconds + (self.paid_bytes * (now - self._at) if self.live and now > self._at else 0.0)

    def saved_byte_seconds(self, now: float) -> float:
        """Bytes that it held and did not pay for, times seconds."""
        return self._saved_byte_seconds + (self.saved_bytes * (now - self._at) if self.live and now > self._at else 0.0)

    def growth(self) -> Growth:
        """How it goes on: what the peak is made of."""
        need = self.need
        to_go = max(self.expected - self.produced, 0)
        ahead = max(self.books.steps - self.began - self.produced, 0)
        made = Growth(to_go, self.held_bytes, self.promised_bytes, need.prompt_tokens + self.produced, need.sequences, ahead)
        made.produced, made.most, made.streams = self.produced, self.most, need.streams
        if self.books.saving.shared:
            made.then_bytes = self.books.saving.then(self)
        return made

    def account(self, now: float) -> None:
        """Count what was held up to `now`; the books call it before they change that."""
        if now > self._at:
            self._byte_seconds += self.paid_bytes * (now - self._at)
            if self.saved_bytes:
                self._saved_byte_seconds += self.saved_bytes * (now - self._at)
            self._at = now
