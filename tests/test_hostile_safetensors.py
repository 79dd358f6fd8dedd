"""Hostile safetensors files: one clear error each, within a second and 256 MB, in a process of its own."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from data.hostile_files import FILES, LEGAL
from data.make_safetensors import llama_config

from vram.errors import ModelFormatError
from vram.readers.config_json import MAX_CONFIG_BYTES, parse_config
from vram.readers.index import MAX_ENTRIES, MAX_INDEX_BYTES, parse_index
from vram.readers.safetensors import MAX_HEADER_BYTES, MAX_TENSORS, parse_header
from vram.sources.memory import MemorySource
from vram.sources.weights import model_from_safetensors

SAFETENSORS = sorted(n for n in FILES if n.endswith(".safetensors"))
TESTS = Path(__file__).parent

# Runs in a child whose address space may grow by 256 MB beyond what it takes to import the reader.
SECONDS = 2.0
"""The bar is one second, and held on a core of one's own; where neighbours share the memory, 1.7 were seen for the same work."""

CHILD = textwrap.dedent("""
    import gc, json, resource, sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from vram.errors import ModelFormatError, UnknownArchitectureError
    from vram.sources.load import load_model
    import vram.model.quantization.compressed_tensors, vram.sources.weights
    with open("/proc/self/statm") as f:
        held = int(f.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 256 * 2**20,) * 2)
    answers = {}
    for path in sorted(Path(sys.argv[2]).iterdir()):
        gc.collect()
        begin = time.process_time()
        try:
            model = load_model(str(path))
            answer = [model.weight_bytes, [t.name for t in model.tensors], model.notes]
        except ModelFormatError as e:
            answer = {"what": e.what, "where": e.where, "hint": e.hint, "shown": str(e)}
        except UnknownArchitectureError as e:
            answer = {"what": str(e)}
        answers[path.name] = [answer, time.process_time() - begin]
    print(json.dumps(answers))
""")


MILLION = 10**6


