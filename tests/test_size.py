"""`vram size` and `vram.size`: the answer is the cheapest by brute force, keeps its level where one replica less does not, and what cannot be had is said."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

import vram
from vram.cli.main import run
from vram.engines.base import Settings
from vram.errors import ExitCode, UnmetError, UsageError
from vram.planner.make import make_plan
from vram.planner.simulate.from_plan import replica_of
from vram.planner.simulate.generate import Fixed, Load, LogNormal, generate
from vram.planner.simulate.request import Request
from vram.planner.simulate.run import simulate
from vram.planner.simulate.spec import PoolSpec
from vram.planner.size.levels import Level, Levels, Metric
from vram.planner.size.longer import Longer
from vram.planner.size.options import CHUNKS, SEQUENCES, options
from vram.planner.size.replayer import verdict_of
from vram.planner.size.search import Why
from vram.sizing import Demanded, offers, pools_of, requests_of, size
from vram.sources.pools import read_pools

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
TRACE = tuple(generate(Load(per_second=4, seconds=90, prompt=LogNormal(median=1500, sigma=0.8, most=7000), output=Fixed(tokens=60), variation=2, seed=3)))
ASKED = Levels(times=(Level(metric=Metric.TTFT, share=0.95, seconds=0.5), Level(metric=Metric.TPOT, share=0.95, seconds=0.05)))
CROWD = tuple(Request(arrival_seconds=0.0, prompt_tokens=1500, output_tokens=20) for _ in range(300))
GPUS = ("1x L40S", "2x L40S", "1x A100 SXM 80GB", "1x H100 SXM")


@pytest.fixture(scope="module")
def sizing():
    return size(MODEL, TRACE, levels=ASKED, gpus=GPUS, offline=True)


def replayed(gpu, chunk, replicas):
    settings = Settings() if chunk is None else Settings(max_batched_tokens=chunk, max_num_seqs=SEQUENCES)
    context = -(-max(r.prompt_tokens + r.output_tokens for r in TRACE) // 256) * 256
    plan = make_plan(vram.load_model(MODEL, offline=True), vram.parse_gpus(gpu), engine="vllm", context_tokens=context, settings=settings)
    return simulate(TRACE, [PoolSpec(name="p", replica=replica_of(plan), replicas=replicas)])


def test_the_answer_is_the_cheapest_by_brute_force(sizing):
    """Every GPU choice, step size and number of replicas up to seven is replayed: nothing that keeps the levels costs less."""
    best = None
    for offer in offers(GPUS):
        for chunk in (None, *CHUNKS):
            for n in range(1, 8):
                if verdict_of(replayed(offer.fleet.name, chunk, n), ASKED).met:
                    cost = n * offer.nanodollars_per_hour
                    best = cost if best is None else min(best, cost)
                    break
    (pool,) = sizing.pools
    assert pool.chosen.nanodollars_per_hour == best
    assert pool.chosen.verdict.met


def test_one_replica_less_breaks_the_levels(sizing):
    """The answer needs all of its replicas, and the neighbours are replays of what is written."""
    (pool,) = sizing.pools
    if pool.fewer is not None:
        assert pool.fewer.replicas == pool.chosen.replicas - 1
        assert not pool.fewer.verdict.met
    assert pool.more.replicas == pool.chosen.replicas + 1
    again = simulate(TRACE, [PoolSpec(name="p", replica=pool.candidate.spec, replicas=pool.chosen.replicas)])
    assert verdict_of(again, ASKED) == pool.chosen.verdict


def test_what_is_unsure_is_replayed(sizing):
    """With every step as long as its band allows, so many replicas keep the levels, and one less does not."""
    (pool,) = sizing.pools
    slow = pool.slow
    assert slow.factor > 1

    def met(n):
        clock = Longer(clock=pool.candidate.spec.clock, factor=slow.factor)
        return verdict_of(simulate(TRACE, [PoolSpec(name="p", replica=replace(pool.candidate.spec, clock=clock), replicas=n)]), ASKED).met

    assert slow.verdict.met is met(pool.chosen.replicas)
    if slow.replicas is None:
        assert not met(50)
    else:
        assert met(slow.replicas)
        assert slow.replicas == pool.chosen.replicas or not met(slow.replicas - 1)


def test_room_for_slow_steps_can_be_asked_for(sizing):
    """Sized for slower steps, the answer costs no less, and it is told against the prediction how unsure it is."""
    roomy = size(MODEL, TRACE, levels=ASKED, gpus=GPUS, slower=1.3, offline=True)
    assert roomy.nanodollars_per_hour >= sizing.nanodollars_per_hour
    assert roomy.pools[0].slow.factor == sizing.pools[0].slow.factor


def test_the_money_is_price_times_replicas(sizing):
    """Dollars an hour are the list's for each GPU; dollars a million tokens are those of the hours that the replay takes."""
    (pool,) = sizing.pools
    each = vram.price_book().offers(pool.candidate.plan.fleet.gpus[0].gpu.name).taken.usd_per_gpu_hour
    assert sizing.usd_per_hour == pytest.approx(each * pool.candidate.gpus * pool.chosen.replicas)
    summary = pool.chosen.outcome.summary
    tokens = sum(r.prompt_tokens + r.output_tokens for r in TRACE)
    assert pool.usd_per_million_tokens == pytest.approx(sizing.usd_per_hour * summary.seconds / 3600 / tokens * 1e6)


