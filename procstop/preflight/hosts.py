"""Find a task's host functions without running any of them: the worker does that."""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from procstop.model import Task


@dataclass(frozen=True)
class HostNames:
    """Where the host functions are, and their names; `names` is None where only running the file would tell."""

    names: frozenset[str] | None = frozenset()
    path: str | None = None
    references: dict[str, str] = field(default_factory=dict)
    main_path: str | None = None


def find_host(task: Task) -> tuple[HostNames, list[str]]:
    """Return a task's host functions, and what is wrong with them."""
    if task.host is None:
        return HostNames(), []
    if not isinstance(task.host, Mapping):
        path = os.path.abspath(task.host)
        try:
            with open(path, "rb") as file:
                names = _names_in(ast.parse(file.read(), path))
        except OSError as error:
            return HostNames(None), [f'host: cannot read "{path}": {error.strerror}']
        except RecursionError:
            return HostNames(None), [f'host: "{path}": nested too deep to be read']
        except (SyntaxError, ValueError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            text = error.msg if isinstance(error, SyntaxError) else str(error)
            return HostNames(None), [f'host: "{path}"{line}: {text}']
        return HostNames(names, path), []
    references: dict[str, str] = {}
    faults = []
    main_path = None
    for name, call in task.host.items():
        reference, fault = _reference(call)
        if fault is not None:
            faults.append(f'host: "{name}": {fault}')
        else:
            references[name] = reference
            if reference.startswith("__main__:"):
                main_path = os.path.abspath(sys.modules["__main__"].__file__ or "")
    return HostNames(frozenset(task.host), None, references, main_path), faults


def _names_in(tree: ast.Module) -> frozenset[str] | None:
    """Return the keys of the mapping `imports` if it is written out as one, and never mentioned again."""
    if sum(isinstance(node, ast.Name) and node.id == "imports" for node in ast.walk(tree)) != 1:
        return None
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "imports" for target in targets):
            if not isinstance(value, ast.Dict):
                return None
            keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
            return frozenset(keys) if all(isinstance(key, str) for key in keys) else None  # type: ignore[arg-type]
    return None


def _reference(call: Any) -> tuple[str, str | None]:
    """Spell a callable so that a worker can import it."""
    module_name, qualname = getattr(call, "__module__", None), getattr(call, "__qualname__", None)
    if not callable(call) or module_name is None or qualname is None:
        return "", f"{call!r} is no function that a worker could import"
    if "<" in qualname:
        return "", f"{qualname} is made inside a function; a worker can only import one from the top of a module"
    module = sys.modules.get(module_name)
    try:
        found = functools.reduce(getattr, qualname.split("."), module)
    except AttributeError:
        found = None
    if found is not call:
        return "", f"{module_name}.{qualname} is not the same function when it is imported"
    if module_name == "__main__" and getattr(module, "__file__", None) is None:
        return "", f"{qualname} was typed in at a prompt; put it in a file that a worker can import"
    return f"{module_name}:{qualname}", None
