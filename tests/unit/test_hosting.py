"""Host functions: the guest's memory, what they may return, and how they are found."""

from __future__ import annotations

import functools
import math
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from procstop import hosting
from procstop.errors import GuestError
from procstop.hosting import Guest, adapt, load_host_file, load_references, wants_guest
from procstop.model import StrategyKind
from procstop.module import FuncType
from procstop.stopping import Exit, HostError, Interrupted, StopFlag

NONE = FuncType((), ())


class FakeEngine:
    """An engine that has a memory and nothing else."""

    name = "fake"

    def __init__(self, size: int = 64) -> None:
        self.bytes = bytearray(size)

    def compile(self, data: bytes) -> None:
        raise NotImplementedError

    def instantiate(self, functions: Any) -> None:
        raise NotImplementedError

    def call(self, name: str, type: FuncType, args: Any) -> Any:
        raise NotImplementedError

    def memory(self) -> memoryview:
        return memoryview(self.bytes)


@pytest.fixture
def flag() -> Iterator[StopFlag]:
    flag = StopFlag(StrategyKind.FINISH_CURRENT)
    yield flag
    flag.close()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def guest(engine: FakeEngine, flag: StopFlag) -> Guest:
    return Guest(engine, flag)


@pytest.fixture(autouse=True)
def modules_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


# The guest's memory.


def test_guest_reads_and_writes_its_memory(guest: Guest, engine: FakeEngine) -> None:
    guest.write(10, b"hello")
    assert bytes(engine.bytes[9:16]) == b"\0hello\0"
    assert guest.read(10, 5) == b"hello"


@pytest.mark.parametrize(("pointer", "length"), [(0, 64), (63, 1), (64, 0), (0, 0)])
def test_memory_can_be_read_to_its_end(guest: Guest, pointer: int, length: int) -> None:
    assert len(guest.read(pointer, length)) == length


@pytest.mark.parametrize(("pointer", "length"), [(0, 65), (64, 1), (65, 0), (-1, 1), (-1, 2), (0, -1), (2**31, 2**31)])
def test_memory_outside_is_an_index_error(guest: Guest, pointer: int, length: int) -> None:
    with pytest.raises(IndexError, match="outside the guest's memory of 64"):
        guest.read(pointer, length)


@pytest.mark.parametrize("pointer", [61, 64, -1])
def test_write_beyond_the_end_writes_nothing(guest: Guest, engine: FakeEngine, pointer: int) -> None:
    with pytest.raises(IndexError):
        guest.write(pointer, b"hello")
    assert engine.bytes == bytes(64)


def test_what_was_read_is_a_copy(guest: Guest, engine: FakeEngine) -> None:
    copy = guest.read(0, 4)
    engine.bytes[:] = b"x" * 64
    assert copy == bytes(4)


def test_memory_that_grew_is_seen(guest: Guest, engine: FakeEngine) -> None:
    engine.bytes = bytearray(128)
    assert len(guest.read(64, 64)) == 64


def test_guest_passes_stopping_points_of_its_own(guest: Guest, flag: StopFlag) -> None:
    guest.checkpoint()
    guest.progress(1, 2)
    assert guest.interrupted() == 0
    assert guest.sleep(0.0) is None
    assert flag.record().passed == 4
    flag.ask()
    with pytest.raises(Interrupted):
        guest.sleep(60.0)


# What a host function returns.


def returns(value: Any, *results: str) -> Any:
    flag = StopFlag(StrategyKind.FINISH_CURRENT)
    try:
        return adapt(lambda: value, FuncType((), results), Guest(FakeEngine(), flag))()
    finally:
        flag.close()


