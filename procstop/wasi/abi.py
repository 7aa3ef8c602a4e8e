"""What crosses the border between guest and host: numbers, layouts and signatures of WASI preview 1.

Names and values are those of the witx files of `wasi_snapshot_preview1`; where `wasi_unstable` (snapshot 0)
lays things out differently, a `Layout` says how. No I/O and no state.
"""

from __future__ import annotations

import errno as host_errno
import stat
from dataclasses import dataclass
from struct import Struct
from typing import Final

# A file position and a size are signed 64 bit on the host, and so never above this.
I64_MAX: Final = (1 << 63) - 1
U32: Final = 0xFFFF_FFFF
U64: Final = 0xFFFF_FFFF_FFFF_FFFF


class WasiError(Exception):
    """Leaves a WASI call with `number`; the guest sees it as the call's result."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


# In the order of their numbers.
_ERRNO_NAMES: Final = (
    "SUCCESS 2BIG ACCES ADDRINUSE ADDRNOTAVAIL AFNOSUPPORT AGAIN ALREADY BADF BADMSG BUSY CANCELED CHILD "
    "CONNABORTED CONNREFUSED CONNRESET DEADLK DESTADDRREQ DOM DQUOT EXIST FAULT FBIG HOSTUNREACH IDRM ILSEQ "
    "INPROGRESS INTR INVAL IO ISCONN ISDIR LOOP MFILE MLINK MSGSIZE MULTIHOP NAMETOOLONG NETDOWN NETRESET "
    "NETUNREACH NFILE NOBUFS NODEV NOENT NOEXEC NOLCK NOLINK NOMEM NOMSG NOPROTOOPT NOSPC NOSYS NOTCONN NOTDIR "
    "NOTEMPTY NOTRECOVERABLE NOTSOCK NOTSUP NOTTY NXIO OVERFLOW OWNERDEAD PERM PIPE PROTO PROTONOSUPPORT "
    "PROTOTYPE RANGE ROFS SPIPE SRCH STALE TIMEDOUT TXTBSY XDEV NOTCAPABLE"
)

SUCCESS: Final = 0
AGAIN: Final = 6
BADF: Final = 8
FAULT: Final = 21
FBIG: Final = 22
ILSEQ: Final = 25
INVAL: Final = 28
IO: Final = 29
MFILE: Final = 33
NAMETOOLONG: Final = 37
NOENT: Final = 44
NOMEM: Final = 48
NOSYS: Final = 52
NOTDIR: Final = 54
NOTSOCK: Final = 57
NOTSUP: Final = 58
OVERFLOW: Final = 61
PERM: Final = 63
SPIPE: Final = 70

_FROM_HOST: Final = {
    getattr(host_errno, "E" + name): number
    for number, name in enumerate(_ERRNO_NAMES.split())
    if hasattr(host_errno, "E" + name)
}
# Where the host has two names for what WASI has one.
for _name, _number in (("EOPNOTSUPP", NOTSUP), ("EWOULDBLOCK", AGAIN), ("ENOTSUP", NOTSUP)):
    _FROM_HOST[getattr(host_errno, _name)] = _number


def from_host(error: OSError) -> int:
    """The WASI number for a host error; what WASI has no number for is IO."""
    return _FROM_HOST.get(error.errno or 0, IO)


# Rights. Old programs (wasi-libc of 2019 and 2020) refuse to open a file when these lack what they look for.
FD_READ: Final = 1 << 1
FD_SEEK: Final = 1 << 2
FD_SET_FLAGS: Final = 1 << 3
FD_TELL: Final = 1 << 5
FD_WRITE: Final = 1 << 6
FD_READDIR: Final = 1 << 14
FD_FILESTAT_GET: Final = 1 << 21
POLL_FD_READWRITE: Final = 1 << 27
ALL_RIGHTS: Final = (1 << 30) - 1
# The next three are wasmtime's, number for number: programs were built against them.
PREOPEN_RIGHTS: Final = 0x7B7_FE00
PREOPEN_INHERITING: Final = 0xFF7_FFFF
DIRECTORY_RIGHTS: Final = 0x3FB7_FFBB

# fdflags
APPEND: Final = 1
DSYNC: Final = 2
NONBLOCK: Final = 4
RSYNC: Final = 8
SYNC: Final = 16

# oflags, lookupflags, fstflags
CREAT: Final = 1
DIRECTORY: Final = 2
EXCL: Final = 4
TRUNC: Final = 8
SYMLINK_FOLLOW: Final = 1
ATIM: Final = 1
ATIM_NOW: Final = 2
MTIM: Final = 4
MTIM_NOW: Final = 8

# filetypes
UNKNOWN: Final = 0
BLOCK_DEVICE: Final = 1
CHARACTER_DEVICE: Final = 2
DIRECTORY_TYPE: Final = 3
REGULAR_FILE: Final = 4
SOCKET_STREAM: Final = 6
SYMBOLIC_LINK: Final = 7

_FILETYPES: Final = {
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFDIR: DIRECTORY_TYPE,
    stat.S_IFREG: REGULAR_FILE,
    stat.S_IFSOCK: SOCKET_STREAM,
    stat.S_IFLNK: SYMBOLIC_LINK,
}


def filetype(mode: int) -> int:
    """The filetype for an `st_mode`; preview 1 has none for a pipe, which is UNKNOWN as in wasmtime."""
    return _FILETYPES.get(stat.S_IFMT(mode), UNKNOWN)


# clocks and poll
REALTIME: Final = 0
MONOTONIC: Final = 1
PROCESS_CPU: Final = 2
THREAD_CPU: Final = 3
EVENT_CLOCK: Final = 0
EVENT_READ: Final = 1
EVENT_WRITE: Final = 2
ABSTIME: Final = 1
HANGUP: Final = 1

u32: Final = Struct("<I")
u64: Final = Struct("<Q")
pair: Final = Struct("<II")
fdstat: Final = Struct("<BxH4xQQ")
dirent: Final = Struct("<QQIB3x")
event: Final = Struct("<QHB5xQH6x")


@dataclass(frozen=True)
class Layout:
    """Where the two snapshots differ: one of them, seen from the guest's memory."""

    name: str
    filestat: Struct
    # First userdata, tag and fd, last clock id, timeout and flags; in preview 1 fd and clock id are one field.
    subscription: Struct
    whence: tuple[int, int, int]  # to os.SEEK_*
    missing: frozenset[str]


