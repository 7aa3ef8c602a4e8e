"""`procstop compile` and the options of `run` about the cache and the fork server, as a user has them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from procstop.cache import Cache, Key
from procstop.preflight.available import engine_build
from support.command import Procstop, attempt
from support.guests import Guests
from support.watching import wait_until


@pytest.fixture
def cache(tmp_path: Path, procstop_command: Procstop) -> Cache:
    """The cache of the command, the test's own."""
    procstop_command.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    return Cache(str(tmp_path / "cache" / "procstop" / "artifacts"))


def name_of(module: str, engine: str) -> str:
    """Return the name of a module's artifact."""
    return Key(hashlib.sha256(Path(module).read_bytes()).hexdigest(), engine, engine_build(engine)).name


def names(cache: Cache) -> set[str]:
    return {entry.name for entry in cache.entries()}


def children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


@contextlib.contextmanager
def held_up(cache: Cache, *names: str) -> Iterator[None]:
    """Have compilers wait for as long as the block lasts: another seems to make what they are to make."""
    cache.secret()
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(cache.lock(name))
        yield


def test_modules_are_compiled_once_and_then_there(
    engine: str, guests: Guests, procstop_command: Procstop, cache: Cache
) -> None:
    modules = [guests["returns"], guests["spins"], guests.text("traps")]
    answer = procstop_command("compile", "--engine", engine, *modules)
    assert (answer.code, answer.stderr) == (0, "")
    said = sorted(answer.stdout.splitlines())
    for line, module in zip(said, sorted(modules), strict=True):
        assert re.fullmatch(rf"{re.escape(module)}: compiled for {engine} in [\d.]+ m?s, [\d.]+ KiB", line)
    assert len(names(cache)) == 3 and name_of(guests["spins"], engine) in names(cache)
    again = procstop_command("compile", "--engine", engine, *modules)
    assert (again.code, again.stdout.count(f": already there for {engine}, ")) == (0, 3)


def test_run_takes_what_was_compiled_ahead(
    engine: str, guests: Guests, procstop_command: Procstop, cache: Cache
) -> None:
    assert procstop_command("compile", "--engine", engine, guests["returns"]).code == 0
    answer = procstop_command("run", guests["returns"], "--engine", engine, "--call", "run", "1", "7")
    assert (answer.stdout, "to be compiled" in answer.stderr) == ("8\n", False)


def test_module_that_a_task_would_have_to_complete_can_be_compiled(
    guests: Guests, procstop_command: Procstop, cache: Cache
) -> None:
    answer = procstop_command("compile", guests["needs_unknown_import"])
    assert (answer.code, len(cache.entries())) == (0, 1)


def test_module_that_cannot_be_compiled_fails_and_the_others_do_not(
    engine: str, guests: Guests, procstop_command: Procstop, cache: Cache
) -> None:
    answer = procstop_command("compile", "--engine", engine, guests.invalid_body(), guests["returns"])
    assert answer.code == 1
    assert f"error: {guests.invalid_body()}: not compiled for {engine}: " in answer.stderr
    assert names(cache) == {name_of(guests["returns"], engine)}


