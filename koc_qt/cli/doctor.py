"""``koc doctor``: what works on this machine, what does not, and what to do about it.

Each check looks at one thing and is bounded in time; nothing is changed but the profile's folders, which are made.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import socket

    from koc_qt.paths import Paths
    from koc_qt.sdk.channel import WorkerMessage

OK, WARN, FAIL = "ok", "warn", "fail"
LEAST_FREE_BYTES = 200_000_000
COMFORTABLE_FREE_BYTES = 2_000_000_000
OLDEST_CLOCK_S = 1_735_689_600  # 2025-01-01: this program is younger, so an earlier clock is wrong
_PROBE_TIMEOUT_S = 30.0
_LOCK_FILE = Path(__file__).parents[2] / "installer" / "requirements.txt"


class Check(NamedTuple):
    """What one look found; `advice` says what to do where the status is not ok."""

    name: str
    status: str
    text: str
    advice: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``koc doctor``."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what works on this machine",
        description="Look at everything that K.O.C. depends on. The exit code is 1 when something fails, and 0 when "
        "there is at most something to know.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at everything and report; gives the exit code."""
    checks: list[Check] = []
    for look in _looks():
        for check in look():
            checks.append(check)
            if not args.json:
                print(_line(check, colours=sys.stdout.isatty()), flush=True)
    failed = any(check.status == FAIL for check in checks)
    if args.json:
        import json

        print(json.dumps({"ok": not failed, "checks": [check._asdict() for check in checks]}, indent=2))
    return 1 if failed else 0


def _line(check: Check, *, colours: bool) -> str:
    mark = {OK: " ok ", WARN: "warn", FAIL: "FAIL"}[check.status]
    if colours:
        mark = f"\x1b[{ {OK: 32, WARN: 33, FAIL: 31}[check.status] }m{mark}\x1b[0m"
    advice = f"\n{'':19}{check.advice}" if check.advice else ""
    return f"{mark}  {check.name:<11}  {check.text}{advice}"


def _looks() -> list[Callable[[], list[Check]]]:
    """Give every look, in the order in which they are reported."""
    from koc_qt.paths import profile_paths

    paths: Paths = profile_paths()
    return [
        lambda: [look_at_python()],
        lambda: [look_at_libraries(_LOCK_FILE)],
        look_at_qt,
        lambda: [look_at_display()],
        lambda: [look_at_keyring()],
        lambda: [look_at_sandbox()],
        lambda: look_at_profile(paths),
        lambda: [look_at_config(paths)],
        lambda: [look_at_clock()],
        lambda: look_at_engine(paths),
    ]


# ---- the program ----------------------------------------------------------------------------------------------------


def look_at_python() -> Check:
    """Look at the interpreter and the program's version."""
    import platform

    from koc_qt.version import __version__

    text = f"K.O.C. {__version__} on Python {platform.python_version()}, {platform.platform(terse=True)}"
    return Check("program", OK, text)


def look_at_libraries(lock_file: Path) -> Check:
    """Hold what is installed against the lock file's pins; a bundle has none and needs none."""
    try:
        lines = lock_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return Check("libraries", OK, "as they came with this bundle")
    except OSError as error:
        return Check("libraries", WARN, f"{lock_file} cannot be read: {error.strerror}", "Check out the project anew.")
    pins: dict[str, set[str]] = {}  # a name stands there twice when its version depends on Python's
    everywhere: set[str] = set()
    for line in lines:
        name, equals, rest = line.partition("==")
        if equals and not line.startswith((" ", "#")):
            pinned, _, marker = rest.rstrip(" \\").partition(";")
            pins.setdefault(name.strip(), set()).add(pinned.strip())
            everywhere |= set() if marker else {name.strip()}
    found = {name: _version(name) for name in pins}
    absent = [name for name in everywhere if not found[name]]
    different = [
        f"{name} {found[name]} instead of {' or '.join(sorted(pins[name]))}"
        for name in pins
        if found[name] and found[name] not in pins[name]
    ]
    renew = "Run 'python3 installer/bootstrap.py venv' again."
    if absent:
        return Check("libraries", FAIL, f"not installed: {', '.join(sorted(absent))}", renew)
    if different:
        return Check("libraries", WARN, f"other versions than tested: {', '.join(different)}", renew)
    return Check("libraries", OK, f"{sum(map(bool, found.values()))} packages, all as pinned")


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def look_at_qt() -> list[Check]:
    """Look at Qt, in a process of its own because a broken one may abort, and at the libraries that it needs."""
    from koc_qt.adapters.qt_libraries import ENGINE_LIBRARIES, WINDOW_LIBRARIES, missing_libraries

    core = missing_libraries(ENGINE_LIBRARIES)
    window = missing_libraries(WINDOW_LIBRARIES)
    code, text = _probe("import PySide6; from PySide6.QtCore import qVersion; print(PySide6.__version__, qVersion())")
    if code:
        advice = _apt(core) if core else "Run 'python3 installer/bootstrap.py venv' again."
        return [Check("Qt", FAIL, f"QtCore, which the engine runs on, does not load: {text}", advice)]
    binding, _, qt = text.partition(" ")
    found = Check("Qt", OK, f"Qt {qt}, PySide6 {binding}")
    if sys.version_info < (3, 12) and tuple(int(part) for part in binding.split(".")[:2]) >= (6, 12):
        advice = "Use PySide6 6.11 or Python 3.12."
        found = Check("Qt", FAIL, f"PySide6 {binding} aborts on Python 3.11 after some thousand calls", advice)
    if window:
        return [found, Check("Qt window", WARN, f"missing: {', '.join(window)} (the engine needs none)", _apt(window))]
    return [found, Check("Qt window", OK, "all system libraries that a window needs are here")]


