"""`each`: one task per file that matches a glob, with its tokens replaced.

{path} is the file as it matched, relative to the job file's folder, {name} its last part and {stem} that
without the extension. They are replaced in args, stdin and dirs, in one pass: braces in a file's name stay.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from typing import Any

from procstop.jobfile.values import TOKEN
from procstop.jobfile.wording import closest, is_one_line, key_path, listed, quoted, show

TOKENS = ("path", "name", "stem")
REPLACED_IN = ("args", "stdin", "dirs")


def matches(pattern: str, folder: str) -> list[str]:
    """The files that match, sorted; raise ValueError with a sentence when there are none to use."""
    found = glob.glob(pattern, root_dir=folder, recursive=True)
    # A pattern such as "**/**" finds a file more than once.
    files = sorted({path for path in found if os.path.isfile(os.path.join(folder, path))})
    if not files:
        hint = "; only directories do" if found else ""
        raise ValueError(f"no file matches {quoted(pattern)}{hint}")
    for path in files:
        if not is_one_line(path):
            raise ValueError(f"matches {quoted(path)}, a name that reports cannot show; rename the file")
    return files


def tokens_of(path: str) -> dict[str, str]:
    """What the tokens stand for when `path` is the file that matched."""
    name = os.path.basename(path)
    return {"path": path, "name": name, "stem": os.path.splitext(name)[0]}


def replace(value: Any, tokens: Mapping[str, str]) -> Any:
    """Replace the tokens in a text, or in all texts of a list or table, keys included."""
    if isinstance(value, str):
        return TOKEN.sub(lambda found: tokens.get(found[1], found[0]), value)
    if isinstance(value, list):
        return [replace(item, tokens) for item in value]
    if isinstance(value, dict):
        return {replace(key, tokens): replace(item, tokens) for key, item in value.items()}
    return value


def token_problems(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and sentence for every token of an `each` entry that nothing would replace."""
    for key, value in raw.items():
        if key == "each":
            continue
        for place, text in _texts(value, (key,)):
            for found in TOKEN.finditer(text):
                token = found[1]
                if key in REPLACED_IN and token not in TOKENS:
                    yield key_path(place), _unknown_token(found[0], token)
                elif key not in REPLACED_IN and token in TOKENS:
                    yield (
                        key_path(place),
                        f"{found[0]} is replaced in args, stdin and dirs only, got {show(text)}",
                    )


def _unknown_token(written: str, token: str) -> str:
    guess = closest(token, TOKENS)
    if guess is not None:
        return f"unknown token {quoted(written)}; did you mean {quoted('{' + guess + '}')}?"
    return f"unknown token {quoted(written)}; there are {listed(['{' + name + '}' for name in TOKENS], 'and')}"


def _texts(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every text in a value, keys included, with its place. Not recursive: the value is not checked yet."""
    waiting = [(place, value)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, list):
            waiting += [((*place, index), item) for index, item in enumerate(value)][::-1]
        elif isinstance(value, dict):
            for key, item in reversed(value.items()):
                waiting += [((*place, key), item), ((*place, key), key)]
