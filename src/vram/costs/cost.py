"""What a model costs on a fleet: by the hour, by the token, and by the bytes that tokens hold. Derived; stores no figure twice.

    $ per million input tokens  = $/hour x share of the time that goes to prompts / million input tokens an hour
    $ per million output tokens = $/hour x share of the time that goes to answers / million output tokens an hour

Both at the stated load: the whole rent is paid by what was served, so input tokens and output tokens together pay exactly the rent.
The VRAM-time view divides the same rent by bytes x time instead, and shows apart what nobody used.
"""

from dataclasses import dataclass

from vram.costs.load import Round
from vram.costs.rent import Rent
from vram.memory.part import Source
from vram.speed.figure import Figure

MILLION = 1_000_000
SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class VramTime:
    """How a fleet's rent divides by bytes x time; the shares add up to 1.

    Attributes:
        weights_share: weights, while requests run.
        working_share: working memory (activations, graphs, context, buffers), while requests run.
        kv_share: caches that requests hold.
        idle_share: bytes x time that nobody used: empty pool, spare bytes, GPUs without a replica, hours without requests.
    """

    weights_share: float
    working_share: float
    kv_share: float

    @property
    def idle_share(self) -> float:
        """The rest."""
        return 1 - self.weights_share - self.working_share - self.kv_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """Bytes of a fleet that serves one model.

    Attributes:
        usable: of all GPUs, those without a replica counted.
        weights: of all replicas.
        working: of all replicas: what is held beside weights and caches.
        kv_mean: caches that all requests hold together, the mean over a busy hour.
        kv_per_token: what one more token of one sequence takes on its replica, as the engine reserves it.
    """

    usable: int
    weights: int
    working: int
    kv_mean: float
    kv_per_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a model costs on a fleet at a stated load.

    Attributes:
        model: its name.
        fleet: the GPUs, as a person would type them.
        engine: whose rules and speed were used.
        verdict: of the plan of one replica.
        placement: how a replica is spread.
        gpus: GPUs of the fleet.
        replicas: how many of the model's replicas stand on it.
        gpus_per_replica: GPUs of each.
        load: share of the time in which all replicas are busy, above 0 and up to 1.
        rent: what the fleet costs an hour.
        bytes: what lies on it; None where the model does not fit.
        round: what a busy replica does; None where that is not known.
        doubt: factors by which the time of a prompt and of a step may be off.
        source: whether measured rows stand behind the times (`calibrated`) or none (`formula`).
        why: what the speed stands on, or why it is not known.
        notes: what a reader has to know besides.
    """

    model: str
    fleet: str
    engine: str
    verdict: str
    placement: str
    gpus: int
    replicas: int
    gpus_per_replica: int
    load: float
    rent: Rent
    bytes: Bytes | None
    round: Round | None
    doubt: tuple[float, float]
    source: Source
    why: str
    notes: tuple[str, ...] = ()

    @property
    def usd_per_hour(self) -> float | None:
        """The rent; None where a GPU has no price."""
        return self.rent.usd_per_hour

    @property
    def input_tokens_per_second(self) -> float | None:
        """Prompt tokens of the whole fleet at the load."""
        return None if self.round is None else self.round.input_tokens_per_second * self.replicas * self.load

    @property
    def output_tokens_per_second(self) -> float | None:
        """Answer tokens of the whole fleet at the load."""
        return None if self.round is None else self.round.output_tokens_per_second * self.replicas * self.load

    @property
    def usd_per_million_input(self) -> Figure | None:
        """Dollars for a million prompt tokens."""
        if self.round is None:
            return None
        return self._per_million(self.round.prefill_share, self.input_tokens_per_second, self.doubt[0])

    @property
    def usd_per_million_output(self) -> Figure | None:
        """Dollars for a million answer tokens; their first ones, which come with the prompts, cost nothing more."""
        if self.round is None:
            return None
        return self._per_million(1 - self.round.prefill_share, self.output_tokens_per_second, self.doubt[1])

    @property
    def usd_per_million_tokens(self) -> Figure | None:
        """Dollars for a million tokens, prompts and answers alike."""
        if self.input_tokens_per_second is None or self.output_tokens_per_second is None:
            return None
        return self._per_million(1, self.input_tokens_per_second + self.output_tokens_per_second, max(self.doubt))

    @property
    def vram_time(self) -> VramTime | None:
        """The rent by bytes x time; None where the model does not fit or its speed is not known."""
        if self.bytes is None or self.round is None:
            return None
        part = self.load / self.bytes.usable
        return VramTime(weights_share=self.bytes.weights * part, working_share=self.bytes.working * part, kv_share=self.bytes.kv_mean * part)

    @property
    def vram_time_usd_per_million_tokens(self) -> Figure | None:
        """Dollars for a million tokens by the bytes that they held, and for how long; what was idle is not in it."""
        whole, parts = self.usd_per_million_tokens, self.vram_time
        if whole is None or parts is None:
            return None
        used = 1 - parts.idle_share
        return Figure(value=whole.value * used, low=whole.low * used, high=whole.high * used, source=whole.source, why=whole.why)

    def _per_million(self, share: float, tokens_per_second: float | None, doubt: float) -> Figure | None:
        if self.usd_per_hour is None or not tokens_per_second:
            return None
        value = self.usd_per_hour * share / (tokens_per_second * SECONDS) * MILLION
        return Figure(value=value, low=value / doubt, high=value * doubt, source=self.source, why=self.why)
