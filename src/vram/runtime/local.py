"""Processes of this machine, each behind a guard of its own (guard.py): none outlives us, whatever ends us."""

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from vram.errors import UsageError, VramError
from vram.gateway.descriptors import began_with
from vram.runtime.driver import Exit, Start
from vram.runtime.logs import Lines, LogFile

GUARD: Final = Path(__file__).with_name("guard.py")
MARK: Final = "VRAM_ENGINE_MARK"
"""A variable that every process of one engine inherits: so what it leaves behind is found even where no parent knows it any more."""


class LocalHandle:
    """One process and its guard."""

    def __init__(self, wanted: Start, on_exit: Callable[[Exit], None] | None) -> None:
        self.name = wanted.name
        self.mark = secrets.token_hex(8)
        self.lines = Lines(LogFile(wanted.log) if wanted.log is not None else None)
        self._on_exit = on_exit
        self._ended = threading.Event()
        self._there = threading.Event()
        self._pid: int | None = None
        self._exit: Exit | None = None
        status, told = os.pipe()
        try:
            self._guard = subprocess.Popen(  # noqa: S603  (words come from the operator's configuration and our own tables)
                [sys.executable, "-I", "-S", str(GUARD), str(told), str(began_with() or 0), *wanted.words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **wanted.variables, MARK: self.mark},
                pass_fds=(told,),
                start_new_session=True,  # the terminal's Ctrl-C is ours: we end the engines in order
            )
        except OSError as e:
            os.close(status)
            raise VramError(f"{wanted.name} cannot be started: {e.strerror or e}", hint="is the machine out of processes or memory?") from None
        finally:
            os.close(told)
        self._reader = threading.Thread(target=self._read, name=f"vram-log-{wanted.name}", daemon=True)
        self._reader.start()
        threading.Thread(target=self._follow, args=(status,), name=f"vram-guard-{wanted.name}", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """The process, not its guard."""
        self._there.wait(5.0)
        return self._pid

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self._exit

    @property
    def trouble(self) -> str:
        """Why lines are missing from its log file; empty while none are."""
        return self.lines.file.trouble if self.lines.file is not None else ""

    def head(self) -> list[str]:
        """Its first lines."""
        return self.lines.head()

    def tail(self, lines: int = 40) -> list[str]:
        """Its last lines."""
        return self.lines.tail(lines)

    def stop(self, grace_seconds: float) -> None:
        """Ask the guard to end it."""
        pipe = self._guard.stdin
        with suppress(OSError, ValueError):
            if pipe is not None:
                pipe.write(f"stop {grace_seconds:.3f}\n".encode())
                pipe.flush()

    def wait(self, seconds: float | None = None) -> Exit | None:
        """Wait until nothing of it is left."""
        self._ended.wait(seconds)
        return self._exit

    def _read(self) -> None:
        pipe = self._guard.stdout
        if pipe is None:
            return
        while data := os.read(pipe.fileno(), 65536):
            self.lines.feed(data)
        self.lines.end()

    def _follow(self, status: int) -> None:
        """What the guard tells, until it has nothing more to tell."""
        rest, end = b"", Exit()
        with os.fdopen(status, "rb", buffering=0) as pipe:
            while data := pipe.read(4096):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    word, _, number = line.partition(b" ")
                    if word == b"pid":
                        self._pid = int(number)
                        self._there.set()
                    elif word == b"code":
                        end = Exit(code=int(number))
                    elif word == b"signal":
                        end = Exit(signal=int(number))
        self._there.set()
        self._guard.wait()
        if end == Exit():
            # The guard itself was killed: the kernel killed the engine with it (Linux), and what that had started is ours to find.
            end = Exit(signal=9)
            self._sweep()
        # All lines first: whoever is told of the end wants to show the last ones.
        self._reader.join(5.0)
        for one in (self._guard.stdin, self._guard.stdout):
            with suppress(OSError):
                if one is not None:
                    one.close()
        self._exit = end
        self._ended.set()
        if self._on_exit is not None:
            self._on_exit(end)

    def _sweep(self) -> None:
        kill_marked({self.mark})
        if self._pid is not None:
            with suppress(OSError):
                os.killpg(self._pid, 9)


def kill_marked(marks: Collection[str]) -> int:
    """Kill whatever carries one of these marks in its environment, as /proc shows it to its owner. Returns how many there were."""
    wanted = {f"{MARK}={mark}".encode() for mark in marks}
    killed: set[int] = set()
    # Once more for what was born meanwhile.
    for _ in range(3):
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if wanted & set((entry / "environ").read_bytes().split(b"\0")) and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        if not found:
            break
        for pid in found:
            with suppress(OSError):
                os.kill(pid, 9)
        killed.update(found)
    return len(killed)


class LocalDriver:
    """Processes of this machine."""

    def start(self, wanted: Start, on_exit: Callable[[Exit], None] | None = None) -> LocalHandle:
        """Start it behind a guard.

        Raises:
            UsageError: this system has no process groups.
            VramError: it cannot be started.
        """
        if sys.platform == "win32":
            raise UsageError("engines are not started on Windows yet", hint="start the engine by hand, in WSL for instance, and put vram serve in front of it")
        if not wanted.words or any("\0" in word for word in wanted.words):
            raise UsageError("a command without words, or with one that no program can take", hint="give the engine's program")
        return LocalHandle(wanted, on_exit)
