"""Stopping points as a guest passes them, in this process: alike through wasmtime's gate and without one."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from procstop.engines import Engine, HostFunction, gate, load
from procstop.errors import EngineError
from procstop.model import StrategyKind
from procstop.module import FuncType
from procstop.stopping import FAST, Interrupted, StopFlag, guest_functions

FINISH, NEXT = StrategyKind.FINISH_CURRENT, StrategyKind.NEXT_N
NOTHING = FuncType((), ())
TYPES = {"checkpoint": NOTHING, "interrupted": FuncType((), ("i32",)), "progress": FuncType(("i64", "i64"), ())}
MILLION = 1_000_000
PASSES = """
(module
  (import "p" "checkpoint" (func $checkpoint))
  (import "p" "interrupted" (func $interrupted (result i32)))
  (import "p" "progress" (func $progress (param i64 i64)))
  (import "env" "work" (func $work))
  (func (export "pass") (param $n i32)
    (loop $again
      (call $checkpoint)
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "count") (param $n i32) (result i32)
    (local $told i32)
    (loop $again
      (local.set $told (i32.add (local.get $told) (call $interrupted)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $told))
  (func (export "tell") (param $done i64) (param $total i64) (call $progress (local.get 0) (local.get 1)))
  (func (export "work") (call $work)))
"""


class Passing:
    """One guest in one engine, and its flag."""

    def __init__(self, name: str, text: str, work: Callable[[StopFlag], None], kind: StrategyKind, *more: int) -> None:
        self.flag = StopFlag(kind, *more)
        self.entered = 0
        for point in ("passed_gate", "asked_gate"):
            setattr(self.flag, point, self._counted(getattr(self.flag, point)))
        own = guest_functions(self.flag, lambda pointer, length: b"")
        self.engine: Engine = load(name)
        self.engine.compile(to_bytes(name, text))
        functions = [HostFunction("p", point, type, own[point], point) for point, type in TYPES.items()]
        functions.append(HostFunction("env", "work", NOTHING, lambda: work(self.flag)))
        self.engine.instantiate(functions, self.flag)

    def _counted(self, call: Callable[[], Any]) -> Callable[[], Any]:
        def counted() -> Any:
            self.entered += 1
            return call()

        return counted

    def __call__(self, name: str, *args: int) -> Any:
        kind, results = ("i64" if name == "tell" else "i32"), (("i32",) if name == "count" else ())
        return self.engine.call(name, FuncType((kind,) * len(args), results), args)


def to_bytes(name: str, text: str) -> bytes:
    """Turn a text into a module with the engine that is there."""
    return bytes(pytest.importorskip(name).wat2wasm(text))


Make = Callable[..., Passing]


@pytest.fixture(params=["wasmer", "wasmtime"])
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    try:
        load(chosen)
    except EngineError as error:
        pytest.skip(str(error))
    return chosen


def ask(flag: StopFlag) -> None:
    flag.ask()


def pass_two(flag: StopFlag) -> None:
    flag.checkpoint()
    flag.progress(1, 2)


@pytest.fixture
def passing(name: str) -> Iterator[Make]:
    made: list[Passing] = []

    def make(kind: StrategyKind = FINISH, *more: int, work: Callable[[StopFlag], None] = ask) -> Passing:
        made.append(Passing(name, PASSES, work, kind, *more))
        return made[-1]

    yield make
    for one in made:
        one.flag.close()


def test_count_is_exact_after_a_million_points(passing: Make) -> None:
    guest = passing(work=pass_two)
    guest("pass", MILLION)
    guest("count", 3)
    guest("tell", 5, 9)
    assert guest.flag.tick(0.0) == (MILLION + 4, 5, 9)
    guest("work")
    assert guest.flag.tick(0.0) == (MILLION + 6, 1, 2)
    guest("tell", -(2**63), 2**63 - 1)
    assert guest.flag.tick(0.0) == (MILLION + 7, -(2**63), 2**63 - 1)
    assert guest.flag.record().passed == MILLION + 7


@pytest.mark.parametrize("n", [0, 1, 1000, 2 * FAST])
def test_next_n_is_exact_after_a_million_points(passing: Make, n: int) -> None:
    guest = passing(NEXT, n)
    guest("pass", MILLION)
    guest("work")
    guest.flag.tick(0.0)
    with pytest.raises(Interrupted):
        guest("pass", MILLION)
    # The point that learned of it is not counted.
    assert guest.flag.record().stopped_at == guest.flag.record().passed == MILLION + 1 + n


def test_check_every_is_exact_after_a_million_points(passing: Make) -> None:
    guest = passing(NEXT, 2, 1000)
    guest("pass", MILLION + 1)
    guest("work")
    with pytest.raises(Interrupted):
        guest("pass", MILLION)
    assert guest.flag.record().stopped_at == MILLION + 1000 + 2


def test_answer_is_given_at_every_point_after_the_interrupt(passing: Make) -> None:
    guest = passing(NEXT, 2)
    assert guest("count", MILLION) == (0,)
    guest("work")
    assert guest("count", 10) == (8,)
    assert guest.flag.told() and guest.flag.record().stopped_at == MILLION + 3


def test_progress_leaves_as_a_checkpoint_does(passing: Make) -> None:
    guest = passing()
    guest("pass", MILLION)
    guest("work")
    with pytest.raises(Interrupted):
        guest("tell", 1, 2)
    assert guest.flag.tick(0.0) == (MILLION + 1, 1, 2)


@pytest.mark.parametrize("way", ["pass", "count"])
def test_interrupt_from_another_thread_reaches_a_guest_after_millions_of_points(passing: Make, way: str) -> None:
    guest = passing()
    guest("pass", 5 * FAST)
    over = threading.Event()

    def listen() -> None:
        while guest.flag.tick(0.0)[0] < 3 * MILLION:
            if over.wait(0.001):
                return
        guest.flag.ask()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        if way == "pass":
            with pytest.raises(Interrupted):
                guest("pass", 2**31 - 1)
        else:
            while guest("count", 1000) == (0,):
                pass
    finally:
        over.set()
        listener.join()
    assert guest.flag.told() and (guest.flag.record().stopped_at or 0) > 3 * MILLION


def test_host_function_and_guest_count_together(passing: Make) -> None:
    guest = passing(work=lambda flag: flag.checkpoint())
    guest("pass", 2)
    guest.flag.ask()
    with pytest.raises(Interrupted):
        guest("work")
    assert guest.flag.record().stopped_at == 3


# What is the gate's alone.


with_gate = pytest.mark.parametrize("name", ["wasmtime"], indirect=True)


def test_bytes_are_those_of_the_text() -> None:
    assert to_bytes("wasmtime", gate.TEXT) == gate.BYTES
    assert gate.TEXT.strip().startswith(f"(module ${gate.MODULE_NAME}\n")


@with_gate
def test_most_of_a_million_points_never_enter_python(passing: Make) -> None:
    guest = passing()
    guest("pass", MILLION)
    guest("count", MILLION)
    assert 0 < guest.entered <= FAST + 1


@with_gate
def test_cells_outlive_the_engine(passing: Make) -> None:
    guest = passing()
    guest("pass", 3)
    guest.engine = None  # type: ignore[assignment]
    gc.collect()
    guest.flag.ask()
    assert guest.flag.tick(0.0)[0] == 3


def test_gate_goes_with_the_artifact() -> None:
    pytest.importorskip("wasmtime")
    made, engine, flag = load("wasmtime"), load("wasmtime"), StopFlag(FINISH)
    made.compile(to_bytes("wasmtime", '(module (import "p" "c" (func $c)) (start $c))'))
    artifact = made.serialize()
    engine.load(artifact)
    engine.again().instantiate([HostFunction("p", "c", NOTHING, flag.next_checkpoint, "checkpoint")], flag)
    assert flag.record().passed == 1
    flag.close()
    with pytest.raises(EngineError, match="wasmtime cannot load it"):
        load("wasmtime").load(artifact[:-100])


@pytest.mark.parametrize("modules", [(None,), (gate.MODULE_NAME, None), (gate.MODULE_NAME,)])
def test_stack_that_ends_in_the_gate_names_the_guests_function(modules: tuple[str | None, ...]) -> None:
    pytest.importorskip("wasmtime")
    from procstop.engines.wasmtime import _describe

    frames = [
        SimpleNamespace(module_name=module, func_index=7 + bool(module), func_name=None if module else "deep")
        for module in modules
    ]
    said = _describe(SimpleNamespace(message="wasm trap: call stack exhausted", frames=frames))  # type: ignore[arg-type]
    # A guest can export the gate's function again: then there is no other frame.
    assert said == 'call stack exhausted, in function 7 "deep"' or len(frames) == 1
