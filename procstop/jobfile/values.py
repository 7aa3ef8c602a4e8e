"""The types of a job file's values: what each accepts, and the sentence for what it does not.

Validators raise `ValueError` with a sentence; `explain` puts file, task and key before it. A value that may
be a text or a table is told apart by `Tag`s, which `explain` takes out of the error's location again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from procstop.jobfile.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size
from procstop.jobfile.wording import closest, is_one_line, joined, listed, quoted, show
from procstop.model import ENGINES, HOST_ALLOWABLE, Level, Outcome, Spawn

TEXT, TABLE, LIST = "<text>", "<table>", "<list>"
TAGS = frozenset({TEXT, TABLE, LIST, "[key]"})
"""What pydantic puts into an error's location without it being a key of the file."""

FUNCTIONS = ("checkpoint", "interrupted", "progress", "exit", "fail")
"""The `procstop` host functions that an import can be bound to."""
LATER_FUNCTIONS = ("save", "load")

MOST = 2**31 - 1
Count = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]


TEXT_OR_TABLE = Discriminator(lambda value: TABLE if isinstance(value, dict) else TEXT)
TEXT_OR_LIST = Discriminator(lambda value: LIST if isinstance(value, list) else TEXT)


def one_of(words: tuple[str, ...], or_else: str = "") -> BeforeValidator:
    """Accept these words only; `or_else` names what else the key takes, for the sentence."""

    def check(value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and value in words:
            return value
        # `--set` has no tables: there the key inside the table is set.
        more = "a number, set as KEY.next=N" if or_else and info.context == "--set" else or_else
        wanted = joined([*map(quoted, words), *filter(None, [more])], "or")
        guess = closest(value, words) if isinstance(value, str) else None
        raise ValueError(f"must be {wanted}, got {show(value)}" + (f"; did you mean {quoted(guess)}?" if guess else ""))

    return BeforeValidator(check)


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError(f"cannot hold a NUL character, got {show(value)}")
    return value


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("cannot be empty")
    return _no_nul(value)


def _name(value: str) -> str:
    _not_empty(value)
    if not is_one_line(value) or value != value.strip():
        raise ValueError(f"cannot hold control characters or begin or end with a space, got {show(value)}")
    return value


def _env_name(value: str) -> str:
    if "=" in value:
        raise ValueError('the name of a variable cannot hold "="')
    return _not_empty(value)


CText = Annotated[str, AfterValidator(_no_nul)]
"""A text that ends up as a C string: may be empty, holds no NUL."""
Text = Annotated[str, AfterValidator(_not_empty), Field(json_schema_extra={"minLength": 1})]
Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"minLength": 1})]
EnvName = Annotated[str, AfterValidator(_env_name)]


def _duration_schema(more: str = "") -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{more}{DURATION_PATTERN})$"})


def _is_bare_zero(value: object) -> bool:
    """Tell a zero that has no unit: what is wrong with it is not the unit."""
    return (type(value) in (int, float) and value == 0) or (isinstance(value, str) and value.strip() == "0")


def _wait(value: object) -> float:
    seconds = 0.0 if _is_bare_zero(value) else parse_duration(value)
    if seconds == 0:
        raise ValueError(f"must be above 0, got {show(value)}; without it a kill could never be called lost")
    return seconds


Grace = Annotated[float, BeforeValidator(parse_duration), _duration_schema()]
"""Seconds; 0 skips the rung."""
Wait = Annotated[float, BeforeValidator(_wait), _duration_schema()]
"""Seconds above 0."""


def _limit(parse: Callable[[object], float], no_limit: str, example: str = "") -> BeforeValidator:
    """Accept "none" or a value above 0; `no_limit` tells how a file says that there is no limit.

    `example` is for those who gave no unit.
    """

    def check(value: object, info: ValidationInfo) -> float | None:
        if value == "none":
            return None
        is_bare = bool(example) and _is_bare_zero(value)
        parsed = 0 if is_bare else parse(value)
        if parsed <= 0:
            # On the command line there is nothing to leave out: the file's own value would hold.
            hint = 'write "none"' if info.context == "--set" else no_limit
            more = f', or a number with a unit, as in "{example}"' if is_bare else ""
            raise ValueError(f"must be above 0, got {show(value)}; {hint} for no limit{more}")
        return parsed

    return BeforeValidator(check)


