"""Settled paths: where they led when they were settled, and no link that was laid since."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from procstop.settled import open_settled, settle


def content(path: str) -> bytes:
    fd = open_settled(path, os.O_RDONLY)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def test_links_that_are_there_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("content")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "other").symlink_to("file")
    settled = settle(tmp_path / "link" / ".." / "link" / "other")
    assert settled == str(tmp_path.resolve() / "real" / "file")
    (tmp_path / "link").unlink()
    assert content(settled) == b"content"


@pytest.mark.parametrize("path", ["", "a", "a/b", "a/b/file"])
def test_link_that_is_laid_later_is_not_followed(tmp_path: Path, path: str) -> None:
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    (tmp_path / "top" / "a" / "b" / "file").write_text("content")
    settled = settle(tmp_path / "top" / "a" / "b" / "file")
    place = tmp_path / "top" / path
    os.rename(place, tmp_path / "aside")
    place.symlink_to(tmp_path / "aside")
    with pytest.raises(OSError, match="a symbolic link was laid there during the run") as caught:
        content(settled)
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, settled)


def test_what_is_not_there_yet_may_come(tmp_path: Path) -> None:
    settled = settle(tmp_path / "new" / "file")
    with pytest.raises(FileNotFoundError) as caught:
        content(settled)
    assert caught.value.filename == settled
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_text("content")
    assert content(settled) == b"content"


def test_names_of_what_is_open_stay_as_they_are(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        os.write(write, b"content")
        os.close(write)
        assert content(settle(f"/dev/fd/{read}")) == b"content"
    finally:
        os.close(read)


def test_the_root_can_be_opened() -> None:
    fd = open_settled(settle("/"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.path.samestat(os.fstat(fd), os.stat("/"))
    finally:
        os.close(fd)
