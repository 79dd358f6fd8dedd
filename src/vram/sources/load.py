"""A reference to a Model: a local path, Ollama's store, then the hub's local cache, then the hub, then the built-in catalogue."""

import re
from pathlib import Path
from typing import Final

from vram.errors import ModelError, ModelFormatError, ModelNotFoundError, SourceError, UsageError
from vram.model.model import Model
from vram.readers.config_json import MAX_CONFIG_BYTES, model_from_config, parse_config
from vram.settings import Settings, settings
from vram.sources.folder import Progress, model_from_source
from vram.sources.local import LocalSource, snapshot

_PART: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,95})"
_HUB_ID: Final = re.compile(rf"(?P<repository>{_PART}/{_PART})(?::(?P<only>[A-Za-z0-9._-]{{1,128}}))?(?:@(?P<revision>[^\s@]{{1,255}}))?", re.ASCII)
_FILES: Final = (".safetensors", ".gguf", ".json", ".bin", ".pt", ".pth")


def load_model(reference: str, *, revision: str | None = None, offline: bool | None = None, progress: Progress | None = None) -> Model:
    """Read what a model is: from headers and configs, never from weights.

    Args:
        reference: a local folder or file, a hub id (`org/name`, `org/name@revision`, `org/name:Q4_K_M` for one of several
            GGUF files), a model of Ollama's store (`ollama:llama3.2:3b`), or a name of the built-in catalogue.
        revision: branch, tag or commit of a hub repository.
        offline: touch no network; `HF_HUB_OFFLINE` decides when None.
        progress: called with files read, files in all, and bytes read so far.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelFormatError: a file breaks its format.
        UnknownArchitectureError: only a config.json of an unknown type was found.
        SourceError: the hub or the disk failed.
        UsageError: an environment variable makes no sense.
    """
    if not reference.strip() or "\0" in reference:
        raise UsageError(f"{reference!r} names no model", hint="give a folder, a file, a hub id (org/name) or a name of `vram models`")
    if reference.lower().startswith("ollama:"):
        if revision is not None:
            raise UsageError(f"{reference} lies in Ollama's store, which has no revisions", hint="leave --revision out; a tag stands after the name")
        from vram.sources.ollama import load_stored  # noqa: PLC0415  (only for Ollama's store)

        return load_stored(reference)
    path = Path(reference).expanduser()
    if _exists(path):
        if revision is not None:
            raise UsageError(f"{reference} is a local path, which has no revisions", hint="leave --revision out")
        return _load_path(path, reference, progress)
    options = settings()
    match = _HUB_ID.fullmatch(reference)
    if match is not None and not _looks_local(reference):
        return _load_hub(
            match, reference, revision or match["revision"], offline=options.offline if offline is None else offline, options=options, progress=progress
        )
    known = _catalogued(reference, reference)
    if known is not None:
        return known
    raise _not_found(reference)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _looks_local(reference: str) -> bool:
    """Whether somebody who types this means a path that is not there, rather than a hub id."""
    return reference.startswith((".", "/", "~", "\\")) or reference.lower().endswith(_FILES)


def _load_path(path: Path, reference: str, progress: Progress | None) -> Model:
    if path.is_dir():
        return model_from_source(LocalSource(path, reference.rstrip("/") or reference), reference, progress=progress)
    source = LocalSource(path.parent, depth=1)
    if path.name.lower().endswith((".safetensors", ".gguf")):
        return model_from_source(source, reference, only=path.name, progress=progress)
    if path.name.lower().endswith(".json"):
        data = source.read_all(path.name, MAX_CONFIG_BYTES)
        return model_from_config(parse_config(data, reference), reference, len(data), where=reference)
    if path.name.lower().endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")):
        raise ModelError(
            f"{reference} is a pickled file: opening it would run code of a stranger",
            hint="convert the weights to safetensors: https://huggingface.co/docs/safetensors/convert-weights",
        )
    raise ModelFormatError("neither a config (*.json) nor *.safetensors nor *.gguf", where=reference, hint="give the folder that holds the model's config.json")


