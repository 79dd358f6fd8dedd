"""The command line as a user meets it: whole processes, real exit codes, what goes to which stream."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.resources import files

import jsonschema
import pytest

from vram.cli.main import run
from vram.errors import ExitCode

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return str(tmp_path)


def vram(*args, env=None):
    return subprocess.run(
        [sys.executable, "-m", "vram", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "140", **(env or {})},
    )


def schema(name):
    return json.loads((files("vram") / "schemas" / f"{name}.json").read_text())


@pytest.mark.parametrize("more", [(), ("--context", "128k", "--concurrency", "64"), ("--tp", "2", "--kv-dtype", "fp8"), ("--pp", "2"), ("--quant", "fp8")])
def test_json_is_one_object_of_the_published_schema(model, more):
    """`--json` prints exactly one document that the published schema accepts, whatever the verdict."""
    done = vram("plan", model, "--gpu", "2x RTX 4090", "--json", *more)
    assert done.returncode in {0, 3}, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema("plan"))
    # meta-llama/Llama-3.2-1B, as its publisher counts it.
    assert document["model"]["parameters"] == 1_235_814_400
    # 32 KiB per token at 16 bits, as published for this model; half of it at 8.
    assert document["cache"]["bytes_per_token"] == (16_384 if "--kv-dtype" in more else 32_768)


@pytest.mark.parametrize("command", [("gpus", "4090", "--json"), ("models", "llama", "--json")])
def test_lists_follow_their_schemas(command):
    """The other commands' JSON follows the schemas that `vram schema` prints."""
    done = vram(*command)
    assert done.returncode == 0, done.stderr
    jsonschema.validate(json.loads(done.stdout), schema(command[0]))
    assert json.loads(vram("schema", command[0]).stdout) == schema(command[0])


def test_a_plan_that_fits_is_a_picture_and_exit_code_0(model):
    """The human output names every part, the verdict and the limits, and has no escape codes when nobody watches."""
    done = vram("plan", model, "--gpu", "RTX 4090", "--context", "32k")
    assert done.returncode == ExitCode.OK
    for words in ("weights", "KV cache", "activations", "runtime", "fits", "longest context", "GiB", "█"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_a_plan_that_does_not_fit_says_what_would(model):
    """Exit code 3 and a ranked list of mends, never a bare no."""
    done = vram("plan", model, "--gpu", "8GiB", "--context", "128k", "--concurrency", "8")
    assert done.returncode == ExitCode.DOES_NOT_FIT
    assert "does not fit" in done.stdout
    assert "what would mend it" in done.stdout
    assert "--context" in done.stdout


def test_quiet_prints_the_verdict_alone(model):
    """`--quiet` is one word."""
    assert vram("plan", model, "--gpu", "RTX 4090", "--quiet").stdout == "fits\n"


@pytest.mark.parametrize(
    ("args", "code", "hint"),
    [
        (("plan", "{model}", "--gpu", "RTX 4091"), ExitCode.USAGE, "4090"),
        (("plan", "{model}", "--gpuu", "4090"), ExitCode.USAGE, "--gpu"),
        (("plan", "{model}", "--gpu", "4090", "--tp", "5"), ExitCode.USAGE, "1"),
        (("plan", "{model}", "--gpu", "4090", "--context", "many"), ExitCode.USAGE, "32k"),
        (("plan", "{model}", "--gpu", "4090", "--kv-dtype", "f17"), ExitCode.USAGE, "bf16"),
        (("plan", "{model}", "--gpu", "4090", "--engine", "generik"), ExitCode.USAGE, "generic"),
        (("plan", "{model}", "--gpu", "4090", "--quant", "fp9"), ExitCode.USAGE, "fp8"),
        (("plan", "{model}/nothing", "--gpu", "4090"), ExitCode.MODEL_UNREADABLE, ""),
        (("plan", "no-such-model", "--gpu", "4090"), ExitCode.MODEL_UNREADABLE, ""),
        (("plna", "{model}"), ExitCode.USAGE, "plan"),
        ((), ExitCode.USAGE, ""),
    ],
)
def test_mistakes_get_a_code_and_a_hint(model, args, code, hint):
    """Every mistake is `error:` and `hint:` on stderr with its documented code, nothing on stdout, no traceback."""
    done = vram(*(a.replace("{model}", model) for a in args))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if args:
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert "hint: " in done.stderr
        assert hint in done.stderr.split("hint: ")[1]


def test_no_gpu_is_its_own_code(model):
    """Without --gpu on a machine without one: exit code 5 and what to type."""
    done = vram("plan", model, env={"CUDA_VISIBLE_DEVICES": ""})
    if done.returncode == ExitCode.OK:
        pytest.skip("this machine has a GPU")
    assert done.returncode == ExitCode.NO_HARDWARE
    assert "--gpu" in done.stderr


def test_control_characters_never_reach_the_terminal(tmp_path):
    """A model whose config and tensors carry escape codes prints none of them."""
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["\x1b[31mEvil\x07"], "model_type": "\x1b]0;pwned\x07"}))
    done = vram("plan", str(tmp_path), "--gpu", "4090")
    assert done.returncode == ExitCode.MODEL_UNREADABLE
    assert not set("\x1b\x07") & set(done.stdout + done.stderr)


