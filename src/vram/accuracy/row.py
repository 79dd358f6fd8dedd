"""One measured start of one engine, as truth/README.md describes it. It knows the schema, and nothing of models.

Rows come from strangers' files: whatever is wrong with one is told with its line, and the others are read on.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vram.accuracy.speed_row import SpeedRow, is_speed_row, parse_speed_row
from vram.errors import printable
from vram.units import GIB

MAX_LINE: Final = 1_000_000
MAX_ROWS: Final = 1_000_000
_PRINTED_DOUBT: Final = 0.005
"""GiB: half a unit of the second decimal, which is the last that engines print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A size as it was printed: `gib` GiB, known to half a unit of its last digit, `doubt_gib`."""

    gib: float
    doubt_gib: float

    @property
    def bytes(self) -> int:
        """The size in whole bytes."""
        return round(self.gib * GIB)

    @property
    def doubt_bytes(self) -> int:
        """How far the true size may lie from the printed one."""
        return round(self.doubt_gib * GIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. None is: not printed.

    Attributes:
        id: unique in its file; `line N` where the row has none.
        measured: the figures in GiB by their name in the row, without `_gib`.
        counts: the figures that are counts (tokens, blocks, sequences) by their name.
        flag: why the row is no evidence (mislabelled, inconsistent, circular), empty when it is.
        failure: how it is known that the engine could not serve for want of memory, empty when it could.
        other_failure: how a start ended that failed for a reason that is not the model's memory, else empty.
        ep_size: ranks that the experts are dealt to, where the row tells a number; else 1.
        prefix_caching: whether prefixes were kept, where the row tells it.
        drafted: tokens that the model's own multi-token-prediction layers draft at a time, where the row tells of them; else 0.
        language_only: whether the towers of a multimodal model were left out (`--language-model-only`).
        pool_given: whether the pool was set by hand, so that nothing was derived.
        graphs_deducted: whether that build takes an estimate of the CUDA graphs off the pool.
    """

    id: str
    engine: str
    version: str
    version_text: str
    model_id: str
    config: str
    config_relation: str
    dtype: str
    quant: str
    kv_dtype: str
    tp: int
    pp: int
    ep: bool
    ep_size: int
    gpu: str
    total: Figure | None
    utilization: float | None
    max_model_len: int | None
    concurrency_tokens: int | None
    max_num_seqs: int | None
    max_batched_tokens: int | None
    block_size: int | None
    enforce_eager: bool
    language_only: bool
    prefix_caching: bool | None
    drafted: int
    measured: Mapping[str, Figure]
    counts: Mapping[str, float]
    ranks: tuple[Mapping[str, float], ...] = field(default=(), repr=False)
    architecture: str
    source: str
    note: str
    flag: str
    failure: str
    other_failure: str
    pool_given: bool
    graphs_deducted: bool

    @property
    def settings_printed(self) -> bool:
        """Whether every setting that shapes the budget was printed with the figures, so that no default is guessed."""
        known = (self.total, self.utilization, self.max_num_seqs, self.max_batched_tokens, self.max_model_len)
        return bool(self.version) and self.engine_version_known and all(value is not None for value in known)

    @property
    def engine_version_known(self) -> bool:
        """Whether the version is a number, not a guess at a range."""
        return bool(self.version) and self.version[0].isdigit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A row, or one figure of it, that could not be compared, and why."""

    id: str
    engine: str
    quantity: str
    reason: str


def parse_rows(lines: Iterable[bytes | str]) -> Iterator[Row | SpeedRow | Unread]:
    """Rows of a JSONL file in its order, starts and speeds; an `Unread` for each line that is none. Empty lines are no rows."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number}"
        if number > MAX_ROWS:
            yield Unread(id=where, engine="", quantity="", reason=f"more than {MAX_ROWS:,} lines: the rest is not read")
            return
        if len(line) > MAX_LINE:
            yield Unread(id=where, engine="", quantity="", reason=f"the line is longer than {MAX_LINE:,} bytes")
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as e:
            yield Unread(id=where, engine="", quantity="", reason=f"no JSON: {printable(str(e), 120)}")
            continue
        if not isinstance(found, dict):
            yield Unread(id=where, engine="", quantity="", reason="a row is a JSON object")
            continue
        try:
            yield parse_speed_row(found, where) if is_speed_row(found) else parse_row(found, where)
        except ValueError as e:
            name = found.get("id")
            yield Unread(
                id=printable(name, 120) if isinstance(name, str) and name else where,
                engine=_known(found, "engine"),
                quantity="",
                reason=printable(str(e), 200),
            )