def test_the_pools_file_is_what_was_chosen(sizing, tmp_path):
    """Written and read back, the file's pool plans to the replica that was replayed."""
    from vram.sources.pools import write_pools

    write_pools(tmp_path / "pools.toml", pools_of(sizing))
    (pool,) = read_pools(tmp_path / "pools.toml").pools
    (chosen,) = sizing.pools
    s = pool.settings
    plan = vram.plan(
        pool.model,
        gpu=pool.gpu,
        engine=pool.engine,
        tp=pool.placement.tp,
        context_tokens=s.context_tokens,
        max_num_seqs=s.max_num_seqs,
        max_batched_tokens=s.max_batched_tokens,
        offline=True,
    )
    again, spec = replica_of(plan), chosen.candidate.spec
    assert (again.blocks, again.rule, again.max_model_len, again.max_num_seqs, again.max_batched_tokens) == (
        spec.blocks,
        spec.rule,
        spec.max_model_len,
        spec.max_num_seqs,
        spec.max_batched_tokens,
    )
    assert pool.size == chosen.chosen.replicas
    assert pool.capacity.kv_blocks == spec.blocks
    assert pool.dollars_per_hour == chosen.candidate.usd_per_hour


def test_the_written_file_replays_to_the_same_figures(sizing, tmp_path):
    """`vram.simulate` of the written file gives every request the times that the sizing stands on."""
    from vram.sources.pools import write_pools

    write_pools(tmp_path / "pools.toml", pools_of(sizing))
    again = vram.simulate(TRACE, tmp_path / "pools.toml", offline=True)
    assert again.served == sizing.pools[0].chosen.outcome.served


def test_json_is_the_published_schema(sizing):
    """The document holds to vram.size/1, and its figures are the answer's."""
    document = json.loads(json.dumps(vram.size_document(sizing)))
    jsonschema.validate(document, json.loads((files("vram") / "schemas" / "size.json").read_text()))
    (pool,) = document["pools"]
    assert pool["chosen"]["met"] is True
    assert pool["load"]["requests"] == len(TRACE)
    assert {a["gpu"] for a in pool["alternatives"]} | {pool["gpu"]} == {o.fleet.name for o in offers(GPUS)}


