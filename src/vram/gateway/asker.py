"""Who asks an engine over a connection, and hears what becomes of it."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vram.gateway.back import Back
    from vram.gateway.head import Head
    from vram.gateway.house import House


class Asker(Protocol):
    """Who asks an engine: an exchange on behalf of a client, or a call of the gateway's own."""

    house: "House"
    back: "Back | None"
    over: bool
    hides_usage: bool
    told: bytes

    def answered(self, head: "Head", *, more: bool) -> None:
        """The head of the answer is there; with `more`, bytes of its body came with it and `forward` follows at once."""

    def forward(self, data: bytes, chunks: int) -> None:
        """Bytes of the body, as they came."""

    def ended(self, back: "Back") -> None:
        """The answer is whole."""

    def lost(self, *, stale: bool = False) -> None:
        """The engine closed before its answer was whole; `stale`: a connection that had waited, without a byte of an answer."""

    def broken(self) -> None:
        """The engine's bytes break HTTP; the connection was dropped."""
