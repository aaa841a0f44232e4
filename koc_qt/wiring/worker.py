"""Composition root of the worker process: lock down, prove it, then let the strategy runtime have the channel.

    koc worker --channel FD --parent PID [--settings JSON]
    koc worker --sweep-kernel        # compiles the optimiser's machine code, and runs no strategy

On Windows, where descriptors are not inherited by number, FD is ``stdin``: the socket's description is read from there.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence

import msgspec

from koc_qt.adapters.sandbox import SandboxSettings, lock_down, self_test
from koc_qt.sdk.channel import Failed, Ready, frame

Run = Callable[[socket.socket, Ready], int]

_CHANNEL_FD = 3
USAGE_EXIT = 64  # EX_USAGE
LOCKDOWN_EXIT = 70  # EX_SOFTWARE


class WorkerOptions(msgspec.Struct, frozen=True):
    """What the host says on the command line: a descriptor or ``stdin``, its own process id, the limits as JSON."""

    channel: str
    parent: int
    settings: str = "{}"


def main(argv: Sequence[str]) -> int:
    """Run one strategy for the host at the other end of the channel; gives the exit code."""
    if list(argv) == ["--sweep-kernel"]:
        from koc_qt.worker.sweep_compiler import compile_kernel

        sys.stdout.buffer.write(compile_kernel())
        sys.stdout.flush()
        return 0
    from koc_qt.worker import run  # not needed by tests, which bring their own

    return serve(argv, run)


def serve(argv: Sequence[str], run: Run) -> int:
    """Lock this process down, then hand the channel and what was proved to `run`; gives the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which stops its workers in order
    try:
        options = _parse(argv)
        settings = msgspec.json.decode(options.settings, type=SandboxSettings)
        channel = _open_channel(options.channel)
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError, OSError) as error:
        # Only a person who tries `koc worker` by hand gets here.
        sys.stderr.write(f"koc worker is started by the engine and cannot be used alone: {error}\n")
        return USAGE_EXIT
    with channel:
        try:
            report = lock_down(channel.fileno(), settings, options.parent)
            badge, badge_reason, proofs = self_test(report)
        except Exception as error:
            reason = f"the worker could not lock itself down: {error}"
            channel.sendall(frame(Failed(reason, None, traceback.format_exc())))
            return LOCKDOWN_EXIT
        return run(channel, Ready(os.getpid(), badge, badge_reason, proofs))


def _parse(argv: Sequence[str]) -> WorkerOptions:
    words = list(argv[1:] if argv[:1] == ["worker"] else argv)
    if len(words) % 2 or not all(name.startswith("--") for name in words[::2]):
        raise ValueError("options are --channel FD --parent PID [--settings JSON]")
    given = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    return msgspec.convert(given, WorkerOptions, strict=False)


def _open_channel(channel: str) -> socket.socket:
    if sys.platform == "win32":
        # The host writes what socket.share() gave for our process id, and closes stdin. Run under Wine alone so far.
        return socket.fromshare(sys.stdin.buffer.read())
    else:  # noqa: RET505 - type checkers know the platform in both branches only so
        # A host with many descriptors gives a high number, beyond what select() can wait for.
        if int(channel) != _CHANNEL_FD:
            os.dup2(int(channel), _CHANNEL_FD)
            os.close(int(channel))
        os.set_inheritable(_CHANNEL_FD, False)
        return socket.socket(fileno=_CHANNEL_FD)
