"""Ollama's names, and the manifest that lies under each: which blobs a model is made of, and the parameters that it states.

Formats: types/model/name.go, manifest/manifest.go and manifest/paths.go, api.Options in api/types.go of github.com/ollama/ollama (v0.32).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vram.errors import ModelFormatError, UsageError
from vram.readers.config_json import parse_config

PREFIX: Final = "ollama:"
"""Before a name of Ollama's store, wherever a model is named."""
MAX_MANIFEST_BYTES: Final = 2**18
MAX_PARAMETERS_BYTES: Final = 2**18
MAX_LAYERS: Final = 1024
_IMAGE: Final = "application/vnd.ollama.image."
_HINT: Final = "fetch it again: ollama pull"
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", re.ASCII)
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII)
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A model's name with all that Ollama adds to it."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def path(self) -> str:
        """Its manifest inside the store."""
        return f"manifests/{self.host}/{self.namespace}/{self.model}/{self.tag}"

    @property
    def short(self) -> str:
        """As Ollama lists it: without the registry and namespace that are meant anyway."""
        where = "" if self.host == HOST and self.namespace == NAMESPACE else f"{self.namespace}/" if self.host == HOST else f"{self.host}/{self.namespace}/"
        return f"{where}{self.model}:{self.tag}"


HOST: Final = "registry.ollama.ai"
NAMESPACE: Final = "library"
TAG: Final = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A file of the store: its name there, and its length as the manifest states it."""

    file: str
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a model is made of.

    Attributes:
        weights: the GGUF.
        adapters: LoRA adapters that are always on.
        projectors: towers for images or sound.
        draft: a model that drafts; None for none.
        parameters: what its Modelfile sets (PARAMETER); None for nothing.
    """

    weights: Blob
    adapters: tuple[Blob, ...] = ()
    projectors: tuple[Blob, ...] = ()
    draft: Blob | None = None
    parameters: Blob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a Modelfile sets of its runner: it goes before the server's own variables. None where it says nothing."""

    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    others: Mapping[str, Any] = field(default_factory=dict)


def is_stored(reference: str) -> bool:
    """Whether a reference names a model of Ollama's store."""
    return reference.lower().startswith(PREFIX)


def parse_name(reference: str) -> Name:
    """`ollama:llama3.2:3b`, `ollama:namespace/model:tag`, `ollama:hf.co/org/name:Q4_K_M`.

    Raises:
        UsageError: Ollama has no such names.
    """
    text = reference[len(PREFIX) :] if is_stored(reference) else reference
    head, sign, tag = text.rpartition(":") if ":" in text.rpartition("/")[2] else (text, ":", TAG)
    pieces = head.split("/")
    host, namespace = (pieces[-3] if len(pieces) > 2 else HOST), (pieces[-2] if len(pieces) > 1 else NAMESPACE)
    model = pieces[-1]
    known = sign and len(pieces) <= 3 and _HOST.fullmatch(host) and _NAMESPACE.fullmatch(namespace) and _PART.fullmatch(model) and _PART.fullmatch(tag)
    if not known:
        raise UsageError(f"{reference[:200]!r} is no name that Ollama knows", hint="write it like ollama:llama3.2:3b; ollama list shows the names")
    return Name(host=host, namespace=namespace, model=model, tag=tag)


def parse_manifest(data: bytes, where: str) -> Manifest:
    """A manifest out of its bytes.

    Raises:
        ModelFormatError: no manifest, or one of a model that has no GGUF here.
    """
    document = parse_config(data, where)
    layers = document.get("layers")
    if not isinstance(layers, list) or not all(isinstance(x, Mapping) for x in layers):
        raise ModelFormatError("no manifest of a model: it has no list of layers", where=where, hint=_HINT)
    if len(layers) > MAX_LAYERS:
        if any(x.get("mediaType") == f"{_IMAGE}tensor" for x in layers):
            raise _tensors(where)
        raise ModelFormatError(f"{len(layers)} layers are more than a model has", where=where, hint=_HINT)
    found: dict[str, list[Blob]] = {}
    for layer in layers:
        kind = layer.get("mediaType")
        if isinstance(kind, str) and kind.startswith(_IMAGE):
            found.setdefault(kind.removeprefix(_IMAGE), []).append(_blob(layer, where))
    if "model" not in found:
        if "tensor" in found:
            raise _tensors(where)
        raise ModelFormatError(
            "it names no weights: a model that runs in Ollama's cloud, or none at all", where=where, hint="name one that lies here: ollama list shows its size"
        )
    # As Ollama reads it (server/images.go, GetModel): of several the last one counts, adapters and projectors add up.
    return Manifest(
        weights=found["model"][-1],
        adapters=tuple(found.get("adapter", ())),
        projectors=tuple(found.get("projector", ())),
        draft=found["draft"][-1] if "draft" in found else None,
        parameters=found["params"][-1] if "params" in found else None,
    )


def _tensors(where: str) -> ModelFormatError:
    return ModelFormatError(
        "stored tensor by tensor for Ollama's MLX runner, not as a GGUF", where=where, hint="name a tag that is a GGUF, or the model's hub id"
    )


def _blob(layer: Mapping[str, Any], where: str) -> Blob:
    digest, size = layer.get("digest"), layer.get("size")
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None:
        raise ModelFormatError(f"a layer's digest is {str(digest)[:100]!r}, no sha256", where=where, hint=_HINT)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise ModelFormatError(f"a layer's size is {str(size)[:100]!r}", where=where, hint=_HINT)
    return Blob(file=f"blobs/sha256-{match[1]}", nbytes=size)


def parse_parameters(data: bytes, where: str) -> Parameters:
    """The parameters of a Modelfile, as the store keeps them.

    Raises:
        ModelFormatError: no JSON object, or a number that makes no sense.
    """
    document = parse_config(data, where)

    def whole(name: str, least: int) -> int | None:
        value = document.get(name)
        if value is None:
            return None
        # Ollama's own store holds them as JSON numbers, some with a fraction of zero.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 2**31 or int(value) != value:
            raise ModelFormatError(f"{name} is {str(value)[:100]!r}", where=where, hint=_HINT)
        return int(value)

    known = {"num_ctx": whole("num_ctx", 1), "num_batch": whole("num_batch", 1), "num_gpu": whole("num_gpu", -1)}
    return Parameters(**known, others={k: v for k, v in document.items() if k not in known})
