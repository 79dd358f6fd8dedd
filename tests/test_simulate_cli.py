"""`vram simulate`: tables, JSON by its schema, pictures, and one clear error for what cannot be replayed."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

import vram
from vram.cli.simulate import command
from vram.errors import UnmetError, UsageError, VramError

TRACE = Path(__file__).parents[1] / "truth" / "traces" / "azure_llm_2023_conv.csv.gz"
SCHEMA = json.loads((files("vram") / "schemas" / "simulate.json").read_text())
STREAM = ["--rate", "4", "--duration", "60s", "--prompt", "600~0.7", "--output", "20-300", "--offline"]
POOL = ["--model", "Qwen/Qwen3-8B", "--gpu", "RTX 4090"]
FILE = """
schema = "vram.pools/1"
[[pools]]
name = "small"
model = "Qwen/Qwen3-8B"
gpu = "RTX 4090"
count = 2
dollars_per_hour = 0.5
[pools.settings]
context_tokens = 4096
[pools.capacity]
kv_blocks = 700
[pools.speed]
step_seconds = 0.02
prefill_token_seconds = 0.0001
[[routes]]
model = "chat"
pools = ["small"]
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(command, words)


def failed(*words: str) -> VramError:
    error = run(*words).exception
    assert isinstance(error, (UsageError, UnmetError))
    assert error.hint
    return error


def test_json_follows_its_schema_and_is_what_the_api_gives() -> None:
    """All policies, every request told; numbers that sum up."""
    done = run(*STREAM, *POOL, "--json", "--each")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert [p["policy"] for p in document["policies"]] == ["engine", "requests", "kv-worst", "kv-learned=0.999"]
    for p in document["policies"]:
        assert sum(p["ends"].values()) == document["requests"] == len(p["served"])
        assert sum(r["answered_tokens"] for r in p["served"]) == p["answered_tokens"]
    requests = [
        vram.Request(arrival_seconds=r["arrival_seconds"], prompt_tokens=r["prompt_tokens"], output_tokens=r["answered_tokens"])
        for r in document["policies"][0]["served"]
    ]
    pool = vram.pool_of("Qwen/Qwen3-8B", gpu="RTX 4090", requests=requests, offline=True)
    outcome = vram.simulate(requests, [pool], "kv-learned")
    assert outcome.summary.goodput_per_second == document["policies"][3]["goodput_per_second"]


def test_a_pools_file_says_capacity_speed_and_names(tmp_path: Path) -> None:
    """Blocks and step times are the file's; a trace that names other models is served by a file of one."""
    (tmp_path / "pools.toml").write_text(FILE)
    (tmp_path / "trace.csv").write_text("Timestamp,Model,Request tokens,Response tokens\n" + "".join(f"{i},GPT-4,1000,50\n" for i in range(40)))
    done = run(str(tmp_path / "trace.csv"), "--pools", str(tmp_path / "pools.toml"), "--policy", "engine", "--json", "--offline")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    (pool,) = document["pools"]
    assert (pool["name"], pool["replicas"], pool["kv_blocks"], pool["context_tokens"], pool["usd_per_hour"]) == ("small", 2, 700, 4096, 1.0)
    # Alone on a replica: a prompt of 1,000 tokens, 49 steps of 0.02 s; asynchronous scheduling costs an arrival nothing while it idles.
    assert document["policies"][0]["ttft_seconds"]["p50"] == pytest.approx(0.02 + 1000 * 0.0001, rel=1e-6)
    assert document["policies"][0]["tpot_seconds"]["p50"] == pytest.approx(0.02, rel=1e-6)
    assert document["policies"][0]["ends"]["finished"] == 40


def test_tables_and_pictures(tmp_path: Path) -> None:
    """A line for each policy, a page without anything from outside, an SVG; --quiet prints one figure a policy."""
    done = run(*STREAM, *POOL, "--policy", "engine", "--policy", "requests=4", "--html", str(tmp_path / "r.html"), "--svg", str(tmp_path / "r.svg"))
    assert done.exit_code == 0, done.output
    assert "requests=4" in done.stdout
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") >= 4
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert (tmp_path / "r.svg").read_text().startswith("<svg")
    quiet = run(*STREAM, *POOL, "--policy", "kv-worst", "-q")
    name, value = quiet.stdout.split("\t")
    assert name == "kv-worst"
    assert float(value) > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([*POOL], "a trace or a rate is needed"),
        ([*STREAM], "no pool to replay against"),
        ([*STREAM, *POOL, "--policy", "kv-learnt"], "no policy"),
        ([*STREAM, *POOL, "--policy", "kv-learned=2"], "is no policy"),
        ([*STREAM, *POOL, "--policy", "requests=0"], "is no policy"),
        ([*STREAM, *POOL, "--policy", "engine=1"], "is no policy"),
        ([*STREAM, *POOL, "--pools", "pools.toml"], "names models and GPUs already"),
        ([*STREAM, "--pools", "no-such.toml"], "cannot be read"),
        ([*STREAM, *POOL, "--context", "300"], "longest context of a pool"),
        ([*STREAM, "--model", "meta-llama/Llama-3.1-70B-Instruct", "--gpu", "RTX 4090"], "no room for a KV cache"),
        ([*STREAM, *POOL, "--kv-pool-bytes", "10MiB"], "KV blocks"),
        (["no-such-trace.csv", *POOL], "cannot be read"),
        ([str(TRACE), "--trace", str(TRACE), *POOL], "2 traces"),
        ([*STREAM, *POOL, "--html", "/no/such/folder/x.html"], "cannot be written"),
    ],
)
def test_what_cannot_be_replayed_is_one_error_with_a_hint(words: list[str], told: str) -> None:
    """What is wrong, and what would make it possible; what has no room fits as little as a plan that does not (exit code 3)."""
    error = failed(*words)
    assert told in error.message
    assert (error.exit_code == 3) == ("no room" in told)


def test_oversize_requests_can_be_counted_as_refused(tmp_path: Path) -> None:
    """With --refuse-oversize the replay goes on and counts them; without, the first is named."""
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,100,10\n1,5000,10\n2,200,10\n")
    error = failed(str(tmp_path / "t.csv"), *POOL, "--context", "4096", "--offline")
    assert "request 2 has a prompt of 5,000 tokens" in error.message
    assert "--context 5010" in error.hint
    done = run(str(tmp_path / "t.csv"), *POOL, "--context", "4096", "--offline", "--refuse-oversize", "--json")
    for p in json.loads(done.stdout)["policies"]:
        assert p["ends"]["too_large"] == p["refused"] == 1
        assert p["ends"]["finished"] == 2


def test_waiting_requests_can_be_refused(tmp_path: Path) -> None:
    """--queue-seconds lets those go who waited so long; --max-tokens is what leases at worst case count."""
    (tmp_path / "pools.toml").write_text(FILE.replace("count = 2", "count = 1"))
    stream = ["--rate", "9", "--duration", "60s", "--prompt", "600~0.4", "--output", "20-300", "--offline"]
    one = [*stream, "--pools", str(tmp_path / "pools.toml"), "--policy", "kv-worst", "--max-tokens", "300", "--json"]
    patient, hasty = (json.loads(run(*one, *more).stdout)["policies"][0] for more in ([], ["--queue-seconds", "1s"]))
    assert patient["ends"]["expired"] == 0
    assert hasty["ends"]["expired"] > 0
    assert hasty["queue_seconds"]["p99"] < patient["queue_seconds"]["p99"]