def test_two_models_cost_their_sum():
    """Each model's pool is what it would be alone."""
    requests = TRACE[:60]
    pair = size([Demanded(model=MODEL, requests=requests), Demanded(model="Qwen/Qwen3-0.6B", requests=requests, name="small")], gpus=("1x L40S",), offline=True)
    alone = size(MODEL, requests, gpus=("1x L40S",), offline=True)
    assert [p.load.model for p in pair.pools] == [MODEL, "small"]
    assert pair.pools[0].chosen.verdict == alone.pools[0].chosen.verdict
    assert pair.nanodollars_per_hour == sum(p.chosen.nanodollars_per_hour for p in pair.pools)
    assert [r.model for r in pools_of(pair).routes] == [MODEL, "small"]


def test_rivals_are_priced_exactly(sizing):
    """Of other kinds of GPU that are asked for, the price is that of a sizing with that kind alone, and no less than the answer's."""
    told = size(MODEL, TRACE, levels=ASKED, gpus=GPUS, rivals=5, offline=True)
    (pool,) = told.pools
    assert told.nanodollars_per_hour == sizing.nanodollars_per_hour
    kinds = {"L40S 48GB": ("1x L40S", "2x L40S"), "A100 SXM 80GB": ("1x A100 SXM 80GB",), "H100 SXM 80GB": ("1x H100 SXM",)}
    able = {t.candidate.kind for t in pool.tried if t.why is not Why.FLOOR}
    assert {t.candidate.kind for t in pool.rivals} | {pool.candidate.kind} == able
    assert len(able) >= 2
    for t in pool.rivals:
        alone = size(MODEL, TRACE, levels=ASKED, gpus=kinds[t.candidate.kind], offline=True)
        assert t.nanodollars_per_hour == alone.nanodollars_per_hour >= told.nanodollars_per_hour
        assert any(a.exact and a.nanodollars_per_hour == t.nanodollars_per_hour for a in pool.alternatives)


def test_cards_that_an_engine_is_not_known_to_run_on_are_no_choice():
    """vLLM wants compute capability 7.5: a V100 (7.0) is left out of the choice, with the reason, and taken when it is named."""
    found, rejected = options(vram.load_model("Qwen/Qwen3-0.6B", offline=True), offers(()), replica_of, engine="vllm", context_tokens=2048, stored="")
    assert not [c for c in found if "V100" in c.gpu]
    assert [r for r in rejected if "V100" in r.gpu and "no page of vllm" in r.why]
    assert "V100" in size("Qwen/Qwen3-0.6B", TRACE[:10], gpus=("1x V100 SXM2 16GB",), offline=True).pools[0].candidate.gpu


def test_a_published_trace_is_sized_over_every_card_with_a_price():
    """The head of the Azure code trace, as published, for an 8B and a 70B: the levels hold, one replica less breaks them, and no other offer is cheaper."""
    path = Path(__file__).parents[1] / "truth" / "traces" / "azure_llm_2023_code.csv.gz"
    requests, skipped = requests_of(path, first=400)
    assert (len(requests), skipped) == (400, 0)
    answer = size([Demanded(model=MODEL, requests=requests), Demanded(model="meta-llama/Llama-3.1-70B-Instruct", requests=requests)], offline=True)
    for pool in answer.pools:
        assert pool.chosen.verdict.met
        assert pool.fewer is None or not pool.fewer.verdict.met
        assert all(a.nanodollars_per_hour == 0 or a.nanodollars_per_hour >= pool.chosen.nanodollars_per_hour for a in pool.alternatives)
        assert len({t.candidate.gpu for t in pool.tried} | {r.gpu for r in pool.rejected}) == len(offers(()))


def test_all_gpus_of_a_replica_are_used():
    """--tp 2 takes pairs and nothing else; what one replica costs is what its GPUs cost."""
    answer = size(MODEL, TRACE[:30], gpus=("L40S",), tp=2, offline=True)
    (pool,) = answer.pools
    assert (pool.candidate.gpus, pool.candidate.plan.placement.tp) == (2, 2)
    assert {r.gpu for r in pool.rejected} == {"L40S 48GB", "4x L40S 48GB", "8x L40S 48GB"}
    assert answer.gpus == 2 * pool.chosen.replicas


