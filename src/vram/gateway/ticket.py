"""What an exchange holds at the desk: what it needs and whom it asked, and a lease once it is let in."""

from typing import TYPE_CHECKING, Final

from vram.admission.need import Need
from vram.gateway.prefix import affinity_of, kin_of
from vram.gateway.shape import shape_of

if TYPE_CHECKING:
    from vram.admission.decide import Admit
    from vram.admission.lease import Lease
    from vram.gateway.exchange import Exchange
    from vram.gateway.seats import Counter, Seat

_HALF: Final = 2**62 - 1
"""Numbers that fit a word with a sign, and are no objects where this is compiled."""


class Ticket:
    """What an exchange holds: its need and counter from the start, a lease once it is let in."""

    __slots__ = ("answer", "client", "counted", "counter", "estimated", "held", "lease", "need", "saved", "seat", "shape")

    def __init__(self, need: Need, counter: "Counter", estimated: int, shape: int = 0, client: int = 0) -> None:
        self.need = need
        self.counter = counter
        self.estimated = estimated
        self.shape = shape
        self.client = client
        """Whose it is: a number that stands for its key, or for its address where no keys are asked for."""
        self.counted = False
        """Whether its prompt was counted, or could not be: it is refused for its length then, if it is too long."""
        self.answer: Admit | None = None
        self.lease: Lease | None = None
        self.seat: Seat | None = None
        self.held: tuple[int, int] = (0, 0)
        """KV byte-nanoseconds and nanodollars of the leases that ended."""
        self.saved = 0.0
        """KV byte-seconds that these held and did not pay for: their engine holds them once for several, or not at all."""

    @property
    def group(self) -> int:
        """With which requests of its client it goes to one replica, as a number; where nothing brings requests together: which are the same."""
        return ((self.need.affinity or self.shape) << 1 & _HALF) ^ self.client


def ticket_of(x: "Exchange", counter: "Counter", now: float, *, output_tokens: int | None, affinity: str, sharing: bool = False) -> Ticket:
    """A request's ticket as it comes, by what was learned of others like it.

    Args:
        x: the request.
        counter: its model's.
        now: the time.
        output_tokens: most tokens of one answer; None: the model's own limit.
        affinity: by what requests are brought together.
        sharing: whether it is worth a look with whom it begins alike.
    """
    ask = x.ask
    prompt = ask.prompt_tokens if ask.prompt_tokens is not None else counter.prompts.most(ask.prompt_bytes, ask.pictures)
    most = ask.max_output_tokens
    if output_tokens is not None and (most is None or most > output_tokens):
        most = output_tokens
    expected = counter.outputs.usual()
    need = Need(
        prompt,
        expected,
        most,
        sequences=ask.sequences,
        streams=ask.stream,
        priority=x.priority,
        key=x.key.terms.name,
        arrived=now,
        affinity=affinity_of(ask, x.session, affinity) if counter.spreads else 0,
        kin=kin_of(ask) if sharing else 0,
        owner=x,
        law=counter.outputs,
    )
    estimated = prompt + (expected if most is None or expected < most else most) * ask.sequences
    return Ticket(need, counter, estimated, shape_of(x.body), x.key.source or x.front.source())