_SET, _CUR, _END = 0, 1, 2

PREVIEW1: Final = Layout(
    name="wasi_snapshot_preview1",
    filestat=Struct("<QQB7xQQQQQ"),
    subscription=Struct("<QB7xI4xQ8xH6x"),
    whence=(_SET, _CUR, _END),
    missing=frozenset(),
)
UNSTABLE: Final = Layout(
    name="wasi_unstable",
    filestat=Struct("<QQB3xIQQQQ"),
    # A clock subscription has an identifier of its own in front of the clock id.
    subscription=Struct("<QB7xI4xI4xQ8xH6x"),
    whence=(_CUR, _END, _SET),
    missing=frozenset({"sock_accept"}),
)
LAYOUTS: Final = {layout.name: layout for layout in (PREVIEW1, UNSTABLE)}

# name -> parameters: i is an i32, I an i64. Every function but proc_exit returns an errno.
SIGNATURES: Final = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "fd_advise": "iIIi",
    "fd_allocate": "iII",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi",
    "fd_prestat_get": "ii",
    "fd_prestat_dir_name": "iii",
    "fd_pwrite": "iiiIi",
    "fd_read": "iiii",
    "fd_readdir": "iiiIi",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_filestat_get": "iiiii",
    "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii",
    "path_open": "iiiiiIIii",
    "path_readlink": "iiiiii",
    "path_remove_directory": "iii",
    "path_rename": "iiiiii",
    "path_symlink": "iiiii",
    "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "proc_exit": "i",
    "proc_raise": "i",
    "random_get": "ii",
    "sched_yield": "",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