def ask(**change):
    return size(**{"demands": MODEL, "trace": TRACE, "gpus": ("1x L40S",), "offline": True, **change})


@pytest.mark.parametrize(
    ("change", "error", "says", "hints"),
    [
        (
            {"levels": Levels(times=(Level(metric="ttft", share=0.99, seconds=0.01),))},
            UnmetError,
            "no number of replicas keeps p99 TTFT at 0.01 s",
            "--ttft-p99",
        ),
        ({"levels": Levels(times=(Level(metric="tpot", share=0.9, seconds=0.0001),))}, UnmetError, "no number of replicas keeps p90 TPOT", "--tpot-p90"),
        (
            {"max_replicas": 1, "levels": Levels(times=(Level(metric="ttft", share=0.95, seconds=0.6),))},
            UnmetError,
            "1 replicas are not enough",
            "--max-replicas",
        ),
        ({"budget_usd": 0.01}, UnmetError, "more than $0.01", "--budget"),
        ({"gpus": ("1x T4",)}, UsageError, "no price is known of T4 16GB", '--price "T4 16GB='),
        ({"gpus": ("1x RTX 4000 Ada",), "demands": "meta-llama/Llama-3.1-70B-Instruct"}, UnmetError, "fits on none", "--quant"),
        ({"trace": ()}, UsageError, "no request asks for", "--model NAME=MODEL"),
        ({"trace": None}, UsageError, "no requests", "trace"),
        ({"engine": "vlm"}, UsageError, "vlm", "vllm"),
        ({"kv_dtype": "fp3"}, UsageError, "fp3", "fp8"),
        ({"demands": "BAAI/bge-m3"}, UsageError, "writes no answers", "vram plan"),
        ({"provider": "nobody"}, UsageError, "nobody", ""),
        (
            {"trace": (Request(arrival_seconds=0, prompt_tokens=9, output_tokens=5), Request(arrival_seconds=1, prompt_tokens=200_000, output_tokens=5))},
            UnmetError,
            "longer than",
            "--max-refusals 0.5",
        ),
        # Where no request fits, letting them be refused would serve nobody.
        (
            {"trace": tuple(Request(arrival_seconds=i, prompt_tokens=200_000 + i, output_tokens=5) for i in range(2))},
            UnmetError,
            "was made for 131,072 tokens; the shortest of the 2 has 200,005, the longest 200,006",
            "longer contexts",
        ),
        (
            {"trace": (Request(arrival_seconds=5, prompt_tokens=9, output_tokens=5), Request(arrival_seconds=1, prompt_tokens=9, output_tokens=5))},
            UsageError,
            "arrives",
            "sort",
        ),
        (
            {"gpus": ("1x RTX 4090",), "trace": (Request(arrival_seconds=0, prompt_tokens=120_000, output_tokens=5),)},
            UnmetError,
            "fits: the shortest has 120,005 tokens, the longest 120,005; the most that any of the GPUs holds",
            "--quant fp8",
        ),
    ],
)
def test_what_cannot_be_had_is_said_with_what_would_make_it_possible(change, error, says, hints):
    """Impossible levels, budgets, GPUs without price or room, requests that no pool holds, traces that are none."""
    with pytest.raises(error) as e:
        ask(**change)
    assert says in e.value.message
    assert hints in e.value.hint


