"""A real llama-server b11434 on devices of a stated size: what lies where, how many layers fit, who shares a device.

The devices are llama.cpp's RPC backend over the CPU, its memory counted and ended (truth/oracle/llama_cpp_rpc_device.cpp); the split, the graph
and the buffers are those that a GPU gets. `make oracle-llama-cpp` builds them beside the server. Models are made on the spot, their words are noise.
"""

import json
import random
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
pytest.importorskip("httptools", reason="the gateway's extra is not installed")
import tiny_gguf  # noqa: E402  (beside the fast tests)
from rpc_device import device  # noqa: E402  (the same)
from test_llama_cpp_up import SERVER, started  # noqa: E402  (the same)
from test_up_control import state_of  # noqa: E402  (the same)
from upping import environment, up, vram  # noqa: E402  (the same)

from vram.api import load_model  # noqa: E402  (as above)
from vram.errors import ExitCode  # noqa: E402  (as above)
from vram.hardware.remote import parse_servers  # noqa: E402  (as above)
from vram.runtime.engines.base import Installed  # noqa: E402  (as above)
from vram.runtime.engines.llama_server import LlamaServer  # noqa: E402  (as above)
from vram.runtime.measured import beside, read_start  # noqa: E402  (as above)
from vram.runtime.placing import Placed, replan  # noqa: E402  (as above)
from vram.runtime.remote import remote_fleet  # noqa: E402  (as above)
from vram.runtime.wanted import Wanted  # noqa: E402  (as above)

PROGRAM = SERVER.with_name("rpc_device")
SEED = 20261127
pytestmark = [
    pytest.mark.skipif(not SERVER.exists() or not PROGRAM.exists(), reason="no llama-server of b11434 with its devices; `make oracle-llama-cpp` makes them"),
    pytest.mark.timeout(300),
]
MIB = 2**20
COUNTED: list[tuple[str, float]] = []
"""Every buffer that was compared: its kind, and measured over planned."""


@pytest.fixture
def env(tmp_path):
    return environment(tmp_path, VRAM_LLAMA_SERVER=str(SERVER))


def model(folder, name, **shape):
    return str(tiny_gguf.write(folder / f"{name}.gguf", **{"L": 8, "d": 256, "ff": 1024, "h": 8, "kv": 4, "hd": 32, **shape}))


def document(said):
    """The JSON object among the lines of a `vram up --json`."""
    return json.JSONDecoder().raw_decode(said[said.index("{") :])[0]


def judged(measured):
    """All buffers of one model: none outside its band; how many."""
    assert [b for b in measured if b["inside"] is False] == []
    # What a device holds is printed in full: weights, caches, compute.
    assert [b for b in measured if b["place"] != "host" and b["inside"] is None] == []
    seen = [b for b in measured if b["measured"] is not None]
    COUNTED.extend((b["name"], b["measured"] / b["planned"]) for b in seen if b["planned"])
    return len(seen)


def on_devices(measured):
    """Bytes that an engine printed of each device, by its address."""
    found = {}
    for b in measured:
        if b["place"] != "host":
            found[b["place"]] = found.get(b["place"], 0) + b["measured"]
    return found


def as_dicts(found):
    return [{"name": b.name, "place": b.place, "planned": b.planned.bytes, "measured": b.measured, "inside": b.inside} for b in found]


