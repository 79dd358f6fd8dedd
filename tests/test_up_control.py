"""`vram ps`, `logs`, `stop`, `down`, and what happens to engines that die: whole processes, a scripted stand-in."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from upping import Running, alive, environment, gone, processes_with, stand_in, up, vram

from vram.cli import main
from vram.errors import ExitCode
from vram.runtime.runs import Entry, Run, runs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")


@pytest.fixture
def env(tmp_path):
    stand_in(tmp_path)
    return environment(tmp_path)


def ps(env):
    done = vram("ps", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((files("vram") / "schemas/ps.json").read_text()))
    return document["runs"]


def state_of(env, name):
    return next(m for run in ps(env) for m in run["models"] if m["name"] == name)


def until(found, seconds=30):
    ends = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < ends
        time.sleep(0.1)
    return value


def test_two_models_are_listed_one_is_stopped_then_all(env, tmp_path):
    """ps shows both ready; stop ends one engine and leaves the other answering; down ends all and waits for it."""
    assert ps(env) == []
    assert "nothing runs" in vram("ps", env=env).stderr
    with up(tmp_path, "one=demo", "two=demo", "--gpu", "cpu", env=env) as running:
        running.until("serving one, two")
        (run,) = ps(env)
        assert run["ready"] is True
        assert run["pid"] == running.process.pid
        assert run["url"] == running.url + "/v1"
        assert [(m["name"], m["state"], m["starts"]) for m in run["models"]] == [("one", "ready", 1), ("two", "ready", 1)]
        assert all(alive(m["pid"]) for m in run["models"])
        assert "two" in vram("ps", env=env).stdout

        done = vram("stop", "one", env=env)
        assert done.returncode == ExitCode.OK, done.stderr
        assert not processes_with("--alias one")
        assert state_of(env, "one")["state"] == "stopped"
        assert running.post("/v1/completions", {"model": "two", "prompt": "x", "max_tokens": 2})[0] == 200
        # Its clients are told, and how it comes again; so is who stopped it.
        status, body = running.post("/v1/completions", {"model": "one", "prompt": "x", "max_tokens": 2})
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (503, "model_stopped")
        for said in (error["message"], done.stderr, state_of(env, "one")["why"]):
            assert "vram start one" in said
        assert "vram down" in done.stderr
        assert vram("stop", "nosuch", env=env).returncode == ExitCode.USAGE
        assert "was not stopped" in vram("start", "two", env=env).stderr
        assert vram("start", "one", env=env).returncode == ExitCode.OK
        assert running.post("/v1/completions", {"model": "one", "prompt": "x", "max_tokens": 2})[0] == 200
        assert state_of(env, "one")["state"] == "ready"

        done = vram("down", "--json", env=env)
        assert done.returncode == ExitCode.OK, done.stderr
        document = json.loads(done.stdout)
        jsonschema.validate(document, json.loads((files("vram") / "schemas/down.json").read_text()))
        assert [(e["pid"], e["models"]) for e in document["ended"]] == [(running.process.pid, ["one", "two"])]
        assert running.process.wait(20) == ExitCode.OK
    assert not processes_with("--alias two")
    assert ps(env) == []
    assert "nothing ran" in vram("down", env=env).stderr
    assert json.loads(vram("down", "--json", env=env).stdout)["ended"] == []


def test_a_stop_says_at_once_what_it_waits_for_and_a_cut_stream_that_it_was_stopped(env, tmp_path):
    """A stream goes on for longer than anybody waits: what happens is said before it ends, and its last event says who ended it."""
    events = []

    def read(url):
        body = json.dumps({"model": "one", "prompt": "x", "max_tokens": 200, "stream": True}).encode()
        request = urllib.request.Request(f"{url}/v1/completions", data=body, headers={"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            events.extend(line for line in answer if line.startswith(b"data: {"))

    with up(tmp_path, "one=demo", "--gpu", "cpu", "--no-probe", env={**env, "STAND_IN_CHUNKS": "200", "STAND_IN_DELAY": "0.2"}) as running:
        reader = threading.Thread(target=read, args=(running.url,))
        reader.start()
        until(lambda: state_of(env, "one")["requests"] == 1)
        began = time.monotonic()
        with subprocess.Popen([sys.executable, "-m", "vram", "stop", "one"], env=env, stderr=subprocess.PIPE, text=True) as stopping:
            first = stopping.stderr.readline()
            assert time.monotonic() - began < 5
            assert "1 that run may end first" in first
            assert "has ended" in stopping.stderr.read()
        reader.join(30)
    assert json.loads(events[-1][6:])["error"]["code"] == "model_stopped"


def test_one_that_is_stopped_amid_its_start_and_started_at_once_comes_when_it_is_asked_for(env, tmp_path):
    """The start that was under way is over when the stop has ended: it is no failure of the model that was let in again, nor the end of the run."""
    with up(tmp_path, "one=demo", "--gpu", "cpu", "--no-probe", env={**env, "STAND_IN_NEVER_READY": "1"}) as running:
        (run,) = until(lambda: [r for r in runs(tmp_path / "state/vram/run") if r.socket.exists()])
        until(lambda: processes_with("--alias one"))
        for _ in range(3):
            assert "stopped" in run.ask({"do": "stop", "name": "one"})
            assert run.ask({"do": "start", "name": "one"}) == {"started": "one"}
            time.sleep(1.0)
            assert running.process.poll() is None, running.said
            assert state_of(env, "one")["state"] == "asleep"
        assert not processes_with("--alias one")


def test_a_run_that_begins_while_others_are_ended_is_waited_for_by_nobody(monkeypatch, capsys):
    """It was asked nothing, and goes on: waiting for its end would be in vain."""

    class Told(Run):
        def ask(self, request, **_):
            asked.append((self.pid, request["do"]))
            return {"pid": self.pid, "models": []}

    old, new = (Told(pid=pid, socket=Path(), file=Path()) for pid in (1, 2))
    asked: list[tuple[int, str]] = []
    monkeypatch.setattr("vram.runtime.runs.runs", lambda _: [new] if (1, "down") in asked else [old])
    assert main.run(["down", "--seconds", "0.5", "--json"]) == ExitCode.OK
    assert [e["pid"] for e in json.loads(capsys.readouterr().out)["ended"]] == [1]
    assert all(pid == 1 for pid, _ in asked)


def test_detached_it_goes_on_until_it_is_told_to_end(env):
    """--detach returns once all is ready; what fails to start is told, with its exit code."""
    done = vram("up", "calm=demo", "--gpu", "cpu", "--port", "0", "--admin-port", "0", "-d", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "serving calm" in done.stderr
    assert "vram top" not in done.stderr
    (run,) = ps(env)
    # One document, on stdout as in the foreground.
    assert json.loads(done.stdout)["url"] == run["url"]
    assert run["ready"] is True
    assert alive(run["pid"])
    assert vram("down", env=env).returncode == ExitCode.OK
    assert gone([run["pid"]], 5)
    failed = vram("up", "calm=demo", "--gpu", "cpu", "--port", "0", "--admin-port", "0", "-d", env={**env, "STAND_IN_FAILS": "9", "STAND_IN_LAST": "cheese"})
    assert failed.returncode == ExitCode.ERROR
    assert "cheese" in failed.stderr
    assert ps(env) == []


def test_two_that_are_detached_in_one_second_speak_for_themselves(env):
    """What each says, and its document, lie in files of its own."""
    time.sleep(1.0 - time.time() % 1.0)
    words = (sys.executable, "-m", "vram", "up", "--gpu", "cpu", "--port", "0", "--admin-port", "0", "--no-probe", "--detach", "--json")
    asking = [subprocess.Popen([*words, f"{name}=demo"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for name in ("one", "two")]
    try:
        for name, one in zip(("one", "two"), asking, strict=True):
            out, err = one.communicate(timeout=60)
            assert one.returncode == ExitCode.OK, err
            assert [m["name"] for m in json.loads(out)["models"]] == [name]
            assert f"serving {name} on" in err
    finally:
        for one in asking:
            one.kill()
        assert vram("down", env=env).returncode == ExitCode.OK


def test_logs_are_there_while_it_runs_and_after(env, tmp_path):
    """The last lines of an engine's log, followed as they come; control characters of its lines reach no terminal."""
    says = tmp_path / "says"
    says.write_text("first line\nsecond \x1b[31mline\n")
    assert vram("logs", env=env).returncode == ExitCode.USAGE
    assert "vram up MODEL" in vram("logs", "none", env=env).stderr
    with up(tmp_path, "a/b=demo", "--gpu", "cpu", env={**env, "STAND_IN_SAYS": str(says)}) as running:
        running.until("serving")
        shown = vram("logs", "a/b", "-n", "2", env=env)
        assert shown.stdout.splitlines() == ["first line", "second \\x1b[31mline"]
        with (tmp_path / "followed").open("wb") as out:
            # Where tests run in the background, SIGINT is ignored, and a child inherits that.
            start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from vram.cli.main import main; main()"
            follower = subprocess.Popen([sys.executable, "-c", start, "logs", "-f", "-n", "1"], stdout=out, env=env)
            until(lambda: "second" in (tmp_path / "followed").read_text())
            (engine,) = [p for p in processes_with("--alias a/b") if "guard.py" not in Path(f"/proc/{p}/cmdline").read_text()]
            os.kill(engine, signal.SIGKILL)
            until(lambda: "first line" in (tmp_path / "followed").read_text())
            follower.send_signal(signal.SIGINT)
            assert follower.wait(10) == ExitCode.OK
    assert "second" in vram("logs", "a/b", env=env).stdout
    assert "a/b" in vram("logs", "none", env=env).stderr or "b-" in vram("logs", "none", env=env).stderr


