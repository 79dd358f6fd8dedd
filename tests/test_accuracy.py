"""`vram accuracy`: every row is compared or told, and the figures are what a person would work out by hand."""

import json
import statistics
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram.accuracy.check import check
from vram.accuracy.comparison import Quantity
from vram.accuracy.document import accuracy_document
from vram.accuracy.row import Row, Unread, normal_version, parse_rows
from vram.accuracy.subject import gpu_of, quant_name
from vram.accuracy.summary import percentile
from vram.cli.accuracy import check_file
from vram.engines.registry import ENGINE_NAMES
from vram.units import GIB

TRUTH = Path(__file__).parents[1] / "truth"
ROWS = TRUTH / "engine_logs.jsonl"
SCHEMA = json.loads((files("vram") / "schemas" / "accuracy.json").read_text())
QWEN = {
    "id": "q",
    "engine": "generic",
    "engine_version": "v0.19.0",
    "model_id": "Qwen/Qwen2.5-7B-Instruct",
    "config": str(TRUTH / "configs" / "Qwen-Qwen2.5-7B-Instruct" / "config.json"),
    "gpu": "H100-80GB",
    "tp": 1,
    "pp": 1,
    "max_model_len": 8192,
    "measured": {"weights_gib": 14.25},
}


def write(folder, *rows):
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows))
    return str(path)


def run(*args):
    return subprocess.run([sys.executable, "-m", "vram", "accuracy", *args], capture_output=True, text=True, check=False, timeout=100)


def test_every_row_of_the_corpus_is_compared_or_told():
    """No row vanishes: each has a comparison, a verdict on its failure, or a reason; and it takes seconds."""
    start = time.perf_counter()
    checked = check_file(str(ROWS))
    assert time.perf_counter() - start < 30
    ids = [json.loads(line)["id"] for line in ROWS.read_text().splitlines()]
    assert checked.rows == len(ids) == 262
    told = {c.id for c in checked.comparisons} | {c.id for c in checked.flagged_comparisons} | {u.id for u in checked.unread} | {f.id for f in checked.failures}
    assert set(ids) == told
    assert all(u.reason for u in (*checked.unread, *checked.flagged, *checked.failed_otherwise))
    jsonschema.validate(accuracy_document(checked, "rows"), SCHEMA)


def test_every_figure_of_a_row_with_a_config_is_compared_or_told():
    """Whatever engine's rules there are: weights, pool, tokens and concurrency that a row prints are compared or listed."""
    checked = check_file(str(ROWS))
    seen = {(c.id, c.quantity.value) for c in (*checked.comparisons, *checked.flagged_comparisons)} | {(u.id, u.quantity) for u in checked.unread}
    whole = {u.id for u in checked.unread if not u.quantity} | {f.id for f in checked.failures}
    for line in ROWS.read_text().splitlines():
        row = json.loads(line)
        if row["id"] in whole:
            continue
        for field, quantity in (("weights_gib", "weights"), ("kv_cache_gib", "kv_pool"), ("kv_tokens", "kv_tokens"), ("max_concurrency", "concurrency")):
            if row["measured"].get(field) is not None:
                assert (row["id"], quantity) in seen, (row["id"], field)


def test_weights_of_a_published_model_are_near_what_vllm_printed(tmp_path):
    """Qwen2.5-7B: 14.25 GiB printed by vLLM 0.19, 7,615,616,512 published parameters of two bytes."""
    (found,) = check_file(write(tmp_path, QWEN)).comparisons
    assert found.quantity is Quantity.WEIGHTS
    assert found.predicted == 7_615_616_512 * 2
    assert found.error == pytest.approx(abs(7_615_616_512 * 2 / GIB - 14.25) / 14.25)


