"""`vram top` against a live gateway: one frame of the truth, and an error with a hint for everything else."""

import json
import os
import subprocess
import sys
import time
from importlib.resources import files
from urllib.request import Request, urlopen

import jsonschema
import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from gateway_thread import serving
from test_gateway import chat, pools

from vram.cli.render.top import frame
from vram.cli.top import watching
from vram.units import GIB

TOKEN = "a-token-of-administrators"  # noqa: S105  (of this test)


def top(*args, token=TOKEN, **env):
    env = {**os.environ, "VRAM_ADMIN_TOKEN": token, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", **env}
    return subprocess.run([sys.executable, "-m", "vram", "top", *args], capture_output=True, text=True, env=env, check=False, encoding="utf-8", timeout=60)


def test_a_frame_of_a_live_gateway(tmp_path):
    """While a stream runs: its replica, its lease with its id, bytes and age; the JSON follows the published schema and holds the same."""
    with serving(tmp_path, pools, chunks=400, delay_seconds=0.02, admin_port=0, admin_token=TOKEN) as (gateway, engine):
        url = f"http://127.0.0.1:{gateway.admin_port}"
        body = json.dumps(chat(stream=True)).encode()
        with urlopen(Request(f"http://127.0.0.1:{gateway.port}/v1/chat/completions", body, {"X-Request-Id": "watched-1"}), timeout=20) as stream:
            stream.readline()
            document = json.loads(top("--url", url, "--json").stdout)
            jsonschema.validate(document, json.loads((files("vram") / "schemas" / "top.json").read_text()))
            done = top("--url", url, "--once")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert "1 replica, 1 run, 0 wait" in lines[0]
        (replica,) = [line for line in lines if engine.url in line]
        assert "up" in replica
        assert "▓" in replica
        assert replica.count("·") > 20
        (lease,) = [line for line in lines if line.startswith("watched-1")]
        assert "anonymous" in lease
        assert "p0/0" in lease
        assert document["leases"]["leases"][0]["request_id"] == "watched-1"
        assert "\x1b" not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_it_redraws_in_a_terminal_until_it_is_interrupted(tmp_path):
    """In a terminal frames follow each other from the top of the window, no higher than it; Ctrl-C ends it well."""
    import pty
    import signal

    with serving(tmp_path, pools, admin_port=0, admin_token=TOKEN) as (gateway, _):
        ours, theirs = pty.openpty()
        env = {**os.environ, "VRAM_ADMIN_TOKEN": TOKEN, "TERM": "xterm", "LINES": "24", "COLUMNS": "120"}
        # Where the tests run in the background, Ctrl-C is ignored, and children inherit that.
        start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from vram.cli.main import main; main()"
        command = [sys.executable, "-c", start, "top", "--url", f"http://127.0.0.1:{gateway.admin_port}", "--interval", "0.1"]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        seen, ends = b"", time.monotonic() + 20
        while seen.count(b"\x1b[H") < 3 and time.monotonic() < ends:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            os.close(ours)
    assert seen.count(b"\x1b[H") >= 3
    assert b"Traceback" not in seen


def test_what_goes_wrong_is_said(tmp_path):
    """Nobody there, a wrong token, no token, the clients' port, no address: an error and a hint each, never a traceback."""
    with serving(tmp_path, pools, admin_port=0, admin_token=TOKEN) as (gateway, _):
        url = f"http://127.0.0.1:{gateway.admin_port}"
        cases = [
            top("--url", url, "--once", token="wrong"),  # noqa: S106
            top("--url", f"http://127.0.0.1:{gateway.port}", "--once"),
            top("--url", "http://127.0.0.1:1", "--once"),
            top("--url", "file:///etc/passwd", "--once"),
            top("--url", url, "--once", token="", VRAM_ADMIN_TOKEN_FILE=str(tmp_path / "none")),
        ]
    for done in cases:
        assert done.returncode in {1, 2}
        assert done.stdout == ""
        assert "hint: " in done.stderr
        assert "Traceback" not in done.stderr
        assert "should not happen" not in done.stderr


def test_who_begins_is_told_what_is_missing(tmp_path):
    """Nothing runs, with and without a token: that is the error, not a missing token, and what starts one the hint; so in a terminal, too."""
    no_token = {"token": "", "VRAM_ADMIN_TOKEN_FILE": str(tmp_path / "none")}
    for more in ({}, no_token):
        for args in (("--once",), ("--json",), ()):
            done = top("--url", "http://127.0.0.1:1", *args, **more)
            assert done.returncode == 1
            assert done.stderr.startswith("error: nothing listens at http://127.0.0.1:1\n")
            assert "vram serve pools.toml" in done.stderr
            assert "vram up" in done.stderr
    done = top("--url", "nonsense://x", **no_token)
    assert done.returncode == 2
    assert "is no address" in done.stderr
    done = top("--url", "nobody.invalid:8090", "--once")
    assert "http://nobody.invalid:8090 cannot be reached: " in done.stderr
    assert "Errno" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_in_a_terminal_nothing_there_is_an_error_and_no_screen():
    """Before the first frame an error ends it; whoever stands before a gateway that is started anew goes on watching."""
    import pty

    ours, theirs = pty.openpty()
    env = {**os.environ, "VRAM_ADMIN_TOKEN": TOKEN, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "vram", "top", "--url", "http://127.0.0.1:1"], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=env
    )
    os.close(theirs)
    try:
        assert b"nothing listens" in process.communicate(timeout=20)[1]
        assert process.returncode == 1
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_an_address_is_taken_as_it_is_printed(tmp_path):
    """With /v1 at its end, as `vram serve` prints it, and without http://; the clients' port is told from the administrators'."""
    with serving(tmp_path, pools, admin_port=0, admin_token=TOKEN) as (gateway, engine):
        for url in (f"127.0.0.1:{gateway.admin_port}", f"http://127.0.0.1:{gateway.admin_port}/v1", f"http://127.0.0.1:{gateway.admin_port}/v1/"):
            assert top("--url", url, "--once").returncode == 0
        for url in (f"http://127.0.0.1:{gateway.port}", engine.url):
            done = top("--url", url, "--once")
            assert done.returncode == 1
            assert f"{url} is no administrators' API of a gateway" in done.stderr
            assert "8090" in done.stderr
        done = top("--url", f"https://127.0.0.1:{gateway.admin_port}", "--once")
        assert f"--url http://127.0.0.1:{gateway.admin_port}" in done.stderr


