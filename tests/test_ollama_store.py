"""Ollama's model store: names to files and those to models, and everything that a store of strangers may hold."""

import json

import pytest
from data.make_gguf import make, metadata_of, preset, stored_type, tensor_table
from ollama_store import IMAGE, blob, digest_of, keep, layer, llama_3b, manifest

from vram.api import load_model, plan
from vram.errors import ModelError, ModelFormatError, ModelNotFoundError, UsageError
from vram.model.role import Component
from vram.readers.ollama import MAX_MANIFEST_BYTES, parse_name
from vram.sources.ollama import adapters_of, find_stored, listed
from vram.units import MIB

PATH = "registry.ollama.ai/library/llama3.2/3b"


@pytest.fixture
def store(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv("OLLAMA_MODELS", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folder


@pytest.mark.parametrize(
    ("text", "path", "short"),
    # types/model/name_test.go of Ollama: what is left out is registry.ollama.ai, library and latest.
    [
        ("ollama:llama3.2:3b", "manifests/registry.ollama.ai/library/llama3.2/3b", "llama3.2:3b"),
        ("OLLAMA:llama3.2", "manifests/registry.ollama.ai/library/llama3.2/latest", "llama3.2:latest"),
        ("ollama:jmorganca/llama:7b", "manifests/registry.ollama.ai/jmorganca/llama/7b", "jmorganca/llama:7b"),
        ("ollama:hf.co/org/name-GGUF:Q4_K_M", "manifests/hf.co/org/name-GGUF/Q4_K_M", "hf.co/org/name-GGUF:Q4_K_M"),
        ("ollama:localhost:5000/a/b", "manifests/localhost:5000/a/b/latest", "localhost:5000/a/b:latest"),
    ],
)
def test_names_are_ollamas(text, path, short):
    """With and without what is meant anyway."""
    name = parse_name(text)
    assert (name.path, name.short) == (path, short)


@pytest.mark.parametrize(
    "text",
    [
        "ollama:",
        "ollama:..",
        "ollama:../../etc/passwd",
        "ollama:a/../b",
        "ollama:/etc/passwd",
        "ollama:a:..",
        "ollama:a:",
        "ollama:a/b/c/d",
        "ollama:a b",
        "ollama:a\0b",
        "ollama:a:b:c",
        "ollama:a\\b",
        "ollama:.hidden",
        "ollama:a:.b",
        "ollama:a@sha256:0",
        "ollama:ä",
        "ollama:" + "a" * 81,
        "ollama:n.s/m",
    ],
)
def test_names_that_lead_elsewhere_are_none(text):
    """A part begins with a letter, digit or underscore, and none holds a separator: no name leaves the store."""
    with pytest.raises(UsageError, match="no name that Ollama knows") as caught:
        parse_name(text)
    assert "ollama list" in caught.value.hint


def test_a_stored_model_is_planned_from_its_header(store):
    """llama3.2:3b at its true shapes: the buffers of a load in Ollama's own tests (llm/llama_server_test.go at v0.30.0), and few bytes read."""
    keep(store, llama_3b())
    made = plan("ollama:llama3.2:3b", engine="ollama@0.30.0", gpu="RX 7900 XTX", context_tokens=4096)
    assert made.model.source == "header"
    assert made.model.bytes_read < 2 * MIB
    parts = made.gpus[0].parts
    assert parts.weights.bytes / MIB == pytest.approx(1918.35, abs=0.02)
    assert parts.kv_cache.bytes == 448 * MIB
    assert parts.activations.low <= 256.50 * MIB <= parts.activations.high
    assert listed() == ("llama3.2:3b",)


def test_what_a_modelfile_sets_is_ollamas_default(store):
    """num_ctx of the stored parameters is the context where none is asked for: for Ollama, which goes by it, and for no other engine."""
    keep(store, preset("llama3.2-1b"), parameters={"num_ctx": 16384, "num_batch": 256, "stop": ["<|eot_id|>"], "temperature": 0.6})
    made = plan("ollama:llama3.2:3b", engine="ollama", gpu="RTX 4090")
    assert (made.workload.context_tokens, made.settings.ubatch) == (16384, 256)
    assert plan("ollama:llama3.2:3b", engine="ollama", gpu="RTX 4090", context_tokens=4096).workload.context_tokens == 4096
    assert plan("ollama:llama3.2:3b", engine="llama.cpp", gpu="RTX 4090").settings.ubatch is None


def test_towers_and_adapters_count(store):
    """A projector layer's tensors are the model's; an adapter layer is planned as an adapter, and its rank is read."""
    clip = make(
        {"general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True, "clip.vision.block_count": 1},
        [("v.blk.0.attn_q.weight", (64, 64), "F16"), ("mm.0.weight", (64, 2048), "F16")],
    )
    lora = make(
        {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 16.0},
        [("blk.0.attn_q.weight.lora_a", (2048, 8), "F16"), ("blk.0.attn_q.weight.lora_b", (8, 2048), "F16")],
    )
    more = (layer(store, "projector", clip.header, clip.size), layer(store, "adapter", lora.header, lora.size))
    keep(store, preset("llama3.2-1b"), more=more)
    model = load_model("ollama:llama3.2:3b")
    assert sum(t.nbytes for t in model.tensors if t.component in {Component.VISION, Component.PROJECTOR}) == 2 * (64 * 64 + 64 * 2048)
    assert [a.rank for a in adapters_of("ollama:llama3.2:3b")] == [8]
    assert [a.rank for a in plan("ollama:llama3.2:3b", engine="ollama", gpu="RTX 4090").settings.lora] == [8]


def test_a_model_that_is_not_there_is_told_with_its_neighbours(store):
    """Did-you-mean from the store itself, and how it is fetched; no store at all says where it looked."""
    with pytest.raises(ModelNotFoundError, match="keeps no models in") as caught:
        load_model("ollama:llama3.2:3b")
    assert "OLLAMA_MODELS" in caught.value.hint
    keep(store, preset("llama3.2-1b"), path="registry.ollama.ai/library/llama3.2/1b")
    with pytest.raises(ModelNotFoundError) as caught:
        load_model("ollama:llama3.2:3b")
    assert "ollama:llama3.2:1b" in caught.value.hint
    assert "ollama pull llama3.2:3b" in caught.value.hint


def test_blobs_that_are_missing_or_cut_short(store):
    """Each is one error that names the file and how it is fetched again."""
    keep(store, preset("llama3.2-1b"))
    weights = find_stored("ollama:llama3.2:3b").weights
    size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.truncate(size - 1)
    with pytest.raises(ModelFormatError, match="states") as caught:
        load_model("ollama:llama3.2:3b")
    assert "ollama pull" in caught.value.hint
    weights.unlink()
    with pytest.raises(ModelNotFoundError, match="is missing") as caught:
        load_model("ollama:llama3.2:3b")
    assert "ollama pull" in caught.value.hint


GOOD = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"9" * 10_000,
        b" " * (MAX_MANIFEST_BYTES + 1),
        {"layers": None},
        {"layers": ["x"]},
        {"layers": []},
        {"layers": [{"mediaType": IMAGE + "model"}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": "sha256:../../../../etc/passwd", "size": 1}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": "../" * 8 + "etc/passwd", "size": 1}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": "sha256:" + "a" * 63 + "/", "size": 1}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": GOOD + "\n", "size": 1}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": ["a"], "size": 1}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": GOOD, "size": -1}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": GOOD, "size": 1e400}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": GOOD, "size": True}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": GOOD, "size": 2**70}]},
        {"layers": [{"mediaType": IMAGE + "model", "digest": GOOD, "size": 1}]},
        {"layers": [{"mediaType": IMAGE + "tensor", "digest": GOOD, "size": 1}] * 1200},
        {"layers": [{"mediaType": IMAGE + "license", "digest": GOOD, "size": 1}] * 1200},
        {"layers": [{"mediaType": 7, "digest": GOOD, "size": 1}]},
    ],
)
def test_a_manifest_of_strangers(store, document):
    """Whatever stands in it: one error with a hint, nothing outside the store is opened."""
    manifest(store, PATH, document)
    with pytest.raises(ModelError) as caught:
        load_model("ollama:llama3.2:3b")
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"[]", b'{"num_ctx": "4k"}', b'{"num_ctx": 0}', b'{"num_ctx": NaN}', b'{"num_gpu": -7}', b'{"num_batch": 1.5}'])
def test_parameters_of_strangers(store, data):
    """A number that makes no sense is an error that names it."""
    made = preset("llama3.2-1b")
    manifest(store, PATH, {"layers": [layer(store, "model", made.header, made.size), layer(store, "params", data)]})
    with pytest.raises(ModelFormatError) as caught:
        load_model("ollama:llama3.2:3b")
    assert caught.value.hint


