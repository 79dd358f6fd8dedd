"""Traces: the published ones as they are, the kinds of others, hostile files, and streams made from a seed."""

import gzip
import json
import statistics
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram.errors import UsageError
from vram.planner.simulate.generate import Empirical, Fixed, Load, LogNormal, Random, Uniform, generate
from vram.readers.trace import parse_trace
from vram.sources.trace import read_trace

TRACES = Path(__file__).parents[1] / "truth" / "traces"


@pytest.mark.parametrize(
    ("name", "requests", "prompt", "output", "seconds"),
    [("conv", 19_366, 22_361_870, 4_088_665, 3_501.72), ("code", 8_819, 18_059_974, 245_896, 3_435.95)],
)
def test_the_azure_traces_are_read_as_they_are(name: str, requests: int, prompt: int, output: int, seconds: float) -> None:
    """Counts and sums are those that awk gives on the published files."""
    rows, skipped = read_trace(TRACES / f"azure_llm_2023_{name}.csv.gz")
    assert (len(rows), skipped) == (requests, 0)
    assert sum(r.prompt_tokens for r in rows) == prompt
    assert sum(r.output_tokens for r in rows) == output
    assert rows[0].seconds == 0
    assert rows[-1].seconds == pytest.approx(seconds, abs=0.1)
    assert all(a.seconds <= b.seconds for a, b in pairwise(rows))


def parse(text: str, **options: bool | int) -> list[tuple[float, int, int]]:
    rows, _ = parse_trace((line.encode() for line in text.splitlines(keepends=True)), "t", **options)  # type: ignore[arg-type]
    return [(r.seconds, r.prompt_tokens, r.output_tokens) for r in rows]


def test_kinds_of_traces() -> None:
    """Azure's moments, BurstGPT's columns, Mooncake's milliseconds, plain JSON."""
    want = [(0.0, 374, 44), (4.5, 396, 109)]
    azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5000000,374,44\n2023-11-16 18:15:51.0000000,396,109\n"
    burst = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,374,44,418,API log\n9.5,GPT-4,396,109,505,API log\n"
    mooncake = "".join(
        json.dumps({"timestamp": t, "input_length": p, "output_length": o, "hash_ids": [0, 1]}) + "\n" for t, p, o in ((27_000, 374, 44), (31_500, 396, 109))
    )
    plain = "".join(json.dumps({"timestamp": t, "prompt_tokens": p, "output_tokens": o}) + "\n\n" for t, p, o in ((1, 374, 44), (5.5, 396.0, 109)))
    for text in (azure, burst, mooncake, plain, "\ufeff" + azure, azure.replace("\n", "\r\n")):
        assert parse(text) == want
    rows, _ = parse_trace(iter(burst.encode().splitlines()), "t")
    assert [r.model for r in rows] == ["ChatGPT", "GPT-4"]


@given(st.datetimes(), st.datetimes(), st.sampled_from(("", "Z", "+02:00", "-0530")))
def test_moments_are_those_of_the_calendar(first: datetime, second: datetime, zone: str) -> None:
    """The time between two moments is what Python's own calendar says."""
    first, second = sorted((first, second))
    text = HEAD + "".join(f"{t.strftime('%Y-%m-%d %H:%M:%S').zfill(19)}.{t.microsecond:06d}{zone},1,1\n" for t in (first, second))
    assert parse(text)[1][0] == pytest.approx((second - first).total_seconds(), abs=1e-3)


HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no request"),
        (HEAD, "no request"),
        ("a,b\n1,2\n", "no column for a time and prompt tokens and output tokens"),
        (HEAD + "1,2,3\n0,2,3\n", "line 3: it comes 1.000 s before"),
        (HEAD + "1,-5,3\n", "line 2: -5 prompt tokens"),
        (HEAD + "1,5,0\n", "line 2: 0 output tokens"),
        (HEAD + "1,5,999999999999\n", "line 2: 999,999,999,999 output tokens"),
        (HEAD + "1,5,1e400\n", "no output tokens"),
        (HEAD + "nan,5,5\n", "no time"),
        (HEAD + "1e300,5,5\n", "no time"),
        (HEAD + "2023-99-99 10:00:00,5,5\n", "no time"),
        (HEAD + "1,5\n", "2 values for 3 columns"),
        ("{}\n", "is no time"),
        ("[1,2]\n", "no JSON object"),
        ('{"timestamp":1,"input_length":[],"output_length":1}\n', "no prompt tokens"),
        ('{"timestamp":true,"input_length":1,"output_length":1}\n', "no time"),
        ('{"timestamp":' + "[" * 5000 + "\n", "no JSON object"),
        (HEAD + "1," + "9" * 2_000_000 + ",1\n", "longer than"),
    ],
)
def test_a_bad_line_is_named_with_a_hint(text: str, words: str) -> None:
    """Which line, why, and what would make it possible."""
    with pytest.raises(UsageError) as error:
        parse(text)
    assert words in error.value.message
    assert error.value.hint