@pytest.mark.parametrize(
    ("value", "results", "fitted"),
    [
        (None, (), None),
        (7, ("i32",), 7),
        (True, ("i32",), 1),
        (2**32 - 1, ("i32",), -1),
        (-(2**31), ("i32",), -(2**31)),
        (2**63, ("i64",), -(2**63)),
        (2**64 - 1, ("i64",), -1),
        (1, ("f64",), 1.0),
        (math.inf, ("f32",), math.inf),
        (0.1, ("f32",), struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        ((1, 2.5), ("i32", "f64"), (1, 2.5)),
        ([1, 2], ("i32", "i64"), (1, 2)),
    ],
)
def test_result_that_fits_becomes_the_imports_own_type(value: Any, results: tuple[str, ...], fitted: Any) -> None:
    found = returns(value, *results)
    assert (found, type(found)) == (fitted, type(fitted))


@pytest.mark.parametrize(
    ("value", "results", "error", "said"),
    [
        (1, (), TypeError, "returned 1, but its import () -> () returns nothing"),
        (None, ("i32",), TypeError, "returned None, but its import () -> i32 returns i32"),
        (1.0, ("i32",), TypeError, "returns i32"),
        ("1", ("i64",), TypeError, "returns i64"),
        ((1,), ("i32",), TypeError, "returns i32"),
        (2**32, ("i32",), OverflowError, "does not fit i32"),
        (-(2**31) - 1, ("i32",), OverflowError, "does not fit i32"),
        (2**64, ("i64",), OverflowError, "does not fit i64"),
        (True, ("f64",), TypeError, "returns f64"),
        ("1.5", ("f32",), TypeError, "returns f32"),
        (1e39, ("f32",), OverflowError, "f"),
        (10**400, ("f64",), OverflowError, ""),
        ((1,), ("i32", "i32"), TypeError, "returns 2 values"),
        ((1, 2, 3), ("i32", "i32"), TypeError, "returns 2 values"),
        (7, ("i32", "i32"), TypeError, "returns 2 values"),
        ("ab", ("i32", "i32"), TypeError, "returns 2 values"),
        ((1, None), ("i32", "i32"), TypeError, "returned None"),
    ],
)
def test_result_that_does_not_fit_is_the_hosts_error(
    value: Any, results: tuple[str, ...], error: type[Exception], said: str
) -> None:
    with pytest.raises(HostError) as caught:
        returns(value, *results)
    assert isinstance(caught.value.error, error)
    assert said in str(caught.value.error)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), StopIteration()])
def test_whatever_a_host_function_raises_becomes_a_host_error(guest: Guest, error: BaseException) -> None:
    def fails() -> None:
        raise error

    with pytest.raises(HostError) as caught:
        adapt(fails, NONE, guest)()
    assert caught.value.error is error


@pytest.mark.parametrize("leave", [Exit(3), Interrupted()])
def test_host_function_may_leave_the_guest(guest: Guest, leave: BaseException) -> None:
    def leaves() -> None:
        raise leave

    with pytest.raises(type(leave)) as caught:
        adapt(leaves, NONE, guest)()
    assert caught.value is leave


# Who gets the guest.


def plain(pointer: int) -> int:
    return pointer


def asks(guest: Guest, pointer: int) -> int:
    return guest.read(pointer, 1)[0]


def asks_last(pointer: int, guest: Guest) -> None: ...


def only_by_keyword(*, guest: Guest) -> None: ...


def takes_all(*guest: Any) -> None: ...


def only_local() -> None:
    guest = 1
    assert guest


class Methods:
    def asks(self, guest: Guest) -> None: ...

    def plain(self, pointer: int) -> None: ...

    @classmethod
    def asks_of_class(cls, guest: Guest) -> None: ...

    @staticmethod
    def asks_static(guest: Guest) -> None: ...


class Asks:
    def __call__(self, guest: Guest, pointer: int) -> int:
        return guest.read(pointer, 1)[0]


class Inherits(Asks):
    pass


class Plain:
    def __call__(self, pointer: int) -> None: ...


@pytest.mark.parametrize(
    ("call", "wants"),
    [
        (asks, True),
        (lambda guest: None, True),
        (Methods().asks, True),
        (Methods.asks_of_class, True),
        (Methods.asks_static, True),
        (Methods().asks_static, True),
        (Asks(), True),
        (Inherits(), True),
        (plain, False),
        (asks_last, False),
        (only_by_keyword, False),
        (takes_all, False),
        (only_local, False),
        (lambda: None, False),
        (Methods().plain, False),
        (Plain(), False),
        (functools.partial(asks, None), False),
        (functools.partial(plain), False),
        (len, False),
        (math.sin, False),
        ([].append, False),
        (dict, False),
        (Asks, False),
    ],
)
def test_guest_goes_to_whoever_names_it_first(call: Callable[..., Any], wants: bool) -> None:
    assert wants_guest(call) is wants


@pytest.mark.parametrize("call", [asks, Asks(), Inherits()])
def test_guest_comes_before_the_arguments(guest: Guest, engine: FakeEngine, call: Callable[..., Any]) -> None:
    engine.bytes[5] = 42
    assert adapt(call, FuncType(("i32",), ("i32",)), guest)(5) == 42


def test_callable_that_does_not_ask_gets_the_arguments_only(guest: Guest) -> None:
    assert adapt(plain, FuncType(("i32",), ("i32",)), guest)(5) == 5
    assert adapt(functools.partial(plain, 6), FuncType((), ("i32",)), guest)() == 6


# Loading.


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_host_file_gives_its_imports_and_leaves_nothing_behind(tmp_path: Path) -> None:
    found = load_host_file(write(tmp_path / "host.py", 'imports = {"env.f": lambda: 3, "env.g": len}'))
    assert set(found) == {"env.f", "env.g"} and found["env.f"]() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["host.py"]


