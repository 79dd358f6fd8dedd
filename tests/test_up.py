"""`vram up` as a user meets it: whole processes, a scripted stand-in as the engine, real HTTP through the gateway."""

import json
import re
import signal
import socket
import sys
from importlib.resources import files

import jsonschema
import pytest
from upping import environment, processes_with, stand_in, up, vram

from vram.errors import ExitCode
from vram.memory.placement import Placement

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")


@pytest.fixture
def env(tmp_path):
    stand_in(tmp_path)
    return environment(tmp_path)


def schema(name):
    return json.loads((files("vram") / "schemas" / f"{name}.json").read_text())


def test_a_dry_run_is_a_plan_and_a_command_and_starts_nothing(env, tmp_path):
    """What is printed is what would be started: the plan's context and slots stand in the engine's own flags."""
    done = vram("up", "demo", "--gpu", "cpu", "--context", "4k", "--concurrency", "6", "--dry-run", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema("up"))
    (model,) = document["models"]
    words = model["words"]
    # Six sequences of 4,096 tokens that share one cache, as the program's own flags count them.
    assert words[words.index("--ctx-size") + 1] == str(6 * 4096)
    assert words[words.index("--parallel") + 1] == "6"
    assert model["plan"]["workload"] | {"context_tokens": 4096, "concurrency": 6} == model["plan"]["workload"]
    assert not processes_with(str(tmp_path / "llama-server"))
    shown = vram("up", "demo", "--gpu", "cpu", "--dry-run", env=env)
    assert "--ctx-size" in shown.stdout
    assert "fits" in shown.stdout


def test_a_model_is_served_and_nothing_is_left_when_it_ends(env, tmp_path):
    """One command from a model's name to an answer; SIGINT ends the engine, too."""
    with up(tmp_path, "talk=demo", "--gpu", "cpu", env=env) as running:
        status, body = running.post("/v1/chat/completions", {"model": "talk", "messages": [{"role": "user", "content": "hi"}]})
        assert status == 200, body
        assert json.loads(body)["usage"]["completion_tokens"] == 5
        assert processes_with("--alias talk")
        assert running.end(signal.SIGINT) == ExitCode.OK
    assert not processes_with("--alias talk")


