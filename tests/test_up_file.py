"""`vram up pools.toml`: replicas without an address are started as the file says, beside those that run already, behind the file's names."""

import json
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from upping import HERE, environment, free_port, processes_with, stand_in, up, vram

from vram.errors import ExitCode

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")


@pytest.fixture
def env(tmp_path):
    stand_in(tmp_path)
    return environment(tmp_path)


def pools_file(folder, text):
    path = folder / "pools.toml"
    path.write_text('schema = "vram.pools/1"\n' + text)
    return str(path)


TWO = """
[[pools]]
name = "small"
model = "demo"
engine = "llama.cpp"
gpu = "cpu"
count = 2
served_as = "inside"
dollars_per_hour = 1.5
[pools.settings]
context_tokens = 2048
max_num_seqs = 3
kv_dtype = "q8_0"

[[routes]]
model = "public"
pools = ["small"]

[limits]
output_tokens = 2
"""


@pytest.mark.parametrize("engine", ["llama.cpp", "llama-server@b9000"])
def test_what_would_be_started_is_what_the_file_says(env, tmp_path, engine):
    """Count, slots, context and type of the cache stand in the commands; nothing is started. The version that is here is the one that counts."""
    done = vram("up", pools_file(tmp_path, TWO.replace("llama.cpp", engine)), "--dry-run", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    models = json.loads(done.stdout)["models"]
    assert [m["name"] for m in models] == ["small/0", "small/1"]
    for model in models:
        words = model["words"]
        after = {flag: words[words.index(flag) + 1] for flag in ("--parallel", "--ctx-size", "--cache-type-k", "--alias")}
        # Slots with a cache of their own: three times the context.
        assert after == {"--parallel": "3", "--ctx-size": "6144", "--cache-type-k": "q8_0", "--alias": "inside"}
    assert ("the file has llama-server@b9000, here is b11434" in done.stderr) == ("@" in engine)
    assert not processes_with("--alias inside")


def test_replicas_are_started_and_served_by_the_files_routes_and_limits(env, tmp_path):
    """Two engines behind one public name, the file's bound on an answer, and no engine left afterwards."""
    seen = tmp_path / "seen"
    with up(tmp_path, pools_file(tmp_path, TWO), env={**env, "STAND_IN_SEEN": str(seen)}) as running:
        assert "serving public on" in running.until("serving")
        assert len(processes_with("--alias inside")) >= 2
        status, body = running.post("/v1/chat/completions", {"model": "public", "messages": [{"role": "user", "content": "hi"}]})
        assert status == 200, body
        assert json.loads(body)["usage"]["completion_tokens"] == 2
        assert running.post("/v1/chat/completions", {"model": "inside", "messages": []})[0] == 404
        listed = json.loads(vram("ps", "--json", env=env).stdout)
        names = re.findall(r'"name": ?"(small/[01])"', json.dumps(listed))
        assert names == ["small/0", "small/1"]
        # One of both goes, the other serves on.
        assert vram("stop", "small/0", env=env).returncode == ExitCode.OK
        for _ in range(4):
            assert running.post("/v1/chat/completions", {"model": "public", "messages": []})[0] == 200
        assert running.end() == ExitCode.OK
    assert not processes_with("--alias inside")


def test_who_waits_too_long_for_the_replica_that_is_left_is_not_told_of_the_one_that_was_stopped(env, tmp_path):
    """One of two was stopped, the other is full: that is the reason. Where both were, that is, and each by its name."""
    text = TWO.replace("[limits]", "[limits]\nqueue_seconds = 1")
    with up(tmp_path, pools_file(tmp_path, text), "--no-probe", env={**env, "STAND_IN_THINKS": "4"}) as running:
        running.until("serving public")
        assert vram("stop", "small/0", env=env).returncode == ExitCode.OK

        def ask(_):
            status, body = running.post("/v1/completions", {"model": "public", "prompt": "x", "max_tokens": 2})
            return status, json.loads(body).get("error", {}).get("code", "")

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(8)))
        assert set(answers) == {(200, ""), (503, "overloaded")}
        assert vram("stop", "small/1", env=env).returncode == ExitCode.OK
        status, body = running.post("/v1/completions", {"model": "public", "prompt": "x"})
        assert (status, json.loads(body)["error"]["code"]) == (503, "model_stopped")
        assert "vram start small/0" in json.loads(body)["error"]["message"]


