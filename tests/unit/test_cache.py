"""Artifacts on disk: nothing but what was stored gets out, and nobody but the user can have stored it."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop import cache
from procstop.cache import MAGIC, SECRET_BYTES, BadArtifact, Cache, CacheError, Entry, Key, read_whole, seal, unseal
from procstop.places import cache_directory
from support.damage import damage

SECRET = bytes(range(SECRET_BYTES))
NAME = "wasmer-0123456789abcdef"
secrets = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
abouts = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.none(), max_size=4)
artifacts = st.binary(max_size=300)
FOREIGN = 12345
"""A user who is not the one that runs the tests."""


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    """A cache that is ready, with one artifact in it."""
    made = Cache(str(tmp_path / "cache"))
    put(made, NAME)
    return made


def put(store: Cache, name: str, artifact: bytes = b"machine code", used_at: float | None = None) -> str:
    """Store an artifact under the cache's own secret; return its path."""
    store.store(name, seal(store.secret(), name, {"label": name}, artifact), artifact)
    if used_at is not None:
        os.utime(store.path_of(name), (used_at, used_at))
    return store.path_of(name)


def get(store: Cache, name: str = NAME) -> bytes | None:
    """Load an artifact as a worker does."""
    fd = store.open(name)
    if fd is None:
        return None
    try:
        return bytes(unseal(store.secret(), name, read_whole(fd)))
    finally:
        os.close(fd)


def names(store: Cache) -> list[str]:
    """Return all names in the directory."""
    return sorted(os.listdir(store.directory))


def clear(store: Cache) -> list[Entry]:
    """Remove all, as the command does."""
    return store.prune(max_size=-1)


def mode(path: str) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(os.stat(path).st_mode)


# Seals


@given(secrets, st.text(max_size=50), abouts, artifacts)
def test_what_was_sealed_is_unsealed(secret: bytes, name: str, about: dict[str, object], artifact: bytes) -> None:
    assert bytes(unseal(secret, name, seal(secret, name, about, artifact) + artifact)) == artifact


@given(secrets, abouts, artifacts, st.data())
def test_change_of_any_byte_is_noticed(
    secret: bytes, about: dict[str, object], artifact: bytes, draw: st.DataObject
) -> None:
    data = seal(secret, NAME, about, artifact) + artifact
    at = draw.draw(st.integers(0, len(data) - 1))
    by = draw.draw(st.integers(1, 255))
    with pytest.raises(BadArtifact):
        unseal(secret, NAME, data[:at] + bytes([data[at] ^ by]) + data[at + 1 :])


@given(abouts, artifacts, st.data())
def test_missing_byte_is_noticed_wherever_it_was(
    about: dict[str, object], artifact: bytes, draw: st.DataObject
) -> None:
    data = seal(SECRET, NAME, about, artifact) + artifact
    at = draw.draw(st.integers(0, len(data) - 1))
    until = draw.draw(st.integers(at + 1, len(data)))
    with pytest.raises(BadArtifact):
        unseal(SECRET, NAME, data[:at] + data[until:])


@given(abouts, artifacts, st.binary(min_size=1, max_size=50), st.data())
def test_added_byte_is_noticed_wherever_it_is(
    about: dict[str, object], artifact: bytes, added: bytes, draw: st.DataObject
) -> None:
    data = seal(SECRET, NAME, about, artifact) + artifact
    at = draw.draw(st.integers(0, len(data)))
    with pytest.raises(BadArtifact):
        unseal(SECRET, NAME, data[:at] + added + data[at:])


@given(st.text(max_size=20), st.text(max_size=20), secrets, secrets, artifacts)
def test_seal_holds_for_its_own_name_and_secret_only(
    name: str, other: str, secret: bytes, foreign: bytes, artifact: bytes
) -> None:
    data = seal(secret, name, {}, artifact) + artifact
    if name != other:
        with pytest.raises(BadArtifact):
            unseal(secret, other, data)
    if secret != foreign:
        with pytest.raises(BadArtifact):
            unseal(foreign, name, data)


@given(st.binary(max_size=200), st.booleans())
def test_noise_is_no_artifact(noise: bytes, begins_well: bool) -> None:
    with pytest.raises(BadArtifact):
        unseal(SECRET, NAME, (MAGIC if begins_well else b"") + noise)


