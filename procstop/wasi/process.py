"""Arguments, environment, clocks, random bytes, exit, and the sockets that there are none of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from procstop.wasi import abi
from procstop.wasi.memory import strings, view
from procstop.wasi.state import State

_RANDOM_CHUNK: Final = 1 << 18
# How much random data is made between two stopping points.
_RANDOM_STRIDE: Final = 1 << 24

# How to read a clock, and its resolution in seconds.
_CLOCKS: Final[dict[int, tuple[Callable[[], int], float]]] = {
    abi.REALTIME: (time.time_ns, time.get_clock_info("time").resolution),
    abi.MONOTONIC: (time.monotonic_ns, time.get_clock_info("monotonic").resolution),
    abi.PROCESS_CPU: (time.process_time_ns, time.get_clock_info("process_time").resolution),
    abi.THREAD_CPU: (time.thread_time_ns, time.get_clock_info("thread_time").resolution),
}


class Process(State):
    """The functions that need no file."""

    def args_get(self, pointers: int, buffer: int) -> int:
        strings(self.host.memory(), self.args, pointers, buffer)
        return abi.SUCCESS

    def args_sizes_get(self, count: int, size: int) -> int:
        return self._sizes(self.args, count, size)

    def environ_get(self, pointers: int, buffer: int) -> int:
        strings(self.host.memory(), self.environ, pointers, buffer)
        return abi.SUCCESS

    def environ_sizes_get(self, count: int, size: int) -> int:
        return self._sizes(self.environ, count, size)

    def _sizes(self, items: list[bytes], count: int, size: int) -> int:
        memory = self.host.memory()
        abi.u32.pack_into(memory, count, len(items))
        abi.u32.pack_into(memory, size, sum(map(len, items)) + len(items))
        return abi.SUCCESS

    def clock_res_get(self, clock: int, result: int) -> int:
        known = _CLOCKS.get(clock)
        if known is None:
            return abi.INVAL
        abi.u64.pack_into(self.host.memory(), result, max(1, round(known[1] * 1e9)))
        return abi.SUCCESS

    def clock_time_get(self, clock: int, precision: int, result: int) -> int:
        known = _CLOCKS.get(clock)
        if known is None:
            return abi.INVAL
        abi.u64.pack_into(self.host.memory(), result, known[0]())
        return abi.SUCCESS

    def random_get(self, buffer: int, size: int) -> int:
        target = view(self.host.memory(), buffer, size)
        for start in range(0, size, _RANDOM_CHUNK):
            if start and start % _RANDOM_STRIDE == 0:
                self.host.wait((), (), 0)
            end = min(start + _RANDOM_CHUNK, size)
            target[start:end] = os.urandom(end - start)
        return abi.SUCCESS

    def proc_exit(self, code: int) -> int:
        self.host.exit(code)

    def proc_raise(self, signal: int) -> int:
        return abi.NOSYS

    def sched_yield(self) -> int:
        time.sleep(0)
        return abi.SUCCESS

    def sock_accept(self, fd: int, flags: int, result: int) -> int:
        return self._no_socket(fd)

    def sock_recv(self, fd: int, data: int, count: int, flags: int, size: int, out_flags: int) -> int:
        return self._no_socket(fd)

    def sock_send(self, fd: int, data: int, count: int, flags: int, size: int) -> int:
        return self._no_socket(fd)

    def sock_shutdown(self, fd: int, how: int) -> int:
        return self._no_socket(fd)

    def _no_socket(self, fd: int) -> int:
        self.table.get(fd)
        return abi.NOTSOCK