def test_an_engine_that_dies_comes_back_at_the_same_address(env, tmp_path):
    """SIGKILL of the engine: its helpers go with it, it is started again, and the next request is answered."""
    helper = tmp_path / "helper"
    with up(tmp_path, "phoenix=demo", "--gpu", "cpu", env={**env, "STAND_IN_HELPER": str(helper)}) as running:
        running.until("serving")
        before = state_of(env, "phoenix")
        old_helper = int(helper.read_text())
        os.kill(before["pid"], signal.SIGKILL)
        running.until("phoenix is back")
        assert not alive(old_helper)
        after = state_of(env, "phoenix")
        assert (after["state"], after["starts"], after["port"]) == ("ready", 2, before["port"])
        assert running.post("/v1/completions", {"model": "phoenix", "prompt": "x", "max_tokens": 2})[0] == 200


def test_requests_wait_for_an_engine_that_is_started_again(env, tmp_path):
    """Killed before the first byte of an answer: that request and those that come meanwhile are answered by the next engine, none is refused."""
    slow = {**env, "STAND_IN_THINKS": "1.5", "STAND_IN_COUNTER": str(tmp_path / "starts")}
    with up(tmp_path, "again=demo", "--gpu", "cpu", "--no-probe", env=slow) as running:
        running.until("serving")
        found: list[tuple[int, bytes]] = []

        def post():
            found.append(running.post("/v1/completions", {"model": "again", "prompt": "x", "max_tokens": 2}))

        threads = [threading.Thread(target=post) for _ in range(3)]
        threads[0].start()
        time.sleep(0.7)
        os.kill(state_of(env, "again")["pid"], signal.SIGKILL)
        for thread in threads[1:]:
            time.sleep(0.1)
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [status for status, _ in found] == [200, 200, 200], found
        assert (tmp_path / "starts").read_text() == "2"


