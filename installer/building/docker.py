"""The engine for a container: a build context, proved by doing in a clean system what its Dockerfile says."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from building import chroot, debian, tools
from building.dockerfile import Image, follow
from building.frozen import bundle_needs, bundle_stages
from building.places import send
from building.smoke import CONFIG, FILLS_S, START_S, STOP_S, Proof, need, parsed, until
from building.stages import Build, Stage, need_space

SPACE = 3_000_000_000
_DATA = "/data"
_FILES = ("Dockerfile", "compose.yaml")


def needs(build: Build, test: bool) -> list[tools.Need]:
    """Give what this machine lacks for it."""
    found = [
        *tools.linux("the container's program is frozen"),
        *bundle_needs(build),
        *tools.space(build.builds, SPACE),
    ]
    return [*found, *chroot.needs()] if test else found


def stages(build: Build, test: bool) -> list[Stage]:
    """Give what is done for it, in order."""
    folder = build.root / "installer" / "docker"
    made = [
        *bundle_stages(build),
        Stage(
            "context", "Lay out the build context", _context, 20, lambda b: [b.bundle, folder], lambda b: [_place(b)]
        ),
        Stage("pack", "Pack the build context", _pack, 60, lambda b: [str(b.out), str(b.is_quick)]),
    ]
    proof = [chroot.System(build).stage(), Stage("use", "Do what the Dockerfile says, and use it", _use, 90)]
    return [*made, *proof] if test else made


def name(build: Build) -> str:
    """Give the context's file name."""
    return f"koc-{build.version}-docker.tar.gz"


def _place(build: Build) -> Path:
    return build.work / f"koc-{build.version}-docker"


def packages(root: Path) -> list[str]:
    """Name the Debian packages that the engine needs: it has no window."""
    return sorted({*debian.engine_packages(root), "ca-certificates", "libexpat1", "libgcc-s1"})


