"""The installer for Windows: frozen on Windows itself, or on Linux under Wine, and packed with NSIS.

On Windows the same stages run without Wine; that was not tried yet. Here it is verified under Wine 10 with stand-ins
for libraries that Wine lacks (windows_wine.py), which is not the same as on Windows.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from building import bundle, chroot, screens, tools, windows_proof, windows_python, windows_wine
from building.stages import Build, Stage, need_space
from building.trouble import BuildError

SPACE = 8_000_000_000
# What Windows takes in a path by default, less the longest folder that it is expected in, with a NUL at its end:
# C:\Users\<20 letters>\AppData\Local\Programs\KOC\koc-new\
LONGEST = 259 - len(r"C:\Users\12345678901234567890\AppData\Local\Programs\KOC\koc-new" + "\\")
_FREEZE_S = 7200.0
_PACK_S = 7200.0
_OURS = ("koc_qt", "resources", "strategies", "koc.spec", "LICENSE", "installer/licences", "installer/windows")
_RUNTIME = ("vcruntime140", "msvcp140", "concrt140")
_NEVER = ("ucrtbase.dll", "icuuc.dll", "mscms.dll")  # stand-ins for Wine's, or Windows' own


def needs(build: Build, test: bool) -> list[tools.Need]:
    """Give what this machine lacks for it."""
    found = [*tools.programs(("makensis",), "packs the installer"), *tools.space(build.builds, SPACE)]
    if sys.platform == "win32":
        nowhere = tools.Need("wine", "Linux and Wine, where an installer is tried", "Leave --test out on Windows.")
        return [*found, *bundle.needs(build), *([nowhere] if test else [])]
    wanted = [*tools.linux("Windows programs are made under Wine"), *chroot.needs(), *found]
    return [*wanted, *tools.programs(screens.PROGRAMS, "shows and photographs the window")] if test else wanted


def stages(build: Build, test: bool) -> list[Stage]:
    """Give what is done for it, in order."""
    pack = Stage("pack", "Pack the installer", _pack, 900, lambda b: _packed_from(b), lambda _b: [])
    made = [*_frozen(build), pack]
    return [*made, *windows_proof.stages()] if test else made


def name(build: Build) -> str:
    """Give the installer's file name."""
    return f"koc-{build.version}-setup.exe"


def frozen(build: Build) -> Path:
    """Give the folder of the frozen program for Windows."""
    given = build.given_bundle
    if given is not None and (given / "koc.exe").is_file():
        return given
    return build.bundle if sys.platform == "win32" else build.work / "koc"


def _frozen(build: Build) -> list[Stage]:
    """Give the stages that freeze the program."""
    wine = windows_wine.system(build)
    if build.given_bundle is not None and frozen(build) == build.given_bundle:
        for_proof = [wine.stage(180), windows_wine.prefix_stage(), windows_python.stages()[0]]
        return for_proof if sys.platform != "win32" else []
    if sys.platform == "win32":
        return bundle.stages(build)
    environment = [stage for stage in bundle.stages(build) if stage.name == "environment"]  # writes the SBOM
    return [
        wine.stage(180),
        windows_wine.prefix_stage(),
        *windows_python.stages(),
        *environment,
        Stage(
            "freeze",
            "Freeze the program under Wine",
            _freeze,
            800,
            inputs=lambda b: [*(b.root / each for each in _OURS), Path(bundle.__file__), windows_python.RUNTIME.sha256],
            outputs=lambda b: [b.work / "koc" / "koc.exe"],
        ),
    ]


def _freeze(build: Build) -> None:
    """Freeze under Wine, finish, and put the new bundle in the old one's place once it is whole."""
    fresh = build.work / "fresh"
    chroot.removed(fresh)
    fresh.mkdir()
    need_space(fresh, SPACE // 4)
    prefix = windows_wine.fresh(build, build.work / "freezing")
    shared = {build.root: "/src", windows_python.folder(build): "/python", fresh: "/fresh"}
    words = ["Z:\\python\\python.exe", "-m", "PyInstaller", "--noconfirm", "--clean"]
    places = ["--distpath", "Z:\\fresh\\dist", "--workpath", "Z:\\fresh\\work", "Z:\\src\\koc.spec"]
    heard = bundle.FreezeProgress(build)
    with windows_wine.windows(build, prefix, shared) as wine:
        env = {**bundle.freezing_environment(), "PYTHONUTF8": "1"}
        wine.run([*words, *places], env=env, timeout_s=_FREEZE_S, heard=heard)
    made = fresh / "dist" / "koc"
    unify_runtime(made, windows_python.runtime(build))
    check_files(made)
    of_python = windows_python.folder(build) / "LICENSE.txt"
    what = bundle.Finish(build.root, made, windows_python.packages(build), bundle.python_of(build), of_python)
    bundle.finish(what, build.say, build.check)
    chroot.removed(build.work / "koc")
    made.rename(build.work / "koc")
    for left in (fresh, prefix):
        chroot.removed(left)


def unify_runtime(folder: Path, runtime: dict[str, bytes]) -> None:
    """Put one version of Microsoft's C++ libraries wherever a bundle has one of them under its own name."""
    for path in folder.rglob("*.dll"):
        lower = path.name.lower()
        if lower in runtime and lower.startswith(_RUNTIME):
            path.write_bytes(runtime[lower])


def check_files(folder: Path) -> None:
    """Hold a bundle for Windows against what must not be in it. Raises BuildError naming the files."""
    paths = [path.relative_to(folder) for path in folder.rglob("*")]
    if foreign := [str(path) for path in paths if path.name.lower() in _NEVER or path.name.startswith("api-ms-win-")]:
        raise BuildError(f"parts of Windows or of Wine are in the bundle: {', '.join(sorted(foreign)[:5])}")
    if long := [str(path) for path in paths if len(str(path)) > LONGEST]:
        text = f"{len(long)} paths are too long for a person's folder on Windows, the first of them {min(long)}"
        raise BuildError(text, "Leave those files out (installer/building/pruning.py).")
    names: dict[str, Path] = {}
    for path in paths:
        other = names.setdefault(str(path).lower(), path)
        if other != path:
            raise BuildError(f"{other} and {path} are the same file on Windows")


def _packed_from(build: Build) -> list[Path | str]:
    return [frozen(build), build.root / "installer" / "windows", build.version, str(build.out), str(build.is_quick)]


def _pack(build: Build) -> None:
    need_space(build.work, SPACE // 8)
    with build.artefact(name(build)) as path:
        pack(build, path, build.version)


def pack(build: Build, path: Path, version: str, is_quick: bool | None = None) -> None:
    """Pack an installer of the frozen program. Raises BuildError, Cancelled."""
    kilobytes = bundle.total(frozen(build)) // 1024
    quick = build.is_quick if is_quick is None else is_quick
    facts = {"VERSION": version, "BUNDLE": frozen(build), "OUTPUT": path, "KILOBYTES": kilobytes}
    defined = [f"-D{key}={value}" for key, value in facts.items()] + (["-DQUICK"] if quick else [])
    # dates in an installer are those of its files, which are all the same
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(bundle.EPOCH)}
    script = build.root / "installer" / "windows" / "koc.nsi"
    build.run(["makensis", "-V3", "-INPUTCHARSET", "UTF8", *defined, script], env=env, timeout_s=_PACK_S)
