"""The child's entry point: host attempts, report each once, leave nothing.

Theory of operation. A worker is either started anew, as `python -I -S` with this module's `main`, or forked by a fork
server (`forkserver`), which has imported all this and loaded the module. It has these descriptors:

    0, 1, 2    the guest's standard streams, used by nobody else
    control    supervisor -> worker: interrupts; further attempts, where the worker may host some
    report     worker -> supervisor: guarded; ready, beats and one final report for each attempt
    lifeline   a socket that nobody writes to; its end means that the supervisor is gone (see `containment`)

and, until they are read, the start, the module and its artifact. The main thread puts on the guards, loads the engine
and the module, says `ready`, and runs the guest. One other thread, the listener (`channel`), waits on the control pipe
while a guest runs that can reach a stopping point.

This side imports the standard library and an engine, nothing else.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from procstop import containment, linux
from procstop.cache import SECRET_BYTES, read_whole
from procstop.engines import load
from procstop.messages import TOKEN, Order, cut_text
from procstop.messages.orders import Start, decode_start
from procstop.model import Outcome, Value
from procstop.records import Report
from procstop.worker.channel import Channel
from procstop.worker.children import kill_children
from procstop.worker.confine import Confiner
from procstop.worker.host import Host, spell
from procstop.worker.prepare import Prepared, prepare


def main() -> NoReturn:
    """Host attempts in a process of its own making; `containment.guard` was called before.

    The arguments are the descriptors of start, module, artifact (-1 for none), control, report and lifeline.
    """
    start_fd, module_fd, artifact_fd, control, report = map(int, sys.argv[1:6])
    secret, start = _take_start(start_fd)
    order = start.order
    sys.path.extend(path for path in order.sys_path if path not in sys.path)
    counter = linux.make_thread_counter() if order.hosts > 1 else lambda: None
    channel = Channel(start.attempt, control, report, count_threads=counter)
    channel.say_guarded()

    def make() -> Prepared:
        engine = load(order.engine)
        artifact = _take(artifact_fd) if artifact_fd >= 0 else None
        prepared = prepare(engine, _take(module_fd), order.module_digest, start.artifact, artifact, secret)
        # A guest that breaks out of its engine must not be able to seal artifacts for others.
        secret[:] = bytes(len(secret))
        if prepared.note is not None:
            # A compiler makes another one, with limits of its own; this worker has those of a guest.
            channel.say_guarded(prepared.note)
            os._exit(0)
        return prepared

    confiner = Confiner()
    confiner.begin(order)
    serve(order, start.args, channel, make, containment.make_peak_reader(), confiner)


def serve(
    order: Order,
    args: tuple[Value, ...],
    channel: Channel,
    make: Callable[[], Prepared],
    peak: Callable[[], int | None],
    confiner: Confiner,
) -> NoReturn:
    """Host the channel's attempt, with these arguments, and others as long as they come; then end this process.

    `make` prepares the module at first need; `peak` returns the most memory that this process had. Its life has begun
    to count.
    """
    host = Host(order, channel, make, peak, confiner)
    left = order.hosts
    while True:
        left -= 1
        os.environ[TOKEN] = channel.attempt
        try:
            report, clean = host.run(args)
        except BaseException as error:
            report = Report(Outcome.CRASHED, message=cut_text(f"the worker failed: {spell(error)}"))
            clean = False
        # A host function's files are buffered, and what it started goes on, until somebody sees to it.
        if host.has_functions:
            _flush_files()
            clean = not kill_children() and clean
        free = clean and left > 0 and channel.is_alone()
        channel.finish(report, free)
        following = channel.next() if free else None
        if following is None:
            break
        confiner.live(order)
        args = following.args
    if host.has_functions:
        # Those that were opened or started meanwhile, by a thread of a host module.
        _flush_files()
        kill_children()
    # Nothing that a host module registered or left running may hold the worker up.
    os._exit(0)


def _take_start(fd: int) -> tuple[bytearray, Start]:
    """Return the cache's secret, of which there is no other copy in this process, and the start."""
    secret = bytearray(SECRET_BYTES)
    os.preadv(fd, [secret], 0)
    start = decode_start(os.pread(fd, os.fstat(fd).st_size, SECRET_BYTES))
    os.close(fd)
    return secret, start


def _take(fd: int) -> bytes:
    data = read_whole(fd)
    os.close(fd)
    return data


def _flush_files() -> None:
    for thing in gc.get_objects():
        try:
            if isinstance(thing, io.IOBase) and not thing.closed:
                thing.flush()
        except Exception:
            # Full, closed by a thread meanwhile, or a proxy that says it is a file: the report is not held up.
            continue


if __name__ == "__main__":
    main()
