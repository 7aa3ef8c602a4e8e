"""Settings in layers, later over earlier, key by key.

The model's defaults, the user's configuration file, `--config FILE`, the job file, the task, `--set`. Each
layer is checked by itself, so that an error names the file, or the option, that it stands in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs

from procstop.errors import JobFileError
from procstop.jobfile.explain import check, unknown_key
from procstop.jobfile.read import read_table
from procstop.jobfile.schema import (
    NOT_ENFORCED,
    CommonTaskTable,
    ConfigTable,
    ContainmentTable,
    LimitsTable,
    NextTable,
    SetTable,
    StopTable,
    TaskWorkersTable,
    WorkersTable,
)
from procstop.jobfile.wording import did_you_mean, line, printable, quoted
from procstop.model import (
    Containment,
    Limits,
    OnInterrupt,
    OnInterruptKind,
    StopPolicy,
    Strategy,
    StrategyKind,
    Workers,
)

_NUMBERS = frozenset(
    {
        "concurrency",
        "check_every",
        "retries",
        "on_interrupt.next",
        "strategy.next",
        "workers.reuse",
        "limits.open_files",
    }
)
_SWITCHES = {"true": True, "false": False}
_TOGGLES = ("workers.cache", "containment.sandbox")
_WORDS = {
    "on_interrupt": "finish-current",
    "engine": "wasmtime",
    "strategy": "ignore",
    "workers.spawn": "fresh",
    "containment.require": "full",
}
"""One of the words that each of these keys takes."""
SETTABLE = (
    *("concurrency", "on_interrupt", "on_interrupt.next"),
    *(f"stop.{key}" for key in StopTable.model_fields),
    *(f"limits.{key}" for key in LimitsTable.model_fields),
    *(f"workers.{key}" for key in WorkersTable.model_fields),
    *(f"containment.{key}" for key in ContainmentTable.model_fields),
    *("engine", "strategy", "strategy.next", "check_every", "retries"),
)
"""The keys that `--set` takes."""
_OFFERED = tuple(dict.fromkeys(key.partition(".")[0] for key in SETTABLE))


# The tasks of a job mostly have the same ones, and may as well share them.
_limits = lru_cache(maxsize=64, typed=True)(Limits)
_stop_policy = lru_cache(maxsize=64, typed=True)(StopPolicy)
_workers = lru_cache(maxsize=64, typed=True)(Workers)


@dataclass
class Layer:
    """The settings that one or several layers gave; a key that is not here was not given."""

    plain: dict[str, Any] = field(default_factory=dict)
    stop: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    workers: dict[str, Any] = field(default_factory=dict)
    containment: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, table: ConfigTable | CommonTaskTable | None) -> Layer:
        """The settings of a checked table."""
        layer = cls()
        for key in table.model_fields_set if table is not None else ():
            value = getattr(table, key)
            if isinstance(value, (StopTable, LimitsTable, TaskWorkersTable, ContainmentTable)):
                inner: dict[str, Any] = getattr(layer, key)
                inner.update({name: getattr(value, name) for name in value.model_fields_set})
            else:
                layer.plain[key] = value
        return layer

    def over(self, lower: Layer) -> Layer:
        """Put this layer on top of a lower one; return both as one."""
        return Layer(
            {**lower.plain, **self.plain},
            {**lower.stop, **self.stop},
            {**lower.limits, **self.limits},
            {**lower.workers, **self.workers},
            {**lower.containment, **self.containment},
        )

    def stop_policy(self) -> StopPolicy:
        """The graces, with the model's defaults where no layer gave one."""
        return _stop_policy(**self.stop)

    def limits_model(self) -> Limits:
        """The limits, with the model's defaults where no layer gave one."""
        return _limits(**self.limits)

    def workers_model(self) -> Workers:
        """How workers are made, with the model's defaults where no layer said it."""
        return _workers(**self.workers)

    def containment_model(self) -> Containment:
        """What keeps guests inside, with the model's defaults where no layer said it."""
        return Containment(**self.containment)

    def on_interrupt(self) -> OnInterrupt:
        """The run's strategy."""
        value = self.plain.get("on_interrupt")
        if isinstance(value, NextTable):
            return OnInterrupt(OnInterruptKind.NEXT, value.next)
        return OnInterrupt() if value is None else OnInterrupt(OnInterruptKind(value))

    def strategy(self) -> Strategy:
        """The attempt's strategy."""
        value = self.plain.get("strategy")
        if isinstance(value, NextTable):
            return Strategy(StrategyKind.NEXT_N, value.next)
        return Strategy() if value is None else Strategy(StrategyKind(value))


def user_config_file() -> Path:
    """Where the user's configuration file is looked for; it need not exist."""
    return platformdirs.user_config_path("procstop", appauthor=False) / "config.toml"


def config_layers(config: str | os.PathLike[str] | None, user_config: bool) -> tuple[Layer, list[str]]:
    """The user's configuration file, if there is one and it is wanted, under `--config FILE`."""
    files = []
    if user_config and os.path.lexists(user_config_file()):
        files.append(str(user_config_file()))
    if config is not None:
        files.append(os.fsdecode(config))
    result, problems = Layer(), list[str]()
    for file in files:
        try:
            raw = read_table(file)
        except JobFileError as error:
            problems += error.problems
            continue
        if "task" in raw:
            del raw["task"]
            problems.append(line(printable(file), "task", "a configuration file has no tasks"))
        table, found = check(ConfigTable, raw, printable(file))
        problems += found
        result = Layer.of(table).over(result)
    return result, problems


def set_layer(overrides: Iterable[str]) -> tuple[Layer, list[str]]:
    """The settings of `--set KEY=VALUE`, given as "KEY=VALUE"; a later one wins."""
    result, problems = Layer(), list[str]()
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        option = f"--set {printable(key)}".strip()
        *above, leaf = key.split(".")
        if key not in SETTABLE:
            problems.append(line(option, _unknown(key)))
        elif not equals:
            problems.append(line(option, f"needs a value, as in --set {key}={_example(key)}"))
        else:
            value = _value(key, text)
            raw = {above[0]: {leaf: value}} if above else {leaf: value}
            table, found = check(SetTable, raw, "--set", context="--set")
            problems += [problem.replace("--set: ", "--set ", 1) for problem in found]
            result = Layer.of(table).over(result)
    return result, problems


def _unknown(key: str) -> str:
    if not key:
        return "needs a key and a value, as in --set limits.time=5s"
    if key in (f"limits.{name}" for name in NOT_ENFORCED):
        return unknown_key(SetTable, ("limits", key.partition(".")[2]))
    if key == "limits":
        return f"unknown key; did you mean {quoted('limits.time')}?"
    if key == "workers":
        return f"unknown key; did you mean {quoted('concurrency')}?"
    for dotted in SETTABLE:
        if dotted.endswith(f".{key}"):
            return f"unknown key; did you mean {quoted(dotted)}?"
    guess = did_you_mean(key, SETTABLE, _OFFERED)
    return f"unknown key{guess or '; it takes keys of a job file with a value, as in --set limits.time=5s'}"


def _example(key: str) -> str:
    """A value that a key would take."""
    if key in _NUMBERS:
        return "4"
    if key in ("limits.memory", "limits.output", "limits.file_size", "limits.compile_memory"):
        return "256MiB"
    return {**_WORDS, **dict.fromkeys(_TOGGLES, "false")}.get(key, "5s")


def _value(key: str, text: str) -> int | str:
    if key in _TOGGLES:
        return _SWITCHES.get(text, text)
    return _number(text) if key in _NUMBERS else text


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text