def test_a_given_pool_holds_what_vllm_printed(tmp_path):
    """Llama-3.1-8B: 58.11 GiB hold 476,016 tokens (58.11x 8,192), as vLLM 0.19 printed on an H100."""
    row = {
        **QWEN,
        "config": str(TRUTH / "configs" / "meta-llama-Llama-3.1-8B-Instruct" / "config.json"),
        "measured": {"kv_cache_gib": 58.11, "kv_tokens": 476016, "max_concurrency": 58.11},
    }
    given = [c for c in check_file(write(tmp_path, row)).comparisons if c.quantity is Quantity.KV_GIVEN_POOL]
    assert [c.inside for c in given] == [True]
    assert given[0].error < 0.0005


def test_a_config_is_found_beside_the_rows_and_in_the_working_directory(tmp_path, monkeypatch):
    """`config` may be absolute, relative to the rows' file, or relative to the working directory."""
    text = Path(QWEN["config"]).read_text()
    for folder in (tmp_path / "rows", tmp_path / "work"):
        (folder / "c").mkdir(parents=True)
    (tmp_path / "rows" / "c" / "a.json").write_text(text)
    (tmp_path / "work" / "c" / "b.json").write_text(text)
    monkeypatch.chdir(tmp_path / "work")
    rows = [{**QWEN, "id": name, "config": f"c/{name}.json"} for name in ("a", "b", "none")]
    checked = check_file(write(tmp_path / "rows", *rows))
    assert [c.id for c in checked.comparisons] == ["a", "b"]
    assert [u.id for u in checked.unread] == ["none"]


def test_another_vendors_quantised_sibling_stands_for_the_shapes_only(tmp_path):
    """Qwen3.6-35B-A3B in 16 bits: 65.53 GiB printed, though the config beside it is an NVFP4 checkpoint's."""
    row = {
        **QWEN,
        "config": str(TRUTH / "configs" / "Qwen3.6-35B-A3B-vllm-primary" / "config.json"),
        "config_relation": "another vendor's quantised sibling",
        "dtype": "bfloat16",
        "measured": {"weights_gib": 65.53},
    }
    (found,) = check_file(write(tmp_path, row)).comparisons
    assert found.error < 0.003


def test_a_checkpoint_that_nobody_can_read_has_the_bands_of_all_readings(tmp_path):
    """DeepSeek-R1 in NVFP4 and Qwen3.6-27B in FP8 kept attention in 16 bits (94.50 and 33.66 GiB); a config of another kind can't tell."""
    rows = {r["id"]: r for r in map(json.loads, ROWS.read_text().splitlines()) if r["id"] in {"c-151", "c-120"}}
    for row in rows.values():
        row["config"] = str(TRUTH / row["config"])
    found = {c.id: c for c in check_file(write(tmp_path, *rows.values())).comparisons if c.quantity is Quantity.WEIGHTS}
    assert found.keys() == {"c-151", "c-120"}
    assert all(c.inside for c in found.values())


def test_sums_of_rounded_figures_are_as_uncertain_as_their_terms(tmp_path):
    """SGLang printed "K 0.12 GB, V 0.12 GB" and 20,480 tokens of 12 KiB: 0.2344 GiB, further from 0.24 than one rounding explains."""
    row = next(r for r in map(json.loads, ROWS.read_text().splitlines()) if r["id"] == "c-144")
    row["config"] = str(TRUTH / row["config"])
    (found,) = (c for c in check_file(write(tmp_path, row)).comparisons if c.quantity is Quantity.KV_GIVEN_POOL)
    assert found.inside
    assert found.low > 20480 * 0.97
    assert found.high < 20480 * 1.08


def test_no_graphs_were_captured_where_the_log_says_so(tmp_path):
    """Qwen2.5-0.5B on 23.99 GiB printed 0.0 GiB for its graphs, and a pool of 20.52 GiB that no graphs were taken off."""
    row = next(r for r in map(json.loads, ROWS.read_text().splitlines()) if r["id"] == "c-133")
    row["config"] = str(TRUTH / row["config"])
    (found,) = (c for c in check_file(write(tmp_path, row)).comparisons if c.quantity is Quantity.KV_POOL)
    assert found.inside
    assert found.error < 0.02


