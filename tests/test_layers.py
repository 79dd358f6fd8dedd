"""Who may import whom, written down once."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vram

ROOT = Path(vram.__file__).parent

# package -> packages of ours that it may import (itself always).
BASE = {"units", "errors", "settings", "version"}
MAY_IMPORT = {
    "units": {"errors"},
    "errors": set(),
    "settings": {"errors", "units"},
    "version": set(),
    "catalog": BASE,
    "model": BASE,
    "readers": BASE | {"model"},
    "sources": BASE | {"model", "readers", "catalog"},
    "hardware": BASE | {"catalog"},
    "memory": BASE | {"model", "hardware"},
    "engines": BASE | {"model", "hardware", "memory"},
    "speed": BASE | {"model", "hardware", "memory", "engines"},
    "costs": BASE | {"model", "hardware", "memory", "engines", "speed"},
    "admission": BASE | {"model", "hardware", "memory", "engines"},
    "planner": BASE | {"model", "hardware", "memory", "engines", "speed", "costs", "admission"},
    "accuracy": BASE | {"model", "hardware", "memory", "engines", "speed", "planner"},
    "pricing": BASE | {"api", "model", "sources", "hardware", "costs", "planner", "catalog"},
    "sizing": BASE | {"api", "pricing", "model", "readers", "sources", "hardware", "engines", "costs", "planner", "catalog"},
    "replay": BASE | {"api", "sizing", "model", "readers", "sources", "planner"},
    "picking": BASE | {"api", "pricing", "model", "hardware", "engines", "speed", "costs", "planner", "catalog"},
    "api": BASE | {"model", "readers", "sources", "hardware", "memory", "engines", "speed", "costs", "admission", "planner", "catalog"},
    "gateway": BASE | {"api", "pricing", "model", "readers", "sources", "hardware", "memory", "engines", "speed", "costs", "admission", "planner"},
    "runtime": BASE | {"gateway", "api", "pricing", "model", "readers", "sources", "hardware", "memory", "engines", "speed", "costs", "admission", "planner"},
    "cli": BASE
    | {
        "runtime",
        "gateway",
        "api",
        "picking",
        "pricing",
        "sizing",
        "replay",
        "model",
        "readers",
        "sources",
        "hardware",
        "memory",
        "engines",
        "speed",
        "costs",
        "admission",
        "planner",
        "accuracy",
        "catalog",
    },
    "__init__": BASE | {"api", "picking", "pricing", "sizing", "replay", "model", "hardware", "memory", "costs", "planner"},
    "__main__": {"cli"},
}
# No I/O, no clock, no environment, nothing but the standard library (readers: and msgspec).
PURE = {
    "units": (),
    "errors": (),
    "model": (),
    "readers": ("msgspec",),
    "memory": (),
    "engines": (),
    "speed": (),
    "costs": (),
    "admission": (),
    "planner": (),
    "accuracy": (),
}
# Folders of pure packages that work on arrays; nothing imports them but what asks for hundreds of thousands of plans.
ARRAYS = {"planner/bulk": ("numpy", "msgspec"), "planner/choosing": ("numpy",)}
IMPURE_MODULES = {"os", "io", "pathlib", "socket", "time", "subprocess", "urllib", "http", "shutil", "tempfile", "random", "datetime", "threading", "asyncio"}

FILES = sorted(ROOT.rglob("*.py"))


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield (f"vram.{node.names[0].name}" if node.module == "vram" else node.module), node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_what_lies_below_it(path):
    """Every import of ours points down the house."""
    mine = package(path)
    assert mine in MAY_IMPORT, f"say in MAY_IMPORT where {mine} stands"
    wrong = [
        f"line {line}: {name}"
        for name, line in imports(path)
        if name.split(".")[0] == "vram" and name != "vram" and name.split(".")[1] not in MAY_IMPORT[mine] | {mine}
    ]
    assert not wrong


@pytest.mark.parametrize("path", [p for p in FILES if package(p) in PURE], ids=lambda p: str(p.relative_to(ROOT)))
def test_pure_packages_touch_no_world(path):
    """What is marked pure imports nothing that does I/O, reads a clock or the environment, and no third party."""
    allowed = (*PURE[package(path)], *next((extra for folder, extra in ARRAYS.items() if ROOT / folder in path.parents), ()))
    tops = {(name.split(".")[0], line) for name, line in imports(path)}
    assert not [t for t in tops if t[0] in IMPURE_MODULES]
    assert not [t for t in tops if t[0] not in sys.stdlib_module_names and t[0] not in {"vram", *allowed}]
    calls = {n.func.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not calls & {"open", "print", "input", "eval", "exec"}


def test_the_arithmetic_loads_no_third_party():
    """Importing the engines' base, the families and the planner loads no package but the standard library's, no path and no socket."""
    code = (
        "import sys, vram.engines.generic, vram.engines.base, vram.planner.make, vram.model.families.registry; "
        "print(sorted(m for m in ('msgspec', 'click', 'pynvml', 'socket', 'ssl', 'tomllib', 'vram.hardware.catalogue') if m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# What the compiled hot path takes from files that are not compiled: each is asked once a start, a second or a page, or holds only numbers and types.
PLAIN = {
    "gateway/admin_pages",
    "gateway/after",
    "gateway/bodies",
    "gateway/counting",
    "gateway/descriptors",
    "gateway/exposition",
    "gateway/limits",
    "gateway/lock",
}


def test_what_is_compiled_takes_its_nouns_from_what_is_compiled():
    """Compiled code reads an attribute of a class that is not compiled by its name, and cannot be inherited across: a new file of the hot path is listed, too."""
    project = ROOT.parents[1] / "pyproject.toml"
    if not project.exists():
        pytest.skip("an installed package has no pyproject.toml")
    hook = tomllib.loads(project.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
    listed = {path.removeprefix("/src/vram/").removesuffix(".py") for path in hook["include"]}
    assert not [name for name in listed if not (ROOT / f"{name}.py").exists()]
    missing = set()
    for name in listed:
        tree = ast.parse((ROOT / f"{name}.py").read_text())
        types = {id(n) for block in ast.walk(tree) if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING" for n in ast.walk(block)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(("vram.admission", "vram.gateway", "vram.costs")):
                continue
            taken = node.module.removeprefix("vram.").replace(".", "/")
            found = {f"{taken}/{alias.name}" for alias in node.names} if "/" not in taken else {taken}
            # Of the gateway's files types alone are taken of what stands around the hot path.
            missing |= {(name, one) for one in found - listed - PLAIN if one.startswith("admission/") or id(node) not in types}
    assert not missing