def test_every_buffer_of_every_device_is_as_planned(tmp_path):
    """Shapes, settings and splits drawn from a seed, on one device and on two: weights and caches to the printed digit, compute buffers in their bands.

    What the device itself counted is what the engine printed, and nothing else.
    """
    draw = random.Random(SEED)  # noqa: S311  (settings to try, no secrets)
    engine = LlamaServer()
    here = Installed(program=(str(SERVER),), version="b11434", where=str(SERVER))
    seen = 0
    with device(PROGRAM, tmp_path, 2048 * MIB) as large, device(PROGRAM, tmp_path, 1024 * MIB) as small:
        for number in range(18):
            used = [[large], [large, small], [small, large]][number % 3]
            layers = draw.choice([3, 6, 11])
            wide = draw.choice([128, 256])
            # An MLP as wide beside the stream as those of real models.
            shape = {"L": layers, "d": wide, "ff": wide * draw.choice([3, 4]), "kv": draw.choice([1, 2, 4]), "vocab": draw.choice([640, 2048])}
            path = model(tmp_path, f"m{number}", **shape)
            wanted = Wanted(
                name="m",
                model=path,
                context_tokens=draw.choice([300, 1024, 4096]),
                concurrency=draw.choice([1, 3]),
                parallel=draw.choice([None, 2]),
                ubatch=draw.choice([None, 64, 256]),
                kv_dtype=draw.choice([None, "q8_0"]),
                gpu_layers=draw.choice([None, layers, draw.randrange(1, layers)]),
                tensor_split=draw.choice([(), (1.0, 3.0), (2.0, 1.0)]) if len(used) > 1 else (),
            )
            assert all(d.until_empty() for d in used)
            fleet = remote_fleet(parse_servers([d.server for d in used]), str(SERVER))
            placed = replan(Placed(wanted=wanted, model=load_model(path), engine=engine, here=here, fleet=fleet, plan=None), wanted)
            before = [len(d.holds()) for d in used]
            found = as_dicts(beside(placed.plan, read_start(started(placed), "llama.cpp")))
            print(wanted, [(b["name"], b["place"], b["planned"], b["measured"]) for b in found])
            seen += judged(found)
            printed = on_devices(found)
            for d, n in zip(used, before, strict=True):
                total = sum(size for place, size in printed.items() if d.server in place)
                assert max(d.holds()[n:], default=0) == pytest.approx(total, abs=0.02 * MIB)
                # What is printed is rounded; what the device counts is not: weights, and caches after them, to the byte.
                planned = {b["name"]: b["planned"] for b in found if d.server in b["place"]}
                if planned:
                    kept = planned["weights"] + planned.get("kv_cache", 0)
                    assert d.holds()[n : n + 2] == [planned["weights"], kept] if planned.get("kv_cache") else d.holds()[n] == kept
    assert seen >= 90


def test_as_many_layers_as_fit_and_not_one_more(env, tmp_path):
    """Where a model does not fit, the plan's own mend starts and serves; with a layer more, what the engine prints is more than the device has."""
    path = model(tmp_path, "m", kv=8)
    size, args = 32 * MIB, ("--context", "2k", "--ubatch", "256")
    with device(PROGRAM, tmp_path, size) as tight, device(PROGRAM, tmp_path, 1024 * MIB) as roomy:
        done = vram("up", f"m={path}", "--rpc", tight.server, *args, "--dry-run", "--json", env=env)
        assert done.returncode == ExitCode.DOES_NOT_FIT, done.stderr
        (plan,) = (m["plan"] for m in json.loads(done.stdout)["models"])
        (flag,) = (m["flag"] for m in plan["mends"] if m["flag"].startswith("--gpu-layers"))
        layers = int(flag.split()[1])
        assert 0 < layers < 8
        with up(tmp_path, f"m={path}", "--rpc", tight.server, *args, *flag.split(), "--json", env=env) as running:
            said = running.until("serving m", 120)
            assert "proved: 1 x" in said
            (served,) = document(said)["models"]
            judged(served["measured"])
            ((_, taken),) = on_devices(served["measured"]).items()
            status, body = running.post("/v1/completions", {"model": "m", "prompt": "the river ran", "max_tokens": 8})
            assert status == 200, body
            assert tight.held == pytest.approx(taken, abs=0.02 * MIB)
            assert taken <= size
            assert running.end() == ExitCode.OK
        assert tight.until_empty()
        more = ("--gpu-layers", str(layers + 1))
        with up(tmp_path, f"m={path}", "--rpc", roomy.server, *args, *more, "--no-probe", "--json", env=env) as running:
            (served,) = document(running.until("serving m", 120))["models"]
            judged(served["measured"])
            ((_, needed),) = on_devices(served["measured"]).items()
        print(f"a device of {size:,} bytes: {layers} layers take {taken:,}, {layers + 1} would take {needed:,}")
        assert needed > size
        done = vram("up", f"m={path}", "--rpc", tight.server, *args, *more, "--force", "--exact", "--port", "0", "--admin-port", "0", env=env)
        assert done.returncode == ExitCode.ERROR
        assert "out of memory" in done.stderr


