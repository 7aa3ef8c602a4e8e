"""The sandbox without a process: the filter is run by an interpreter, for every machine that it is made for."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from procstop.sandbox import ALLOWABLE, Grants, Support, landlock, lay_ready, make_closer, probe
from procstop.sandbox.calls import FIRST_UNKNOWN, MACHINES, NUMBERS
from procstop.sandbox.seccomp import program

PID, LIFELINE, OWN = 4127, 7, 9
NOTHING = Grants(7, True, [], keep_fds=(LIFELINE, OWN))
EVERYTHING = Grants(7, True, [], allow=frozenset(ALLOWABLE), keep_fds=(LIFELINE, OWN), may_set_timers=True)
ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

ALLOWED, DENIED, ABSENT, KILLED = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
ADDRESS = 0x7F0000000000
"""An address whose lower half is nothing but zeros."""
THREAD = 0x3D0F00
"""What the GNU library's pthread_create asks for."""

NEEDED: dict[str, tuple[int, int]] = {
    "read": (0, 63), "write": (1, 64), "openat": (257, 56), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigreturn": (15, 139),
    "rt_sigprocmask": (14, 135), "sigaltstack": (131, 132), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66),
    "madvise": (28, 233), "sched_yield": (24, 124), "mremap": (25, 216), "nanosleep": (35, 101), "getpid": (39, 172),
    "exit": (60, 93), "exit_group": (231, 94), "wait4": (61, 260), "futex": (202, 98), "gettid": (186, 178),
    "sched_getaffinity": (204, 123), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115), "getrusage": (98, 165),
    "set_robust_list": (273, 99), "ppoll": (271, 73), "pipe2": (293, 59), "getrandom": (318, 278), "rseq": (334, 293),
    "memfd_create": (319, 279), "membarrier": (324, 283), "statx": (332, 291), "socketpair": (53, 199),
    "uname": (63, 160), "recvmsg": (47, 212), "mbind": (237, 235), "set_mempolicy": (238, 237),
    "inotify_init1": (294, 26), "unlinkat": (263, 35), "mkdirat": (258, 34), "renameat2": (316, 276),
    "utimensat": (280, 88), "newfstatat": (262, 79), "getdents64": (217, 61), "epoll_pwait": (281, 22),
    "eventfd2": (290, 19), "fsync": (74, 82), "timerfd_settime": (286, 86), "getrlimit": (97, 163),
    "restart_syscall": (219, 128), "set_tid_address": (218, 96),
}  # fmt: skip
"""Calls that engines, Python and WASI make, on x86_64 and aarch64."""


