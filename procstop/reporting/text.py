"""Text that may reach a terminal: nothing that a guest or a file name holds can steer it.

Guests, their messages, task names and paths are all untrusted: one escape sequence among them could clear the
screen, set the clipboard or hide what really happened. Everything passes `printable` on its way out.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

MAX_LINE = 4096
"""Characters after which a line of guest output is cut into pieces."""

# C0, DEL and C1 steer terminals; the bidi marks and overrides reorder what a person reads; U+2028 and
# U+2029 break lines in some viewers; a lone surrogate cannot be written as UTF-8 at all.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NEWLINE = re.compile("\r\n|\r|\n")


def printable(text: bytes | str, keep: str = "") -> str:
    r"""Make a text safe to show: control and bidi characters become escapes like \x1b.

    Bytes are read as UTF-8, with U+FFFD for what is not. `keep` may name "\n" and "\t", to leave them as
    they are; other characters in it are escaped all the same.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    kept = {"\n", "\t"} & set(keep)
    return _UNSAFE.sub(lambda match: match[0] if match[0] in kept else _escape(match[0]), text)


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        # A byte of a file name that is not UTF-8, as Python carries it: show the byte.
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def one_line(text: bytes | str, most: int = 200) -> str:
    """Make a text safe and fit for one line: lines are joined by " / ", and a long one is cut."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    # Cut before the work, for a message may be long; escapes can only make it longer.
    lines = (line.strip() for line in _NEWLINE.split(text[: most * 4]))
    joined = printable(" / ".join(line for line in lines if line))
    if len(joined) <= most and len(text) <= most * 4:
        return joined
    return joined[: most - 3].rstrip() + "..."


def last_lines(data: bytes, count: int, width: int = 400) -> list[str]:
    """Give the last lines of a guest's output, safe to show, each cut to `width` characters."""
    lines = _NEWLINE.split(data.decode("utf-8", errors="replace").rstrip())
    shown = [printable(line[:width], keep="\t") + ("..." if len(line) > width else "") for line in lines]
    return shown[-count:] if any(shown) else []


@dataclass
class _Stream:
    """What is known of a line that has not ended yet."""

    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )
    pending: str = ""
    after_return: bool = False


class LineCutter:
    r"""Cut the bytes of many streams into whole lines that are safe to show.

    "\n", "\r\n" and a lone "\r" end a line. A line over `MAX_LINE` characters comes in pieces, so that what
    is held back stays small whatever a guest writes. Chunks may split a character or a "\r\n" anywhere.
    """

    def __init__(self) -> None:
        self._streams: dict[str, dict[str, _Stream]] = {}

    def feed(self, task: str, stream: str, data: bytes) -> list[str]:
        """Take a chunk; return the lines that it ended."""
        streams = self._streams.setdefault(task, {})
        state = streams.get(stream) or streams.setdefault(stream, _Stream())
        return _cut(state, state.decoder.decode(data))

    def flush(self, task: str) -> list[tuple[str, str]]:
        """End the streams of a task; return (stream, line) for each that ended without a newline."""
        rest: list[tuple[str, str]] = []
        for stream, state in self._streams.pop(task, {}).items():
            lines = _cut(state, state.decoder.decode(b"", final=True))
            if state.pending:
                lines.append(printable(state.pending, keep="\t"))
            rest.extend((stream, line) for line in lines)
        return rest


def _cut(state: _Stream, text: str) -> list[str]:
    if state.after_return and text:
        # The "\r" that ended the last chunk ended its line already.
        text = text.removeprefix("\n")
        state.after_return = False
    if not text:
        return []
    state.after_return = text.endswith("\r")
    *whole, state.pending = _NEWLINE.split(state.pending + text)
    lines = [line[at : at + MAX_LINE] for line in whole for at in range(0, len(line) or 1, MAX_LINE)]
    while len(state.pending) >= MAX_LINE:
        lines.append(state.pending[:MAX_LINE])
        state.pending = state.pending[MAX_LINE:]
    return [printable(line, keep="\t") for line in lines]