def test_a_model_that_one_device_cannot_hold_is_split_over_two(env, tmp_path):
    """Two devices of unequal size: each gets layers by what it has free, and each buffer lies in the band of its device."""
    path = model(tmp_path, "m", L=16, kv=8)
    with device(PROGRAM, tmp_path, 600 * MIB) as one, device(PROGRAM, tmp_path, 900 * MIB) as two:
        args = (f"m={path}", "--context", "32k", "--rpc", f"{one.server},{two.server}")
        with up(tmp_path, *args, "--no-probe", "--json", env=env) as running:
            said = running.until("serving m", 120)
            (served,) = document(said)["models"]
            assert judged(served["measured"]) >= 9
            taken = on_devices(served["measured"])
            assert len(taken) == 2
            for d in (one, two):
                assert d.held == pytest.approx(next(size for place, size in taken.items() if d.server in place), abs=0.02 * MIB)
            # Neither could hold all of it.
            assert sum(taken.values()) > one.size
            status, body = running.post("/v1/completions", {"model": "m", "prompt": "the river ran", "max_tokens": 8})
            assert status == 200, body


def test_two_models_share_a_device_and_a_third_takes_a_place_when_it_is_asked_for(env, tmp_path):
    """Each model has a port of the device; what all of them hold is what they printed, and the device is never asked for more than it has."""
    models = [f"{name}={model(tmp_path, name, L=4 + 4 * i)}" for i, name in enumerate("abc")]
    with device(PROGRAM, tmp_path, 1280 * MIB, engines=3) as shared:
        with up(tmp_path, *models, "--context", "32k", "--rpc", shared.server, "--no-probe", "--json", env=env) as running:
            found = {m["name"]: m for m in document(running.until("serving a, b, c", 120))["models"]}
            assert {name: m["loaded_first"] for name, m in found.items()} == {"a": True, "b": True, "c": False}
            for name in "ab":
                judged(found[name]["measured"])
            taken = {name: sum(on_devices(found[name]["measured"]).values()) for name in "ab"}
            assert shared.held == pytest.approx(sum(taken.values()), abs=0.04 * MIB)
            for name in "abc":
                status, body = running.post("/v1/completions", {"model": name, "prompt": "the river ran", "max_tokens": 8}, seconds=120)
                assert status == 200, (name, body)
            assert state_of(env, "c")["loads"] == 1
        assert shared.most <= shared.size


def test_three_models_find_their_places_on_two_devices(env, tmp_path):
    """The large one named last has room only where the first two leave it: they lie together, it lies alone, and all are loaded at once."""
    models = [f"{name}={model(tmp_path, name, **shape)}" for name, shape in (("a", {}), ("b", {"ff": 2048}), ("c", {"L": 16}))]
    with (
        device(PROGRAM, tmp_path, 1100 * MIB, engines=3) as two,
        device(PROGRAM, tmp_path, 760 * MIB, engines=3) as one,
        up(tmp_path, *models, "--context", "32k", "--rpc", one.server, "--rpc", two.server, "--no-probe", "--json", env=env) as running,
    ):
        found = {m["name"]: m for m in document(running.until("serving a, b, c", 120))["models"]}
        assert all(m["loaded_first"] for m in found.values())
        for m in found.values():
            judged(m["measured"])
        taken = {name: on_devices(m["measured"]) for name, m in found.items()}
        assert all(len(places) == 1 for places in taken.values())
        for d, names in ((two, "ab"), (one, "c")):
            assert d.held == pytest.approx(sum(sum(taken[n].values()) for n in names), abs=0.04 * MIB)
        for name in "abc":
            status, body = running.post("/v1/completions", {"model": name, "prompt": "the river ran", "max_tokens": 8})
            assert status == 200, (name, body)


