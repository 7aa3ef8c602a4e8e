"""Task records by the hundred thousand, folded so small that a run does not grow with what is over. No I/O.

A supervisor puts each record in as its task ends, under the task's place in the job, and gives the whole to the
`RunRecord`, where it reads like the tuple that it stands for:

    tasks = FoldedTasks()
    tasks.put(place, record)                # as tasks end, in any order; `append` where the order is the job's
    RunRecord(..., tasks=tasks)             # once every place is taken

`BLOCK` places in a row are one block. A block is folded, which is pickled and compressed, once it is full, and sooner
when too much lies unfolded because tasks end far from the job's order. Reading goes block by block and keeps the last
one unfolded, so in order it is cheap. `count_ok` is free, and `not_ok` unfolds only blocks with something to tell.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator, Sequence
from typing import overload

from procstop.records import TaskRecord

BLOCK = 256
MOST_UNFOLDED = 2048
"""What may lie unfolded, counted in bare records of about 1 KiB; one with output counts for more."""

_OK, _NOT_OK = 1, 2
_Places = dict[int, TaskRecord]


class FoldedTasks(Sequence[TaskRecord]):
    """Records in the order of the job. It grows from one thread; once it is complete, any may read it."""

    def __init__(self) -> None:
        # What is known without unfolding, a byte for each place: 0 while nothing is there.
        self._marks = bytearray()
        self._count = 0
        self._folded: dict[int, tuple[bytes, ...]] = {}
        self._open: dict[int, _Places] = {}
        self._weights: dict[int, int] = {}
        self._weight = 0
        self._last: tuple[int, _Places] = (-1, {})

    def put(self, place: int, record: TaskRecord) -> None:
        """Put a record in the place that its task has in the job; each place is taken once."""
        marks = self._marks
        if place >= len(marks):
            marks.extend(bytes(place + 1 - len(marks)))
        if marks[place]:
            raise ValueError(f"place {place} is taken")
        marks[place] = _OK if record.ok else _NOT_OK
        self._count += 1
        number, weight = place // BLOCK, _weight(record)
        block = self._open.setdefault(number, {})
        block[place] = record
        self._weights[number] = self._weights.get(number, 0) + weight
        self._weight += weight
        if len(block) == BLOCK:
            self._fold(number)
        elif self._weight > MOST_UNFOLDED:
            self._fold(max(self._weights, key=self._weights.__getitem__))

    def append(self, record: TaskRecord) -> None:
        """Put a record behind all others."""
        self.put(len(self._marks), record)

    def count_ok(self) -> int:
        """Tell how many ended as expected, without unfolding any."""
        return self._marks.count(_OK)

    def not_ok(self) -> Iterator[TaskRecord]:
        """Give those that did not end as expected, in order."""
        place = self._marks.find(_NOT_OK)
        while place >= 0:
            yield self[place]
            place = self._marks.find(_NOT_OK, place + 1)

    def _fold(self, number: int) -> None:
        blob = zlib.compress(pickle.dumps(self._open.pop(number), pickle.HIGHEST_PROTOCOL), 1)
        self._folded[number] = (*self._folded.get(number, ()), blob)
        self._weight -= self._weights.pop(number)
        # A part of it may have been looked at.
        self._last = (-1, {})

    def _unfold(self, number: int) -> _Places:
        if number not in self._folded:
            return self._open.get(number, {})
        # Read once: another thread may be reading elsewhere.
        kept, block = self._last
        if kept != number or number in self._open:
            block = {}
            for blob in self._folded[number]:
                # Our own words, from our own memory: nobody else can have written them.
                block.update(pickle.loads(zlib.decompress(blob)))
            block.update(self._open.get(number, {}))
            self._last = (number, block)
        return block

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> TaskRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TaskRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> TaskRecord | tuple[TaskRecord, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self._marks))[index]
        try:
            return self._unfold(place // BLOCK)[place]
        except KeyError:
            raise IndexError(f"nothing is in place {place} yet") from None

    def __iter__(self) -> Iterator[TaskRecord]:
        for number in range(-(-len(self._marks) // BLOCK)):
            block = self._unfold(number)
            yield from [block[place] for place in sorted(block)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (FoldedTasks, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        # Equal to a tuple, so alike in this too. Nobody hashes a long one.
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self)) if len(self) <= BLOCK else f"<{len(self):,} task records>"


def count_ok(tasks: Sequence[TaskRecord]) -> int:
    """Tell how many tasks ended as expected."""
    return tasks.count_ok() if isinstance(tasks, FoldedTasks) else sum(task.ok for task in tasks)


def not_ok(tasks: Sequence[TaskRecord]) -> Iterator[TaskRecord]:
    """Give the tasks that did not end as expected, in order."""
    return tasks.not_ok() if isinstance(tasks, FoldedTasks) else (task for task in tasks if not task.ok)


def _weight(record: TaskRecord) -> int:
    """How much memory a record takes, in bare records."""
    weight = 1
    for attempt in record.attempts:
        weight += (len(attempt.stdout.tail) + len(attempt.stderr.tail)) >> 10
    return weight
