"""The most that the sequences of one replica will hold together before all have ended as expected, to the block.

All sequences grow at one pace, a token a step, and give back what they hold when they end: the peak is at one of the ends. Steps of a
real engine are not quite even (a new prompt takes some before its first token, an end is seen late), so each sequence is counted for
`LINGER_STEPS` more at its greatest size while the others go on growing. It knows neither leases nor requests.
"""

from typing import Final

from vram.memory.curve import KvCurve

LINGER_STEPS: Final = 16
"""Steps by which sequences may get out of step: prompts of sixteen prefill steps, or as many tokens that were not counted yet."""


class Growth:
    """What one lease holds as it goes on.

    Attributes:
        to_go: steps until its end.
        held_bytes: now.
        promised_bytes: at its end.
        tokens: prompt and output so far of each sequence.
        sequences: how many it has.
        shared_bytes: of what the curve says for them all, what others hold already.
    """

    __slots__ = ("held_bytes", "promised_bytes", "sequences", "shared_bytes", "to_go", "tokens")

    def __init__(self, to_go: int, held_bytes: int, promised_bytes: int, tokens: int, sequences: int, shared_bytes: int) -> None:
        self.to_go = to_go
        self.held_bytes = held_bytes
        self.promised_bytes = promised_bytes
        self.tokens = tokens
        self.sequences = sequences
        self.shared_bytes = shared_bytes

    def at(self, steps: int, curve: KvCurve) -> int:
        """Bytes after so many steps."""
        if steps >= self.to_go or self.held_bytes >= self.promised_bytes:
            return self.promised_bytes
        grown = self.sequences * curve.nbytes(self.tokens + steps) - self.shared_bytes
        return min(max(grown, self.held_bytes), self.promised_bytes)


def _to_go(growth: Growth) -> int:
    return growth.to_go


def peak_within(growths: list[Growth], curve: KvCurve, room_bytes: int) -> bool:
    """Whether at no end more than `room_bytes` are held. Sorts `growths`."""
    growths.sort(key=_to_go, reverse=True)
    held = slack = promised = 0
    # Known of a later end, with those that were there then: whatever is there earlier holds no more than that and the others' promises.
    known = -1
    slope = 0.0
    last = len(growths) - 1
    for i, growth in enumerate(growths):
        promised += growth.promised_bytes
        if known >= 0:
            known += growth.promised_bytes
        held += growth.held_bytes
        if growth.to_go > 0 and growth.promised_bytes > growth.held_bytes:
            slope += (growth.promised_bytes - growth.held_bytes) / growth.to_go
            # Whole blocks run ahead of the line from what is held to what is promised.
            slack += growth.sequences * curve.step_bytes
        if promised <= room_bytes or 0 <= known <= room_bytes:
            continue
        if i < last and growths[i + 1].to_go == growth.to_go:
            continue
        steps = growth.to_go + LINGER_STEPS
        if held + slope * steps + slack <= room_bytes:
            continue
        known = 0
        for other in growths[: i + 1]:
            known += other.at(steps, curve)
        if known > room_bytes:
            return False
    return True
