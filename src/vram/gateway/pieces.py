"""A request's body while it comes, in pieces of whatever size."""

from typing import Final

PIECES: Final = 1024
"""So many pieces become one: chunks of a byte or two would take thirty times the room of what they carry."""


class Pieces:
    """What came until now.

    Attributes:
        size: its bytes.
        parts: it, in order.
    """

    __slots__ = ("_folded", "parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = self._folded = 0

    def add(self, piece: bytes) -> None:
        """One more."""
        parts = self.parts
        self.size += len(piece)
        parts.append(piece)
        if len(parts) - self._folded > PIECES:
            parts[self._folded :] = [b"".join(parts[self._folded :])]
            self._folded += 1

    def whole(self) -> bytes:
        """All of it; the next one begins."""
        parts, self.parts = self.parts, []
        self.size = self._folded = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)
