"""Finishing a bundle: what is left out, what is told of other people's work, and how two are compared."""

from __future__ import annotations

import importlib.util
import marshal
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from building import bundle, bundle_entry, bytecode, licences, sbom, shared_libraries
from building.pruning import is_dropped, trim_ccxt

needs_binutils = pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("strip") and shutil.which("objdump")), reason="needs binutils"
)


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# ---- ccxt -----------------------------------------------------------------------------------------------------------

INIT = """from ccxt.base.exchange import Exchange  # noqa: F401
from ccxt.base.errors import BadSymbol
from ccxt.kraken import kraken
from ccxt.parent import parent
from ccxt.other import other
exchanges = [
    'kraken',
    'parent',
    'other',
]
"""


def test_ccxt_is_cut_to_exchanges_and_their_parents(tmp_path: Path) -> None:
    original = tmp_path / "original"
    write(original / "__init__.py", INIT)
    write(original / "pro" / "__init__.py", INIT.replace("from ccxt.kraken", "from ccxt.pro.kraken"))
    write(original / "async_support" / "__init__.py", "exchanges = []\n")
    write(original / "abstract" / "__init__.py")
    write(original / "base" / "exchange.py", "class Exchange: pass\n")
    write(original / "base" / "errors.py", "class BadSymbol(Exception): pass\n")
    write(original / "base" / "__init__.py")
    write(original / "kraken.py", "from ccxt.parent import parent\nclass kraken(parent): pass\n")
    write(original / "parent.py", "from ccxt.base.exchange import Exchange\nclass parent(Exchange): pass\n")
    write(original / "other.py", "raise RuntimeError\n")
    write(original / "pro" / "kraken.py", "import ccxt\nclass kraken: pass\n")
    target = trim_ccxt(original, tmp_path / "trimmed", ["kraken"])
    names = {path.relative_to(target / "ccxt").as_posix() for path in target.rglob("*.py")}
    assert {"kraken.py", "parent.py", "base/exchange.py", "pro/kraken.py"} <= names
    assert "other.py" not in names
    program = "import ccxt, ccxt.kraken; print(ccxt.exchanges, ccxt.kraken, ccxt.BadSymbol.__name__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("['kraken', 'parent'] <")


def test_patterns_of_files_that_are_left_out() -> None:
    assert is_dropped("libstdc++.so.6")
    assert is_dropped("numba/tests/x.pyc")
    assert is_dropped("PySide6\\translations\\qt_de.qm")
    assert not is_dropped("pyarrow/libarrow_substrait.so.2600")
    assert not is_dropped("plotly/validators/_validators.json")
    assert not is_dropped("pandas/_testing/__init__.pyc")
    assert not is_dropped("koc_qt/ui/panels/deploy.pyc")


# ---- libraries ------------------------------------------------------------------------------------------------------


@needs_binutils
def test_libraries_that_nobody_needs_go_and_links_to_nothing(tmp_path: Path) -> None:
    internal = tmp_path / "_internal"
    internal.mkdir()
    program = shutil.copyfile("/bin/sh", tmp_path / "koc")
    needed = shared_libraries.needs([Path(program)])[Path(program)]
    assert "libc.so.6" in needed
    shutil.copyfile("/bin/sh", internal / "libc.so.6")  # any file of its kind: only names count
    shutil.copyfile("/bin/sh", internal / "liborphan.so.1")
    (internal / "libgone.so").symlink_to("nowhere.so")
    said: list[str] = []
    shared_libraries.remove_orphans(tmp_path, said.append)
    assert sorted(path.name for path in internal.iterdir()) == ["libc.so.6"]
    assert len(said) == 2
    assert shared_libraries.newest_glibc(tmp_path)[0] >= (2, 2)


