"""What starts a process and keeps hold of it. `local` is this machine (local.py); a cluster's driver would stand beside it.

It knows no engine and no model: words, variables, lines of a log, and an end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A process to start.

    Attributes:
        name: what it is called in logs and lists.
        words: program and arguments. They can be read by everyone on the machine: no secret stands in them.
        variables: set in its environment beside what ours passes on; secrets go here.
        log: file that takes what it prints; rotated, never without bound.
    """

    name: str
    words: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its code, or the signal that ended it."""

    code: int | None = None
    signal: int | None = None

    @property
    def words(self) -> str:
        """For people."""
        if self.signal is not None:
            told = {9: "SIGKILL: out of the host's memory, or killed by hand", 15: "SIGTERM", 11: "SIGSEGV", 6: "SIGABRT"}.get(self.signal)
            return f"ended by signal {self.signal}{f' ({told})' if told else ''}"
        return f"ended with code {self.code}" if self.code is not None else "ended"


class Handle(Protocol):
    """One process that was started."""

    @property
    def pid(self) -> int | None:
        """The process, once it is there."""

    @property
    def mark(self) -> str:
        """What all its processes carry, so that they are found again."""

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""

    @property
    def trouble(self) -> str:
        """Why lines are missing from its log file; empty while none are."""

    def head(self) -> list[str]:
        """Its first lines, as many as are kept: what it printed when it started."""

    def tail(self, lines: int = 40) -> list[str]:
        """Its last lines."""

    def stop(self, grace_seconds: float) -> None:
        """Ask it to end; what is there after `grace_seconds` is killed with all that it started. Returns at once."""

    def wait(self, seconds: float | None = None) -> Exit | None:
        """Wait for its end, and that nothing of it is left; None when `seconds` passed before. Blocks."""


class Driver(Protocol):
    """Where processes are started."""

    def start(self, wanted: Start, on_exit: Callable[[Exit], None] | None = None) -> Handle:
        """Start it. `on_exit` is called once, from some thread, when it has ended and nothing of it is left.

        Raises:
            VramError: it cannot be started.
        """