def _apt(missing: dict[str, str]) -> str:
    return "On Debian or Ubuntu: sudo apt-get install " + " ".join(sorted(set(missing.values())))


def _probe(code: str) -> tuple[int, str]:
    """Run a line of Python in a process of its own; gives its exit code and last line."""
    import subprocess

    if getattr(sys, "frozen", False):
        return _probe_here(code)
    try:
        result = subprocess.run(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {_PROBE_TIMEOUT_S:g} s"
    lines = result.stdout.strip().splitlines() or [f"ended with code {result.returncode}"]
    return result.returncode, lines[-1]


def _probe_here(code: str) -> tuple[int, str]:
    """Run it in this process: a bundle's executable takes no code."""
    import contextlib
    import io

    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(code, {})  # noqa: S102 - our own lines, above
    except Exception as error:
        return 1, str(error)
    return 0, output.getvalue().strip()


# ---- the machine ----------------------------------------------------------------------------------------------------


def look_at_display() -> Check:
    """Look for a screen."""
    from koc_qt.cli.display import find_display

    found = find_display()
    if found:
        return Check("display", OK, found)
    return Check("display", WARN, "none", "Nothing to do: K.O.C. runs in the terminal, with a live status.")


def look_at_keyring() -> Check:
    """Look at where secrets would be kept; the OS service behind it may hang, so it is asked in another process."""
    code, text = _probe(
        "import keyring; k = keyring.get_keyring(); print(type(k).__module__, float(k.priority), k.name, sep='|')"
    )
    module, _, rest = text.partition("|")
    priority, _, name = rest.partition("|")
    advice = "Paper trading needs no keys. Install a keyring (gnome-keyring, KWallet) before you add any."
    if code or not name:
        return Check("keyring", WARN, f"cannot be asked: {text}", advice)
    if float(priority) <= 0 or module.startswith(("keyring.backends.fail", "keyring.backends.null")):
        return Check("keyring", WARN, "none on this machine", advice)
    return Check("keyring", OK, name)


def look_at_sandbox() -> Check:
    """Start a worker as the engine does, and let it prove what holds it."""
    import socket

    from koc_qt.domain.state import Badge
    from koc_qt.sdk.channel import Failed, Ready

    if sys.platform == "win32":
        return Check("sandbox", WARN, "not proven here", "The engine shows each strategy's badge when it starts.")
    near, far = socket.socketpair()
    try:
        message = _first_words_of_a_worker(near, far)
    except (OSError, ValueError) as error:
        return Check("sandbox", FAIL, f"a worker could not be started: {error}", _SANDBOX_ADVICE)
    finally:
        near.close()
        far.close()
    if isinstance(message, Failed):
        return Check("sandbox", FAIL, message.reason, _SANDBOX_ADVICE)
    if not isinstance(message, Ready):
        return Check("sandbox", FAIL, "a worker ended or was silent before it was locked down", _SANDBOX_ADVICE)
    text = f"{message.badge} ({_kernel_layers()}; {message.badge_reason})" if message.badge_reason else message.badge
    if message.badge in (Badge.ISOLATED, Badge.ISOLATED_PLUS):
        return Check("sandbox", OK, f"{message.badge} ({_kernel_layers()})")
    if message.badge is Badge.PARTIAL:
        return Check("sandbox", WARN, text, "Run K.O.C. as an ordinary user on a kernel with Landlock (5.13 or newer).")
    return Check("sandbox", WARN, text, "Run only strategies that you trust: this machine does not hold them.")


_SANDBOX_ADVICE = "No strategy can run. Run 'python3 installer/bootstrap.py venv' again, and see the message."


def _first_words_of_a_worker(near: socket.socket, far: socket.socket) -> WorkerMessage | None:
    import os
    import subprocess

    from koc_qt.sdk.channel import FrameReader, decode_worker

    program = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-P", "-s", "-m", "koc_qt"]
    command = [*program, "worker", "--channel", str(far.fileno()), "--parent", str(os.getpid())]
    roots = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    worker = subprocess.Popen(
        command,
        pass_fds=[far.fileno()],
        env=os.environ | {"PYTHONPATH": roots},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        far.close()
        near.settimeout(_PROBE_TIMEOUT_S)
        reader = FrameReader()
        while data := near.recv(65536):
            for body in reader.feed(data):
                return decode_worker(body)
        return None
    finally:
        worker.kill()
        worker.wait()


def _kernel_layers() -> str:
    """Name what this kernel offers."""
    if sys.platform != "linux":
        return sys.platform
    from koc_qt.adapters.sandbox import landlock

    try:
        return f"Landlock ABI {landlock.abi()}, seccomp"
    except OSError as error:
        return f"no Landlock: {error.strerror}"


# ---- the profile ----------------------------------------------------------------------------------------------------


def look_at_profile(paths: Paths) -> list[Check]:
    """Look at the profile's folders and the disk that they are on."""
    import shutil
    import tempfile

    from koc_qt.domain.errors import ConfigError

    try:
        paths.ensure()
        with tempfile.NamedTemporaryFile(dir=paths.data) as probe:
            probe.write(b"x" * 4096)
        free = shutil.disk_usage(paths.data).free
    except (ConfigError, OSError) as error:
        return [Check("profile", FAIL, str(error), "K.O.C. cannot keep orders and fills without it.")]
    folders = Check("profile", OK, f"data {paths.data.parent}, configuration {paths.config}")
    text = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return [folders, Check("disk", FAIL, text, "Make room: no order is sent that the journal cannot take.")]
    if free < COMFORTABLE_FREE_BYTES:
        return [folders, Check("disk", WARN, text, "Make room before you fetch history.")]
    return [folders, Check("disk", OK, text)]


def look_at_config(paths: Paths) -> Check:
    """Read the configuration."""
    from koc_qt.config import load_config
    from koc_qt.domain.errors import ConfigError

    try:
        config = load_config(paths)
    except ConfigError as error:
        return Check("config", FAIL, str(error), "Correct it; K.O.C. starts with no file as well.")
    source = "read" if paths.config_file.exists() else "none, so the defaults hold"
    return Check("config", OK, f"{source}: {paths.config_file} (account {config.account})")


def look_at_clock(
    wall: Callable[[], float] | None = None, monotonic: Callable[[], float] | None = None, pause_s: float = 0.2
) -> Check:
    """Look whether the clock is plausible, runs evenly and is kept in time by NTP."""
    import time

    wall, monotonic = wall or time.time, monotonic or time.monotonic
    before_s = wall() - monotonic()
    time.sleep(pause_s)
    moved_s = wall() - monotonic() - before_s
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(wall()))} UTC, time zone {time.strftime('%Z')}"
    if wall() < OLDEST_CLOCK_S:
        return Check("clock", FAIL, text, "Set the clock: bars and orders would carry a wrong time.")
    if abs(moved_s) > 0.05:
        text += f", moved by {moved_s * 1000:+.0f} ms while it was looked at"
        return Check(
            "clock", WARN, text, "Something sets the clock in steps; let NTP slew it (chrony, systemd-timesyncd)."
        )
    synchronised = _ntp()
    if synchronised is False:
        return Check("clock", WARN, f"{text}, not synchronised", "Turn NTP on: sudo timedatectl set-ntp true")
    return Check("clock", OK, text + (", synchronised" if synchronised else ""))