def test_dataclass_of_a_host_file_can_look_up_its_module(tmp_path: Path) -> None:
    text = "import sys\nmodule = sys.modules[__name__]\nimports = {'env.f': lambda: 1}"
    assert load_host_file(write(tmp_path / "host.py", text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'no mapping "imports"'),
        ("imports = [1]", 'no mapping "imports"'),
        ("imports = {'env.f': 1}", "imports['env.f'] must be"),
        ("imports = {1: len}", "imports[1] must be"),
    ],
)
def test_host_file_without_proper_imports_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(GuestError) as caught:
        load_host_file(write(tmp_path / "host.py", text))
    assert said in str(caught.value) and "host.py" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        ("import nothing_of_this_name", ModuleNotFoundError),
        ("raise SystemExit(3)", SystemExit),
        ("def (", SyntaxError),
    ],
)
def test_what_a_host_file_raises_is_a_host_error(tmp_path: Path, text: str, error: type[BaseException]) -> None:
    with pytest.raises(HostError) as caught:
        load_host_file(write(tmp_path / "host.py", text))
    assert isinstance(caught.value.error, error)


def test_missing_host_file_is_a_host_error(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        load_host_file(str(tmp_path / "none.py"))
    assert isinstance(caught.value.error, FileNotFoundError)


def test_file_that_is_not_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="is not a Python file"):
        load_host_file(write(tmp_path / "host.txt", "imports = {}"))


def test_references_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine_of_a_test.py", "def f(): return 5\nclass C:\n    @staticmethod\n    def g(): return 6")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = load_references({"env.f": "mine_of_a_test:f", "env.g": "mine_of_a_test:C.g"}, None)
    assert (found["env.f"](), found["env.g"]()) == (5, 6)


def test_script_is_loaded_once_and_not_as_main(tmp_path: Path) -> None:
    text = "loads = []\nloads.append(__name__)\nif __name__ == '__main__': 1 / 0\ndef f(): return loads\ndef g(): pass"
    main = write(tmp_path / "script.py", text)
    found = load_references({"env.f": "__main__:f", "env.g": "__main__:g"}, main)
    assert found["env.f"]() == [hosting.MAIN_NAME]


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("nothing_of_this_name:f", ModuleNotFoundError),
        ("math:no_such", AttributeError),
        ("__main__:f", KeyError),
        (":f", ValueError),
    ],
)
def test_reference_that_leads_nowhere_is_a_host_error(reference: str, error: type[Exception]) -> None:
    with pytest.raises(HostError) as caught:
        load_references({"env.f": reference}, None)
    assert isinstance(caught.value.error, error)


def test_script_that_fails_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        load_references({"env.f": "__main__:f"}, write(tmp_path / "script.py", "1 / 0"))
    assert isinstance(caught.value.error, ZeroDivisionError)


def test_error_of_a_file_says_in_which_line_it_was(tmp_path: Path) -> None:
    path = tmp_path / "host.py"
    path.write_text("import json\n\njson.loads('no')\n")
    with pytest.raises(HostError) as caught:
        load_host_file(str(path))
    assert type(caught.value.error).__name__ == "JSONDecodeError"
    assert str(caught.value.error) == "Expecting value: line 1 column 1 (char 0), in host.py:3"


def test_error_of_an_imported_module_says_in_which_line_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails_late.py").write_text("\nopen('/nowhere/at/all')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HostError) as caught:
        load_references({"env.f": "fails_late:f"}, None)
    assert str(caught.value.error).endswith("'/nowhere/at/all', in fails_late.py:2")


def test_error_that_cannot_say_what_it_is_still_says_where(tmp_path: Path) -> None:
    path = tmp_path / "host.py"
    path.write_text("class Odd(Exception):\n    def __str__(self):\n        return 1 / 0\n\nraise Odd\n")
    with pytest.raises(HostError) as caught:
        load_host_file(str(path))
    assert (type(caught.value.error).__name__, str(caught.value.error)) == ("Odd", "in host.py:5")


def test_error_that_cannot_be_made_again_is_told_as_it_is(tmp_path: Path) -> None:
    text = "class Odd(Exception):\n    def __new__(cls, one, /): return super().__new__(cls)\n\nraise Odd(1)\n"
    sealed = "class Odd(Exception):\n    def __init_subclass__(cls): raise TypeError('final')\n\nraise Odd('one')\n"
    said = []
    for content in (text, sealed):
        with pytest.raises(HostError) as caught:
            load_host_file(write(tmp_path / "host.py", content))
        said.append((type(caught.value.error).__name__, str(caught.value.error)))
    assert said == [("Odd", "1, in host.py:4"), ("Odd", "one")]
