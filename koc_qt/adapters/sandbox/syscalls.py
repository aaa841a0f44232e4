"""System call numbers, and which calls a strategy may make at all.

Each call has its number on x86-64 (asm/unistd_64.h) and on aarch64 (asm-generic/unistd.h), None where it has none.
"""

from __future__ import annotations

from typing import NamedTuple


class Machine(NamedTuple):
    """What differs between processor architectures."""

    audit_architecture: int
    o_largefile: int
    numbers: dict[str, int]


_Numbers = dict[str, tuple[int | None, int | None]]

LAST_KNOWN = 462  # mseal, Linux 6.10: the newest call whose meaning was looked at

ALLOWED: _Numbers = {
    # memory
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "membarrier": (324, 283),
    # reading, and writing to what is open
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "preadv": (295, 69),
    "preadv2": (327, 286),
    "write": (1, 64),
    "writev": (20, 66),
    "close": (3, 57),
    "close_range": (436, 436),
    "lseek": (8, 62),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "fadvise64": (221, 223),
    # asking about files
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "stat": (4, None),
    "lstat": (6, None),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    # waiting
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create": (213, None),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "eventfd": (284, None),
    "eventfd2": (290, 19),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "pause": (34, None),
    # the channel
    "recvfrom": (45, 207),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "shutdown": (48, 210),
    # threads
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # time
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "alarm": (37, None),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87),
    # signals to itself
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    # asking about itself and the machine
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getpgrp": (111, None),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "getpriority": (140, 141),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "getcpu": (309, 168),
    "getrandom": (318, 278),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "wait4": (61, 260),
    "waitid": (247, 95),
}

# Allowed with some arguments only: seccomp.py says which.
CHECKED: _Numbers = {
    "open": (2, None),
    "openat": (257, 56),
    "clone": (56, 220),
    "socketpair": (53, 199),
    "sendto": (44, 206),
    "getsockopt": (55, 209),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prctl": (157, 167),
}

# The kernel cannot look behind their pointers; told that they do not exist, libc uses clone and openat instead.
ABSENT: _Numbers = {
    "clone3": (435, 435),
    "openat2": (437, 437),
}

# Made while locking down, and never again.
_SETUP: _Numbers = {
    "seccomp": (317, 277),
    "capset": (126, 91),
}

_ALL = ALLOWED | CHECKED | ABSENT | _SETUP

MACHINES = {
    "x86_64": Machine(0xC000003E, 0o100000, {name: pair[0] for name, pair in _ALL.items() if pair[0] is not None}),
    "aarch64": Machine(0xC00000B7, 0o400000, {name: pair[1] for name, pair in _ALL.items() if pair[1] is not None}),
}
