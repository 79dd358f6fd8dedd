"""What tokens cost: hand-reckoned cases, the rent conserved to the digit, and published prices as a check on the whole."""

import json
import os
import subprocess
import sys
from importlib.resources import files
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vram
from vram.costs.book import PriceBook
from vram.costs.cost import Bytes, Cost
from vram.costs.load import Round
from vram.costs.rent import rent
from vram.errors import UsageError
from vram.hardware.spelling import parse_fleet
from vram.planner.costing import replica_sizes

EIGHT, SEVENTY = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"


def made(*, usd=36.0, load=1.0, replicas=1, gpus=1, **turn):
    paid = rent(["G"] * gpus, PriceBook(prices=()), fleet_usd=usd)
    values = {"concurrency": 10, "prompt_tokens": 1000, "output_tokens": 101, "prefill_seconds": 0.2, "step_seconds": 0.08, **turn}
    return Cost(
        model="m",
        fleet="G",
        engine="generic",
        verdict="fits",
        placement="one GPU",
        gpus=gpus,
        replicas=replicas,
        gpus_per_replica=1,
        load=load,
        rent=paid,
        bytes=Bytes(usable=1000, weights=400, working=100, kv_mean=250.0, kv_per_token=1.0),
        round=Round(**values),
        doubt=(2.0, 1.5),
        source="formula",
        why="",
    )


def test_a_replica_by_hand():
    """$36 an hour is a cent a second. Ten requests of 1,000 + 101 tokens: 10 x 0.2 s of prompts, 100 steps of 0.08 s: ten seconds, ten cents.

    2 of the 10 cents go to 10,000 prompt tokens: $2 a million. 8 go to 1,010 answer tokens: $79.2079 a million.
    """
    cost = made()
    assert cost.round.seconds == pytest.approx(10)
    assert cost.usd_per_million_input.value == pytest.approx(2.0)
    assert cost.usd_per_million_output.value == pytest.approx(0.08 / 1010 * 1e6)
    assert cost.usd_per_million_tokens.value == pytest.approx(0.10 / 11_010 * 1e6)
    assert (cost.usd_per_million_input.low, cost.usd_per_million_input.high) == (pytest.approx(1.0), pytest.approx(4.0))


def test_the_vram_time_view_by_hand():
    """Of 1,000 bytes, 400 are weights, 100 working memory, 250 caches: a quarter is idle; at half load five eighths are."""
    parts = made().vram_time
    assert (parts.weights_share, parts.working_share, parts.kv_share, parts.idle_share) == (0.4, 0.1, 0.25, pytest.approx(0.25))
    half = made(load=0.5)
    assert half.vram_time.idle_share == pytest.approx(0.625)
    # Half the tokens for the same rent, of which 3/8 was used: a used byte-second costs what it did.
    assert half.vram_time_usd_per_million_tokens.value == pytest.approx(made().vram_time_usd_per_million_tokens.value)


@settings(deadline=None)
@given(
    st.floats(0.01, 1e4),
    st.floats(0.01, 1),
    st.integers(1, 64),
    st.integers(1, 512),
    st.integers(1, 10**6),
    st.integers(1, 10**5),
    st.floats(1e-6, 100),
    st.floats(1e-6, 10),
)
def test_tokens_pay_the_rent(usd, load, replicas, concurrency, prompt, output, reading, step):
    """Input tokens and output tokens of an hour, each at its price, add up to the rent, at any load; and so does the sum of the byte x time shares."""
    cost = made(
        usd=min(usd, 100 * replicas),
        gpus=replicas,
        load=load,
        replicas=replicas,
        concurrency=concurrency,
        prompt_tokens=prompt,
        output_tokens=output,
        prefill_seconds=reading,
        step_seconds=step,
    )
    hour = 3600 / 1e6
    paid = cost.input_tokens_per_second * hour * cost.usd_per_million_input.value + cost.output_tokens_per_second * hour * cost.usd_per_million_output.value
    assert paid == pytest.approx(cost.usd_per_hour, rel=1e-9)
    parts = cost.vram_time
    assert parts.weights_share + parts.working_share + parts.kv_share + parts.idle_share == pytest.approx(1)


