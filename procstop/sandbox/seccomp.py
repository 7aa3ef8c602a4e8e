"""The layer around the kernel: a filter that denies system calls which no engine needs. Pure: it returns bytes.

It is a list of what is denied, since an engine, Python and a C library call whatever they like; so it is no substitute
for Landlock, which denies all that was not granted. A denied call fails with EPERM. clone3, openat2 and close_range,
whose arguments lie in memory or span several descriptors, fail with ENOSYS instead, as do numbers that this module has
never heard of: on those, a C library falls back to the older call. Calls of another machine's numbering end the
process.

Theory of operation. The kernel runs the program on each call, up to a `ret`. Numbers are looked up by a binary search
over intervals that share a verdict, eight comparisons deep at most; where arguments matter, a decision tree stands in
the place of the verdict. All jumps go forward, and each piece of code ends in returns, so that pieces are joined by
putting one behind the other. Since Linux 5.11 the kernel does not even run it for a call that is allowed whatever its
arguments, such as read, mmap or futex: it finds these when the filter is installed, by trying each number.
"""

from __future__ import annotations

import errno
import functools
import struct

from procstop.sandbox.calls import FIRST_UNKNOWN, NUMBERS
from procstop.sandbox.grants import Grants

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, constant."""
Code = tuple[Instruction, ...]

_LOAD, _RETURN, _JUMP = 0x20, 0x06, 0x05
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

_OWN_PID = -1
"""Stands for the process's own pid until it is known; no comparison is with a number below zero."""

ALLOW: Code = ((_RETURN, 0, 0, 0x7FFF0000),)
DENY: Code = ((_RETURN, 0, 0, 0x00050000 | errno.EPERM),)
ABSENT: Code = ((_RETURN, 0, 0, 0x00050000 | errno.ENOSYS),)
KILL: Code = ((_RETURN, 0, 0, 0x80000000),)

_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

_CLONE_THREAD, _CLONE_PARENT = 0x00010000, 0x00008000
_CLONE_NEW = 0x7E020000
"""Everything that makes a namespace."""
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_F_GETS = (1, 3, 9, 11, 16)
"""F_GETFD, F_GETFL, F_GETOWN, F_GETSIG, F_GETOWN_EX."""
_IOCTLS = (0x5452, 0x8901, 0x8902, 0x5412, 0x541C)
"""FIOASYNC, FIOSETOWN, SIOCSPGRP; and TIOCSTI and TIOCLINUX, by which one types into a terminal."""
_FAMILIES = (2, 10, 16)
"""AF_INET, AF_INET6, and AF_NETLINK, which names are looked up with."""
_SOCK_DGRAM, _S_ISUGID, _MAP_GROWSDOWN = 2, 0o6000, 0x100
_MAKES_FILE = 0o20000100
"""O_CREAT and O_TMPFILE: without these the mode of an open may be anything."""
_PRCTLS = (1, 4, 22, 35, 36)
"""PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_MM, PR_SET_CHILD_SUBREAPER."""

_DENIED = """
    ptrace process_vm_readv process_vm_writev kcmp process_madvise process_mrelease pidfd_getfd seccomp
    setrlimit sched_setscheduler sched_setparam sched_setattr setpriority ioprio_set move_pages migrate_pages
    mount umount2 pivot_root chroot unshare setns open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick
    mount_setattr open_by_handle_at name_to_handle_at fanotify_init quotactl quotactl_fd
    setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key
    memfd_secret init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct syslog
    iopl ioperm modify_ldt lookup_dcookie nfsservctl vhangup
    settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname
"""
"""What no host function can be allowed."""
_DENIED_WITHOUT = {
    # A session of its own is what a worker takes by itself, once it is known. The memory and the queues of System V and
    # POSIX stay when all processes are gone.
    "processes": """
        fork vfork execve execveat tkill pidfd_open pidfd_send_signal setpgid shmget shmat shmctl
        msgget msgsnd msgrcv msgctl semget semop semtimedop semctl mq_open mq_unlink
    """,
    # sendmsg could pass a descriptor that is to be kept to ourselves, under a number that nobody looks at.
    "network": "connect bind listen accept accept4 sendmsg sendmmsg",
    "files": """
        chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat setxattr lsetxattr fsetxattr setxattrat
        removexattr lremovexattr fremovexattr removexattrat file_setattr mknod mknodat
    """,
}
_TIMERS = "timer_create timer_settime timer_delete setitimer alarm"


def program(grants: Grants, pid: int, machine: str) -> bytes:
    """Return the filter for a process on a machine of `calls.MACHINES`, as the array that the kernel takes."""
    lay_out = laid_out(grants.allow, tuple(sorted(grants.keep_fds)), grants.may_set_timers, machine)
    made = bytearray(lay_out[0])
    for place in lay_out[1]:
        struct.pack_into("=I", made, place, pid)
    return bytes(made)


@functools.lru_cache(maxsize=8)
def laid_out(
    allow: frozenset[str], keep_fds: tuple[int, ...], may_set_timers: bool, machine: str
) -> tuple[bytes, tuple[int, ...]]:
    """Return a filter that is complete but for the pid, and the places that it goes to."""
    numbers = NUMBERS[machine]
    named = _verdicts(allow, keep_fds, may_set_timers)
    verdicts = {numbers[name]: code for name, code in named.items() if name in numbers}
    steps: list[tuple[int, Code]] = [(0, ALLOW)]
    for number in sorted(verdicts.keys() | {number + 1 for number in verdicts}):
        code = verdicts.get(number, ALLOW)
        if code is not steps[-1][1]:
            steps.append((number, code))
    steps.append((FIRST_UNKNOWN, ABSENT))
    if machine == "x86_64":
        steps.append((_X32, KILL))
    code = ((_LOAD, 0, 0, _ARCH_AT), (_IF_EQUAL, 1, 0, _ARCHES[machine]), *KILL, (_LOAD, 0, 0, _NUMBER_AT))
    code += _search(steps)
    packed = b"".join(struct.pack("=HBBI", *one[:3], max(one[3], 0)) for one in code)
    return packed, tuple(place * 8 + 4 for place, one in enumerate(code) if one[3] == _OWN_PID)