def test_what_a_hint_says_makes_it_possible():
    """The level that the error names is one that can be kept; the share that it says may be refused lets the rest be served."""
    with pytest.raises(UnmetError) as e:
        ask(levels=Levels(times=(Level(metric="ttft", share=0.99, seconds=0.01),)))
    flag, value = e.value.hint.split()[:2]
    assert flag == "--ttft-p99"
    from vram.units import parse_seconds

    assert ask(levels=Levels(times=(Level(metric="ttft", share=0.99, seconds=parse_seconds(value)),)), max_replicas=4096).usd_per_hour > 0
    long = (*TRACE[:50], Request(arrival_seconds=99, prompt_tokens=120_000, output_tokens=5))
    with pytest.raises(UnmetError) as e:
        ask(trace=long, gpus=("1x RTX 4090",))
    words = e.value.hint.split()
    context, refusals = (int(words[words.index("--context") + 1]), float(words[words.index("--max-refusals") + 1]))
    relaxed = Levels(times=ASKED.times, refused_share=refusals)
    answer = ask(
        trace=long,
        gpus=("1x RTX 4090",),
        levels=Levels(times=(Level(metric="ttft", share=0.9, seconds=5.0),), refused_share=relaxed.refused_share),
        context_tokens=context,
    )
    assert answer.pools[0].chosen.verdict.refused == 1


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "trace.csv"
    lines = [f"{r.arrival_seconds:.3f},{r.prompt_tokens},{r.output_tokens},{'a' if i % 3 else 'b'}" for i, r in enumerate(TRACE[:90])]
    path.write_text("timestamp,input_length,output_length,model\n" + "\n".join(lines) + "\n")
    return path


def test_the_command_prints_writes_and_draws(csv, tmp_path, capsys, monkeypatch):
    """One run: the answer on stdout, files where they were asked for, all well formed; the words of the answer are those of the JSON."""
    monkeypatch.setenv("COLUMNS", "110")
    out, html, svg = (tmp_path / name for name in ("pools.toml", "size.html", "use.svg"))
    base = ["size", "--model", "b=Qwen/Qwen3-0.6B", "--model", f"a={MODEL}", "--trace", str(csv), "--gpu", "L40S", "--offline"]
    assert run([*base, "--out", str(out), "--html", str(html), "--svg", str(svg)]) == ExitCode.OK
    said = capsys.readouterr()
    assert "an hour for" in said.out
    assert "asked     p99 TTFT 2 s, p99 TPOT 100 ms, none refused" in said.out
    assert f"wrote {out}" in said.err
    assert "\x1b" not in said.out
    pools = read_pools(out)
    assert [r.model for r in pools.routes] == ["b", "a"]
    assert out.read_text().startswith("#:schema ./pools.schema.json")
    ET.fromstring(svg.read_text())  # noqa: S314  (our own file)
    page = html.read_text()
    assert "<svg" in page
    assert "[[pools]]" in page
    assert run([*base, "--json"]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, json.loads((files("vram") / "schemas" / "size.json").read_text()))
    assert [p["load"]["requests"] for p in document["pools"]] == [30, 60]
    assert run([*base, "--quiet"]) == ExitCode.OK
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_hostile_names_are_only_names(csv, tmp_path, capsys):
    """Whatever a public name holds: the terminal gets no command, the pools file and the report hold it as text."""
    name = '\x1b[2J</script><b>"\n[[pools]]'
    out, html = tmp_path / "pools.toml", tmp_path / "size.html"
    words = ["size", "--model", f"{name}=Qwen/Qwen3-0.6B", "--trace", str(csv), "--gpu", "1x L40S", "--offline", "--out", str(out), "--html", str(html)]
    for more in ([], ["--quiet"], ["--json"]):
        assert run([*words, *more]) == ExitCode.OK
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err
    (_pool,) = read_pools(out).pools
    assert read_pools(out).routes[0].model == name
    assert "<b>" not in html.read_text()


def test_shares_and_rates(capsys):
    """A stream of a rate dealt four to one: each model gets its share, spread over the whole time."""
    base = ["size", "--model", "x=Qwen/Qwen3-0.6B", "--model", "y=Qwen/Qwen3-1.7B", "--share", "4", "--share", "1", "--rate", "5", "--duration", "60s"]
    assert run([*base, "--prompt", "200-800", "--output", "50~0.5", "--gpu", "1x L40S", "--offline", "--json"]) == ExitCode.OK
    loads = [p["load"] for p in json.loads(capsys.readouterr().out)["pools"]]
    assert loads[0]["requests"] == pytest.approx(4 * loads[1]["requests"], abs=4)
    assert all(load["seconds"] > 50 for load in loads)


