"""The .deb for Ubuntu and Debian, and its proof: installed into a clean system, used, upgraded, removed."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from building import chroot, debian, manual, screens, tools
from building.frozen import bundle_needs, bundle_stages
from building.places import SystemPlace, send
from building.smoke import CONFIG, FILLS_S, START_S, STOP_S, Proof, engine_answers, fills, need, smoke, until
from building.stages import Build, Stage, need_space, read_json, write_whole

SPACE = 4_000_000_000
OLDER = "0.0.1"
PROGRAM = f"/{debian.FOLDER}"
_NO_TRACES = (
    "var/cache",
    "var/log",
    "var/lib/apt",
    "var/lib/dpkg",
    "etc/ld.so.cache",
    "home",
    "root",
    "tmp",
    "run",
    "mnt",
)


def needs(build: Build, test: bool) -> list[tools.Need]:
    """Give what this machine lacks for it."""
    found = [
        *tools.linux("the .deb is made"),
        *tools.programs(("dpkg-deb", "strip"), "packs the .deb"),
        *bundle_needs(build),
        *icons_needs(build),
        *tools.space(build.builds, SPACE),
    ]
    return [*found, *test_needs()] if test else found


def test_needs() -> list[tools.Need]:
    """Give what this machine lacks to prove an installer in a clean system."""
    shown = tools.programs(screens.PROGRAMS, "shows and photographs the window")
    valid = tools.programs(("desktop-file-validate", "appstreamcli"), "checks what a desktop is told")
    return [*chroot.needs(), *shown, *valid]


def stages(build: Build, test: bool) -> list[Stage]:
    """Give what is done for it, in order."""
    linux = build.root / "installer" / "linux"
    own = (
        Path(debian.__file__),
        Path(manual.__file__),
        linux,
        build.root / "koc_qt" / "version.py",
        build.root / "CHANGELOG.md",
    )
    made = [
        *bundle_stages(build),
        icons_stage(),
        Stage("tree", "Lay out the package", _tree, 20, lambda b: [b.bundle, *own], lambda b: [b.work / "tree"]),
        Stage("deb", "Pack the .deb", _deb, 120, lambda b: [str(b.out), *_compression(b)]),
    ]
    return [*made, *_proof_stages(build)] if test else made


def icons_needs(build: Build) -> list[tools.Need]:
    """Give what this machine lacks to draw the icon; the environment that freezes the program can."""
    drawn = (build.builds / "icons" / "png" / "koc-512.png").exists()
    if build.given_bundle is None or drawn or debian.python_with_qt(build) is not None:
        return []
    advice = "Make the project's environment: python3 installer/bootstrap.py venv"
    return [tools.Need("qt", "a Python with Qt, which draws the icons", advice)]


def icons_stage() -> Stage:
    """Give the stage that draws the icon in all sizes, for every target."""
    return Stage(
        "icons",
        "Draw the icons",
        lambda build: debian.render_icons(build, build.builds / "icons" / "png"),
        3,
        inputs=lambda build: [build.root / "resources" / "koc.svg", build.root / "resources" / "render_icon.py"],
        outputs=lambda build: [build.builds / "icons" / "png" / "koc-512.png"],
        part="icons",
    )


def _tree(build: Build) -> None:
    need_space(build.work, SPACE // 3)
    debian.make_tree(build, build.work / "tree", build.builds / "icons" / "png")
    debian.control(build, build.work / "tree", build.version)


def _compression(build: Build) -> list[str]:
    return ["-Zzstd", "-z3"] if build.is_quick else ["-Zxz", "-z6"]


def deb_name(build: Build) -> str:
    """Give the package's file name."""
    return f"koc_{build.version}_amd64.deb"


def _deb(build: Build) -> None:
    with build.artefact(deb_name(build)) as path:
        debian.pack(build, build.work / "tree", path, *_compression(build))


