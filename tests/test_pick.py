"""`vram pick`: every choice fits by the planner itself, keeps to what was asked, and says why it is there."""

import json
import shlex
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import vram
from vram.cli.main import run
from vram.errors import ExitCode, HardwareNotFoundError, ModelNotFoundError, UnknownGpuError, UsageError
from vram.planner.choosing.document import pick_document
from vram.planner.choosing.quality import Need

CARDS = ("RTX 3060 12GB", "RTX 4090", "RTX 5090", "L40S", "H100 SXM 80GB", "2x RTX 4090", "4x A100 SXM 80GB", "8x H200", "MI300X", "M4 Max 128GB", "DGX Spark")


def schema():
    from importlib.resources import files

    return json.loads((files("vram") / "schemas" / "pick.json").read_text())


def opened(choice):
    """The plan that the command of a choice makes, run as a person would."""
    words = shlex.split(choice.command)
    assert words[:2] == ["vram", "plan"]
    flags, name = words[3:], words[2]
    value = {flags[i]: flags[i + 1] for i in range(len(flags) - 1) if flags[i].startswith("--") and not flags[i + 1].startswith("--")}
    return vram.plan(
        name,
        gpu=value["--gpu"],
        engine=value["--engine"],
        quant=value.get("--quant"),
        context_tokens=int(value["--context"]),
        concurrency=int(value.get("--concurrency", 1)),
        tp=int(value["--tp"]) if "--tp" in value else None,
        pp=int(value["--pp"]) if "--pp" in value else None,
        kv_dtype=value.get("--kv-dtype"),
        offline=True,
    )


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    need=st.sampled_from(list(Need)),
    gpu=st.sampled_from(CARDS),
    context=st.sampled_from([512, 4096, 20_000, 131_072]),
    concurrency=st.sampled_from([1, 7, 64]),
    every=st.booleans(),
)
def test_every_choice_fits_and_opens(need, gpu, context, concurrency, every):
    """A choice fits by `vram.plan`; the command that it prints makes the same plan to the byte; it serves the need at that context."""
    found = vram.pick(need.value, gpu=gpu, context_tokens=context, concurrency=concurrency, every=every, limit=4)
    assert found.considered >= found.planned >= found.fitting >= len(found.choices)
    assert found.choices or found.misses
    for choice in found.choices:
        plan = opened(choice)
        assert plan.verdict is vram.Verdict.FITS
        assert plan.spare_bytes == choice.spare_bytes
        assert plan.limits == choice.limits
        assert plan.limits.max_context_tokens is None or plan.limits.max_context_tokens >= context
        assert plan.limits.max_concurrency is None or plan.limits.max_concurrency >= concurrency
        assert choice.why
        assert choice.engine in choice.command
        assert len(choice.gpus) == plan.placement.gpus


@settings(max_examples=10, deadline=None)
@given(gpu=st.sampled_from(CARDS), least=st.sampled_from([5.0, 30.0, 80.0, 200.0]), concurrency=st.sampled_from([1, 8]))
def test_the_least_speed_is_kept(gpu, least, concurrency):
    """No choice is expected to be slower than was asked; where none is left, the best that can be reached is told."""
    found = vram.pick("chat", gpu=gpu, min_tokens_per_second=least, concurrency=concurrency, limit=5)
    for choice in found.choices:
        if choice.speed is not None:
            each = choice.speed.decode_tokens_per_second.value if concurrency == 1 else 1 / choice.speed.tpot_seconds.value
            assert each >= least
    if not found.choices:
        assert any(m.bound in {"speed", "memory"} for m in found.misses)


@settings(max_examples=8, deadline=None)
@given(gpu=st.sampled_from(("8x H100 SXM 80GB", "4x L40S", "2x RTX 4090")), budget=st.floats(0.1, 30))
def test_the_budget_is_kept(gpu, budget):
    """No choice costs more an hour than was allowed; where none is left, the nearest says what it costs."""
    found = vram.pick("chat", gpu=gpu, budget_usd_per_hour=budget, limit=5)
    for choice in found.choices:
        assert choice.cost is None or choice.cost.usd_per_hour <= budget
    if not found.choices:
        assert [m for m in found.misses if m.bound == "budget"]


