"""What of other people is in a bundle, and the terms on which they gave it: from the metadata of each package."""

from __future__ import annotations

import email.message
import email.parser
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TEXTS = re.compile(r"(licen[cs]e|copying|notice|copyright|authors)", re.IGNORECASE)
_KEPT = ("METADATA", "entry_points.txt")  # what programs ask importlib.metadata for
_COMPILED = (".py", ".pyc")


@dataclass(frozen=True)
class Distribution:
    """A package as it was installed: its `info` folder lies in `packages`; `files` are paths from there."""

    name: str
    version: str
    info: Path
    files: tuple[str, ...]
    terms: str

    @property
    def key(self) -> str:
        """Its name as all spellings of it are compared."""
        return re.sub(r"[-_.]+", "-", self.name).lower()


def distributions(packages: Path) -> list[Distribution]:
    """Read what is installed in a folder of packages, by name."""
    found = []
    for info in packages.glob("*.dist-info"):
        metadata = email.parser.Parser().parsestr((info / "METADATA").read_text(encoding="utf-8", errors="replace"))
        record = info / "RECORD"
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        files = tuple(line.rsplit(",", 2)[0].strip('"') for line in lines)
        found.append(Distribution(metadata["Name"], metadata["Version"], info, files, _terms(metadata)))
    return sorted(found, key=lambda each: each.key)


def bundled(packages: Path, internal: Path) -> list[Distribution]:
    """Give those of which a module or library is in the bundle's folder."""
    there = {str(path.relative_to(internal)).replace("\\", "/") for path in internal.rglob("*") if path.is_file()}
    return [each for each in distributions(packages) if any(_as_collected(name) in there for name in each.files)]


def _as_collected(name: str) -> str:
    if ".dist-info/" in name or name.startswith(".."):
        return "\0"  # those may have been copied though nothing else was
    return f"{name}c" if name.endswith(".py") else name


def write_metadata(found: list[Distribution], internal: Path) -> None:
    """Bring the metadata that programs ask for, and nothing of the machine that it was installed on."""
    for info in internal.glob("*.dist-info"):
        shutil.rmtree(info)
    for each in found:
        target = internal / each.info.name
        target.mkdir()
        for name in _KEPT:
            if (each.info / name).exists():
                shutil.copyfile(each.info / name, target / name)


def write_licences(found: list[Distribution], target: Path, texts: Path, python_licence: Path | None) -> None:
    """Write a folder of every licence, with a list of who is in the bundle; `texts` are licences that wheels lack."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    lines = [
        "K.O.C. is free software under the GNU General Public License, version 3 or later: see LICENSE.",
        "This bundle has works of others beside it, each under its own terms, which are in the folder of its name:",
        "",
    ]
    for each in found:
        copied = _copy_texts(each, target / each.key)
        lines.append(f"{each.name} {each.version}: {each.terms}{'' if copied else ' (said in its metadata alone)'}")
    if python_licence is not None and python_licence.is_file():
        (target / "python").mkdir()
        shutil.copyfile(python_licence, target / "python" / "LICENSE.txt")
        lines.append("Python and its standard library: PSF-2.0, see python/LICENSE.txt")
    for text in sorted(texts.glob("*.txt")):
        shutil.copyfile(text, target / text.name)
        lines.append(f"{text.stem}: {text.name}")
    lines += [
        "",
        "ccxt is a part of it: its other exchanges, and the imports of these, were left out.",
        "Qt and PySide6 are libraries of their own in _internal/PySide6, and can be replaced there (LGPL-3.0).",
    ]
    (target / "README.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_system_licences(libraries: Iterable[Path], target: Path, documents: Path = Path("/usr/share/doc")) -> None:
    """Add the copyright files of the Debian packages that these libraries of the build machine came in."""
    if shutil.which("dpkg-query") is None:
        return
    for name in sorted({path.name for path in libraries}):
        done = subprocess.run(
            ["dpkg-query", "-S", f"*/{name}"], capture_output=True, text=True, timeout=60, check=False
        )
        for package in sorted({line.partition(":")[0] for line in done.stdout.splitlines()}):
            text = documents / package / "copyright"
            if text.is_file():
                (target / "system").mkdir(exist_ok=True)
                shutil.copyfile(text, target / "system" / f"{package}.txt")


def _copy_texts(each: Distribution, target: Path) -> int:
    """Copy the texts of a package's licences; gives how many there are."""
    count = 0
    for name in each.files:
        path = each.info.parent / name
        inside = name.split(".dist-info/")[-1]
        is_text = (".dist-info/" in name and ("/licenses/" in name or _TEXTS.search(path.name))) or _is_bare_text(name)
        if not is_text or path.suffix in _COMPILED or not path.is_file():
            continue
        copy = target / inside.replace("licenses/", "", 1).replace("/", "_")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        count += 1
    return count


def _is_bare_text(name: str) -> bool:
    """Tell whether a file beside a package's code is a licence, as some have it."""
    last = name.rpartition("/")[2]
    return bool(re.fullmatch(r"(LICEN[CS]E|COPYING|NOTICE)[\w.-]*", last)) and not last.endswith(_COMPILED)


def _terms(metadata: email.message.Message) -> str:
    """Give a package's terms in a line: as an expression, or by its classifiers, or as it says."""
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classified = [
        value.rpartition(" :: ")[2] for value in metadata.get_all("Classifier", []) if value.startswith("License ::")
    ]
    said = (metadata.get("License") or "").strip().splitlines()
    return ", ".join(classified) or (said[0][:80] if said else "not said")
