"""`vram serve --check`, and small words of other commands: what is known is told before what is missing."""

import json
import os
import socket
import subprocess
import sys
from importlib.resources import files

import jsonschema
import pytest

POOL = '[[pools]]\nname = "p"\nmodel = "Qwen/Qwen3-8B"\ngpu = "RTX 4090"\n'


def vram(*args, cwd=None, columns=110):
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": str(columns)}
    return subprocess.run([sys.executable, "-m", "vram", *args], capture_output=True, text=True, check=False, timeout=60, env=env, cwd=cwd)


def test_a_file_without_addresses_is_planned_and_refused(tmp_path):
    """What its pools will hold is printed; that they cannot be served yet is the error and the exit code."""
    (tmp_path / "pools.toml").write_text(POOL)
    done = vram("serve", str(tmp_path / "pools.toml"), "--check", "--offline")
    assert "GiB" in done.stdout
    assert (done.returncode, "has no replicas" in done.stderr) == (2, True)
    (tmp_path / "pools.toml").write_text(POOL + 'replicas = ["http://127.0.0.1:8000"]\n')
    done = vram("serve", str(tmp_path / "pools.toml"), "--check", "--offline", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["pools"][0]["kv_capacity_bytes"] > 2**30


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_window_gets_a_narrow_table(tmp_path, width):
    """What has no room in a row stands below it; nothing is lost."""
    (tmp_path / "pools.toml").write_text(POOL + 'replicas = ["http://127.0.0.1:8000"]\n')
    done = vram("serve", str(tmp_path / "pools.toml"), "--check", "--offline", columns=width)
    shown = done.stdout.partition("Qwen/Qwen3-8B: p")[0]
    assert max(map(len, shown.splitlines())) <= width
    assert all(words in shown for words in ("RTX 4090", "vllm", "GiB", "40,960", "256"))


@pytest.mark.parametrize("name", ["H1000", "4O90", "RTX 490", "0x H100"])
def test_a_gpu_that_nobody_knows_is_an_error(tmp_path, name):
    """A slip in a pools file would leave its cache without a bound: it is refused with its key and near names, by --check and by serve alike."""
    (tmp_path / "pools.toml").write_text(POOL.replace("RTX 4090", name) + 'replicas = ["http://127.0.0.1:8000"]\n')
    for args in (("--check",), ("--check", "--json"), ("--port", "0", "--admin-port", "0")):
        done = vram("serve", str(tmp_path / "pools.toml"), "--offline", *args)
        said = json.loads(done.stdout)["error"]["message"] if "--json" in args else done.stdout
        assert (done.returncode, "pools[0].gpu" in said) == (2, "--json" in args)
        assert "pools[0].gpu" in done.stderr
        assert "hint: " in done.stderr
    if name != "0x H100":
        assert "did you mean" in done.stderr


def test_where_a_pool_states_its_memory_the_gpus_name_is_the_operators(tmp_path):
    """Stated capacity counts, whatever the card is called; main memory needs no catalogue; what nobody knows is null, not a great number."""
    replicas = 'replicas = ["http://127.0.0.1:8000"]\n'
    (tmp_path / "pools.toml").write_text(POOL.replace("RTX 4090", "our own card") + replicas + "[pools.capacity]\nkv_tokens = 100000\n")
    done = vram("serve", str(tmp_path / "pools.toml"), "--check", "--offline", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pools"][0]["kv_capacity_tokens"] == 100_000
    (tmp_path / "pools.toml").write_text(POOL.replace("RTX 4090", "cpu") + replicas)
    done = vram("serve", str(tmp_path / "pools.toml"), "--check", "--offline", "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((files("vram") / "schemas/serve.json").read_text()))
    assert (document["pools"][0]["kv_capacity_tokens"], document["pools"][0]["context_tokens"]) == (None, None)
    assert "from its engine" in vram("serve", str(tmp_path / "pools.toml"), "--check", "--offline").stdout


def test_a_gpu_that_nobody_knows_is_told_with_near_names():
    """A slip in a search is an error with a hint, not an empty list."""
    done = vram("gpus", "RTX 4900")
    assert done.returncode == 2
    assert "4090" in done.stderr
    assert "A100" in vram("gpus", "a100-40").stdout


def test_the_nearest_flag_is_meant():
    """The first guess is the nearest one."""
    assert "did you mean --model" in vram("size", "--modle", "x").stderr


def test_an_empty_file_of_rows_is_said(tmp_path):
    """Nothing was held against anything: told beside the empty table."""
    (tmp_path / "rows.jsonl").write_text("")
    done = vram("accuracy", str(tmp_path / "rows.jsonl"))
    assert (done.returncode, "has no rows" in done.stderr) == (0, True)


def test_a_file_that_is_not_there_is_told_before_a_port_that_is_taken(tmp_path):
    """Who mistypes the file is not sent after another port first."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = vram("serve", str(tmp_path / "gone.toml"), "--port", str(taken.getsockname()[1]), "--admin-port", "0")
    assert done.returncode == 2
    assert "gone.toml" in done.stderr
    assert "cannot listen" not in done.stderr


def test_how_many_replicas_may_be_put_out_is_said_so(tmp_path):
    """Below its row, where the title is not seen, a number says what it counts."""
    (tmp_path / "pools.toml").write_text(POOL + 'replicas = ["http://127.0.0.1:8000", "http://127.0.0.1:8001"]\n')
    said = " ".join(vram("serve", str(tmp_path / "pools.toml"), "--check", "--offline", columns=80).stdout.split())
    assert "at most 1 put out for failing" in said


def test_one_request_is_one():
    """One a second is no plural."""
    done = vram("simulate", "--rate", "1", "--duration", "20", "--model", "Qwen/Qwen3-8B", "--gpu", "L40S", "--offline")
    assert done.stdout.startswith("1 request a second  ")