def test_every_option_is_explained():
    """`--help` of every command explains itself and every option."""
    import click

    from vram.cli.main import COMMANDS
    from vram.cli.main import vram as group

    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command.help
        assert all(p.help for p in command.params if isinstance(p, click.Option))


def test_a_slip_in_a_name_is_met_with_names_when_the_hub_cannot_be_asked(monkeypatch, capsys):
    """Without a network the hub cannot say that there is no such model; the catalogue can say what is spelled alike."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(["plan", "Qwen/Qwen3-8", "--gpu", "RTX 4090"]) == ExitCode.MODEL_UNREADABLE
    assert "did you mean Qwen/Qwen3-8B" in capsys.readouterr().err


def test_a_plan_with_a_drafter_says_that_its_speeds_count_none(capsys):
    """Speeds are of plain decoding: how many drafts are kept is not a matter of bytes."""
    said = []
    for draft in ([], ["--draft", "Qwen/Qwen3-0.6B"]):
        assert run(["plan", "Qwen/Qwen3-8B", "--gpu", "RTX 4090", "--engine", "llama.cpp", "--offline", *draft]) == 0
        said.append("not counted in these speeds" in capsys.readouterr().out)
    assert said == [False, True]


def examples():
    """The commands that the help texts show and that need no file of the reader's."""
    import click

    from vram.cli.main import COMMANDS
    from vram.cli.main import vram as group

    shown = [line.strip() for name in COMMANDS for line in (group.get_command(click.Context(group), name).help or "").split("\b")[-1].splitlines()]
    return [
        one
        for one in shown
        if one.split()[:2] in [["vram", name] for name in ("plan", "pick", "cost", "args", "size", "simulate")]
        and not re.search(r"\./|\.(csv|gguf|toml|gz|jsonl|log)\b", one)
    ]


@pytest.mark.parametrize("shown", examples())
def test_what_help_shows_can_be_typed(shown, capsys):
    """An example of a help text is no error: what it asks is answered, if only with that it does not fit."""
    more = ["--duration", "60"] if shown.startswith("vram size") else []
    assert run([*shlex.split(shown)[1:], "--offline", *more]) in {ExitCode.OK, ExitCode.DOES_NOT_FIT}, capsys.readouterr().err


@pytest.mark.parametrize("option", ["--html", "--svg"])
def test_a_page_into_a_folder_that_is_not_there_says_so(option, tmp_path, capsys):
    """What is missing is named, not where in our code it was missed."""
    assert run(["plan", "Qwen/Qwen3-8B", "--gpu", "RTX 4090", "--offline", option, str(tmp_path / "gone" / "a")]) == ExitCode.ERROR
    said = " ".join(capsys.readouterr().err.split())
    assert "there is no folder" in said
    assert "VRAM_DEBUG" not in said


def test_a_slip_in_the_name_of_a_schema_is_met_with_the_name(capsys):
    """As for commands and engines; and the message does not print all names twice."""
    assert run(["schema", "simulat"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "did you mean simulate?" in said
    assert said.count("gateway-admin") <= 1


@pytest.mark.parametrize(
    ("args", "whole"),
    [
        (("plan", "Qwen/Qwen3-8B"), "4090 + 3090"),
        (("args", "Qwen/Qwen3-8B", "--target", "vllm"), "4090 + 3090"),
        (("cost", "Qwen/Qwen3-8B"), "4090 + 3090"),
        (("pick", "chat"), "4090 + 3090"),
        (("simulate", "--rate", "1", "--model", "Qwen/Qwen3-8B"), "4090 + 3090"),
        (("up", "demo", "--dry-run"), "4090,3090"),
    ],
)
def test_gpus_named_twice_are_not_forgotten_without_a_word(args, whole):
    """The last --gpu counts, so that a mend can be typed behind a command: who meant several cards is told how they are named."""
    done = vram(*args, "--gpu", "4090", "--gpu", "3090")
    assert f'the last counts; all of them together are --gpu "{whole}"' in " ".join(done.stderr.split())


def test_a_mend_behind_a_command_counts(model):
    """What a plan that does not fit advises is typed behind it as it stands."""
    first = vram("plan", model, "--gpu", "1GiB")
    assert first.returncode == 3
    assert vram("plan", model, "--gpu", "1GiB", "--gpu", "2x RTX 4090", "-q").stdout == "fits\n"
