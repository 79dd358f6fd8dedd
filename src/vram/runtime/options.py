"""How a `vram up` runs."""

from dataclasses import dataclass, field
from pathlib import Path

from vram.admission.residency import TurnRules
from vram.gateway.options import Options
from vram.runtime.filed import Filed


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """How a supervisor runs.

    Attributes:
        folder: where logs, state and socket lie.
        gateway: the gateway's options; its `read` is the supervisor's own.
        ready_seconds: how long an engine may take until it answers.
        dollars_per_hour: what an hour of each model's GPUs costs; None: not known.
        probe_seconds: how long an engine may take for what its plan admits at most; 0: it is not asked.
        step_down: whether a start that runs out of memory is tried again with gentler settings.
        calibration: file that keeps measured starts for later plans; None: they are not kept.
        turns: how long a model stays that others wait for, and when one that nobody asks for is unloaded.
        pinned: models that are never unloaded.
        queue_seconds: how long a request may wait, for a model to be loaded, too.
        filed: the pools file that says what is served, and how; None: each model is served under its own name.
    """

    folder: Path
    gateway: Options
    ready_seconds: float = 600.0
    dollars_per_hour: float | None = None
    probe_seconds: float = 300.0
    step_down: bool = True
    calibration: Path | None = None
    turns: TurnRules = field(default_factory=TurnRules)
    pinned: frozenset[str] = frozenset()
    queue_seconds: float = 300.0
    filed: Filed | None = None