def _load_hub(match: re.Match[str], reference: str, revision: str | None, *, offline: bool, options: Settings, progress: Progress | None) -> Model:
    repository, only = match["repository"], match["only"] or ""
    downloaded, unread = _downloaded(repository, reference, only, revision or "main", options, progress)
    if downloaded is not None and (offline or downloaded.source == "header"):
        return downloaded
    try:
        return _ask_hub(repository, reference, only, revision, options=options, progress=progress, offline=offline)
    except ModelNotFoundError:
        raise
    except SourceError as e:
        if downloaded is not None:
            return downloaded
        if unread is not None and offline:
            raise unread from None
        # The catalogue holds the main branch's config, and no one of several quantised files.
        known = None if only or revision not in {None, "main"} else _catalogued(repository, reference, _instead(e, offline=offline))
        if known is not None:
            return known
        if not offline:
            close = _similar(repository)
            if close:
                raise SourceError(e.message, hint=f"{close} Otherwise: {e.hint}") from e
            raise
    raise ModelNotFoundError(
        f"{reference} is neither in the local caches nor in the built-in catalogue, and the network is not to be touched",
        hint=_similar(repository) or "leave --offline out (and HF_HUB_OFFLINE unset), or give a local folder",
    )


def _downloaded(
    repository: str, reference: str, only: str, revision: str, options: Settings, progress: Progress | None
) -> tuple[Model | None, ModelError | None]:
    """What the hub's own tools downloaded of a repository, or why that can't be read."""
    local = snapshot(options.downloads, repository, revision)
    if local is None:
        return None, None
    folder, commit = local
    source = LocalSource(folder, repository)
    source.notes.append(f"read from the local hub cache, commit {commit[:12]}")
    try:
        return model_from_source(source, reference, only=only, progress=progress), None
    except ModelError as e:  # often only some of the files were downloaded
        return None, e


def _instead(error: SourceError, *, offline: bool) -> str:
    """The note for a config of the catalogue that stands in for the hub's files."""
    if offline:
        return "offline: the built-in catalogue's config is used"
    return f"not read from the hub ({error.message}; {error.hint}): the built-in catalogue's config is used"


def _ask_hub(repository: str, reference: str, only: str, revision: str | None, *, options: Settings, progress: Progress | None, offline: bool = False) -> Model:
    from vram.sources.hub import HubSource  # noqa: PLC0415  (start-up: no HTTP for local models)

    try:
        with HubSource(repository, revision=revision, options=options, offline=offline) as source:
            return model_from_source(source, reference, only=only, progress=progress)
    except ModelNotFoundError as e:
        from vram.catalog import find  # noqa: PLC0415  (only for errors)

        if find(repository) is not None:
            raise ModelNotFoundError(e.message, hint="the built-in catalogue knows this model: add --offline to plan from it") from None
        close = _similar(repository)
        raise ModelNotFoundError(e.message, hint=f"{close} Otherwise: {e.hint}" if close else e.hint) from None


def _catalogued(name: str, reference: str, *notes: str) -> Model | None:
    """The built-in catalogue's model of that name, if it has one."""
    from vram.catalog import find  # noqa: PLC0415  (data that most runs need not)

    found = find(name)
    if found is None:
        return None
    return model_from_config(found.config, reference, 0, "catalogue", where=f"catalogue: {found.id}", notes=notes)


def catalogued(name: str) -> Model:
    """A model of the built-in catalogue.

    Raises:
        ModelNotFoundError: the catalogue has no such model.
    """
    known = _catalogued(name, name)
    if known is None:
        raise _not_found(name)
    return known


def _similar(name: str) -> str:
    """The hint that names models of the catalogue spelled like `name`, empty when there are none."""
    from vram.catalog import suggest  # noqa: PLC0415  (only for errors)

    close = suggest(name)
    return f"did you mean {' or '.join(close)}?" if close else ""


def _not_found(reference: str) -> ModelNotFoundError:
    hint = _similar(reference)
    if _looks_local(reference):
        return ModelNotFoundError(f"{reference}: no such file or folder", hint=hint or "check the path, or give a hub id (org/name)")
    return ModelNotFoundError(
        f"{reference!r} is no local path, no hub id (org/name) and no name of the built-in catalogue", hint=hint or "see `vram models` for the names"
    )