def _ntp() -> bool | None:
    """Ask the kernel whether its clock is synchronised (adjtimex(2), which reads without changing); None: not known."""
    if sys.platform != "linux":
        return None
    import ctypes

    time_error, unsynchronised, size = 5, 0x40, 256  # TIME_ERROR, STA_UNSYNC, more than struct timex takes
    buffer = ctypes.create_string_buffer(size)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0:
        return None
    word = ctypes.sizeof(ctypes.c_long)
    # struct timex begins: unsigned modes; long offset, freq, maxerror, esterror; int status; each aligned to a word.
    status = int.from_bytes(buffer.raw[5 * word : 5 * word + 4], sys.byteorder)
    if state == time_error or status & unsynchronised:
        # A container often hides its host's state; systemd's mark shows through more often.
        return Path("/run/systemd/timesync/synchronized").exists()
    return True


def look_at_engine(paths: Paths) -> list[Check]:
    """Look for a running engine, and whether its ports can be had."""
    from koc_qt.config import Config, load_config
    from koc_qt.domain.errors import ConfigError, LinkError
    from koc_qt.link.rendezvous import NoEngineError, running_engine

    try:
        info = running_engine(paths.run)
    except NoEngineError:
        pass
    except LinkError as error:
        return [Check("engine", WARN, str(error))]
    else:
        return [Check("engine", OK, f"running, process {info.pid}, link {info.link}, telemetry {info.telemetry}")]
    try:
        engine = load_config(paths).engine
    except ConfigError:
        engine = Config().engine
    return [Check("engine", OK, "not running"), look_at_ports([engine.link.endpoint, engine.telemetry.endpoint])]


def look_at_ports(endpoints: Sequence[str]) -> Check:
    """Try to listen where the engine will."""
    import socket

    taken = []
    for endpoint in endpoints:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as listener:
                if sys.platform != "win32":
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, 0 if port == "*" else int(port)))
        except OSError as error:
            taken.append(f"{endpoint}: {error.strerror}")
    if taken:
        advice = "End what listens there, or choose other endpoints in koc.yaml (engine.link, engine.telemetry)."
        return Check("ports", FAIL, "; ".join(taken), advice)
    return Check("ports", OK, f"free for the engine: {', '.join(dict.fromkeys(endpoints))}")
