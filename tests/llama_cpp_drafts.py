"""Questions to a real llama.cpp about drafts and adapters, the plans that answer them, and how both are compared.

A row of truth/llama_cpp/draft_runs.jsonl is one question with llama.cpp's answer; tests/oracle asks others afresh.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.make_gguf import DRAFTING, PRESETS, Made, make, metadata_of, preset, stored_type, tensor_table

from vram.engines.base import Settings
from vram.engines.draft import Draft
from vram.hardware.fleet import Fleet
from vram.hardware.gpu import Gpu
from vram.model.adapter import Adapter
from vram.model.model import Model
from vram.planner.make import make_plan
from vram.planner.plan import Plan
from vram.readers.gguf import model_from_gguf, read_gguf
from vram.readers.gguf_adapter import adapter_from_gguf

Row = dict[str, Any]
REMOTE = Gpu(name="remote", vendor="", architecture="", capacity_bytes=2**42, capacity_source="stated", marketing_bytes=2**42)
KEYS = ["n_ctx", "n_batch", "n_ubatch", "n_parallel", "fa", "type_k", "type_v", "swa_full", "kv_unified", "n_outputs_max", "offload_kqv", "ngl", "n_rs_seq"]
ADAPTED = ("llama3.1-8b", "qwen2.5-7b", "gemma3-4b", "qwen3-30b-a3b")


def mtp_questions(name: str, devices: int) -> list[Row]:
    """Settings of one model on so many devices: slots of their own and shared, batches, cache types, layers on the host."""
    found = []
    for slots, unified, ubatch, context in ((4, 1, 512, 8192), (4, 0, 256, 32768), (1, 1, 1024, 24000), (2, 0, 2048, 4096)):
        for fa, kind in ((1, "f16"), (0, "f16"), (1, "q8_0")):
            for ngl in [0] if not devices else [99, DRAFTING[name]["L"] // 2] if devices == 1 else [99]:
                values = (context, 2048, ubatch, slots, fa, kind, kind, 0, unified, slots * 4, 1, ngl, 0)
                found.append(dict(zip(KEYS, values, strict=True)))
    return sorted(found, key=lambda s: s["ngl"])


def adapter(name: str, what: str, rank: int, kind: str) -> Made:
    """An adapter's file: `all` linears and the head, `qv` queries and values alone, `embd` the embedding, too."""
    p = PRESETS[name]
    tensors = []
    for tensor, dims in tensor_table(p):
        plain = tensor.startswith("blk") and len(dims) > 1 and not any(w in tensor for w in ("norm", "conv1d", "inp", "bias"))
        head = tensor == "output.weight" and what == "all"
        if (plain and (what != "qv" or ".attn_q." in tensor or ".attn_v." in tensor)) or head:
            columns, rows, *many = dims
            tensors += [(f"{tensor}.lora_a", (columns, rank, *many), kind), (f"{tensor}.lora_b", (rank, rows, *many), kind)]
        if what == "embd" and tensor == "token_embd.weight":
            tensors += [(f"{tensor}.lora_a", (rank, dims[1]), kind), (f"{tensor}.lora_b", (rank, dims[0]), kind)]
    return make({"general.architecture": p["arch"], "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 16.0}, tensors)


def written(made: Made, path: Path) -> Path:
    """The file, its data a hole."""
    with path.open("wb") as f:
        f.write(made.header)
        f.truncate(made.size)
    return path


def _summed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = found[key] + value if isinstance(value, int) and key in found else value
    return found


def ask(probe: Path, path: Path, settings: list[Row], devices: int, *extra: str) -> list[Row]:
    """What llama.cpp would allocate under each setting: bytes by place (`host`, `device0` …), of the model, the MTP context and adapters."""
    with_ports = []
    for _ in range(devices):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            with_ports.append(f"127.0.0.1:{s.getsockname()[1]}")
    lines = "".join(" ".join(str(v) for v in row.values()) + "\n" for row in settings)
    done = subprocess.run([probe, path, *extra, *with_ports], input=lines, capture_output=True, text=True, check=True, timeout=600)

    def places(told: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in told.items():
            place = next((f"device{i}" for i, address in enumerate(with_ports) if address in name), "host")
            if isinstance(value, dict):
                sizes = out.setdefault(place, {"model": 0, "context": 0, "compute": 0})
                for what, size in value.items():
                    sizes[what] += size
            else:
                out[place] = out.get(place, 0) + value
        return out

    answers = [json.loads(line, object_pairs_hook=_summed) for line in done.stdout.splitlines()]
    return [{"ok": a["ok"], **{key: places(a.get(key, {})) for key in ("buffers", "mtp", "lora")}} for a in answers]


def model_of(made: Made, name: str) -> Model:
    """The file as our reader reads it."""
    return model_from_gguf([read_gguf(made.read, made.size, name)], name)


def adapter_of(row: Row) -> Adapter | None:
    """The adapter of a row as our reader reads it."""
    if not row["adapter"]:
        return None
    made = adapter(row["preset"], *row["adapter"])
    return adapter_from_gguf(read_gguf(made.read, made.size, row["id"]), row["id"])


def plan_of(row: Row, model: Model, *, draft: Draft | None, lora: tuple[Adapter, ...] = ()) -> Plan:
    """The plan of a row."""
    s = row["settings"]
    slots, unified = s["n_parallel"], bool(s["kv_unified"])
    return make_plan(
        model,
        Fleet.of([REMOTE] * max(row["devices"], 1)),
        engine="llama.cpp",
        context_tokens=s["n_ctx"] if unified else s["n_ctx"] // slots,
        concurrency=1 if unified else slots,
        kv_dtype=s["type_k"],
        settings=Settings(
            max_batched_tokens=s["n_batch"],
            ubatch=s["n_ubatch"],
            parallel=slots,
            flash_attention=bool(s["fa"]),
            gpu_layers=s["ngl"] if row["devices"] else 0,
            kv_unified=unified,
            draft=draft,
            output_rows=None if draft is not None else s["n_outputs_max"],
            lora=lora,
        ),
    )


def differences(row: Row, model: Model) -> tuple[list[str], list[tuple[float, int, int, int]]]:
    """What of a row is planned otherwise than llama.cpp answered; and (error, real, low, high) of the second context's compute buffers."""
    found = adapter_of(row)
    draft = Draft() if row["mtp"] else None
    plan = plan_of(row, model, draft=draft, lora=(found,) if found is not None else ())
    bare = plan_of(row, model, draft=None)
    wrong, compute = [], []
    host, mtp, lora = dict(plan.host), row["mtp"] or {}, row["lora"] or {}
    for place in range(row["devices"]):
        key, gpu = f"device{place}", plan.gpus[place]
        if gpu.parts.weights.bytes != row["buffers"][key]["model"] + lora.get(key, 0):
            wrong.append(f"{key} weights {gpu.parts.weights.bytes}")
        if gpu.parts.kv_cache.bytes != row["buffers"][key]["context"] + mtp.get(key, {}).get("context", 0):
            wrong.append(f"{key} caches {gpu.parts.kv_cache.bytes}")
        if real := mtp.get(key, {}).get("compute", 0):
            mine, alone = gpu.parts.activations, bare.gpus[place].parts.activations
            compute.append(((mine.bytes - alone.bytes) / real - 1, real, mine.low - alone.low, mine.high - alone.high))
    if host["weights"].bytes != row["buffers"]["host"]["model"]:
        wrong.append(f"host weights {host['weights'].bytes}")
    kept = sum(host[name].bytes for name in ("kv_cache", "draft_kv_cache") if name in host)
    if kept != row["buffers"]["host"]["context"] + mtp.get("host", {}).get("context", 0):
        wrong.append(f"host caches {kept}")
    if (host["lora"].bytes if "lora" in host else 0) != lora.get("host", 0):
        wrong.append("host adapters")
    if real := mtp.get("host", {}).get("compute", 0):
        mine = host["draft_compute"]
        compute.append((mine.bytes / real - 1, real, mine.low, mine.high))
    return wrong, compute


# llama-server itself


def speaking(name: str, quant: str = "F16", **changes: Any) -> Made:
    """A preset with a vocabulary, so that a server starts on it: bytes and fillers."""
    p = {**PRESETS[name], **changes}
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    words = [*letters, *(f"<f{i}>" for i in range(p["vocab"] - 256))]
    meta = {key: value for key, value in metadata_of(p).items() if key not in {"tokenizer.ggml.model", f"{p['arch']}.vocab_size"}}
    meta |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "default", "tokenizer.ggml.tokens": words, "tokenizer.ggml.merges": ["! !"]}
    meta |= {"tokenizer.ggml.bos_token_id": 257, "tokenizer.ggml.eos_token_id": 258}
    return make(meta, [(n, dims, stored_type(n, dims, quant, p)) for n, dims in tensor_table(p)])


TARGET = ("qwen2.5-7b", {"vocab": 4096, "L": 4})
SERVERS: list[Row] = [
    {"draft": "qwen2.5-0.5b", "flags": ["-c", "4096"], "context": 4096, "settings": {}},
    {"draft": "qwen2.5-0.5b", "flags": ["-c", "8192", "-np", "2"], "context": 4096, "settings": {"parallel": 2}, "concurrency": 2},
    {"draft": "llama3.2-1b", "flags": ["-c", "4096", "--spec-draft-n-max", "8", "-ub", "256"], "context": 4096, "tokens": 8, "settings": {"ubatch": 256}},
    {"draft": "qwen3-8b", "flags": ["-c", "2048", "-ctk", "q8_0", "-ctv", "q8_0"], "context": 2048, "kv": "q8_0", "settings": {}},
    {"draft": "gemma3-1b", "flags": ["-c", "6000"], "context": 6000, "settings": {}},
    {"draft": "mamba2-2.7b", "flags": ["-c", "4096"], "context": 4096, "settings": {}},
]
LINE = re.compile(
    r"(?P<what>load_tensors|llama_kv_cache|llama_memory_recurrent|llama_context|sched_reserve|llama_adapter_lora_init_impl):\s+CPU\S* .*?=\s+(?P<mib>[\d.]+) MiB"
)


def server_lines(binary: Path, target: Path, draft: Path, flags: list[str], seconds: float = 30) -> list[list[Any]]:
    """The lines of a llama-server that print a buffer, [function, MiB], in their order, until it listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [binary, "-m", target, "--model-draft", draft, "--spec-type", "draft-simple", *flags, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-warmup", "-lv", "4", "-t", "1", "--offline", "-fit", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        found, until = [], time.monotonic() + seconds
        assert process.stdout is not None
        for line in process.stdout:
            if match := LINE.search(line):
                found.append([match["what"], float(match["mib"])])
            if "listening" in line or time.monotonic() > until:
                break
        process.send_signal(signal.SIGKILL)
    return found


def server_models(case: Row) -> tuple[Made, Made]:
    """The target and the draft of a case; a draft keeps few layers, and the target's vocabulary."""
    name, changes = TARGET
    layers = min(PRESETS[case["draft"]]["L"], 12)
    return speaking(name, **changes), speaking(case["draft"], vocab=changes["vocab"], L=layers)


def server_plan(case: Row) -> Plan:
    """The plan of a server without a GPU."""
    target, draft = (model_of(made, str(i)) for i, made in enumerate(server_models(case)))
    return make_plan(
        target,
        Fleet.of([REMOTE]),
        engine="llama.cpp",
        context_tokens=case["context"],
        concurrency=case.get("concurrency", 1),
        kv_dtype=case.get("kv"),
        settings=Settings(gpu_layers=0, draft=Draft(model=draft, tokens=case.get("tokens"), gpu_layers=0), **case["settings"]),
    )


def planned_mib(case: Row) -> dict[str, list[float]]:
    """What the plan says of each function's lines, target first, in MiB: exact ones; and compute as [expected, low, high] of both."""
    host = dict(server_plan(case).host)

    def mib(name: str) -> list[float]:
        return [round(host[n].bytes / 2**20, 2) for n in (name, f"draft_{name}") if n in host]

    return {"load_tensors": mib("weights"), "caches": mib("kv_cache"), "llama_context": mib("output"), "compute": mib("compute")}


def record(probe: Path, server: Path | None, folder: Path) -> Iterator[Row]:
    """All recorded questions asked again."""
    for name in DRAFTING:
        path = written(preset(name), folder / f"{name}.gguf")
        for devices in (0, 1, 2):
            settings = mtp_questions(name, devices)
            for s, answer in zip(settings, ask(probe, path, settings, devices, "--mtp"), strict=True):
                yield {
                    "id": f"mtp|{name}|{devices}|{' '.join(map(str, s.values()))}",
                    "preset": name,
                    "devices": devices,
                    "settings": s,
                    "adapter": None,
                    **answer,
                }
    for name in ADAPTED:
        path = written(preset(name), folder / f"{name}.gguf")
        for what, rank, kind in (("all", 16, "F32"), ("qv", 7, "F16"), ("embd", 64, "F16")):
            pairs = written(adapter(name, what, rank, kind), folder / "adapter.gguf")
            for devices, ngl in ((0, 0), (1, 99), (1, PRESETS[name]["L"] // 2), (2, 99)):
                s = dict(zip(KEYS, (4096, 2048, 512, 1, 1, "f16", "f16", 0, 1, 1, 1, ngl, 0), strict=True))
                answer = ask(probe, path, [s], devices, "--lora", str(pairs))[0]
                yield {
                    "id": f"lora|{name}|{what}|{rank}|{kind}|{devices}|{ngl}",
                    "preset": name,
                    "devices": devices,
                    "settings": s,
                    "adapter": [what, rank, kind],
                    **answer,
                }
    for case in SERVERS if server is not None else ():
        target, draft = (written(made, folder / f"{i}.gguf") for i, made in enumerate(server_models(case)))
        yield {"id": f"server|{case['draft']}|{' '.join(case['flags'])}", "case": case, "lines": server_lines(server, target, draft, case["flags"])}


if __name__ == "__main__":
    # python tests/llama_cpp_drafts.py PROBE SERVER FOLDER > rows: records the rows anew.
    probe, server, folder = map(Path, sys.argv[1:])
    sys.stdout.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in record(probe, server if server.exists() else None, folder))
