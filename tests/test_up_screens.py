"""The screens of `vram up`, `vram ps` and `vram top` in narrow windows: no line is wider, and nothing is lost but what an ellipsis says."""

import json
import re
import sys
import time
from importlib.resources import files
from types import SimpleNamespace

import jsonschema
import pytest
from click import unstyle
from upping import environment, free_port, stand_in, up, vram

from vram.cli.render.ps import told
from vram.cli.render.table import clip, filled, table
from vram.cli.render.top import frame
from vram.gateway.health import Health
from vram.runtime.standing import standing
from vram.runtime.unit import State

LONG = "org-name/a-model-of-a-very-long-name-70B-Instruct-2507-Q4_K_M"
WIDTHS = [60, 80, 100, 200]


def widest(text):
    return max(map(len, unstyle(text).splitlines()))


def words(text):
    return " ".join(unstyle(text).split())


def test_a_table_with_room_is_as_wide_as_its_cells():
    """Without a bound each row is one line, cells whole: programs read it."""
    text = unstyle(table(("name", "size"), [(LONG, "1"), ("b", "22")], right=("size",)))
    assert text.splitlines() == [f"name{' ' * (len(LONG) - 2)}size", f"{LONG}     1", f"b{' ' * (len(LONG) + 3)}22"]
    assert unstyle(table(("name", "size"), [(LONG, "1"), ("b", "22")], right=("size",), width=len(LONG) + 6)) == text


def test_columns_go_below_in_their_order_and_names_are_cut_last():
    """Room for one column less: the first named goes; with still less, the name loses its middle and keeps both ends."""
    rows = [("alpha-beta-gamma-delta", "12", "cold", "x")]
    titles, below = ("name", "size", "mood", ""), {"mood": "in a {} mood", "size": "{} of size"}
    assert unstyle(table(titles, rows, width=31, below=below)).splitlines()[1:] == ["alpha-beta-gamma-delta  12    x", "  in a cold mood"]
    shown = unstyle(table(titles, rows, width=20, below=below)).splitlines()
    assert shown[1:] == ["alpha-be…ma-delta  x", "  12 of size ·", "  in a cold mood"]
    assert clip("abcdefghij", 6) == "abc…ij"
    assert filled(["one", "two", "three"], 9, "; ") == ["one; two;", "three"]
    assert filled(["weights 1.50 GiB + cache"], 12, "; ") == ["weights", "1.50 GiB +", "cache"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["chat", LONG])
def test_ps_fits_its_window_and_loses_no_figure(width, name):
    """Every figure of a model stands there at every width, on its row or below it."""
    model = {
        "name": name,
        "state": "asleep",
        "why": "does not fit beside what must stay: 12.00 GiB are missing",
        "since": 0.0,
        "engine": "llama-server",
        "version": "b11434",
        "gpus": ["NVIDIA H100 80GB HBM3", "NVIDIA RTX PRO 6000 Blackwell"],
        "planned_bytes": [3 * 2**30, 4 * 2**30],
        "reserved_bytes": [5 * 2**30, 6 * 2**30],
        "context_tokens": 131072,
        "concurrency": 16,
        "requests": 7,
        "starts": 9,
        "loads": 1,
    }
    run = {"url": "http://127.0.0.1:8080/v1", "pid": 4242, "models": [model, {**model, "name": "b", "why": ""}]}
    text = told(run, width)
    assert widest(text) <= width
    for figure in ("131,072 x 16", "7.00 GiB", "11.00 GiB", "NVIDIA H100 80GB HBM3, NVIDIA RTX PRO 6000 Blackwell", "llama-server b11434", model["why"]):
        assert figure in words(text), figure


