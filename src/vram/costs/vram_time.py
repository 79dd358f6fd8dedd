"""The VRAM-time view of money: what a token costs by the bytes that it holds and for how long. Knows no speed, no model and no clock.

A GPU is rented by the hour and filled by the byte, so its rent divides into byte-seconds:

    $ per byte-second = $ per hour / (3600 x usable bytes)

A request holds its own cache while it runs, and its share of what all requests need (weights, working memory) while it is among those that
run: so much divided by their number. Bytes times time that nobody used are idle, and stand apart. `Meter` keeps such books exactly, in whole
byte-nanoseconds and nanodollars: what requests pay and what was idle add up to the rent to the last unit.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

NS_PER_SECOND: Final = 10**9
NS_PER_HOUR: Final = 3600 * NS_PER_SECOND


def byte_second_usd(usd_per_hour: float, usable_bytes: int) -> float:
    """Dollars for one byte for one second of GPUs of so many usable bytes at that rent."""
    return usd_per_hour / (3600 * usable_bytes)


def kv_byte_seconds(
    bytes_at: Callable[[int], int],
    *,
    prompt_tokens: int,
    output_tokens: int,
    prefill_seconds: float,
    decode_seconds: float,
    breakpoints: Iterable[int] = (),
) -> tuple[float, float]:
    """Byte-seconds that the cache of one request takes while its prompt is read, and while its answer is written.

    The cache grows evenly from nothing to the prompt, then evenly to prompt + output: the integral of `bytes_at` along the way.

    Args:
        bytes_at: bytes that a sequence of so many tokens keeps; linear between `breakpoints`.
        prompt_tokens: tokens of the prompt.
        output_tokens: tokens of the answer.
        prefill_seconds: from the first token of the prompt to the last.
        decode_seconds: from there to the last token of the answer.
        breakpoints: lengths at which the growth changes (a window that is full), ascending.
    """
    points = tuple(breakpoints)
    last = prompt_tokens + output_tokens
    return (
        prefill_seconds * _mean_bytes(bytes_at, 0, prompt_tokens, points),
        decode_seconds * _mean_bytes(bytes_at, prompt_tokens, last, points),
    )


def _mean_bytes(bytes_at: Callable[[int], int], first: int, last: int, points: tuple[int, ...]) -> float:
    """Mean of `bytes_at` from `first` to `last` tokens."""
    if last <= first:
        return float(bytes_at(last))
    stops = [first, *(p for p in points if first < p < last), last]
    area = sum((b - a) * (bytes_at(a) + bytes_at(b)) for a, b in pairwise(stops))
    return area / (2 * (last - first))


def token_cost(
    *, usd_per_hour: float, usable_bytes: int, kv_byte_seconds: float, shared_bytes: int, shared_by: float, seconds: float, tokens: int
) -> tuple[float, float]:
    """Dollars for each token of a request: for the cache that it held, and for its share of what all need.

    Args:
        usd_per_hour: rent of the GPUs.
        usable_bytes: of them all.
        kv_byte_seconds: what the request held of the cache, times how long.
        shared_bytes: weights and working memory.
        shared_by: how many requests ran beside it, itself counted.
        seconds: how long it ran.
        tokens: among which its cost is divided.
    """
    price = byte_second_usd(usd_per_hour, usable_bytes)
    return kv_byte_seconds * price / tokens, shared_bytes / shared_by * seconds * price / tokens


class Held:
    """What one request used until now; a plain class, because one is made for every request.

    Attributes:
        kv_byte_ns: its own cache, in byte-nanoseconds.
        shared_byte_ns: its share of weights and working memory.
        nanodollars: what both cost, rounded down; what rounding leaves is idle money.
    """

    __slots__ = ("kv_byte_ns", "nanodollars", "shared_byte_ns")

    def __init__(self, kv_byte_ns: int, shared_byte_ns: int, nanodollars: int) -> None:
        self.kv_byte_ns = kv_byte_ns
        self.shared_byte_ns = shared_byte_ns
        self.nanodollars = nanodollars

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def _all(self) -> tuple[int, int, int]:
        return self.kv_byte_ns, self.shared_byte_ns, self.nanodollars


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The books of a meter: `rent == billed + running + idle`, exactly.

    Attributes:
        rent_nanodollars: what the GPUs cost since the meter began.
        billed_nanodollars: what requests that ended paid.
        running_nanodollars: what those that run owe.
        kv_byte_ns: what all caches took.
        shared_byte_ns: what weights and working memory took while somebody ran.
        whole_byte_ns: usable bytes times the time since the meter began.
    """

    rent_nanodollars: int
    billed_nanodollars: int
    running_nanodollars: int
    kv_byte_ns: int
    shared_byte_ns: int
    whole_byte_ns: int

    @property
    def idle_nanodollars(self) -> int:
        """What nobody used; negative only where requests held more bytes than the meter was told that there are."""
        return self.rent_nanodollars - self.billed_nanodollars - self.running_nanodollars

    @property
    def idle_byte_ns(self) -> int:
        """Bytes times time that nobody used."""
        return self.whole_byte_ns - self.kv_byte_ns - self.shared_byte_ns


