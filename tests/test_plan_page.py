"""`vram plan --html` and `--svg`: what the terminal says, as a page and a picture, for plans that fit, hardly fit and do not."""

import re
from html import unescape
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from vram.api import plan
from vram.cli.plan import command
from vram.cli.render.plan_page import chart, report

CASES = {
    "tight": ("Qwen/Qwen3-8B", {"gpu": "RTX 4090", "context_tokens": 32768}),
    "stages": ("meta-llama/Llama-3.1-70B-Instruct", {"gpu": "2x H100 SXM", "pp": 2, "engine": "vllm", "concurrency": 4, "context_tokens": 131072}),
    "host": ("meta-llama/Llama-3.1-8B-Instruct", {"gpu": "RTX 4090", "quant": "Q4_K_M", "engine": "llama.cpp", "gpu_layers": 10}),
}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", CASES)
def test_the_page_says_what_the_terminal_says(name, tmp_path):
    """Every figure of bytes, the verdict and every mend that is printed stands on the page."""
    model, asked = CASES[name]
    html, svg = tmp_path / "a.html", tmp_path / "a.svg"
    flags = [text for key, value in asked.items() for text in (f"--{key.replace('_tokens', '').replace('_', '-')}", str(value))]
    done = CliRunner().invoke(command, [model, *flags, "--offline", "--html", str(html), "--svg", str(svg)])
    assert done.exit_code in {0, 3}, done.output
    page = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html.read_text())))
    printed = set(re.findall(r"[\d.,]+ [KMG]iB", done.output))
    assert len(printed) > 15
    assert {p for p in printed if p not in page} == set()
    for flag in re.findall(r"(?:fits|tight|not fit)  (--.*?)  ", done.output):
        assert flag in page
    assert ET.fromstring(svg.read_text()).tag == f"{SVG}svg"  # noqa: S314  (our own picture)


def test_bars_are_as_long_as_parts_and_end_where_the_memory_does():
    """Widths in the picture stand to each other as bytes do; the mark for the memory is where parts and spare end, or inside what is too much."""
    made = plan("Qwen/Qwen3-8B", gpu="RTX 4090", context_tokens=32768, offline=True)
    root = ET.fromstring(chart(made))  # noqa: S314  (our own picture)
    bars = [r for r in root.iter(f"{SVG}rect") if r.get("height") == "18"]
    parts = [p.bytes for _, p in made.gpus[0].parts.items() if p.bytes] + [made.gpus[0].spare_bytes]
    assert len(bars) == len(parts)
    unit = float(bars[0].get("width")) / parts[0]
    for bar, size in zip(bars, parts, strict=True):
        assert float(bar.get("width")) == pytest.approx(unit * size, abs=0.11)
    end = float(bars[-1].get("x")) + float(bars[-1].get("width"))
    (mark,) = [p for p in root.iter(f"{SVG}path") if p.get("class") == "v-limit"]
    assert float(re.match(r"M([\d.]+)", mark.get("d"))[1]) == pytest.approx(end, abs=0.2)
    over = plan("meta-llama/Llama-3.1-70B-Instruct", gpu="RTX 4090", offline=True)
    root = ET.fromstring(chart(over))  # noqa: S314  (our own picture)
    (mark,) = [p for p in root.iter(f"{SVG}path") if p.get("class") == "v-limit"]
    last = [r for r in root.iter(f"{SVG}rect") if r.get("height") == "18"][-1]
    assert float(re.match(r"M([\d.]+)", mark.get("d"))[1]) < float(last.get("x"))


def test_a_name_cannot_smuggle_markup_into_the_page(tmp_path):
    """What a stranger's folder is called is text, and the page may run nothing."""
    folder = tmp_path / "<script>alert(1)<"
    folder.mkdir()
    text = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100}'
    (folder / "config.json").write_text(text)
    made = plan(str(folder), gpu="RTX 4090")
    page = report(made)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page


def test_a_pool_that_is_too_small_misses_something_in_the_picture():
    """An engine's own pool may be too small on a card with room: what it lacks goes past the mark."""
    model, asked = CASES["stages"]
    made = plan(model, **asked, offline=True)
    assert made.gpus[0].total_bytes < made.gpus[0].capacity_bytes
    picture = chart(made)
    assert ">missing<" in picture
    root = ET.fromstring(picture)  # noqa: S314  (our own picture)
    bars = [r for r in root.iter(f"{SVG}rect") if r.get("height") == "18"]
    (first, _) = [p for p in root.iter(f"{SVG}path") if p.get("class") == "v-limit"]
    assert max(float(r.get("x")) + float(r.get("width")) for r in bars) > float(re.match(r"M([\d.]+)", first.get("d"))[1])