def test_what_cannot_be_used_can_be_left_out_or_put_in_order() -> None:
    """--skip-bad counts what it leaves out, --sort brings in order, --first cuts."""
    text = HEAD + "5,1,1\n2,2,2\nx,1,1\n3,0,1\n4,3,3\n"
    rows, skipped = parse_trace((line.encode() for line in text.splitlines()), "t", sort=True, skip_bad=True)
    assert [(r.seconds, r.prompt_tokens) for r in rows] == [(0.0, 2), (2.0, 3), (3.0, 1)]
    assert skipped == 2
    assert parse(HEAD + "0,1,1\n1,1,1\nbad\n", first=2) == [(0.0, 1, 1), (1.0, 1, 1)]


@given(st.binary(max_size=300))
def test_any_bytes_give_rows_or_one_clear_error(data: bytes) -> None:
    """No traceback from whatever a file holds."""
    for raw in (data, HEAD.encode() + data, b'{"timestamp":' + data):
        hint = "none"
        try:
            parse_trace(iter(raw.splitlines(keepends=True)), "t")
        except UsageError as e:
            hint = e.hint
        assert hint


@pytest.mark.parametrize("name", ["timestamp", "input_length", "output_length", "max_tokens", "priority"])
@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1" + "0" * 5000, "1e400", "1e308"])
@pytest.mark.parametrize("more", [{}, {"hash_ids": [1]}])
def test_numbers_without_end_are_none(name: str, number: str, more: dict[str, list[int]]) -> None:
    """JSON may write more digits than a float holds: a line like that is refused in words, or says nothing of a limit."""
    line = json.dumps({"timestamp": 1, "input_length": 10, "output_length": 5, name: "?", **more}).replace('"?"', number)
    rows, skipped = parse_trace([line.encode(), b'{"timestamp": 2, "input_length": 10, "output_length": 5}'], "t", skip_bad=True)
    assert len(rows) + skipped == 2
    assert skipped == 1 or name in {"max_tokens", "priority"}
    assert {(r.prompt_tokens, r.output_tokens, r.max_tokens, r.priority) for r in rows} == {(10, 5, None, 0)}


def test_files_that_are_none(tmp_path: Path) -> None:
    """Absent, a folder, cut off: an error with a hint."""
    (tmp_path / "cut.gz").write_bytes(gzip.compress(HEAD.encode() * 1000)[:-20])
    (tmp_path / "odd.gz").write_bytes(b"\x1f\x8bnonsense")
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "cut.gz", tmp_path / "odd.gz"):
        with pytest.raises(UsageError) as error:
            read_trace(path)
        assert error.value.hint


def test_the_generator_is_splitmix64() -> None:
    """The first outputs for seed 1234567 are those published with the algorithm (Vigna's splitmix64.c; Rosetta Code)."""
    random = Random(1234567)
    assert [random.bits() for _ in range(5)] == [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]


def test_distributions_have_their_moments() -> None:
    """Means, deviations and medians of large samples lie within five standard errors of what the textbook says."""
    random, n = Random(7), 20_000
    for values, mean, deviation in (
        ([random.exponential() for _ in range(n)], 1.0, 1.0),
        ([random.normal() for _ in range(n)], 0.0, 1.0),
        ([random.gamma(0.3) for _ in range(n)], 0.3, 0.3**0.5),
        ([random.gamma(4.0) for _ in range(n)], 4.0, 2.0),
        ([float(Uniform(low=3, high=12).draw(random)) for _ in range(n)], 7.5, ((10**2 - 1) / 12) ** 0.5),
    ):
        assert statistics.fmean(values) == pytest.approx(mean, abs=5 * deviation / n**0.5)
        assert statistics.stdev(values) == pytest.approx(deviation, rel=0.1)
    drawn = [LogNormal(median=1000, sigma=1.0, most=9000).draw(random) for _ in range(n)]
    assert statistics.median(drawn) == pytest.approx(1000, rel=0.05)
    assert max(drawn) == 9000
    assert {Empirical(tokens=(5, 9)).draw(random) for _ in range(100)} == {5, 9}


@pytest.mark.parametrize("variation", [0.0, 0.5, 1.0, 3.0])
def test_a_load_has_its_rate_and_repeats(variation: float) -> None:
    """The same seed gives the same requests, another seed others; rate and variation are as asked for."""
    load = Load(per_second=20, seconds=1000, prompt=Fixed(tokens=100), output=Uniform(low=1, high=50), variation=variation, seed=3)
    requests = generate(load)
    assert requests == generate(load)
    gaps = [b.arrival_seconds - a.arrival_seconds for a, b in pairwise(requests)]
    assert statistics.fmean(gaps) == pytest.approx(1 / 20, abs=5 * max(variation, 0.01) / 20 / len(gaps) ** 0.5)
    assert statistics.pstdev(gaps) * 20 == pytest.approx(variation, rel=0.12, abs=1e-6)
    assert requests[-1].arrival_seconds < 1000


@pytest.mark.parametrize("change", [{"per_second": 0.0}, {"seconds": float("nan")}, {"variation": -1.0}, {"per_second": 1e5, "seconds": 1e5}])
def test_a_load_that_makes_no_sense_is_refused(change: dict[str, float]) -> None:
    """One error with a hint."""
    given = {"per_second": 1.0, "seconds": 10.0, "variation": 1.0, **change}
    with pytest.raises(UsageError) as error:
        generate(Load(prompt=Fixed(tokens=1), output=Fixed(tokens=1), **given))
    assert error.value.hint