def test_byte_cannot_move_from_one_part_to_another() -> None:
    """The parts are not only strung together: head, seal and artifact begin where the lengths say."""
    artifact = b"0123456789"
    data = seal(SECRET, NAME, {}, artifact) + artifact
    at = len(MAGIC)
    for head, body in ((3, 9), (1, 11), (0, 12), (2**32 - 1, 10), (2, 2**64 - 1)):
        lengths = head.to_bytes(4, "big") + body.to_bytes(8, "big")
        with pytest.raises(BadArtifact):
            unseal(SECRET, NAME, data[:at] + lengths + data[at + 12 :])


def test_two_thousand_random_corruptions_of_an_artifact_are_refused() -> None:
    random = Random(2000)
    # As large and as full of zeros as compiled code is.
    artifact = b"".join(random.randbytes(200) + bytes(300) for _ in range(80))
    other_artifact = random.randbytes(40_000)
    data = seal(SECRET, NAME, {"label": "one.wasm"}, artifact) + artifact
    other = seal(SECRET, "another", {"label": "two.wasm"}, other_artifact) + other_artifact
    for _ in range(2000):
        bad = damage(random, data, other)
        with pytest.raises(BadArtifact):
            unseal(SECRET, NAME, bad)
    assert unseal(SECRET, NAME, data) == artifact


def test_key_has_another_name_for_every_part_that_differs() -> None:
    keys = [
        Key("aa", "wasmer", "v1"),
        Key("ab", "wasmer", "v1"),
        Key("aa", "wasmtime", "v1"),
        Key("aa", "wasmer", "v2"),
    ]
    # What one part loses the next one does not make up for.
    keys += [Key("aav", "wasmer", "1"), Key("aa', 'wasmer", "x", "v1"), Key("aa", "wasmer', 'x", "v1")]
    assert len({key.name for key in keys}) == len(keys)
    assert Key("aa", "wasmer", "v1").name == keys[0].name


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_keys_are_alike_only_if_all_their_parts_are(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (Key(*one).name == Key(*other).name) == (one == other)


def test_key_of_an_engine_makes_a_plain_file_name() -> None:
    assert re.fullmatch(r"wasmtime-[0-9a-f]{40}", Key("aa", "wasmtime", "any / thing\0").name)


# Storing and finding


def test_what_was_stored_is_found(store: Cache) -> None:
    assert get(store) == b"machine code"
    assert get(store, "another") is None
    put(store, NAME, b"newer")
    assert get(store) == b"newer"
    assert names(store) == ["secret", f"{NAME}.artifact"]


def test_making_a_cache_touches_nothing(tmp_path: Path) -> None:
    nowhere = Cache(str(tmp_path / "no" / "where"))
    assert nowhere.open(NAME) is None and nowhere.entries() == [] and nowhere.prune(0, 0) == []
    nowhere.remove(NAME)
    assert list(tmp_path.iterdir()) == []


def test_artifact_of_another_name_does_not_stand_in(store: Cache) -> None:
    os.rename(store.path_of(NAME), store.path_of("other"))
    with pytest.raises(BadArtifact, match="digest"):
        get(store, "other")


def test_open_file_goes_on_when_another_takes_its_place(store: Cache) -> None:
    fd = store.open(NAME)
    assert fd is not None
    put(store, NAME, b"newer")
    store.remove(NAME)
    assert unseal(store.secret(), NAME, read_whole(fd)) == b"machine code"
    os.close(fd)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277, 0o777], ids=oct)
@pytest.mark.parametrize("unnamed", [True, False], ids=["O_TMPFILE", "without O_TMPFILE"])
def test_only_the_user_can_read_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int, unnamed: bool
) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    store = Cache(str(tmp_path / "cache"))
    before = os.umask(umask)
    try:
        path = put(store, NAME)
        with store.lock(NAME):
            pass
    finally:
        os.umask(before)
    assert mode(store.directory) == 0o700
    for name in (path, "secret", "lock"):
        assert mode(os.path.join(store.directory, name)) == 0o600
    assert get(store) == b"machine code"


