"""What a client is told in headers of how it was let in."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vram.admission.decide import Admit
    from vram.admission.need import Need


def notes(answer: "Admit", need: "Need", promised_bytes: int, waited_seconds: float) -> bytes:
    """Header lines, each with its end."""
    told = b"x-vram-pool: %b\r\nx-vram-lease-bytes: %d\r\n" % (answer.pool.name.encode("ascii", "replace"), promised_bytes)
    if waited_seconds > 0.0005:
        told += b"x-vram-queue-seconds: %.3f\r\n" % waited_seconds
    if answer.fallback:
        told += b"x-vram-fallback: %b\r\n" % ", ".join(answer.fallback).encode()
    if answer.most != need.most_tokens and "shorter_output" in answer.fallback:
        told += b"x-vram-max-tokens: %d\r\n" % answer.most
    return told
