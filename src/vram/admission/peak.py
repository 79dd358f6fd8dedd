"""The most that the sequences of one replica will hold together before all have ended as expected, to the block.

All sequences grow at one pace, a token a step, and give back what they hold when they end: the peak is at one of the ends. Steps of a
real engine are not quite even (a new prompt takes some before its first token, tokens and ends are seen late), so each sequence is
counted for some more steps at its greatest size while the others go on growing. It knows neither leases nor requests.
"""

from typing import Final

from vram.memory.curve import KvCurve

LINGER_STEPS: Final = 16
"""Steps by which sequences may get out of step: a prompt of sixteen prefill steps, or as many tokens that were not seen yet."""
FIRM_STEPS: Final = 64
"""The same where an engine fails what it has no room for."""


class Growth:
    """What one lease holds as it goes on.

    Attributes:
        to_go: steps until its end, by what was seen of it.
        held_bytes: now, by what was seen of it.
        promised_bytes: at its end.
        tokens: prompt and output so far of each sequence, by what was seen of it.
        sequences: how many it has.
        ahead: by how many steps it may be further, by what was seen of others that began with it: streams are seen with unlike delays.
        produced: output tokens of `tokens`.
        most: output tokens that each sequence has at most in the end.
        streams: whether its progress is seen.
        then_bytes: what its end takes off what is saved.
    """

    __slots__ = ("ahead", "held_bytes", "most", "produced", "promised_bytes", "sequences", "streams", "then_bytes", "to_go", "tokens")

    def __init__(self, to_go: int, held_bytes: int, promised_bytes: int, tokens: int, sequences: int, ahead: int = 0) -> None:
        self.to_go = to_go
        self.held_bytes = held_bytes
        self.promised_bytes = promised_bytes
        self.tokens = tokens
        self.sequences = sequences
        self.ahead = ahead
        self.produced = 0
        self.most = to_go
        self.streams = True
        self.then_bytes = 0

    def at(self, steps: int, curve: KvCurve) -> int:
        """Bytes after so many steps, at most."""
        steps += self.ahead
        if steps >= self.to_go or self.held_bytes >= self.promised_bytes:
            return self.promised_bytes
        grown = self.sequences * curve.nbytes(self.tokens + steps)
        return min(max(grown, self.held_bytes), self.promised_bytes)


def _to_go(growth: Growth) -> int:
    return growth.to_go


def peak_within(growths: list[Growth], curve: KvCurve, room_bytes: int, linger_steps: int = LINGER_STEPS, saved_bytes: int = 0) -> bool:
    """Whether at no end, and not within `linger_steps` after it, more than `room_bytes` are held. Sorts `growths`.

    `saved_bytes` of what they hold now take no room; whoever has ended took his `then_bytes` off that.
    """
    growths.sort(key=_to_go, reverse=True)
    held = slack = promised = 0
    # Known of a later end, with those that were there then: whatever is there earlier holds no more than that and the others' promises.
    known = -1
    slope = 0.0
    last = len(growths) - 1
    own = room_bytes
    sharing = saved_bytes > 0
    if sharing:
        for growth in growths:
            saved_bytes -= growth.then_bytes
    for i, growth in enumerate(growths):
        promised += growth.promised_bytes
        if sharing:
            saved_bytes += growth.then_bytes
            room_bytes = own + max(saved_bytes, 0)
        if known >= 0:
            known += growth.promised_bytes
        begins = growth.at(0, curve)
        held += begins
        if growth.promised_bytes > begins:
            slope += (growth.promised_bytes - begins) / (growth.to_go - growth.ahead)
            # Whole blocks run ahead of the line from what is held to what is promised.
            slack += growth.sequences * curve.step_bytes
        if promised <= room_bytes or 0 <= known <= room_bytes:
            continue
        if i < last and growths[i + 1].to_go == growth.to_go:
            continue
        steps = growth.to_go + linger_steps
        if held + slope * steps + slack <= room_bytes:
            continue
        known = 0
        for other in growths[: i + 1]:
            known += other.at(steps, curve)
        if known > room_bytes:
            return False
    return True
