"""The pools file: what is written is read back equal, what is wrong is refused with its path, an editor sees the same form."""

import json
import os
import tomllib
from importlib.resources import files
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram.errors import UsageError
from vram.readers.pools import Capacity, EngineSettings, Fallback, Keys, Limits, Placement, Pool, PoolsFile, Route, Speed, parse_pools, pools_schema, pools_text
from vram.sources.pools import read_pools, write_pools

GOOD = """
schema = "vram.pools/1"
[[pools]]
name = "small"
model = "meta-llama/Llama-3.1-8B-Instruct"
engine = "vllm@0.19.0"
gpu = "H100 SXM 80GB"
replicas = ["http://10.0.0.1:8000", "http://[::1]:8000/v1"]
dollars_per_hour = 2.95
placement = { tp = 1 }
[pools.settings]
context_tokens = 16384
[[pools]]
name = "large"
model = "meta-llama/Llama-3.1-8B-Instruct"
gpu = "2x H100 SXM 80GB"
count = 3
[pools.speed]
step_seconds = 0.01
[[routes]]
model = "llama"
pools = ["small", "large"]
fallback = { least_output_tokens = 64, models = ["other"] }
[[routes]]
model = "other"
pools = ["large"]
[limits]
queue_seconds = 30
"""


def published():
    return json.loads((files("vram") / "schemas" / "pools.json").read_text())


def test_a_file_is_read():
    """Every table of the form arrives where it belongs."""
    file = parse_pools(GOOD.encode())
    small, large = file.pools
    assert (small.size, large.size) == (2, 3)
    assert small.settings.context_tokens == 16384
    assert large.speed == Speed(step_seconds=0.01)
    assert file.all_routes[0].fallback.models == ("other",)
    assert file.limits.queue_seconds == 30
    assert file.pool("large") is large
    with pytest.raises(UsageError, match="no pool") as e:
        file.pool("lage")
    assert e.value.hint == "did you mean 'large'?"


def test_without_routes_each_model_is_its_own():
    """A file that states no route serves each model under its own name, from its pools in order."""
    text = GOOD[: GOOD.index("[[routes]]")]
    (route,) = parse_pools(text.encode()).all_routes
    assert (route.model, route.pools) == ("meta-llama/Llama-3.1-8B-Instruct", ("small", "large"))


@pytest.mark.parametrize(
    ("old", "new", "path", "hint"),
    [
        ('gpu = "H100 SXM 80GB"', 'gpu = "H100 SXM 80GB"\ngpus = 2', "pools[0].gpus is not known", "did you mean 'gpu'?"),
        ("context_tokens", "contxt_tokens", "pools[0].settings.contxt_tokens is not known", "did you mean 'context_tokens'?"),
        ("step_seconds", "stp_seconds", "pools[1].speed.stp_seconds is not known", "did you mean 'step_seconds'?"),
        ("least_output_tokens", "leastoutput_tokens", "routes[0].fallback.leastoutput_tokens is not known", "least_output_tokens"),
        ("[limits]", "[limit]", "limit is not known", "did you mean 'limits'?"),
        ("queue_seconds = 30", 'queue_seconds = "30"', "limits.queue_seconds: Expected", "vram schema pools"),
        ("queue_seconds = 30", "queue_seconds = nan", "limits.queue_seconds: Expected", "vram schema pools"),
        ("count = 3", "count = 0", "pools[1].count: Expected `int` >= 1", "vram schema pools"),
        ("2.95", "-1", "pools[0].dollars_per_hour: Expected", "vram schema pools"),
        ('name = "large"', 'name = "small"', "pools[1].name: 'small' is also the name of pools[0]", "a name of its own"),
        ('["large"]', '["lagre"]', "routes[1].pools[0]: no pool 'lagre'", "did you mean 'large'?"),
        ('["small", "large"]', '["small", "small"]', "routes[0].pools[1]: 'small' stands there twice", "once"),
        ('model = "other"', 'model = "llama"', "routes[1].model: 'llama' is also the name of routes[0]", "one route"),
        ('models = ["other"]', 'models = ["llama"]', "routes[0].fallback.models[0]: 'llama' falls back to itself", "another"),
        ('models = ["other"]', 'models = ["otter"]', "routes[0].fallback.models[0]: no route of model 'otter'", "did you mean 'other'?"),
        ("http://10.0.0.1:8000", "file:///etc/passwd", "pools[0].replicas[0]: 'file:///etc/passwd' is no base URL", "http://HOST:PORT"),
        ("http://10.0.0.1:8000", "http://user:pw@host", "is no base URL", "without user"),
        ("http://10.0.0.1:8000", "http://h:99999", "is no base URL", "http://HOST:PORT"),
        ("http://10.0.0.1:8000", "http://h/a b", "is no base URL", "http://HOST:PORT"),
        (
            '"http://10.0.0.1:8000", "http://[::1]:8000/v1"',
            '"http://a", "http://a"',
            "replicas[1]: http://a also stands in pools[0].replicas[0]",
            "counted once",
        ),
        ("dollars_per_hour = 2.95", "count = 5", "pools[0].count: 5, but 2 replicas have a URL", "leave count out"),
        ("vram.pools/1", "vram.pools/9", "schema: Expected", "vram schema pools"),
        ("[[routes]]", "[routes]", "is no TOML", "docs/pools.md"),
        ('schema = "vram.pools/1"', "schema = ", "is no TOML", "docs/pools.md"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(old, new, path, hint):
    """One key changed: the message names the file and the key's path, the hint what could be meant."""
    assert old in GOOD
    with pytest.raises(UsageError) as e:
        parse_pools(GOOD.replace(old, new, 1).encode(), "my.toml")
    assert e.value.message.startswith("my.toml")
    assert path in e.value.message
    assert hint in e.value.hint


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"a=" + b"[" * 100_000,
        b"x" * (1 << 20),
        b"pools = 3",
        b"[[pools]]",
        b"pools = []",
        b"pools = [[1]]",
        b"routes = 1979-05-27",
        b"\x00",
        b"a" * 2_000_000,
        b".".join([b"a"] * 100_000) + b"=1",
        b"[" + b" . ".join([b'"a"'] * 100_000) + b"]",
        b"a=1" + b"0" * 5000,
    ],
)
def test_hostile_files_are_refused_in_words(data):
    """No traceback, whatever the bytes."""
    with pytest.raises(UsageError) as e:
        parse_pools(data)
    assert e.value.hint


words = st.text(min_size=1, max_size=20).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t))
some = st.integers(1, 1 << 40)
money = st.floats(0, 1e9, allow_nan=False)


