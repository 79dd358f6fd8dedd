"""Measures memory on the GPU of this machine and writes one row for each measurement; README.md describes them.

Needs torch and transformers, no weights and no network. Every group of measurements runs in a child process of its own with a
time limit: a crash or a card that is too small costs one row.

    python truth/gpu/measure.py --out rows.jsonl [--only NAME] [--minutes 9.5]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# An installed program is taken before the source beside.
sys.path += [p for p in (str(HERE), str(HERE.parent.parent / "src")) if p not in sys.path]
from gpu_cases import GRAPH_MODELS, MODELS, Case, cases  # noqa: E402  (the scripts and the catalogue lie beside, not in the environment)
from gpu_memory import driver_version, reader  # noqa: E402
from gpu_rows import GIB, corpus_fields, extrapolate, problems, slug  # noqa: E402

NO_GPU = 5


# ------------------------------------------------------------------------------------------------ the parent


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description="Measure memory on this machine's GPU, one JSON row a measurement.")
    parser.add_argument("--out", type=Path, help="file that rows are appended to")
    parser.add_argument("--only", metavar="NAME", default="", help="only measurements whose name holds this (context, peaks-qwen, …)")
    parser.add_argument("--minutes", type=float, default=9.5, help="begin nothing after this time (default 9.5)")
    parser.add_argument("--list", action="store_true", help="print the measurements for a card of --free-gib GiB, measure nothing")
    parser.add_argument("--free-gib", type=float, default=None, help="plan whole or cut models as if so much were free")
    parser.add_argument("--gpus", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    found = parser.parse_args(argv)
    if found.minutes <= 0:
        parser.error("--minutes must be more than 0")
    if not (found.out or found.list or found.child):
        parser.error("--out is needed")
    return found


def catalogue_models() -> dict[str, tuple[Mapping[str, Any], int | str]]:
    """Config and stated parameters of each model that is measured, from the built-in catalogue."""
    from vram import catalog

    made: dict[str, tuple[Mapping[str, Any], int | str]] = {}
    for name in dict.fromkeys([*(m for m, _, _ in MODELS), *GRAPH_MODELS]):
        found = catalog.find(name)
        if found is None:
            raise SystemExit(f"error: the catalogue has no {name}")
        made[name] = (found.config, found.parameters)
    return made


def run_child(job: Mapping[str, Any], case: Case, folder: Path, hear: Callable[[Mapping[str, Any]], None], seconds: float) -> str:
    """Run one child over `job`; each line of its report is handed to `hear`. How it ended: empty for well, `crash …` or `timeout …`."""
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(job))
    report, words = folder / "report.jsonl", folder / "words.txt"
    report.touch()
    with words.open("wb") as sink, report.open() as lines:
        child = subprocess.Popen(
            [sys.executable, str(HERE / "measure.py"), "--child", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **case.environment},
        )
        last, limit, rest, ended = time.monotonic(), case.start_seconds, "", None
        begun = last
        try:
            while True:
                ended = child.poll()
                rest += lines.read()
                *whole, rest = rest.split("\n")
                for line in whole:
                    hear(json.loads(line))
                    last, limit = time.monotonic(), case.shot_seconds
                if ended is not None:
                    break
                now = time.monotonic()
                if now - last > limit or now - begun > seconds:
                    return f"timeout after {now - last:.0f} s"
                time.sleep(0.05)
        finally:
            if ended is None:
                # The child leads its own group, so its ranks end with it.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if ended == 0:
        return ""
    said = [line for line in words.read_text(errors="replace").splitlines() if line.strip()]
    return f"crash {ended}: {said[-1][:300] if said else ''}"


def run_case(case: Case, machine: Mapping[str, Any], folder: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """The rows of one case: a child that dies is started anew for the shots after the one that it died of."""
    shots, tries, ends = list(case.shots), 0, time.monotonic() + seconds
    while shots and time.monotonic() < ends:
        heard: list[Mapping[str, Any]] = []
        job = {"kind": case.kind, "settings": case.settings, "shots": shots, "machine": machine}
        how = run_child(job, case, folder / f"{slug(case.name)}-{tries}", heard.append, ends - time.monotonic())
        tries += 1
        for said in heard:
            yield row_of(case, shots[said["shot"]], machine, said)
        done = len(heard)
        if done < len(shots) and how:
            outcome = how.split()[0]
            yield row_of(case, shots[done], machine, {"outcome": outcome, "error": how, "measured": {}})
            done += 1
            # Before its first row a child was still building: what failed once fails again.
            if not heard:
                return
        elif done < len(shots):
            return
        shots = shots[done:]


def row_of(case: Case, shot: Mapping[str, Any], machine: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """One row, with what the child said."""
    name = "-".join([case.name, *(f"{shot[k]}" for k in ("batch", "tokens", "pattern", "ranks") if k in shot and case.kind != "graphs")])
    settings = {k: v for k, v in {**case.settings, **shot, **said.get("settings", {})}.items() if k not in {"config", "batches"}}
    settings |= {"device_used_before_bytes": machine["used_bytes"], "runtime_total_bytes": machine["runtime_total_bytes"]}
    row: dict[str, Any] = {
        "id": slug(f"{name} {machine['gpu']}"),
        "kind": case.kind,
        **{k: machine[k] for k in ("gpu", "gpus", "compute", "driver", "driver_source", "runtime", "torch", "transformers")},
        "settings": settings,
        "outcome": said.get("outcome", "ok"),
        "measured": said.get("measured", {}),
        "date": datetime.now(UTC).date().isoformat(),
    }
    for extra in ("error", "series", "seconds"):
        if said.get(extra) not in (None, ""):
            row[extra] = said[extra]
    if "config" in case.settings:
        row["shape"] = case.settings["config"]
    return row


class Joiner:
    """Turns the rows of a model's two cuts into rows of the whole; other rows pass as they are."""

    def __init__(self) -> None:
        self._first: dict[tuple[Any, ...], dict[str, Any]] = {}

    def take(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The row to write now; None while the other cut is awaited."""
        s = row["settings"]
        if not s.get("cut_layers"):
            return row | corpus_fields(row)
        key = (s["model"], s["attention"], s["weights"], s["tokens"], s["batch"])
        few, many = s["cut_layers"]
        if s["layers"] == few:
            self._first[key] = row
            return None
        first = self._first.pop(key, None)
        if first is None:
            return row | {"outcome": "error", "error": f"the cut to {few} layers gave no row"} if row["outcome"] == "ok" else row
        whole = int(row["shape"]["num_hidden_layers"])
        made = row | {"id": row["id"].replace(f"-{many}-layers", ""), "settings": s | {"layers": whole, "extrapolated": True}}
        if first["outcome"] != "ok" or row["outcome"] != "ok":
            bad = first if first["outcome"] != "ok" else row
            return made | {"measured": {}, "outcome": bad["outcome"], "error": f"at {bad['settings']['layers']} layers: {bad.get('error', '')}"}
        return made | {
            "measured": extrapolate(first["measured"], row["measured"], (few, many), whole),
            "at_layers": {str(few): first["measured"], str(many): row["measured"]},
            "note": f"run with {few} and with {many} of {whole} layers; the figures of the whole lie on the line through both",
        }

    def left(self) -> Iterator[dict[str, Any]]:
        """Rows whose other cut never came."""
        for row in self._first.values():
            yield row | {
                "measured": {},
                "at_layers": {str(row["settings"]["layers"]): row["measured"]},
                "outcome": "timeout",
                "error": "the other cut was not run",
            }
        self._first.clear()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything that was asked for; the exit status: 0, or 5 where no GPU is."""
    asked = arguments(argv)
    if asked.child:
        return child_main(asked.child)
    began = time.monotonic()
    models = catalogue_models()
    if asked.list:
        free = int((asked.free_gib if asked.free_gib is not None else 80) * GIB)
        for case in cases(free, asked.gpus, models=models):
            if asked.only in case.name:
                print(f"{case.name}  {len(case.shots)} rows")
        return 0
    with tempfile.TemporaryDirectory(prefix="vram-gpu-") as place:
        folder = Path(place)
        machine: dict[str, Any] = {}
        probe = Case(name="machine", kind="context", shots=({},), start_seconds=180)
        how = run_child({"kind": "machine", "shots": [{}]}, probe, folder / "machine", machine.update, 180)
        if how or not machine.get("gpus"):
            print(
                f"error: no GPU that torch can use: {how or machine.get('error', '')}\nhint: rows are measured where CUDA or ROCm is; --list shows what would be",
                file=sys.stderr,
            )
            return NO_GPU
        # This process has no context on the card, so it sees what others use.
        if (look := reader(**machine["devices"][0])) is not None:
            machine["used_bytes"] = look.read().used
        print(f"{machine['gpu']} ({machine['gpus']} of them), driver {machine['driver']}, torch {machine['torch']}, transformers {machine['transformers']}")
        if machine["used_bytes"] > GIB:
            print(f"warning: others use {machine['used_bytes'] / GIB:.2f} GiB of it; what they take or free meanwhile spoils the driver's figures")
        free = machine["free_bytes"] if asked.free_gib is None else int(asked.free_gib * GIB)
        todo = [c for c in cases(free, machine["gpus"], models=models) if asked.only in c.name]
        if not todo:
            print(f"error: no measurement's name holds {asked.only!r}\nhint: --list names them", file=sys.stderr)
            return 2
        return measure_all(todo, machine, folder, asked.out, began + asked.minutes * 60)


def measure_all(todo: Sequence[Case], machine: Mapping[str, Any], folder: Path, out: Path, ends: float) -> int:
    """Run the cases until the time is up, and append their rows to `out` as they come."""
    joiner, written, skipped = Joiner(), 0, []
    with out.open("a", encoding="utf-8") as sink:

        def write(row: dict[str, Any] | None) -> None:
            nonlocal written
            if row is None:
                return
            if wrong := problems(row):
                print(f"  {row.get('id')}: not written: {'; '.join(wrong)}")
                return
            sink.write(json.dumps(row) + "\n")
            sink.flush()
            written += 1

        for number, case in enumerate(todo, 1):
            left = ends - time.monotonic()
            if left <= 0:
                skipped.append(case.name)
                continue
            print(f"[{number:>2}/{len(todo)}] {case.name}", flush=True)
            for row in run_case(case, machine, folder, left):
                print("    " + headline(row), flush=True)
                write(joiner.take(row))
        for row in joiner.left():
            write(row)
    print(f"{written} rows in {out}")
    if skipped:
        print(f"out of time, not measured: {', '.join(skipped)}")
    return 0


def headline(row: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    figures = ", ".join(f"{k.removesuffix('_bytes')} {v / GIB:.3f}" for k, v in row["measured"].items() if k.endswith("_bytes"))
    shot = " ".join(f"{k} {row['settings'][k]}" for k in ("probe", "pattern", "batch", "tokens", "ranks") if k in row["settings"])
    return f"{shot}: " + (f"{figures} GiB" if row["outcome"] == "ok" else f"{row['outcome']} {row.get('error', '')[:200]}")


# ------------------------------------------------------------------------------------------------ the child


def child_main(folder: Path) -> int:
    """Measure the shots of one job; one line of the report for each."""
    job = json.loads((folder / "job.json").read_text())
    with (folder / "report.jsonl").open("a") as report:

        def say(**line: Any) -> None:
            report.write(json.dumps(line) + "\n")
            report.flush()

        if job["kind"] == "machine":
            say(**machine_facts())
            return 0
        shoot, begun = shooter(job, folder), time.monotonic()
        for number, shot in enumerate(job["shots"]):
            found = guarded(shoot, shot)
            say(shot=number, seconds=round(time.monotonic() - begun, 2), **found)
            begun = time.monotonic()
    return 0


def guarded(shoot: Callable[[Mapping[str, Any]], Mapping[str, Any]], shot: Mapping[str, Any]) -> dict[str, Any]:
    """What a shot gave, or how it failed; memory that a failed one held is let go."""
    try:
        return {"outcome": "ok", **shoot(shot)}
    except Exception as e:
        kind = "oom" if is_out_of_memory(e) else "unsupported" if type(e).__name__ == "UnsupportedError" else "error"
        text = f"{type(e).__name__}: {e}".split("\n")[0][:300]
    # Outside of the handler: the traceback no longer pins the tensors of the frames beneath.
    return {"outcome": kind, "error": text, "measured": {}}


def is_out_of_memory(error: BaseException) -> bool:
    """Running out, as torch's own error, or a library's that says so."""
    return type(error).__name__ == "OutOfMemoryError" or any(w in str(error).lower() for w in ("out of memory", "cublas_status_alloc_failed"))


def machine_facts() -> dict[str, Any]:
    """The first GPU, the driver and the versions; `gpus` is 0 where torch sees none."""
    import torch
    import transformers

    if not torch.cuda.is_available():
        return {"gpus": 0, "error": "torch.cuda.is_available() is False"}
    devices = []
    for number in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(number)
        pci = f"{getattr(p, 'pci_domain_id', 0):04x}:{getattr(p, 'pci_bus_id', 0):02x}:{getattr(p, 'pci_device_id', 0):02x}.0"
        devices.append({"uuid": str(getattr(p, "uuid", "")), "pci": pci})
    look = reader(**devices[0])
    free, total = torch.cuda.mem_get_info(0)
    hip = getattr(torch.version, "hip", None)
    return {
        "gpu": torch.cuda.get_device_name(0),
        "gpus": len(devices),
        "devices": devices,
        "compute": getattr(torch.cuda.get_device_properties(0), "gcnArchName", "") if hip else ".".join(map(str, torch.cuda.get_device_capability(0))),
        "driver": driver_version(),
        "driver_source": look.source if look else "runtime",
        "runtime": f"rocm {hip}" if hip else f"cuda {torch.version.cuda}",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "used_bytes": total - free,
        "free_bytes": free,
        "runtime_total_bytes": total,
    }


def shooter(job: Mapping[str, Any], folder: Path) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """What measures one shot of a job; a model is built here, once for all of them."""
    import gpu_driver

    machine, settings, kind = job["machine"], job["settings"], job["kind"]
    driver = reader(**machine["devices"][0])
    if kind == "context":
        return lambda shot: {"measured": gpu_driver.measure_context(shot, driver)}
    if kind == "allocator":
        return lambda shot: {"measured": gpu_driver.measure_allocator(shot, driver)}
    if kind == "graphs":
        return lambda shot: dict(zip(("measured", "series"), gpu_driver.measure_graphs(shot, settings, driver), strict=True))
    if kind == "nccl":
        return lambda shot: dict(zip(("measured", "series"), gpu_driver.measure_nccl(shot, machine["devices"], str(folder)), strict=True))
    return peaks_shooter(settings, driver)


def peaks_shooter(settings: Mapping[str, Any], driver: Any, device_type: str = "cuda", counter: Any = None) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Build the model and return what runs prompts through it; a model that the card cannot hold fails every shot alike."""
    import torch
    from gpu_memory import CudaCounter
    from gpu_models import build, tensor_bytes
    from gpu_peaks import measure_peaks, warm_up
    from gpu_rows import cut

    device = torch.device(device_type)
    used_before = driver.read().used if driver else 0
    if counter is None:
        torch.zeros(1, device=device)
        counter = CudaCounter(torch, device)
    counter.settle()
    before = counter.mark()
    config = cut(settings["config"], settings["layers"])
    failure: Exception | None = None
    fixed: dict[str, int] = {}
    model: Any = None
    try:
        model = build(config, attention=settings["attention"], weights=settings["weights"], device=device)
        counter.settle()
        fixed = {"weights_bytes": counter.mark() - before, "tensor_bytes": tensor_bytes(model)}
        fixed["library_workspace_bytes"] = warm_up(model, counter, device)
    except Exception as e:
        failure = e.with_traceback(None)

    def shoot(shot: Mapping[str, Any]) -> Mapping[str, Any]:
        if failure is not None:
            raise failure
        made = fixed | measure_peaks(model, shot, counter, device, driver)
        if driver is not None:
            # All that this process has on the card, and what of it torch's allocator does not know.
            made["device_used_bytes"] -= used_before
            made["outside_torch_bytes"] = made["device_used_bytes"] - made["reserved_bytes"]
        return {"measured": made}

    return shoot


if __name__ == "__main__":
    sys.exit(main())
