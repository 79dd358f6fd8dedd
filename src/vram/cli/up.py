"""`vram up MODEL…`: plan models for this machine, start engines for them, and put the gateway in front."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from vram.cli.types import BYTES, SECONDS, TOKENS, last_fleet
from vram.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vram.gateway.options import Options
    from vram.runtime.choosing import Finder
    from vram.runtime.filed import Filed
    from vram.runtime.lessons import Lessons
    from vram.runtime.placing import Report
    from vram.runtime.supervisor import Supervisor
    from vram.runtime.together import Household


@click.command(name="up", short_help="Plan models, start their engines, serve them.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--gpu",
    metavar="NAME",
    multiple=True,
    callback=last_fleet,
    help='GPUs of this machine to use: numbers ("0,1"), names ("RTX 4090"), or cpu for its main memory. Default: all, or main memory where there is none.',
)
@click.option(
    "--rpc",
    metavar="HOST:PORT",
    multiple=True,
    help="Use the devices of these RPC servers of llama.cpp, and of this machine only the GPUs that --gpu names. HOST:PORT-PORT where several models share them. Experimental, "
    "and unsafe on networks that others reach.",
)
@click.option("--engine", metavar="NAME", default="", help="The engine to start. Default: the first that is installed and can load the model.")
@click.option("--context", "context_tokens", type=TOKENS, help="Tokens of one sequence, prompt and output together (32768, 32k).")
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences of full length held at the same time.")
@click.option("--kv-dtype", metavar="NAME", help="Type of the KV cache: f16, fp8, q8_0 ... Default: the engine's own.")
@click.option("--quant", metavar="NAME", help="Weights that the engine quantises while it loads them (fp8), or of which file of a hub repository (Q4_K_M).")
@click.option("--tp", type=click.IntRange(min=1), help="Tensor-parallel ranks. Default: all GPUs.")
@click.option("--ubatch", type=click.IntRange(min=1), help="llama.cpp's physical batch.")
@click.option("--parallel", type=click.IntRange(min=1), help="llama.cpp's slots, each with a cache of its own.")
@click.option(
    "--ctx-checkpoints",
    type=click.IntRange(min=0),
    help="Checkpoints of past prompts that each of llama-server's slots keeps in main memory. Default: its own number; where a GPU shares that, what fits.",
)
@click.option("--gpu-layers", type=click.IntRange(min=0), help="llama.cpp's layers on GPUs, the output as the last one (-ngl). Default: all.")
@click.option("--tensor-split", metavar="A,B", help="llama.cpp's shares of the GPUs (-ts 3,1). Default: their free memory.")
@click.option("--gpu-memory-utilization", type=click.FloatRange(0, 1, min_open=True), help="Share of each GPU's memory that vLLM or SGLang may take.")
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Most sequences in one batch of vLLM or SGLang.")
@click.option("--max-batched-tokens", type=TOKENS, help="Most tokens in one step.")
@click.option("--block-size", type=click.IntRange(min=1), help="Tokens of one KV block of vLLM or SGLang.")
@click.option("--kv-pool-bytes", type=BYTES, help="Bytes of the KV pool per GPU (16GiB). Default: what is left; in main memory, what is needed.")
@click.option("--enforce-eager", is_flag=True, help="No CUDA graphs are captured (vLLM; SGLang's --disable-cuda-graph).")
@click.option("--engine-arg", "more", metavar="WORD", multiple=True, help="A word that is added to the engine's command as it is; once for each.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that clients reach. Other than loopback, they need keys (vram keys add).")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port that clients reach; 0 for a free one.")
@click.option("--admin-port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="Port of the administrators' API; 0: none.")
@click.option("--keys/--no-keys", "keys", default=None, help="Whether clients need a key. Default: when keys exist, or on any address but loopback.")
@click.option("--ready-seconds", type=SECONDS, default=600.0, show_default=True, metavar="TIME", help="How long an engine may take until it answers.")
@click.option(
    "--probe-seconds",
    type=SECONDS,
    default=300.0,
    show_default=True,
    metavar="TIME",
    help="How long the worst request that the plan admits may take before clients come.",
)
@click.option("--no-probe", is_flag=True, help="Let clients in without that request.")
@click.option("--exact", is_flag=True, help="Fail where memory runs out, instead of trying again with gentler settings.")
@click.option("--budget", "budget_bytes", type=BYTES, metavar="BYTES", help="Use no more than this of each GPU's memory, or of main memory (24GiB).")
@click.option("--pin", "pinned", multiple=True, metavar="NAME", help="Never unload this model for others, nor when nobody asks for it. Repeatable.")
@click.option("--idle-seconds", type=SECONDS, metavar="TIME", help="Unload a model that nobody asked for so long. Default: only when others need its room.")
@click.option(
    "--queue-seconds",
    type=SECONDS,
    default=300.0,
    show_default=True,
    metavar="TIME",
    help="How long a request may wait: for room, or for its model to be loaded.",
)
@click.option("--dollars-per-hour", type=click.FloatRange(min=0), help="What an hour of this machine costs: usage is then told in money, too.")
@click.option("--dry-run", is_flag=True, help="Print plans and commands, and start nothing.")
@click.option("--assume-gpu", is_flag=True, help="Start engines for the GPUs that --gpu names, though this machine is not seen to have them.")
@click.option("--force", is_flag=True, help="Start also what does not fit by its plan.")
@click.option("--detach", "-d", is_flag=True, help="Go on in the background once all is ready: vram ps shows it, vram down ends it.")
@click.option("--offline", is_flag=True, help="Touch no network: local files, the hub's cache and the built-in catalogue.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.up/1: plans and commands, and once all is ready the addresses.")
@click.pass_context
def command(ctx: click.Context, /, models: tuple[str, ...], **given: Any) -> None:
    """Serve MODEL… on this machine: planned, started with the flags of the plan, and behind one OpenAI-compatible address.

    As many models as fit are loaded at once, the pinned before the others, then the first named; one that does not fit beside them is loaded when it is asked for,
    in place of one that is used less. MODEL is what vram plan takes; NAME=MODEL gives it another name for clients. demo is a tiny model with random weights, made on the spot: what it
    says is noise, all else is real. Engines end with this program, however it ends.

    One pools file in place of models (vram size writes them): replicas that have no address there are started here, each on GPUs of its own, with the
    file's engines and settings, and served beside those that have one, by the file's routes and limits.

    With --rpc the GPUs are devices that RPC servers of llama.cpp show, on this machine or on others.

    \b
    vram up ./qwen3-8b-q4_k_m.gguf --context 32k
    vram up chat=Qwen/Qwen3-8B --gpu 0 --dry-run
    vram up pools.toml
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    from vram.cli.filed import household_of, is_pools_file, refuse_what_the_file_says
    from vram.cli.output import error_width, print_json, print_styled, progress, terminal_width
    from vram.cli.render.up import board, commands, up_document
    from vram.runtime.choosing import Finder
    from vram.runtime.learned import Learned
    from vram.settings import settings

    found = settings()
    dry = bool(given["dry_run"])
    from_file = is_pools_file(models)
    if from_file:
        refuse_what_the_file_says(ctx)
    if given["detach"] and not dry:
        from vram.cli.detach import in_background

        ctx.exit(in_background(found.state, as_json=given["as_json"]))
    filed = None
    lessons = Learned(found.state, lower=not given["exact"])
    with progress("reading models") as report:
        if from_file:
            household, filed = household_of(models[0], given, Finder(found), models=_demo, progress=report, lessons=lessons, say=print_styled_err)
        else:
            household = _named(models, given, Finder(found), report, lessons)
    unfit = [p for p in household.placed if not p.loadable]
    if dry:
        if given["as_json"]:
            print_json(up_document(household))
        else:
            print_styled(board(household, terminal_width()) + "\n\n" + commands(household.placed))
        ctx.exit(ExitCode.DOES_NOT_FIT if unfit else ExitCode.OK)
    from vram.cli.serve import need_extra
    from vram.gateway.ports import check_ports

    need_extra()
    # After all that is wrong with the words themselves: a taken port may be free at the next try, and would hide it.
    check_ports(given["host"], given["port"], "127.0.0.1", given["admin_port"])
    print_styled_err(board(household, error_width()))
    if unfit and not given["force"]:
        from vram.errors import UnmetError
        from vram.runtime.mending import mends_of

        mends = "; ".join(mends_of(household, unfit[0]))
        raise UnmetError(f"{unfit[0].wanted.name} does not fit", hint=f"what would mend it: {mends}" if mends else "vram plan says what would mend it")
    _serve(household, given, filed)
    ctx.exit(ExitCode.OK)