# Dollars for a million tokens of these models as sellers of tokens ask them in 2026, input and output: the cheapest (OpenRouter, mid-2026, as
# https://dev.to/andrew_morgado_dev/cheapest-llm-apis-for-startups-in-2026-45jm tells) and a dear one (https://aigateway.sh/models/meta/llama-3.1-70b-instruct;
# https://therouter-docs.pages.dev/models/meta--llama-3.1-8b). What tokens cost on rented GPUs at full load must lie in their neighbourhood.
PUBLISHED = {EIGHT: ((0.02, 0.03), (0.336, 0.336)), SEVENTY: ((0.10, 0.32), (0.29, 0.60))}


@pytest.mark.parametrize("model", PUBLISHED)
def test_costs_lie_near_what_tokens_are_sold_for(model):
    """Within a factor of three of the range that sellers ask: a slip in units or in the split would be off by more."""
    cost = vram.cost(model, gpu="8x H100", engine="vllm", offline=True)
    (in_low, out_low), (in_high, out_high) = PUBLISHED[model]
    assert in_low / 3 < cost.usd_per_million_input.value < in_high * 3
    assert out_low / 3 < cost.usd_per_million_output.value < out_high * 3


def test_a_larger_model_costs_more_on_the_same_gpus():
    """The 70B's tokens are dearer in every view; both fleets pay the same; what is idle is less than all and more than nothing."""
    small, large = (vram.cost(m, gpu="8x H100", offline=True) for m in (EIGHT, SEVENTY))
    assert small.usd_per_hour == large.usd_per_hour
    for view in ("usd_per_million_input", "usd_per_million_output", "usd_per_million_tokens", "vram_time_usd_per_million_tokens"):
        assert getattr(large, view).value > 2 * getattr(small, view).value
    assert all(0 < c.vram_time.idle_share < 1 for c in (small, large))


def test_what_lies_on_the_fleet_is_what_plans_say():
    """Weights are those of the checkpoint, once a replica; caches of all requests are below the pool and above those of the prompts alone."""
    cost = vram.cost(EIGHT, gpu="4x L40S", engine="vllm", concurrency=8, offline=True)
    assert (cost.replicas, cost.gpus_per_replica) == (4, 1)
    plan = vram.plan(EIGHT, gpu="L40S", engine="vllm", concurrency=8, context_tokens=1280, offline=True)
    assert cost.bytes.weights == 4 * plan.gpus[0].parts.weights.bytes
    assert cost.bytes.usable == 4 * plan.gpus[0].usable_bytes
    each = cost.bytes.kv_mean / (4 * 8)
    assert 1024 * 131_072 * 0.5 < each < 1280 * 131_072 * 1.02


def test_the_split_that_serves_most_is_taken():
    """A model that fits one card is put on each, unless asked otherwise; GPUs without a replica are paid and said."""
    assert vram.cost(EIGHT, gpu="4x H100", offline=True).replicas == 4
    asked = vram.cost(EIGHT, gpu="5x H100", tp=2, offline=True)
    assert (asked.replicas, asked.gpus_per_replica) == (2, 2)
    assert "1 of 5 GPUs hold no replica and are paid all the same" in asked.notes
    assert replica_sizes(parse_fleet("8x H100"), None, None) == (1, 2, 4, 8)
    assert replica_sizes(parse_fleet("6x H100"), None, None) == (1, 2, 4, 6)
    assert replica_sizes(parse_fleet("1x 4090 + 1x 3090"), None, None) == (2,)


def test_what_is_not_known_is_none():
    """A GPU without a price, a card without a speed, a model that does not fit: no figure, and why."""
    no_price = vram.cost(EIGHT, gpu="M4 Max 128GB", offline=True)
    assert no_price.usd_per_hour is no_price.usd_per_million_output is None
    assert no_price.output_tokens_per_second > 0
    assert no_price.rent.hint.startswith("no price known for M4 Max 128GB: give --price")
    no_speed = vram.cost(EIGHT, gpu="24GiB", price_usd=1.0, offline=True)
    assert (no_speed.usd_per_hour, no_speed.usd_per_million_tokens, no_speed.vram_time) == (1.0, None, None)
    assert "bandwidth" in no_speed.why
    no_room = vram.cost(SEVENTY, gpu="RTX 4090", offline=True)
    assert (no_room.replicas, no_room.bytes, no_room.usd_per_million_tokens) == (0, None, None)
    assert no_room.why.startswith("it does not fit")
    short = vram.cost(EIGHT, gpu="H100", context_tokens=512, offline=True)
    assert short.round is None
    assert "longer than the 512" in short.why