def test_artifact_that_was_changed_is_made_anew(
    engine: str, guests: Guests, procstop_command: Procstop, cache: Cache
) -> None:
    command = ("compile", "--engine", engine, guests["returns"])
    assert procstop_command(*command).code == 0
    with open(cache.path_of(name_of(guests["returns"], engine)), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xee")
    answer = procstop_command(*command)
    assert answer.code == 0 and ": compiled for " in answer.stdout
    assert "notice: returns.wasm: the artifact in the cache cannot be used (its digest does not match)" in answer.stderr
    assert ": already there for " in procstop_command(*command).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.wasm"], 'error: module: no such file, got "gone.wasm"'),
        (["{garbage}"], "error: {garbage}: "),
        (["{two_memories}", "--engine", "wasmer"], "error: {two_memories}: engine: wasmer cannot run it: "),
        (["{returns}", "--set", "limits.start=5"], 'error: --set limits.start: a duration needs a unit, got "5"'),
        (["{returns}", "--config", "gone.toml"], "error: gone.toml: no such file"),
        (["{returns}", "--set", "workers.cache=false"], "error: workers.cache is false, so there is no cache to fill"),
        ([], "Missing argument 'MODULE'"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_compiled(
    guests: Guests, procstop_command: Procstop, cache: Cache, arguments: list[str], message: str
) -> None:
    paths = {"garbage": guests.garbage(), **{name: guests[name] for name in ("two_memories", "returns")}}
    answer = procstop_command("compile", *(one.format(**paths) for one in arguments))
    assert (answer.code, answer.stdout) == (2, "")
    assert message.format(**paths) in answer.stderr and "Traceback" not in answer.stderr
    assert cache.entries() == []


def test_directory_that_cannot_be_used_is_named(
    guests: Guests, procstop_command: Procstop, cache: Cache, tmp_path: Path
) -> None:
    cache.secret()
    os.chmod(cache.directory, 0o755)
    answer = procstop_command("compile", guests["returns"])
    assert (answer.code, answer.stdout) == (2, "")
    assert answer.stderr == f'error: cache: "{cache.directory}" is open to other users; chmod 700 it\n'


def test_start_limit_ends_a_compiler_and_the_others_go_on(
    engine: str, guests: Guests, procstop_command: Procstop, cache: Cache
) -> None:
    with held_up(cache, name_of(guests["spins"], engine)):
        answer = procstop_command(
            "compile", "--engine", engine, "--set", "limits.start=3s", guests["spins"], guests["returns"]
        )
    assert answer.code == 1 and f"{guests['returns']}: compiled" in answer.stdout
    assert "not compiled" in answer.stderr and "it took longer than its start limit of 3 s" in answer.stderr
    assert names(cache) == {name_of(guests["returns"], engine)}


def test_memory_of_a_compiler_is_limited(guests: Guests, procstop_command: Procstop, cache: Cache) -> None:
    answer = procstop_command(
        "compile", "--engine", "wasmtime", "--set", "limits.compile_memory=1MiB", guests["returns"]
    )
    assert answer.code == 1 and "not compiled for wasmtime: " in answer.stderr
    assert cache.entries() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_kills_the_compilers_and_leaves_nothing(
    engine: str, guests: Guests, procstop_command: Procstop, cache: Cache, number: int
) -> None:
    modules = [guests["spins"], guests["traps"]]
    with held_up(cache, *(name_of(module, engine) for module in modules)):
        command = procstop_command.start("compile", "--engine", engine, *modules)
        wait_until(lambda: len(children(command.pid)) >= min(2, len(os.sched_getaffinity(0))), "compilers run")
        compilers = children(command.pid)
        command.signal(number)
        answer = command.end()
    assert (answer.code, answer.stdout) == (130, "")
    assert answer.stderr == "stopped; what was compiled before is kept\n"
    assert not any(psutil.pid_exists(pid) for pid in compilers)
    assert {path.name for path in Path(cache.directory).iterdir()} == {"lock", "secret"}


def test_closed_pipe_is_no_news(guests: Guests, procstop_command: Procstop, cache: Cache) -> None:
    for command in (("compile", guests["returns"]), ("cache", "list"), ("cache", "where"), ("cache", "clear")):
        read, write = os.pipe()
        os.close(read)
        try:
            answer = procstop_command(*command, stdout=write)
        finally:
            os.close(write)
        assert (answer.code, answer.stderr) == (1, ""), command


def test_unusable_cache_is_an_error_of_the_user(procstop_command: Procstop, cache: Cache) -> None:
    Path(cache.directory).parent.mkdir(parents=True)
    Path(cache.directory).write_text("")
    answer = procstop_command("cache", "list")
    assert (answer.code, answer.stdout) == (2, "")
    assert answer.stderr == f'error: cache: cannot read "{cache.directory}": Not a directory\n'
    assert procstop_command("cache", "prune").code == 2


def test_no_cache_keeps_nothing(engine: str, guests: Guests, procstop_command: Procstop, cache: Cache) -> None:
    command = ("run", guests["returns"], "--engine", engine, "--call", "run", "1", "7")
    assert procstop_command(*command, "--no-cache").stdout == "8\n"
    assert not os.path.exists(cache.directory)
    assert procstop_command(*command).stdout == "8\n"
    assert len(cache.entries()) == 1


@pytest.mark.parametrize("spawn", ["server", "fresh"])
def test_spawn_says_how_workers_are_made(
    engine: str, guests: Guests, procstop_command: Procstop, cache: Cache, spawn: str
) -> None:
    answer = procstop_command(
        "run", guests["returns"], "--engine", engine, "--spawn", spawn, "--call", "run", "--report", "report.json",
        "1", "7",
    )  # fmt: skip
    assert (answer.code, answer.stdout) == (0, "8\n"), answer.stderr
    last = attempt(procstop_command.report())
    assert (last["worker"], last["wait"]) == (1, {"exit": 0})
    refused = procstop_command("run", guests["returns"], "--spawn", "forked")
    assert refused.code == 2


def test_job_file_says_how_many_attempts_share_a_worker(
    engine: str, guests: Guests, procstop_command: Procstop, tmp_path: Path
) -> None:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("")
    entry = f'module = "{guests["returns"]}"\ncall = "nothing"\nengine = "{engine}"\neach = "?.txt"\n'
    job = procstop_command.job(
        "concurrency = 1\n[workers]\nreuse = 3\n"
        f'[[task]]\nname = "a"\n{entry}[[task]]\nname = "b"\n{entry}workers = {{ reuse = 1 }}\n'
    )
    answer = procstop_command("run", job, "--report", "report.json")
    assert answer.code == 0, answer.stderr
    attempts = {task["task"]: task["attempts"][0] for task in procstop_command.report()["tasks"]}
    shared = [attempts[f"a[{number}.txt]"] for number in range(6)]
    assert [one["worker"] for one in shared] == [1, 1, 1, 2, 2, 2]
    assert [one["wait"] for one in shared] == [None, None, {"exit": 0}] * 2
    assert [attempts[f"b[{number}.txt]"]["worker"] for number in range(6)] == [3, 4, 5, 6, 7, 8]


def test_module_is_not_compiled_with_less_containment_than_is_required(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    settings = ["--set", "containment.require=full", "--set", "containment.sandbox=false"]
    answer = procstop_command("compile", guests["returns"], "--engine", engine, *settings)
    assert answer.code == 2
    assert 'containment.require is "full", and there is only "basic"' in answer.stderr
