"""Minutes of load on a real vLLM with a tight pool: behind the gateway and alone, one after the other, on one server.

    make bench-vllm                                          three seeds, lengths told and not told: some fifty minutes
    python benchmarks/gateway/vllm_load.py --seed 1 --seconds 60 --lengths told

VRAM_VLLM_PYTHON names the Python of an environment with vLLM 0.32 for the CPU (truth/oracle/build_vllm.sh). Server, scheduler, streams and
preemptions are real. A step takes a stated least time, as long as a graphics card might (truth/simulate/recorder.py, which also writes down
each step: blocks in use and preemptions are vLLM's own). All seconds are those of a clock on which a step takes just that: where other
work on the machine makes one take longer, the clock waits, and requests come and are timed by it.

The load: so many clients ask for long answers, each for the next one when it has the last, twice as many as the pool holds; beside them
short requests come as they like (Poisson). So from the first request to the last more is asked for than fits: that is the loaded interval,
less its first five seconds, and all figures but first tokens are of it. Lengths are told where `max_tokens` is what the answer has; not told
where it is the same for all, and answers end by a stop token of their own.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "truth" / "simulate"))
from vllm_cpu import BLOCK, Server, percentile  # noqa: E402  (beside the replay)

MODEL = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16", "vocab_size": 512, "hidden_size": 256, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 64, "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}  # fmt: skip
LENGTH, SEQUENCES, MOST = 2048, 64, 1300
"""The longest sequence, sequences at once, and `max_tokens` where it tells nothing."""
STOP = 7
"""The token that ends an answer whose length is not told."""
FILLING = 5.0
"""Seconds until the first prompts are computed and the pool is full."""
BARS = ("no preemption behind, many alone", "KV in use >= 85 %", "tokens a second >= alone", "p99 to the first token of short requests <= half of alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for: tokens of the prompt, tokens of the answer, whether it is a short one."""

    prompt: int
    output: int
    short: bool


class Wishes:
    """What clients ask for, by a seed: the same for whoever answers."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def long(self, client: int) -> random.Random:
        """Chance of one of the clients that ask for long answers."""
        return random.Random(f"{self.seed} long {client}")  # noqa: S311  (lengths to try, no secrets)

    @staticmethod
    def next_long(draw: random.Random) -> Wish:
        """A median of 365 tokens after a prompt of 200 to 600."""
        return Wish(prompt=draw.randrange(200, 600), output=min(max(int(draw.lognormvariate(5.9, 0.4)), 100), 1200), short=False)

    def short(self, seconds: float, rate: float) -> list[tuple[float, Wish]]:
        """When which short ones come: a median of 25 tokens after a prompt of 20 to 120."""
        draw, at, found = random.Random(f"{self.seed} short"), 1.0, []  # noqa: S311  (the same)
        while (at := at + draw.expovariate(rate)) < seconds:
            found.append((at, Wish(prompt=draw.randrange(20, 120), output=min(max(int(draw.lognormvariate(3.2, 0.5)), 8), 100), short=True)))
        return found


@dataclass(slots=True)
class Step:
    """One step of the engine: its times, and what the recorder wrote of it."""

    at: float
    """On the system's monotonic clock."""
    began: float
    """On the clock of the load."""
    least: float
    """Seconds that it takes at least: on the clock of the load it takes no more."""
    decodes: int
    blocks: int
    preempted: int


@dataclass(slots=True)
class Clock:
    """Seconds of the load: those that the engine's steps state, read from the recorder's file as it grows."""

    path: Path
    least: tuple[float, float, float]
    steps: list[Step] = field(default_factory=list)
    _place: int = 0
    _rest: str = ""

    def __post_init__(self) -> None:
        """What was before is none of ours."""
        self._place = self.path.stat().st_size

    def read(self) -> None:
        """See what steps were scheduled since."""
        with self.path.open() as file:
            file.seek(self._place)
            text = self._rest + file.read()
            self._place = file.tell()
        *lines, self._rest = text.split("\n")
        for line in lines:
            if line.startswith("= "):
                at, tokens, _, decodes, _, blocks, _, _, preempted = (float(x) for x in line.split()[1:])
                fixed, each, decode = self.least
                self.steps.append(Step(at, self.since(at), fixed + each * tokens + decode * decodes, int(decodes), int(blocks), int(preempted)))

    def since(self, at: float) -> float:
        """A time of the monotonic clock on this one: 0 until the first step."""
        place = bisect_right(self.steps, at, key=lambda s: s.at) - 1
        if place < 0:
            return 0.0
        step = self.steps[place]
        seconds = at - step.at
        # Nothing is scheduled where nothing is asked for: then time goes on as everywhere.
        return step.began + min(seconds, step.least) + max(seconds - step.least - 2.0, 0.0)

    @property
    def now(self) -> float:
        """The time."""
        return self.since(time.monotonic())

    async def run(self, each: Callable[[float], None]) -> None:
        """Keep up until cancelled, and call `each` with the time as it goes on."""
        while True:
            self.read()
            each(self.now)
            await asyncio.sleep(0.005)


