"""What an engine's processes hold, as the system says: main memory by the kernel, NVIDIA GPUs by the driver. It knows no plan."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from vram.runtime.guard import descendants

_PEAK, _NOW, _SHARED = b"VmHWM", b"VmRSS", b"Pss"
PROC: Final = Path("/proc")


def processes(root: int) -> tuple[int, ...]:
    """A process and all below it."""
    return (root, *descendants(root))


def host_held(pids: Iterable[int], proc: Path = PROC) -> tuple[int, int] | None:
    """Bytes of main memory that these processes held at most so far, and hold now; None where the system does not tell.

    The most: what they share counts once for each of them, and each one's most need not have been at the same time: no less than the truth. Now:
    what they share is dealt to those that share it (PSS), where the kernel tells that.
    """
    peak = now = 0
    for pid in pids:
        told = _told(proc / str(pid) / "status")
        shared = _told(proc / str(pid) / "smaps_rollup")
        peak += told.get(_PEAK, 0)
        now += shared.get(_SHARED) or told.get(_NOW, 0)
    return (peak, now) if now else None


def _told(file: Path) -> dict[bytes, int]:
    """Bytes by the words that the kernel has for them; empty where the process has ended, or is not ours to look at."""
    found = {}
    try:
        for line in file.read_bytes().splitlines():
            word, _, rest = line.partition(b":")
            if word in {_PEAK, _NOW, _SHARED}:
                found[word] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return {}
    return found


def gpu_held(pids: Iterable[int], identifiers: Sequence[str]) -> tuple[int, ...] | None:
    """Bytes of each of these GPUs that these processes hold now; None where the driver does not tell of any of them (in a container of its own, say)."""
    from vram.hardware.probe.nvml import held_by_process  # noqa: PLC0415  (the driver is asked only when needed)

    held, mine = held_by_process(), set(pids)
    found = tuple(sum(size for pid, size in held.get(i, {}).items() if pid in mine) for i in identifiers)
    return found if all(found) and found else None