@needs_binutils
def test_a_stripped_file_still_loads_and_a_text_is_left_alone(tmp_path: Path) -> None:
    copy = tmp_path / "koc"
    shutil.copy("/bin/sh", copy)
    text = write(tmp_path / "readme", "no program")
    shared_libraries.strip_all(tmp_path, pytest.fail, lambda: None)
    assert subprocess.run([copy, "-c", "exit 7"], check=False).returncode == 7
    assert text.read_text() == "no program"
    raw = bytearray(copy.read_bytes())
    assert shared_libraries.is_aligned(copy)
    raw[:4] = b"none"
    copy.write_bytes(raw)
    assert not shared_libraries.is_aligned(copy)


def test_a_path_of_the_build_machine_is_written_over(tmp_path: Path) -> None:
    library = tmp_path / "x.so"
    library.write_bytes(b"\x7fELF\0/srv/builder/lib0\0next\0")
    shared_libraries.replace_text(library, "/srv/builder/lib0", "$ORIGIN")
    assert library.read_bytes() == b"\x7fELF\0$ORIGIN\0" + b"\0" * 10 + b"next\0"
    with pytest.raises(ValueError, match="cannot be replaced"):
        shared_libraries.replace_text(library, "/srv/builder/lib0", "$ORIGIN")


# ---- licences, bill of materials ------------------------------------------------------------------------------------


def package(folder: Path, name: str, *files: str, metadata: str = "") -> None:
    info = folder / f"{name}-1.0.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}\n")
    record = "".join(f"{file},,\n" for file in (*files, f"{info.name}/METADATA", f"{info.name}/licenses/LICENSE"))
    write(info / "RECORD", record)
    write(info / "direct_url.json", "where it was installed from")
    write(info / "licenses" / "LICENSE", f"terms of {name}")


def test_who_is_in_the_bundle_and_on_what_terms(tmp_path: Path) -> None:
    packages, folder = tmp_path / "packages", tmp_path / "koc"
    package(packages, "Used_Name", "used/__init__.py", metadata="License-Expression: MIT")
    package(packages, "native", "native.so", metadata="Classifier: License :: OSI Approved :: BSD License")
    package(packages, "tool", "tool/__init__.py")
    write(folder / "_internal" / "used" / "__init__.pyc")
    write(folder / "_internal" / "native.so")
    write(folder / "_internal" / "tool-1.0.dist-info" / "METADATA", "collected though nothing else was")
    found = licences.bundled(packages, folder / "_internal")
    assert [(each.key, each.terms) for each in found] == [("native", "BSD License"), ("used-name", "MIT")]
    licences.write_metadata(found, folder / "_internal")
    infos = sorted(path.name for path in (folder / "_internal").glob("*.dist-info"))
    assert infos == ["Used_Name-1.0.dist-info", "native-1.0.dist-info"]
    assert not list(folder.rglob("direct_url.json"))
    licences.write_licences(found, folder / "licences", write(tmp_path / "texts" / "LGPL.txt").parent, None)
    assert (folder / "licences" / "used-name" / "LICENSE").read_text() == "terms of Used_Name"
    said = (folder / "licences" / "README.txt").read_text()
    assert "Used_Name 1.0: MIT\n" in said
    assert "tool" not in said


def test_a_bill_of_materials_has_what_is_in_the_bundle_alone(tmp_path: Path) -> None:
    def component(name: str) -> dict[str, Any]:
        reference = {"type": "distribution", "url": "https://mirror.example/x"}
        return {"type": "library", "bom-ref": name, "name": name, "externalReferences": [reference]}

    everything = {
        "components": [component("Used_Name"), component("tool")],
        "dependencies": [{"ref": "Used_Name", "dependsOn": ["tool"]}, {"ref": "tool"}],
    }
    library = write(tmp_path / "_internal" / "libx.so.1", "x")
    bill = sbom.cut(everything, ["used-name"], "1.2", [library], tmp_path)
    assert [each["bom-ref"] for each in bill["components"]] == ["file:_internal/libx.so.1", "Used_Name"]
    assert bill["metadata"]["component"]["version"] == "1.2"
    assert bill["dependencies"][1] == {"ref": "Used_Name", "dependsOn": []}
    sbom.write(bill, tmp_path / "sbom.json")
    assert "mirror" not in (tmp_path / "sbom.json").read_text()