def _named(models: tuple[str, ...], given: dict[str, Any], finder: "Finder", report: "Report | None", lessons: "Lessons | None") -> "Household":
    """The models of the command line, placed."""
    from dataclasses import fields, replace

    from vram.cli.remote import devices_of
    from vram.cli.types import shares
    from vram.errors import UsageError
    from vram.runtime.choosing import fleet_of
    from vram.runtime.together import place_together, within
    from vram.runtime.wanted import Wanted, wanted_of

    dry = bool(given["dry_run"])
    same = {f.name: given[f.name] for f in fields(Wanted) if f.name in given} | {"tensor_split": shares(given["tensor_split"])}
    wanted = []
    for door, text in enumerate(models):
        name, model = wanted_of(text)
        wanted.append(Wanted(name=name, model=_demo(model), door=door, **same))
    if unknown := sorted(set(given["pinned"]) - {w.name for w in wanted}):
        raise UsageError(f"--pin {unknown[0]}: no model of that name is asked for", hint=f"those that are: {', '.join(w.name for w in wanted)}")
    if given["rpc"]:
        wanted = [replace(w, engine="llama-server") for w in wanted]
        fleet = devices_of(given, finder, len(wanted))
    else:
        fleet = fleet_of(given["gpu"], dry=dry or bool(given["assume_gpu"]))
    machine, budget = fleet, given["budget_bytes"]
    if budget is not None and budget <= 0:
        raise UsageError("--budget 0 leaves nothing for any model", hint="give the bytes of each GPU that may be used: --budget 20GiB")
    fleet = fleet if budget is None else within(fleet, budget)
    household = place_together(
        wanted, fleet, finder, dry=dry, offline=given["offline"] or None, progress=report, lessons=lessons, pinned=frozenset(given["pinned"])
    )
    return replace(household, budget_bytes=budget, machine=None if budget is None else machine)


