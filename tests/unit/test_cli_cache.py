"""`procstop cache`: what it shows of a cache and what it removes. Artifacts are stand-ins; nothing is compiled."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from procstop.cache import MAGIC, Cache, CacheError, Key, seal
from procstop.cli.app import app
from procstop.errors import JobFileError, ProcstopError

DAY = 86400
Put = Callable[..., str]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a cache of the test's own, not yet there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "procstop" / "artifacts"


@pytest.fixture
def put(directory: Path) -> Put:
    """Put an artifact of a size into the cache, used so many days ago."""
    cache = Cache(str(directory))
    secret = cache.secret()

    def put_one(label: Any, size: int = 100, days: float = 0, engine: Any = "wasmer") -> str:
        name = Key(str(label), "wasmer", "build").name
        about = {"label": label, "module": "ab" * 32, "engine": engine, "build": "wasmer 1.1.0"}
        cache.store(name, seal(secret, name, about, b""), b"x" * size)
        used = time.time() - days * DAY
        os.utime(cache.path_of(name), (used, used))
        return name

    return put_one


def cache(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["cache", *arguments])


def lines(*arguments: str) -> list[str]:
    result = cache(*arguments)
    assert result.exit_code == 0, result.exception
    return result.stdout.splitlines()


def refused(*arguments: str) -> ProcstopError:
    """Return what the command raised, which the program makes a message and exit code 2."""
    result = cache(*arguments)
    assert isinstance(result.exception, ProcstopError), result.exception
    return result.exception


def labels() -> list[str]:
    return [one["module"] for one in json.loads("\n".join(lines("list", "--json")))["artifacts"]]


def test_where_prints_the_directory_and_makes_nothing(directory: Path) -> None:
    assert lines("where") == [str(directory)]
    assert not directory.exists()


def test_empty_cache_is_said_to_be_empty(directory: Path) -> None:
    assert lines("list") == ["the cache is empty"]
    assert json.loads("\n".join(lines("list", "--json"))) == {
        "directory": str(directory),
        "bytes": 0,
        "artifacts": [],
    }
    assert not directory.exists()


def test_list_shows_the_last_used_first_and_the_sum(put: Put, directory: Path) -> None:
    put("old.wasm", 5000, days=3)
    name = put("new.wasm", 10, engine="wasmtime")
    head, first, second, total = lines("list")
    assert head.split() == ["module", "engine", "size", "last", "used", "key"]
    assert first.startswith("new.wasm  wasmtime") and first.endswith(f"  {name.partition('-')[2][:12]}")
    when = time.strftime("%Y-%m-%d", time.localtime(time.time() - 3 * DAY))
    assert second.startswith("old.wasm  wasmer") and when in second
    size = sum(path.stat().st_size for path in directory.glob("*.artifact"))
    assert total.startswith("2 modules, ") and total.endswith(f" ({size} bytes)")


def test_json_has_the_whole_key_and_where_the_file_is(put: Put, directory: Path) -> None:
    name = put("a.wasm")
    data = json.loads("\n".join(lines("list", "--json")))
    path = directory / f"{name}.artifact"
    (one,) = data["artifacts"]
    assert one.pop("used_at").endswith("Z")
    assert one == {
        "key": name,
        "module": "a.wasm",
        "sha256": "ab" * 32,
        "engine": "wasmer",
        "build": "wasmer 1.1.0",
        "bytes": path.stat().st_size,
        "path": str(path),
    }
    assert (data["directory"], data["bytes"]) == (str(directory), one["bytes"])


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("\x1b[2J\n\u202e", "\\x1b[2J\\n\\u202e"),
        ("\udcff", "\\xff"),
        (7, "?"),
        (None, "?"),
        ({"a": 1}, "?"),
        ("", "?"),
    ],
)
def test_head_is_shown_escaped_whatever_it_says(put: Put, label: Any, shown: str) -> None:
    put(label, engine=label)
    _, row, _ = lines("list")
    assert row.split()[:2] == [shown, shown]
    assert json.loads("\n".join(lines("list", "--json")))["artifacts"][0]["module"] in (label, "?", None)
    assert lines("clear")[0].startswith(f"removed {shown} ({shown}, ")


def test_long_name_is_cut(put: Put) -> None:
    put("x" * 10_000)
    assert max(map(len, lines("list"))) < 150


@pytest.mark.parametrize(
    "content", [b"", b"junk", MAGIC + b"\xff\xff\xff\xff", MAGIC + b"\0\0\0\4" + b"[1]]", MAGIC + b"\0\0\0\2{}"]
)
def test_file_that_is_no_artifact_is_shown_as_unknown(put: Put, directory: Path, content: bytes) -> None:
    (directory / "what-ever.artifact").write_bytes(content)
    os.utime(directory / "what-ever.artifact", (2**62, 2**62))
    _, row, _ = lines("list")
    assert row.split()[:2] == ["?", "?"] and row.endswith("ever")
    assert len(lines("clear")) == 2
    assert labels() == []


def test_prune_removes_what_was_not_used_for_so_long(put: Put) -> None:
    put("old.wasm", days=31)
    put("new.wasm", days=29)
    said = lines("prune", "--older-than", "30d")
    assert [line.split("(")[0] for line in said] == ["removed old.wasm ", said[-1]]
    assert said[-1].startswith("removed 1 module, ") and "; left 1 module, " in said[-1]
    assert labels() == ["new.wasm"]


def test_prune_removes_what_was_used_longest_ago_until_the_rest_fits(put: Put) -> None:
    for days in range(4):
        put(f"{days}.wasm", 10_000, days=days)
    lines("prune", "--max-size", "25kB")
    assert labels() == ["0.wasm", "1.wasm"]


def test_prune_takes_both(put: Put) -> None:
    for days in range(4):
        put(f"{days}.wasm", 10_000, days=days)
    lines("prune", "--max-size", "35kB", "--older-than", "36h")
    assert labels() == ["0.wasm", "1.wasm"]


def test_clear_removes_all_and_says_what(put: Put, directory: Path) -> None:
    for name in ("a.wasm", "b.wasm"):
        put(name)
    said = lines("clear")
    assert sorted(line.partition(" (")[0] for line in said[:2]) == ["removed a.wasm", "removed b.wasm"]
    assert said[2].endswith("; left 0 modules, 0 bytes")
    assert lines("clear") == ["removed 0 modules, 0 bytes; left 0 modules, 0 bytes"]
    # Those who run now still hold it.
    assert (directory / "secret").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "prune: say what to remove, as in --older-than 30d, --max-size 2GiB or both; "),
        (("--older-than", "30"), '--older-than: a duration needs a unit, got "30"; write "30d"'),
        (("--older-than", "1month"), '--older-than: not a duration, got "1month"'),
        (("--max-size", "2"), '--max-size: a size needs a unit, got "2"; write "2GiB"'),
        (("--max-size", "2G"), '--max-size: not a size, got "2G"; write "2GB"'),
        (("--max-size", "-1GiB"), "--max-size: a size cannot be negative"),
    ],
)
def test_prune_that_makes_no_sense_is_refused_and_removes_nothing(
    put: Put, arguments: tuple[str, ...], message: str
) -> None:
    put("a.wasm", days=1000)
    error = refused("prune", *arguments)
    assert isinstance(error, JobFileError) and str(error).startswith(message)
    assert labels() == ["a.wasm"]


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("clear",), ("prune", "--max-size", "1B")])
def test_directory_that_is_none_is_named(directory: Path, arguments: tuple[str, ...]) -> None:
    directory.parent.mkdir()
    directory.write_text("")
    error = refused(*arguments)
    assert isinstance(error, CacheError) and str(error) == f'cache: cannot read "{directory}": Not a directory'


def test_what_cannot_be_removed_is_named(put: Put, directory: Path) -> None:
    (directory / "x.artifact").mkdir()
    error = refused("clear")
    assert isinstance(error, CacheError)
    assert str(error) == f'cache: cannot remove "{directory}/x.artifact": Is a directory'


def test_directory_that_is_open_to_others_is_shown_with_a_notice_and_can_be_cleared(put: Put, directory: Path) -> None:
    put("a.wasm")
    directory.chmod(0o777)
    notice = f'notice: cache: "{directory}" is open to other users; chmod 700 it; runs do not use it\n'
    for arguments in (("list",), ("list", "--json"), ("prune", "--older-than", "1d"), ("clear",)):
        result = cache(*arguments)
        assert (result.exit_code, result.stderr) == (0, notice)
    assert not list(directory.glob("*.artifact"))
    directory.chmod(0o700)
    assert cache("list").stderr == ""