# ---- the proof ------------------------------------------------------------------------------------------------------


def _proof_stages(build: Build) -> list[Stage]:
    return [
        chroot.System(build).stage(),
        Stage("older", "Pack an older version to upgrade", _older, 30, lambda _b: [OLDER], lambda b: [_older_file(b)]),
        Stage("install", "Install it into a clean system", _install, 60),
        Stage("use", "Use it there", _use, 150),
        Stage("upgrade", "Upgrade it while it trades", _upgrade, 90),
        Stage("remove", "Remove it while it trades", _remove, 60),
    ]


def _older_file(build: Build) -> Path:
    return build.work / "older" / f"koc_{OLDER}_amd64.deb"


def _older(build: Build) -> None:
    """Pack the same files under an older version: what is proved of an upgrade is how it treats what runs."""
    file = _older_file(build)
    file.parent.mkdir(parents=True, exist_ok=True)
    debian.control(build, build.work / "tree", OLDER)
    try:
        debian.pack(build, build.work / "tree", file, "-Znone")
    finally:
        debian.control(build, build.work / "tree", build.version)


@contextlib.contextmanager
def _system(build: Build, screen: screens.Screen | None = None) -> Iterator[tuple[chroot.Inside, SystemPlace]]:
    """Have the system that it is installed in run."""
    shared = {build.out: "/mnt/new", _older_file(build).parent: "/mnt/older"}
    if screen is not None:
        shared[screens.SOCKETS] = str(screens.SOCKETS)
    with chroot.inside(build, build.work / "system", shared) as system:
        yield system, SystemPlace(system, screen, ["koc"], f"{PROGRAM}/koc", f"{PROGRAM}/_internal/strategies")


def _install(build: Build) -> None:
    proof = Proof(build)
    proof.begin()
    root = chroot.System(build).copy(build, build.work / "system")
    write_whole(build.work / "before.json", json.dumps({"files": sorted(_files(root))}))
    with _system(build) as (system, _place):
        with proof.holds("it installs into a clean system with what it depends on"):
            system.install(f"/mnt/new/{deb_name(build)}")
        with proof.holds("no library that the window needs is missing") as note:
            note(_libraries(system))
    with proof.holds("a desktop knows it: menu entry, type of files, metadata"):
        _validate(build, root)


def _libraries(system: chroot.Inside) -> str:
    """Look for libraries that the installed program's own do not find. Raises BuildError naming them."""
    plugins = "xcb|wayland|_internal/PySide6|QtWidgets|QtGui|QtSvg"
    script = (
        f"find {PROGRAM} -name '*.so*' -type f | grep -E '{plugins}' | while read -r f; do "
        f'LD_LIBRARY_PATH={PROGRAM}/_internal ldd "$f" 2>/dev/null | grep \'not found\' | sed "s|^|$f|"; done; true'
    )
    missing = system.run(["sh", "-c", script])
    need(not missing, "; ".join(missing[:8]))
    return "none"


def _validate(build: Build, root: Path) -> None:
    share = root / "usr" / "share"
    build.run(["desktop-file-validate", share / "applications" / "koc.desktop"])
    no_domain = "--override=cid-desktopapp-is-not-rdns=info"  # the project has none to be named by
    build.run(["appstreamcli", "validate", "--no-net", "--explain", no_domain, share / "metainfo/koc.metainfo.xml"])
    for size in (16, 24, 32, 48, 64, 128, 256, 512):
        need((share / f"icons/hicolor/{size}x{size}/apps/koc.png").is_file(), f"there is no icon of {size} pixels")
    page = gzip.decompress((share / "man/man1/koc.1.gz").read_bytes()).decode()
    need(".SS koc backtest" in page, "the manual page does not describe the commands")


def _use(build: Build) -> None:
    with screens.screen(build) as screen, _system(build, screen) as (_inside, place):
        smoke(place, Proof(build))