def test_a_crash_loop_is_taken_out_with_its_last_lines(env, tmp_path):
    """Five more deaths in a row, and it is left out; the other model goes on."""
    more = {"STAND_IN_DIES_AFTER": "0.2", "STAND_IN_LAST": "the flux capacitor is empty"}
    with up(tmp_path, "loop=demo", "--gpu", "cpu", "--no-probe", env={**env, **more}) as running:
        said = running.until("loop is out", 60)
        assert said.count("it is started again in") == 5
        until(lambda: "the flux capacitor is empty" in running.said.split("loop is out")[1])
        assert state_of(env, "loop")["state"] == "out"
        assert not processes_with("--alias loop")
        status, body = running.post("/v1/completions", {"model": "loop", "prompt": "x"})
        assert (status, json.loads(body)["error"]["code"]) == (503, "model_failed")


@pytest.mark.skipif(sys.platform != "linux", reason="reads environments in /proc")
def test_what_a_killed_run_left_is_ended_by_the_next_look(env, tmp_path):
    """Supervisor and guard killed at the same moment: a helper that both could not end is found by its mark, and the file is gone."""
    helper = tmp_path / "helper"
    with up(tmp_path, "left=demo", "--gpu", "cpu", env={**env, "STAND_IN_HELPER": str(helper)}) as running:
        running.until("serving")
        (guard,) = [p for p in processes_with("--alias left") if "guard.py" in Path(f"/proc/{p}/cmdline").read_text()]
        pids = processes_with("--alias left")
        os.kill(running.process.pid, signal.SIGSTOP)  # it must not see the guard's end
        os.kill(guard, signal.SIGKILL)
        running.end(signal.SIGKILL)
    assert gone(pids, 5)
    assert alive(int(helper.read_text()))
    assert ps(env) == []
    assert gone([int(helper.read_text())], 5)
    assert list((tmp_path / "state/vram/run").iterdir()) == []