@dataclass(slots=True)
class Answer:
    """What became of a wish, on the monotonic clock."""

    wish: Wish
    sent: float
    first: float = 0.0
    last: float = 0.0
    events: int = 0


async def ask(port: int, wish: Wish, number: int, *, told: bool) -> Answer:
    """One request, streamed to its end."""
    body: dict[str, Any] = {
        "model": "./model", "prompt": [10 + (number * 7919 + k * 31 + number * k) % 500 for k in range(wish.prompt)],
        "max_tokens": wish.output if told else MOST, "ignore_eos": True, "stream": True, "temperature": 0,
    }  # fmt: skip
    if not told:
        # A stop token that is kept out until the end, and wins there: the engine stops by itself, and nobody was told when.
        body |= {"stop_token_ids": [STOP], "logit_bias": {str(STOP): 100}, "min_tokens": wish.output - 1}
    text = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    found = Answer(wish, time.monotonic())
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(text) + text)
    status = (await reader.readline()).split()[1:2]
    if status != [b"200"]:
        raise SystemExit(f"{status}: {(await reader.read())[:2000]!r}")
    async for line in reader:
        if line.startswith(b"data: {"):
            found.last = time.monotonic()
            found.first = found.first or found.last
            found.events += 1
    writer.close()
    return found


async def offered(port: int, clock: Clock, wishes: Wishes, given: argparse.Namespace, *, told: bool) -> list[Answer]:
    """The whole load: what became of each request, when all have ended."""
    found: list[Answer] = []
    short = deque(enumerate(wishes.short(given.seconds, given.rate), 100_000))
    running: list[asyncio.Task[None]] = []

    async def one(wish: Wish, number: int) -> None:
        found.append(await ask(port, wish, number, told=told))

    async def client(number: int) -> None:
        draw, sent = wishes.long(number), 0
        while clock.now < given.seconds:
            await one(wishes.next_long(draw), number * 1000 + sent)
            sent += 1

    def each(now: float) -> None:
        while short and short[0][1][0] <= now:
            number, (_, wish) = short.popleft()
            running.append(asyncio.create_task(one(wish, number)))

    passing = asyncio.create_task(clock.run(each))
    await asyncio.gather(*(client(i) for i in range(given.clients)))
    each(given.seconds)
    await asyncio.gather(*running)
    passing.cancel()
    clock.read()
    return found