@pytest.mark.parametrize("licence", ["mit", "apache-2.0,mit", "permissive"])
def test_only_licences_that_were_asked_for(licence):
    """Every choice bears such a licence; models whose licence nobody looked up are left out and told."""
    found = vram.pick("chat", gpu="8x H100 SXM 80GB", licence=licence, limit=20)
    allowed = {"mit", "apache-2.0"} if licence != "mit" else {"mit"}
    assert found.choices
    assert {c.licence for c in found.choices} <= allowed | {"bsd-3-clause", "cc-by-4.0", "unlicense"}
    assert any("licence was not looked up" in note for note in found.notes)


@pytest.mark.parametrize("need", list(Need))
def test_more_memory_never_makes_the_best_choice_worse(need):
    """On cards that are alike but for their number, or their memory, the best points never fall."""
    for ladder in (
        ("RTX 4090", "2x RTX 4090", "4x RTX 4090", "8x RTX 4090"),
        ("A100 SXM 40GB", "A100 SXM 80GB", "2x A100 SXM 80GB"),
        ("RTX 3080 10GB", "RTX 3090"),
    ):
        best = []
        for gpu in ladder:
            choices = vram.pick(need.value, gpu=gpu, limit=1).choices
            best.append(choices[0].merits.best_points if choices else float("-inf"))
        assert best == sorted(best), (need, ladder, best)


def test_the_same_question_has_the_same_answer():
    """Twice asked, twice the same, also when caches are warm."""
    first, second = (pick_document(vram.pick("code", gpu="2x RTX 4090", concurrency=4)) for _ in range(2))
    assert first == second


