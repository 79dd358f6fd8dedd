"""What drafts tokens for a model to verify (speculative decoding), as launch flags state it. Knows no engine's rules."""

from dataclasses import dataclass

from vram.errors import UsageError
from vram.model.model import Model
from vram.model.mtp import Mtp, mtp_of

MTP = "mtp"
"""How people name a checkpoint's own multi-token-prediction layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A drafter.

    Attributes:
        model: a smaller model, or a head of few layers that reads the target's hidden states (EAGLE); None for the
            multi-token-prediction layers of the checkpoint itself.
        tokens: tokens that it drafts at a time; None for the engine's default.
        gpu_layers: llama.cpp's `-ngld`: its layers on GPUs, the output as the last one; None for all.
    """

    model: Model | None = None
    tokens: int | None = None
    gpu_layers: int | None = None

    @property
    def name(self) -> str:
        """As people say it."""
        return MTP if self.model is None else self.model.name


def is_head(model: Model) -> bool:
    """Whether a draft is a head that reads the target's hidden states (EAGLE and its kin), not a model of its own."""
    return any(word in model.architecture.lower() for word in ("eagle", "medusa", "mtp", "dflash", "nextn"))


def mtp_layers(model: Model) -> Mtp:
    """The model's own layers for multi-token prediction.

    Raises:
        UsageError: it has none.
    """
    found = mtp_of(model)
    if found is None:
        raise UsageError(f"{model.name} has no multi-token-prediction layers that are known here", hint="name a draft model instead: --draft MODEL")
    return found
