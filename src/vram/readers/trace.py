"""A trace of requests out of its lines: when each came, how long its prompt and its answer were. It knows no texts and fetches nothing.

Three kinds, told apart by their first line: CSV with a header (the Azure LLM inference traces, BurstGPT), JSON objects a line
with `timestamp` in seconds, and those of Mooncake with `hash_ids`, whose `timestamp` counts milliseconds.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Final, NamedTuple

import msgspec

from vram.errors import UsageError, printable

MAX_LINE_BYTES: Final = 1 << 20
MAX_ROWS: Final = 2_000_000
MAX_TOKENS: Final = 100_000_000
"""More than any model takes: what is above is a mistake."""
MAX_TIME: Final = 1e15
MOST_WRITTEN: Final = 10**18
"""Numbers from here on are none of a trace: JSON may write them with any number of digits."""

_TIME: Final = ("timestamp", "time", "arrival", "arrivaltime", "arrivalseconds", "arrivedat", "starttime")
_PROMPT: Final = ("contexttokens", "inputlength", "inputtokens", "requesttokens", "prompttokens", "promptlength", "promptlen", "inputlen")
_OUTPUT: Final = ("generatedtokens", "outputlength", "outputtokens", "responsetokens", "completiontokens", "outputlen")
_MODEL: Final = ("model", "modelname")
_LIMIT: Final = ("maxtokens", "maxcompletiontokens", "maxoutputtokens")
_PRIORITY: Final = ("priority",)
_KINDS: Final = {"time": _TIME, "prompt": _PROMPT, "output": _OUTPUT, "model": _MODEL, "limit": _LIMIT, "priority": _PRIORITY}
_NEEDED: Final = (
    "a line needs a time, prompt tokens and output tokens: TIMESTAMP,ContextTokens,GeneratedTokens, or JSON with timestamp, input_length, output_length"
)


class TraceRow(NamedTuple):
    """One request of a trace; seconds count from its first."""

    line: int
    seconds: float
    prompt_tokens: int
    output_tokens: int
    model: str = ""
    max_tokens: int | None = None
    priority: int = 0


class TraceError(UsageError):
    """A line that cannot be used: which, why, and what would make it possible."""


def parse_trace(lines: Iterable[bytes], where: str, *, first: int | None = None, sort: bool = False, skip_bad: bool = False) -> tuple[list[TraceRow], int]:
    """The requests of a trace, in the order of their time.

    Args:
        lines: the file's lines, each with its end or without.
        where: the file's name, for errors.
        first: take so many requests at most.
        sort: bring them in order instead of refusing what is not.
        skip_bad: leave out lines that cannot be used instead of refusing them.

    Returns:
        The rows, and how many lines were left out.

    Raises:
        TraceError: a line that is no request, lengths below 1 or absurd, times out of order, more lines than can be held.
        UsageError: nothing in it.
    """
    rows: list[TraceRow] = []
    skipped, before = 0, float("-inf")
    for n, fields in _records(lines, where):
        if isinstance(fields, str):
            problem, row = fields, None
        else:
            problem, row = _row(n, fields)
        if row is None:
            if not skip_bad:
                raise TraceError(f"{where}, line {n}: {problem}", hint=_hint(problem))
            skipped += 1
            continue
        if row.seconds < before and not sort:
            raise TraceError(
                f"{where}, line {n}: it comes {before - row.seconds:,.3f} s before the request above it", hint="--sort brings the requests in order of time"
            )
        before = row.seconds
        rows.append(row)
        if first is not None and len(rows) >= first and not sort:
            break
        if len(rows) > MAX_ROWS:
            raise TraceError(f"{where} has more than {MAX_ROWS:,} requests", hint=f"--first {MAX_ROWS} takes those at its head")
    if not rows:
        raise UsageError(f"{where} has no request{f': all its {skipped:,} lines were left out' if skipped else ''}", hint=_NEEDED)
    if sort:
        rows.sort(key=lambda r: r.seconds)
    rows = rows[:first]
    start = rows[0].seconds
    return [r._replace(seconds=r.seconds - start) for r in rows], skipped


def _hint(problem: str) -> str:
    if "tokens" in problem:
        return f"prompts and answers have from 1 to {MAX_TOKENS:,} tokens; --skip-bad leaves such lines out and says how many"
    return f"{_NEEDED}; --skip-bad leaves such lines out and says how many"


def _records(lines: Iterable[bytes], where: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Fields by what they mean, line by line; a text says why a line has none."""
    header: list[str] | None = None
    json_lines: bool | None = None
    for n, raw in enumerate(lines, 1):
        if len(raw) > MAX_LINE_BYTES:
            raise TraceError(f"{where}, line {n}: longer than {MAX_LINE_BYTES:,} bytes", hint="a line of a trace has some dozens; is it a trace?")
        try:
            text = raw.decode("utf-8-sig" if n == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise TraceError(f"{where}, line {n}: it is no text (UTF-8)", hint="a trace is CSV or JSON lines, plain or as .gz") from None
        if not text:
            continue
        if json_lines is None:
            json_lines = text[0] in "{["
        if json_lines:
            yield n, _json(text)
        elif header is None:
            header = _header(text, where, n)
        else:
            cells = _cells(text)
            yield n, dict(zip(header, cells, strict=False)) if len(cells) >= len(header) else f"{len(cells)} values for {len(header)} columns"


def _cells(text: str) -> list[str]:
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return []


def _header(text: str, where: str, n: int) -> list[str]:
    names = [_meaning(cell) for cell in _cells(text)]
    missing = [kind for kind in ("time", "prompt", "output") if kind not in names]
    if missing:
        what = {"time": "a time", "prompt": "prompt tokens", "output": "output tokens"}
        raise TraceError(f"{where}, line {n}: no column for {' and '.join(what[m] for m in missing)} in {printable(text, 80)!r}", hint=_NEEDED)
    return names


def _meaning(name: str) -> str:
    plain = re.sub(r"[^a-z]", "", name.lower())
    return next((kind for kind, names in _KINDS.items() if plain in names), f"?{plain}")


def _json(text: str) -> dict[str, Any] | str:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return "it is no JSON object"
    if not isinstance(found, dict):
        return "it is no JSON object"
    named = {_meaning(key): value for key, value in found.items()}
    if "hash_ids" in found and (milliseconds := _seconds(named.get("time"))) is not None:
        named["time"] = milliseconds / 1000  # Mooncake's traces count milliseconds (their README, "timestamp")
    return named


def _row(n: int, fields: dict[str, Any]) -> tuple[str, TraceRow | None]:
    seconds = _seconds(fields.get("time"))
    if seconds is None:
        return f"{printable(repr(fields.get('time')), 60)} is no time", None
    if abs(seconds) > MAX_TIME:
        return f"{seconds:g} s is no time", None
    prompt, output = _tokens(fields.get("prompt")), _tokens(fields.get("output"))
    for what, value in (("prompt", prompt), ("output", output)):
        if value is None:
            return f"{printable(repr(fields.get(what)), 60)} are no {what} tokens", None
        if not 1 <= value <= MAX_TOKENS:
            return f"{value:,} {what} tokens", None
    assert prompt is not None  # noqa: S101  (seen above)
    assert output is not None  # noqa: S101  (the same)
    limit, model = _tokens(fields.get("limit")), fields.get("model")
    return "", TraceRow(
        line=n,
        seconds=seconds,
        prompt_tokens=prompt,
        output_tokens=output,
        model=printable(model, 200) if isinstance(model, str) else "",
        max_tokens=limit if limit is not None and 1 <= limit <= MAX_TOKENS else None,
        priority=_tokens(fields.get("priority")) or 0,
    )


def _tokens(value: Any) -> int | None:
    """A whole number as JSON or CSV writes it; None for anything else."""
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.0*)?", value.strip()):
            return None
        return int(value.strip().partition(".")[0])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < MOST_WRITTEN:
        return None
    return int(value) if value == int(value) else None


_MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(\.\d{1,12})?(?:Z|([+-])(\d\d):?(\d\d))?")
_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _seconds(value: Any) -> float | None:
    """Seconds of a number or of a moment (`2023-11-16 18:15:46.6805900`; without a zone it is UTC)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < MOST_WRITTEN else None
    if not isinstance(value, str) or len(value) > 64:
        return None
    match = _MOMENT.fullmatch(value.strip())
    if match is not None:
        return _moment(match)
    try:
        number = float(value)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _moment(match: re.Match[str]) -> float | None:
    """Seconds since 2000-01-01 UTC; None for a day or an hour that does not exist."""
    year, month, day, hour, minute, second = (int(x) for x in match.groups()[:6])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (1 <= month <= 12 and 1 <= day <= _DAYS[month - 1] + (leap and month == 2) and hour < 24 and minute < 60 and second < 61):
        return None
    past = year - 1
    days = 365 * year + past // 4 - past // 100 + past // 400 + sum(_DAYS[: month - 1]) + (leap and month > 2) + day - 730_486
    zone = (int(match[9]) * 3600 + int(match[10]) * 60) * (-1 if match[8] == "-" else 1) if match[8] else 0
    # As many digits of the fraction as there are: a trace counts in tenths of microseconds.
    return days * 86400.0 + hour * 3600 + minute * 60 + second - zone + float(match[7] or 0)
