"""What the sequences of one replica will hold together at moments to come: not each at its longest, but all of them with their luck pooled.

Nobody knows how long one answer gets, but of fifty that run some end soon: the sum is far surer than its parts. For each of some moments
ahead it keeps what would be held if nobody had ended by then, what those who end are expected to have given back, and the variance of
that; sequences are independent, so all three are sums over them. The held bytes of a moment stay within `room` with the chance that
`calm` standard deviations stand for, by the normal law: cautious, as what is given back has the lighter tail below. Where nobody's end
is needed, no chance is taken. It knows neither leases nor requests, and no clock: a moment is a number of steps, a token each.

The forecast of memory at moments to come, by the lengths of past answers, is that of LightLLM's Past-Future scheduler (Gong et al.,
ASPLOS 2025, https://doi.org/10.1145/3676641.3716011), which draws a length for each request at random; here their whole law counts.
"""

from math import sqrt
from typing import Final

from vram.admission.learn import OutputTokens
from vram.admission.life_table import CELLS, cell
from vram.memory.curve import KvCurve

AHEAD: Final = [0, 16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1536, 2048, 4096, 8192, 16384, 32768, 65536]
"""The moments, in steps. Between one and the next is counted who was left at the first and what he holds at the second: prompts of some
prefill steps and tokens that are not counted yet bring sequences no further out of step than that."""
OUT_OF_STEP: Final = 16
"""Steps that an answer may end later than is counted, for the same reasons: one that ends at its limit is there for so long."""
GONE: Final = 1e-6
"""So small a chance to be still there is none."""
ALL: Final = [1.0] * CELLS
"""The law of answers that all get as long as they may."""


class Forecast:
    """Sums over sequences, moment by moment.

    Attributes:
        most: bytes if nobody ends before.
        freed: bytes that ends are expected to have given back of them.
        variance: of that, in square bytes.
    """

    __slots__ = ("freed", "most", "variance")

    def __init__(self) -> None:
        self.most = [0.0] * len(AHEAD)
        self.freed = [0.0] * len(AHEAD)
        self.variance = [0.0] * len(AHEAD)

    def add(
        self,
        law: OutputTokens | None,
        curve: KvCurve,
        prompt: int,
        produced: int,
        most: int,
        sequences: int,
        held_bytes: int,
        *,
        streams: bool,
        begins: int = 0,
    ) -> None:
        """One more request: its prompt, its output so far and at most, its sequences, what they hold now (or when it `begins`, in so many steps).

        Without a law it gets as long as it may. Of one that does not stream nothing is known but that it began: it holds all from the start. Of no sequence at all nothing is
        known: what it holds stays.
        """
        table = law.survival() if law is not None else ALL
        here = table[cell(produced)]
        start = sequences * curve.nbytes(prompt + produced)
        last = len(AHEAD) - 1
        for i in range(last):
            if AHEAD[i + 1] <= begins:
                continue
            at = produced + max(AHEAD[i] - begins, 0)
            if i and at >= most + OUT_OF_STEP:
                break
            share = table[cell(at)] / here if here > GONE and sequences else 1.0
            if share < GONE:
                break
            nbytes = float(held_bytes)
            if streams:
                nbytes += sequences * curve.nbytes(prompt + min(produced + AHEAD[i + 1] - begins, most)) - start
            self.most[i] += nbytes
            if share < 1.0:
                self.freed[i] += (1.0 - share) * nbytes
                self.variance[i] += share * (1.0 - share) * nbytes * nbytes

    def within(self, room_bytes: int, calm: float) -> bool:
        """Whether at no moment more than `room_bytes` are held, with the chance of `calm` standard deviations."""
        for i in range(len(AHEAD)):
            over = self.most[i] - room_bytes
            if over > 0.0 and over + calm * sqrt(self.variance[i]) > self.freed[i]:
                return False
        return True

    def copy(self) -> "Forecast":
        """Another one like it."""
        made = Forecast()
        made.most, made.freed, made.variance = self.most[:], self.freed[:], self.variance[:]
        return made
