"""Nothing outlives us: engines, their helpers and their guards, whoever is killed and however. Real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from upping import alive, environment, gone, processes_with, stand_in, up

from vram.errors import UsageError
from vram.runtime.driver import Exit, Start
from vram.runtime.local import LocalDriver
from vram.runtime.logs import Lines, LogFile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

# An engine that ignores SIGTERM, with one helper in its own group and one that left it, both as deaf.
DEAF = "import signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
HELPERS = (
    DEAF + "code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'\n"
    "pids = [subprocess.Popen([sys.executable, '-c', code], start_new_session=s).pid for s in (False, True)]\n"
    "print(*pids, flush=True)\ntime.sleep(600)\n"
)


def guards_child(pid: int) -> int:
    """The guard: the engine's parent."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def helpers_of(handle) -> list[int]:
    ends = time.monotonic() + 20
    while not handle.tail():
        assert time.monotonic() < ends
        time.sleep(0.02)
    return [int(word) for word in handle.tail()[0].split()]


def test_a_stop_ends_the_engine_and_all_that_it_started():
    """Deaf to SIGTERM, in and out of the group: killed after the grace, and the end is told once."""
    told: list[Exit] = []
    handle = LocalDriver().start(Start(name="deaf", words=[sys.executable, "-c", HELPERS]), told.append)
    pids = [handle.pid, *helpers_of(handle)]
    assert all(map(alive, pids))
    handle.stop(0.3)
    assert handle.wait(10) == Exit(signal=signal.SIGKILL)
    assert not any(map(alive, pids))
    assert told == [Exit(signal=signal.SIGKILL)]


def test_an_engine_that_ends_takes_its_helpers_along():
    """Its own end is enough: code and last lines are told after nothing of it is left."""
    words = [sys.executable, "-c", HELPERS.replace("time.sleep(600)\n", "print('bye', flush=True)\nsys.exit(7)\n")]
    handle = LocalDriver().start(Start(name="brief", words=words))
    assert handle.wait(20) == Exit(code=7)
    assert handle.tail()[-1] == "bye"
    assert not any(alive(int(word)) for word in handle.tail()[0].split())


def test_a_killed_guard_takes_the_engine_along():
    """The kernel kills the engine, and what it had started is found and killed."""
    handle = LocalDriver().start(Start(name="unguarded", words=[sys.executable, "-c", HELPERS]))
    pids = [handle.pid, *helpers_of(handle)]
    os.kill(guards_child(handle.pid), signal.SIGKILL)
    assert handle.wait(10) == Exit(signal=signal.SIGKILL)
    assert gone(pids, 5)


def test_what_holds_the_pipe_is_killed_with_sigkill():
    """A program that uses the driver dies by SIGKILL: within five seconds the engine and all its helpers are gone."""
    code = (
        "import sys, time\nfrom vram.runtime.local import LocalDriver\nfrom vram.runtime.driver import Start\n"
        f"h = LocalDriver().start(Start(name='x', words=[sys.executable, '-c', {HELPERS!r}]))\n"
        "while not h.tail():\n    time.sleep(0.02)\nprint(h.pid, h.tail()[0], flush=True)\ntime.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in holder.stdout.readline().split()]
    guard = guards_child(pids[0])
    assert len(pids) == 3
    assert all(map(alive, pids))
    holder.kill()
    holder.wait(10)
    holder.stdout.close()
    assert gone([*pids, guard], 5)


def test_a_program_that_is_not_there_is_said():
    """The reason stands in its log, the code is a shell's."""
    handle = LocalDriver().start(Start(name="none", words=["/nowhere/engine"]))
    assert handle.wait(10) == Exit(code=127)
    assert "/nowhere/engine cannot be started" in handle.tail()[0]
    with pytest.raises(UsageError):
        LocalDriver().start(Start(name="none", words=["a\0b"]))


def test_variables_reach_the_engine_and_no_command_line():
    """What is secret is in the environment, and in no list of processes."""
    code = "import os, time; print(os.environ['SECRET_OF_TEST'], flush=True); time.sleep(60)"
    handle = LocalDriver().start(Start(name="secret", words=[sys.executable, "-c", code], variables={"SECRET_OF_TEST": "hush-83261"}))
    ends = time.monotonic() + 20
    while not handle.tail() and time.monotonic() < ends:
        time.sleep(0.02)
    assert handle.tail() == ["hush-83261"]
    assert not processes_with("hush-83261")
    handle.stop(0.0)
    assert handle.wait(10) is not None


def test_a_supervisor_killed_with_sigkill_leaves_no_orphan(tmp_path):
    """`vram up` itself is killed: engine, helper and guard are gone within five seconds."""
    stand_in(tmp_path)
    helper = tmp_path / "helper"
    with up(tmp_path, "orphan=demo", "--gpu", "cpu", env=environment(tmp_path, STAND_IN_HELPER=str(helper))) as running:
        running.until("serving")
        pids = [*processes_with("--alias orphan"), int(helper.read_text())]
        assert len(pids) == 3  # the engine, its guard, its helper
        running.end(signal.SIGKILL)
        assert gone(pids, 5)


def test_lines_are_bounded_in_memory_and_on_disk(tmp_path):
    """Two files at most, as large as was said; the first lines and the last ones stay at hand."""
    path = tmp_path / "x.log"
    lines = Lines(LogFile(path, most_bytes=10_000))
    for i in range(10_000):
        lines.feed(f"line {i}\n".encode())
    lines.feed(b"x" * 100_000 + b"\rhalf")
    lines.end()
    assert lines.head()[0] == "line 0"
    assert len(lines.head()) == 4000
    assert lines.tail(2) == ["x" * 8192, "half"]
    assert path.stat().st_size <= 10_000 + 8192 + 1
    assert path.with_name("x.log.1").stat().st_size <= 10_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.log", "x.log.1"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_full_disk_takes_lines_from_the_file_alone():
    """/dev/full refuses every write: the lines are kept in memory, the trouble is told, nothing is raised."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    lines = Lines(LogFile(Path("/dev/full")))
    lines.feed(b"one\ntwo\n")
    assert lines.tail(5) == ["one", "two"]
    assert "No space left" in lines.file.trouble
    lines.end()


def test_many_engines_at_once_do_not_hold_each_others_pipes():
    """A guard that is started while another runs inherits nothing of it: each ends when it is to end."""
    driver, ended = LocalDriver(), threading.Event()
    first = driver.start(Start(name="first", words=["sleep", "600"]), lambda _: ended.set())
    second = driver.start(Start(name="second", words=["sleep", "600"]))
    first.stop(1.0)
    assert ended.wait(10)
    assert second.exit is None
    second.stop(0.0)
    assert second.wait(10) is not None
