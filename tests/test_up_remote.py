"""`vram up --rpc`: devices of llama.cpp's RPC servers as GPUs. The engine that is asked for them is a script; real ones: tests/oracle/test_llama_cpp_rpc.py."""

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from upping import environment, free_port, vram

from vram.api import load_model
from vram.errors import ExitCode, HardwareNotFoundError, UsageError
from vram.hardware.remote import parse_servers, reached, remote_of
from vram.planner.calibration import find_row, signature
from vram.planner.launch import layers_dealt
from vram.planner.make import make_plan
from vram.runtime.measured import beside, read_start
from vram.runtime.remote import remote_fleet
from vram.runtime.tiny import Shape, write_tiny

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")

MIB = 2**20


def lister(folder: Path, *devices: str) -> Path:
    """A llama-server that knows its version, its flags and these devices, and starts nothing."""
    path = folder / "llama-server"
    lines = "\n".join(f"  {d}" for d in devices)
    path.write_text(
        f"""#!/bin/sh
for word in "$@"; do case "$word" in
--version) echo 'version: 0.6.0 (build 11434, 0)'; exit;;
--help) echo '--fit --offline --cache-ram'; exit;;
--list-devices) cat <<'END'
Available devices:
{lines}
END
exit;;
esac; done
exit 9
"""
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":50052", "host:0", "host:70000", "host:50053-50052", "host:1-200", "-x:1", "a b:1", "[::1]:1", "a:1,,b:1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError) as refused:
        parse_servers([text])
    assert "--rpc" in refused.value.hint


def test_a_server_that_stands_twice_is_refused():
    """An engine that reached one twice would wait for itself."""
    with pytest.raises(UsageError, match="twice"):
        parse_servers(["a:50052-50054", "a:50054"])
    assert [str(s) for s in parse_servers(["a:1,b:2-3", "a:2"])] == ["a:1", "b:2-3", "a:2"]


def test_devices_are_what_the_servers_show_and_each_model_has_a_port_of_its_own(tmp_path):
    """llama.cpp numbers the devices of all servers that an engine is given, in their order."""
    program = lister(tmp_path, "RPC0: a:50052 (24210 MiB, 23000 MiB free)", "RPC1: a:50052 (8000 MiB, 8000 MiB free)", "RPC2: b:9 (16000 MiB, 15000 MiB free)")
    fleet = remote_fleet(parse_servers(["a:50052-50053", "b:9-10"]), str(program), models=2)
    assert [(g.gpu.capacity_bytes // MIB, g.free_bytes // MIB) for g in fleet.gpus] == [(24210, 23000), (8000, 8000), (16000, 15000)]
    remotes = [remote_of(g) for g in fleet.gpus]
    assert reached(remotes, 0) == (("a:50052", "b:9"), ("RPC0", "RPC1", "RPC2"))
    assert reached([remotes[1], remotes[2]], 1) == (("a:50053", "b:10"), ("RPC1", "RPC2"))
    assert reached([remotes[2]], 1) == (("b:10",), ("RPC0",))
    assert reached([remotes[2], remotes[1]], 0) == (("b:9", "a:50052"), ("RPC0", "RPC2"))


def test_more_models_than_ports_are_refused_with_what_to_start(tmp_path):
    with pytest.raises(UsageError, match="1 engine at a time, and 3 models") as refused:
        remote_fleet(parse_servers(["a:50052"]), str(lister(tmp_path)), models=3)
    assert "a:50052-50054" in refused.value.hint


def test_a_server_that_does_not_answer_is_said(tmp_path):
    """In words of ours, with what to type: a name that nobody has, a port where nobody listens, a program there that is no RPC server."""
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho '0.00.001 E /build/ggml-rpc.cpp:547: Failed to connect to a:1' >&2\nexit 134\n")
    program.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for where, why, hint in (
            ("no-such-machine.invalid:50052", "no machine is known as no-such-machine.invalid", "--rpc 192.168.1.5:50052"),
            (f"127.0.0.1:{free_port()}", "nobody listens there", "ggml-rpc-server -H 127.0.0.1 -p"),
            (f"127.0.0.1:{port}", "somebody listens there", "same build"),
        ):
            with pytest.raises(HardwareNotFoundError) as refused:
                remote_fleet(parse_servers([where]), str(program))
            assert why in refused.value.message
            assert hint in refused.value.hint
            assert "ggml-rpc.cpp" not in refused.value.message + refused.value.hint


def test_the_command_names_its_devices_and_deals_layers_as_planned(tmp_path):
    """The free memory of the start is not that of the plan: the layers of each device stand in the command, and local GPUs are hidden."""
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(lister(tmp_path, "RPC0: a:1 (4096 MiB, 2900 MiB free)", "RPC1: b:2 (4096 MiB, 1100 MiB free)")))
    path = write_tiny(tmp_path / "m.gguf", Shape(layers=7))
    done = vram("up", str(path), "--rpc", "a:1,b:2", "--dry-run", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    (model,) = json.loads(done.stdout)["models"]
    words = model["words"]
    assert words[words.index("--rpc") + 1] == "a:1,b:2"
    assert words[words.index("--device") + 1] == "RPC0,RPC1"
    # Nearly three quarters of what is free are on the first one: six of seven layers and the output.
    assert words[words.index("--tensor-split") + 1] == "6,2"
    assert model["variables"]["CUDA_VISIBLE_DEVICES"] == ""
    assert [g["capacity_bytes"] for g in model["plan"]["gpus"]] == [4096 * MIB] * 2


@pytest.mark.parametrize("named", ["CUDA", "Vulkan"])
def test_cards_of_this_machine_and_devices_elsewhere_hold_a_model_together(tmp_path, named):
    """Cards first, by the names that this build's backend lists, then the devices; layers by what is free; RPC devices are in no variable."""
    env = environment(
        tmp_path,
        VRAM_LLAMA_SERVER=str(lister(tmp_path, f"{named}0: NVIDIA GeForce RTX 4090 (24564 MiB, 24000 MiB free)", "RPC0: a:1 (12282 MiB, 12282 MiB free)")),
    )
    path = write_tiny(tmp_path / "m.gguf", Shape(layers=7))
    done = vram("up", str(path), "--gpu", "2x RTX 4090", "--rpc", "a:1", "--dry-run", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    (model,) = json.loads(done.stdout)["models"]
    words = model["words"]
    assert words[words.index("--rpc") + 1] == "a:1"
    assert words[words.index("--device") + 1] == f"{named}0,{named}1,RPC0"
    # Two cards of 24 GB and a device of half of one: a fifth of seven layers and the output is on that.
    assert sum(map(int, words[words.index("--tensor-split") + 1].split(","))) == 8
    assert words[words.index("--tensor-split") + 1] in {"3,3,2", "4,3,1", "3,4,1"}
    assert [g["name"].split()[0] for g in model["plan"]["gpus"]] == ["RTX", "RTX", "RPC"]
    assert "CUDA_VISIBLE_DEVICES" not in model["variables"]
    # Several models: each on the fewest, and one that lies elsewhere sees no card of this machine.
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(lister(tmp_path, "RPC0: a:1 (12282 MiB, 12282 MiB free)", "CUDA0: x (1 MiB, 1 MiB free)")))
    done = vram("up", f"a={path}", f"b={path}", "--gpu", "RTX 4090", "--rpc", "a:1-2", "--budget", "1500MiB", "--dry-run", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    a, b = json.loads(done.stdout)["models"]
    assert ("--rpc" in a["words"], a["variables"].get("CUDA_VISIBLE_DEVICES")) == (False, None)
    assert (b["words"][b["words"].index("--device") + 1], b["variables"]["CUDA_VISIBLE_DEVICES"]) == ("RPC0", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpu", "cpu"), "--gpu cpu stands beside --rpc"),
        (("--gpu", "9"), "this machine has"),
        (("--engine", "vllm"), "vllm knows no RPC servers"),
        (("--rpc", "a:1"), "stands twice"),
    ],
)
def test_what_contradicts_it_is_refused(tmp_path, words, said):
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(lister(tmp_path, "RPC0: a:1 (4096 MiB, 4096 MiB free)")))
    done = vram("up", "demo", "--rpc", "a:1", *words, "--dry-run", env=env)
    assert done.returncode == ExitCode.USAGE
    assert said in done.stderr


def test_a_device_is_found_in_the_log_by_its_address(tmp_path):
    """Buffers go to the device whose server printed them, in whatever order, and through whichever of its ports; one without layers prints none."""
    program = lister(tmp_path, "RPC0: a:1 (4096 MiB, 4096 MiB free)", "RPC1: b:2 (4096 MiB, 4096 MiB free)")
    fleet = remote_fleet(parse_servers(["a:1-3", "b:2-4"]), str(program), models=3)
    model = load_model(str(write_tiny(tmp_path / "m.gguf", Shape(layers=4))))
    plan = make_plan(model, fleet, engine="llama.cpp")
    lines = ["load_tensors: RPC0[b:3] model buffer size = 2.00 MiB", "load_tensors: RPC0[a:2] model buffer size = 1.00 MiB"]
    found = {b.place: b.measured for b in beside(plan, read_start(lines, "llama.cpp")) if b.name == "weights"}
    assert found == {"RPC0[a:2]": MIB, "RPC0[b:3]": 2 * MIB, "host": None}
    alone = make_plan(model, fleet, engine="llama.cpp", settings=replace(plan.settings, tensor_split=(0.0, 1.0)))
    assert layers_dealt(alone) == (0, 5)
    found = {b.place: b.measured for b in beside(alone, read_start(lines[:1], "llama.cpp")) if b.name == "weights"}
    assert found == {"RPC0[b:3]": 2 * MIB, "host": None}


def test_the_devices_of_this_machine_are_found_by_their_numbers(tmp_path):
    """Eleven CUDA devices printed by name: CUDA10 comes before CUDA2 only in the alphabet."""
    from vram.api import parse_gpus

    model = load_model(str(write_tiny(tmp_path / "m.gguf", Shape(layers=23))))
    plan = make_plan(model, parse_gpus("12x RTX 4090"), engine="llama.cpp")
    lines = [f"load_tensors: CUDA{i} model buffer size = {i + 1}.00 MiB" for i in sorted(range(12), key=str)]
    found = [b.measured for b in beside(plan, read_start(lines, "llama.cpp")) if b.name == "weights" and b.place != "host"]
    assert found == [(i + 1) * MIB for i in range(12)]


def test_a_model_that_does_not_fit_is_told_what_would_help_on_these_devices(tmp_path):
    """Fewer layers, and an option of this very command; no card to buy: what is behind a server is not known."""
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(lister(tmp_path, "RPC0: a:1 (36 MiB, 36 MiB free)")))
    path = write_tiny(tmp_path / "m.gguf", Shape(layers=12, hidden=256, mlp=1024, context=8192))
    asked = ("up", str(path), "--rpc", "a:1", "--context", "4k", "--dry-run", "--json")
    done = vram(*asked, env=env)
    assert done.returncode == ExitCode.DOES_NOT_FIT, done.stderr
    flags = [mend["flag"] for mend in json.loads(done.stdout)["models"][0]["plan"]["mends"]]
    assert not any("--gpu " in flag for flag in flags)
    (layers,) = (flag for flag in flags if flag.startswith("--gpu-layers"))
    done = vram(*asked, *layers.split(), env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    words = json.loads(done.stdout)["models"][0]["words"]
    assert words[words.index("--n-gpu-layers") + 1] == layers.split()[1]


def test_what_was_measured_of_one_split_says_nothing_of_another(tmp_path):
    """Layers are dealt by free memory: a row of a day on which they fell otherwise is not taken for today's."""
    model = load_model(str(write_tiny(tmp_path / "m.gguf", Shape(layers=7))))

    def on(first, second):
        program = lister(tmp_path, f"RPC0: a:1 (4096 MiB, {first} MiB free)", f"RPC1: b:2 (4096 MiB, {second} MiB free)")
        return make_plan(model, remote_fleet(parse_servers(["a:1,b:2"]), str(program)), engine="llama.cpp")

    then = on(2900, 1100)
    row = {"signature": signature(then), "engine_version": "b11434"}
    assert find_row(on(2910, 1090), [row]) is row
    assert find_row(on(2000, 2000), [row]) is None


def pools_file(folder, *pools):
    path = folder / "pools.toml"
    texts = ["\n".join(f"{key} = {json.dumps(value)}" for key, value in pool.items()) for pool in pools]
    path.write_text('schema = "vram.pools/1"\n' + "".join(f"[[pools]]\n{text}\n" for text in texts))
    return str(path)


def test_a_pools_file_names_the_servers_of_its_pools_and_each_engine_gets_a_port(tmp_path):
    """Two replicas on a device that is shared, one over that and another, one on a card of this machine: all in one file, by the file's order."""
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(lister(tmp_path, "RPC0: a:1 (4096 MiB, 4000 MiB free)", "RPC0: b:9 (4096 MiB, 3000 MiB free)")))
    path = write_tiny(tmp_path / "m.gguf", Shape(layers=7))
    same = {"model": str(path), "engine": "llama.cpp"}
    text = pools_file(
        tmp_path,
        {"name": "here", "gpu": "RTX 4090", **same},
        {"name": "small", "gpu": "4GiB", "rpc": ["a:1-3"], "count": 2, **same},
        {"name": "wide", "gpu": "2x 4GiB", "rpc": ["b:9", "a:1-3"], **same},
    )
    done = vram("up", text, "--dry-run", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    found = {m["name"]: m for m in json.loads(done.stdout)["models"]}

    def said(name, flag):
        words = found[name]["words"]
        return words[words.index(flag) + 1] if flag in words else None

    assert {name: (said(name, "--rpc"), said(name, "--device")) for name in found} == {
        "here": (None, None),
        "small/0": ("a:1", "RPC0"),
        "small/1": ("a:2", "RPC0"),
        "wide": ("b:9,a:3", "RPC0,RPC1"),
    }
    assert [found[n]["variables"].get("CUDA_VISIBLE_DEVICES") for n in ("here", "small/0", "wide")] == [None, "", ""]
    # Each of those on a shared device finds less free than the one before it.
    free = [found[n]["plan"]["gpus"][k]["used_bytes"] for n, k in (("small/0", 0), ("small/1", 0), ("wide", 1))]
    assert 96 * MIB == free[0] < free[1] < free[2]
    assert found["wide"]["plan"]["gpus"][0]["used_bytes"] == 1096 * MIB


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"engine": "vllm", "rpc": ["a:1"]}, "vllm knows no RPC servers"),
        ({"rpc": ["a:1"], "count": 2}, "1 engine at a time, and 2 models"),
        ({"rpc": ["a"]}, "no address of an RPC server"),
        ({"rpc": ["a:1"], "gpu": "cpu"}, "its replicas lie in main memory"),
        ({"rpc": ["a:1"], "replicas": ["http://b:1"]}, "its replicas have URLs"),
        ({"rpc": ["a:1", "a:1-2"]}, "stands twice"),
    ],
)
def test_what_a_pools_file_contradicts_is_refused(tmp_path, pool, said):
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(lister(tmp_path, "RPC0: a:1 (4096 MiB, 4096 MiB free)")))
    done = vram("up", pools_file(tmp_path, {"name": "p", "model": "demo", "engine": "llama.cpp", "gpu": "4GiB", **pool}), "--dry-run", env=env)
    assert done.returncode == ExitCode.USAGE
    assert said in done.stderr
    assert "hint:" in done.stderr


def test_rpc_beside_a_pools_file_names_its_key(tmp_path):
    env = environment(tmp_path, VRAM_LLAMA_SERVER=str(lister(tmp_path)))
    done = vram("up", pools_file(tmp_path, {"name": "p", "model": "demo", "engine": "llama.cpp", "gpu": "4GiB"}), "--rpc", "a:1", "--dry-run", env=env)
    assert done.returncode == ExitCode.USAGE
    assert "pools.rpc" in done.stderr
