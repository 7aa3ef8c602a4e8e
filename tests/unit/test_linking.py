"""What provides each import, in which order, and the sentence for an import that nobody provides."""

from __future__ import annotations

import pytest

from procstop.linking import EARLY_EXITS, LATER, SIGNATURES, Link, Linked, link
from procstop.module import FuncType, Import, ModuleInfo

NONE = FuncType((), ())
I32 = FuncType((), ("i32",))
ONE = FuncType(("i32",), ())
SLEEP = FuncType(("i32", "i32", "i32", "i32"), ("i32",))
WASI = {"wasi_snapshot_preview1": {"poll_oneoff": SLEEP, "fd_write": SLEEP}, "wasi_unstable": {"fd_write": SLEEP}}


def imported(name: str, type: FuncType | None = NONE, kind: str = "func") -> Import:
    module, _, field = name.partition(".")
    return Import(module, field, kind, type, str(type))  # type: ignore[arg-type]


def linked(*imports: Import, host: set[str] | None = frozenset(), **bindings: str) -> Linked:  # type: ignore[assignment]
    info = ModuleInfo(imports, {}, None, (), frozenset(), None, 8)
    return link(info, {name.replace("__", "."): function for name, function in bindings.items()}, host, WASI)


def provided(result: Linked) -> tuple[str, str]:
    assert not result.problems
    (one,) = result.links
    return one.provider, one.function


def problem(result: Linked) -> str:
    assert not result.links
    (one,) = result.problems
    return one


def test_module_without_imports_needs_nothing() -> None:
    assert linked() == Linked([], [])


@pytest.mark.parametrize(("name", "type"), [(name, type) for name, types in SIGNATURES.items() for type in types])
def test_procstop_provides_its_functions_under_their_names(name: str, type: FuncType) -> None:
    needed = FuncType(type.params, () if type.results == ("any",) else type.results)
    assert provided(linked(imported(f"procstop.{name}", needed))) == ("procstop", name)


@pytest.mark.parametrize("results", [(), ("i32",), ("i64", "f64")])
def test_function_that_never_returns_may_be_declared_with_any_results(results: tuple[str, ...]) -> None:
    assert provided(linked(imported("procstop.exit", FuncType(("i32",), results)))) == ("procstop", "exit")
    assert provided(linked(imported("procstop.fail", FuncType(("i32", "i32"), results)))) == ("procstop", "fail")


@pytest.mark.parametrize(
    ("name", "type", "said"),
    [
        ("checkpoint", ONE, 'is (i32) -> (), but procstop\'s "checkpoint" is () -> ()'),
        ("checkpoint", I32, 'is () -> i32, but procstop\'s "checkpoint" is () -> ()'),
        ("interrupted", NONE, 'is () -> (), but procstop\'s "interrupted" is () -> i32'),
        ("exit", FuncType(("i64",), ()), 'is (i64) -> (), but procstop\'s "exit" is (i32) or ()'),
        ("chekpoint", NONE, 'procstop has no such function; did you mean "checkpoint"?'),
        ("quit_now", NONE, "procstop has no such function"),
    ],
)
def test_import_that_procstop_does_not_have_like_this_is_a_problem(name: str, type: FuncType, said: str) -> None:
    assert said in problem(linked(imported(f"procstop.{name}", type)))


@pytest.mark.parametrize("name", sorted(LATER))
def test_what_comes_later_says_so(name: str) -> None:
    assert "does not provide it yet" in problem(linked(imported(f"procstop.{name}", NONE)))


@pytest.mark.parametrize("name", sorted(EARLY_EXITS))
@pytest.mark.parametrize("type", [NONE, I32])
def test_early_exits_of_the_wasmer_documentation_are_bound_by_themselves(name: str, type: FuncType) -> None:
    assert provided(linked(imported(name, type))) == ("procstop", "exit")


@pytest.mark.parametrize("name", sorted(EARLY_EXITS))
def test_early_exit_with_parameters_is_somebody_elses(name: str) -> None:
    assert "nobody provides it" in problem(linked(imported(name, ONE)))


def test_binding_comes_before_everything() -> None:
    for name in ("env.early_exit", "procstop.exit", "wasi_unstable.fd_write", "env.f"):
        result = linked(imported(name, NONE), host={name}, **{name.replace(".", "__"): "checkpoint"})
        assert provided(result) == ("procstop", "checkpoint")


def test_host_function_comes_before_procstop_and_wasi() -> None:
    for name in ("env.early_exit", "procstop.checkpoint", "wasi_unstable.fd_write", "env.f"):
        assert provided(linked(imported(name, NONE), host={name})) == ("host", name)


def test_unknown_host_names_may_provide_what_nobody_else_does() -> None:
    assert provided(linked(imported("env.f"), host=None)) == ("host", "env.f")
    assert provided(linked(imported("procstop.checkpoint"), host=None)) == ("procstop", "checkpoint")
    assert provided(linked(imported("wasi_unstable.fd_write", SLEEP), host=None)) == ("wasi", "fd_write")


def test_wasi_provides_the_functions_of_its_version() -> None:
    assert provided(linked(imported("wasi_unstable.fd_write", SLEEP))) == ("wasi", "fd_write")
    assert "WASI has no such function" in problem(linked(imported("wasi_unstable.poll_oneoff", SLEEP)))
    assert 'did you mean "fd_write"?' in problem(linked(imported("wasi_unstable.fd_wriet", SLEEP)))
    said = problem(linked(imported("wasi_unstable.fd_write", NONE)))
    assert "is () -> (), but WASI's is (i32, i32, i32, i32) -> i32" in said


@pytest.mark.parametrize("kind", ["memory", "table", "global", "tag"])
def test_only_functions_are_provided(kind: str) -> None:
    said = problem(linked(imported("env.memory", None, kind), host={"env.memory"}))
    assert said == f'import "env.memory" is a {kind}; procstop provides functions only'


def test_import_that_nobody_provides_says_what_to_do() -> None:
    said = problem(linked(imported("env.f", ONE)))
    assert said.startswith('import "env.f" (i32) -> (): nobody provides it')
    assert '"imports"' in said and '"host"' in said


def test_binding_to_an_unknown_function_is_a_problem() -> None:
    assert 'is bound to "quit"; it must be one of checkpoint' in problem(linked(imported("env.f"), env__f="quit"))


def test_binding_of_a_name_that_is_not_imported_is_a_problem() -> None:
    result = linked(imported("env.early_exit"), env__erly_exit="exit")
    assert result.problems == ['imports: the module does not import "env.erly_exit"; did you mean "env.early_exit"?']


def test_all_problems_are_found_at_once_and_links_keep_their_order() -> None:
    result = linked(
        imported("env.f"), imported("procstop.exit", ONE), imported("env.g"), imported("procstop.checkpoint")
    )
    assert [one.function for one in result.links] == ["exit", "checkpoint"]
    assert len(result.problems) == 2


@pytest.mark.parametrize(
    ("provider", "function", "stops"),
    [
        ("procstop", "checkpoint", True),
        ("procstop", "interrupted", True),
        ("procstop", "progress", True),
        ("procstop", "exit", False),
        ("procstop", "fail", False),
        ("wasi", "poll_oneoff", True),
        ("wasi", "fd_write", False),
        ("host", "checkpoint", False),
        ("host", "poll_oneoff", False),
    ],
)
def test_stopping_points_are_where_a_guest_can_be_left(provider: str, function: str, stops: bool) -> None:
    one = Link(imported("env.f"), provider, function)
    assert one.is_stopping_point is stops
    assert Linked([one], []).stopping_points == ([one] if stops else [])
