"""One of SkyPilot's price lists (`catalogs/v8/<provider>/vms.csv`) as prices: the lowest that a provider asks for each GPU.

Its columns: https://github.com/skypilot-org/skypilot-catalog (README, "Schema"). A row is a machine in a region: its price is that of all its
GPUs with what lies around them. Whatever is odd in a row is counted and left out; nothing in a list is believed beyond its bounds.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from vram.costs.money import MOST_USD_PER_GPU_HOUR
from vram.costs.price import Price
from vram.errors import PriceListError, printable

MOST_BYTES: Final = 32 * 2**20
MOST_ROWS: Final = 500_000
MOST_NAMES: Final = 2_000
MOST_GPUS_PER_MACHINE: Final = 72
_NEEDED: Final = ("AcceleratorName", "AcceleratorCount", "Price")
_NAME: Final = re.compile(r"""['"]Name['"]\s*:\s*['"]([^'"]{1,60})['"]""")
_MIB: Final = re.compile(r"""SizeInMiB['"]\s*:\s*(\d{1,9})""")
_FORM: Final = re.compile(r"(?<![a-z])(sxm|pcie|nvl(?!ink))", re.IGNORECASE)

NameOf = Callable[[str, int | None], str | None]
"""The catalogue's name of a GPU that somebody calls so and that has about so many MiB; None when it knows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a list holds.

    Attributes:
        prices: the lowest for each GPU and kind.
        rows: rows in all.
        unknown: GPUs that the catalogue does not know, with how many rows name them.
        odd: rows whose price or count makes no sense.
    """

    prices: tuple[Price, ...]
    rows: int
    unknown: Mapping[str, int]
    odd: int


def parse(data: bytes, provider: str, name_of: NameOf, *, as_of: str, source: str) -> Parsed:
    """The prices of one list.

    Args:
        data: the list as it came.
        provider: whose it is, as it shall be shown.
        name_of: finds the catalogue's name of a GPU.
        as_of: the day on which it was read: lists state none.
        source: where it was read.

    Raises:
        PriceListError: it is no such list, or too long.
    """
    if len(data) > MOST_BYTES:
        raise PriceListError(f"{source} is longer than {MOST_BYTES:,} bytes", hint="check VRAM_PRICES_URL")
    lowest: dict[tuple[str, str], tuple[float, str]] = {}
    unknown: Counter[str] = Counter()
    names: dict[tuple[str, str, str], str | None] = {}
    rows = odd = 0
    for rows, row in enumerate(_rows(data, source), 1):  # noqa: B007  (counts them)
        accelerator = row.get("AcceleratorName", "").strip()[:80]
        if not accelerator:
            continue
        key = (accelerator, row.get("GpuInfo", "")[:400], row.get("InstanceType", "")[:80])
        if key not in names:
            if len(names) >= MOST_NAMES:
                odd += 1
                continue
            names[key] = _gpu(*key, name_of)
        gpu, count = names[key], _number(row.get("AcceleratorCount", ""))
        if gpu is None:
            unknown[accelerator] += 1
            continue
        # A machine without a name is a GPU that is priced apart from the machine around it.
        if not key[2] or count is None or count != int(count) or not 1 <= count <= MOST_GPUS_PER_MACHINE:
            odd += 1
            continue
        where = f"{key[2]} in {row.get('Region', '').strip()[:40] or 'any region'}"
        for kind, column in (("on-demand", "Price"), ("spot", "SpotPrice")):
            whole = _number(row.get(column, ""))
            if whole is None:
                odd += bool(row.get(column, "").strip())
            elif not 0 < (usd := whole / count) <= MOST_USD_PER_GPU_HOUR:
                odd += 1
            elif usd < lowest.get((gpu, kind), (math.inf, ""))[0]:
                lowest[gpu, kind] = usd, where
    prices = tuple(
        Price(
            gpu=gpu,
            usd_per_gpu_hour=round(usd, 6),
            provider=provider,
            kind=kind,
            as_of=as_of,
            dated="read",
            source=source,
            note=f"the lowest, {printable(where, 120)}",
        )
        for (gpu, kind), (usd, where) in sorted(lowest.items())
    )
    return Parsed(prices=prices, rows=rows, unknown=dict(unknown), odd=odd)


def _rows(data: bytes, source: str) -> Iterator[dict[str, str]]:
    text = data.decode("utf-8-sig", errors="replace")
    try:
        lines = csv.reader(text.splitlines(), strict=True)
        head = next(lines, [])
        missing = [name for name in _NEEDED if name not in head]
        if missing or len(head) > 100:
            raise PriceListError(f"{source} is no price list: it has no column {missing[0] if missing else ''}".rstrip(), hint="check VRAM_PRICES_URL")
        for number, row in enumerate(lines):
            if number >= MOST_ROWS:
                raise PriceListError(f"{source} has more than {MOST_ROWS:,} rows", hint="check VRAM_PRICES_URL")
            yield dict(zip(head, row, strict=False))
    except csv.Error as e:
        raise PriceListError(f"{source} is no price list: {e}", hint="check VRAM_PRICES_URL") from None


def _number(text: str) -> float | None:
    try:
        value = float(text) if len(text) <= 40 and "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _gpu(accelerator: str, info: str, machine: str, name_of: NameOf) -> str | None:
    """The catalogue's name: what the list calls the card, with its form (SXM, PCIe, NVL) where any column tells."""
    name, size = _NAME.search(info), _MIB.search(info)
    mib = int(size[1]) if size else None
    if mib is not None and mib < 1024:  # RunPod's list writes GB there
        mib *= 1024
    called = [accelerator.replace("-NVLink", ""), *([name[1].replace("-NVLink", "")] if name else [])]
    form = _FORM.search(" ".join([*called, machine]))
    for text in called:
        for spelled in [text] if form is None or _FORM.search(text) else [f"{_unsized(text)} {form[1]}", text]:
            found = name_of(spelled.replace("-", " ").replace("_", " "), mib)
            if found is not None:
                return found
    return None


def _unsized(text: str) -> str:
    return re.sub(r"[-_ ]\d+ ?GB?$", "", text)
