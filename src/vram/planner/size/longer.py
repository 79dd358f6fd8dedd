"""A step clock that runs slow: for whoever wants room for what a prediction may be off. It predicts nothing itself."""

from dataclasses import dataclass

from vram.speed.step import StepClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer(StepClock):
    """A clock whose steps take `factor` times as long as another's."""

    clock: StepClock
    factor: float

    def seconds(self, prefill_tokens: int, prefill_pairs: int, decode_sequences: int, kv_tokens: int) -> float:
        """Seconds of one step."""
        return self.factor * self.clock.seconds(prefill_tokens, prefill_pairs, decode_sequences, kv_tokens)