def document(name):
    kv = {"unit": "bytes", "capacity": 2**34, "held": 2**33, "saved": 0, "shared_once": False, "promised": 2**34, "held_by_others": 2**30}
    engine = {"kv_usage": 0.4321, "preemptions": 12}
    base = {
        "number": 0,
        "kv": kv,
        "engine": engine,
        "leases": 100,
        "rent_dollars": 10.0,
        "idle_dollars": 4.0,
        "url": "http://10.20.30.40:65535/some/prefix",
        "why": "",
        "seconds_out": 3.0,
    }
    replicas = [
        {**base, "state": "up"},
        {**base, "number": 1, "state": "out", "why": "connection refused, three times in a row, and the probe that generates a token was not answered"},
        {**base, "number": 2, "state": "asleep", "why": "loaded when it is asked for"},
        {**base, "number": 3, "state": "loading", "why": "its engine starts"},
    ]
    lease = {"request_id": "chatcmpl-0123456789abcdef", "key": "a-team-with-a-long-name", "model": name, "pool": name, "number": 0, "unit": "bytes"}
    lease |= {"held": 2**30, "prompt_tokens": 131072, "output_tokens": 12345, "expected_output_tokens": 16384, "age_seconds": 222.0}
    return {
        "pools": {
            "pools": [{"name": name, "model": name, "engine": "vllm@0.32.0", "gpu": "8x H200 SXM 141GB", "dollars_per_hour": 31.5, "replicas": replicas}]
        },
        "queue": {"waiting": 1234, "lines": [{"model": name, "waiting": 1234, "oldest_seconds": 222.0}]},
        "leases": {"total": 2, "leases": [lease, lease]},
        "workers": {"restarts": 2, "hung": 0, "workers": [{"up_seconds": 5.0}, {"up_seconds": None}]},
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["chat", LONG])
def test_top_fits_its_window_and_says_what_each_replica_is(width, name):
    """No line is wider than the window, whatever the names; a replica without an engine has no bar, and says why."""
    text = frame(document(name), "http://127.0.0.1:8090", "12:34:56", width=width)
    assert widest(text) <= width
    assert "4 replicas, 1 out, 1 asleep, 1 loading, 2 run, 1,234 wait" in words(text)
    assert re.search(r"2 asleep +loaded when it is asked for", words(text))
    assert re.search(r"3 loading +its engine starts", words(text))
    for figure in ("50% held, 100% promised of 16.00 GiB", "12 preemptions", "http://10.20.3", "12,345 of 16,384", "131,072"):
        assert figure in words(text), figure
    assert "▓ held, ▒ promised beyond that, ▚ held by others, · free" in words(text)
    few = frame(document(name), "http://127.0.0.1:8090", "12:34:56", width=width, lines=12)
    assert len(few.splitlines()) == 12
    assert widest(few) <= width


@pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")
@pytest.mark.parametrize("width", [60, 80])
def test_up_fits_its_window(tmp_path, width):
    """The board, what is said of each model when it is ready, and a live `vram ps` and `vram top`: no line of them is wider than the window."""
    stand_in(tmp_path)
    env = environment(tmp_path, COLUMNS=str(width))
    with up(tmp_path, "one=demo", "a-second-model-of-a-long-name=demo", "--gpu", "cpu", "--budget", "700MiB", env=env) as running:
        said = running.until("end: ")
        board, _, rest = said.partition("one: started")
        assert widest(board) <= width
        table_lines = rest.partition("proved")[2].partition("serving")[0]
        assert widest(table_lines.partition("\n")[2]) <= width
        # A command is to be pasted: each of its lines whole.
        assert "\n  curl http://127.0.0.1:" in rest
        shown = vram("ps", env=env).stdout
        assert widest(shown) <= width
        assert re.search(r"asleep .*loaded when it is asked for", words(shown))


@pytest.mark.parametrize("state", list(State))
def test_every_state_of_a_unit_is_one_of_the_gateways(state):
    """Whatever a unit is doing, nothing is sent there meanwhile, the reason is told, and it is over when it is ready."""
    health = Health()
    health.leave(*standing(SimpleNamespace(state=state, why="")))
    assert not health.usable()
    assert not health.wants_probe(1e9)
    assert health.away_why
    schema = json.loads((files("vram") / "schemas/top.json").read_text())
    assert f'"{health.state(0.0).value}"' in json.dumps(schema)
    health.come()
    assert (health.usable(), health.state(0.0).value) == (True, "up")


@pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")
def test_who_is_asleep_is_said_to_be_asleep(tmp_path):
    """Two models in the room of one: the one that is not loaded is asleep, not draining; asked for, it is up and the other is asleep."""
    stand_in(tmp_path)
    env = environment(tmp_path)
    schema = json.loads((files("vram") / "schemas/top.json").read_text())
    port = free_port()

    def states():
        done = vram("top", "--json", "--url", f"http://127.0.0.1:{port}", env=env)
        found = json.loads(done.stdout)
        jsonschema.validate(found, schema)
        return {pool["name"]: (pool["replicas"][0]["state"], pool["replicas"][0]["why"]) for pool in found["pools"]["pools"]}

    with up(tmp_path, "a=demo", "b=demo", "--gpu", "cpu", "--budget", "700MiB", env=env, admin_port=port) as running:
        running.until("end: ")
        assert states() == {"a": ("up", ""), "b": ("asleep", "loaded when it is asked for")}
        assert running.post("/v1/completions", {"model": "b", "prompt": "x", "max_tokens": 2})[0] == 200
        ends = time.monotonic() + 20
        while (found := states()) != {"a": ("asleep", "loaded when it is asked for"), "b": ("up", "")}:
            assert time.monotonic() < ends, found
        assert "2 replicas, 1 asleep, 0 run, 0 wait" in vram("top", "--once", "--url", f"http://127.0.0.1:{port}", env=env).stdout


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "args",
    [
        ("up", "demo", "--gpu", "cpu", "--budget", "30MiB", "--port", "0"),
        ("up", "demo", "--engine", "nosuch"),
        ("top", "--once", "--url", "http://127.0.0.1:9"),
        ("plan", "no-such-org/no-such-model", "--offline"),
        ("stop", "nobody"),
    ],
)
def test_errors_fit_their_window(tmp_path, width, args):
    """No line is wider than the window, the rest of each is indented below its beginning, and no word is cut: as one line elsewhere."""
    stand_in(tmp_path)
    env = environment(tmp_path, VRAM_ADMIN_TOKEN="x" * 20)
    narrow = vram(*args, env={**env, "COLUMNS": str(width)}).stderr
    wide = vram(*args, env={**env, "COLUMNS": "2000"}).stderr
    error = narrow[narrow.index("error: ") :]
    assert widest(error) <= width
    assert all(line.startswith(("error: ", "hint: ", "      ")) for line in error.splitlines())
    assert words(error) == words(wide[wide.index("error: ") :])


def shown_bytes(text):
    """A size as a screen shows it, and how far its last digit leaves it open."""
    number, unit = text.split()
    places = len(number.partition(".")[2])
    factor = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    return float(number.replace(",", "")) * factor, 0.5 * 10**-places * factor


@pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")
@pytest.mark.parametrize(
    "args",
    [
        ("one=demo", "two=demo", "--gpu", "cpu", "--budget", "700MiB"),
        ("one=demo", "two=demo", "--gpu", "cpu", "--context", "64k", "--budget", "3GiB"),
        ("Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct", "--engine", "vllm", "--gpu", "2x RTX 4090"),
    ],
)
def test_the_board_adds_up_and_draws_what_is_reserved(tmp_path, args):
    """The named parts of a row come to what it plans; the letters of a bar, and the figure beside it, are what is reserved; every mark and sign is explained."""
    stand_in(tmp_path)
    env = environment(tmp_path, COLUMNS="260")
    models = json.loads(vram("up", *args, "--dry-run", "--offline", "--json", env=env).stdout)["models"]
    shown = vram("up", *args, "--dry-run", "--offline", env=env).stdout
    size = r"[\d.,]+ (?:[KMG]i)?B"
    sums = [r for line in shown.splitlines() if (r := re.search(rf"({size})  +({size})  (?:✔|~|✘) .*?  (weights .*)$", line))]
    assert len(sums) == len(models)
    for (planned, reserved, parts), model in zip((s.groups() for s in sums), models, strict=True):
        whole, open_by = shown_bytes(planned)
        found = [shown_bytes(p) for p in re.findall(size, parts)]
        assert abs(sum(f for f, _ in found) - whole) <= open_by + sum(o for _, o in found)
        assert abs(shown_bytes(reserved)[0] - sum(model["reserved_bytes"])) <= shown_bytes(reserved)[1] + 1
        assert len(found) == sum(any(g["parts"][name]["bytes"] for g in model["plan"]["gpus"]) for name in model["plan"]["gpus"][0]["parts"])
    # Bars: models that are loaded first, each on cards of its own or all in main memory.
    bars = re.findall(rf"▕(.*)▏ ({size}) of ({size})", shown)
    first = [m for m in models if m["loaded_first"]]
    kept = [sum(sum(m["reserved_bytes"]) for m in first)] if len(bars) == 1 else [sum(m["reserved_bytes"]) for m in first]
    for (bar, held, whole), size_bytes in zip(bars, kept, strict=True):
        assert abs(shown_bytes(held)[0] - size_bytes) <= shown_bytes(held)[1] + 1
        assert sum(c.isalpha() for c in bar) / len(bar) == pytest.approx(size_bytes / shown_bytes(whole)[0], abs=2.5 / len(bar))
    assert "A planned" in shown
    assert ("a reserved beyond it" in shown) == any(c.islower() for bar, *_ in bars for c in bar)
    assert ("~ tight: " in shown) == any(m["plan"]["verdict"] == "tight" for m in models)
