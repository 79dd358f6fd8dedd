"""The hard cases of `vram up`: full disks, folders of others, files that are not what they say. A clear error, a hint, and nothing left behind."""

import asyncio
import json
import os
import signal
import socketserver
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from upping import environment, free_port, processes_with, stand_in, up, vram

from vram.errors import ExitCode, UsageError, VramError
from vram.gateway.store import Store
from vram.gateway.token import admin_token
from vram.runtime.http import ask
from vram.runtime.runs import Entry, runs
from vram.sources.private import add_line, own_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="full disks and file sizes as Linux has them")

LIMIT = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); os.execv(sys.executable, [sys.executable, '-m', 'vram', *sys.argv[1:]])"
MOUNT = 'mount -t tmpfs -o size=64k tmpfs "$0" && { head -c 64k /dev/zero > "$0/filler" 2>/dev/null; "$@"; code=$?; find "$0" -type f -not -name filler; exit $code; }'


@pytest.fixture
def env(tmp_path):
    stand_in(tmp_path)
    found = environment(tmp_path)
    # The tiny model is there: what follows is about other files.
    assert vram("up", "demo", "--gpu", "cpu", "--dry-run", env=found).returncode == ExitCode.OK
    return found


def on_full(folder: Path, *args: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """`vram` where nothing more can be written into `folder`: a small file system of its own where one may be mounted. It prints what files it left there."""
    folder.mkdir(exist_ok=True)
    words = ["unshare", "-rm", "sh", "-c", MOUNT, str(folder), sys.executable, "-m", "vram", *args]
    if subprocess.run(["unshare", "-rm", "sh", "-c", MOUNT, str(folder), "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=env)


def refused(done, *said):
    assert done.returncode in {ExitCode.ERROR, ExitCode.USAGE}, done.stderr
    for words in (*said, "error: ", "hint: "):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "should not happen" not in done.stderr
    assert "VRAM_DEBUG" not in done.stderr
    assert not processes_with("--alias hard")


UP = ("up", "hard=demo", "--gpu", "cpu", "--port", "0")


@pytest.mark.parametrize(
    ("home", "more", "said", "hint"),
    [
        ("state", ("--admin-port", "0"), "/run/", "XDG_STATE_HOME"),
        ("data", ("--admin-port", "0"), "gateway.db", "VRAM_GATEWAY_DB"),
        ("data", ("--admin-port", str(free_port())), "admin.token", "VRAM_ADMIN_TOKEN_FILE"),
    ],
)
def test_a_full_disk_is_said_before_an_engine_starts(env, tmp_path, home, more, said, hint):
    """Run file, usage and token: whichever cannot be written is named with what helps, nothing is started, no half of a file stays."""
    counter = tmp_path / "starts"
    done = on_full(tmp_path / home, *UP, *more, env={**env, "STAND_IN_COUNTER": str(counter)})
    refused(done, said, "No space left on device" if "db" not in said else "disk is full", hint)
    assert done.stdout == ""
    assert not counter.exists()


def test_a_file_that_cannot_grow_is_as_good_as_a_full_disk(env, tmp_path):
    """The same where nothing can be mounted: every file is refused its first byte."""
    done = subprocess.run([sys.executable, "-c", LIMIT, *UP, "--admin-port", "0"], capture_output=True, text=True, timeout=60, check=False, env=env)
    refused(done)
    assert [p for p in tmp_path.glob("*/vram/**/*") if p.is_file() and p.name != "demo.gguf"] == []


def test_a_full_disk_at_the_tiny_models_place_is_said(env, tmp_path):
    """The one model that is made on the spot cannot be: told with where it would lie, and no half of it is there."""
    refused(on_full(tmp_path / "cache", *UP, env=env), "demo.gguf", "No space left", "VRAM_CACHE_DIR")


def test_words_that_nobody_can_keep_end_nothing(env):
    """Its messages go to a full device: the model is served all the same, and ends as it should."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = subprocess.Popen([sys.executable, "-m", "vram", *UP, "--admin-port", "0"], stdout=full, stderr=full, env=env)
    try:
        run = None
        while run is None or not run["ready"]:
            assert process.poll() is None
            found = json.loads(vram("ps", "--json", env=env).stdout)["runs"]
            run = found[0] if found else None
        process.send_signal(signal.SIGTERM)
        # Python itself says with 120 that its last words could not be flushed.
        assert process.wait(20) in {ExitCode.OK, 120}
    finally:
        process.kill()
        process.wait(10)
    assert not processes_with("--alias hard")


def test_who_reads_no_more_of_what_it_says_holds_up_no_request(env):
    """Its messages go to a pipe that is full: an engine that dies is told of, nobody reads it, and the next request is answered all the same."""
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-m", "vram", *UP, "--admin-port", "0"], stdout=subprocess.DEVNULL, stderr=write, env=env)
    try:
        said = b""
        while b"end: " not in said:
            piece = os.read(read, 4096)
            assert piece
            said += piece

        def fill():
            with suppress(OSError):
                while True:
                    os.write(write, b"-" * 4096)

        threading.Thread(target=fill, daemon=True).start()
        time.sleep(0.5)
        (run,) = json.loads(vram("ps", "--json", env=env).stdout)["runs"]
        os.kill(run["models"][0]["pid"], signal.SIGKILL)
        for _ in range(3):
            body = json.dumps({"model": "hard", "prompt": "x", "max_tokens": 2}).encode()
            request = urllib.request.Request(f"{run['url']}/completions", data=body, headers={"Content-Type": "application/json"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                assert answer.status == 200
    finally:
        process.kill()
        process.wait(10)
        os.close(read)
        os.close(write)


def test_what_is_written_on_a_disk_that_fills_up_later(tmp_path):
    """A run's file has its room from the beginning: marks of many engines are told in place, and the next line after a cut one stands on its own."""
    entry = Entry(tmp_path / "state" / "run")
    size = entry.file.stat().st_size
    marks = [f"{i:016x}" for i in range(150)]
    entry.write(marks)
    assert entry.file.stat().st_size == size
    assert json.loads(entry.file.read_text())["marks"] == marks
    entry.close()
    rows = tmp_path / "rows"
    rows.write_bytes(b'{"cut of')
    add_line(rows, b'{"a":1}')
    add_line(rows, b'{"b":2}')
    assert rows.read_bytes().splitlines() == [b'{"cut of', b'{"a":1}', b'{"b":2}']


# --- models that are not what they say


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "folder", "no permission"])
def test_a_model_that_cannot_be_read_is_named_before_an_engine_starts(env, tmp_path, kind):
    """An empty file, some text, a file whose tensors end too early, a folder without a model: exit 4, the file's name, a hint."""
    counter = tmp_path / "starts"
    whole = (tmp_path / "cache/vram/demo.gguf").read_bytes()
    path = tmp_path / "odd.gguf"
    if kind == "folder":
        path = tmp_path / "odd"
        path.mkdir()
    elif kind == "no permission":
        path.write_bytes(whole)
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
    else:
        path.write_bytes({"empty": b"", "text": b"hello\n" * 100, "cut": whole[: len(whole) // 2]}[kind])
    done = vram("up", str(path), "--gpu", "cpu", "--port", "0", "--admin-port", "0", env={**env, "STAND_IN_COUNTER": str(counter)})
    assert done.returncode == ExitCode.MODEL_UNREADABLE, done.stderr
    assert path.name in done.stderr
    assert "hint: " in done.stderr
    assert not counter.exists()


def test_of_an_answer_that_nobody_wants_little_is_kept():
    """An engine that answers the probe with megabytes costs no memory of ours: a few kilobytes stay; where all is wanted, all comes."""
    whole = b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (8 * 2**20)

    class Answer(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            with suppress(OSError):
                self.request.sendall(whole)

    async def scene(port):
        tracemalloc.start()
        little = await asyncio.gather(*(ask(port, "GET", "/", seconds=30, keep_bytes=1000) for _ in range(8)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return little, peak, await ask(port, "GET", "/", seconds=30)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        little, peak, everything = asyncio.run(scene(server.server_address[1]))
        server.shutdown()
    assert {(a.status, len(a.body)) for a in little} == {(200, 1000 - len(b"HTTP/1.0 200 OK\r\n\r\n"))}
    # Eight whole answers would be 64 MiB.
    assert peak < 8 * 2**20
    assert len(everything.body) == 8 * 2**20


# --- for the owner alone


def modes(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*")}


def test_what_a_run_keeps_is_for_its_owner_alone(env, tmp_path):
    """Folders 0700, files and sockets 0600, whatever the umask says; a folder that an older version left open is closed."""
    (tmp_path / "state/vram/logs").mkdir(parents=True)
    for folder in ("state/vram", "state/vram/logs"):
        (tmp_path / folder).chmod(0o755)
    before = os.umask(0)
    try:
        with up(tmp_path, "hard=demo", "--gpu", "cpu", env={**env, "STAND_IN_SAYS": str(Path(__file__))}, admin_port=0) as running:
            running.until("end: ")
            state = modes(tmp_path / "state")
            assert {name for name in state if not name.startswith("vram/run/")} == {"vram", "vram/run", "vram/logs", "vram/logs/hard.log", "vram/learned.jsonl"}
            assert {oct(mode) for name, mode in state.items() if (tmp_path / "state" / name).is_dir()} == {"0o700"}
            assert {oct(mode) for name, mode in state.items() if not (tmp_path / "state" / name).is_dir()} == {"0o600"}
            data = modes(tmp_path / "data")
            assert oct(data.pop("vram")) == "0o700"
            assert {oct(mode) for mode in data.values()} == {"0o600"}, data
    finally:
        os.umask(before)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    """Who could read the logs or lay a socket there is not trusted: an error that names the folder, and what to set."""
    folder = tmp_path / "state" / "run"
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for act in (lambda: Entry(folder), lambda: runs(folder), lambda: own_folder(folder, hint="x")):
        with pytest.raises(UsageError, match="belongs to another user") as caught:
            act()
        assert caught.value.hint
    assert list(folder.iterdir()) == []


def test_a_file_in_the_folders_place_is_said(env, tmp_path):
    """XDG_STATE_HOME leads to a file."""
    (tmp_path / "state").write_text("")
    refused(vram(*UP, "--admin-port", "0", env=env), "state", "XDG_STATE_HOME")


def test_a_socket_of_its_own_folder_goes_with_a_killed_run(tmp_path):
    """Where the state's path is too long for a socket, its folder under the temporary ones cannot be foreseen or entered, and the next look removes it."""
    deep = tmp_path / ("x" * 120) / "run"
    entry = Entry(deep)
    place = entry.socket.parent
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert place.name != "vram-"
    # As SIGKILL leaves it.
    os.close(entry._handle)
    assert runs(deep) == []
    assert not place.exists()


def test_a_token_is_whole_or_not_there(tmp_path, monkeypatch):
    """A write that fails leaves no empty file, which the next start would take for a token that somebody broke."""
    path = tmp_path / "admin.token"
    monkeypatch.setattr("vram.gateway.token.secrets.token_urlsafe", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(VramError, match="No space left"):
        admin_token(None, path, make=True)
    assert not path.exists()
    monkeypatch.undo()
    assert len(admin_token(None, path, make=True)) > 30


def test_a_database_that_cannot_be_made_leaves_no_empty_file(tmp_path):
    """A folder in its place, another program's file: an error each; what was there is as it was."""
    (tmp_path / "d.db").mkdir()
    with pytest.raises(VramError):
        Store(tmp_path / "d.db")
    other = tmp_path / "other.db"
    other.write_bytes(b"not a database" * 100)
    with pytest.raises(UsageError):
        Store(other)
    assert other.read_bytes() == b"not a database" * 100
