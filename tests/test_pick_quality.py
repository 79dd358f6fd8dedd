"""The facts that choices are ranked by: every one has a source, and what the catalogue itself says agrees."""

import json
import re
from math import log
from pathlib import Path

import pytest

import vram
from vram.catalog import find, names, quality
from vram.planner.choosing.quality import Need, Quality

DOCUMENT = quality()
FACTS = Quality.of(DOCUMENT)
IDS = set(names())


def test_every_source_is_spelled_out():
    """A value's source is an entry of the table of sources, or an arXiv number."""
    used = {f["source"] for f in [*DOCUMENT["quants"].values(), *DOCUMENT["generations"].values()]}
    used |= {source for m in DOCUMENT["models"].values() for source in m["needs"].values()}
    used |= {v for entry in DOCUMENT["exchange"].values() for k, v in entry.items() if k.endswith("source")}
    assert [s for s in used if s not in DOCUMENT["sources"] and not re.fullmatch(r"arXiv \d{4}\.\d{5}", s)] == []


def test_models_are_the_catalogues():
    """Every model, and every model that a checkpoint was made of, is in the catalogue; a copy serves nothing that its model does not."""
    for name, fitness in FACTS.models.items():
        assert {name, fitness.of} <= IDS
        assert fitness.needs
        if fitness.of != name:
            assert set(fitness.needs) <= set(FACTS.models[fitness.of].needs), name


@pytest.mark.parametrize("name", sorted(DOCUMENT["generations"]))
def test_a_generations_month_is_what_its_source_says(name):
    """Months from the catalogue are a repository's, months from a name are in a name, and an arXiv number begins with its month."""
    facts = DOCUMENT["generations"][name]
    assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", facts["released"])
    year, month = facts["released"].split("-")
    words = name.lower().split()
    mine = [i for i in IDS if all(w in i.lower() for w in words)]
    if facts["source"] == "catalogue":
        assert facts["released"] in {(find(i).released or "")[:7] for i in mine}
    elif facts["source"] == "name":
        codes = {year[2:] + month, month + year[2:]}
        of_this = [i for i, f in DOCUMENT["models"].items() if f["generation"] == name]
        # OLMo writes month and day, and its year stands in its report; the others write year and month.
        assert all(any(code in i for code in codes) or re.search(rf"-{month}\d\d-", i) for i in of_this)
    elif facts["source"].startswith("arXiv "):
        # A report may follow its models by weeks, never lead them by months.
        said = (int("20" + facts["source"][6:8]) * 12) + int(facts["source"][8:10])
        assert said - (int(year) * 12 + int(month)) in {0, 1}


def test_modalities_agree_with_the_catalogue():
    """What serves vision takes pictures, and what serves embedding is an embedding model, by the catalogue."""
    for name, fitness in FACTS.models.items():
        kind = find(name).modality
        assert (Need.VISION in fitness.needs) <= ("image" in kind)
        assert (Need.EMBEDDING in fitness.needs) == (kind == "embedding")


def test_licences_fill_gaps_only():
    """A licence stands here only where the catalogue has none, with the page that says it."""
    for name, facts in DOCUMENT["licences"].items():
        assert find(name).licence is None
        assert facts["source"]


def test_losses_grow_as_bits_shrink():
    """Within one published table, fewer bits never lose less (k-quants by size, and 8 bits before 4)."""
    for ladder in (
        ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
        ("IQ4_XS", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M"),
    ):
        tolls = [FACTS.toll(q) for q in ladder]
        assert tolls == sorted(tolls)
    assert FACTS.toll("gptq-8bit") < FACTS.toll("int8") < FACTS.toll("awq") < FACTS.toll("nvfp4")
    assert FACTS.toll("") == FACTS.toll("bf16") == 0
    assert FACTS.toll("bnb-4bit") is None


def test_a_quantised_large_model_beats_a_small_one_until_three_bits():
    """The known finding of the k-quants table: a 13B at any type down to 3 bits is better than a 7B at F16, at 2 bits it is about even."""
    small, large = 6_738_415_616, 13_015_864_320
    seven = FACTS.merit("meta-llama/Llama-2-7b-chat-hf", small, small)
    thirteen = FACTS.merit("meta-llama/Llama-2-13b-chat-hf", large, large)
    assert thirteen - FACTS.toll("Q4_K_M") > seven
    assert thirteen - FACTS.toll("Q3_K_M") > seven
    assert thirteen - FACTS.toll("Q2_K") < seven  # Llama-3-8B suffers more at 2 bits than LLaMA did: 6.78 against 5.91, and 13B at Q2_K 5.85


def test_the_exchange_rate_is_the_published_tables():
    """A doubling of LLaMA's parameters gains ln(5.9066 / 5.2543) over log2(13.0 / 6.7) nats (k-quants table; sizes of the LLaMA paper)."""
    assert FACTS.nats_per_doubling == pytest.approx(0.11703 / 0.95626, rel=1e-3)
    assert log(5.9066 / 5.2543) == pytest.approx(0.11703, rel=1e-3)


def test_the_file_is_read_by_hand_too():
    """One line an entry: whoever argues with a number finds it."""
    text = (Path(vram.__file__).parent / "catalog" / "quality.json").read_text()
    assert json.loads(text) == DOCUMENT
    assert max(map(len, text.splitlines())) < 300