def start_gateway(engine: int, given: argparse.Namespace, place: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """`vram serve` in a process of its own before the engine, and its port; it has learned nothing yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pools = place / "pools.toml"
    pools.write_text(
        f'schema = "vram.pools/1"\n[[pools]]\nname = "p"\nmodel = "{place / "model"}"\nengine = "vllm@0.32.0+cpu"\ngpu = "24GiB"\n'
        f'replicas = ["http://127.0.0.1:{engine}"]\nserved_as = "./model"\n'
        f"settings = {{ context_tokens = {LENGTH}, max_num_seqs = {SEQUENCES}, block_size = {BLOCK} }}\n[limits]\nqueue_seconds = 3600\n"
    )
    log = (place / "gateway.log").open("wb")
    env = {**os.environ, "PYTHONPATH": str(given.compiled or ROOT / "src"), "VRAM_GATEWAY_DB": str(place / f"gateway{time.time_ns()}.db")}
    command = [sys.executable, "-m", "vram", "serve", str(pools), "--port", str(port), "--admin-port", "0", "--offline", "-q"]
    process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    for _ in range(150):
        time.sleep(0.2)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                # It asks the engine how much it has once a second.
                time.sleep(3)
                return process, port
        if process.poll() is not None:
            break
    process.kill()
    raise SystemExit(f"the gateway does not start: {(place / 'gateway.log').read_text(errors='replace')[-2000:]}")


def figures(clock: Clock, answers: list[Answer], given: argparse.Namespace) -> dict[str, float]:
    """What is told of one run."""
    steps = [(step, after) for step, after in pairwise(clock.steps) if step.began >= FILLING and after.began <= given.seconds]
    lasted = steps[-1][1].began - steps[0][0].began
    waits = {short: [clock.since(a.first) - clock.since(a.sent) for a in answers if a.wish.short == short] for short in (True, False)}
    return {
        "requests": len(answers),
        "preemptions": clock.steps[-1].preempted - clock.steps[0].preempted,
        "kv_mean": sum(step.blocks * (after.began - step.began) for step, after in steps) / lasted / (given.blocks - 1),
        "kv_peak": max(step.blocks for step in clock.steps) / (given.blocks - 1),
        # A step makes a token for each that decodes; the first one comes with the prompt's last chunk, and is one in hundreds.
        "tokens_per_second": sum(step.decodes for step, _ in steps) / lasted,
        "short_p50": percentile(waits[True], 0.5),
        "short_p99": percentile(waits[True], 0.99),
        "long_p50": percentile(waits[False], 0.5),
        "long_p99": percentile(waits[False], 0.99),
        "slowed": (steps[-1][1].at - steps[0][0].at) / lasted,
    }


def run(server: Server, seed: int, given: argparse.Namespace, place: Path, *, told: bool, behind: bool) -> dict[str, float]:
    """One run of the load."""
    gateway, port = start_gateway(server.port, given, place) if behind else (None, server.port)
    clock = Clock(server.steps, tuple(float(x) for x in given.least.split(",")))  # type: ignore[arg-type]
    try:
        answers = asyncio.run(offered(port, clock, Wishes(seed), given, told=told))
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(30)
    if over := [a for a in answers if not a.first or a.events > a.wish.output]:
        raise SystemExit(f"{len(over)} answers are not as long as asked for")
    return figures(clock, answers, given)


def verdict(behind: dict[str, float], alone: dict[str, float]) -> dict[str, bool]:
    """Which of `BARS` one pair of runs holds."""
    return dict(
        zip(
            BARS,
            (
                behind["preemptions"] == 0 and alone["preemptions"] >= 10,
                behind["kv_mean"] >= 0.85,
                behind["tokens_per_second"] >= alone["tokens_per_second"],
                behind["short_p99"] <= alone["short_p99"] / 2,
            ),
            strict=True,
        )
    )


COLUMNS = (
    ("preempted", "preemptions", "{:,.0f}"),
    ("KV mean", "kv_mean", "{:.1%}"),
    ("peak", "kv_peak", "{:.1%}"),
    ("tokens/s", "tokens_per_second", "{:.1f}"),
    ("short TTFT p50", "short_p50", "{:.2f} s"),
    ("p99", "short_p99", "{:.2f} s"),
    ("long TTFT p50", "long_p50", "{:.1f} s"),
    ("p99", "long_p99", "{:.1f} s"),
    ("clock waited", "slowed", "x {:.2f}"),
    ("requests", "requests", "{:,.0f}"),
)


def table(rows: list[tuple[str, dict[str, float]]]) -> None:
    """Side by side."""
    lines = [["", *(name for name, _, _ in COLUMNS)], *([label, *(form.format(r[key]) for _, key, form in COLUMNS)] for label, r in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))), flush=True)


def main() -> None:
    """Load and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", action="append", type=int, help="default: 1, 2 and 3")
    options.add_argument("--lengths", action="append", choices=("told", "not told"), help="default: both")
    options.add_argument("--seconds", type=float, default=240, help="how long requests come")
    options.add_argument("--clients", type=int, default=14, help="clients that ask for long answers")
    options.add_argument("--rate", type=float, default=1.5, help="short requests a second")
    options.add_argument("--blocks", type=int, default=201, help="KV blocks of 32 tokens, one of them vLLM's null block")
    options.add_argument("--least", default="0.06,0.0006,0.001", help="least seconds of a step: fixed, per prompt token, per decode")
    options.add_argument("--compiled", type=Path, help="folder of an installed package whose hot path is compiled")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    python = os.environ.get("VRAM_VLLM_PYTHON") or sys.exit("VRAM_VLLM_PYTHON names no vLLM: sh truth/oracle/build_vllm.sh prints it")
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        server = Server(python, folder, given.blocks, given.least, MODEL, LENGTH, SEQUENCES)
        try:
            server.wait()
            asyncio.run(ask(server.port, Wish(prompt=60, output=24, short=True), 0, told=False))  # the first of all compiles and allocates
            for lengths in given.lengths or ("told", "not told"):
                for i, seed in enumerate(given.seed or (1, 2, 3)):
                    # Now the one comes first, now the other: a machine that slows down or quickens favours neither.
                    order = (True, False) if i % 2 else (False, True)
                    found = {behind: run(server, seed, given, place, told=lengths == "told", behind=behind) for behind in order}
                    behind, alone = found[True], found[False]
                    held = verdict(behind, alone)
                    print(
                        f"\nlengths {lengths}, seed {seed}, {given.seconds:.0f} s: "
                        + ", ".join(f"{name}: {'held' if yes else 'MISSED'}" for name, yes in held.items())
                    )
                    table([("behind the gateway", behind), ("alone", alone)])
                    results.append({"lengths": lengths, "seed": seed, "seconds": given.seconds, "behind": behind, "alone": alone, "held": held})
        finally:
            server.close()
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
