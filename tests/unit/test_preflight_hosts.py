"""Host functions are found and named without running any of them."""

from __future__ import annotations

import functools
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procstop.model import Task
from procstop.preflight.hosts import HostNames, find_host


def of_file(path: Path, text: str | bytes) -> tuple[HostNames, list[str]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return find_host(Task("t", "m.wasm", host=str(path)))


def of_mapping(call: Any) -> tuple[HostNames, list[str]]:
    return find_host(Task("t", "m.wasm", host={"env.f": call}))


# A file.


def test_task_without_host_functions_has_none() -> None:
    assert find_host(Task("t", "m.wasm")) == (HostNames(frozenset()), [])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("imports = {'env.f': f, 'env.g': lambda: 1}", {"env.f", "env.g"}),
        ("imports: dict = {'env.f': f}", {"env.f"}),
        ("other = imports = {'env.f': f}", {"env.f"}),
        ("imports = {}", set()),
        ("x = 1\ndef f(): pass\nimports = {'env.f': f}\ny = 2", {"env.f"}),
    ],
)
def test_names_that_are_written_out_are_known(tmp_path: Path, text: str, names: set[str]) -> None:
    path = tmp_path / "host.py"
    assert of_file(path, text) == (HostNames(frozenset(names), str(path)), [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "imports = make()",
        "imports = dict(a=1)",
        "imports = {**other}",
        "imports = {NAME: f}",
        "imports = {1: f}",
        "imports: dict",
        "from other import imports",
        "if True:\n    imports = {'env.f': f}",
        # Written out, and then added to.
        "imports = {'env.f': f}\nimports['env.g'] = g",
        "imports = {}\ndef host(call):\n    imports['env.' + call.__name__] = call",
        "imports = {'env.f': f}\nimports.update(other)",
        "imports = {'env.f': f}\nimports = {'env.g': g}",
        "imports = {'env.f': f}\nimports |= other",
    ],
)
def test_names_that_only_running_it_would_tell_are_left_open(tmp_path: Path, text: str) -> None:
    path = tmp_path / "host.py"
    assert of_file(path, text) == (HostNames(None, str(path)), [])


def test_file_is_not_run(tmp_path: Path) -> None:
    assert of_file(tmp_path / "host.py", "1 / 0\nimports = {'env.f': f}")[0].names == {"env.f"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("x = 1\ndef (", ", line 2: "), (b"x = 1\n\xff = 2", ""), (b"x = '\0'", ""), ("\tx\n  y", ", line ")],
)
def test_file_that_is_no_python_is_a_fault(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = tmp_path / "host.py"
    names, (fault,) = of_file(path, text)
    assert names.names is None
    assert fault.startswith(f'host: "{path}"{said}')


@pytest.mark.parametrize(("name", "said"), [("none.py", "No such file"), (".", "Is a directory")])
def test_file_that_cannot_be_read_is_a_fault(tmp_path: Path, name: str, said: str) -> None:
    names, (fault,) = find_host(Task("t", "m.wasm", host=str(tmp_path / name)))
    assert names.names is None
    assert fault.startswith("host: cannot read") and said in fault


# A mapping.


def at_the_top() -> None: ...


class Holder:
    @staticmethod
    def static() -> None: ...

    def method(self) -> None: ...

    def __call__(self) -> None: ...


def made_inside() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


class OutOfPlace:
    @functools.wraps(at_the_top)
    def wrapper(self) -> None: ...


@pytest.mark.parametrize(
    ("call", "reference"),
    [
        (at_the_top, f"{__name__}:at_the_top"),
        (Holder.static, f"{__name__}:Holder.static"),
        (Holder, f"{__name__}:Holder"),
        (math.sin, "math:sin"),
        (len, "builtins:len"),
    ],
)
def test_callable_from_the_top_of_a_module_is_referred_to(call: Any, reference: str) -> None:
    assert of_mapping(call) == (HostNames(frozenset({"env.f"}), None, {"env.f": reference}), [])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: None, "is made inside a function"),
        (made_inside(), "made_inside.<locals>.inner is made inside a function"),
        (functools.partial(at_the_top), "is no function that a worker could import"),
        (Holder(), "is no function that a worker could import"),
        (7, "7 is no function that a worker could import"),
        (Holder().method, "Holder.method is not the same function when it is imported"),
        # It wears another's name.
        (OutOfPlace.wrapper, "at_the_top is not the same function when it is imported"),
    ],
)
def test_callable_that_a_worker_cannot_import_is_a_fault(call: Any, said: str) -> None:
    names, (fault,) = of_mapping(call)
    assert names.references == {}
    # The import has its provider: it is not said again that nobody provides it.
    assert names.names == {"env.f"}
    assert fault.startswith('host: "env.f": ') and said in fault


def test_function_of_a_script_says_where_the_script_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    main = types.ModuleType("__main__")
    main.__file__ = str(tmp_path / "script.py")
    exec("def f(): pass", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    expected = HostNames(frozenset({"env.f"}), None, {"env.f": "__main__:f"}, str(tmp_path / "script.py"))
    assert of_mapping(main.f) == (expected, [])


def test_function_typed_in_at_a_prompt_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    exec("def f(): pass", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    _, (fault,) = of_mapping(main.f)
    assert "typed in at a prompt" in fault


def test_all_faults_are_found_at_once() -> None:
    task = Task("t", "m.wasm", host={"env.a": lambda: 1, "env.b": at_the_top, "env.c": 3})  # type: ignore[dict-item]
    names, faults = find_host(task)
    assert len(faults) == 2 and set(names.references) == {"env.b"}