# ---- two bundles ----------------------------------------------------------------------------------------------------


def test_what_differs_between_two_bundles_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        write(folder / "_internal" / "same.pyc", "1")
        write(folder / "_internal" / "numpy.libs" / "x.so", "22")
    assert bundle.main(["compare", str(one), str(other)]) == 0
    assert capsys.readouterr().out == "no difference\n"
    write(other / "_internal" / "same.pyc", "2")
    write(one / "koc", "only here")
    assert bundle.main(["compare", str(one), str(other)]) == 1
    assert capsys.readouterr().out == f"only in {one}: koc\ndiffers: _internal/same.pyc\n"
    assert dict(bundle.components(one)) == {"koc": 9, "numpy": 2, "others": 1}
    assert bundle.sums(one)[0].endswith("  one/_internal/numpy.libs/x.so\n")


def test_bytecode_does_not_tell_what_its_compiler_had_done_before(tmp_path: Path) -> None:
    source = "def area(width, height):\n    return (width * height, 'of two words', frozenset({'x1', 'y1'}))\n"
    code = compile(source, "area.py", "exec", dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + bytes(12)
    kept = [code.co_consts, *code.co_consts]  # which makes other bytes of the same code
    first, second = header + marshal.dumps(code), header + marshal.dumps(marshal.loads(marshal.dumps(code)))
    assert first != second
    assert bytecode.alike(first) == bytecode.alike(second)
    assert kept
    file = tmp_path / "area.pyc"
    file.write_bytes(first)
    (tmp_path / "other.pyc").write_bytes(b"oth\r" + bytes(20))
    assert bytecode.make_alike(tmp_path) == 1
    names: dict[str, Any] = {}
    exec(marshal.loads(file.read_bytes()[16:]), names)
    assert names["area"](2, 3) == (6, "of two words", frozenset({"x1", "y1"}))


def test_the_entry_serves_what_multiprocessing_starts() -> None:
    assert not bundle_entry.serve_multiprocessing(["koc", "backtest", "-c", "x.py"])
    assert not bundle_entry.serve_multiprocessing(["koc"])
    program = (
        "from building.bundle_entry import serve_multiprocessing as s; import sys; sys.exit(7 if s(sys.argv) else 8)"
    )
    root = Path(bundle_entry.__file__).parents[1]
    # the tracker reads until its pipe is closed: an end of file at once
    tracker = "from multiprocessing.resource_tracker import main;main(0)"
    words = [sys.executable, "-c", f"import sys; sys.path.append({str(root)!r}); {program}", "-c", tracker]
    assert subprocess.run(words, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode == 7


def test_programs_that_it_starts_find_the_systems_libraries() -> None:
    environment = {"LD_LIBRARY_PATH": "/opt/koc/_internal", "HOME": "/h", "_PYI_ARCHIVE_FILE": "/opt/koc/koc"}
    bundle_entry.give_back_environment(environment)
    assert environment == {"HOME": "/h"}
    environment = {"LD_LIBRARY_PATH": "/opt/koc/_internal:/own", "LD_LIBRARY_PATH_ORIG": "/own"}
    bundle_entry.give_back_environment(environment)
    assert environment == {"LD_LIBRARY_PATH": "/own"}


def test_what_freezes_is_locked_to_the_versions_that_are_run() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (Path(bundle.__file__).parents[1] / name).read_text(encoding="utf-8").splitlines()
        found = [
            line.split(" ")[0].partition("==") for line in lines if "==" in line and not line.startswith((" ", "#"))
        ]
        return {package: version for package, _, version in found}

    run, build = pins("requirements.txt"), pins("requirements-build.txt")
    assert {"pyinstaller", "cyclonedx-bom", "psycopg"} <= build.keys()
    assert {name: version for name, version in build.items() if run.get(name, version) != version} == {}
