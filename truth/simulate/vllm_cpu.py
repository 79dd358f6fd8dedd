"""The simulator beside a real vLLM: requests of a trace sent to a server on the CPU whose KV pool is tight, and the same requests replayed.

usage: PYTHONPATH=src python truth/simulate/vllm_cpu.py [--requests N] [--out FILE]      VRAM_VLLM_PYTHON names vLLM 0.32's Python

The time of a step is fitted to the steps of two runs of their own, before and after, on other requests of the trace; so is what lies
between client and engine. The run that is compared gives nothing to the simulator but its requests. A line of JSON per run goes to truth/simulate/runs.jsonl.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent
TRACE = HERE.parent / "traces" / "azure_llm_2023_conv.csv.gz"
MODEL = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16", "vocab_size": 512, "hidden_size": 512, "intermediate_size": 1536,
    "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}  # fmt: skip
BLOCK, LENGTH, SEQUENCES, BATCHED = 32, 2560, 32, 512


def requests_of(first, number, given):
    """(seconds, prompt tokens, output tokens) of so many requests of the trace: lengths divided, time stretched."""
    from vram.sources.trace import read_trace

    rows = read_trace(TRACE)[0][first : first + number]
    start = rows[0].seconds
    return [((r.seconds - start) * given.pace, max(r.prompt_tokens // given.prompts, 1), max(r.output_tokens // given.outputs, 1)) for r in rows]


class Server:
    def __init__(self, python, folder, blocks, least, model=MODEL, length=LENGTH, sequences=SEQUENCES):
        self.folder, self.blocks, self.steps = Path(folder), blocks, Path(folder) / "steps"
        place = self.folder / "model"
        place.mkdir()
        (place / "config.json").write_text(json.dumps(model))
        made = "from tokenizers import Tokenizer, models, pre_tokenizers as p; t = Tokenizer(models.WordLevel({f'w{i}': i for i in range(512)}, unk_token='w0')); t.pre_tokenizer = p.Whitespace(); t.save('tokenizer.json')"
        subprocess.run([python, "-c", made], cwd=place, check=True)
        (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w2", "bos_token": "w1"}))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        env = {
            **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1", "NO_COLOR": "1",
            "PYTHONPATH": str(HERE), "VRAM_STEPS": str(self.steps), "VRAM_PACE": least, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0",
        }  # fmt: skip
        command = [
            Path(python).parent / "vllm", "serve", "./model", "--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager", "--host", "127.0.0.1",
            "--port", str(self.port), "--num-gpu-blocks-override", str(blocks), "--block-size", str(BLOCK), "--max-model-len", str(length),
            "--max-num-seqs", str(sequences), "--max-num-batched-tokens", str(BATCHED), "--no-enable-prefix-caching",
            "--scheduler-cls", "recorder.Recorder", "--disable-uvicorn-access-log",
        ]  # fmt: skip
        self.log = self.folder / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=self.folder, env=env, start_new_session=True)

    def wait(self):
        until = time.monotonic() + 400
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).read()
            except OSError:
                time.sleep(0.5)
            else:
                return
        raise SystemExit(self.log.read_text()[-4000:])

    def metric(self, name):
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10).read().decode()
        return sum(float(v) for v in re.findall(rf"^{name}(?:\{{.*\}})? ([0-9.e+-]+)$", page, re.MULTILINE))

    def close(self):
        for end in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, end)
                self.process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


async def replay(port, requests):
    """Sends each request at its time and streams its answer: (sent, first token, last token) on the monotonic clock."""
    begin = time.monotonic() + 0.5

    async def one(i, at, prompt, output):
        await asyncio.sleep(max(begin + at - time.monotonic(), 0))
        body = {
            "model": "./model",
            "prompt": [3 + (i * 7919 + k * 31) % 500 for k in range(prompt)],
            "max_tokens": output,
            "ignore_eos": True,
            "stream": True,
            "temperature": 0,
        }
        text = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = time.monotonic()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text)
            + text
        )
        first = last = 0.0
        chunks = 0
        async for line in reader:
            if line.startswith(b"data: {"):
                last = time.monotonic()
                first = first or last
                chunks += 1
            elif line.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
                raise SystemExit((line + await reader.read()).decode())
        writer.close()
        return sent, first, last, chunks

    return await asyncio.gather(*(one(i, *r) for i, r in enumerate(requests)))


def steps_of(lines):
    """Steps as (seconds, prompt tokens, pairs, decodes, kv tokens, used, ...), timed by when the next one was scheduled without a pause."""
    rows = [[float(x) for x in line.split()[1:]] for line in lines if line.startswith("= ")]
    out = []
    for row, after in pairwise(rows):
        if row[1] + row[3] > 0:
            out.append((row, after[0] - row[0], after[1] + after[3] > 0))
    return out


def fit(samples):
    """Least squares of seconds over (1, prompt tokens, pairs, decodes, kv tokens); what comes out below 0 is left out and fitted again."""
    names = list(range(5))
    while True:
        n = len(names)
        rows = [([(1.0, *x)[k] for k in names], y) for x, y in samples]
        scale = [max(abs(r[0][i]) for r in rows) or 1.0 for i in range(n)]
        a = [[sum(r[0][i] * r[0][j] for r in rows) / scale[i] / scale[j] for j in range(n)] for i in range(n)]
        b = [sum(r[0][i] * r[1] for r in rows) / scale[i] for i in range(n)]
        for i in range(n):
            for k in range(i + 1, n):
                f = a[k][i] / a[i][i]
                a[k] = [x - f * y for x, y in zip(a[k], a[i], strict=True)]
                b[k] -= f * b[i]
        solved = [0.0] * n
        for i in reversed(range(n)):
            solved[i] = (b[i] - sum(a[i][k] * solved[k] for k in range(i + 1, n))) / a[i][i]
        if all(v >= 0 for v in solved):
            found = dict(zip(names, (v / s for v, s in zip(solved, scale, strict=True)), strict=True))
            return [found.get(k, 0.0) for k in range(5)]
        names.remove(names[min(range(n), key=lambda i: solved[i])])


def percentile(values, share):
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def run(server, requests):
    """What the client and the engine saw of one run."""
    seen = len(server.steps.read_text().splitlines())
    preempted = server.metric("vllm:num_preemptions_total")
    answers = asyncio.run(replay(server.port, requests))
    time.sleep(1)
    lines = server.steps.read_text().splitlines()[seen:]
    return answers, lines, server.metric("vllm:num_preemptions_total") - preempted


def predict(requests, clock, blocks, frontend):
    from vram.planner.simulate.blocks import BlockRule
    from vram.planner.simulate.request import Request
    from vram.planner.simulate.run import simulate
    from vram.planner.simulate.spec import LinearClock, PoolSpec, ReplicaSpec

    spec = ReplicaSpec(
        blocks=blocks - 1, rule=BlockRule.plain(BLOCK), clock=LinearClock(**clock), max_model_len=LENGTH, max_num_seqs=SEQUENCES, max_batched_tokens=BATCHED, frontend_seconds=frontend
    )  # fmt: skip
    made = [Request(arrival_seconds=at, prompt_tokens=p, output_tokens=o, max_tokens=o) for at, p, o in requests]
    return simulate(made, [PoolSpec(name="cpu", replica=spec)])


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--requests", type=int, default=300)
    ask.add_argument("--calibrate", type=int, default=80, help="requests of each of the two runs, before and after, that step times are fitted to")
    ask.add_argument("--prompts", type=int, default=8, help="lengths of the trace's prompts are divided by this")
    ask.add_argument("--outputs", type=int, default=2, help="those of its answers by this")
    ask.add_argument("--pace", type=float, default=0.8, help="its times are multiplied by this")
    ask.add_argument("--blocks", type=int, default=128)
    ask.add_argument("--least", default="0.06,0.0006,0.001", help="least seconds of a step: fixed, per prompt token, per decode; 0,0,0 for none")
    ask.add_argument("--out", default="")
    ask.add_argument("--keep", default="")
    given = ask.parse_args()
    python = os.environ.get("VRAM_VLLM_PYTHON") or sys.exit("VRAM_VLLM_PYTHON names no vLLM: sh truth/oracle/build_vllm.sh prints it")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(python, folder, given.blocks, given.least)
        try:
            server.wait()
            run(server, requests_of(9000, 12, given))  # warm
            learned = [run(server, requests_of(5000, given.calibrate, given))]
            test = requests_of(0, given.requests, given)
            answers, lines, preempted = run(server, test)
            learned.append(run(server, requests_of(7000, given.calibrate, given)))
            busy = [((r[1], r[2], r[3], r[4]), s) for _, seen, _ in learned for r, s, goes_on in steps_of(seen) if goes_on]
            c = fit(busy)
            names = ("step_seconds", "prefill_token_seconds", "prefill_pair_seconds", "decode_sequence_seconds", "kv_token_seconds")
            clock = dict(zip(names, c, strict=True))
            # What a request spends outside the engine: from its sending to the scheduler, in the calibration runs.
            outside = []
            for theirs, seen, _ in learned:
                added = sorted(float(line.split()[1]) for line in seen if line.startswith("+ "))
                outside += [x - y for x, y in zip(added, sorted(a[0] for a in theirs), strict=True)]
            frontend = percentile(outside, 0.5)
            print("calibrated on", len(busy), "steps:", clock, "frontend", frontend)
        finally:
            server.close()
        if given.keep:
            Path(given.keep).write_text("\n".join(lines))
    real_steps = steps_of(lines)
    begin = min(a[0] for a in answers)
    outcome = predict(test, clock, given.blocks, frontend)
    ttft = [f - s for s, f, _, _ in answers]
    told = [s.ttft_seconds for s in outcome.served]
    s = outcome.summary
    row = {
        "engine": "vllm 0.32.0+cpu", "requests": given.requests, "prompts_divided_by": given.prompts, "outputs_divided_by": given.outputs, "pace": given.pace, "least_step_seconds": given.least, "blocks": given.blocks, "block_size": BLOCK, "calibrated": "a run before and one after",
        "clock": clock, "frontend_seconds": frontend,
        "measured": {"seconds": max(a[2] for a in answers) - begin, "preemptions": preempted, "ttft_p50": percentile(ttft, 0.5), "ttft_p90": percentile(ttft, 0.9),
                     "steps": len(real_steps), "kv_peak": max(r[5] for r, _, _ in real_steps) / (given.blocks - 1)},
        "simulated": {"seconds": s.seconds, "preemptions": s.preemptions, "ttft_p50": percentile(told, 0.5), "ttft_p90": percentile(told, 0.9),
                      "steps": sum(p.steps for p in outcome.pools), "kv_peak": s.kv_share_peak},
    }  # fmt: skip
    # The same replay with the steps of the run itself shows what of the difference is the clock's, what the scheduler's.
    own = dict(zip(names, fit([((r[1], r[2], r[3], r[4]), x) for r, x, g in real_steps if g]), strict=True))
    hindsight = predict(test, own, given.blocks, frontend).summary
    print("clock of the run itself:", own, "->", hindsight.seconds, hindsight.preemptions, hindsight.ttft)
    for name, value in row["measured"].items():
        other = row["simulated"][name]
        print(f"{name:12} measured {value:10.3f}  simulated {other:10.3f}  {100 * (other / value - 1) if value else 0:+6.1f} %")
    if given.out:
        with Path(given.out).open("a") as f:
            f.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