@pytest.mark.parametrize(
    ("port", "host", "told"),
    [
        (8090, "127.0.0.1", "vram top"),
        (8090, "0.0.0.0", "vram top"),  # noqa: S104  (told, not bound)
        (9001, "localhost", "vram top --url http://127.0.0.1:9001"),
        (8090, "10.0.0.7", "vram top --url http://10.0.0.7:8090"),
        (8090, "::1", "vram top --url http://[::1]:8090"),
    ],
)
def test_the_command_that_watches_a_gateway_is_told_in_full(port, host, told):
    """What `vram serve` prints can be typed as it stands, whatever --admin-port and --admin-host are."""
    assert watching(port, host) == told


def test_what_sharing_saves_is_told_where_it_is_counted():
    """Beside what is held: how much of the cache is saved now, or that nothing is; where it is not counted, not a word."""
    kv = {"unit": "bytes", "capacity": 10 * GIB, "held": 4 * GIB, "saved": 2 * GIB, "shared_once": True, "promised": 7 * GIB, "held_by_others": 0}
    replica = {"number": 0, "state": "up", "kv": kv, "engine": None, "leases": 1, "rent_dollars": None, "idle_dollars": None, "url": "u", "why": ""}

    def told(**more):
        pool = {"name": "p", "model": "m", "engine": "e", "gpu": "g", "dollars_per_hour": None, "replicas": [replica | {"kv": kv | more}]}
        document = {"pools": {"pools": [pool]}, "queue": {"waiting": 0, "lines": []}, "leases": {"total": 0, "leases": []}}
        return frame(document | {"workers": {"restarts": 0, "hung": 0, "workers": []}}, "x", "now")

    assert "40% held, 70% promised of 10.00 GiB; 2.00 GiB saved by sharing; 1 run" in told()
    assert "nothing saved by sharing" in told(saved=0)
    assert "saved" not in told(saved=0, shared_once=False)
    assert "1,234 tokens saved by sharing" in told(unit="tokens", saved=1234)


def test_a_frame_fits_its_window_and_shows_no_control_characters():
    """Hostile names are escaped; more than the window holds is cut, and that is said."""
    nasty = "\x1b[2J\r\n"
    kv = {"unit": "tokens", "capacity": 100, "held": 50, "saved": 0, "shared_once": False, "promised": 120, "held_by_others": 0}
    replica = {"number": 0, "state": "out", "kv": kv, "engine": None, "leases": 1, "rent_dollars": None, "idle_dollars": None, "url": nasty, "why": nasty}
    replica["seconds_out"] = 3.0
    lease = {"request_id": "r", "key": nasty, "model": nasty, "pool": nasty, "number": 0, "unit": "tokens", "held": 50}
    lease |= {"prompt_tokens": 1, "output_tokens": 2, "expected_output_tokens": 3, "age_seconds": 1.0}
    document = {
        "pools": {"pools": [{"name": nasty, "model": nasty, "engine": "e", "gpu": "g", "dollars_per_hour": None, "replicas": [replica]}]},
        "queue": {"waiting": 1, "lines": [{"model": nasty, "waiting": 1, "oldest_seconds": 2.0}]},
        "leases": {"total": 50, "leases": [lease] * 50},
        "workers": {"restarts": 2, "hung": 0, "workers": [{"up_seconds": 5.0}, {"up_seconds": None}]},
    }
    text = frame(document, "http://x", "now", lines=20)
    lines = text.splitlines()
    assert len(lines) == 20
    assert "lines more" in lines[-1]
    assert "1 of 2 workers serve, 2 ended and were replaced" in lines[0]
    from click import unstyle

    assert not set(unstyle(text)) & {"\x1b", "\r"}