def parse_row(row: Mapping[str, Any], where: str = "") -> Row:
    """One row from its JSON object; keys that are not known are left alone.

    Raises:
        ValueError: a field that is needed is missing or of another type; the message names it.
    """
    measured = row.get("measured")
    if not isinstance(measured, dict):
        raise ValueError("`measured` is no object")  # noqa: TRY004  (the one error that callers turn into a reason)
    engine = _text(row, "engine")
    if not engine:
        raise ValueError("`engine` is missing")
    figures = {k.removesuffix("_gib"): _figure(k, v) for k, v in measured.items() if k.endswith("_gib") and v is not None}
    if (poorest := measured.get("kv_cache_gib_min_rank_derived")) is not None:
        # What was requested less weights, peak and workspaces of that rank: four printed figures, each with its own rounding.
        figures["kv_cache_min_rank"] = replace(_figure("kv_cache_gib_min_rank_derived", poorest), doubt_gib=4 * _PRINTED_DOUBT)
    counts = {k: _number(k, v) for k, v in measured.items() if k in {"kv_tokens", "kv_blocks", "max_concurrency", "est_max_len"} and v is not None}
    note, quote = _text(row, "note"), _text(row, "quote")
    failure, other = _failure(_text(row, "outcome"), note, quote, figures, counts)
    total = row.get("gpu_total_gib")
    max_model_len = _whole(row, "max_model_len")
    tokens = measured.get("max_concurrency_tokens")
    given = "kv_cache_memory_bytes" in quote or "kv_cache_memory_bytes" in str(row.get("settings") or "")
    return Row(
        id=_text(row, "id") or where,
        engine=engine,
        version=normal_version(_text(row, "engine_version")),
        version_text=_text(row, "engine_version"),
        model_id=_text(row, "model_id"),
        config=_text(row, "config"),
        config_relation=_text(row, "config_relation"),
        dtype=_text(row, "dtype"),
        quant=_text(row, "quant"),
        kv_dtype=_text(row, "kv_cache_dtype"),
        tp=_whole(row, "tp") or 1,
        pp=_whole(row, "pp") or 1,
        ep=bool(row.get("ep")),
        ep_size=_whole(row, "ep") or 1 if not isinstance(row.get("ep"), bool) else 1,
        gpu=_text(row, "gpu"),
        total=_figure("gpu_total_gib", total) if total is not None else None,
        utilization=_number("gpu_memory_utilization", row["gpu_memory_utilization"]) if row.get("gpu_memory_utilization") is not None else None,
        max_model_len=max_model_len,
        concurrency_tokens=int(_number("max_concurrency_tokens", tokens)) if tokens is not None else max_model_len,
        max_num_seqs=_whole(row, "max_num_seqs"),
        max_batched_tokens=_whole(row, "max_num_batched_tokens"),
        block_size=_whole(row, "block_size"),
        # A start that says what its graphs take and says nothing (0.0) captured none.
        enforce_eager=row.get("enforce_eager") is True or ("cuda_graph" in figures and figures["cuda_graph"].gib == 0),
        language_only=_set(row, "language_model_only") or False,
        prefix_caching=_prefix_caching(row),
        drafted=_drafted(row),
        measured=figures,
        counts=counts,
        ranks=_ranks(row.get("ranks")),
        architecture=_text(row, "architecture"),
        source=_text(row, "source"),
        note=note,
        flag=_flag(circular=row.get("check_circular") is True, note=note),
        failure=failure,
        other_failure=other,
        pool_given=given,
        graphs_deducted=row.get("graph_estimate_deducted") is True,
    )