def test_the_slowest_card_sets_the_pace_of_a_mixed_fleet():
    """A 4090 beside a 3090 is as fast as two 3090s in either order, and the rent is the sum of both."""
    mixed, turned, alike = (
        vram.cost(EIGHT, gpu=gpu, prices=None, pp=2, concurrency=4, offline=True) for gpu in ("1x 4090 + 1x 3090", "1x 3090 + 1x 4090", "2x 3090")
    )
    assert mixed.output_tokens_per_second == turned.output_tokens_per_second == alike.output_tokens_per_second
    assert mixed.usd_per_hour == pytest.approx(0.74 + 0.50)
    assert any("cards differ" in note for note in mixed.notes)
    assert not any("cards differ" in note for note in alike.notes)


def test_more_load_makes_tokens_cheaper_and_a_price_scales_them():
    """Half the load, twice the price of a token; twice the rent, the same."""
    full, half, dear = (vram.cost(EIGHT, gpu="H100", offline=True, **more) for more in ({"price_usd": 2}, {"price_usd": 2, "load": 0.5}, {"price_usd": 4}))
    for other in (half, dear):
        assert other.usd_per_million_output.value == pytest.approx(2 * full.usd_per_million_output.value)
        assert other.usd_per_million_input.value == pytest.approx(2 * full.usd_per_million_input.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"load": 0},
        {"load": 1.5},
        {"load": float("nan")},
        {"prompt_tokens": 0},
        {"output_tokens": -3},
        {"prompt_tokens": 10**9},
        {"price_usd": -1},
        {"price_usd": float("nan")},
        {"price_usd": 101},
        {"fleet_usd": -1},
        {"provider": "nobody"},
        {"gpu": "no such card"},
    ],
)
def test_bad_input_is_a_clear_error(wrong):
    """A hint each, before anything is read."""
    with pytest.raises(UsageError) as caught:
        vram.cost("no such model", **{"gpu": "H100", "offline": True, **wrong})
    assert caught.value.hint


