"""A store as Ollama keeps it: manifests by name, blobs by digest. Blobs of true shapes are sparse files, named by a digest of their header."""

import hashlib
import json
from pathlib import Path
from typing import Any

from data.make_gguf import Made, preset

# Llama-3.2-3B, as `ollama pull llama3.2:3b` has it.
LLAMA_3B = {"L": 28, "d": 3072, "ff": 8192, "h": 24, "kv": 8, "hd": 128}
IMAGE = "application/vnd.ollama.image."


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob(store: Path, data: bytes, size: int | None = None) -> tuple[str, int]:
    """Keep `data` (sparse up to `size`); its digest and length."""
    digest, size = digest_of(data), len(data) if size is None else size
    path = store / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
    return digest, size


def layer(store: Path, kind: str, data: bytes, size: int | None = None) -> dict[str, Any]:
    digest, length = blob(store, data, size)
    return {"mediaType": IMAGE + kind, "digest": f"sha256:{digest}", "size": length}


def manifest(store: Path, path: str, document: Any) -> Path:
    """Write a manifest: a document, or bytes as they are."""
    file = store / "manifests" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return file


def keep(
    store: Path, made: Made | bytes, *, path: str = "registry.ollama.ai/library/llama3.2/3b", parameters: dict[str, Any] | None = None, more: tuple = ()
) -> Path:
    """A model in the store, with a template and a licence as they usually stand beside it."""
    data, size = (made, None) if isinstance(made, bytes) else (made.header, made.size)
    config = layer(store, "x", json.dumps({"model_format": "gguf", "model_family": "llama"}).encode())
    layers = [layer(store, "model", data, size), layer(store, "template", b"{{ .Prompt }}"), layer(store, "license", b"a licence"), *more]
    if parameters is not None:
        layers.append(layer(store, "params", json.dumps(parameters).encode()))
    document = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
    return manifest(store, path, {**document, "config": {**config, "mediaType": "application/vnd.docker.container.image.v1+json"}, "layers": layers})


def llama_3b() -> Made:
    return preset("llama3.2-1b", **LLAMA_3B)
