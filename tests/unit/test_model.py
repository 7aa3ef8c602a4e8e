"""Values check themselves: what a job may not have names its key."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procstop.errors import InvalidValue, ProcstopError
from procstop.model import (
    LIMIT_REASONS,
    Dir,
    Job,
    Limits,
    OnInterrupt,
    OnInterruptKind,
    Outcome,
    Reason,
    Rung,
    Stdin,
    StopPolicy,
    Strategy,
    StrategyKind,
    Task,
)


def task(**more: Any) -> Task:
    return Task("t", "m.wasm", **more)


def refused(make: Callable[[], object], key: str) -> str:
    with pytest.raises(InvalidValue) as caught:
        make()
    assert caught.value.key == key
    assert str(caught.value) == f"{key}: {caught.value.message}"
    assert isinstance(caught.value, ProcstopError) and isinstance(caught.value, ValueError)
    return caught.value.message


NO_SECONDS = [-1, -0.001, math.nan, math.inf, "1", None, True, [1]]


@pytest.mark.parametrize("grace", ["interrupt", "preempt", "terminate"])
def test_grace_is_a_number_of_seconds_and_may_be_zero(grace: str) -> None:
    assert getattr(StopPolicy(**{grace: 0}), grace) == 0
    assert getattr(StopPolicy(**{grace: 0.5}), grace) == 0.5
    for value in NO_SECONDS:
        refused(lambda value=value: StopPolicy(**{grace: value}), f"stop.{grace}")


def test_kill_wait_is_never_zero() -> None:
    for value in [0, 0.0, *NO_SECONDS]:
        refused(lambda value=value: StopPolicy(kill_wait=value), "stop.kill_wait")


@pytest.mark.parametrize("limit", ["start", "time"])
def test_time_limit_is_above_zero(limit: str) -> None:
    assert getattr(Limits(**{limit: 0.1}), limit) == 0.1
    for value in [0, *(one for one in NO_SECONDS if one is not None)]:
        refused(lambda value=value: Limits(**{limit: value}), f"limits.{limit}")


def test_time_limit_says_what_is_wrong_with_it() -> None:
    assert refused(lambda: Limits(time=0), "limits.time") == "must be above 0, got 0 s"
    assert refused(lambda: StopPolicy(interrupt=-1), "stop.interrupt") == "must be 0 or more, got -1 s"
    assert refused(lambda: Limits(time="1"), "limits.time") == "must be a number of seconds, got '1'"  # type: ignore[arg-type]


def test_no_time_limit_is_none() -> None:
    assert Limits(time=None).time is None
    assert Limits(output=None).output is None


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", math.inf])
def test_output_limit_is_a_number_of_bytes(value: Any) -> None:
    refused(lambda: Limits(output=value), "limits.output")


NO_COUNTS = [-1, 1.0, "1", None, True]


@pytest.mark.parametrize(
    ("make", "key", "least"),
    [
        (lambda n: Strategy(StrategyKind.NEXT_N, n), "strategy.next", 0),
        (lambda n: OnInterrupt(OnInterruptKind.NEXT, n), "on_interrupt.next", 0),
        (lambda n: task(retries=n), "retries", 0),
        (lambda n: task(check_every=n), "check_every", 1),
    ],
)
def test_counts_are_whole_and_not_too_small(make: Callable[[Any], object], key: str, least: int) -> None:
    make(least)
    make(10**6)
    for value in [least - 1, *NO_COUNTS]:
        assert f"at least {least}, got {value!r}" in refused(lambda value=value: make(value), key)


def test_concurrency_is_at_least_one_or_left_to_the_machine() -> None:
    assert Job("j").concurrency is None
    assert Job("j", concurrency=1).concurrency == 1
    for value in [0, -1, 1.0, True, "2"]:
        refused(lambda value=value: Job("j", concurrency=value), "concurrency")


@pytest.mark.parametrize("text", ["", "a\0b", None, 7])
def test_names_are_texts_that_hold_something(text: Any) -> None:
    refused(lambda: Task(text, "m.wasm"), "name")
    refused(lambda: task(call=text), "call")
    refused(lambda: Job(text), "name")
    refused(lambda: Dir(text, "/host"), "dirs")
    refused(lambda: Dir("/guest", text), "dirs")


def test_module_is_a_path_of_any_kind_that_is_not_empty() -> None:
    assert Task("t", Path("a") / "m.wasm").module == "a/m.wasm"  # type: ignore[arg-type]
    refused(lambda: Task("t", ""), "module")


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        (Outcome.KILLED, (Outcome.KILLED,)),
        ("killed", (Outcome.KILLED,)),
        (["killed", "exited"], (Outcome.KILLED, Outcome.EXITED)),
        ([Outcome.KILLED], (Outcome.KILLED,)),
    ],
)
def test_expected_outcome_may_be_one_or_several(given: Any, expect: tuple[Outcome, ...]) -> None:
    assert task(expect=given).expect == expect


@pytest.mark.parametrize("given", ["finished", ["killed", "nothing"], [], ()])
def test_expected_outcome_that_cannot_come_is_refused(given: Any) -> None:
    refused(lambda: task(expect=given), "expect")


def test_engine_is_one_that_there_is() -> None:
    for engine in ("auto", "wasmer", "wasmtime"):
        assert task(engine=engine).engine == engine
    assert refused(lambda: task(engine="v8"), "engine") == "must be one of auto, wasmer, wasmtime, got 'v8'"


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": "x\0"}])
def test_environment_that_no_process_could_have_is_refused(env: dict[str, str]) -> None:
    refused(lambda: task(env=env), "env")


def test_environment_may_hold_empty_values_and_equals_signs_in_them() -> None:
    assert task(env={"A": "", "B": "x=y"}).env == {"A": "", "B": "x=y"}


def test_stdin_is_a_path_or_a_text_and_not_both() -> None:
    assert Stdin(text="").text == "" and Stdin(path="in.txt").path == "in.txt"
    refused(lambda: Stdin(), "stdin")
    refused(lambda: Stdin("in.txt", "text"), "stdin")


def test_guest_sees_a_directory_once() -> None:
    assert "'/data' is given twice" in refused(lambda: task(dirs=[Dir("/data", "a"), Dir("/data", "b")]), "dirs")
    assert len(task(dirs=[Dir("/a", "x"), Dir("/b", "x")]).dirs) == 2


def test_sequences_are_copied_so_that_nobody_changes_them() -> None:
    args, tasks = [1, 7], [task()]
    one, job = task(args=args), Job("j", tasks)
    args.append(9)
    tasks.clear()
    assert one.args == (1, 7) and len(job.tasks) == 1


@pytest.mark.parametrize("value", [StopPolicy(), Limits(), Strategy(), OnInterrupt(), Dir("/a", "b"), task(), Job("j")])
def test_values_are_frozen(value: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, 1)


def test_rungs_climb() -> None:
    assert [rung.value for rung in sorted(Rung, key=lambda rung: rung.height)] == [
        "interrupt",
        "preempt",
        "terminate",
        "kill",
    ]
    assert [rung.height for rung in Rung] == [1, 2, 3, 4]


def test_limits_are_told_from_requests() -> None:
    assert {reason.value for reason in Reason} - {reason.value for reason in LIMIT_REASONS} == {
        "user",
        "stop_command",
        "shutdown",
        "protocol",
    }
    assert all(reason.is_limit is (reason in LIMIT_REASONS) for reason in Reason)


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (Strategy(), "finish-current"),
        (Strategy(StrategyKind.NEXT_N, 3), "next 3"),
        (Strategy(StrategyKind.IGNORE), "ignore"),
    ],
)
def test_strategy_reads_as_a_job_file_has_it(strategy: Strategy, text: str) -> None:
    assert str(strategy) == text


def test_defaults_are_those_of_the_design() -> None:
    assert (StopPolicy().interrupt, StopPolicy().preempt, StopPolicy().terminate, StopPolicy().kill_wait) == (
        2.0,
        0.5,
        1.0,
        5.0,
    )
    one = task()
    assert (one.call, one.engine, one.check_every, one.retries, one.expect) == (
        "_start",
        "auto",
        1,
        0,
        (Outcome.COMPLETED,),
    )
    assert one.strategy == Strategy(StrategyKind.FINISH_CURRENT)
    assert Job("j").on_interrupt == OnInterrupt(OnInterruptKind.STOP)


@pytest.mark.parametrize("key", ["strategy", "limits", "stop", "stdin", "dirs", "env", "imports", "host", "needs",
                                 "args", "expect", "group", "engine", "call", "module"])  # fmt: skip
@pytest.mark.parametrize("value", [7, 1.5, object(), b"x", [None], {"a": 1, 2: "b"}, [[1]], Path])
def test_value_of_a_wrong_kind_is_refused_by_name(key: str, value: Any) -> None:
    if key == "host" and isinstance(value, dict):
        value = {2: print}
    if key == "args" and isinstance(value, (list, tuple)):
        value = [*value, None]
    refused(lambda: dataclasses.replace(task(), **{key: value}), key)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("strategy", "ignore", "procstop.Strategy(procstop.StrategyKind.IGNORE)"),
        ("strategy", "finish-current", "procstop.Strategy(procstop.StrategyKind.FINISH_CURRENT)"),
        ("strategy", StrategyKind.IGNORE, "procstop.Strategy(procstop.StrategyKind.IGNORE)"),
        ("strategy", {"next": 3}, "procstop.Strategy(procstop.StrategyKind.NEXT_N, 3)"),
        ("limits", {"time": 5}, "procstop.Limits(time=10)"),
        ("stdin", "in.txt", 'procstop.Stdin(path="in.txt")'),
        ("dirs", {"/data": "data"}, '[procstop.Dir("/data", "data")]'),
        ("needs", "other", "['other']"),
        ("args", [True], "write 1 or 0"),
        ("args", 7, "[1, 7]"),
    ],
)
def test_task_says_how_a_value_is_written(key: str, value: Any, hint: str) -> None:
    assert hint in refused(lambda: task(**{key: value}), key)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("tasks", task(), "got the task 't'; write [task]"),
        ("tasks", ["add.wat"], "must be a Task"),
        ("tasks", 7, "must be a sequence"),
        ("on_interrupt", "ignore", "procstop.OnInterrupt(procstop.OnInterruptKind.IGNORE)"),
        ("on_interrupt", {"next": 3}, "procstop.OnInterrupt(procstop.OnInterruptKind.NEXT, 3)"),
        ("stop", None, "procstop.StopPolicy(interrupt=2)"),
        ("limits", None, "procstop.Limits(time=10)"),
        ("source", Path("job.toml"), "must be a text"),
    ],
)
def test_job_says_how_a_value_is_written(key: str, value: Any, hint: str) -> None:
    assert hint in refused(lambda: Job("j", **{key: value}), key)


def test_parts_refuse_what_has_the_wrong_kind() -> None:
    assert "StrategyKind.NEXT_N" in refused(lambda: Strategy("next-n", 2), "strategy")  # type: ignore[arg-type]
    assert "OnInterruptKind.STOP" in refused(lambda: OnInterrupt("stop"), "on_interrupt")  # type: ignore[arg-type]
    refused(lambda: Stdin(text=b"x"), "stdin")  # type: ignore[arg-type]
    refused(lambda: Dir("/a", "b", "no"), "dirs")  # type: ignore[arg-type]
    refused(lambda: Limits(time=10**400), "limits.time")


def test_mappings_are_copied_so_that_nobody_changes_them() -> None:
    env, imports = {"A": "1"}, {"env.f": "exit"}
    one = task(env=env, imports=imports)
    env.clear()
    imports.clear()
    assert (one.env, one.imports) == ({"A": "1"}, {"env.f": "exit"})


def test_what_host_functions_may_do_needs_some() -> None:
    assert task(host="hostfuncs.py", host_allow=["network"]).host_allow == ("network",)
    assert "the task has no host" in refused(lambda: task(host_allow=["network"]), "host_allow")


@pytest.mark.parametrize(
    ("one", "other"), [("/a", "/a/"), ("/a/b", "//a/./b"), (".", "./"), ("a", "./a"), ("/", "//"), ("/", "/.")]
)
def test_guest_path_is_the_same_however_it_is_written(one: str, other: str) -> None:
    message = refused(lambda: task(dirs=[Dir("/x", "x"), Dir(one, "a"), Dir(other, "b")]), "dirs")
    assert message == f"{other!r} is the same path as {one!r}; keep one of them"


def test_guest_paths_that_differ_may_stand_side_by_side() -> None:
    paths = ["/", "/a", "/a/b", "a", ".", "/.a", "/a/.."]
    assert len(task(dirs=[Dir(path, "a") for path in paths]).dirs) == len(paths)