def _upgrade(build: Build) -> None:
    proof = Proof(build)
    with _system(build) as (system, place):
        system.run(["dpkg", "--install", f"/mnt/older/{_older_file(build).name}"])
        place.configure(CONFIG.format(strategy=f"{place.samples}/sma_cross.py"))
        upgrade = ["dpkg", "--install", f"/mnt/new/{deb_name(build)}"]
        with (
            _trading(place) as engine,
            proof.holds("an engine that cannot stop is not killed: the upgrade fails instead"),
        ):
            _refused(system, upgrade)
            engine.send_signal(signal.SIGCONT)  # what entered the system with it has stopped too
            _ended(build, engine)  # once it can, as it was asked to
        with _trading(place) as engine, proof.holds("an upgrade asks the engine that trades to stop in order") as note:
            before = len(fills(place))
            said = system.run(upgrade, timeout_s=300)
            need(any("asking K.O.C. to stop" in line for line in said), "the package did not ask")
            _ended(build, engine)
            note("its exit code was 0")
        with proof.holds("what was traded is there after the upgrade, and trading goes on") as note:
            kept = len(fills(place))
            need(kept >= before > 0, f"{kept} fills are left of {before}")
            with place.started(["engine", "--no-live"]):
                until(build, lambda: len(fills(place)) > kept, FILLS_S, "no new fill")
                place.koc("stop", timeout_s=STOP_S)
            note(f"{kept} fills kept")


@contextlib.contextmanager
def _trading(place: SystemPlace) -> Iterator[subprocess.Popen[bytes]]:
    """Have an engine running that trades."""
    with place.started(["engine", "--no-live"]) as engine:
        until(place.build, lambda: engine_answers(place), START_S, "no engine answered")
        until(place.build, lambda: fills(place), FILLS_S, "no fill")
        yield engine


def _ended(build: Build, engine: subprocess.Popen[bytes]) -> None:
    until(build, lambda: engine.poll() is not None, STOP_S, "the engine still runs")
    need(engine.poll() == 0, f"the engine ended with code {engine.poll()}")


def _refused(system: chroot.Inside, command: list[str]) -> None:
    """Hold the engine still, so that it cannot end: the command must fail, and leave the older version working."""
    engine = [number for number, line in system.programs_of(f"{PROGRAM}/koc").items() if line[1:2] == ["engine"]]
    need(engine, "no engine runs")
    send(system, "STOP", *engine)
    try:
        said = system.run(command, env={"KOC_STOP_SECONDS": "2"}, allowed=(1,), timeout_s=120)
    finally:
        send(system, "CONT", *engine)
    need(any("was not killed" in line for line in said), "the package did not say so")
    state = system.run(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}\n", "koc"])[-1]
    need(state == f"installed {OLDER}", f"the package is {state}")


def _remove(build: Build) -> None:
    proof = Proof(build)
    with _system(build) as (system, place):
        with _trading(place) as engine, proof.holds("its removal asks the engine that trades to stop in order"):
            system.run(["apt-get", "-q", "-y", "purge", "koc"], timeout_s=300)
            _ended(build, engine)
        system.run(["apt-get", "-q", "-y", "autoremove", "--purge"], timeout_s=300)
    with proof.holds("nothing of it is left but the person's data"):
        before = set(read_json(build.work / "before.json")["files"])
        left = sorted(_files(build.work / "system") - before)
        need(not left, f"{len(left)} files are left: {', '.join(left[:10])}")
        need((place.profile / "data" / "journal.sqlite").is_file(), "the person's journal is gone")
    chroot.removed(build.work / "system")


def _files(root: Path) -> set[str]:
    """List what is below a system that does not run, but for caches, logs and homes."""
    found = set()
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if (here / name).as_posix() not in _NO_TRACES]
        found |= {(here / name).as_posix() for name in (*files, *folders) if (here / name).as_posix() not in _NO_TRACES}
    return found
