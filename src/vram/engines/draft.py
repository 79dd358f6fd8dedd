"""What drafts tokens for a model to verify (speculative decoding), as launch flags state it. Knows no engine's rules."""

from dataclasses import dataclass

from vram.model.model import Model

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