@pytest.mark.parametrize("unnamed", [True, False], ids=["O_TMPFILE", "without O_TMPFILE"])
def test_store_that_fails_leaves_the_old_artifact_and_no_file(
    store: Cache, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    head = seal(store.secret(), NAME, {}, b"newer")
    for call in ("write", "fsync", "rename"):

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(CacheError, match="No space left"):
                store.store(NAME, head, b"newer")
        assert get(store) == b"machine code"
        assert names(store) == ["secret", f"{NAME}.artifact"]


def test_using_an_artifact_keeps_it_young(store: Cache) -> None:
    os.utime(store.path_of(NAME), (1000, 1000))
    get(store)
    assert store.prune(older_than_s=60) == []


# The secret


def test_secret_is_made_once_and_differs_between_caches(tmp_path: Path) -> None:
    one, other = Cache(str(tmp_path / "one")), Cache(str(tmp_path / "other"))
    assert one.secret() == one.secret() == Cache(one.directory).secret() != other.secret()
    assert len(one.secret()) == SECRET_BYTES


@pytest.mark.parametrize("unnamed", [True, False], ids=["O_TMPFILE", "without O_TMPFILE"])
def test_secret_of_whoever_was_first_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    store = Cache(str(tmp_path / "cache"))
    first = store.secret()
    # As for one that looked just before the first one made it.
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert store.secret() == first
    assert names(store) == ["secret"]


@pytest.mark.parametrize("size", [0, 1, SECRET_BYTES - 1, SECRET_BYTES + 1, 100_000])
def test_secret_of_a_wrong_size_is_refused(store: Cache, size: int) -> None:
    Path(store.directory, "secret").write_bytes(b"x" * size)
    with pytest.raises(CacheError, match=r'"[^"]*secret" is not a secret of 32 bytes; remove it'):
        store.secret()


# Whom the files belong to

Break = Callable[[Path], None]


def _link_elsewhere(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def _make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _give_away(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(path, FOREIGN, -1)


NOT_OURS = [
    pytest.param(lambda path: path.chmod(0o640), "open to other users", id="its group may read it"),
    pytest.param(lambda path: path.chmod(0o602), "open to other users", id="anybody may write it"),
    pytest.param(_give_away, f"belongs to another user \\(uid {FOREIGN}\\)", id="another's"),
    pytest.param(_link_elsewhere, "symbolic link", id="a link"),
    pytest.param(_link_to_nothing, "symbolic link", id="a link to nothing"),
    pytest.param(_make_directory, "not a file", id="a directory"),
    pytest.param(_make_pipe, "not a file", id="a pipe"),
]


@pytest.mark.parametrize(("spoil", "why"), NOT_OURS)
def test_artifact_that_others_could_have_written_is_not_opened(store: Cache, spoil: Break, why: str) -> None:
    spoil(Path(store.path_of(NAME)))
    with pytest.raises(BadArtifact, match=why):
        store.open(NAME)


@pytest.mark.parametrize(("spoil", "why"), NOT_OURS)
def test_secret_that_others_could_have_written_is_refused(store: Cache, spoil: Break, why: str) -> None:
    spoil(Path(store.directory, "secret"))
    with pytest.raises(CacheError, match=why):
        store.secret()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.chmod(0o750), "is open to other users; chmod 700 it"),
        (lambda path: path.chmod(0o701), "is open to other users; chmod 700 it"),
        (_give_away, f"belongs to another user \\(uid {FOREIGN}\\)"),
    ],
    ids=["its group", "anybody", "another's"],
)
def test_directory_that_others_could_use_is_refused(store: Cache, spoil: Break, why: str) -> None:
    spoil(Path(store.directory))
    with pytest.raises(CacheError, match=why):
        store.secret()


def test_directory_may_be_a_link_to_one_of_the_users_own(store: Cache, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.directory)
    linked = Cache(str(tmp_path / "link"))
    assert get(linked) == b"machine code"
    os.chmod(store.directory, 0o755)
    with pytest.raises(CacheError, match="open to other users"):
        linked.secret()


def _a_file(path: Path) -> Path:
    path.write_text("")
    return path


def _link_that_leads_nowhere(path: Path) -> Path:
    path.symlink_to(path.with_name("nowhere"))
    return path