def _context(build: Build) -> None:
    need_space(build.work, SPACE // 3)
    place, source = _place(build), build.root / "installer" / "docker"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for each in _FILES:
        text = (source / each).read_text(encoding="utf-8")
        (place / each).write_text(text.replace("@PACKAGES@", " ".join(packages(build.root))), encoding="utf-8")
    build.run(["cp", "--archive", "--reflink=auto", build.bundle, place / "koc"])
    build.run(["chmod", "--recursive", "u=rwX,go=rX", place])


def _pack(build: Build) -> None:
    """Pack the context: names in order, owned by root, every file of the same moment."""
    moment = int(debian.source_day(build).timestamp())

    def same(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        build.check()
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = moment
        return entry

    with build.artefact(name(build)) as path:
        packed = path.with_suffix(".tar")
        try:
            with tarfile.open(packed, "w", format=tarfile.GNU_FORMAT) as tar:
                tar.add(_place(build), _place(build).name, filter=same)
            level = "-1" if build.is_quick else "-9"
            build.run(["gzip", "--no-name", level, "--suffix", ".gz", packed])
            Path(f"{packed}.gz").replace(path)
        finally:
            for left in (packed, Path(f"{packed}.gz")):
                left.unlink(missing_ok=True)


# ---- the proof ------------------------------------------------------------------------------------------------------


class Container:
    """What stands for a container: the image's files in a clean system, its program as its user, its environment."""

    def __init__(self, build: Build, system: chroot.Inside, image: Image) -> None:
        self.build = build
        self.image = image
        self._system = system

    def run(self, *command: str, allowed: tuple[int, ...] = (0,), timeout_s: float = 60.0) -> str:
        """Do in it what `docker exec` does; gives what was said."""
        said: list[str] = []
        self._system.run(
            list(command),
            user=self.image.user,
            env=self._env(),
            allowed=allowed,
            timeout_s=timeout_s,
            heard=said.append,
        )
        return "\n".join(said)

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Have it running meanwhile."""
        words = [*self.image.entrypoint, *self.image.command]
        output = self.build.work / "said-container.txt"
        with self._system.started(words, output, self.image.user, self._env()) as process:
            yield process

    def stop(self) -> None:
        """Send what `docker stop` sends, to the program that was started."""
        for number, line in self._system.programs_of("/opt/koc/koc").items():
            if line[1:2] == ["engine"]:
                send(self._system, self.image.stop_signal.removeprefix("SIG"), number)

    def is_healthy(self) -> bool:
        """Ask what the image's health check asks."""
        said = self.run(*self.image.health[:-1], f"({self.image.health[-1]}) && echo yes; true")
        return said.splitlines()[-1:] == ["yes"]

    def _env(self) -> dict[str, str]:
        return {**self.image.env, "HOME": _DATA}


def _use(build: Build) -> None:
    proof = Proof(build)
    proof.begin()
    root = chroot.System(build).copy(build, build.work / "system")
    with chroot.inside(build, root) as system:
        with proof.holds("every instruction of the Dockerfile can be done"):
            image = follow((_place(build) / "Dockerfile").read_text(encoding="utf-8"), _place(build), system)
        container = Container(build, system, image)
        with proof.holds("its program is no root, and may write to its volume alone") as note:
            note(container.run("id", "-un"))
            need(container.run("id", "-u") not in ("", "0"), "it runs as root")
            written = container.run(
                "sh", "-c", "for d in / /opt /opt/koc /usr /etc; do test -w $d && echo $d; done; true"
            )
            need(not written, f"it may write to {written}")
        _mount(root, image)
        _trade(container, proof)
        with proof.holds("another container on its volume goes on where it stopped"):
            before = len(_fills(container))
            with container.started():
                until(build, lambda: len(_fills(container)) > before > 0, START_S + FILLS_S, "no new fill")
                container.stop()
                until(build, lambda: not system.programs_of("/opt/koc/koc"), STOP_S, "it still runs")
    chroot.removed(root)


def _trade(container: Container, proof: Proof) -> None:
    build = container.build
    with container.started() as engine:
        with proof.holds("its health check fails until the engine is there, and holds from then on"):
            until(build, container.is_healthy, START_S, "the health check does not hold")
        with proof.holds("it trades on the simulator") as note:
            note(f"fills: {len(until(build, lambda: _fills(container), FILLS_S, 'no fill'))}")
        with proof.holds("keys of accounts come from the files of /run/secrets"):
            for account, files in (("main", 2), ("other", 0)):
                words = ["koc", "accounts", "add", "binance", "testnet", "--id", account]
                said = container.run(*words, allowed=(0, 1), timeout_s=120)
                need(f"{account}_testnet_key" in said, f"it names no file of account {account}: {said}")
                need(said.count("it is there") == files, f"of account {account} it says: {said}")
        with proof.holds("it stops in order when the container is stopped") as note:
            container.stop()
            until(build, lambda: engine.poll() is not None, STOP_S, "it still runs")
            need(engine.poll() == 0, f"it ended with code {engine.poll()}")
    with proof.holds("its health check fails when no engine runs"):
        need(not container.is_healthy(), "the health check holds without an engine")


def _mount(root: Path, image: Image) -> None:
    """Put into the volume and into /run/secrets what a person mounts there."""
    need(image.volumes == [_DATA], f"the Dockerfile has the volumes {image.volumes}")
    user = (root / _DATA.lstrip("/")).stat()
    config, secrets = root / "data" / "config", root / "run" / "secrets"
    for folder in (config, secrets):
        folder.mkdir(parents=True, exist_ok=True)
    (config / "koc.yaml").write_text(CONFIG.format(strategy="/opt/koc/_internal/strategies/sma_cross.py"))
    for field in ("key", "secret"):
        file = secrets / f"main_testnet_{field}"
        file.write_text(f"not-a-real-{field}\n")
        file.chmod(0o444)
    for path in (config, config / "koc.yaml"):
        os.chown(path, user.st_uid, user.st_gid)


def _fills(container: Container) -> list[object]:
    found: list[object] = parsed(container.run("koc", "fills", "--json"))
    return found