def test_weights_that_are_no_gguf(store):
    """A blob of the right length and the wrong kind; a folder and a pipe where a blob should be."""
    digest, size = blob(store, b"pickled" * 100)
    document = {"layers": [{"mediaType": IMAGE + "model", "digest": f"sha256:{digest}", "size": size}]}
    manifest(store, PATH, document)
    with pytest.raises(ModelFormatError):
        load_model("ollama:llama3.2:3b")
    path = store / "blobs" / f"sha256-{digest}"
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelError):
        load_model("ollama:llama3.2:3b")


def test_a_digest_is_spelt_as_ollama_spells_it(store):
    """`sha256-…` counts as `sha256:…` (manifest/paths.go)."""
    made = preset("llama3.2-1b")
    layer(store, "model", made.header, made.size)
    document = {"layers": [{"mediaType": IMAGE + "model", "digest": f"sha256-{digest_of(made.header)}", "size": made.size}]}
    manifest(store, PATH, document)
    assert load_model("ollama:llama3.2:3b").architecture == "llama"


def test_a_manifest_as_ollama_writes_it_reads_the_same(store):
    """Key for key as WriteManifest of manifest/manifest.go has it; `from` and `name` of a layer are no matter."""
    p = {"arch": "llama", "L": 1, "d": 64, "ff": 128, "h": 2, "kv": 2, "hd": 32, "vocab": 256, "ctx": 512}
    made = make(metadata_of(p), [(n, d, stored_type(n, d, "F16", p)) for n, d in tensor_table(p)])
    entry = {**layer(store, "model", made.header, made.size), "from": "/srv/x", "name": "y"}
    file = manifest(store, PATH, {"schemaVersion": 2, "mediaType": "m", "config": {"digest": "", "size": 0, "mediaType": ""}, "layers": [entry]})
    assert json.loads(file.read_text())["layers"][0]["size"] == made.size
    assert load_model("ollama:llama3.2:3b").parameters > 0