def _verdicts(allow: frozenset[str], keep_fds: tuple[int, ...], may_set_timers: bool) -> dict[str, Code]:
    """Return what becomes of each call that is not always allowed."""
    denied = [_DENIED, *(names for what, names in _DENIED_WITHOUT.items() if what not in allow)]
    if not may_set_timers:
        denied.append(_TIMERS)
    verdicts = dict.fromkeys(" ".join(denied).split(), DENY)
    verdicts["clone3"] = ABSENT
    if keep_fds:
        verdicts["close_range"] = ABSENT

    # A sibling would be nobody's descendant that is looked for below this worker.
    process = _if_any_bit(0, _CLONE_PARENT, DENY, ALLOW) if "processes" in allow else DENY
    verdicts["clone"] = _if_any_bit(0, _CLONE_NEW, DENY, _if_any_bit(0, _CLONE_THREAD, ALLOW, process))
    if "processes" not in allow:
        # Also an abort is a signal to oneself.
        for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
            verdicts[name] = _if_in(0, (_OWN_PID,), ALLOW, DENY)
    verdicts["sched_setaffinity"] = _if_in(0, (0, _OWN_PID), ALLOW, DENY)
    if not {"network", "files"} <= allow:
        # Local sockets are files, and lead to whoever listens there: so none of a pair that could be sent elsewhere.
        verdicts["socket"] = _if_in(0, _FAMILIES, ALLOW, DENY) if "network" in allow else DENY
        verdicts["socketpair"] = _if_any_bit(1, _SOCK_DGRAM, DENY, ALLOW) if "network" in allow else ALLOW
    if "files" not in allow:
        # A program that lends its user's rights to whoever starts it, laid where others find it.
        for name, flags, mode in (("open", 1, 2), ("openat", 2, 3)):
            lends = _if_any_bit(mode, _S_ISUGID, DENY, ALLOW)
            verdicts[name] = _if_any_bit(flags, _MAKES_FILE, lends, ALLOW)
        verdicts["creat"] = _if_any_bit(1, _S_ISUGID, DENY, ALLOW)
        verdicts["openat2"] = ABSENT
    # What grows by itself is not counted as data.
    verdicts["mmap"] = _if_any_bit(3, _MAP_GROWSDOWN, DENY, ALLOW)
    if "network" not in allow:
        # To an address, that is: one of a pair that was never connected can send anywhere.
        verdicts["sendto"] = _if_null(4, ALLOW, DENY)
    verdicts["prlimit64"] = _if_null(2, ALLOW, DENY)
    verdicts["personality"] = _if_in(0, (0xFFFFFFFF,), ALLOW, DENY)
    verdicts["prctl"] = _if_in(0, _PRCTLS, DENY, ALLOW)
    verdicts["ioctl"] = _if_in(1, _IOCTLS, DENY, ALLOW)

    verdicts["fcntl"] = _if_in(1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX), DENY, ALLOW)
    if keep_fds:
        # A duplicate would be another handle to the same flags and the same owner.
        kept = _if_in(1, _F_GETS, ALLOW, DENY)
        verdicts["fcntl"] = _if_in(0, keep_fds, kept, verdicts["fcntl"])
        verdicts["close"] = verdicts["dup"] = verdicts["shutdown"] = _if_in(0, keep_fds, DENY, ALLOW)
        verdicts["dup2"] = verdicts["dup3"] = _if_in(0, keep_fds, DENY, _if_in(1, keep_fds, DENY, ALLOW))
    return verdicts


def _search(steps: list[tuple[int, Code]]) -> Code:
    """Return a binary search for the number that is loaded: each code is for numbers from its own to the next."""
    if len(steps) == 1:
        return steps[0][1]
    middle = len(steps) // 2
    below, above = _search(steps[:middle]), _search(steps[middle:])
    return _branch(_IF_AT_LEAST, steps[middle][0], above, below)


# Arguments are compared by their lower half, all that the kernel looks at in a number; only addresses have two.


def _if_in(argument: int, values: tuple[int, ...], then: Code, otherwise: Code) -> Code:
    code = otherwise
    for value in reversed(values[1:]):
        code = _branch(_IF_EQUAL, value, then, code)
    return (_load(argument), *_branch(_IF_EQUAL, values[0], then, code))


def _if_any_bit(argument: int, mask: int, then: Code, otherwise: Code) -> Code:
    return (_load(argument), *_branch(_IF_ANY_BIT, mask, then, otherwise))


def _if_null(argument: int, then: Code, otherwise: Code) -> Code:
    upper = (_load(argument, 4), *_branch(_IF_EQUAL, 0, then, otherwise))
    return (_load(argument), *_branch(_IF_EQUAL, 0, upper, otherwise))


def _load(argument: int, part: int = 0) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument + part)


def _branch(test: int, value: int, then: Code, otherwise: Code) -> Code:
    """Return code that goes on with one of two pieces."""
    if len(otherwise) <= 255:
        return ((test, len(otherwise), 0, value), *otherwise, *then)
    # A conditional jump reaches 255 instructions, this one any number.
    return ((test, 0, 1, value), (_JUMP, 0, 0, len(otherwise)), *otherwise, *then)