def print_styled_err(text: str) -> None:
    """Styled text for people, on stderr: data alone goes to stdout."""
    import os

    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    # Whoever is served goes on being served where nobody can be told any more: a full disk, a reader that left.
    with suppress(OSError):
        click.echo(text, err=True, color=False if plain else None)


def _demo(model: str) -> str:
    """The model that is made on the spot, where it is asked for."""
    if model != "demo":
        return model

    from vram.errors import VramError
    from vram.runtime.tiny import write_tiny
    from vram.runtime.wanted import is_path
    from vram.settings import settings

    if is_path("demo"):
        return model
    path: Path = settings().headers / "demo.gguf"
    try:
        return str(path if path.is_file() else write_tiny(path))
    except OSError as e:
        raise VramError(f"{path}: {e.strerror or e}", hint="the tiny model is written there; name another folder with VRAM_CACHE_DIR") from None


def _options(given: dict[str, Any]) -> "Options":
    from pathlib import Path

    from vram.gateway.limits import WireLimits
    from vram.gateway.options import Options
    from vram.gateway.token import admin_token
    from vram.settings import settings

    found = settings()
    port = given["admin_port"]
    return Options(
        pools=Path("vram up"),
        host=given["host"],
        port=given["port"],
        keys_required=given["keys"],
        offline=True,
        store=found.gateway_db,
        admin_port=port or None,
        admin_token=admin_token(found.admin_token, found.admin_token_file, make=True) if port else "",
        limits=WireLimits(drain_seconds=10),
    )


def _serve(household: "Household", given: dict[str, Any], filed: "Filed | None" = None) -> None:
    from vram.admission.residency import TurnRules
    from vram.cli.said import Said
    from vram.runtime.local import LocalDriver
    from vram.runtime.options import Up
    from vram.runtime.serve import run
    from vram.runtime.supervisor import Supervisor
    from vram.runtime.unit import StartError
    from vram.settings import settings

    found, say = settings(), Said()

    def make() -> Supervisor:
        options = Up(
            folder=found.state,
            gateway=_options(given),
            ready_seconds=given["ready_seconds"],
            dollars_per_hour=given["dollars_per_hour"],
            probe_seconds=0.0 if given["no_probe"] else given["probe_seconds"],
            step_down=not given["exact"],
            calibration=found.calibration,
            turns=TurnRules(idle_seconds=given["idle_seconds"]),
            # What a pools file has is there all the time.
            pinned=frozenset(given["pinned"] if filed is None else household.first),
            queue_seconds=given["queue_seconds"],
            filed=filed,
        )
        return Supervisor(household, LocalDriver(), options, say=say)

    try:
        run(make, told=_told(given, say))
    except StartError as e:
        for line in e.lines:
            say(f"  {line}")
        raise
    finally:
        say.end()


def _told(given: dict[str, Any], say: "Callable[[str], None]") -> "Callable[[Supervisor], None]":
    def told(supervisor: "Supervisor") -> None:
        import sys

        from vram.cli.output import error_width, print_json
        from vram.cli.render.up import live_text, ready_text, try_text, up_document

        gateway = supervisor.gateway
        address = f"http://{given['host']}:{gateway.port}/v1"
        if given["as_json"]:
            print_json(up_document(supervisor.household, url=address, units=supervisor.units))
        for name in supervisor.household.first:
            say(ready_text(supervisor.units[name], error_width()))
        say(f"serving {', '.join(gateway.assembled.public)} on {address}")
        name = next(iter(gateway.assembled.public), "")
        if gateway.house.keys.required:
            say("each request needs a key: vram keys add NAME prints a new one")
        elif name:
            say(try_text(address, name))
        # Without a terminal, in the background, nobody presses keys.
        say(f"{live_text(gateway.admin_port)}end: {'Ctrl-C' if sys.stdin.isatty() else 'vram down'}")

    return told
