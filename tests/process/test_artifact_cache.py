"""A module is compiled once on a machine, and a cache that is broken costs nothing but time."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

import procstop
from procstop import Job, Outcome, RunRecord, Spawn, Task, Workers
from procstop.cache import Cache, seal
from procstop.events import AttemptCompiling, Notice
from procstop.places import cache_directory
from procstop.preflight import engine_status, prepare
from procstop.supervisor import Supervisor
from support.damage import damage
from support.disks import fill, own_disk, read_only
from support.guests import Guests
from support.running import task
from support.watching import Watcher

FOREIGN = 12345
EMPTY_SECTION = b"\0"
spawns = pytest.mark.parametrize("spawn", list(Spawn), ids=lambda spawn: spawn.value)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's directory, which is not there yet: every test begins without one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return Path(cache_directory())


@dataclass
class Seen:
    """A run that is over: its record, the lines for the user, and the tasks whose modules were compiled for them."""

    record: RunRecord
    notices: list[str]
    compiled: list[str]

    @classmethod
    def of(cls, record: RunRecord, watcher: Watcher) -> Seen:
        """Sum up what an observer saw."""
        return cls(
            record,
            [event.text for event in watcher.events if isinstance(event, Notice)],
            [event.task for event in watcher.events if isinstance(event, AttemptCompiling)],
        )

    @property
    def good(self) -> bool:
        """Tell whether all tasks returned 1 + 7."""
        return all((one.outcome, one.values) == (Outcome.COMPLETED, (8,)) for one in self.record.tasks)


def adds(guests: Guests, engine: str, number: int = 0, module: str | None = None) -> Task:
    """A task that returns 8."""
    return task(module or guests["returns"], "run", 1, 7, name=f"{engine} {number}", engine=engine)


def run(*tasks: Task, spawn: Spawn = Spawn.SERVER, cache: bool = True, concurrency: int = 2) -> Seen:
    """Run tasks to the end."""
    watcher = Watcher()
    job = Job("test", tasks, workers=Workers(spawn=spawn, cache=cache), concurrency=concurrency)
    return Seen.of(procstop.run(job, observers=[watcher]), watcher)


def supervise(job: Job, before: Callable[[str], None]) -> Seen:
    """Run a job, and do something in the supervisor's thread before each attempt starts."""
    watcher = Watcher()
    assignments = prepare(job).check().assignments
    with Supervisor(job, assignments, observers=[watcher], cache_directory=cache_directory()) as supervisor:
        start_attempt = supervisor._start_attempt

        def prepare_and_start(name: str) -> None:
            before(name)
            start_attempt(name)

        supervisor._start_attempt = prepare_and_start  # type: ignore[method-assign]
        record = supervisor.run()
        supervisor.wait_for_observers()
    return Seen.of(record, watcher)


def artifact(cache: Path) -> Path:
    """Return the only artifact in the cache."""
    (found,) = cache.glob("*.artifact")
    return found


def sameness(module: str, directory: Path, count: int) -> list[str]:
    """Make modules that do the same and are not the same."""
    data = Path(module).read_bytes()
    paths = []
    for number in range(count):
        name = f"n{number}".encode()
        section = bytes([len(name)]) + name
        path = directory / f"same{number}.wasm"
        path.write_bytes(data + b"\0" + bytes([len(section)]) + section)
        paths.append(str(path))
    return paths


# A cache that works


@spawns
def test_second_run_loads_what_the_first_compiled(engine: str, guests: Guests, own_cache: Path, spawn: Spawn) -> None:
    first = run(adds(guests, engine), spawn=spawn)
    assert first.good and (first.compiled, first.notices) == ([f"{engine} 0"], [])
    assert artifact(own_cache).name.startswith(engine)
    assert own_cache.stat().st_mode & 0o777 == 0o700
    second = run(adds(guests, engine), spawn=spawn)
    assert second.good and (second.compiled, second.notices) == ([], [])


def test_module_is_compiled_once_for_all_that_wait(engine: str, guests: Guests, own_cache: Path) -> None:
    seen = run(*(adds(guests, engine, number) for number in range(8)), concurrency=8)
    assert seen.good and seen.notices == []
    assert artifact(own_cache).exists()
    assert seen.record.tasks[0].attempts[0].worker != seen.record.tasks[1].attempts[0].worker


def test_each_engine_has_artifacts_of_its_own(guests: Guests, own_cache: Path) -> None:
    engines = [name for name, status in engine_status().items() if status.why_not is None]
    for _ in range(2):
        assert run(*(adds(guests, name) for name in engines)).good
    assert sorted(path.name.partition("-")[0] for path in own_cache.glob("*.artifact")) == sorted(engines)


