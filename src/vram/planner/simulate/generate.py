"""Requests out of a rate and distributions: the same seed gives the same requests, on any machine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, exp, log, pi, sqrt
from typing import Final, Protocol

from vram.errors import UsageError
from vram.planner.simulate.request import Request

MOST_REQUESTS: Final = 2_000_000
MOST_TOKENS: Final = 100_000_000
_MASK: Final = (1 << 64) - 1


class Random:
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): small, and its state is one number."""

    __slots__ = ("state",)

    def __init__(self, seed: int) -> None:
        """Numbers from a seed on."""
        self.state = seed & _MASK

    def bits(self) -> int:
        """64 random bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def uniform(self) -> float:
        """A number above 0 and below 1."""
        return ((self.bits() >> 11) + 0.5) / (1 << 53)

    def exponential(self) -> float:
        """Of mean 1."""
        return -log(self.uniform())

    def normal(self) -> float:
        """Of mean 0 and deviation 1 (Box and Muller, 1958)."""
        return sqrt(-2 * log(self.uniform())) * cos(2 * pi * self.uniform())

    def gamma(self, shape: float) -> float:
        """Of mean `shape` and scale 1 (Marsaglia and Tsang, 2000)."""
        if shape < 1:
            return float(self.gamma(shape + 1) * self.uniform() ** (1 / shape))
        d = shape - 1 / 3
        c = 1 / sqrt(9 * d)
        while True:
            x = self.normal()
            v = (1 + c * x) ** 3
            if v > 0 and log(self.uniform()) < 0.5 * x * x + d - d * v + d * log(v):
                return d * v


class Lengths(Protocol):
    """Where numbers of tokens come from."""

    def draw(self, random: Random) -> int:
        """One of them, at least 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Always as many."""

    tokens: int

    def draw(self, random: Random) -> int:  # noqa: ARG002  (the protocol's shape)
        """As many."""
        return self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """From `low` to `high`, both included."""

    low: int
    high: int

    def draw(self, random: Random) -> int:
        """One of them."""
        return self.low + int(random.uniform() * (self.high - self.low + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormal:
    """Half are below `median`; `sigma` is the deviation of the logarithm; `most` cuts the tail."""

    median: float
    sigma: float
    most: int = MOST_TOKENS

    def draw(self, random: Random) -> int:
        """One of them."""
        return min(max(round(self.median * exp(min(self.sigma * random.normal(), 60.0))), 1), self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Empirical:
    """Lengths that were seen, each as likely as the others."""

    tokens: Sequence[int]

    def draw(self, random: Random) -> int:
        """One of them."""
        return self.tokens[int(random.uniform() * len(self.tokens))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A stream of requests.

    Attributes:
        per_second: requests a second, on average.
        seconds: for how long they come.
        prompt: lengths of prompts.
        output: lengths of answers.
        variation: deviation of the gaps between arrivals over their mean: 1 is a Poisson stream, 0 a steady one, more comes in bursts
            (gaps of a gamma distribution, as BurstGPT fits them).
        seed: other requests for another seed.
        model: name of the model that they ask for.
    """

    per_second: float
    seconds: float
    prompt: Lengths
    output: Lengths
    variation: float = 1.0
    seed: int = 0
    model: str = ""


def generate(load: Load) -> list[Request]:
    """The requests of a load; at least one.

    Raises:
        UsageError: a rate, a time or a variation that makes no sense, or too many requests.
    """
    if not (0 < load.per_second < 1e6 and 0 < load.seconds < 1e9 and 0 <= load.variation <= 100):
        raise UsageError(
            f"{load.per_second:g} requests a second for {load.seconds:g} s with variation {load.variation:g}",
            hint="a rate above 0 and below a million, a time above 0, a variation from 0 (steady) over 1 (Poisson) to 100 (bursts)",
        )
    if load.per_second * load.seconds > MOST_REQUESTS:
        raise UsageError(f"{load.per_second * load.seconds:,.0f} requests", hint=f"at most {MOST_REQUESTS:,}: a lower --rate or a shorter --duration")
    random, now = Random(load.seed), 0.0
    requests: list[Request] = []
    for gap in _gaps(load, random):
        if requests and now >= load.seconds:
            break
        requests.append(
            Request(
                arrival_seconds=now,
                prompt_tokens=min(max(load.prompt.draw(random), 1), MOST_TOKENS),
                output_tokens=min(max(load.output.draw(random), 1), MOST_TOKENS),
                model=load.model,
            )
        )
        now += gap
    return requests


def _gaps(load: Load, random: Random) -> Iterator[float]:
    mean = 1 / load.per_second
    for _ in range(MOST_REQUESTS):
        if load.variation == 0:
            yield mean
        elif load.variation == 1:
            yield mean * random.exponential()
        else:
            shape = 1 / load.variation**2
            yield mean * random.gamma(shape) / shape
