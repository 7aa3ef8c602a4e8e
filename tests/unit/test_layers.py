"""Who may import whom, read from the source. Imports go downward only, and nothing goes around it.

An import counts wherever it stands, in a function too, except under `TYPE_CHECKING`. Where only what is imported
together with a module matters, those in functions are left out, since they may never run.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "procstop"

LAYERS = [
    # From the lowest up. In one layer nobody imports another, unless it is said below.
    {"errors", "linux", "places", "platforms", "settled"},
    {"model"},
    {"records"},
    {"folding", "module", "opcodes"},
    {"wasi"},
    {"cache", "lifecycle", "schedule", "messages", "linking", "events", "arguments", "oneshot"},
    {"jobfile", "process", "containment", "sandbox", "stopping", "engines", "reporting"},
    {"hosting"},
    {"supervisor", "worker"},
    {"preflight", "forkserver", "compiler", "converter", "guardian"},
    {"api"},
    {"selftest"},
    {"cli"},
    {"__main__"},
]
SIBLINGS = {("platforms", "errors"), ("module", "opcodes"), ("engines", "stopping")}
"""Who may import a sibling."""

WASI_OUTSIDE = {"procstop.wasi.signatures": {"procstop.module"}}
"""All that WASI takes from the rest: it could be a package of its own."""

PURE = [
    "lifecycle", "schedule", "messages", "linking", "arguments", "events", "records", "folding", "model", "module",
    "opcodes",
]  # fmt: skip
IMPURE = {
    "_thread", "asyncio", "concurrent", "ctypes", "datetime", "fcntl", "importlib", "io", "logging", "multiprocessing",
    "os", "pathlib", "random", "resource", "secrets", "select", "selectors", "shutil", "signal", "socket", "subprocess",
    "sys", "tempfile", "threading", "time", "uuid", "psutil",
}  # fmt: skip
MAY = {"procstop.lifecycle": {"signal"}}
"""A verdict compares signal numbers; it sends none."""

ENGINE_PACKAGES = {"wasmer", "wasmer_compiler_cranelift", "wasmtime"}
SUPERVISOR_SIDE = ("supervisor", "preflight", "api", "selftest", "cli", "jobfile", "reporting", "process")


@cache
def sources() -> dict[str, Path]:
    """Every module of the package by its full name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["procstop", *path.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(name: str, everywhere: bool = True) -> frozenset[str]:
    """What a module imports: full names of modules, its own package's by the deepest module that there is."""
    return frozenset(_imports(ast.parse(sources()[name].read_text(encoding="utf-8")), everywhere))


def _imports(tree: ast.AST, everywhere: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not everywhere:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            # `from package import module` imports a module, any other name comes out of the one before it.
            yield from (one if one in sources() else node.module for one in inner)
        elif isinstance(node, ast.Call):
            yield from _called_import(node)
            yield from _imports(node, everywhere)
        else:
            yield from _imports(node, everywhere)


def _called_import(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    if name in ("importlib.import_module", "import_module", "__import__"):
        argument = call.args[0]
        if isinstance(argument, ast.Constant):
            yield argument.value


def together(names: Iterable[str]) -> set[str]:
    """Everything of the package that is imported with these modules, the packages that they are in included."""
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in reached or name not in sources():
            continue
        reached.add(name)
        parent = name.rpartition(".")[0]
        waiting += [parent, *imports(name, everywhere=False)]
    return reached


def part(name: str) -> str | None:
    """The part of the package that a module is in; None for the package itself and for others' modules."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "procstop" and rest else None


def of(*parts: str) -> list[str]:
    return [name for name in sources() if part(name) in parts]


def height(name: str) -> int:
    (layer,) = [number for number, names in enumerate(LAYERS) if name in names]
    return layer


def third_party(names: Iterable[str]) -> set[str]:
    """Whose packages these modules import, other than the standard library's."""
    tops = {one.partition(".")[0] for name in names for one in imports(name)}
    # `tomllib` came with 3.11; the package asks before it imports it.
    return tops - set(sys.stdlib_module_names) - {"procstop", "__future__", "tomllib"}


def test_every_part_has_its_layer() -> None:
    parts = {part(name) for name in sources()} - {None}
    assert parts == set().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(parts)


@pytest.mark.parametrize("name", [name for name in sources() if part(name) is not None])
def test_imports_go_downward_only(name: str) -> None:
    own = part(name)
    assert own is not None
    for imported in imports(name):
        other = part(imported)
        if other is not None and other != own and (own, other) not in SIBLINGS:
            assert height(other) < height(own), f"{name} may not import {imported}"


def test_nobody_imports_the_public_names_but_for_the_version() -> None:
    for name in sources():
        if "procstop" in imports(name):
            tree = ast.parse(sources()[name].read_text(encoding="utf-8"))
            taken = {
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "procstop"
                for alias in node.names
            }
            assert {one for one in taken if f"procstop.{one}" not in sources()} <= {"__version__"}, name


def test_package_itself_loads_next_to_nothing() -> None:
    assert together(["procstop"]) <= {"procstop", "procstop.platforms", "procstop.errors"}


@pytest.mark.parametrize("name", of("wasi"))
def test_wasi_stands_alone(name: str) -> None:
    outside = {one for one in imports(name) if one.startswith("procstop") and part(one) != "wasi"}
    assert outside <= WASI_OUTSIDE.get(name, set())


@pytest.mark.parametrize("name", of(*PURE))
def test_pure_module_cannot_reach_the_world(name: str) -> None:
    tops = {one.partition(".")[0] for one in imports(name)}
    assert tops & IMPURE <= MAY.get(name, set())
    assert not third_party([name])


@pytest.mark.parametrize("name", of(*PURE))
def test_pure_module_stands_on_pure_modules(name: str) -> None:
    below = {one for one in imports(name) if one.startswith("procstop.")}
    assert {part(one) for one in below} <= {*PURE, "errors"}


def test_pure_module_takes_only_numbers_from_signal() -> None:
    tree = ast.parse(sources()["procstop.lifecycle"].read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "signal"
    }
    assert used <= {"SIGKILL", "SIGTERM", "SIGXCPU"}


WORKER_SIDE = [
    "procstop.worker",
    "procstop.forkserver",
    "procstop.compiler",
    "procstop.converter",
    "procstop.guardian",
    "procstop.engines.wasmer",
    "procstop.engines.wasmtime",
    "procstop.engines.probe",
]


@pytest.mark.parametrize("entry", WORKER_SIDE)
def test_worker_side_imports_the_standard_library_and_the_engine_only(entry: str) -> None:
    for name in together([entry]):
        allowed = ENGINE_PACKAGES if part(name) == "engines" else set()
        assert third_party([name]) <= allowed, name


def test_worker_loads_no_engine_before_it_knows_which() -> None:
    loaded = together(["procstop.worker"])
    assert {"procstop.stopping", "procstop.wasi.files"} <= loaded, "the walk is broken"
    assert not {"procstop.engines.wasmer", "procstop.engines.wasmtime"} & loaded


def test_engine_packages_are_imported_by_their_adapters_only() -> None:
    for name in sources():
        found = third_party([name]) & ENGINE_PACKAGES
        if name == "procstop.engines.wasmer":
            assert found == {"wasmer", "wasmer_compiler_cranelift"}
        elif name == "procstop.engines.wasmtime":
            assert found == {"wasmtime"}
        elif name != "procstop.engines.probe":
            assert not found, name


@pytest.mark.parametrize("name", of(*SUPERVISOR_SIDE))
def test_supervisor_side_never_loads_an_engine(name: str) -> None:
    # What the module imports anywhere, and what comes along with that.
    reached = together([name, *imports(name)])
    assert not {"procstop.engines.wasmer", "procstop.engines.wasmtime", "procstop.engines.probe"} & reached
    assert not third_party(reached - set(of("engines"))) & ENGINE_PACKAGES
    assert not {"procstop.worker", "procstop.forkserver", "procstop.compiler", "procstop.guardian"} & reached
    # `engines.load` is the one way to an engine.
    assert "procstop.engines" not in imports(name)


def test_third_party_packages_stay_where_they_belong() -> None:
    users: dict[str, set[str | None]] = {}
    for name in sources():
        for package in third_party([name]) - ENGINE_PACKAGES:
            users.setdefault(package, set()).add(part(name))
    expected = {
        "psutil": {"process"},
        "pydantic": {"jobfile"},
        "pydantic_core": {"jobfile"},
        "tomli": {"jobfile"},
        "platformdirs": {"jobfile", "places"},
        "rich": {"reporting", "cli"},
        "typer": {"cli"},
        "click": {"cli"},
    }
    for package, parts in users.items():
        assert parts <= expected.get(package, set()), package
