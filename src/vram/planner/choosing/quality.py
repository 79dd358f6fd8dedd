"""How good a model is, as far as cited facts tell: its size, its age and what its quantization loses, in one unit: doublings.

One point is one doubling of parameters of a dense model. Knows no benchmark score, no price and no taste; docs/how-we-pick.md
argues the rule, `catalog/quality.json` holds its facts, each with its source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import log, log2, sqrt
from typing import Any

# Ages are counted from here; any month would do, because only differences count.
EPOCH_YEAR = 2023


class Need(StrEnum):
    """What a model is wanted for."""

    CHAT = "chat"
    CODE = "code"
    REASONING = "reasoning"
    VISION = "vision"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a quantization costs: perplexity on the same text with and without it, as published.

    Attributes:
        perplexity: of the quantised model.
        unquantized: of the same model in 16 bits.
        source: who measured it, on what.
        note: how the measured method differs from the one that it stands for; empty for not at all.
    """

    perplexity: float
    unquantized: float
    source: str
    note: str = ""

    @property
    def nats(self) -> float:
        """Nats a token: the logarithm of the quotient, so that losses of different tests compare."""
        return max(log(self.perplexity / self.unquantized), 0.0)

    @property
    def share(self) -> float:
        """The rise of the perplexity as a share, 0.028 for 2.8 %."""
        return self.perplexity / self.unquantized - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """When a generation of models came out, `2025-04`, and who says so."""

    name: str
    released: str
    source: str

    @property
    def months(self) -> int:
        """Months since the start of 2023."""
        year, month = self.released.split("-")
        return (int(year) - EPOCH_YEAR) * 12 + int(month) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """What a model is for.

    Attributes:
        id: its hub id.
        generation: of which it is one; None where no source for a date was found.
        needs: what it serves, with the source of each.
        of: the model of which this one is a quantised checkpoint, else its own id.
    """

    id: str
    generation: Generation | None
    needs: Mapping[Need, str]
    of: str


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The facts that models are ranked by.

    Attributes:
        losses: by canonical name of the quantization.
        models: by hub id; a model that is not here serves no need.
        months_per_doubling: months in which models of half the size come to do as much.
        nats_per_doubling: nats a token that a doubling of the parameters gains.
        sources: what the short names of sources stand for.
        licences: of models whose entry in the catalogue has none.
    """

    losses: Mapping[str, Loss]
    models: Mapping[str, Fitness]
    months_per_doubling: float
    nats_per_doubling: float
    sources: Mapping[str, str]
    licences: Mapping[str, str]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Quality":
        """The facts of `catalog/quality.json`.

        Raises:
            KeyError, TypeError: the file was broken by hand; a test reads every entry of it.
        """
        exchange = document["exchange"]
        small, large = exchange["small"], exchange["large"]
        generations = {name: Generation(name=name, **facts) for name, facts in document["generations"].items()}
        return cls(
            losses={name: Loss(**facts) for name, facts in document["quants"].items()},
            models={
                name: Fitness(
                    id=name,
                    generation=generations[facts["generation"]] if facts["generation"] else None,
                    needs={Need(need): source for need, source in facts["needs"].items()},
                    of=facts.get("of", name),
                )
                for name, facts in document["models"].items()
            },
            months_per_doubling=exchange["months_per_doubling"]["value"],
            nats_per_doubling=log(small["perplexity"] / large["perplexity"]) / log2(large["parameters"] / small["parameters"]),
            sources=document["sources"],
            licences={name: facts["licence"] for name, facts in document["licences"].items()},
        )

    @cached_property
    def oldest_months(self) -> int:
        """The age of the oldest dated generation: a model of unknown age counts as no younger."""
        return min(f.generation.months for f in self.models.values() if f.generation)

    def merit(self, model: str, parameters: int, active_parameters: int) -> float:
        """Doublings of a model before any quantization: log2 of its dense-equivalent size in billions, and its age.

        A mixture of experts counts as a dense model of the geometric mean of its total and active parameters.
        """
        fitness = self.models.get(model)
        months = fitness.generation.months if fitness and fitness.generation else self.oldest_months
        size = sqrt(float(parameters) * float(active_parameters or parameters))
        return log2(max(size, 1.0) / 1e9) + months / self.months_per_doubling

    def toll(self, quant: str) -> float | None:
        """Doublings that a quantization takes away; 0 for none, None where nobody cited has measured it."""
        if quant in {"", "bf16", "fp16", "fp32"}:
            return 0.0
        loss = self.losses.get(quant)
        return None if loss is None else loss.nats / self.nats_per_doubling

    def licence(self, model: str, known: str | None) -> str | None:
        """A model's licence: the catalogue's, or what was looked up since; None for neither."""
        return known or self.licences.get(model)

    def cite(self, source: str) -> str:
        """A source spelled out."""
        return self.sources.get(source, source)