def test_artifact_of_another_build_is_not_used(
    engine: str, guests: Guests, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(adds(guests, engine))
    with monkeypatch.context() as patch:
        patch.setattr("procstop.preflight.engine_build", lambda name: f"{name} of next year")
        second = run(adds(guests, engine))
        assert second.good and (second.compiled, second.notices) == ([f"{engine} 0"], [])
    assert len(list(own_cache.glob("*.artifact"))) == 2
    assert run(adds(guests, engine)).compiled == []


def test_artifact_of_another_build_that_took_this_ones_name_is_not_used(
    engine: str, guests: Guests, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(adds(guests, engine))
    right = artifact(own_cache)
    with monkeypatch.context() as patch:
        patch.setattr("procstop.preflight.engine_build", lambda name: f"{name} of next year")
        run(adds(guests, engine))
    (wrong,) = set(own_cache.glob("*.artifact")) - {right}
    wrong.rename(right)
    seen = run(adds(guests, engine))
    assert seen.good and len(seen.notices) == 1


def test_run_without_a_cache_touches_none(engine: str, guests: Guests, own_cache: Path, tmp_path: Path) -> None:
    for _ in range(2):
        seen = run(adds(guests, engine, 0), adds(guests, engine, 1), cache=False, concurrency=1)
        # It is compiled once all the same: for this run.
        assert seen.good and (seen.compiled, seen.notices) == ([f"{engine} 0"], [])
    assert not (tmp_path / "xdg").exists()


@spawns
def test_run_without_a_cache_does_not_read_one_that_is_there(
    engine: str, guests: Guests, own_cache: Path, spawn: Spawn
) -> None:
    run(adds(guests, engine))
    data = artifact(own_cache).read_bytes()
    artifact(own_cache).write_bytes(damage(Random(1), data))
    seen = run(adds(guests, engine), cache=False, spawn=spawn)
    assert seen.good and (len(seen.compiled), seen.notices) == (1, [])


def test_two_runs_at_once_share_a_cache_that_is_not_there_yet(engine: str, guests: Guests, own_cache: Path) -> None:
    watchers = [Watcher(), Watcher(), Watcher()]
    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(procstop.start(Job("test", [adds(guests, engine)]), observers=[watcher]))
            for watcher in watchers
        ]
        seen = [Seen.of(one.result(), watcher) for one, watcher in zip(runs, watchers)]
    assert all(one.good and one.notices == [] for one in seen)
    assert artifact(own_cache).exists()
    assert run(adds(guests, engine)).compiled == []


def test_compiler_that_is_killed_leaves_nothing_in_the_cache(engine: str, guests: Guests, own_cache: Path) -> None:
    def kill(event: object) -> None:
        if isinstance(event, AttemptCompiling):
            os.kill(event.pid, signal.SIGKILL)

    with contextlib.suppress(ProcessLookupError):
        record = procstop.run(Job("test", [adds(guests, engine)]), observers=[kill])
    assert record.tasks[0].outcome is Outcome.CRASHED
    assert {path.name for path in own_cache.iterdir()} <= {"secret", "lock"}
    assert run(adds(guests, engine)).good


# Artifacts that are wrong

Break = Callable[[Path], None]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _take_another(path: Path) -> None:
    secret = (path.parent / "secret").read_bytes()
    path.write_bytes(seal(secret, "another", {}, b"code") + b"code")


def _seal_with_another_secret(path: Path) -> None:
    path.write_bytes(seal(b"x" * 32, path.stem, {}, b"code") + b"code")


def _seal_noise(path: Path) -> None:
    # With the right secret: only the engine can tell that it is no code of its own.
    secret = (path.parent / "secret").read_bytes()
    path.write_bytes(seal(secret, path.stem, {}, b"no code at all") + b"no code at all")


def _give_away(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(path, FOREIGN, -1)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


BROKEN = {
    "a flipped bit": _flip,
    "cut off": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "something added": lambda path: os.truncate(path, path.stat().st_size + 1),
    "much too long": lambda path: os.truncate(path, 1 << 40),
    "zeros": _zero,
    "another artifact": _take_another,
    "another secret": _seal_with_another_secret,
    "noise with a seal": _seal_noise,
    "others may read it": lambda path: path.chmod(0o644),
    "another's": _give_away,
    "a link": _link,
    "a pipe": _make_pipe,
}


@spawns
@pytest.mark.parametrize("fault", BROKEN)
def test_artifact_that_is_wrong_is_made_anew(
    engine: str, guests: Guests, own_cache: Path, spawn: Spawn, fault: str
) -> None:
    if (engine, fault) == ("wasmer", "noise with a seal"):
        pytest.skip("wasmer loads what it is given: that is what the seal is for")
    run(adds(guests, engine))
    BROKEN[fault](artifact(own_cache))
    seen = run(*(adds(guests, engine, number) for number in range(3)), spawn=spawn, concurrency=1)
    assert seen.good
    (notice,) = seen.notices
    assert notice.startswith("returns.wasm: the artifact in the cache cannot be used (")
    # By then at the latest it is there again.
    run(adds(guests, engine), spawn=spawn)
    healed = run(adds(guests, engine), spawn=spawn)
    assert healed.good and (healed.compiled, healed.notices) == ([], [])


def test_directory_in_the_place_of_an_artifact_costs_the_cache_and_nothing_else(
    engine: str, guests: Guests, own_cache: Path
) -> None:
    run(adds(guests, engine))
    place = artifact(own_cache)
    place.unlink()
    place.mkdir()
    seen = run(*(adds(guests, engine, number) for number in range(3)))
    assert seen.good
    assert [text for text in seen.notices if "it is not a file" in text] == seen.notices[:1]


@spawns
def test_many_corrupt_artifacts_and_not_one_crash(
    guests: Guests, own_cache: Path, tmp_path: Path, spawn: Spawn
) -> None:
    random = Random(f"{spawn}")
    engines = [name for name, status in engine_status().items() if status.why_not is None]
    # Workers that are started anew take their time.
    each = 40 if spawn is Spawn.SERVER else 12
    modules = sameness(guests["returns"], tmp_path, each * len(engines))
    tasks = [adds(guests, engines[number // each], number, module) for number, module in enumerate(modules)]
    assert run(*tasks).good
    good = {path: path.read_bytes() for path in own_cache.glob("*.artifact")}
    assert len(good) == len(tasks)
    for _ in range(2):
        for path, data in good.items():
            bad = damage(random, data, random.choice(list(good.values())))
            path.touch(0o600)
            path.write_bytes(bad)
        seen = run(*tasks, spawn=spawn)
        assert seen.good
        assert len(seen.notices) == len({text.partition(":")[0] for text in seen.notices}) == len(tasks)


def test_artifact_that_is_changed_while_it_is_in_use_is_noticed(engine: str, guests: Guests, own_cache: Path) -> None:
    """The supervisor holds it open and hands it to one worker after another, each of which looks for itself."""
    random = Random(engine)
    run(adds(guests, engine))
    path = artifact(own_cache)
    data = path.read_bytes()

    def spoil(name: str) -> None:
        path.touch(0o600)
        path.write_bytes(damage(random, data) if random.random() < 0.6 else data)

    tasks = [adds(guests, engine, number) for number in range(25)]
    seen = supervise(Job("test", tasks, workers=Workers(spawn=Spawn.FRESH), concurrency=1), spoil)
    assert seen.good and seen.notices


# A cache that cannot be used


def _secret(change: Break) -> Break:
    return lambda cache: change(cache / "secret")


def _make_file(cache: Path) -> None:
    shutil.rmtree(cache)
    cache.write_text("")


def _lock_directory(cache: Path) -> None:
    (cache / "lock").unlink()
    (cache / "lock").mkdir()


UNUSABLE = {
    "open to its group": lambda cache: cache.chmod(0o750),
    "open to anybody": lambda cache: cache.chmod(0o707),
    "another's": _give_away,
    "a file": _make_file,
    "a secret that is too short": _secret(lambda path: os.truncate(path, 31)),
    "a secret that is empty": _secret(lambda path: os.truncate(path, 0)),
    "a secret that is too long": _secret(lambda path: os.truncate(path, 33)),
    "a secret that others may read": _secret(lambda path: path.chmod(0o604)),
    "a secret of another's": _secret(_give_away),
    "a secret that is a link": _secret(_link),
    "a secret that is a pipe": _secret(_make_pipe),
}


@pytest.mark.parametrize("fault", UNUSABLE)
def test_cache_that_cannot_be_used_is_done_without(engine: str, guests: Guests, own_cache: Path, fault: str) -> None:
    run(adds(guests, engine))
    UNUSABLE[fault](own_cache)
    before = sorted(own_cache.iterdir()) if own_cache.is_dir() else None
    tasks = [adds(guests, engine, number) for number in range(3)]
    seen = run(*tasks, concurrency=1)
    assert seen.good
    (notice,) = seen.notices
    assert notice.startswith("cache: ") and notice.endswith("; compiling without the cache")
    # Once for the run, not for each.
    assert seen.compiled == [f"{engine} 0"]
    assert (sorted(own_cache.iterdir()) if own_cache.is_dir() else None) == before


def test_lock_that_cannot_be_taken_costs_the_cache_for_this_run(engine: str, guests: Guests, own_cache: Path) -> None:
    run(adds(guests, engine))
    artifact(own_cache).unlink()
    _lock_directory(own_cache)
    seen = run(adds(guests, engine, 0), adds(guests, engine, 1), concurrency=1)
    assert seen.good and seen.compiled == [f"{engine} 0"]
    (notice,) = seen.notices
    assert "cannot lock" in notice and notice.endswith("; returns.wasm is kept for this run only")


def test_new_secret_makes_all_artifacts_of_the_old_one_useless_and_nothing_worse(
    engine: str, guests: Guests, own_cache: Path
) -> None:
    run(adds(guests, engine))
    (own_cache / "secret").unlink()
    seen = run(adds(guests, engine))
    assert seen.good and len(seen.notices) == 1
    run(adds(guests, engine))
    assert run(adds(guests, engine)).compiled == []


def test_home_that_is_not_there_is_no_trouble(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "no" / "home"))
    assert run(adds(guests, engine)).good
    second = run(adds(guests, engine))
    assert second.good and (second.compiled, second.notices) == ([], [])


def test_home_that_cannot_be_is_done_without(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    seen = run(adds(guests, engine))
    assert seen.good and len(seen.notices) == 1


def test_directory_whose_name_is_no_text_is_a_directory(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caf\udce9 \n"))
    assert run(adds(guests, engine)).good
    second = run(adds(guests, engine))
    assert second.good and (second.compiled, second.notices) == ([], [])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small disk that the cache is on."""
    with own_disk(tmp_path / "disk", "1m") as path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(path))
        yield path


@pytest.mark.parametrize("begun", [False, True], ids=["a new cache", "a cache with a secret"])
def test_full_disk_costs_the_cache_for_this_run(engine: str, guests: Guests, disk: Path, begun: bool) -> None:
    store = Cache(cache_directory())
    if begun:
        store.secret()
    fill(disk)
    seen = run(adds(guests, engine, 0), adds(guests, engine, 1), concurrency=1)
    assert seen.good and seen.compiled == [f"{engine} 0"]
    (notice,) = seen.notices
    assert notice.startswith("cache: cannot ") and "No space left on device" in notice
    assert store.entries() == []
    (disk / "filler").unlink()
    assert run(adds(guests, engine)).notices == []
    assert run(adds(guests, engine)).compiled == []


def test_artifact_on_a_disk_that_can_only_be_read_is_used(engine: str, guests: Guests, disk: Path) -> None:
    run(adds(guests, engine))
    with read_only(disk):
        seen = run(adds(guests, engine))
    assert seen.good and (seen.compiled, seen.notices) == ([], [])


@pytest.mark.parametrize("begun", [False, True], ids=["no cache", "a cache with a secret"])
def test_disk_that_can_only_be_read_costs_the_cache_for_this_run(
    engine: str, guests: Guests, disk: Path, begun: bool
) -> None:
    if begun:
        Cache(cache_directory()).secret()
    with read_only(disk):
        seen = run(adds(guests, engine, 0), adds(guests, engine, 1), concurrency=1)
    assert seen.good and seen.compiled == [f"{engine} 0"]
    (notice,) = seen.notices
    assert "Read-only file system" in notice


@spawns
def test_wrong_artifact_that_cannot_be_removed_is_told_of_once(
    engine: str, guests: Guests, disk: Path, spawn: Spawn
) -> None:
    run(adds(guests, engine))
    _flip(artifact(Path(cache_directory())))
    with read_only(disk):
        seen = run(*(adds(guests, engine, number) for number in range(4)), spawn=spawn, concurrency=1)
    assert seen.good and len(seen.compiled) == 1
    spoilt, kept = seen.notices
    assert "its digest does not match" in spoilt and kept.endswith("is kept for this run only")


# A cache that changes under a run


@spawns
def test_cache_that_is_removed_in_the_middle_of_a_run_is_not_missed(
    engine: str, guests: Guests, own_cache: Path, tmp_path: Path, spawn: Spawn
) -> None:
    modules = sameness(guests["returns"], tmp_path, 2)

    def remove(name: str) -> None:
        if name.endswith(" 2"):
            shutil.rmtree(own_cache)

    tasks = [adds(guests, engine, number, modules[number >= 3]) for number in range(6)]
    seen = supervise(Job("test", tasks, workers=Workers(spawn=spawn), concurrency=1), remove)
    assert seen.good
    # What was at hand goes on; what had to be compiled had no place to go.
    assert seen.compiled == [f"{engine} 0", f"{engine} 3"]
    (notice,) = seen.notices
    assert notice.startswith("cache: cannot lock") and notice.endswith("same1.wasm is kept for this run only")


def test_artifact_that_leaves_the_cache_at_once_is_used_all_the_same(
    engine: str, guests: Guests, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else clears the cache, or prunes it, whenever we are about to look."""
    open_it = Cache.open

    def remove_and_open(store: Cache, name: str) -> int | None:
        store.remove(name)
        return open_it(store, name)

    monkeypatch.setattr(Cache, "open", remove_and_open)
    seen = run(adds(guests, engine, 0), adds(guests, engine, 1), concurrency=1)
    assert seen.good, [one.attempts[0].message for one in seen.record.tasks]
