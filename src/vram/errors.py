"""Every error that a user of this package can meet. Each carries a hint: what to do or type next.

VramError
├── UsageError               a flag, name or size that makes no sense            exit 2
│   └── UnknownGpuError      no such GPU in the catalogue
├── ModelError               the model can't be read                             exit 4
│   ├── ModelNotFoundError   nothing at that path, hub id or catalogue name
│   ├── ModelFormatError     bytes that break their format (what, where, hint)
│   ├── UnknownArchitectureError   a config of a type that no family knows
│   └── SourceError          a hub or disk that fails, lies or hangs
├── PriceListError           a price list that can't be fetched, read or written exit 1
├── PlacementError           the model can't be split as asked                   exit 2
├── UnmetError               no hardware that was considered does what is asked  exit 3
└── HardwareNotFoundError    no GPU detected and none named                      exit 5
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns; stable, documented in docs/command-line.md."""

    OK = 0
    ERROR = 1
    USAGE = 2
    DOES_NOT_FIT = 3
    MODEL_UNREADABLE = 4
    NO_HARDWARE = 5
    INTERRUPTED = 130


def printable(text: str, limit: int = 300) -> str:
    """`text` with control characters escaped and its length bounded: names come from hostile files."""
    clean = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "…"


class VramError(Exception):
    """Base of all errors of this package: a message, and a hint that says what to do next."""

    exit_code = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = printable(message, 600)
        self.hint = printable(hint, 600)
        super().__init__(self.message)


class UsageError(VramError, ValueError):
    """A flag, name or size that makes no sense."""

    exit_code = ExitCode.USAGE


class UnknownGpuError(UsageError):
    """No GPU of that name in the catalogue."""


class PlacementError(UsageError):
    """The model can't be split over the GPUs as asked."""


class ModelError(VramError):
    """The model can't be read."""

    exit_code = ExitCode.MODEL_UNREADABLE


class ModelNotFoundError(ModelError):
    """Nothing at that path, hub id or catalogue name."""


class UnknownArchitectureError(ModelError):
    """A config.json of a type that no family knows, and no tensor headers to read instead."""


class SourceError(ModelError):
    """A hub or disk that fails, lies about lengths, redirects without end or hangs."""


class ModelFormatError(ModelError):
    """Bytes that break the format they claim: `what` is wrong, `where` in which file, and a hint."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = printable(what)
        self.where = printable(where)
        super().__init__(
            f"{self.where}: {self.what}" if where else self.what,
            hint=hint or "the file is damaged or not what its name says; fetch it again from where it was published",
        )


class PriceListError(VramError):
    """A price list that can't be fetched, read or written."""


class UnmetError(VramError):
    """Nothing that was considered does what is asked for: a service level, a budget."""

    exit_code = ExitCode.DOES_NOT_FIT


class HardwareNotFoundError(VramError):
    """No GPU was detected on this machine and none was named."""

    exit_code = ExitCode.NO_HARDWARE