def test_experts_over_odd_ranks_are_told(tmp_path):
    """Experts over two data-parallel ranks are planned so; over three ranks where each copy has two, the row is listed."""
    assert check_file(write(tmp_path, {**QWEN, "ep": 2, "tp": 1})).comparisons
    checked = check_file(write(tmp_path, {**QWEN, "ep": 3, "tp": 2}))
    assert not checked.comparisons
    assert "do not divide" in checked.unread[0].reason


def test_an_engine_without_rules_is_told(tmp_path):
    """A row of an engine that nobody has written yet is listed, never skipped."""
    checked = check_file(write(tmp_path, {**QWEN, "engine": "mlc"}))
    assert [(u.id, u.reason) for u in checked.unread] == [("q", "no rules for this engine yet")]
    assert "mlc" not in ENGINE_NAMES


def test_a_start_that_ran_out_of_memory_is_judged(tmp_path):
    """405B parameters on one GPU: counted as a failure, and not judged as fits."""
    row = {**QWEN, "config": str(TRUTH / "configs" / "meta-llama-Meta-Llama-3.1-405B-Instruct-FP8" / "config.json"), "outcome": "oom_weights", "measured": {}}
    checked = check_file(write(tmp_path, row))
    assert [f.verdict for f in checked.failures] == ["does_not_fit"]


def test_flagged_rows_are_counted_apart(tmp_path):
    """Circular and mislabelled rows never reach the table, and are listed with their reason."""
    rows = [{**QWEN, "id": "c", "check_circular": True}, {**QWEN, "id": "m", "note": "LABEL MISMATCH: it is another model"}, QWEN]
    checked = check_file(write(tmp_path, *rows))
    assert [c.id for c in checked.comparisons] == ["q"]
    assert [c.id for c in checked.flagged_comparisons] == ["c", "m"]
    assert [u.id for u in checked.flagged] == ["c", "m"]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "null", '"x"', '{"id": 1}', '{"engine": "vllm"}', '{"engine": "vllm", "measured": {"weights_gib": "many"}}', "[" * 100_000, "\x00", '{"measured": []}',
     '{"engine": "generic", "measured": {"weights_gib": NaN}}', '{"engine": "generic", "tp": 0, "measured": {}}', '{"engine": "generic", "tp": 1.5, "measured": {}}',
     '{"engine": "generic", "measured": {"weights_gib": 1e999}}', '{"engine": "generic", "gpu": 3, "measured": {}}', "x" * 3_000_000],
    ids=lambda line: line[:40],
)  # fmt: skip
def test_a_broken_line_is_told_and_the_next_is_read(tmp_path, line):
    """Whatever a line holds: a reason with its number, no traceback, and the good row behind it still counts."""
    checked = check_file(write(tmp_path, line, QWEN))
    assert [c.id for c in checked.comparisons] == ["q"]
    assert len(checked.unread) == 1
    assert checked.unread[0].reason


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
    )
)
def test_any_value_in_any_field_is_read_or_refused(value):
    """A field of any type gives a row or a reason, never another error."""
    for field in ("engine", "engine_version", "model_id", "config", "tp", "gpu_total_gib", "max_model_len", "measured", "ranks", "settings", "note", "outcome"):
        (found,) = parse_rows([json.dumps({**QWEN, field: value})])
        assert isinstance(found, (Row, Unread))


def test_extreme_rows_are_told_not_raised():
    """Sizes that no plan can be made of end as reasons."""
    for change in ({"tp": 10**9}, {"tp": 7}, {"max_model_len": 10**14}, {"gpu_memory_utilization": 7}, {"gpu_total_gib": 1e-12}, {"kv_cache_dtype": "f17"}):
        checked = check(parse_rows([json.dumps({**QWEN, **change})]), lambda _: _model())
        assert checked.comparisons or checked.unread


def _model():
    import vram

    return vram.load_model(QWEN["config"])