def test_a_run_is_known_as_long_as_its_process_lives(tmp_path):
    """An entry is found while it is held, its socket's path fits where sockets go, and it is gone when it is closed."""
    deep = tmp_path / ("x" * 120)
    entry = Entry(deep)
    entry.write(["m1", "m2"])
    entry.write(["m1"])
    assert json.loads(entry.file.read_text())["marks"] == ["m1"]
    assert len(str(entry.socket)) < 100
    # Another process sees that it is held.
    code = f"from pathlib import Path; from vram.runtime.runs import runs; print([r.pid for r in runs(Path({str(deep)!r}))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == f"[{os.getpid()}]"
    entry.close()
    assert runs(deep) == []
    assert list(deep.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_disk_that_takes_no_more_stops_nobody(env, tmp_path):
    """Files that cannot grow: it is told once, the engine's last lines are still shown, requests are answered."""
    says = tmp_path / "says"
    says.write_text("".join(f"line {i} {'x' * 1000}\n" for i in range(4000)))
    code = "import resource, sys, os; resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000)); os.execv(sys.executable, [sys.executable, '-m', 'vram', *sys.argv[1:]])"
    said = tmp_path / "said.txt"
    with said.open("wb") as out:
        words = [sys.executable, "-c", code, "up", "full=demo", "--gpu", "cpu", "--port", "0", "--admin-port", "0"]
        process = subprocess.Popen(words, stdout=out, stderr=out, env={**env, "STAND_IN_SAYS": str(says)})
    running = Running(process, said)
    try:
        running.until("serving")
        assert running.post("/v1/completions", {"model": "full", "prompt": "x", "max_tokens": 2})[0] == 200
        told = running.until("is not kept")
        assert told.count("is not kept") == 1
        assert (tmp_path / "state/vram/logs/full.log").stat().st_size <= 3_000_000
        assert running.end() == ExitCode.OK
    finally:
        process.kill()
        process.wait(10)
    assert not processes_with("--alias full")


def test_who_asks_twice_is_not_kept_waiting(env, tmp_path):
    """A second SIGINT cuts off the request that the first one waits for."""
    with up(tmp_path, "slow=demo", "--gpu", "cpu", "--no-probe", env={**env, "STAND_IN_THINKS": "300"}) as running:
        running.until("serving")

        def post():
            with suppress(OSError, HTTPException):
                running.post("/v1/completions", {"model": "slow", "prompt": "x", "max_tokens": 2})

        thread = threading.Thread(target=post)
        thread.start()
        until(lambda: state_of(env, "slow")["requests"] == 1)
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert running.process.poll() is None
        assert running.end(signal.SIGINT, 8) == ExitCode.OK
        thread.join(10)
    assert not processes_with("--alias slow")