def run(*args, **env):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "140", "NO_COLOR": "1", **env}
    return subprocess.run([sys.executable, "-m", "vram", *args], capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_one_table_shows_why_a_70b_costs_more():
    """Both models in one table with day and source of the price, the rent's parts, and the factors between them."""
    done = run("cost", EIGHT, SEVENTY, "--gpu", "8x H100")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    for words in (
        "$23.60/hour",
        "in a list read 2026-11-23",
        "https://github.com/skypilot-org",
        "$/M in",
        "idle",
        "A token of Llama-3.1-70B-Instruct costs",
        "x the weights",
    ):
        assert words in done.stdout


def test_json_follows_its_schema():
    """Also where nothing fits, nothing is priced, or nothing is known of the card."""
    schema = json.loads((files("vram") / "schemas" / "cost.json").read_text())
    assert json.loads(run("schema", "cost").stdout) == schema
    for code, args in (
        (0, (EIGHT, SEVENTY, "--gpu", "8x H100", "--load", "0.6")),
        (3, (SEVENTY, "--gpu", "RTX 4090")),
        (0, (EIGHT, "--gpu", "M4 Max 128GB")),
        (0, (EIGHT, "--gpu", "24GiB", "--price", "1")),
        (0, (EIGHT, "--gpu", "H100", "--fleet-price", "$2")),
        (0, (EIGHT, "--gpu", "1x 4090 + 1x 3090", "--price", "4090=0.4", "--price", "3090=0.2")),
        (0, (EIGHT, "--gpu", "4090", "--own", "launch", "--power-price", "0.3", "--lifetime", "4y")),
    ):
        done = run("cost", *args, "--json")
        assert done.returncode == code, done.stderr
        jsonschema.validate(json.loads(done.stdout), schema)


def test_a_page_and_a_picture_are_written(tmp_path):
    """Both are well-formed, name prices with their day, and stand also where nothing fits or nothing is priced."""
    for args in ((EIGHT, SEVENTY, "--gpu", "8x H100 SXM"), (SEVENTY, "--gpu", "RTX 4090"), (EIGHT, "--gpu", "M4 Max 128GB")):
        html, svg = tmp_path / "a.html", tmp_path / "a.svg"
        done = run("cost", *args, "--html", str(html), "--svg", str(svg))
        assert done.returncode in {0, 3}, done.stderr
        ET.fromstring(svg.read_text())  # noqa: S314  (our own file)
        assert "</html>" in html.read_text()
        assert ("in a list read 2026-11-23" in html.read_text()) == ("M4 Max 128GB" not in args)


def test_quiet_is_a_line_a_model():
    """Model, dollars in, dollars out, and as of when; `unknown` for what is not known."""
    done = run("cost", EIGHT, "--gpu", "H100", "-q")
    name, reading, writing, when = done.stdout.strip().split("\t")
    assert (name, when) == (EIGHT, "in a list read 2026-11-23")
    assert 0 < float(reading) < float(writing)
    assert run("cost", EIGHT, "--gpu", "M4 Max 128GB", "-q").stdout == f"{EIGHT}\tunknown\tunknown\tno price known\n"


@pytest.mark.parametrize(
    "args",
    [("--price", "-1"), ("--price", "x=1"), ("--price", "4090=nan"), ("--fleet-price", "1e9"), ("--load", "2"), ("--own", "-5"), ("--own", "launch"), ("--watts", "3"),
     ("--own", "9", "--lifetime", "9 weeks"), ("--own", "9", "--resale", "10"), ("--own", "9", "--utilisation", "0"), ("--kind", "free"), ("--provider", "nobody"),
     ("--own", "9", "--power-price", "x")],
)  # fmt: skip
def test_bad_flags_are_two_lines(args):
    """An error and a hint on stderr, nothing on stdout, code 2."""
    done = run("cost", EIGHT, "--gpu", "L4", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "\nhint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plan_tells_what_its_gpus_cost(tmp_path, monkeypatch):
    """A line with amount, provider and day; the JSON holds the same; a GPU without a price has no line, and JSON says what to give."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = run("plan", EIGHT, "--gpu", "2x H100 SXM")
    assert "price            $5.90 an hour for 2 GPUs: Nebius on-demand, in a list read 2026-11-23" in done.stdout
    cost = json.loads(run("plan", EIGHT, "--gpu", "2x H100 SXM", "--json").stdout)["cost"]
    assert (cost["rent"]["usd_per_hour"], cost["rent"]["prices"][0]["price"]["provider"]) == (5.9, "Nebius")
    assert cost["usd_per_million_output"]["value"] > 0
    assert "price  " not in run("plan", EIGHT, "--gpu", "M4 Max 128GB").stdout
    cost = json.loads(run("plan", EIGHT, "--gpu", "M4 Max 128GB", "--json").stdout)["cost"]
    assert (cost["rent"]["usd_per_hour"], cost["rent"]["hint"]) == (None, "no price known for M4 Max 128GB: give --price")


def test_the_quick_line_and_the_full_reckoning_agree(tmp_path, monkeypatch):
    """For every GPU of the catalogue that has a price, alone and in a mixed fleet: amount, provider and day."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    from vram.cli.render.price import _own, price_line

    names = [gpu for gpu in sorted({p.gpu for p in vram.price_book().prices}) if parse_fleet(gpu).gpus[0].gpu.capacity_bytes > 20 * 2**30]
    for gpu in (*names, "1x RTX 4090 + 1x RTX 3090", "1x RTX 4090 + 1x M4 Max 128GB"):
        plan = vram.plan(EIGHT, gpu=gpu, quant="fp8", offline=True)
        assert price_line(plan) == _own(plan)
    assert price_line(vram.plan(EIGHT, gpu="RTX 4090", offline=True)).startswith("$0.74 an hour: RunPod on-demand")


def test_prices_of_ones_own_stand_beside_a_plan(tmp_path, monkeypatch):
    """The user's file decides; one that is damaged is said, and the plan is made all the same."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "vram/prices.toml"
    file.parent.mkdir()
    file.write_text('[[price]]\ngpu = "4090"\nusd_per_gpu_hour = 0.40\n')
    assert "price            $0.80 an hour for 2 GPUs: your prices.toml" in run("plan", EIGHT, "--gpu", "2x 4090").stdout
    file.write_text("[[price]]\n")
    done = run("plan", EIGHT, "--gpu", "2x 4090")
    assert done.returncode == 0
    assert "names no GPU" in done.stdout
    done = run("plan", EIGHT, "--gpu", "2x 4090", "--json")
    assert (done.returncode, json.loads(done.stdout)["cost"]) == (0, None)
    assert "names no GPU" in done.stderr
    assert run("cost", EIGHT, "--gpu", "2x 4090").returncode == 2