@pytest.mark.parametrize(
    ("text", "number"),
    [("v0.18.0+rhai1", "0.18.0"), ("0.19.x", "0.19"), ("0.9-0.10 (V0)", "0.9"), ("pre-0.2.5", "0.2.5"), ("~0.13 (Dec 2025)", "0.13"), ("v0.18.2rc1.dev73+gdb7a17ecc", "0.18.2"),
     ("0.2x", ""), ("V0", ""), ("2026-08 build", ""), ("granite fork", ""), ("2025 (triton_backend docs)", ""), ("", ""), ("v0.6.5-dev", "0.6.5")],
)  # fmt: skip
def test_vague_versions(text, number):
    """A version is a number or it is not known; a range of years is none."""
    assert normal_version(text) == number


@given(st.lists(st.floats(0, 1e6), min_size=2), st.integers(1, 99))
def test_percentiles(values, hundredths):
    """Percentiles are those of the standard library's inclusive quantiles."""
    assert percentile(sorted(values), hundredths / 100) == pytest.approx(statistics.quantiles(values, n=100, method="inclusive")[hundredths - 1], abs=1e-6)


@pytest.mark.parametrize(
    ("gpu", "total", "known", "gib"),
    [("H100-80GB", 79.19, True, 79.19), ("8xH100-80GB", 79.1, True, 79.1), ("H200", None, True, 139.8), ("48GB (SM89)", 47.37, True, 47.37), ("not printed", None, False, None),
     ("24GB-class", None, False, None), ("GB10 DGX Spark 128GB unified", 119.7, True, 119.7), (None, None, False, None), ("gfx1151 (Strix Halo)", None, True, None)],
)  # fmt: skip
def test_cards_as_logs_name_them(gpu, total, known, gib):
    """The printed total goes first; a card that nobody names is said to be unknown."""
    (row,) = parse_rows([json.dumps({**QWEN, "gpu": gpu, "gpu_total_gib": total})])
    found, is_known = gpu_of(row)
    assert is_known is known
    if gib is not None:
        assert found.engine_total_bytes / GIB == pytest.approx(gib, abs=0.01)


@pytest.mark.parametrize(
    ("quant", "model_id", "name"),
    [("compressed-tensors", "RedHatAI/Qwen3-0.6B-quantized.w4a16", "w4a16"), ("compressed-tensors", "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "fp8"), ("mxfp4 (Marlin)", "x", "mxfp4"),
     ("modelopt", "nvidia/DeepSeek-V3.2-NVFP4", "nvfp4"), ("smoothquant-int8", "x", "int8"), ("bnb-8bit", "x", "bnb-8bit"), ("", "plain", None)],
)  # fmt: skip
def test_quantizations_as_rows_name_them(quant, model_id, name):
    """What was applied is read from the row's own words, then from the checkpoint's name."""
    (row,) = parse_rows([json.dumps({**QWEN, "quant": quant, "model_id": model_id})])
    assert quant_name(row) == name


def test_the_command_prints_a_table_and_all_reasons(tmp_path):
    """Human output: the table, then every row that could not be read; exit code 0 and an empty stderr."""
    done = run(write(tmp_path, QWEN, {**QWEN, "id": "bad\x1b[31m", "engine": "mlc"}, "{"))
    assert done.returncode == 0
    assert done.stderr == ""
    for words in ("weights", "median", "no rules for this engine yet", "line 3", "no JSON"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_json_is_the_published_schema(tmp_path):
    """`--json` is one document of the schema that `vram schema accuracy` prints; no rows at all are fine."""
    jsonschema.validate(json.loads(run(write(tmp_path, QWEN), "--json").stdout), SCHEMA)
    jsonschema.validate(json.loads(run(write(tmp_path), "--json").stdout), SCHEMA)
    assert run(str(tmp_path / "nothing.jsonl")).returncode == 2
    assert run(write(tmp_path, QWEN), "--engine", "vlllm").returncode == 2
