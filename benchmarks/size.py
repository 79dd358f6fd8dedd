"""`vram size` against its bar: pools for an 8B and a 70B on the hour of the code trace, every GPU whose price is known, within 60 s of CPU.

The machine's other work does not count: CPU seconds of the process, and its peak memory.

    python benchmarks/size.py
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

TRACE = Path(__file__).parent.parent / "truth" / "traces" / "azure_llm_2023_code.csv.gz"
MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct")
BAR_SECONDS = 60.0


def main() -> int:
    words = [word for model in MODELS for word in ("--model", model)]
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "vram", "size", *words, "--trace", str(TRACE), "--offline"], capture_output=True, text=True, check=False)
    wall = time.monotonic() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = usage.ru_utime + usage.ru_stime
    print(done.stdout)
    print(
        f"vram size, {len(MODELS)} models, {TRACE.name}: {seconds:.1f} s of CPU ({wall:.1f} s on the clock), {usage.ru_maxrss / 1024:.0f} MB; bar {BAR_SECONDS:.0f} s"
    )
    return done.returncode or int(seconds > BAR_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