class _Request:
    __slots__ = ("kv_byte_ns", "kv_bytes", "seen_ns", "seen_shared")

    def __init__(self, kv_bytes: int, seen_ns: int, seen_shared: int) -> None:
        self.kv_bytes = kv_bytes
        self.kv_byte_ns = 0
        self.seen_ns = seen_ns
        self.seen_shared = seen_shared


@dataclass(slots=True, kw_only=True)
class Meter:
    """The books of one replica: who held how many bytes for how long. Each call costs the same, however many requests run.

    Times are nanoseconds of any clock that never runs backwards; the meter reads none itself.

    Attributes:
        nanodollars_per_hour: rent of the replica's GPUs.
        usable_bytes: of them all.
        shared_bytes: of which weights and working memory.
        began_ns: when the books were opened.
    """

    nanodollars_per_hour: int
    usable_bytes: int
    shared_bytes: int
    began_ns: int
    _now: int = field(init=False, default=0)
    _per_nanodollar: int = field(init=False, default=1)
    _each: int = field(init=False, default=0)
    _left: int = field(init=False, default=0)
    _busy_ns: int = field(init=False, default=0)
    _kv_bytes: int = field(init=False, default=0)
    _kv_byte_ns: int = field(init=False, default=0)
    _billed: int = field(init=False, default=0)
    _requests: dict[Hashable, _Request] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Open the books."""
        if self.usable_bytes < 1 or not 0 <= self.shared_bytes <= self.usable_bytes or self.nanodollars_per_hour < 0:
            raise ValueError("a meter needs usable bytes, of which the shared ones are a part, and a rent of 0 or more")
        self._now = self.began_ns
        self._per_nanodollar = NS_PER_HOUR * self.usable_bytes

    def start(self, key: Hashable, now_ns: int, kv_bytes: int = 0) -> None:
        """A request begins to run with so many bytes of cache.

        Raises:
            ValueError: it runs already, the time runs backwards, or the bytes are negative.
        """
        if key in self._requests or kv_bytes < 0:
            raise ValueError(f"{key!r} runs already" if key in self._requests else "bytes are 0 or more")
        self._to(now_ns)
        self._requests[key] = _Request(kv_bytes, now_ns, self._each)
        self._kv_bytes += kv_bytes

    def resize(self, key: Hashable, now_ns: int, kv_bytes: int) -> None:
        """From now on a request holds so many bytes of cache.

        Raises:
            KeyError: it does not run.
            ValueError: the time runs backwards, or the bytes are negative.
        """
        if kv_bytes < 0:
            raise ValueError("bytes are 0 or more")
        request = self._requests[key]
        self._to(now_ns)
        request.kv_byte_ns += request.kv_bytes * (now_ns - request.seen_ns)
        request.seen_ns = now_ns
        self._kv_bytes += kv_bytes - request.kv_bytes
        request.kv_bytes = kv_bytes

    def end(self, key: Hashable, now_ns: int) -> Held:
        """A request ends, however: what it used and owes.

        Raises:
            KeyError: it does not run.
            ValueError: the time runs backwards.
        """
        request = self._requests[key]
        self._to(now_ns)
        held = self._held(request)
        del self._requests[key]
        self._kv_bytes -= request.kv_bytes
        self._billed += held.nanodollars
        return held

    def balance(self, now_ns: int) -> Balance:
        """The books as they stand.

        Raises:
            ValueError: the time runs backwards.
        """
        self._to(now_ns)
        span = now_ns - self.began_ns
        return Balance(
            rent_nanodollars=self.nanodollars_per_hour * span // NS_PER_HOUR,
            billed_nanodollars=self._billed,
            running_nanodollars=sum(self._held(r).nanodollars for r in self._requests.values()),
            kv_byte_ns=self._kv_byte_ns,
            shared_byte_ns=self._busy_ns * self.shared_bytes,
            whole_byte_ns=span * self.usable_bytes,
        )

    def _to(self, now_ns: int) -> None:
        """Bring the books to a time: what is shared since the last one is dealt to those that ran."""
        span = now_ns - self._now
        if span < 0:
            raise ValueError("the time runs backwards")
        if span and self._requests:
            self._left += span * self.shared_bytes
            part = self._left // len(self._requests)
            self._left -= part * len(self._requests)
            self._each += part
            self._busy_ns += span
            self._kv_byte_ns += span * self._kv_bytes
        self._now = now_ns

    def _held(self, request: _Request) -> Held:
        own = request.kv_byte_ns + request.kv_bytes * (self._now - request.seen_ns)
        shared = self._each - request.seen_shared
        return Held(own, shared, (own + shared) * self.nanodollars_per_hour // self._per_nanodollar)
