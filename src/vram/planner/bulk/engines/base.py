"""An engine in bulk: which cards are alike to it, and what it says of a batch on such cards."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.planner.bulk.batch import Band, Batch, Cards, Ranks
from vram.planner.bulk.facts import Ints, Ragged


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkEngine:
    """How an engine is asked about many plans.

    Attributes:
        alike: what of a card the engine's rules look at, beside its size where they only compute with it; None: it refuses the card.
        ranks: what it says of a batch on cards that are alike.
        weights: where its weights stand.
    """

    alike: Callable[[Gpu, Placement], Hashable]
    ranks: Callable[[Batch, Cards], Ranks]
    weights: str


def rows_of(batch: Batch, table: Ragged, before: Ints) -> Ints:
    """Rows of `table` for each variant and stage of the batch: shaped (variants, stages).

    Args:
        batch: the batch.
        table: weights.
        before: rows of smaller placements that a body has, by body.
    """
    first = table.starts[batch.variants] + before[batch.facts.column["body"][batch.variants]]
    return np.asarray(first[:, None] + np.arange(batch.placement.pp, dtype=np.int64)[None, :])


def numbers_of(table: Ragged, rows: Ints, *names: str) -> Ints:
    """The sum of columns in those rows, shaped (variants, stages, 1)."""
    total = table.column[names[0]][rows]
    for name in names[1:]:
        total = total + table.column[name][rows]
    return np.asarray(total[:, :, None])


def on_first(batch: Batch, values: Ints) -> Ints:
    """Numbers of variants, shaped (variants, 1, 1), where the first stage alone has them."""
    return np.asarray(values * (np.arange(batch.placement.pp) == 0)[None, :, None])


def band_of(table: Ragged, rows: Ints, name: str, *, base: str = "", beyond: tuple[str, ...] = ()) -> Band:
    """The band of `name`, `name_less` and `name_more`, on top of `base`, and of what each of `beyond` takes more."""

    def column(end: str) -> Any:
        if name + end not in table.column:
            return 0  # without doubt on that side
        total = table.column[name + end][rows]
        for other in beyond:
            total = total + table.column[other + end][rows]
        return total[:, :, None]

    size = column("") + (table.column[base][rows][:, :, None] if base else 0)
    return Band(bytes=size, low=size - column("_less"), high=size + column("_more"))


def share_of(room: Any, factor: int, size: Any) -> Any:
    """`room * factor // size`, exact where the product is past 64 bits, too."""
    whole = np.asarray(room * 1.0 * factor < _SAFE)
    if whole.all():
        return room * factor // size
    found = np.broadcast_arrays(room, size)
    exact = [r * factor // s for r, s in zip(found[0].ravel().tolist(), found[1].ravel().tolist(), strict=True)]
    return np.array([min(n, _MOST) for n in exact], dtype=np.int64).reshape(found[0].shape)


_SAFE, _MOST = 2.0**62, 2**62


def per_token(one: Any, tokens: int) -> Callable[[Any], tuple[Any, Any]]:
    """`Engine.capacity` where a sequence takes `one` bytes: tokens and sequences that room holds."""

    def capacity(room: Any) -> tuple[Any, Any]:
        least = np.maximum(one, 1)
        return np.where(one > 0, share_of(room, tokens, least), -1), np.where(one > 0, room / least, np.nan)

    return capacity