def test_replicas_that_run_already_are_served_beside_those_started_here(env, tmp_path):
    """A pool with a URL keeps its own engine, which goes on when `vram up` ends."""
    port = free_port()
    words = [sys.executable, str(HERE / "stand_in.py"), "vllm", "--served-model-name", "far", "--port", str(port)]
    with subprocess.Popen(words, env=env) as other:
        try:
            beside = f"""
[[pools]]
name = "far"
model = "far"
gpu = "H100 SXM 80GB"
replicas = ["http://127.0.0.1:{port}"]
[pools.settings]
context_tokens = 4096

[[pools]]
name = "near"
model = "demo"
engine = "llama.cpp"
gpu = "cpu"
served_as = "near"
"""
            with up(tmp_path, pools_file(tmp_path, beside), env=env) as running:
                for name in ("near", "far"):
                    status, body = running.post("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "hi"}]})
                    assert status == 200, (name, body)
                assert running.end() == ExitCode.OK
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
                assert answer.status == 200
        finally:
            other.kill()


POOL = '[[pools]]\nname = "a"\nmodel = "demo"\n'


@pytest.mark.parametrize(
    ("text", "args", "said"),
    [
        (POOL + 'gpu = "cpu"\nengine = "llama.cpp"\nreplicas = ["http://127.0.0.1:9"]', (), "nothing to start"),
        (POOL + 'gpu = "H100 SXM 80GB"\nengine = "llama.cpp"', ("--gpu", "H100 SXM 80GB"), "this machine has no H100"),
        (POOL + 'gpu = "RTX 4090"\nengine = "llama.cpp"\ncount = 3', ("--gpu", "2x RTX 4090", "--dry-run"), "replica 3 of 3 needs RTX 4090"),
        (POOL + 'gpu = "L40S"\nengine = "llama.cpp"', ("--gpu", "RTX 4090", "--dry-run"), "no L40S"),
        (POOL + 'gpu = "cpu"\nengine = "tgi"', (), "no engine 'tgi' can be started"),
        (POOL + 'gpu = "cpu"\nengine = "llama.cpp"', ("--context", "4k"), "--context has no effect"),
        (POOL + 'gpu = "cpu"\nengine = "llama.cpp"', ("other=demo",), "stands beside other models"),
        (POOL + 'gpu = "cpu"\nsize = 3', (), "size is not known"),
        (POOL + 'gpu = "cpu"\n[[pools]]\nname = "b"\nmodel = "demo"\ngpu = "L40S"', (), "main memory stand beside"),
    ],
)
def test_what_cannot_be_started_is_refused_with_a_hint(env, tmp_path, text, args, said):
    """What this machine lacks and what the file contradicts, before anything starts."""
    done = vram("up", pools_file(tmp_path, text), *args, env=env)
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_replica_gets_gpus_of_its_own_kind(env, tmp_path):
    """Pools for different cards on one machine: each replica lies on free cards of the kind that its pool names."""
    text = "".join(
        f'[[pools]]\nname = "{name}"\nmodel = "demo"\nengine = "llama.cpp"\ngpu = "{gpu}"\ncount = {count}\n'
        for name, gpu, count in (("a", "L40S", 1), ("b", "RTX 4090", 2))
    )
    done = vram("up", pools_file(tmp_path, text), "--dry-run", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    found = {m["name"]: [g["name"] for g in m["plan"]["gpus"]] for m in json.loads(done.stdout)["models"]}
    assert [len(v) for v in found.values()] == [1, 1, 1]
    assert "L40S" in found["a"][0]
    assert "4090" in found["b/0"][0]
    assert "4090" in found["b/1"][0]
