#!/usr/bin/env python3
"""Build the installers, and prove them by installing them.

    python3 installer/build.py ubuntu             the .deb, in dist/
    python3 installer/build.py appimage --test    the AppImage, and try it
    python3 installer/build.py all --test         every installer, each installed, started, traded with, and removed
    python3 installer/build.py windows --check    say what is missing on this machine, and what mends it
    python3 installer/build.py windows --fetch    install or download what is missing, as far as that is possible
    python3 installer/build.py all --gpg KEY      sign what is made, as installer/building/signing.py does

It works from a checkout, goes on where it was stopped, and does only what must be done anew. Exit codes: 0 done,
1 failed, 2 the command line is wrong, 3 something is missing, 130 stopped.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said in words rather than by a traceback
    sys.exit("installer/build.py needs Python 3.11 or newer, and this is {}.{}.".format(*sys.version_info[:2]))

import argparse
import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bootstrap import locked
from building import signing, tools
from building.events import Events, JsonEvents, TextEvents
from building.stages import Build, Stage, made, run_stages
from building.trouble import BuildError, Cancelled, Failure, from_os_error

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("ubuntu", "appimage", "docker", "windows")
FAILED, MISSING, STOPPED = 1, 3, 130


class Target:
    """One kind of installer, made by the module of its name in `building`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._module = import_module(f"building.{name}")

    def needs(self, build: Build, test: bool) -> list[tools.Need]:
        """Give what this machine lacks for it."""
        of_all = [*tools.writable(build.builds), *tools.writable(build.out)]
        needs: list[tools.Need] = self._module.needs(build, test)
        return list({need.name: need for need in [*of_all, *needs]}.values())

    def stages(self, build: Build, test: bool) -> list[Stage]:
        """Give what is done for it, in order."""
        stages: list[Stage] = self._module.stages(build, test)
        return stages


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; gives the exit code."""
    args = _parser().parse_args(arguments)
    events: Events = JsonEvents() if args.json else TextEvents(verbose=args.verbose)
    stopping = threading.Event()
    with _stopped_by_signals(stopping):
        if args.json:
            _listen(stopping)
        try:
            code = _do(args, _Watched(events, stopping), stopping)
        except _Unheard:
            return STOPPED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("target", choices=[*TARGETS, "all"], help="which installer")
    parser.add_argument("--test", action="store_true", help="install it, start it, trade with it, remove it")
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    parser.add_argument("--fetch", action="store_true", help="install or download what is missing first")
    parser.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "dist", help="where it goes (default: dist)")
    parser.add_argument(
        "--work", metavar="DIR", type=Path, default=ROOT / "build", help="where to work (default: build)"
    )
    parser.add_argument("--bundle", metavar="DIR", type=Path, help="pack this frozen program instead of making one")
    parser.add_argument("--fresh", action="store_true", help="do everything again")
    parser.add_argument("--quick", action="store_true", help="pack less tightly: for trying, not for giving away")
    parser.add_argument("--report", action="store_true", help="write what came of it into docs/installers.md")
    signing.add_keys(parser, required=False)
    parser.add_argument("--json", action="store_true", help="tell each event as a line of JSON")
    parser.add_argument("--verbose", action="store_true", help="show what programs write as well")
    return parser


def _do(args: argparse.Namespace, events: Events, stopping: threading.Event) -> int:
    names = TARGETS if args.target == "all" else (args.target,)
    codes = []
    builds = args.work.expanduser().absolute()
    try:
        with _alone(builds, writes=not args.check):
            for name in names:
                build = Build(
                    ROOT,
                    name,
                    events,
                    out=args.out.expanduser().absolute(),
                    builds=builds,
                    given_bundle=args.bundle and args.bundle.expanduser().absolute(),
                    is_cancelled=stopping.is_set,
                    is_quick=args.quick,
                )
                codes.append(_one(build, args))
                if codes[-1] == STOPPED:
                    break
    except BuildError as error:
        events.emit("failed", target=names[0], stage="start", text=error.text, advice=error.advice)
        codes.append(FAILED)
    code = max(codes)
    events.emit("end", ok=code == 0)
    return code


def _one(build: Build, args: argparse.Namespace) -> int:
    """Make one installer; gives the exit code."""
    try:
        target = Target(build.target)
        if needs := _missing(build, target, args):
            return _tell(build, needs)
        failure = None
        if not args.check:
            stages = target.stages(build, args.test)
            failure = run_stages(build, stages, args.fresh) or _signed(build, stages, signing.signer_of(args))
            if args.report and failure is None:
                build.say(f"{import_module('building.report').write(build, stages)} has what came of it")
    except Cancelled:
        failure = Failure("prepare", "The build was stopped.", "Start it again.", True)
    except BuildError as error:
        failure = Failure("prepare", error.text, error.advice)
    except OSError as error:
        trouble = from_os_error(error)
        failure = Failure("prepare", trouble.text, trouble.advice)
    except ImportError as error:
        failure = Failure("prepare", f"a part of the builder is missing: {error}", "Restore it from the repository.")
    if failure is None:
        return 0
    build.events.emit("failed", target=build.target, stage=failure.stage, text=failure.text, advice=failure.advice)
    return STOPPED if failure.is_cancelled else FAILED


def _signed(build: Build, stages: Sequence[Stage], signer: signing.Signer | None) -> Failure | None:
    """Sign what was made, where there is a key; gives what went wrong."""
    if signer is None:
        return None
    for facts in made(build, stages):
        signature, wrong = signer.sign(Path(facts["path"]))
        if wrong:
            return Failure("sign", wrong, "Mend that and build again: only the signature is made anew.")
        build.say(f"{signature} is its signature")
    return None


def _missing(build: Build, target: Target, args: argparse.Namespace) -> list[tools.Need]:
    """Give what is missing, once what can be fetched has been where that is wanted. Raises BuildError, Cancelled."""
    needs = target.needs(build, args.test)
    if args.fetch and not args.check and any(need.can_fetch for need in needs):
        tools.fetch(build, needs)
        needs = target.needs(build, args.test)
    return needs


def _tell(build: Build, needs: Sequence[tools.Need]) -> int:
    for need in needs:
        facts = {"name": need.name, "text": need.text, "advice": need.advice, "can_fetch": need.can_fetch}
        build.events.emit("need", target=build.target, **facts)
    return MISSING


# ---- being stopped --------------------------------------------------------------------------------------------------


class _Unheard(Exception):
    """Nobody reads what this process writes any more."""


class _Watched:
    """Events that stop the build once nobody hears them: whoever started it has gone."""

    def __init__(self, events: Events, stopping: threading.Event) -> None:
        self._events = events
        self._stopping = stopping

    def emit(self, event: str, **facts: object) -> None:
        """Tell one event, as long as there is somebody to tell."""
        try:
            self._events.emit(event, **facts)
        except OSError as error:
            if event == "end":
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise _Unheard from error
            self._stopping.set()


@contextlib.contextmanager
def _stopped_by_signals(stopping: threading.Event) -> Iterator[None]:
    """End in order on Ctrl-C, SIGTERM, a terminal that is closed, and on Windows Ctrl-Break."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)  # it was started with nohup
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(stopping: threading.Event) -> None:
    """Stop when a line says `cancel`: a program on Windows has no signal to send. An input that ends says nothing."""

    def listen() -> None:
        said = b""
        with contextlib.suppress(OSError, AttributeError, ValueError):
            while chunk := os.read(sys.stdin.fileno(), 256):
                said = (said + chunk)[-256:]
                if b"cancel" in said:
                    stopping.set()
                    return

    threading.Thread(target=listen, name="input", daemon=True).start()


@contextlib.contextmanager
def _alone(folder: Path, writes: bool) -> Iterator[None]:
    """Be the only build of this checkout, unless nothing is written. Raises BuildError where another one runs."""
    if not writes:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise from_os_error(error) from error
    with file:
        if not locked(file.fileno()):
            file.seek(0)
            raise BuildError(
                f"another build of this checkout runs (process {file.read().strip() or 'unknown'})",
                "Wait until it has ended, or stop it.",
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
