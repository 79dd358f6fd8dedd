"""An engine as a program: found, started as a plan says, asked whether it is ready, its words understood.

What it takes of memory is `vram.engines`' to know, and which flags a plan comes to `vram.engines.args`'.
"""

import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from vram.engines.args.base import Command, Launch
from vram.hardware.remote import REMOTE_VENDOR
from vram.settings import Settings

if TYPE_CHECKING:
    from vram.planner.plan import Plan

VERSION_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An engine that is here.

    Attributes:
        program: its first words.
        version: as its memory rules name it; empty where it does not say.
        where: how it was found, for people.
        release: its own version, where the memory rules go by another one.
    """

    program: tuple[str, ...]
    version: str
    where: str
    release: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an engine is to listen, and what it is to call its model."""

    port: int
    name: str
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is typed to start an engine: words, variables, and what no flag can say."""

    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """What was short of memory, by an engine's own words.

    Attributes:
        part: the plan's part (`weights`, `kv_cache`, `activations`, `cuda_graphs`); empty where the words do not tell.
        said: the line.
    """

    part: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A request that makes an engine load its model."""

    path: str
    document: Mapping[str, Any]


class Program(ABC):
    """One engine as a program."""

    name: ClassVar[str]
    """As it is asked for: `--engine`."""
    rules: ClassVar[str]
    """The engine whose memory rules hold (`vram.engines.registry`), and whose log lines it prints."""
    install: ClassVar[str]
    """What to type where it is missing."""
    ready_path: ClassVar[str] = "/health"
    token_prompts: ClassVar[bool] = True
    """Whether /v1/completions takes token ids."""
    on_host: ClassVar[bool] = False
    """Whether it runs without a GPU."""
    deals_layers: ClassVar[bool] = False
    """Whether it is told which layers lie on GPUs, and on which: --gpu-layers, --tensor-split."""
    quantizes: ClassVar[frozenset[str]] = frozenset()
    """Quantizations that it makes of 16-bit weights while it loads them; others have to be in the files."""
    slots: ClassVar[int | None] = None
    """Requests at a time, where that is no matter of settings."""
    ctx_checkpoints: ClassVar[int | None] = None
    """Checkpoints of past prompts that a slot keeps, where that is none either."""
    short: ClassVar[tuple[tuple[str, re.Pattern[str]], ...]] = ()
    """Lines that tell of memory that ran out: the part, and what the line holds; the first that matches counts."""
    grace_seconds: ClassVar[float] = 10.0
    """What it gets to end by itself."""

    @abstractmethod
    def find(self, found: Settings) -> Installed | None:
        """Where it is; None where it is not."""

    def runs_on_host(self, here: Installed) -> bool:  # noqa: ARG002  (an engine that was built for one kind of device looks at it)
        """Whether what is here runs without a GPU."""
        return self.on_host

    @abstractmethod
    def line(self, launch: Launch, here: Installed, at: Address) -> Line:
        """What starts it.

        Raises:
            UsageError: it cannot do what was planned.
        """

    def calls(self, model: str) -> str:  # noqa: ARG002  (an engine with names of its own looks at it)
        """What it calls a model, where it does not take the name that it is told; empty where it does."""
        return ""

    def context(self, model: str) -> int | None:  # noqa: ARG002  (the same)
        """The tokens of a sequence that a model brings with it; None where it brings none."""
        return None

    def loads(self, at: Address) -> tuple[Load, ...]:  # noqa: ARG002  (the same)
        """Requests that make it load its model once it answers, tried one after the other until one is not refused (400); none where it does so by itself."""
        return ()

    def batch(self, plan: "Plan", model: str) -> int | None:  # noqa: ARG002  (the same)
        """The physical batch that it takes by itself, and that nobody can ask it for; None where its rules have it, and where it can be asked."""
        return None

    def refuse(self, plan: "Plan", model: str) -> None:  # noqa: B027  (most engines do as they are told)
        """Refuse a plan that it would not follow.

        Raises:
            UsageError: why.
        """

    def takes(self, launch: Launch) -> str:
        """Why it cannot load such a model; empty when it can."""
        return "" if launch.model else "no model"

    def short_of(self, lines: Iterable[str]) -> Short | None:
        """The first line that says that memory ran out, and of which part."""
        for line in lines:
            for part, pattern in self.short:
                if pattern.search(line):
                    return Short(part=part, said=line.strip()[:400])
        return None


def words_of(made: Command, program: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a command with another program in front."""
    return (*program, *(word for flag in made.flags for word in flag.words))


def visible(vendor: str, identifiers: Iterable[str]) -> dict[str, str]:
    """Variables that show an engine these GPUs and no others.

    UUIDs where the driver gives them: numbers mean different cards to CUDA and to nvidia-smi unless the order is fixed.
    """
    listed = ",".join(identifiers)
    if vendor.lower() == "nvidia":
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": listed}
    if vendor.lower() == "amd":
        return {"HIP_VISIBLE_DEVICES": listed}
    if vendor in {"host", REMOTE_VENDOR}:
        return {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    return {}


def answer_of(words: tuple[str, ...], *, seconds: float = VERSION_SECONDS) -> str:
    """What a program prints when it is asked (its version, say), both streams together; empty when it cannot be asked."""
    try:
        done = subprocess.run(words, capture_output=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL)  # noqa: S603  (found programs, our own arguments)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout + done.stderr)[:100_000].decode("utf-8", "replace")


def on_path(name: str) -> Path | None:
    """A program of that name on PATH."""
    from shutil import which  # noqa: PLC0415  (start-up)

    found = which(name)
    return Path(found) if found else None
