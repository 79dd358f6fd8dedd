"""One measured speed of one engine, as truth/speed/README.md describes it. It knows the schema, and nothing of models."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Metric(StrEnum):
    """What was measured, by its name in a row."""

    TPOT = "tpot_ms"
    """Mean time of an output token under load."""
    TTFT = "ttft_ms"
    """Mean time to the first token."""
    DECODE = "decode_tok_s_per_seq"
    """Output tokens a second of each sequence."""
    DECODE_TOTAL = "decode_tok_s_total"
    """Output tokens a second of all sequences together."""
    PREFILL = "prefill_tok_s"
    """Prompt tokens a second."""


ENGINES: Final = {
    "llamacpp": "llama.cpp",
    "llama-cpp": "llama.cpp",
    "llama-bench": "llama.cpp",
    "trtllm": "tensorrt-llm",
    "trt-llm": "tensorrt-llm",
    "tensorrt": "tensorrt-llm",
    "hf": "transformers",
}
BENCHES: Final = frozenset({"llama.cpp", "llama-bench"})
"""What rows call figures of llama-bench."""
MOST: Final = 1e9
MOST_LETTERS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRow:
    """One figure.

    Attributes:
        id: unique in its file; `line N` where the row has none.
        engine: by the name of our registry where it is one of ours.
        concurrency: sequences at the same time on each copy of attention.
        input_tokens: tokens of the prompt; None: not told.
        output_tokens: tokens of the answer; None: not told.
        expert_ranks: ranks that whole experts are dealt to.
        expert_slices: ranks that share each expert; 0: not told.
        held_tokens: cached tokens before the first decoded one, where a benchmark says so (llama-bench's depth).
        value: the figure in the metric's unit.
        date: the day that it was measured or published (`2024-12-14`), empty: not told.
        backend: what the kernels were written for (`ROCm`, `Vulkan`, `CUDA`, `Metal`, `SYCL`), empty: not told.
        samples: whether tokens were sampled: figures of engine `llama.cpp` are its benchmark's, which samples none; `llamacpp` is its server.
        flag: why the row is no evidence, empty when it is.
    """

    id: str
    engine: str
    engine_version: str
    model: str
    config: str
    quant: str
    kv_dtype: str
    gpu: str
    tp: int
    pp: int
    dp: int
    ep: bool
    expert_ranks: int
    expert_slices: int
    gpus: int
    concurrency: int
    input_tokens: int | None
    output_tokens: int | None
    held_tokens: int
    metric: Metric
    value: float
    source: str
    note: str
    date: str
    backend: str
    samples: bool
    flag: str

    @property
    def model_id(self) -> str:
        """The model by the name that a start's row gives it."""
        return self.model


def is_speed_row(row: Mapping[str, Any]) -> bool:
    """Whether an object of a file of rows is a speed and not a start."""
    return "metric" in row and "measured" not in row


def parse_speed_row(row: Mapping[str, Any], where: str = "") -> SpeedRow:
    """One row from its JSON object; keys that are not known are left alone.

    Raises:
        ValueError: a field that is needed is missing, of another type or out of range; the message names it.
    """
    engine = _text(row, "engine").lower()
    model = _text(row, "model") or _text(row, "model_id")
    if not engine:
        raise ValueError("`engine` is missing")
    if not model:
        raise ValueError("`model` is missing")
    for name in ("model", "quant", "gpu", "engine", "config"):
        if len(_text(row, name)) > MOST_LETTERS:
            raise ValueError(f"`{name}` is longer than {MOST_LETTERS} letters")
    try:
        metric = Metric(_text(row, "metric"))
    except ValueError:
        raise ValueError(f"no metric {_text(row, 'metric')[:40]!r}: known are {', '.join(Metric)}") from None
    value = _number(row, "value")
    if value is None or not 0 < value < MOST:
        raise ValueError(f"`value` is {value}: a number above 0 is needed")
    tp, dp = _whole(row, "tp") or 1, _whole(row, "dp") or 1
    expert_ranks = _whole(row, "moe_ep") or (_whole(row, "ep") if not isinstance(row.get("ep"), bool) else None) or 1
    pp = _whole(row, "pp") or 1
    return SpeedRow(
        id=_text(row, "id") or where,
        engine=ENGINES.get(engine, engine),
        engine_version=_text(row, "engine_version"),
        model=model,
        config=_text(row, "config"),
        quant=_text(row, "quant"),
        kv_dtype=_text(row, "kv_dtype"),
        gpu=_text(row, "gpu"),
        tp=tp,
        pp=pp,
        dp=dp,
        ep=expert_ranks > 1 or row.get("ep") is True,
        expert_ranks=expert_ranks,
        expert_slices=_whole(row, "moe_tp") or 0,
        gpus=_whole(row, "n_gpus") or tp * dp * pp,
        concurrency=_whole(row, "batch_or_concurrency") or 1,
        input_tokens=_tokens(row, "input_len"),
        output_tokens=_tokens(row, "output_len"),
        held_tokens=_tokens(row, "depth") or 0,
        metric=metric,
        value=value,
        source=_text(row, "source"),
        note=_text(row, "note"),
        date=_day(row),
        backend=_text(row, "backend"),
        samples=engine not in BENCHES,
        flag=_text(row, "flag"),
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is no text")  # noqa: TRY004  (the one error that callers turn into a reason)
    return value


def _day(row: Mapping[str, Any]) -> str:
    told = _text(row, "date")
    if told and not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", told):
        raise ValueError(f"`date` is {told[:40]}: a day as 2024-12-14 is needed")
    return told


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"\d{1,12}(\.\d{1,12})?", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) > MOST:  # noqa: PLR0124  (not a number)
        raise ValueError(f"`{name}` is {str(value)[:40]}: a number is needed")
    return float(value)


def _whole(row: Mapping[str, Any], name: str) -> int | None:
    number = _number(row, name)
    if number is None:
        return None
    if number < 1 or number != int(number):
        raise ValueError(f"`{name}` is {number:g}: a whole number of 1 or more is needed")
    return int(number)


def _tokens(row: Mapping[str, Any], name: str) -> int | None:
    """A mean of several runs may be no whole number."""
    number = _number(row, name)
    if number is None:
        return None
    if number < 0:
        raise ValueError(f"`{name}` is {number:g}: no less than 0 is possible")
    return round(number)
