"""A small process between us and an engine, so that the engine never outlives us: `python -I -S guard.py STATUS_FD FILES WORDS…`.

Its standard input is a pipe that we hold. A line `stop SECONDS` on it ends the engine; so does its end, which comes by itself when we die,
of whatever. On Linux it also adopts what the engine leaves behind (PR_SET_CHILD_SUBREAPER), and the kernel kills the engine when the
guard dies (PR_SET_PDEATHSIG). On STATUS_FD it tells `pid N`, then `code N` or `signal N`, then closes it: nothing of the engine is left.
FILES is how many descriptors the engine may hold until it asks for more, where we have more ourselves; 0: as many as we.

Nothing but the standard library, and nothing of ours: it has to be there in a few hundredths of a second and to stay small.
"""

import contextlib
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
DEATH_GRACE_SECONDS = 2.0
"""What an engine gets to end by itself when nobody is left to wait for it."""
LINUX = sys.platform == "linux"


def _prctl(option: int, value: int) -> None:
    if LINUX:
        import ctypes  # noqa: PLC0415  (elsewhere it would only cost time)

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Every process below `root`, from /proc; empty where there is none."""
    parents: dict[int, int] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208  (pathlib would double the start-up time)
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123  (the same)
                    # A command may hold spaces and brackets: what counts stands behind the last one.
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    found: list[int] = []
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found += level
    return found


class Guard:
    """One engine, from its start until nothing of it is left."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.engine = 0
        self.result = ""

    def tell(self, line: str) -> None:
        """Tell it, if anybody is there to hear it."""
        with contextlib.suppress(OSError):
            os.write(self.status, f"{line}\n".encode())

    def start(self, words: list[str], files: int) -> None:
        """Start the engine in a session of its own."""
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        parent = os.getpid()
        self.engine = os.fork()
        if self.engine:
            return
        try:
            os.setsid()
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(127)
            os.close(self.status)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            if files:
                import resource  # noqa: PLC0415  (Windows has none)

                # What calls select(), or closes all it might have inherited, counts on a low one.
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            os.execvp(words[0], words)  # noqa: S606  (a shell is what is not wanted)
        except BaseException as e:  # noqa: BLE001  (in a forked child nothing may return to the parent's code)
            os.write(2, f"{words[0]} cannot be started: {e}\n".encode())
        os._exit(127)

    def reap(self) -> bool:
        """Take leave of whoever ended. Returns whether the engine is among them, now or before."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            if pid == self.engine and not self.result:
                self.result = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"code {os.WEXITSTATUS(status)}"
        return bool(self.result)

    def send(self, number: int) -> None:
        """A signal to the engine's group."""
        with contextlib.suppress(OSError):
            os.killpg(self.engine, number)

    def sweep(self) -> None:
        """Kill all that is left, also what left the group."""
        ends = time.monotonic() + 2.0
        while time.monotonic() < ends:
            self.send(signal.SIGKILL)
            left = descendants(os.getpid())
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            if not left:
                return
            time.sleep(0.01)

    def watch(self) -> None:
        """Until the engine has ended, or was ended."""
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        asked: list[int] = []
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
        deadline: float | None = None
        rest = b""
        inputs = [0, wake]
        while not self.reap():
            timeout = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            ready, _, _ = select.select(inputs, [], [], timeout)
            if wake in ready:
                os.read(wake, 4096)
            grace = DEATH_GRACE_SECONDS if asked else None
            if 0 in ready:
                data = os.read(0, 4096)
                if not data:
                    inputs.remove(0)
                    grace = DEATH_GRACE_SECONDS
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"stop "):
                        grace = float(line[5:])
            if grace is not None:
                asked.clear()
                self.send(signal.SIGTERM)
                until = time.monotonic() + grace
                deadline = until if deadline is None else min(deadline, until)
            if deadline is not None and time.monotonic() >= deadline:
                self.send(signal.SIGKILL)
                deadline = time.monotonic() + 1.0


def main(arguments: list[str]) -> int:
    """Guard the engine that `arguments` names."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    guard = Guard(int(arguments[0]))
    os.set_inheritable(guard.status, False)  # noqa: FBT003  (the standard library's own form)
    guard.start(arguments[2:], int(arguments[1]))
    guard.tell(f"pid {guard.engine}")
    guard.watch()
    guard.sweep()
    guard.tell(guard.result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
