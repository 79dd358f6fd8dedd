"""The losses that choices are ranked by, held against llama.cpp's own table where a real llama.cpp was built."""

import re
import subprocess
from pathlib import Path

import pytest

from vram.catalog import quality

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scoreboard():
    done = subprocess.run(["sh", str(ROOT / "truth/oracle/build_llama_cpp.sh")], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no llama.cpp could be built")
    built = Path(done.stdout.split()[-1])
    page = next(
        (
            p
            for parent in (built, *built.parents)
            for p in [parent / "llama.cpp/tools/perplexity/README.md", parent / "tools/perplexity/README.md"]
            if p.exists()
        ),
        None,
    )
    if page is None:
        pytest.skip("its sources are not beside it")
    text = page.read_text()
    part = text[text.index("## LLaMA 3 8b Scoreboard") : text.index("## LLaMA 2 vs. LLaMA 3")]
    rows = {}
    for line in part.splitlines():
        cells = [c.strip() for c in line.split("|")[1:-1]]
        if len(cells) > 4 and re.match(r"\d", cells[3]):
            rows[cells[0].upper(), cells[1]] = tuple(float(c.split("±")[0]) for c in cells[3:5])
    return rows


@pytest.mark.parametrize("name", [n for n, f in quality()["quants"].items() if f["source"] == "llama.cpp"])
def test_losses_are_llama_cpps(scoreboard, name):
    """Perplexity and what it is held against are a row of llama.cpp's scoreboard, with an importance matrix where the note says so."""
    facts = quality()["quants"][name]
    perplexity, more = scoreboard[name.upper(), "WT 10m" if "importance matrix" in facts.get("note", "") else "None"]
    assert facts["perplexity"] == perplexity
    assert facts["unquantized"] == pytest.approx(perplexity - more, abs=2e-6)
