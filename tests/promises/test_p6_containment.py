"""P6 containment: a guest has what its task grants and no more, also when the engine has a hole."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from procstop import (
    Containment,
    Dir,
    Job,
    JobFileError,
    Level,
    Limits,
    Outcome,
    Reason,
    Spawn,
    Stdin,
    Workers,
    linux,
)
from procstop.events import TaskOver
from procstop.preflight import engine_status, prepare
from procstop.sandbox import Support, probe
from support import hostile, hosts
from support.guests import Guests
from support.places import SUPPORT
from support.running import PATIENT, QUICK, run_guest, run_record, task
from support.watching import Watcher, children

HERE = probe()
needs_sandbox = pytest.mark.skipif(bool(HERE.missing), reason="; ".join(HERE.missing) or "-")
SPAWNS = [Spawn.SERVER, Spawn.FRESH]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that no task is granted, with a file."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / hostile.SECRET).write_text("secret")
    (path / hostile.SECRET).chmod(0o644)
    return path


@pytest.fixture
def port() -> Iterator[int]:
    """The port of somebody who listens on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def hostile_task(guests: Guests, engine: str, outside: Path, port: int, **options: Any) -> Any:
    env = {hostile.OUTSIDE: str(outside), hostile.PORT: str(port)}
    options = {"host_allow": (), **options}
    return task(guests["calls_host"], engine=engine, host={"env.work": hostile.tries_everything}, env=env, **options)


# Native code


@needs_sandbox
@pytest.mark.parametrize("spawn", SPAWNS, ids=lambda spawn: spawn.value)
@pytest.mark.parametrize("dirs", [0, 1, 2])
def test_native_code_without_allowances_gets_nowhere(
    engine: str, guests: Guests, tmp_path: Path, outside: Path, port: int, spawn: Spawn, dirs: int
) -> None:
    granted = []
    for number in range(dirs):
        (tmp_path / f"dir{number}").mkdir()
        granted.append(Dir(f"/dir{number}", tmp_path / f"dir{number}", write=bool(number)))
    record = run_record(hostile_task(guests, engine, outside, port, dirs=granted), workers=Workers(spawn=spawn))
    attempt = record.tasks[0].attempts[0]
    assert attempt.outcome is Outcome.COMPLETED, attempt.message
    became = json.loads(attempt.stdout.tail)
    assert became == {trick.__name__: "nothing" for trick in hostile.TRICKS}
    assert (outside / hostile.SECRET).read_text() == "secret" and os.listdir(outside) == [hostile.SECRET]
    assert attempt.contained is not None and attempt.contained.level is Level.FULL
    assert attempt.contained.allowed == ()
    assert children(os.getpid()) == []


@needs_sandbox
@pytest.mark.parametrize(
    ("allow", "act"),
    [
        ("network", "connect"),
        ("processes", "start a process"),
        ("files", "read a file"),
        ("files", "write a file"),
    ],
)
def test_host_function_may_do_what_the_task_allows_and_no_more(
    engine: str, guests: Guests, outside: Path, port: int, allow: str, act: str
) -> None:
    env = {hostile.OUTSIDE: str(outside), hostile.PORT: str(port), hostile.ACT: act, "PATH": os.environ["PATH"]}
    host = {"env.work": hostile.tries_one}
    made = {
        name: run_guest(guests["calls_host"], engine=engine, host=host, env=env, host_allow=granted)
        for name, granted in (("with", [allow]), ("without", [one for one in ("network",) if one != allow]))
    }
    assert made["with"].outcome is Outcome.COMPLETED, made["with"].message
    assert made["without"].outcome is Outcome.HOST_ERROR
    assert "what its host_allow names" in (made["without"].message or "")
    assert made["with"].contained is not None and allow in made["with"].contained.allowed