@settings(max_examples=8, deadline=None)
@given(
    need=st.sampled_from(list(Need)),
    gpu=st.sampled_from(CARDS),
    limit=st.sampled_from([1, 5, 12]),
    least=st.sampled_from([None, 40.0]),
    budget=st.sampled_from([None, 3.0]),
    licence=st.sampled_from([None, "mit"]),
)
def test_planning_less_changes_no_answer(need, gpu, limit, least, budget, licence):
    """The best models are planned first, and no more than the answer needs: it is the answer of planning everything."""
    from vram.planner.choosing import bounding

    asked = {"gpu": gpu, "limit": limit, "min_tokens_per_second": least, "budget_usd_per_hour": budget, "licence": licence}
    some = pick_document(vram.pick(need.value, **asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounding, "STAGES", ())
        whole = pick_document(vram.pick(need.value, **asked))
    assert whole["planned"] <= whole["considered"]
    assert some["planned"] <= whole["planned"]
    for key in ("choices", "near_misses", "notes"):
        assert some[key] == whole[key]


def test_one_row_a_model_unless_all_are_asked_for():
    """By default no model, and no quantised copy of it, stands there twice; with `every` it may."""
    found = vram.pick("chat", gpu="RTX 4090", limit=40)
    from vram.picking import _quality

    models = _quality().models
    assert max(Counter(models[c.model].of for c in found.choices).values()) == 1
    both = vram.pick("chat", gpu="RTX 4090", limit=40, every=True)
    assert max(Counter(c.model for c in both.choices).values()) > 1
    points = [c.merits.points for c in both.choices]
    assert points == sorted(points, reverse=True)


def test_a_quantised_checkpoint_is_not_quantised_anew():
    """Rows with --quant are of models, not of their quantised copies."""
    found = vram.pick("chat", gpu="RTX 4090", limit=200, every=True)
    assert not [c for c in found.choices if c.quant and ("-AWQ" in c.model or "-FP8" in c.model or "NVFP4" in c.model or "GPTQ" in c.model)]


def test_what_nobody_measured_is_shown_only_when_named():
    """Quantizations without a published loss are no choices, unless one is asked for by name, and then it is said."""
    found = vram.pick("chat", gpu="RTX 4090", limit=200, every=True)
    assert all(c.merits.loss_known for c in found.choices)
    named = vram.pick("chat", gpu="RTX 4090", limit=3, quant="bnb-4bit")
    assert named.choices
    assert not any(c.merits.loss_known for c in named.choices)
    assert all("was not found" in c.why for c in named.choices)


# --- golden cases of the design -----------------------------------------------------------------------------------


def stored(choices, model):
    return [c.stored for c in choices if c.model == model]


def test_a_24_gb_card_runs_a_quantised_13b():
    """24 GB, 4,096 tokens, one sequence: a 13.7B fits in 4 bits, never in 16 (27 GB of weights), and a 70B does not at 4."""
    found = vram.pick(model="allenai/OLMo-2-1124-13B-Instruct", gpu="RTX 4090", context_tokens=4096, every=True, limit=100)
    fits = stored(found.choices, "allenai/OLMo-2-1124-13B-Instruct")
    assert {"Q4_K_M", "awq"} <= set(fits)
    assert not {"bf16", "f16", "fp16"} & set(fits)
    none = vram.pick(model="meta-llama/Llama-3.3-70B-Instruct", gpu="RTX 4090", context_tokens=4096, quant="Q4_K_M")
    assert none.choices == ()
    assert none.misses[0].bound == "memory"
    assert none.misses[0].mend


def test_an_80_gb_card_runs_a_quantised_70b():
    """80 GB, 8,192 tokens, one sequence: Llama-3.3-70B fits in 4 bits, never in 16 (141 GB of weights) nor with a fifth to spare in 8."""
    found = vram.pick(model="meta-llama/Llama-3.3-70B-Instruct", gpu="H100 SXM 80GB", context_tokens=8192, every=True, limit=100)
    fits = stored(found.choices, "meta-llama/Llama-3.3-70B-Instruct")
    assert {"Q4_K_M", "awq"} <= set(fits)
    assert not {"bf16", "f16", "fp8", "Q8_0"} & set(fits)


def test_a_larger_card_is_given_a_larger_model():
    """For chat, at 8,192 tokens: at least a 13B-class model on 24 GB, and more parameters on 8 x 80 GB."""
    one, node = (vram.pick("chat", gpu=gpu, limit=1).choices[0].merits for gpu in ("RTX 4090", "8x H100 SXM 80GB"))
    assert one.parameters > 13e9
    assert node.parameters > 200e9


def test_embedding_models_are_planned_with_a_batch():
    """Embedding asks for 32 passages of 512 tokens; encoders are among the choices, and no rate of writing is claimed."""
    found = vram.pick("embedding", gpu="RTX 4090", limit=50)
    assert (found.ask.context_tokens, found.ask.concurrency) == (512, 32)
    assert {"BAAI/bge-m3", "Qwen/Qwen3-Embedding-8B"} <= {c.model for c in found.choices}
    assert all(c.cost is None or c.cost.usd_per_million_output_tokens is None for c in found.choices)


# --- cards for a model --------------------------------------------------------------------------------------------


def test_the_cheapest_and_the_fastest_cards():
    """For a model without cards: the first choice is the cheapest of all, one is told as the fastest, and no kind of card is listed twice by price."""
    found = vram.pick(model="Qwen/Qwen3-8B", context_tokens=16_384, limit=10)
    assert found.fleet == ""
    prices = [c.cost.usd_per_hour for c in found.choices if c.cost]
    assert found.choices[0].cost.usd_per_hour == min(prices)
    fastest = [c for c in found.choices if "the fastest" in c.why]
    assert len(fastest) == 1
    rate = fastest[0].speed.decode_tokens_per_second.value
    assert rate >= max(c.speed.decode_tokens_per_second.value for c in found.choices if c.speed) * 0.98
    for choice in found.choices:
        assert choice.model == "Qwen/Qwen3-8B"
        assert choice.merits.loss is None or choice.merits.loss.share < 0.08
        plan = opened(choice)
        assert (plan.verdict, plan.spare_bytes) == (vram.Verdict.FITS, choice.spare_bytes)


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B"])
def test_at_one_price_loss_decides_among_what_is_half_as_fast(model):
    """Of all rows at the price of the one shown, none at least half as fast as the fastest loses a tenth of a point less; and none as good is faster."""
    found = vram.pick(model=model, context_tokens=8_192, limit=6)
    cheapest = [c for c in found.choices if "cheapest" in c.why or "by price" in c.why]
    assert cheapest
    for choice in cheapest[:2]:
        fleet = f"{len(choice.gpus)}x {choice.gpus[0]}"
        every = vram.pick(model=model, gpu=fleet, context_tokens=8_192, limit=500, every=True).choices
        rows = [c for c in every if len(c.gpus) == len(choice.gpus) and c.speed and c.merits.points >= c.merits.best_points - 0.6]
        rates = [c.speed.decode_tokens_per_second.value for c in rows]
        enough = [c for c, rate in zip(rows, rates, strict=True) if rate >= max(rates) / 2]
        best = max(c.merits.points for c in enough)
        assert choice.merits.points >= best - 0.1001
        alike = max(c.speed.decode_tokens_per_second.value for c in enough if c.merits.points >= best - 0.0999)
        assert choice.speed.decode_tokens_per_second.value >= alike * 0.999


def test_a_model_of_ones_own(tmp_path):
    """A config on disk that no catalogue knows is chosen cards for, and its command names the path."""
    from vram.catalog import find

    (tmp_path / "config.json").write_text(json.dumps({**find("Qwen/Qwen3-8B").config, "num_hidden_layers": 30}))
    found = vram.pick(model=str(tmp_path), gpu="RTX 4090", limit=3, every=True)
    assert found.choices
    for choice in found.choices:
        assert shlex.split(choice.command)[2] == str(tmp_path)
        assert opened(choice).spare_bytes == choice.spare_bytes


def test_a_price_of_ones_own_decides():
    """A card that costs nothing is the cheapest."""
    from vram.pricing import stated_price

    found = vram.pick(model="Qwen/Qwen3-8B", prices={"H200 SXM 141GB": stated_price("H200 SXM 141GB", 0.001)})
    assert found.choices[0].gpus == ("H200 SXM 141GB",)


# --- this machine -------------------------------------------------------------------------------------------------


def machine(*names, used=0):
    """A fleet as a probe would find it."""
    from dataclasses import replace

    from vram.hardware.fleet import Fleet, Origin

    fleet = Fleet.of([vram.parse_gpus(name).gpus[0].gpu for name in names])
    members = tuple(replace(m, identifier=f"GPU-{m.index}", used_bytes=used * (m.index + 1)) for m in fleet.gpus)
    return replace(fleet, gpus=members, origin=Origin.DETECTED)


@pytest.mark.parametrize("names", [("RTX 4090",), ("RTX 4090", "RTX 4090"), ("RTX 3060 12GB", "RTX 4090", "RTX 4090")])
def test_commands_for_this_machine(names):
    """Without --gpu a command means the cards found: with the split where fewer are used, with the others hidden where not the first are meant."""
    fleet = machine(*names, used=2**29)
    found = vram.pick("chat", gpu=fleet, limit=6, every=True)
    assert found.choices
    for choice in found.choices:
        assert "--gpu" not in choice.command
        words = shlex.split(choice.command)
        shown = fleet
        if "VISIBLE_DEVICES" in words[0]:
            shown = fleet.only(int(i) for i in words.pop(0).split("=")[1].split(","))
        value = {a: b for a, b in pairwise(words) if a.startswith("--")}
        plan = vram.plan(
            words[2],
            gpu=shown,
            engine=value["--engine"],
            quant=value.get("--quant"),
            context_tokens=int(value["--context"]),
            tp=int(value["--tp"]) if "--tp" in value else None,
            pp=int(value["--pp"]) if "--pp" in value else None,
            offline=True,
        )
        assert (plan.verdict, plan.spare_bytes) == (vram.Verdict.FITS, choice.spare_bytes)
        assert tuple(g.name for g in plan.gpus) == choice.gpus


# --- answers that are no choices ----------------------------------------------------------------------------------


def test_nothing_is_never_a_bare_no():
    """Each bound that leaves nothing is told with what came nearest and what would let it in."""
    cases = {
        "memory": {"gpu": "RTX 3050 Laptop 4GB", "context_tokens": 131_072, "concurrency": 64},
        "speed": {"gpu": "RTX 3060 12GB", "min_tokens_per_second": 5000.0},
        "budget": {"gpu": "H100 SXM 80GB", "budget_usd_per_hour": 0.01},
        "context": {"gpu": "8x H200", "context_tokens": 15_000_000},
    }
    for bound, asked in cases.items():
        found = vram.pick("chat", **asked)
        assert found.choices == (), bound
        mine = [m for m in found.misses if m.bound == bound]
        assert mine, (bound, found.misses)
        assert all(m.reason for m in mine)
        if bound in {"speed", "budget", "context"}:
            assert all(m.mend for m in mine)


def test_no_plan_at_all_is_told():
    """Where no engine is documented to run such weights on such cards, that is said."""
    found = vram.pick("chat", gpu="M4 Max 128GB", engine="vllm")
    assert (found.considered, found.choices) == (0, ())
    assert any("documented" in note for note in found.notes)


def test_many_cards_of_a_kind_and_several_kinds():
    """More cards than any split takes, and kinds mixed, are no error: sets of one kind are chosen."""
    found = vram.pick("chat", gpu="24x RTX 4090 + 2x H100 SXM 80GB", limit=3)
    assert found.choices
    assert all(len(set(c.gpus)) == 1 and len(c.gpus) <= 16 for c in found.choices)


def test_what_would_rank_higher_is_told():
    """A near miss beside choices is a model that would rank above the first of them, and only tight."""
    found = vram.pick("chat", gpu="2x RTX 4090")
    for miss in found.misses:
        assert miss.verdict is vram.Verdict.TIGHT
        assert miss.model not in {c.model for c in found.choices}


@pytest.mark.parametrize(
    ("asked", "error", "hint"),
    [
        ({"need": "chatt"}, UsageError, "chat"),
        ({"need": "poetry"}, UsageError, "embedding"),
        ({"sort": "beauty"}, UsageError, "quality"),
        ({"engine": "vlm"}, UsageError, "vllm"),
        ({"engine": "generic"}, UsageError, "vllm"),
        ({"engine": "vllm@0.19.0"}, UsageError, "vllm"),
        ({"need": "code", "model": "BAAI/bge-m3"}, UsageError, "embedding"),
        ({"need": "chat", "model": "meta-llama/Llama-3.1-8B"}, UsageError, "leave the need out"),
        ({"quant": "Q4_K_X"}, UsageError, "Q4_K"),
        ({"gpu": "RTX 9999"}, UnknownGpuError, ""),
        ({"context_tokens": 0}, UsageError, "1"),
        ({"concurrency": -1}, UsageError, "1"),
        ({"min_tokens_per_second": float("nan")}, UsageError, "0"),
        ({"budget_usd_per_hour": -2.0}, UsageError, "0"),
        ({"limit": 0}, UsageError, "1"),
        ({"model": "Qwen/Qwen3-8C"}, ModelNotFoundError, "Qwen3-8B"),
    ],
)
def test_bad_input_has_a_hint(asked, error, hint, monkeypatch):
    """What makes no sense is refused with what would."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(error) as caught:
        vram.pick(**{"gpu": "RTX 4090", **asked})
    assert hint in caught.value.hint


def test_no_card_found_is_exit_code_5(capsys, monkeypatch):
    """Without a card on this machine and none named, the hint says what to type."""
    from vram import picking

    def none():
        raise HardwareNotFoundError("no GPU was found", hint='name one: --gpu "RTX 4090"')

    monkeypatch.setattr(picking, "detect", none)
    assert run(["pick", "chat"]) == ExitCode.NO_HARDWARE
    assert "hint: " in capsys.readouterr().err


# --- screens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["chat", "--gpu", "RTX 4090"],
        ["--model", "Qwen/Qwen3-8B"],
        ["chat", "--gpu", "RTX 3060 12GB", "--min-speed", "9999"],
        ["embedding", "--gpu", "L40S", "--all"],
    ],
)
def test_json_keeps_to_its_schema(words, capsys):
    """What --json prints is what `vram schema pick` says; numbers are numbers."""
    code = run(["pick", *words, "--limit", "3", "--json"])
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(schema()).validate(document)
    assert code == (ExitCode.OK if document["choices"] else ExitCode.DOES_NOT_FIT)


def test_quiet_prints_commands_only(capsys):
    """One command a line, each ready to paste."""
    assert run(["pick", "chat", "--gpu", "RTX 4090", "--limit", "2", "-q"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("vram plan ") for line in lines)


def test_a_page_and_a_picture(tmp_path, capsys):
    """--html and --svg write files that name every choice and load nothing from elsewhere."""
    page, picture = tmp_path / "a.html", tmp_path / "a.svg"
    assert run(["pick", "code", "--gpu", "2x RTX 4090", "--limit", "3", "--html", str(page), "--svg", str(picture), "--json"]) == ExitCode.OK
    names = [c["model"] for c in json.loads(capsys.readouterr().out)["choices"]]
    for text in (page.read_text(), picture.read_text()):
        assert all(name in text for name in names)
        assert "<script" not in text
        assert "src=" not in text


def test_the_picture_is_as_wide_as_the_terminal(capsys, monkeypatch):
    """Lines keep to the width, but for commands, which are to be pasted."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(["pick", "chat", "--gpu", "RTX 4090", "--limit", "3"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines() if "vram plan" not in line)


def test_a_card_of_which_only_the_size_is_said_is_refused_with_cards_of_that_size():
    """Engines are documented by maker and generation: a size alone chooses none, and the hint leads on."""
    with pytest.raises(UsageError) as caught:
        vram.pick("chat", gpu="24GiB")
    assert "RTX 4090 24GB" in (caught.value.hint or "")


@pytest.mark.parametrize(("typed", "meant"), [("permisive", "permissive"), ("apache2", "apache-2.0")])
def test_a_licence_that_no_model_has_is_a_slip(typed, meant):
    """A typo is no bound that leaves nothing."""
    with pytest.raises(UsageError) as caught:
        vram.pick("chat", gpu="RTX 4090", licence=typed)
    assert meant in (caught.value.hint or "")


def test_what_was_released_in_four_bits_is_not_told_to_lose_by_four_bits():
    """Kimi-K2.5 is published as integers of four bits: no engine's four bits are made of it anew, and as published it loses nothing."""
    found = vram.pick(model="moonshotai/Kimi-K2.5", gpu="8x H200", every=True, limit=60)
    assert not {c.quant for c in found.choices} & {"w4a16", "awq", "gptq-4bit", "nvfp4", "mxfp4", "bnb-4bit"}
    assert any(c.quant is None and c.merits.loss is None for c in found.choices)


def test_no_card_is_called_the_fastest_whose_speed_is_not_known():
    """Of encoders no speed is known: cards are told by price, and none is praised for its speed."""
    found = vram.pick(model="BAAI/bge-m3", limit=6)
    assert len(found.choices) == 6
    assert all(c.speed is None for c in found.choices)
    assert not any("fastest" in c.why or "by speed" in c.why for c in found.choices)