def pool(name):
    return st.builds(
        Pool,
        name=st.just(name),
        model=words,
        engine=words,
        gpu=words,
        count=st.none() | st.integers(1, 4096),
        served_as=st.none() | words,
        dollars_per_hour=st.none() | money,
        plan=st.none() | words,
        placement=st.builds(Placement, tp=st.integers(1, 8), pp=st.integers(1, 8), ep=st.booleans()),
        settings=st.builds(
            EngineSettings,
            context_tokens=st.none() | some,
            quant=st.none() | words,
            gpu_memory_utilization=st.none() | st.floats(0.01, 1),
            block_size=st.none() | some,
        ),
        capacity=st.builds(Capacity, kv_bytes=st.none() | some, kv_blocks=st.none() | some),
        speed=st.none() | st.builds(Speed, step_seconds=money, kv_token_seconds=money),
    )


pools_files = st.lists(words, min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.builds(
        PoolsFile,
        pools=st.tuples(*map(pool, names)),
        routes=st.lists(
            st.builds(
                Route, model=words, pools=st.just(tuple(names)), fallback=st.builds(Fallback, larger_pool=st.booleans(), least_output_tokens=st.none() | some)
            ),
            max_size=3,
            unique_by=lambda r: r.model,
        ).map(tuple),
        limits=st.builds(Limits, queue_seconds=st.none() | money, output_tokens=st.none() | some),
        keys=st.builds(Keys, file=st.none() | words),
    )
)


@given(pools_files, words)
def test_what_is_written_is_read_back(file, note):
    """Any file, names with any character in them: TOML that our own reader and the standard library's take, equal to what went in."""
    text = pools_text(file, head=(note,), notes={file.pools[0].name: (note, "\n[[pools]]\nname='x'")}, schema="./pools.schema.json")
    assert text.startswith("#:schema ./pools.schema.json\n")
    assert parse_pools(text.encode()) == file
    jsonschema.validate(tomllib.loads(text), published())


def test_the_schema_is_published():
    """The schema that editors complete from is the form that the reader holds (UPDATE_DOCS=1 writes it anew), and each key says what it means."""
    path = files("vram") / "schemas" / "pools.json"
    text = json.dumps(pools_schema(), indent=1) + "\n"
    if os.environ.get("UPDATE_DOCS") == "1":
        path.write_text(text)
    assert path.read_text() == text
    tables = published()["$defs"]
    assert {"Pool", "Route", "Limits", "Keys"} <= set(tables)
    for name, table in tables.items():
        assert table["additionalProperties"] is False, name
        for key, value in table["properties"].items():
            assert "description" in value or "$ref" in value or "allOf" in value, f"{name}.{key}"


@pytest.mark.parametrize(
    "change",
    [lambda d: d["pools"][0].update(x=1), lambda d: d["pools"][1].update(count=0), lambda d: d.update(pools=[]), lambda d: d["routes"][0].pop("pools")],
)
def test_the_schema_refuses_what_the_reader_refuses(change):
    """An editor marks the same mistakes of form."""
    document = tomllib.loads(GOOD)
    jsonschema.validate(document, published())
    change(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, published())
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, PoolsFile)


def test_a_file_is_written_whole_with_its_schema(tmp_path):
    """The schema lies beside the file that names it; a second writing replaces the file, and leaves a schema that was there."""
    file = parse_pools(GOOD.encode())
    path = tmp_path / "pools.toml"
    assert [p.name for p in write_pools(path, file, head=("of a test",))] == ["pools.toml", "pools.schema.json"]
    assert read_pools(path) == file
    assert path.read_text().startswith("#:schema ./pools.schema.json\n# of a test\n")
    assert [p.name for p in write_pools(path, file)] == ["pools.toml"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pools.schema.json", "pools.toml"]


def test_no_file_is_an_error_with_a_hint(tmp_path):
    """A path that cannot be read says which, and how one is made."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match="cannot be read") as e:
            read_pools(path)
        assert "vram size" in e.value.hint


def test_the_documented_example_is_a_pools_file():
    """What docs/pools.md shows is read."""
    text = (Path(__file__).parents[1] / "docs" / "pools.md").read_text()
    file = parse_pools(text.split("```toml\n")[1].split("```")[0].encode())
    assert file.pools[0].size == 2