@pytest.mark.parametrize(
    ("args", "code", "says", "hints"),
    [
        (["--trace", "CSV", "--rate", "5"], 2, "a trace and a rate", "--trace FILE"),
        ([], 2, "a trace or a rate is needed", "--rate 5"),
        (["--trace", "CSV", "--trace", "CSV"], 2, "2 traces for 1 models", "one --trace"),
        (["--trace", "CSV", "--share", "0.5"], 0, "", ""),
        (["--trace", "CSV", "--share", "0.5", "--share", "1"], 2, "2 shares for 1 models", "one --share"),
        (["--rate", "5", "--prompt", "many"], 2, "--prompt 'many' are no lengths", "--prompt 1024"),
        (["--rate", "5", "--prompt", "9-2"], 2, "are no lengths", "even"),
        (["--rate", "-5"], 2, "requests a second", "above 0"),
        (["--rate", "5", "--duration", "soon"], 2, "not a span of time", "200ms"),
        (["--trace", "none.csv"], 2, "none.csv", "trace"),
        (["--trace", "CSV", "--ttft-p99", "0s"], 2, "more than no time", "200ms"),
        (["--trace", "CSV", "--ttft-p99", "1ms"], 3, "no number of replicas", "--ttft-p99"),
        (["--trace", "CSV", "--gpu", "L40S", "--price", "much"], 2, "no amount", "dollars"),
        (["--trace", "CSV", "--max-refusals", "1.5"], 2, "--max-refusals", "0.01"),
        (["--trace", "CSV", "--model", "=x"], 2, "names nothing", "NAME=MODEL"),
        (["--trace", "CSV", "--model", f"{'x' * 300}=Qwen/Qwen3-0.6B"], 2, "public name", "200"),
        (["--trace", "CSV", "--kind", "gifted"], 2, "gifted", "on-demand"),
        (["--trace", "CSV", "--budget", "0.001"], 3, "more than", "--budget"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(csv, capsys, args, code, says, hints):
    """Two lines on stderr, nothing on stdout, the exit code of the table."""
    words = [str(csv) if a == "CSV" else a for a in args]
    assert run(["size", "--model", "Qwen/Qwen3-0.6B", *([] if "--gpu" in words else ["--gpu", "1x L40S"]), *words, "--offline", "--quiet"]) == code
    said = capsys.readouterr()
    if code:
        assert said.out == ""
        assert says in said.err
        assert "hint: " in said.err
        assert hints in said.err.split("hint: ")[1]


def test_starting_the_command_loads_no_simulator():
    """`vram size --help` and the other commands do not pay for it."""
    code = "import sys; from vram.cli.main import run; run(['size', '--help']); print([m for m in sys.modules if m.startswith(('vram.planner', 'vram.costs', 'vram.readers'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_card_that_the_engines_own_share_overfills_is_offered_with_a_smaller_one():
    """2 cards of 12 GB cannot start vLLM at its default share of 0.92; a smaller share serves, and the pools file says it."""
    requests = generate(Load(per_second=1, seconds=30, prompt=Fixed(tokens=500), output=Fixed(tokens=50), seed=1))
    found = size(Demanded(model="Qwen/Qwen3-8B", requests=tuple(requests)), gpus=["2x RTX 3060 12GB"], price_usd=0.1, offline=True)
    share = pools_of(found).pools[0].settings.gpu_memory_utilization
    assert share is not None
    assert share < 0.92
    with pytest.raises(UnmetError) as caught:
        size(Demanded(model="Qwen/Qwen3-8B", requests=tuple(requests)), gpus=["2x RTX 3060 12GB"], price_usd=0.1, gpu_memory_utilization=0.92, offline=True)
    assert "more than a GPU has" in caught.value.message
    assert "--gpu-memory-utilization" in (caught.value.hint or "")