def test_a_pools_file_names_the_devices_of_its_pools(env, tmp_path):
    """Two replicas on a shared device, one model over that and another: each has a port of its own, and the devices hold what was printed, no more."""
    small, wide = model(tmp_path, "small"), model(tmp_path, "wide", L=16, kv=8)
    with device(PROGRAM, tmp_path, 1500 * MIB, engines=3) as shared, device(PROGRAM, tmp_path, 900 * MIB) as other:
        path = tmp_path / "pools.toml"
        path.write_text(
            f"""schema = "vram.pools/1"
[[pools]]
name = "small"
model = "{small}"
engine = "llama.cpp"
gpu = "1500MiB"
rpc = ["{shared.server}"]
count = 2
[pools.settings]
context_tokens = 4096
[[pools]]
name = "wide"
model = "{wide}"
engine = "llama.cpp"
gpu = "1500MiB + 900MiB"
rpc = ["{shared.server}", "{other.server}"]
[pools.settings]
context_tokens = 8192
[[routes]]
model = "chat"
pools = ["small"]
[[routes]]
model = "long"
pools = ["wide"]
"""
        )
        with up(tmp_path, str(path), "--no-probe", "--json", env=env) as running:
            found = {m["name"]: m for m in document(running.until("serving chat, long", 120))["models"]}
            for m in found.values():
                judged(m["measured"])
            taken = [on_devices(m["measured"]) for m in found.values()]
            assert [len(places) for places in taken] == [1, 1, 2]
            addresses = {place[place.index("[") : -1] for places in taken for place in places}
            assert len(addresses) == 4, "three ports of one device, one of the other"
            host, _, first = shared.server.partition("-")[0].rpartition(":")
            ports = [f"{host}:{int(first) + n}" for n in range(3)]
            for d, mine in ((shared, ports), (other, [other.server])):
                printed = sum(size for places in taken for place, size in places.items() if any(f"[{a}]" in place for a in mine))
                assert d.held == pytest.approx(printed, abs=0.08 * MIB)
            for name in ("chat", "long", "chat"):
                status, body = running.post("/v1/completions", {"model": name, "prompt": "the river ran", "max_tokens": 8})
                assert status == 200, (name, body)
            assert running.end() == ExitCode.OK
        assert shared.until_empty()
        assert shared.most <= shared.size


def test_a_server_that_is_busy_or_gone_is_said(env, tmp_path):
    """One that answers another engine, and one that is not there: an error that names it, and nothing is started."""
    path = model(tmp_path, "m", L=2)
    with device(PROGRAM, tmp_path, 1024 * MIB) as busy, up(tmp_path, f"m={path}", "--rpc", busy.server, "--no-probe", env=env) as running:
        running.until("serving m", 120)
        done = vram("up", f"n={path}", "--rpc", busy.server, "--dry-run", env=env)
        assert done.returncode == ExitCode.NO_HARDWARE
        assert busy.server in done.stderr
        assert "one engine at a time" in done.stderr
    done = vram("up", f"m={path}", "--rpc", busy.server, "--dry-run", env=env)
    assert done.returncode == ExitCode.NO_HARDWARE
    assert "nobody listens there" in done.stderr


def test_how_many_buffers_and_how_far():
    """All buffers of these tests: caches and weights to the digit that is printed, compute buffers within a tenth."""
    if not COUNTED:
        pytest.skip("nothing was compared")
    off = {name: [x for n, x in COUNTED if n == name] for name in dict(COUNTED)}
    for name, found in off.items():
        print(f"{name}: {len(found)} buffers, measured {min(found) - 1:+.2%} to {max(found) - 1:+.2%} of planned")
    print(f"{len(COUNTED)} buffers compared")
