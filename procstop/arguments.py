"""Turn a task's arguments into values of an export's types, and refuse what does not fit. Pure."""

from __future__ import annotations

import difflib
import math
import struct
from collections.abc import Sequence

from procstop.errors import GuestError
from procstop.model import Value
from procstop.module import FuncType, ModuleInfo

START = "_start"
INITIALIZE = "_initialize"
"""What a reactor exports to be called once before anything else."""

_BITS = {"i32": 32, "i64": 64}
_NUMBERS = ("i32", "i64", "f32", "f64")


def fit_arguments(name: str, type: FuncType, args: Sequence[Value]) -> tuple[Value, ...]:
    """Return the arguments as the export's own types.

    Integers may be given signed or unsigned, any number as a text; raise `GuestError` for a wrong count or value.
    """
    if len(args) != len(type.params):
        got = "1 value" if len(args) == 1 else f"{len(args)} values"
        raise GuestError(f"args: {name} takes ({', '.join(type.params)}), got {got}")
    return tuple(_fit(name, number, kind, value) for number, (kind, value) in enumerate(zip(type.params, args), 1))


def _fit(name: str, number: int, kind: str, value: Value) -> Value:
    try:
        if kind in _BITS:
            return _integer(value, _BITS[kind])
        if kind in ("f32", "f64"):
            return _float(value, kind)
    except (TypeError, ValueError, OverflowError, struct.error):
        raise GuestError(f"args: {name}: value {number} must be an {kind}, got {value!r}") from None
    raise GuestError(f"args: {name}: value {number} is of type {kind}, which cannot be given from outside")


def _integer(value: Value, bits: int) -> int:
    if isinstance(value, str):
        value = int(value, 0)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError
        value = int(value)
    if isinstance(value, bool) or not -(1 << (bits - 1)) <= value < 1 << bits:
        raise OverflowError
    return value - (1 << bits) if value >= 1 << (bits - 1) else value


def _float(value: Value, kind: str) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if kind == "f32":
        number = float(struct.unpack("<f", struct.pack("<f", number))[0])
    if isinstance(value, int) and not math.isfinite(number):
        raise OverflowError
    return number


def fit_call(info: ModuleInfo, call: str, args: Sequence[Value]) -> tuple[FuncType, tuple[Value, ...]]:
    """Return the type of the export to call and the values to call it with.

    "_start" is a command of WASI: its arguments are argv, which WASI hands over, and it is called with none.
    Raise `GuestError` where the module has no such function or the arguments do not fit it.
    """
    export = info.exports.get(call)
    type = export.type if export is not None else None
    if type is None:
        functions = [export.name for export in info.exports.values() if export.type is not None]
        if not functions:
            raise GuestError(f'call: the module exports no function, so there is no "{call}" to call')
        close = difflib.get_close_matches(call, functions, n=1)
        if close:
            raise GuestError(f'call: the module exports no function "{call}"; did you mean "{close[0]}"?')
        names = ", ".join(f'"{name}"' for name in functions[:8])
        more = f" and {len(functions) - 8} more" if len(functions) > 8 else ""
        raise GuestError(f'call: the module exports no function "{call}"; it has {names}{more}')
    odd = [result for result in type.results if result not in _NUMBERS]
    if odd:
        raise GuestError(f"call: {call} returns {', '.join(odd)}; procstop hands over {', '.join(_NUMBERS)} only")
    if call != START:
        return type, fit_arguments(call, type, args)
    if type != FuncType((), ()):
        raise GuestError(f'call: "_start" is {type}; a command\'s takes and returns nothing')
    for number, value in enumerate(args, 1):
        if not isinstance(value, str):
            raise GuestError(f'args: "_start" takes strings (argv), got {value!r} as value {number}; write "{value}"')
        if "\0" in value:
            raise GuestError(f"args: value {number} holds a NUL, which no argv can")
    return type, ()
