"""``koc doctor``: the screen, the keyring and what holds strategies on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from koc_qt.cli.doctor_check import FAIL, OK, PROBE_TIMEOUT_S, WARN, Check, ask_elsewhere, is_bundle, renew

if TYPE_CHECKING:
    import socket

    from koc_qt.sdk.channel import WorkerMessage

_CARDS = Path("/dev/dri")
_NO_KEYS = "Paper trading needs no keys, and K.O.C. can keep them in a file under a passphrase."


def look_at_display() -> Check:
    """Look for a screen."""
    from koc_qt.cli.display import find_display

    found = find_display()
    if found:
        return Check("display", OK, found)
    return Check("display", WARN, "none", "Nothing to do: K.O.C. runs in the terminal, with a live status.")


def look_at_graphics(environment: Mapping[str, str] = os.environ, cards: Path = _CARDS) -> list[Check]:
    """Say by what windows are drawn; K.O.C. paints with the processor, so that no graphics card is no trouble."""
    from koc_qt.cli.display import find_display

    if not find_display(environment) or sys.platform != "linux":
        return []
    session = environment.get("XDG_SESSION_TYPE") or ("wayland" if environment.get("WAYLAND_DISPLAY") else "x11")
    if plugin := environment.get("QT_QPA_PLATFORM"):
        session = f"{session}, QT_QPA_PLATFORM={plugin}"
    found = [name.name for name in sorted(cards.glob("renderD*"))] if cards.is_dir() else []
    if environment.get("LIBGL_ALWAYS_SOFTWARE") not in (None, "", "0"):
        found = []
    drawn = (
        "a graphics card is there" if found else "no graphics card; drawn by the processor, which K.O.C. is made for"
    )
    if environment.get("SSH_CONNECTION"):
        drawn += "; over SSH, where repaints may lag"
    return [Check("graphics", OK, f"{session}; {drawn}")]


def look_at_keyring(environment: Mapping[str, str] = os.environ) -> Check:
    """Look at where secrets would be kept; the OS service behind it may hang, so it is asked in another process."""
    from koc_qt.adapters.secrets.choice import mounted_folder

    code, text = ask_elsewhere("keyring")
    module, _, rest = text.partition("|")
    priority, _, name = rest.partition("|")
    works = not code and name and float(priority) > 0
    if not works and (folder := mounted_folder(environment)) is not None:
        return _look_at_mounted(folder)
    if code or not name:
        return Check("keyring", WARN, f"cannot be asked: {text}", f"{_NO_KEYS} {keyring_advice()}")
    if float(priority) <= 0 or module.startswith(("keyring.backends.fail", "keyring.backends.null")):
        return Check("keyring", WARN, "none on this machine", f"{_NO_KEYS} {keyring_advice()}")
    return Check("keyring", OK, f"{name} ({module})")


def _look_at_mounted(folder: Path) -> Check:
    """Look at where keys of a container are, which has no keyring."""
    if folder.is_dir():
        return Check("keyring", OK, f"none, in a container; keys are the files in {folder}")
    advice = f"Mount them at {folder}, or name another folder in KOC_SECRETS_FOLDER; the simulator and paper need none."
    return Check("keyring", WARN, f"none, in a container, and no keys: {folder} is not there", advice)


def keyring_advice(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str:
    """Name what gives this desktop a keyring."""
    if platform != "linux":
        return "The system has a keyring of its own: log in as the user who runs K.O.C."
    bus = environment.get("DBUS_SESSION_BUS_ADDRESS") or Path(f"/run/user/{_uid()}/bus").exists()
    desktop = environment.get("XDG_CURRENT_DESKTOP", "").upper()
    if not bus and not desktop:
        return "Without a desktop there is no session bus for a keyring to be on: use the passphrase."
    install = "sudo apt-get install gnome-keyring, then log in again"
    if "KDE" in desktop:
        install = (
            "sudo apt-get install kwalletmanager, and turn on 'Use KWallet for the Secret Service interface' in the "
            "system settings"
        )
    elif "LXQT" in desktop:
        install = "sudo apt-get install gnome-keyring libpam-gnome-keyring, then log in again"
    missing = "" if bus else "sudo apt-get install dbus-user-session; "
    return f"For a keyring: {missing}{install}."


def _uid() -> int:
    return os.getuid() if sys.platform != "win32" else 0


def look_at_sandbox() -> Check:
    """Start a worker as the engine does, and let it prove what holds it."""
    import socket

    from koc_qt.domain.state import Badge
    from koc_qt.sdk.channel import Failed, Ready

    near, far = socket.socketpair()
    try:
        message = _first_words_of_a_worker(near, far)
    except (OSError, ValueError) as error:
        return Check("sandbox", FAIL, f"a worker could not be started: {error}", _sandbox_advice())
    finally:
        near.close()
        far.close()
    if isinstance(message, Failed):
        return Check("sandbox", FAIL, message.reason, _sandbox_advice())
    if not isinstance(message, Ready):
        return Check("sandbox", FAIL, "a worker ended or was silent before it was locked down", _sandbox_advice())
    text = f"{message.badge} ({_kernel_layers()}; {message.badge_reason})" if message.badge_reason else message.badge
    if message.badge in (Badge.ISOLATED, Badge.ISOLATED_PLUS):
        return Check("sandbox", OK, f"{message.badge} ({_kernel_layers()})")
    if message.badge is Badge.PARTIAL:
        return Check("sandbox", WARN, text, "Run K.O.C. as an ordinary user on a kernel with Landlock (5.13 or newer).")
    return Check("sandbox", WARN, text, "Run only strategies that you trust: this machine does not hold them.")


def _sandbox_advice() -> str:
    return f"No strategy can run. {renew()} See the message."


def _first_words_of_a_worker(near: socket.socket, far: socket.socket) -> WorkerMessage | None:
    import os

    from koc_qt.adapters.worker_command import start_worker
    from koc_qt.sdk.channel import FrameReader, decode_worker

    program = [sys.executable] if is_bundle() else [sys.executable, "-P", "-s", "-m", "koc_qt"]
    roots = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    worker = start_worker(far, [], [*program, "worker"], os.environ | {"PYTHONPATH": roots})
    try:
        near.settimeout(PROBE_TIMEOUT_S)
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
