"""`vram up` as a process of its own, for tests: a stand-in engine as the program, everything it keeps in a folder of the test's."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


def stand_in(folder: Path, kind: str = "llama-server") -> Path:
    """A program that is the stand-in."""
    path = folder / kind
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "stand_in.py"}" {kind} "$@"\n')
    path.chmod(0o755)
    return path


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STAND_IN", "VRAM_", "XDG_"))}
    homes = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("STATE", "DATA", "CACHE", "CONFIG")}
    return {**kept, **homes, "HF_HUB_OFFLINE": "1", "COLUMNS": "140", "VRAM_LLAMA_SERVER": str(folder / "llama-server"), **more}


def vram(*args: str, env: dict[str, str], seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vram", *args], capture_output=True, text=True, timeout=seconds, check=False, env=env)


class Running:
    """A `vram up` that runs, and what it has said so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", said: Path) -> None:
        self.process = process
        self._said = said

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def until(self, words: str, seconds: float = 60) -> str:
        """Wait until it has said something; what it said."""
        ends = time.monotonic() + seconds
        while words not in self.said:
            if time.monotonic() > ends or (self.process.poll() is not None and words not in self.said):
                raise AssertionError(f"{words!r} was not said: {self.said}")
            time.sleep(0.05)
        return self.said

    @property
    def url(self) -> str:
        return re.search(r"on (http://\S+)/v1", self.until("serving"))[1]

    def post(self, path: str, document: dict, seconds: float = 60) -> tuple[int, bytes]:
        request = urllib.request.Request(self.url + path, data=json.dumps(document).encode(), headers={"Content-Type": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read()

    def get(self, path: str, seconds: float = 60) -> dict:
        with urllib.request.urlopen(self.url + path, timeout=seconds) as answer:  # noqa: S310
            return json.load(answer)

    def end(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def up(folder: Path, *args: str, env: dict[str, str], admin_port: int = 0):
    """`vram up` on a free port; ended when the context ends."""
    said = folder / "said.txt"
    with said.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "vram", "up", *args, "--port", "0", "--admin-port", str(admin_port)], stdout=out, stderr=out, env=env)
    try:
        yield Running(process, said)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def alive(pid: int) -> bool:
    """Whether a process is there and no mere zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def processes_with(words: str) -> list[int]:
    """Processes whose command line holds `words`, from /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def gone(pids: list[int], seconds: float) -> bool:
    """Whether all of them end within the time."""
    ends = time.monotonic() + seconds
    while any(map(alive, pids)):
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