@pytest.mark.parametrize(
    "make",
    [_a_file, lambda path: _a_file(path) / "below", _link_that_leads_nowhere, lambda path: path / ("x" * 300)],
    ids=["a file", "below a file", "a link that leads nowhere", "a name that is too long"],
)
def test_what_is_no_directory_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    place = make(tmp_path / "place")
    store = Cache(str(place))
    with pytest.raises(CacheError, match=str(tmp_path)):
        store.secret()
    with pytest.raises(CacheError, match=str(tmp_path)):
        store.store(NAME, b"head", b"artifact")
    with pytest.raises(CacheError, match=str(tmp_path)), store.lock(NAME):
        pass
    assert store.open(NAME) is None


def test_home_that_is_not_there_yet_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "no" / "home"))
    directory = cache_directory()
    assert directory.startswith(str(tmp_path))
    store = Cache(directory)
    put(store, NAME)
    assert get(store) == b"machine code"
    assert mode(directory) == 0o700


def test_directory_that_left_meanwhile_is_an_error_and_nothing_else(store: Cache) -> None:
    clear(store)
    os.unlink(os.path.join(store.directory, "secret"))
    os.rmdir(store.directory)
    with pytest.raises(CacheError, match="cannot write"):
        store.store(NAME, b"head", b"artifact")
    with pytest.raises(CacheError, match="cannot lock"), store.lock(NAME):
        pass


# Size


def test_file_that_is_too_long_is_refused_before_it_is_read(store: Cache) -> None:
    # Read as a whole, this would be the end of whoever reads it.
    os.truncate(store.path_of(NAME), 1 << 40)
    with pytest.raises(BadArtifact, match="something was added to it"):
        store.open(NAME)


@pytest.mark.parametrize("size", [0, 1, len(MAGIC), len(MAGIC) + 11, len(MAGIC) + 12, 60])
def test_file_that_is_too_short_is_refused_before_it_is_read(store: Cache, size: int) -> None:
    os.truncate(store.path_of(NAME), size)
    with pytest.raises(BadArtifact, match="it is empty" if size == 0 else "cut off|not an artifact"):
        store.open(NAME)


# Listing and pruning


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Cache]:
    """A cache of five artifacts of some size, e used last and a first."""
    store = Cache(str(tmp_path / "five"))
    for number, name in enumerate("abcde"):
        put(store, name, bytes(10_000), used_at=1_000_000 + number)
    yield store


def test_entries_come_last_used_first_and_say_what_they_are(five: Cache) -> None:
    entries = five.entries()
    assert [entry.name for entry in entries] == list("edcba")
    assert [entry.about for entry in entries] == [{"label": name} for name in "edcba"]
    assert all(entry.size == os.path.getsize(entry.path) and entry.size > 10_000 for entry in entries)


def test_prune_removes_what_was_not_used_for_long(five: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.time, "time", lambda: 1_000_010.0)
    assert [entry.name for entry in five.prune(older_than_s=7.5)] == ["c", "b", "a"]
    assert [entry.name for entry in five.entries()] == ["e", "d"]


def test_prune_keeps_what_was_used_last_and_fits(five: Cache) -> None:
    size = five.entries()[0].size
    assert [entry.name for entry in five.prune(max_size=3 * size)] == ["b", "a"]
    assert [entry.name for entry in five.prune(max_size=3 * size - 1)] == ["c"]
    assert [entry.name for entry in five.prune(max_size=size)] == ["d"]
    assert [entry.name for entry in five.prune(max_size=size - 1)] == ["e"]


def test_prune_by_age_and_size_together_counts_only_what_stays(five: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.time, "time", lambda: 1_000_010.0)
    os.utime(five.path_of("e"), (1_000, 1_000))
    size = five.entries()[0].size
    assert [entry.name for entry in five.prune(older_than_s=100, max_size=3 * size)] == ["a", "e"]


def test_prune_without_a_bound_removes_nothing(five: Cache) -> None:
    assert five.prune() == [] and len(five.entries()) == 5


def test_clear_removes_all_artifacts_and_keeps_the_secret(five: Cache) -> None:
    secret = five.secret()
    assert [entry.name for entry in clear(five)] == list("edcba")
    assert (five.entries(), five.secret(), names(five)) == ([], secret, ["secret"])