def test_taken_ports_are_said_before_anything_starts(env, tmp_path):
    """One clear error that names both, with free ones; no engine was started, no file was made. What is wrong with the words comes first."""
    counter, file = tmp_path / "starts", tmp_path / "pools.toml"
    file.write_text(
        '[[pools]]\nname = "p"\nmodel = "m"\nengine = "vllm"\ngpu = "24GiB"\nreplicas = ["http://127.0.0.1:9"]\ncapacity = { kv_bytes = 1000000 }\n'
    )
    with socket.socket() as one, socket.socket() as two:
        for other in (one, two):
            other.bind(("127.0.0.1", 0))
            other.listen()
        ports = [other.getsockname()[1] for other in (one, two)]
        words = ("demo", "--gpu", "cpu", "--port", str(ports[0]))
        both = vram("up", *words, "--admin-port", str(ports[1]), env={**env, "STAND_IN_COUNTER": str(counter)})
        served = vram("serve", str(file), "--port", str(ports[0]), "--admin-port", str(ports[1]), env=env)
        admin = vram("up", "demo", "--gpu", "cpu", "--port", "0", "--admin-port", str(ports[1]), env=env)
        wrong = [
            vram("up", *words, *more, env=env) for more in (("--pin", "x"), ("--quant", "Q9"), ("--kv-dtype", "q9"), ("--engine", "nosuch"), ("nothing.gguf",))
        ]
    for done in (both, served):
        assert done.returncode == ExitCode.USAGE
        assert f"127.0.0.1:{ports[0]} for clients" in done.stderr
        assert f"127.0.0.1:{ports[1]} for administrators" in done.stderr
        free = [int(n) for n in re.findall(r"--(?:admin-)?port (\d+)", done.stderr)]
        assert len(set(free) | set(ports)) == 4
    for done, said in zip(wrong, ("--pin x", "'Q9'", "'q9'", "'nosuch'", "nothing.gguf"), strict=True):
        assert said in done.stderr
        assert "cannot listen" not in done.stderr
    assert "for clients" not in admin.stderr
    assert f"127.0.0.1:{ports[1]} for administrators" in admin.stderr
    assert not counter.exists()
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--port", "4711", "--admin-port", "4711"), "both 4711"),
        (("--host", "203.0.113.1", "--port", "4711"), "--host 127.0.0.1"),
        (("--host", "no such host", "--port", "4711"), "--host 127.0.0.1"),
    ],
)
def test_an_address_that_cannot_be_had_is_said_with_a_hint(env, args, said):
    """Two doors at one port, another machine's address, a name that is none."""
    done = vram("up", "demo", "--gpu", "cpu", *args, env=env)
    assert done.returncode == ExitCode.USAGE
    assert said in done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [({"STAND_IN_FAILS": "9", "STAND_IN_LAST": "the disk is made of cheese"}, "made of cheese"), ({"STAND_IN_NEVER_READY": "1"}, "not ready after 1 s")],
)
def test_an_engine_that_does_not_start_is_a_clear_error(env, more, said):
    """It ends with what the engine said last, and leaves nothing."""
    done = vram("up", "odd=demo", "--gpu", "cpu", "--port", "0", "--admin-port", "0", "--ready-seconds", "1s", env={**env, **more})
    assert done.returncode == ExitCode.ERROR
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not processes_with("--alias odd")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nothing.gguf",), "no such file"),
        (("demo", "--engine", "nosuch"), "no engine 'nosuch'"),
        (("demo", "--gpu", "RTX 4090"), "no RTX 4090"),
        (("a=demo", "a=demo"), "two models of one name"),
        (("demo", "--gpu", "7"), "no 7"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(env, args, said):
    """Bad input is normal: an error, a hint, no traceback."""
    done = vram("up", *args, *(() if "--gpu" in args else ("--gpu", "cpu")), env=env)
    assert done.returncode in {ExitCode.USAGE, ExitCode.MODEL_UNREADABLE}
    assert said.lower() in done.stderr.lower()
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_model_file_is_named_before_an_engine_starts(env, tmp_path):
    """Headers are read first: a broken file never reaches an engine."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 100)
    done = vram("up", str(path), "--gpu", "cpu", env=env)
    assert done.returncode == ExitCode.MODEL_UNREADABLE
    assert "broken.gguf" in done.stderr


def test_on_a_machine_without_a_gpu_all_lies_in_main_memory():
    """The parts of a plan for the host are the host's buffers as llama.cpp's own dry runs on the CPU have them."""
    from dataclasses import replace

    from llama_cpp_runs import devices_of, measured, plans

    from vram.engines.registry import engine
    from vram.hardware.fleet import Fleet
    from vram.hardware.gpu import Gpu

    host = Gpu(name="CPU", vendor="host", architecture="host", capacity_bytes=2**42, capacity_source="stated", marketing_bytes=2**42, unified_memory=True)
    rules, seen = engine("llama.cpp"), 0
    for row, plan in plans()[::7]:
        if devices_of(row) or row["mode"] != "no_alloc":
            continue
        settings = replace(plan.settings, gpu_layers=None)
        demand = replace(plan.demand, gpu=host, settings=settings, placement=Placement())
        parts = rules.parts(demand, 0)
        assert measured(row, "context")[0] == parts.kv_cache.bytes
        assert measured(row, "model")[0] == parts.weights.low
        compute = measured(row, "compute")[0] + row["output_MiB"] * 2**20
        assert parts.activations.low - 2**14 <= compute <= parts.activations.high
        assert rules.host(demand) == ()
        seen += 1
    assert seen > 20
    assert Fleet.of([host]).name == "CPU"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("up", "nothing.gguf", "--gpu", "cpu"), ExitCode.MODEL_UNREADABLE),
        (("up", "demo", "--gpu", "cpu", "--budget", "30MiB", "--port", "0", "--admin-port", "0"), ExitCode.DOES_NOT_FIT),
        (("up", "demo", "--gpu", "cpu", "--budget", "30MiB", "--port", "0", "--admin-port", "0", "--detach"), ExitCode.DOES_NOT_FIT),
        (("up", "demo", "--gpu", "cpu", "--no-such-flag"), ExitCode.USAGE),
        (("up", "odd=demo", "--gpu", "cpu", "--port", "0", "--admin-port", "0"), ExitCode.ERROR),
        (("plan", "nothing.gguf", "--gpu", "RTX 4090"), ExitCode.MODEL_UNREADABLE),
        (("top", "--url", "http://127.0.0.1:9"), ExitCode.ERROR),
    ],
)
def test_a_failed_command_with_json_prints_its_error_as_a_document(env, args, code):
    """Never an empty stdout: one document with the words of stderr, and the exit code."""
    done = vram(*args, "--json", env={**env, "STAND_IN_FAILS": "9", "COLUMNS": "9999"})
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((files("vram") / "schemas/error.json").read_text()))
    error = document["error"]
    assert error["exit_code"] == code
    assert f"error: {error['message']}\n" in done.stderr
    assert f"hint: {error['hint']}\n" in done.stderr


def test_each_of_several_commands_of_one_process_prints_its_own_error(capsys):
    """What one printed is not what the next one has printed."""
    from vram.cli.main import run

    for _ in range(2):
        assert run(["plan", "nothing.gguf", "--gpu", "RTX 4090", "--json"]) == ExitCode.MODEL_UNREADABLE
        assert json.loads(capsys.readouterr().out)["schema"] == "vram.error/1"