def run(code: bytes, machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Run a filter as the kernel does; return its verdict."""
    call = struct.pack(
        "=IIQ6Q",
        number & 0xFFFFFFFF,
        ARCHES[machine] if arch is None else arch,
        0,
        *arguments,
        *[0] * (6 - len(arguments)),
    )
    at, loaded = 0, 0
    while True:
        operation, yes, no, value = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            assert value % 4 == 0
            (loaded,) = struct.unpack_from("=I", call, value)
        elif operation == 0x05:
            at += value
        else:
            true = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[operation]
            at += yes if true else no
        assert at * 8 < len(code), "it jumps beyond its end"


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def ask(machine: str) -> Callable[..., int]:
    """Return what asks the filter of some grants about a call by its name."""

    def ask_about(grants: Grants, name: str, *arguments: int) -> int:
        return run(program(grants, PID, machine), machine, NUMBERS[machine][name], *arguments)

    return ask_about


def has(machine: str, *names: str) -> list[str]:
    return [name for name in names if name in NUMBERS[machine]]


def words(text: str) -> list[str]:
    return text.split()


NEVER = words("""
    ptrace process_vm_readv process_vm_writev kcmp process_madvise process_mrelease pidfd_getfd seccomp setrlimit
    mount umount2 pivot_root chroot unshare setns open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick
    mount_setattr bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key
    request_key init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl
    quotactl_fd syslog iopl ioperm modify_ldt open_by_handle_at name_to_handle_at lookup_dcookie nfsservctl settimeofday
    clock_settime clock_adjtime adjtimex sethostname setdomainname vhangup setuid setgid setreuid setregid setresuid
    setresgid setgroups setfsuid setfsgid capset move_pages migrate_pages memfd_secret sched_setscheduler sched_setattr
    sched_setparam setpriority ioprio_set fanotify_init
""")
UNLESS = {
    "processes": words("""fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open
        pidfd_send_signal setpgid shmget msgget semget mq_open"""),
    "network": words("connect bind listen accept accept4 sendmsg sendmmsg"),
    "files": words("""chmod fchmod fchmodat
        fchmodat2 chown fchown lchown fchownat setxattr lsetxattr fsetxattr setxattrat
        removexattr lremovexattr fremovexattr removexattrat file_setattr mknod mknodat"""),
}
TIMERS = words("timer_create timer_settime timer_delete setitimer alarm")


@pytest.mark.parametrize("name", NEVER)
def test_call_that_nobody_needs_is_denied_whatever_is_allowed(name: str, machine: str, ask: Callable[..., int]) -> None:
    for one in has(machine, name):
        assert ask(NOTHING, one) == ask(EVERYTHING, one) == DENIED


@pytest.mark.parametrize("what", ALLOWABLE)
def test_each_allowance_opens_its_own_calls_and_no_others(what: str, machine: str, ask: Callable[..., int]) -> None:
    grants = Grants(7, True, [], allow=frozenset({what}))
    for other, names in UNLESS.items():
        for name in has(machine, *names):
            assert ask(NOTHING, name) == DENIED, name
            assert ask(grants, name) == (ALLOWED if other == what else DENIED), name
    for name in has(machine, *TIMERS):
        assert ask(grants, name) == DENIED, name


@pytest.mark.parametrize(
    ("family", "needed"),
    [(1, {"network", "files"}), (2, {"network"}), (10, {"network"}), (16, {"network"}), (17, {"network", "files"})],
    ids=["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"],
)
def test_sockets_are_those_of_the_internet_unless_files_are_open(
    family: int, needed: set[str], machine: str, ask: Callable[..., int]
) -> None:
    for allow in ((), ("network",), ("files",), ("network", "files")):
        grants = Grants(7, True, [], allow=frozenset(allow))
        assert ask(grants, "socket", family, 1, 0) == (ALLOWED if needed <= set(allow) else DENIED), allow
        # A pair of datagrams can be sent to any path.
        datagrams = DENIED if "network" in allow and "files" not in allow else ALLOWED
        assert ask(grants, "socketpair", 1, 2, 0) == datagrams
        assert ask(grants, "socketpair", 1, 1, 0) == ALLOWED


def test_files_are_made_with_no_rights_to_lend(machine: str, ask: Callable[..., int]) -> None:
    create, anonymous = 0o100, 0o20200000
    for name, before in (("open", (0,)), ("openat", (0, 0))):
        for one in has(machine, name):
            for flags, mode, verdict in (
                (create, 0o644, ALLOWED), (create, 0o4755, DENIED), (create | 1, 0o2755, DENIED),
                (anonymous, 0o6777, DENIED), (1, 0o6777, ALLOWED),
            ):  # fmt: skip
                assert ask(NOTHING, one, *before, flags, mode) == verdict
                assert ask(EVERYTHING, one, *before, flags, mode) == ALLOWED
    for one in has(machine, "creat"):
        assert [ask(NOTHING, one, 0, mode) for mode in (0o777, 0o4777)] == [ALLOWED, DENIED]


def test_timers_are_granted_apart(machine: str, ask: Callable[..., int]) -> None:
    for name in has(machine, *TIMERS):
        assert ask(NOTHING, name) == DENIED
        assert ask(EVERYTHING, name) == ALLOWED


@pytest.mark.parametrize("name", NEEDED)
def test_call_that_an_engine_needs_is_allowed(name: str, machine: str) -> None:
    number = NEEDED[name][MACHINES.index(machine)]
    for grants in (NOTHING, EVERYTHING):
        assert run(program(grants, PID, machine), machine, number, *[1] * 6) == ALLOWED


def test_denied_calls_are_all_that_is_denied(machine: str) -> None:
    code, known = program(NOTHING, PID, machine), set(NUMBERS[machine].values())
    for number in range(FIRST_UNKNOWN):
        if number not in known:
            assert run(code, machine, number) == ALLOWED, number


@pytest.mark.parametrize("name", ["kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"])
def test_signals_go_to_the_own_process_only(name: str, ask: Callable[..., int]) -> None:
    assert ask(NOTHING, name, PID, PID, 6) == ALLOWED
    for other in (0, 1, PID + 1, -1 & 0xFFFFFFFF, -PID & 0xFFFFFFFF, -1 & 0xFFFFFFFFFFFFFFFF):
        assert ask(NOTHING, name, other, PID, 6) == DENIED
        assert ask(EVERYTHING, name, other, PID, 6) == ALLOWED


def test_the_kernel_ignores_the_upper_half_of_a_number_and_so_does_the_filter(ask: Callable[..., int]) -> None:
    assert ask(NOTHING, "close", LIFELINE | 5 << 32) == DENIED
    assert ask(NOTHING, "prctl", 1 | 1 << 32) == DENIED
    assert ask(NOTHING, "kill", 1 << 32 | 1) == DENIED


def test_clone_makes_threads_and_no_processes(ask: Callable[..., int]) -> None:
    assert ask(NOTHING, "clone", THREAD) == ALLOWED
    assert ask(NOTHING, "clone", 17) == DENIED
    assert ask(NOTHING, "clone", 0x01200011) == DENIED
    assert ask(NOTHING, "clone", 0x4111) == DENIED, "as vfork does it"


def test_clone_makes_children_where_processes_are_allowed_but_neither_siblings_nor_namespaces(
    ask: Callable[..., int],
) -> None:
    assert ask(EVERYTHING, "clone", 0x01200011) == ALLOWED
    assert ask(EVERYTHING, "clone", 0x8011) == DENIED
    for namespace in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(EVERYTHING, "clone", 17 | namespace) == DENIED
        assert ask(EVERYTHING, "clone", THREAD | namespace) == DENIED


@pytest.mark.parametrize("name", ["clone3", "close_range"])
def test_call_with_an_older_form_seems_to_be_missing(name: str, ask: Callable[..., int]) -> None:
    assert ask(NOTHING, name) == ask(EVERYTHING, name) == ABSENT


def test_number_that_came_later_seems_to_be_missing(machine: str) -> None:
    assert run(program(EVERYTHING, PID, machine), machine, FIRST_UNKNOWN) == ABSENT
    assert run(program(EVERYTHING, PID, machine), machine, FIRST_UNKNOWN - 1) == ALLOWED


def test_calls_by_another_table_end_the_process(machine: str) -> None:
    code = program(EVERYTHING, PID, machine)
    for arch in {0x40000003, 0x40000028, *ARCHES.values()} - {ARCHES[machine]}:
        assert run(code, machine, 0, arch=arch) == KILLED
    if machine == "x86_64":
        assert run(code, machine, 0x40000000) == run(code, machine, 0x40000000 + 59) == KILLED


@pytest.mark.parametrize("fd", [LIFELINE, OWN])
def test_kept_descriptor_can_be_looked_at_and_nothing_else(fd: int, machine: str, ask: Callable[..., int]) -> None:
    for grants in (NOTHING, EVERYTHING):
        for name in has(machine, "close", "dup"):
            assert ask(grants, name, fd) == DENIED
            assert ask(grants, name, fd + 1) == ALLOWED
        for name in has(machine, "dup2", "dup3"):
            assert ask(grants, name, 3, fd) == ask(grants, name, fd, 3) == DENIED
            assert ask(grants, name, 3, 4) == ALLOWED
        for command, verdict in {0: DENIED, 1: ALLOWED, 2: DENIED, 3: ALLOWED, 4: DENIED, 1030: DENIED}.items():
            assert ask(grants, "fcntl", fd, command) == verdict
            assert ask(grants, "fcntl", fd + 1, command) == ALLOWED


def test_without_kept_descriptors_any_can_be_closed(ask: Callable[..., int]) -> None:
    grants = Grants(0, True, [])
    assert ask(grants, "close", LIFELINE) == ask(grants, "fcntl", LIFELINE, 4) == ALLOWED


@pytest.mark.parametrize("command", [8, 10, 15])
def test_no_descriptor_gets_another_owner_or_signal(command: int, ask: Callable[..., int]) -> None:
    assert ask(NOTHING, "fcntl", 3, command) == ask(NOTHING, "fcntl", LIFELINE, command) == DENIED


@pytest.mark.parametrize("request_", [0x5452, 0x8901, 0x8902, 0x5412, 0x541C])
def test_ioctl_that_signals_or_types_is_denied(request_: int, ask: Callable[..., int]) -> None:
    assert ask(EVERYTHING, "ioctl", 0, request_) == DENIED
    assert ask(EVERYTHING, "ioctl", 0, 0x5401) == ALLOWED


@pytest.mark.parametrize("option", [1, 4, 22, 35, 36])
def test_guards_cannot_be_taken_off_by_prctl(option: int, ask: Callable[..., int]) -> None:
    assert ask(EVERYTHING, "prctl", option) == DENIED
    assert ask(NOTHING, "prctl", 15) == ALLOWED


def test_limits_can_be_read_but_not_set(ask: Callable[..., int]) -> None:
    assert ask(EVERYTHING, "prlimit64", 0, 0, 0, ADDRESS) == ALLOWED
    for address in (ADDRESS, 1, 0x7F0012345678):
        assert ask(EVERYTHING, "prlimit64", 0, 0, address, 0) == DENIED


def test_a_socket_of_a_pair_sends_to_its_peer_only(ask: Callable[..., int]) -> None:
    assert ask(NOTHING, "sendto", 3, 1, 1, 0, 0, 0) == ALLOWED
    assert ask(NOTHING, "sendto", 3, 1, 1, 0, ADDRESS, 16) == DENIED
    assert ask(EVERYTHING, "sendto", 3, 1, 1, 0, ADDRESS, 16) == ALLOWED


def test_personality_can_only_be_asked_for(ask: Callable[..., int]) -> None:
    assert ask(NOTHING, "personality", 0xFFFFFFFF) == ALLOWED
    assert ask(NOTHING, "personality", 0x0040000) == DENIED


def test_only_the_own_process_is_bound_to_cpus(ask: Callable[..., int]) -> None:
    assert ask(NOTHING, "sched_setaffinity", 0) == ask(NOTHING, "sched_setaffinity", PID) == ALLOWED
    assert ask(NOTHING, "sched_setaffinity", PID + 1) == DENIED


def test_filter_is_as_long_as_the_kernel_takes_with_many_descriptors_to_keep(machine: str) -> None:
    grants = Grants(0, True, [], keep_fds=tuple(range(3, 60)))
    code = program(grants, PID, machine)
    assert len(code) // 8 <= 4096
    assert run(code, machine, NUMBERS[machine]["close"], 59) == DENIED
    assert run(code, machine, NUMBERS[machine]["close"], 60) == ALLOWED
    assert run(code, machine, NUMBERS[machine]["ptrace"]) == DENIED


def test_every_jump_lands_within_the_filter(machine: str) -> None:
    for grants in (NOTHING, EVERYTHING, Grants(0, True, [], keep_fds=tuple(range(3, 60)))):
        code = program(grants, PID, machine)
        length = len(code) // 8
        for at in range(length):
            operation, yes, no, value = struct.unpack_from("=HBBI", code, at * 8)
            if operation == 0x05:
                assert at + 1 + value < length
            elif operation & 7 == 5:
                assert at + 1 + max(yes, no) < length
        assert struct.unpack_from("=H", code, len(code) - 8) == (0x06,)


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not here")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    numbers = {name: int(number) for name, number in found}
    for name, number in NUMBERS[machine].items():
        if number <= max(numbers["landlock_create_ruleset"], 450):
            assert numbers[name] == number, name
        else:
            assert numbers.get(name, number) == number, name
    for name, each in NEEDED.items():
        assert numbers.get(name, each[MACHINES.index(machine)]) == each[MACHINES.index(machine)], name
    # What the other machine has under a name, this one must not have overlooked.
    for name in set().union(*NUMBERS.values()) - set(NUMBERS[machine]):
        assert name not in numbers, name


@pytest.mark.parametrize("abi, bits", [(1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (6, 16), (7, 16), (9, 16)])
def test_landlock_handles_every_right_that_its_abi_knows(abi: int, bits: int) -> None:
    files, network, scoped = landlock.handled(Grants(abi, False, []))
    assert files == (1 << bits) - 1
    assert network == (3 if abi >= 4 else 0)
    assert scoped == (3 if abi >= 6 else 0)


def test_landlock_leaves_out_what_is_allowed() -> None:
    def handled(*allow: str) -> tuple[int, int, int]:
        return landlock.handled(Grants(7, False, [], allow=frozenset(allow)))

    everything = (1 << 16) - 1
    assert handled("files") == (0, 3, 3)
    assert handled("network") == (everything, 0, 2)
    assert handled("processes") == (everything & ~landlock.EXECUTE, 3, 1)
    assert handled(*ALLOWABLE) == (0, 0, 0)


def test_system_without_a_sandbox_refuses_to_close_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procstop.linux.ON_LINUX", False)
    assert probe() == Support(0, False)
    close = make_closer()
    close(Grants(0, False, []))
    with pytest.raises(OSError, match="no sandbox"):
        close(NOTHING)


def test_unknown_allowance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'disks'.*network, processes, files"):
        Grants(0, False, [], allow=frozenset({"disks"}))


def test_what_a_kernel_lacks_is_said_in_a_sentence_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert Support(3, True).missing == ()
    assert ["cut off" in said for said in Support(2, True).missing] == [True]
    assert ["Landlock" in said for said in Support(0, True).missing] == [True]
    assert len(Support(0, False).missing) == 2
    monkeypatch.setattr("sys.platform", "darwin")
    assert len(Support(0, False).missing) == 1


def test_asking_the_kernel_changes_nothing() -> None:
    def status() -> list[str]:
        wanted = ("NoNewPrivs", "Seccomp", "Seccomp_filters")
        if not os.path.exists("/proc/self/status"):
            return []
        return [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(wanted)]

    before = status()
    assert probe() == probe()
    lay_ready(NOTHING)
    make_closer()
    assert status() == before