def _start_limit(value: object) -> float:
    if value == "none":
        raise ValueError('cannot be lifted: a compiler that hangs would never be stopped; give a long one, as "1h"')
    seconds = 0.0 if _is_bare_zero(value) else parse_duration(value)
    if seconds == 0:
        raise ValueError(f'must be above 0, got {show(value)}; give a long one, as "1h"')
    return seconds


StartLimit = Annotated[float, BeforeValidator(_start_limit), _duration_schema()]
"""Seconds above 0, or None; for a limit that has a default, which leaving it out would bring back."""
TimeLimit = Annotated[float | None, _limit(parse_duration, "leave it out", "10s"), _duration_schema("none|")]
SizeLimit = Annotated[
    int | None,
    _limit(parse_size, 'write "none"', "10MiB"),
    WithJsonSchema({"type": "string", "pattern": f"^(?:none|{SIZE_PATTERN})$"}),
]
"""Bytes above 0, or None."""


def _count_limit(value: object) -> int:
    if type(value) is not int:
        hint = f"; write {value}" if isinstance(value, str) and value.isdecimal() else ""
        raise ValueError(f"must be a whole number, got {show(value)}{hint}")
    return min(value, MOST)


CountLimit = Annotated[
    int | None,
    _limit(_count_limit, 'write "none"'),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "none"}]}),
]
"""A whole number above 0, or None."""


def _argument(value: object) -> int | float | str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        hint = "; write 1 or 0" if isinstance(value, bool) else ""
        raise ValueError(f"must be a number or a text, got {show(value)}{hint}")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError(f"does not fit in 64 bits, got {show(value)}")
    return _no_nul(value) if isinstance(value, str) else value


Argument = Annotated[Any, PlainValidator(_argument), WithJsonSchema({"type": ["integer", "number", "string"]})]
"""An int of at most 64 bits, a float or a text. TOML's booleans are no Wasm values."""


def _import_name(value: str) -> str:
    module, dot, name = value.partition(".")
    if not (module and dot and name):
        raise ValueError('an import has a module and a name, as in "env.early_exit"')
    return _no_nul(value)


def _function(value: object) -> object:
    if isinstance(value, dict):
        raise ValueError(
            "must be the name of a function, got a table; "
            'a name with a dot needs quotes, as in "env.early_exit" = "exit"'
        )
    if isinstance(value, str) and value in LATER_FUNCTIONS:
        raise ValueError(
            f"{quoted(value)} is not provided by this version of procstop; it has {listed(FUNCTIONS, 'and')}"
        )
    return value


ImportName = Annotated[str, AfterValidator(_import_name)]
# Before-validators run last to first, so `_function` speaks before the plain list of words does.
Function = Annotated[
    str,
    one_of(FUNCTIONS),
    BeforeValidator(_function),
    WithJsonSchema({"type": "string", "enum": list(FUNCTIONS)}),
]

Engine = Annotated[str, one_of(ENGINES), WithJsonSchema({"type": "string", "enum": list(ENGINES)})]
_SPAWN = tuple(spawn.value for spawn in Spawn)
SpawnWord = Annotated[str, one_of(_SPAWN), WithJsonSchema({"type": "string", "enum": list(_SPAWN)})]
_LEVELS = tuple(level.value for level in Level)
LevelWord = Annotated[str, one_of(_LEVELS), WithJsonSchema({"type": "string", "enum": list(_LEVELS)})]
AllowWord = Annotated[str, one_of(HOST_ALLOWABLE), WithJsonSchema({"type": "string", "enum": list(HOST_ALLOWABLE)})]
OutcomeWord = Annotated[
    str,
    one_of(tuple(outcome.value for outcome in Outcome)),
    WithJsonSchema({"type": "string", "enum": [outcome.value for outcome in Outcome]}),
]
StrategyWord = Annotated[Literal["finish-current", "ignore"], one_of(("finish-current", "ignore"), "{ next = n }")]
OnInterruptWord = Annotated[
    Literal["stop", "finish-current", "ignore"], one_of(("stop", "finish-current", "ignore"), "{ next = n }")
]


def _some(value: list[Any]) -> list[Any]:
    if not value:
        raise ValueError('names no outcome, so nothing could be ok; leave it out for "completed"')
    return value


OutcomeList = Annotated[list[OutcomeWord], AfterValidator(_some)]
TOKEN = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""What looks like a token of an `each` task; braces around anything else are just braces."""
