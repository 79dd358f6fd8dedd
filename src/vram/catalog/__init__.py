"""The built-in catalogue: models that people run, as facts of their config.json, each with its source.

Knows no weights and no network. Each model's parameter count was held against the one that its publisher states when
the catalogue was built, and is again by a test; truth/oracle/catalogue.py says how its files are made.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["CatalogModel", "compiled", "find", "key", "names", "quality", "suggest"]

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One model of the catalogue.

    Attributes:
        id: its hub id, `org/name`.
        config: the fields of its config.json that fix shapes, caches and types.
        config_source: the published file that they were read from.
        parameters: the count that is stated for it, exact, or as rounded text (`671B`).
        parameters_source: who states it.
        beside: what that count holds beside the model that generates (a multi-token-prediction layer, scales), "" for nothing.
        licence: as the model's page tags it, None where it was not looked up.
        released: the day that its repository was made, None likewise.
        modality: `text`, `text+image`, `audio`, `embedding`.
    """

    id: str
    config: Mapping[str, Any]
    config_source: str
    parameters: int | str
    parameters_source: str
    beside: str = ""
    licence: str | None = None
    released: str | None = None
    modality: str = "text"


def key(name: str) -> str:
    """How names are compared: case, spaces, `-`, `_` and `:` don't matter."""
    return re.sub(r"[\s_:\-]+", "", name.lower())


@cache
def _index() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((_HERE / "index.json").read_bytes())
    return found


def find(name: str) -> CatalogModel | None:
    """The model that `name` means: a hub id, or what people call it (`llama3.1:8b`, `qwen3-8b`); None when nobody here knows it.

    A hub id of a publisher that is not in the catalogue is not taken for another publisher's model of the same name.
    """
    place = _index()["names"].get(key(name)) if len(name) <= 200 else None
    if place is None:
        return None
    slug, member = place
    file = json.loads((_HERE / "models" / f"{slug}.json").read_bytes())
    facts, config = file["members"][member], file["config"]
    if context := facts.pop("context", None):
        config = {**config, "max_position_embeddings": context}
    return CatalogModel(config=config, config_source=file["config_source"], **facts)


def names() -> tuple[str, ...]:
    """Every hub id of the catalogue, families together."""
    return tuple(_index()["ids"])


def compiled() -> bytes:
    """The catalogue as numbers for plans by the hundred thousand (vram/planner/bulk/file.py says what they are)."""
    return (_HERE / "facts.bin").read_bytes()


@cache
def quality() -> Mapping[str, Any]:
    """What `vram pick` ranks models by, as it lies in quality.json: each value with the short name of its source."""
    found: Mapping[str, Any] = json.loads((_HERE / "quality.json").read_bytes())
    return found


def suggest(name: str, count: int = 3) -> list[str]:
    """Up to `count` hub ids whose names are near to `name`, for did-you-mean."""
    from difflib import get_close_matches  # noqa: PLC0415  (only a slip of the fingers pays for it)

    index = _index()
    near = get_close_matches(key(name[:100]), index["names"], n=count * 3, cutoff=0.6)
    by_place = {tuple(index["names"][key(i)]): i for i in index["ids"]}
    return list(dict.fromkeys(by_place[tuple(index["names"][n])] for n in near))[:count]
