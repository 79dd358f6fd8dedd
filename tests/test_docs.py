"""Documents cannot go stale: their examples run, their tables are what the program says."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from upping import environment, free_port, stand_in, up

from vram.cli.main import COMMANDS
from vram.cli.main import vram as group
from vram.errors import ExitCode
from vram.settings import VARIABLES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
UPDATE = os.environ.get("UPDATE_DOCS") == "1"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_examples_give_what_they_print(page, monkeypatch):
    """Every >>> example of a page gives exactly the output printed below it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The fence that closes a block is no output.
    text = page.read_text().replace("```", "\n```").replace("\n```", "\n\n```")
    examples = doctest.DocTestParser().get_doctest(re.sub(r"^\s*```.*$", "", text, flags=re.MULTILINE), {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    out: list[str] = []
    assert runner.run(examples, out=out.append).failed == 0, "".join(out)


def console_blocks(text):
    return re.finditer(r"```console\n\$ (?P<command>.+)\n(?P<output>(?:.*\n)*?)```", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_console_examples_give_what_they_print(page):
    """Every `$ vram …` of a page prints exactly what is shown below it (UPDATE_DOCS=1 writes it anew)."""
    text = page.read_text()
    for block in console_blocks(text):
        words = shlex.split(block["command"])
        assert words[0] == "vram"
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "110", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
        # As on a machine that has no engines yet.
        env |= {"VRAM_VLLM_PYTHON": "/nowhere/python", "VRAM_SGLANG_PYTHON": "/nowhere/python", "XDG_STATE_HOME": "/nowhere"}
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, env=env, check=False, encoding="utf-8")
        printed = "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"
        if UPDATE:
            page.write_text(page.read_text().replace(block[0], f"```console\n$ {block['command']}\n{printed}```"))
        else:
            assert printed == block["output"], f"UPDATE_DOCS=1 python -m pytest {__file__} writes it anew; stderr: {done.stderr}"


@pytest.mark.skipif(sys.platform != "linux", reason="engines are started on POSIX systems; what they hold is told by Linux")
def test_what_up_says_is_what_the_readme_shows(tmp_path):
    """Line by line what a run says once its engine is started, but for its figures and the memory table between."""
    shown = re.search(r"<!-- up demo -->\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1].splitlines()
    stand_in(tmp_path)
    with up(tmp_path, "demo", "--gpu", "cpu", env=environment(tmp_path), admin_port=free_port()) as running:
        said = running.until("end: ").splitlines()

    def masked(line):
        return re.sub(r" --url \S+|\d[\d.,]*", "", line).replace("MiB", "GiB")

    left = iter([masked(line) for line in said])
    for line in shown:
        assert masked(line) in left, f"{line!r} is not said, or not in that place: {said}"


def commands_table():
    lines = []
    found = []
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        found += [(name, command), *((f"{name} {sub}", c) for sub, c in getattr(command, "commands", {}).items())]
    for name, command in found:
        arguments = " ".join(p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument))
        title = f"vram {name} {arguments}".strip()
        text = " ".join(command.help.split("\b")[0].split())
        lines += [f"### `{title}`", "", text, "", "| option | meaning |", "|---|---|"]
        for p in command.params:
            if isinstance(p, click.Option):
                shown = p.metavar or (
                    "" if p.is_flag else "N" if p.type.name.endswith("range") else "\\|".join(getattr(p.type, "choices", [])) or p.type.name.upper()
                )
                lines.append(f"| `{', '.join(p.opts)}{f' {shown}' if shown else ''}` | {p.help} |")
        lines.append("")
    return "\n".join(lines)


def settings_table():
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *(f"| `{v.name}` | {v.default} | {v.meaning} |" for v in VARIABLES)])


@pytest.mark.parametrize(("mark", "made"), [("commands", commands_table), ("settings", settings_table)])
def test_generated_tables_are_current(mark, made):
    """The tables of docs/command-line.md are what the program's own definitions say."""
    page = ROOT / "docs" / "command-line.md"
    pattern = re.compile(rf"<!-- {mark} -->\n.*?<!-- /{mark} -->", re.DOTALL)
    block = f"<!-- {mark} -->\n{made()}\n<!-- /{mark} -->"
    if UPDATE:
        page.write_text(pattern.sub(lambda _: block, page.read_text()))
    assert pattern.search(page.read_text())[0] == block, "UPDATE_DOCS=1 writes it anew"


def test_exit_codes_are_documented():
    """Every exit code stands in the table with its name."""
    text = (ROOT / "docs" / "command-line.md").read_text()
    assert all(f"| {code.value} | `{code.name}` |" in text for code in ExitCode)


def test_the_tree_names_no_machine_of_ours():
    """No file speaks of paths of a machine that is not the reader's."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    if tracked == [""]:
        pytest.skip("no git checkout")
    bad = re.compile(r"(?<![\w.])/(?:work|farm|root)/")
    assert [
        f
        for f in tracked
        if f and (ROOT / f).is_file() and (ROOT / f).suffix in {".py", ".md", ".toml", ".yml", ""} and bad.search((ROOT / f).read_text(errors="replace"))
    ] == []