def test_prune_removes_temporary_files_that_belong_to_nobody(five: Cache) -> None:
    old, new = Path(five.directory, ".new-1-aa"), Path(five.directory, ".new-2-bb")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    five.prune()
    assert not old.exists() and new.exists()
    assert len(five.entries()) == 5


@pytest.mark.parametrize("act", [lambda store: store.prune(max_size=0), clear], ids=["prune", "clear"])
def test_removing_what_somebody_else_removes_too_is_no_error(
    five: Cache, monkeypatch: pytest.MonkeyPatch, act: Callable[[Cache], list[object]]
) -> None:
    unlink = os.unlink

    def unlink_twice(path: str) -> None:
        unlink(path)
        if path.endswith("c.artifact"):
            unlink(path)

    monkeypatch.setattr(os, "unlink", unlink_twice)
    assert len(act(five)) == 4
    assert five.entries() == []


def test_prune_that_may_not_remove_says_so(five: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(CacheError, match=r'cannot remove ".*\.artifact": Read-only file system'):
        clear(five)


HEADS = {
    "nothing": b"",
    "noise": bytes(range(256)),
    "another magic": b"#!/bin/sh\necho yes\n",
    "magic alone": MAGIC,
    "a huge length": MAGIC + b"\xff" * 12,
    "a length beyond its end": MAGIC + (60_000).to_bytes(4, "big") + bytes(8) + b"{",
    "no JSON": MAGIC + (4).to_bytes(4, "big") + bytes(8) + b"nope",
    "no UTF-8": MAGIC + (4).to_bytes(4, "big") + bytes(8) + b"\xff\xfe\xfd\xfc",
    "deep JSON": MAGIC + (60_000).to_bytes(4, "big") + bytes(8) + b"[" * 60_000,
    "a huge number": MAGIC + (60_000).to_bytes(4, "big") + bytes(8) + b"9" * 60_000,
    "a list": MAGIC + (2).to_bytes(4, "big") + bytes(8) + b"[]",
    "a text": MAGIC + (2).to_bytes(4, "big") + bytes(8) + b'""',
}


def test_listing_survives_every_head(store: Cache) -> None:
    for name, head in HEADS.items():
        Path(store.path_of(name)).write_bytes(head)
    found = {entry.name: entry.about for entry in store.entries()}
    assert found == {NAME: {"label": NAME}, **{name: {} for name in HEADS}}
    assert len(clear(store)) == len(HEADS) + 1


def test_listing_gives_what_a_head_says_and_vouches_for_nothing(store: Cache) -> None:
    said = {"label": "\x1b[2J\udc80", "made_at": "yesterday", "compile_s": {}, "more": [None]}
    head = json.dumps(said).encode()
    Path(store.path_of("odd")).write_bytes(MAGIC + len(head).to_bytes(4, "big") + bytes(8) + head)
    assert {entry.name: entry.about for entry in store.entries()}["odd"] == said


def test_listing_survives_names_that_are_no_text_and_files_of_others(store: Cache) -> None:
    directory = os.fsencode(store.directory)
    with open(directory + b"/\xff\xfe\n\x1b.artifact", "wb") as file:
        file.write(b"x")
    for name in ("notes.txt", ".hidden", "artifact", "lock"):
        Path(store.directory, name).write_text("mine")
    os.symlink("/etc/passwd", store.path_of("link"))
    os.mkfifo(store.path_of("pipe"))
    os.mkdir(store.path_of("directory"))
    found = {entry.name: entry.about for entry in store.entries()}
    assert found == {NAME: {"label": NAME}, "\udcff\udcfe\n\x1b": {}, "link": {}, "pipe": {}, "directory": {}}
    # What cannot be removed does not keep the rest.
    with pytest.raises(CacheError, match=r'directory\.artifact": Is a directory'):
        clear(store)
    assert os.path.exists("/etc/passwd")
    assert names(store) == sorted([".hidden", "artifact", "directory.artifact", "lock", "notes.txt", "secret"])


def test_listing_says_where_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r'cannot read ".*file": Not a directory'):
        Cache(str(tmp_path / "file")).entries()


def test_empty_directory_lists_nothing(tmp_path: Path) -> None:
    assert Cache(str(tmp_path)).entries() == []