def normal_version(text: str) -> str:
    """`v0.18.0+rhai1`, `0.19.x`, `0.9-0.10 (V0)`, `pre-0.2.5` -> the (first) number; empty where none is meant (`0.2x`, `V0`, `2026-08`)."""
    word = text.strip().lower().split()[0] if text.strip() else ""
    word = word.removeprefix("pre-").lstrip("v~")
    word = word.split("-")[0] if "." in word.split("-")[0] else word
    word = word.split("+")[0]
    numbers = []
    for piece in word.split(".")[:3]:
        digits = ""
        for c in piece:
            if not c.isdigit():
                break
            digits += c
        if not digits:
            break
        if piece != digits and not piece[len(digits) :].startswith(("rc", "dev", "post")):
            return ""
        numbers.append(digits)
    return ".".join(numbers) if len(numbers) >= 2 and len(numbers[0]) < 4 else ""


def _flag(*, circular: bool, note: str) -> str:
    upper = note.upper()
    if "LABEL MISMATCH" in upper or "MISLABEL" in upper:
        return f"mislabelled: {note}"
    if "INCONSISTENT" in upper:
        return f"inconsistent: {note}"
    return f"circular: the model or a term was inferred from these figures{f' ({note})' if note else ''}" if circular else ""


def _failure(outcome: str, note: str, quote: str, figures: Mapping[str, Figure], counts: Mapping[str, float]) -> tuple[str, str]:
    """How it is known that memory ran out, or how a start failed for another reason; both empty when it served."""
    if outcome.startswith(("oom", "too_long", "out_of_memory", "no_room")):
        return outcome.replace("_", " "), ""
    pool, needed = figures.get("kv_cache"), figures.get("needed_kv")
    if pool is not None and pool.gib <= 0:
        return f"a KV pool of {pool.gib} GiB", ""
    if pool is not None and needed is not None and needed.gib > pool.gib:
        return f"{needed.gib} GiB of KV cache are needed and {pool.gib} GiB are there", ""
    if "est_max_len" in counts:
        return f"the engine estimates a maximum length of {counts['est_max_len']:,.0f}", ""
    # Older rows have no outcome; their collector wrote it down in words.
    if "FAIL" in note or "(fails)" in quote:
        return "the source says that it failed", ""
    if outcome and outcome != "ok":
        return "", outcome.replace("_", " ")
    return "", ""


def _ranks(value: Any) -> tuple[Mapping[str, float], ...]:
    if not isinstance(value, list):
        return ()
    return tuple({k: float(v) for k, v in r.items() if isinstance(v, (int, float)) and not isinstance(v, bool)} for r in value[:4096] if isinstance(r, dict))


def _set(row: Mapping[str, Any], name: str) -> bool | None:
    """What a flag was set to, among the settings and the configuration line as the log has them; None where neither tells."""
    for place in ("settings", "engine_config"):
        found = row.get(place)
        value = found.get(name, found.get(name.replace("_", "-"))) if isinstance(found, dict) else None
        if str(value).lower() in {"true", "false"}:
            return str(value).lower() == "true"
    return None


def _drafted(row: Mapping[str, Any]) -> int:
    """From `speculative_config`, an object or its text: only drafts of the checkpoint's own layers, no other model's."""
    for place in ("settings", "engine_config"):
        found = row.get(place)
        text = str(found.get("speculative_config") or "")[:2000].lower() if isinstance(found, dict) else ""
        if "mtp" in text:
            number = re.search(r"num_spec(?:ulative)?_tokens\W{1,4}(\d{1,3})", text)
            return max(int(number[1]), 1) if number else 1
    return 0


def _prefix_caching(row: Mapping[str, Any]) -> bool | None:
    said, denied = _set(row, "enable_prefix_caching"), _set(row, "no_enable_prefix_caching")
    return said if said is not None else None if denied is None else not denied


def _known(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return printable(value, 60) if isinstance(value, str) else ""


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is no text")  # noqa: TRY004
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`{name}` is no number")  # noqa: TRY004
    if not math.isfinite(value) or abs(value) > 1e15:
        raise ValueError(f"`{name}` is {value}")
    return float(value)


def _whole(row: Mapping[str, Any], name: str) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    number = _number(name, value)
    if number < 1 or number != int(number):
        raise ValueError(f"`{name}` is {value}: a whole number of 1 or more is needed")
    return int(number)


def _figure(name: str, value: Any) -> Figure:
    """Engines print two decimals or more; JSON drops the zeros at the end."""
    number = _number(name, value)
    decimals = min(max(2, len(repr(value).partition(".")[2])), 12)
    return Figure(gib=number, doubt_gib=0.5 * 10.0**-decimals)