def full(begin, unit, end, size=MAX_HEADER_BYTES):
    """As many of `unit` as a header of the largest accepted size holds."""
    return begin + unit * ((size - len(begin) - len(end)) // len(unit)) + end


def table(entry, size=MAX_HEADER_BYTES, most=MAX_TENSORS):
    """An object of as many entries, `entry % i` each, as fit."""
    return b"{" + b",".join(entry % i for i in range(min(most, size // (len(entry) + 8)))) + b"}"


# Tables that are legal JSON, or nearly so, and would need gigabytes as objects.
LARGE = {
    "large_empty_objects": b"{" + b",".join(b'"%d":{}' % i for i in range(3 * MILLION)) + b"}",
    "large_list": b'{"a":{"x":[' + b"300," * (10 * MILLION) + b"3]}}",
    "large_shape": b'{"a":{"dtype":"U8","shape":[' + b"300," * (10 * MILLION) + b'3],"data_offsets":[0,1]}}',
    "large_list_of_objects": b'{"a":{"x":[' + b"{}," * (2 * MILLION) + b"3]}}",
    "large_inner_object": b'{"a":{"x":{' + b",".join(b'"%d":{}' % i for i in range(MILLION // 2)) + b"}}}",
    "large_type": b'{"a":{"dtype":"' + b"x" * (50 * MILLION) + b'"}}',
    "full_rank": full(b'{"a":{"dtype":"U8","shape":[', b"0,", b'0],"data_offsets":[0,0]}}'),
    "full_free_text": full(b'{"__metadata__":{"a":""', b',"b":""', b'},"a":{"dtype":"U8"}}'),
    "full_free_keys": b'{"__metadata__":' + table(b'"%x":""', most=2 * MILLION) + b',"a":{"dtype":"U8"}}',
    "full_free_lists": full(b'{"__metadata__":[', b"[],", b'[]],"a":{"dtype":"U8"}}'),
    "full_lists": full(b'{"a":[', b"[],", b"[]]}"),
    "full_lists_of_the_exact_path": full(b'{"a":[', b"[],", b"[]]}", 2**21),
    "full_objects_of_the_exact_path": full(b'{"a":[', b"{},", b"{}]}", 2**21),
    "full_escapes": full(b'{"', b'\\"', b'":0}'),
    "full_twice": full(b'{"a":0', b',"a":0', b"}"),
    "full_depth": full(b'{"a":', b"[", b""),
    "full_spaces": full(b"{", b" ", b"}")[:-1],
    "full_tensors": table(b'"model.w%d":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'),
    "large_wide_text": b'{"__metadata__":{"a":"' + b"x" * (40 * MILLION) + "\N{GRINNING FACE}".encode() + b'"}}',
}


# At the largest accepted size.
CONFIGS = {
    "config_quotes_in_a_string_without_end": full(b'{"a":' + b"[" * 65 + b'"', b'\\"', b"", MAX_CONFIG_BYTES),
    "config_escapes": full(b'{"a":' + b"[" * 65 + b'"', b'"\\', b"", MAX_CONFIG_BYTES),
    "config_lists": full(b'{"a":[', b"[],", b"[]]}", MAX_CONFIG_BYTES),
    "config_objects": full(b'{"a":[', b"{},", b"{}]}", MAX_CONFIG_BYTES),
    "config_brackets": full(b'{"a":', b"[]", b"}", MAX_CONFIG_BYTES),
    "config_depth": full(b'{"a":', b"[", b"", MAX_CONFIG_BYTES),
    "config_wide": full(b'{"a":"', "\N{GRINNING FACE}".encode(), b'"}', MAX_CONFIG_BYTES),
    "config_numbers": full(b'{"a":[', b"1e0,", b"0]}", MAX_CONFIG_BYTES),
}
# Patterns without end for a model of 4,096 layers.
DEEP = json.dumps({**llama_config(), "num_hidden_layers": 4096}, separators=(",", ":"))[:-1].encode() + b',"quantization_config":'
FLOAT8 = b'{"weights":{"num_bits":8,"type":"float"},"targets":["Linear"]}'
QUARK = b'{"weight":{"dtype":"fp8_e4m3","qscheme":"per_tensor"}}'
CONFIGS |= {
    "patterns_ignored": DEEP
    + b'{"quant_method":"compressed-tensors","config_groups":{"g":%s},"ignore":[%s]}}' % (FLOAT8, b",".join(b'"re:a.*b.*c%d"' % i for i in range(3000))),
    "patterns_of_groups": DEEP
    + b'{"quant_method":"compressed-tensors","config_groups":%s}}' % table(b'"%d":' + FLOAT8.replace(b'"Linear"', b'"re:.*x"'), most=4000),
    "patterns_of_one_character": DEEP + b'{"quant_method":"fp8","modules_to_not_convert":["%s"]}}' % (b"(?:.|..)" * 40),
    "patterns_of_questions": DEEP + b'{"quant_method":"fp8","modules_to_not_convert":["%s"]}}' % (b".?" * 60),
    "patterns_of_ranges": DEEP + b'{"quant_method":"fp8","modules_to_not_convert":["%s"]}}' % (b".{0,9}" * 40),
    "patterns_of_length": DEEP + b'{"quant_method":"fp8","modules_to_not_convert":[%s]}}' % b",".join(b'"%d.*%s"' % (i, b"[a-z]" * 100) for i in range(3900)),
    "patterns_of_gptq": DEEP + b'{"quant_method":"gptq","bits":4,"group_size":128,"dynamic":%s}}' % table(b'"-:.*a.*b%d":{}', most=4000),
    "patterns_of_auto_round": DEEP + b'{"quant_method":"auto-round","bits":4,"group_size":128,"extra_config":%s}}' % table(b'"a.*b%d":{"bits":16}', most=9000),
    "patterns_of_quark": DEEP
    + b'{"quant_method":"quark","global_quant_config":%s,"layer_quant_config":%s}}' % (QUARK, table(b'"*a*b%d":' + QUARK, most=20000)),
    "patterns_of_modelopt": DEEP + b'{"quant_method":"modelopt","quant_algo":"FP8","exclude_modules":[%s]}}' % b",".join(b'"*a*m%d*"' % i for i in range(4000)),
    "patterns_of_fp8": DEEP + b'{"quant_method":"fp8","modules_to_not_convert":[%s]}}' % b",".join(b'"a.*m%d"' % i for i in range(4000)),
}
INDEXES = {
    "index_free_lists": full(b'{"metadata":[', b"[],", b'[]],"weight_map":{"a":"b.safetensors"}}', MAX_INDEX_BYTES),
    "index_other_lists": full(b'{"other":[', b"[],", b'[]],"weight_map":{"a":"b.safetensors"}}', MAX_INDEX_BYTES),
    "index_depth": full(b'{"metadata":', b"[", b"", MAX_INDEX_BYTES),
    "index_shards": b'{"weight_map":' + b"{" + b",".join(b'"%x":"%x.safetensors"' % (i, i) for i in range(MAX_ENTRIES - 2)) + b"}}",
    "index_wide_name": full(b'{"weight_map":{"a":"' + "\N{GRINNING FACE}".encode(), b"a", b'.safetensors"}}', MAX_INDEX_BYTES),
    "index_escaped_name": full(b'{"weight_map":{"a":"\\ud83d\\ude00', b"a", b'.safetensors"}}', MAX_INDEX_BYTES),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("address space is limited by Linux's own means")
    folder = tmp_path_factory.mktemp("hostile")
    for name in SAFETENSORS:
        (folder / name).write_bytes(FILES[name])
    for name, raw in LARGE.items():
        (folder / f"{name}.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
    for name, raw in CONFIGS.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_bytes(raw)
    for name, raw in INDEXES.items():
        (folder / name).mkdir()
        (folder / name / "model.safetensors.index.json").write_bytes(raw)
    done = subprocess.run([sys.executable, "-c", CHILD, str(TESTS.parent / "src"), str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SAFETENSORS)
def test_each_file_is_refused_or_read_in_a_second_and_256_mb(answers, name):
    """Illegal: what, where and a hint, printable and short. Legal: a model, its bytes those of the data, its names printable."""
    answer, seconds = answers[name]
    assert seconds < SECONDS
    if name in LEGAL:
        length = int.from_bytes(FILES[name][:8], "little")
        assert answer[0] == len(FILES[name]) - 8 - length
        assert all(n.isprintable() for n in answer[1])
    else:
        assert answer["what"]
        assert name in answer["where"]
        assert answer["hint"]
        assert all(text.isprintable() and len(text) < 1000 for text in answer.values())


def test_a_type_that_nobody_knows_is_told(answers):
    """The tensor of an unknown type is counted, and the note names its type."""
    assert any("F7" in note for note in answers["s_dtype_unknown.safetensors"][0][2])


@pytest.mark.parametrize("name", sorted(LARGE))
def test_a_table_that_would_fill_the_memory_is_refused_before(answers, name):
    """Tens of megabytes of JSON that would be gigabytes of objects: a clear error, in the same bounds."""
    answer, seconds = answers[f"{name}.safetensors"]
    assert seconds < SECONDS
    assert answer["what"]


@pytest.mark.parametrize("name", sorted(CONFIGS | INDEXES))
def test_configs_and_indexes_at_the_largest_size_are_refused_in_the_same_bounds(answers, name):
    """Text that is legal, or nearly so, as long as it may be: a clear error within a second and 256 MB."""
    answer, seconds = answers[name]
    assert seconds < SECONDS
    assert answer["what"]


def test_what_real_checkpoints_hold_stays_readable():
    """An index of 207,000 tensors in 25 MB, a file of 75,000 tensors, a config that lists 30,000 modules in 1 MB."""
    name = b'"model.layers.%d.mlp.experts.%d.down_proj.weight_scale":"model-%05d-of-00062.safetensors"'
    index = parse_index(b'{"metadata":{},"weight_map":{' + b",".join(name % (i // 3450, i, i % 62) + b" " * 30 for i in range(207_000)) + b"}}", "i")
    assert (len(index.shards), index.tensors) == (62, 207_000)
    raw = table(b'"model.layers.1.mlp.experts.%d.down_proj.qweight":{"dtype":"I32","shape":[0],"data_offsets":[0,0]}', most=75_000)
    assert len(parse_header(len(raw).to_bytes(8, "little") + raw, file_size=None, where="h").entries) == 75_000
    modules = [f"model.layers.{i}.mlp.experts.{i}.gate" for i in range(25_000)]
    config = parse_config(json.dumps({**llama_config(), "quantization_config": {"modules": {m: {"bits": 16} for m in modules}}}).encode())
    assert len(config["quantization_config"]["modules"]) == 25_000


def test_tensors_of_all_files_together_are_bounded():
    """Each header is legal; together they list more tensors than any model has."""
    raw = table(b'"%%s.%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}', most=90_000)
    head = raw.replace(b"%s", b"a")
    files = {f"model-{i:05d}-of-00006.safetensors": len(head).to_bytes(8, "little") + raw.replace(b"%s", b"%c" % (96 + i)) for i in range(1, 7)}
    with pytest.raises(ModelFormatError, match="more than 500000 tensors"):
        model_from_safetensors(MemorySource(files), "m", None)
