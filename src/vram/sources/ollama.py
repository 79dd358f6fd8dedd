"""Ollama's model store on this disk: a name to the files that it means, and those to a Model. It asks no registry and pulls nothing."""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from vram.errors import ModelFormatError, ModelNotFoundError
from vram.model.adapter import Adapter
from vram.model.model import Model
from vram.readers.gguf import GgufHeader, model_from_gguf, read_gguf
from vram.readers.ollama import (
    MAX_MANIFEST_BYTES,
    MAX_PARAMETERS_BYTES,
    Blob,
    Manifest,
    Name,
    Parameters,
    is_stored,
    parse_manifest,
    parse_name,
    parse_parameters,
)
from vram.settings import settings
from vram.sources.local import LocalSource

SERVICE: Final = Path("/usr/share/ollama/.ollama/models")
"""Where the service that Ollama's installer makes on Linux keeps its models (docs/faq.md)."""
MOST_LISTED: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A model of the store.

    Attributes:
        name: as Ollama lists it (`llama3.2:3b`).
        folder: the store.
        manifest: which blobs it is made of.
        parameters: what its Modelfile sets.
    """

    name: str
    folder: Path
    manifest: Manifest
    parameters: Parameters

    @property
    def weights(self) -> Path:
        """Its GGUF."""
        return self.folder / self.manifest.weights.file

    @property
    def adapters(self) -> tuple[Path, ...]:
        """Its LoRA adapters."""
        return tuple(self.folder / b.file for b in self.manifest.adapters)

    @property
    def projector(self) -> Path | None:
        """Its tower; Ollama loads the first one."""
        return self.folder / self.manifest.projectors[0].file if self.manifest.projectors else None


def find_stored(reference: str, folder: Path | None = None) -> Stored:
    """The model that `ollama:NAME` names, all of its blobs checked to be there.

    Args:
        reference: the name.
        folder: the store; that of the environment (OLLAMA_MODELS) when None.

    Raises:
        UsageError: Ollama has no such names.
        ModelNotFoundError: the store has no such model, or a blob is missing.
        ModelFormatError: the manifest or its parameters break their format, or a blob is not whole.
        SourceError: the disk failed.
    """
    name, source = parse_name(reference), _source(folder)
    if source.size(name.path) is None:
        raise _not_found(name, Path(source.name))
    manifest = parse_manifest(source.read_all(name.path, MAX_MANIFEST_BYTES), source.where(name.path))
    for blob in (manifest.weights, *manifest.adapters, *manifest.projectors, *(b for b in (manifest.draft, manifest.parameters) if b is not None)):
        _whole(source, blob, name)
    parameters = Parameters()
    if manifest.parameters is not None:
        file = manifest.parameters.file
        parameters = parse_parameters(source.read_all(file, MAX_PARAMETERS_BYTES), source.where(file))
    return Stored(name=name.short, folder=Path(source.name), manifest=manifest, parameters=parameters)


def load_stored(reference: str, folder: Path | None = None) -> Model:
    """What a model of the store is, by the headers of its files.

    Raises:
        UsageError, ModelNotFoundError, ModelFormatError, SourceError: as `find_stored`.
    """
    stored = find_stored(reference, folder)
    source = _source(stored.folder)
    model = model_from_gguf([_header(source, stored.manifest.weights)], reference)
    if stored.manifest.projectors:
        from vram.sources.adapter import with_tower  # noqa: PLC0415  (only for towers)

        tower = model_from_gguf([_header(source, stored.manifest.projectors[0])], f"{reference}'s projector")
        model = with_tower(model, tower, "its projector layer")
    notes = [f"read from Ollama's store, {source.name}"]
    if stored.manifest.draft is not None:
        notes.append("its draft model is not counted")
    return replace(model, bytes_read=source.bytes_read, notes=(*notes, *model.notes))


def adapters_of(reference: str, folder: Path | None = None) -> tuple[Adapter, ...]:
    """The LoRA adapters that a model of the store always has on; none for any other reference.

    Raises:
        UsageError, ModelNotFoundError, ModelFormatError, SourceError: as `find_stored`.
    """
    if not is_stored(reference):
        return ()
    from vram.readers.gguf_adapter import adapter_from_gguf  # noqa: PLC0415  (few models have one)

    stored = find_stored(reference, folder)
    source = _source(stored.folder)
    return tuple(adapter_from_gguf(_header(source, blob), f"adapter {k + 1} of {stored.name}") for k, blob in enumerate(stored.manifest.adapters))


def listed(folder: Path | None = None) -> tuple[str, ...]:
    """The names of the store's models, as Ollama lists them."""
    root = Path(_source(folder).name) / "manifests"
    found = []
    for path in islice(root.glob("*/*/*/*"), MOST_LISTED):
        host, namespace, model, tag = path.relative_to(root).parts
        found.append(Name(host=host, namespace=namespace, model=model, tag=tag).short)
    return tuple(sorted(found))


def _source(folder: Path | None) -> LocalSource:
    return LocalSource((folder or settings().ollama_store).absolute(), depth=1)


def _header(source: LocalSource, blob: Blob) -> GgufHeader:
    def read(start: int, length: int) -> bytes:
        return source.read(blob.file, start, length)

    return read_gguf(read, blob.nbytes, source.where(blob.file))


def _whole(source: LocalSource, blob: Blob, name: Name) -> None:
    size = source.size(blob.file)
    if size is None:
        raise ModelNotFoundError(f"{name.short}: {source.where(blob.file)} is missing", hint=f"fetch it again: ollama pull {name.short}")
    if size != blob.nbytes:
        raise ModelFormatError(
            f"{size:,} bytes, and the manifest of {name.short} states {blob.nbytes:,}",
            where=source.where(blob.file),
            hint=f"it was not fetched whole: ollama pull {name.short}",
        )


def _not_found(name: Name, folder: Path) -> ModelNotFoundError:
    if not (folder / "manifests").is_dir():
        service = f"; that of the system's service: OLLAMA_MODELS={SERVICE}" if folder != SERVICE else ""
        return ModelNotFoundError(f"Ollama keeps no models in {folder}", hint=f"name its store by OLLAMA_MODELS{service}")
    from difflib import get_close_matches  # noqa: PLC0415  (only for errors)

    there = listed(folder)
    close = get_close_matches(name.short, there, n=3, cutoff=0.5) or [n for n in there if n.partition(":")[0] == name.model][:3]
    told = f"did you mean {' or '.join('ollama:' + c for c in close)}? Otherwise: " if close else ""
    return ModelNotFoundError(f"{name.short} is not in Ollama's store, {folder}", hint=f"{told}ollama pull {name.short}")