def test_sandbox_can_be_left_open_and_the_report_says_so(engine: str, guests: Guests, outside: Path, port: int) -> None:
    env = {hostile.OUTSIDE: str(outside), hostile.PORT: str(port), hostile.ACT: "read a file"}
    attempt = run_guest(
        guests["calls_host"],
        engine=engine,
        host={"env.work": hostile.tries_one},
        env=env,
        host_allow=(),
        containment=Containment(sandbox=False),
    )
    assert attempt.outcome is Outcome.COMPLETED, attempt.message
    assert attempt.contained is not None and attempt.contained.level is Level.BASIC
    assert "the sandbox is left open" in attempt.contained.missing[-1]


@needs_sandbox
def test_host_module_can_import_what_it_needs_later(engine: str, guests: Guests, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 7\n")
    (tmp_path / "functions.py").write_text(
        "def work():\n    import colorsys, beside\n    print(colorsys.__name__, beside.VALUE)\n"
        "imports = {'env.work': work}\n"
    )
    attempt = run_guest(guests["calls_host"], engine=engine, host=tmp_path / "functions.py", host_allow=())
    assert (attempt.outcome, attempt.stdout.tail) == (Outcome.COMPLETED, b"colorsys 7\n"), attempt.message


def test_environment_of_a_worker_is_what_the_task_names(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")
    attempt = run_guest(
        guests["calls_host"],
        engine=engine,
        host={"env.work": hosts.says_environment},
        env={"GIVEN": "1"},
        host_allow=(),
    )
    names = set(attempt.stdout.tail.decode().split())
    assert names - {"LD_LIBRARY_PATH"} == {"GIVEN", "PROCSTOP_ATTEMPT"}


# Links

PERM = 63
"""The errno of WASI for a path that leads out."""


@pytest.mark.parametrize("by_guest", [True, False], ids=["a guest's link", "somebody's link"])
def test_guest_of_one_engine_prepares_no_way_out_for_one_of_the_other(
    engine: str, guests: Guests, tmp_path: Path, by_guest: bool
) -> None:
    status = engine_status()
    other = next((name for name in status if name != engine and status[name].why_not is None), engine)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "shared").mkdir()
    dirs = [Dir("/shared", tmp_path / "shared", write=True)]
    if by_guest:
        made = run_guest(guests["links_up"], "link", engine=engine, dirs=dirs)
        # Whether there may be such a link is one thing; that nobody follows it is what counts.
        assert made.values is not None and made.values[0] in (0, PERM)
    link = tmp_path / "shared" / "up"
    if not link.is_symlink():
        link.symlink_to("..")
    for name in (other, engine):
        assert run_guest(guests["links_up"], "follow", engine=name, dirs=dirs).values == (PERM,)


def test_directory_is_not_moved_to_where_a_link_in_it_would_lead_out(
    engine: str, guests: Guests, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    dirs = [Dir("/out", tmp_path / "out", write=True)]
    attempt = run_guest(guests["makes_way_out"], "run", engine=engine, dirs=dirs)
    assert attempt.values == (PERM,)
    assert os.listdir(tmp_path / "out") == ["a"]


# What one task lays for the next


@pytest.mark.parametrize("what", ["dirs", "stdin"])
def test_what_a_task_is_granted_is_where_it_was_when_the_run_began(
    engine: str, guests: Guests, tmp_path: Path, what: str
) -> None:
    """Native code may make links that lead out of its directories, where WASI refuses that."""
    work, outside = tmp_path / "work", tmp_path / "outside"
    for place in (work, outside):
        (place / "sub").mkdir(parents=True)
        (place / "in.txt").write_text(place.name)
    lays = task(
        guests["calls_host"], name="lays", engine=engine, host={"env.work": hosts.lays_links},
        host_allow=(), env={hosts.LINKS: f"{work}:{outside}"}, dirs=[Dir("/work", work, write=True)],
    )  # fmt: skip
    options: dict[str, Any] = {"dirs": [Dir("/in", work / "sub", write=True)]}
    if what == "stdin":
        options = {"stdin": Stdin(path=work / "in.txt")}
    reads = task(guests["copies_stdin"], name="reads", engine=engine, needs=["lays"], **options)
    record = run_record(lays, reads)
    assert record["lays"].outcome is Outcome.COMPLETED and (work / "sub").is_symlink()
    attempt = record["reads"].attempts[0]
    assert (attempt.outcome, attempt.stdout.bytes) == (Outcome.REJECTED, 0)
    assert "a symbolic link was laid there during the run" in (attempt.message or "")


def test_output_is_kept_where_it_was_to_be_when_the_run_began(engine: str, guests: Guests, tmp_path: Path) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    for place in (work, outside):
        (place / "logs").mkdir(parents=True)
    (outside / "logs" / "writes.1.stdout").write_text("somebody's")
    lays = task(
        guests["calls_host"], name="lays", engine=engine, host={"env.work": hosts.lays_links},
        host_allow=(), env={hosts.LINKS: f"{work}:{outside}"}, dirs=[Dir("/work", work, write=True)],
    )  # fmt: skip
    writes = task(guests["writes_and_returns"], "run", 10, name="writes", engine=engine, needs=["lays"])
    watcher = Watcher()
    record = run_record(lays, writes, output_dir=str(work / "logs"), observers=[watcher])
    assert record.exit_code == 3 and record["writes"].attempts[0].stdout.truncated
    assert (outside / "logs" / "writes.1.stdout").read_text() == "somebody's"
    (notice,) = watcher.notices()
    assert "a symbolic link was laid there during the run" in notice


@pytest.mark.parametrize("folder", ["", "below/"])
def test_host_functions_that_a_guest_could_replace_are_refused(guests: Guests, tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / "functions.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("imports = {'env.work': print}\n")
    writes = task(guests["returns"], name="writes", dirs=[Dir("/all", tmp_path, write=True)])
    calls = task(guests["calls_host"], name="calls", host=path, expect=(Outcome.COMPLETED,))
    with pytest.raises(JobFileError) as caught:
        prepare(Job("test", [writes, calls])).check()
    (problem,) = caught.value.problems
    assert problem == (
        f'test: task "calls": host: "{path}" is in a directory that task "writes" may write to, so a guest could '
        "replace it; keep it elsewhere"
    )
    # What is below a directory of theirs is not found when they import.
    (tmp_path / "out").mkdir()
    writes = task(guests["returns"], name="writes", dirs=[Dir("/out", tmp_path / "out", write=True)])
    if not folder:
        prepare(Job("test", [writes, calls])).check()


# Root


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
@pytest.mark.parametrize("spawn", SPAWNS, ids=lambda spawn: spawn.value)
def test_worker_of_root_becomes_nobody_where_nothing_needs_its_rights(
    engine: str, guests: Guests, tmp_path: Path, spawn: Spawn
) -> None:
    tasks = [
        task(guests["spins"], name="plain", engine=engine),
        task(guests["spins"], name="dirs", engine=engine, dirs=[Dir("/d", tmp_path)]),
    ]
    limits = Limits(time=0.2)
    record = run_record(*tasks, workers=Workers(spawn=spawn), limits=limits, stop=QUICK)
    plain, dirs = (record[name].attempts[0].contained for name in ("plain", "dirs"))
    assert plain is not None and plain.user == 65534
    assert dirs is not None and dirs.user is None
    assert {one.outcome for one in record.tasks} == {Outcome.TERMINATED}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
@pytest.mark.parametrize("spawn", SPAWNS, ids=lambda spawn: spawn.value)
def test_worker_of_root_becomes_nobody_where_its_directories_permit_it(
    engine: str, guests: Guests, spawn: Spawn
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        granted = [Dir("/out", directory, write=True)]
        one = task(guests["fills_file"], "run", engine=engine, dirs=granted, limits=Limits(file_size=1000))
        attempt = run_record(one, workers=Workers(spawn=spawn)).tasks[0].attempts[0]
        assert attempt.contained is not None and attempt.contained.user == 65534
        (made,) = os.scandir(directory)
        assert (made.stat().st_uid, made.stat().st_size) == (65534, 1000)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
@pytest.mark.parametrize("spawn", SPAWNS, ids=lambda spawn: spawn.value)
@pytest.mark.parametrize(
    ("allow", "kept"),
    [((), linux.FILE_RIGHTS), (("network",), linux.FILE_RIGHTS | linux.NETWORK_RIGHTS), (("files",), range(64))],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_worker_of_root_keeps_the_rights_that_its_task_may_need(
    engine: str, guests: Guests, allow: tuple[str, ...], kept: Iterable[int], spawn: Spawn
) -> None:
    host = {"env.work": hosts.says_rights}
    record = run_record(
        task(guests["calls_host"], engine=engine, host=host, host_allow=allow), workers=Workers(spawn=spawn)
    )
    effective, permitted, inheritable = (int(word, 16) for word in record.tasks[0].attempts[0].stdout.tail.split())
    with open("/proc/self/status") as status:
        (own,) = (int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    assert effective == permitted == own & sum(1 << one for one in kept)
    assert inheritable & ~effective == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_thread_that_an_import_has_started_has_no_more_rights(engine: str, guests: Guests, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(
        f"import sys, threading\nsys.path.insert(0, {str(SUPPORT.parent)!r})\nfrom support import hosts\n"
        "go, over = threading.Event(), threading.Event()\n"
        "def say():\n    go.wait()\n    hosts.says_rights()\n    over.set()\n"
        "threading.Thread(target=say, daemon=True).start()\n"
        "def work():\n    go.set()\n    over.wait()\n"
        "imports = {'env.work': work}\n"
    )
    attempt = run_guest(guests["calls_host"], engine=engine, host=tmp_path / "functions.py", host_allow=())
    assert int(attempt.stdout.tail.split()[0], 16) & ~sum(1 << one for one in linux.FILE_RIGHTS) == 0


# Levels


def without(monkeypatch: pytest.MonkeyPatch, support: Support) -> None:
    """Have the kernel offer less from now on."""
    monkeypatch.setattr("procstop.sandbox.probe", lambda: support)


def test_job_that_requires_full_containment_does_not_run_with_less(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, Support(0, True))
    guest = task(guests["returns"], "run", 1, 7, engine=engine, expect=Outcome.COMPLETED)
    with pytest.raises(JobFileError, match=r'containment\.require is "full", and there is only "basic"'):
        run_record(guest, containment=Containment(require=Level.FULL))
    record = run_record(guest, containment=Containment(require=Level.BASIC))
    contained = record.tasks[0].attempts[0].contained
    assert record.ok and contained is not None
    assert contained.level is Level.BASIC and "no Landlock" in contained.missing[0]


def test_directories_without_landlock_are_not_for_wasmer(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, Support(0, True))
    dirs = [Dir("/d", tmp_path)]
    auto = prepare(Job("test", [task(guests["returns"], "run", 1, 7, dirs=dirs)])).assignments[0]
    assert auto.engine == "wasmtime"
    plan = prepare(
        Job("test", [task(guests["returns"], "run", 1, 7, dirs=dirs, engine="wasmer", expect=Outcome.COMPLETED)])
    )
    assert "wasmer cannot run it" in plan.problems[0]


# Limits hold against what does not ask


def test_flood_of_one_attempt_does_not_slow_the_others(engine: str, guests: Guests) -> None:
    tasks = [
        task(
            guests["writes_forever"],
            name="floods",
            engine=engine,
            limits=Limits(output=1 << 40, time=3.0),
            stop=PATIENT,
        ),
        *(task(guests["returns"], "run", n, 1, name=f"{n}", engine=engine, needs=()) for n in range(20)),
    ]
    watcher = Watcher()
    record = run_record(*tasks, concurrency=2, observers=[watcher])
    # All of them side by side with it, and none behind it.
    assert [event.record.task for event in watcher.events if isinstance(event, TaskOver)][-1] == "floods"
    assert {record[f"{n}"].outcome for n in range(20)} == {Outcome.COMPLETED}
    assert record["floods"].attempts[0].reason is Reason.TIME_LIMIT
