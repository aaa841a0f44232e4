"""What a bundle leaves out, and why: every line is something that the program was run without."""

from __future__ import annotations

import ast
import fnmatch
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

# Modules that are not even looked at, so that nothing that they alone need comes in.
EXCLUDED_MODULES = {
    # tools of the standard library for people who write Python, not for programs
    "tkinter": "another toolkit for windows",
    "_tkinter": "another toolkit for windows",
    "turtle": "draws with tkinter",
    "turtledemo": "draws with tkinter",
    "idlelib": "an editor",
    "lib2to3": "rewrites Python 2",
    "ensurepip": "installs pip",
    "venv": "makes environments",
    "pydoc_data": "help texts of the interactive interpreter",
    "test": "Python's own tests",
    # packaging
    "pip": "installs packages: a bundle is whole",
    "setuptools": "builds packages",
    "pkg_resources": "setuptools' old way to find data",
    "_distutils_hack": "makes setuptools stand for distutils",
    "Cython": "compiles when packages are built",
    # windows by other means
    "PyQt5": "pyqtgraph and matplotlib would take it too",
    "PyQt6": "pyqtgraph and matplotlib would take it too",
    "PySide2": "pyqtgraph and matplotlib would take it too",
    "PySide6.QtQml": "interfaces are made of widgets",
    "PySide6.QtQuick": "interfaces are made of widgets",
    "PySide6.QtQuickWidgets": "interfaces are made of widgets",
    "PySide6.QtTest": "tests alone; pyqtgraph names it",
    "PySide6.QtSql": "SQLite is reached from Python",
    "PySide6.QtDesigner": "pyqtgraph names it for .ui files, of which there are none",
    "PySide6.QtUiTools": "pyqtgraph names it for .ui files, of which there are none",
    "PySide6.QtPrintSupport": "nothing is printed",
    "PySide6.QtNetwork": "Qt's own network is not used",
    "pyqtgraph.examples": "examples",
    "pyqtgraph.opengl": "needs OpenGL for Python, which is not installed",
    # pictures that nobody sees: what vectorbt, pandas and optuna draw with in notebooks
    "matplotlib": "vectorbt and pandas load it for plots alone",
    "mpl_toolkits": "matplotlib's",
    "contourpy": "matplotlib's",
    "kiwisolver": "matplotlib's",
    "fontTools": "matplotlib's",
    "seaborn": "plots",
    "kaleido": "plots as files",
    "optuna.visualization.matplotlib": "plots",
    "jedi": "IPython completes names with it in a terminal",
    "parso": "jedi's",
    "IPython.testing": "tests",
    "IPython.sphinxext": "builds documentation",
    "ipykernel": "notebooks",
    "notebook": "notebooks",
    "jupyter_client": "notebooks",
    "pexpect": "IPython starts shells with it",
    "ptyprocess": "pexpect's",
    # graphics cards
    "numba.cuda": "machine code for graphics cards",
    "cupy": "arrays on graphics cards",
    # tests that packages bring with them
    "numba.tests": "tests",
    "llvmlite.tests": "tests",
    "numpy.tests": "tests",
    "numpy.distutils": "builds packages",
    "pandas.tests": "tests",
    "scipy.conftest": "tests",
    "sklearn.conftest": "tests",
    "pyarrow.tests": "tests",
    "ccxt.test": "tests",
    "dask.tests": "tests",
    "distributed.tests": "tests",
    "distributed.utils_test": "tests",
    "tornado.test": "tests",
    "sqlalchemy.testing": "tests",
    "psutil.tests": "tests",
    "pytest": "tests",
    "_pytest": "tests",
    "hypothesis": "tests",
    # what is used from elsewhere
    "pyarrow.flight": "a server of tables",
    "pyarrow._flight": "a server of tables",
    "pyarrow.cffi": "for programs in C",
    "pyarrow.jvm": "for Java",
    "pyarrow.cuda": "for graphics cards",
    "pyarrow._cuda": "for graphics cards",
    "uvloop": "another event loop: ours is Qt's",
    "sqlalchemy.dialects.mysql": "studies are kept in SQLite or PostgreSQL",
    "sqlalchemy.dialects.oracle": "studies are kept in SQLite or PostgreSQL",
    "sqlalchemy.dialects.mssql": "studies are kept in SQLite or PostgreSQL",
}

# Files that are left out of what was collected, as patterns of paths below _internal.
DROPPED_FILES = {
    "libstdc++.so.6": "the system's is newer than ours is, or as new; its graphics drivers need it",
    "libgcc_s.so.1": "belongs to libstdc++",
    "libexpat.so.1": "the system's libfontconfig needs its own",
    "libglib-2.0.so.0": "the system's, which its desktop shares",
    "libgthread-2.0.so.0": "the system's",
    "libgio-2.0.so.0": "the system's",
    "libgobject-2.0.so.0": "the system's",
    "libgmodule-2.0.so.0": "the system's",
    "libgtk-3.so.0": "Qt's GTK theme, which is left out",
    "libgdk-3.so.0": "GTK's",
    "libgdk_pixbuf-2.0.so.0": "GTK's",
    "libcairo.so.2": "GTK's",
    "libcairo-gobject.so.2": "GTK's",
    "libpango*": "GTK's",
    "libatk*": "GTK's",
    "libatspi.so.0": "GTK's",
    "libepoxy.so.0": "GTK's",
    "libfribidi.so.0": "GTK's",
    "libharfbuzz.so.0": "GTK's; Qt brings its own inside",
    "libthai.so.0": "GTK's",
    "libdatrie.so.1": "GTK's",
    "libgraphite2.so.3": "GTK's",
    "libpixman-1.so.0": "GTK's",
    "libX*.so.*": "the system's: a screen's libraries belong to its server",
    "libxcb*.so.*": "the system's",
    "libxkbcommon*.so.*": "the system's, with its table of keys",
    "libwayland-*.so.*": "the system's: graphics drivers share them",
    "libfontconfig.so.1": "the system's, with its configuration",
    "libfreetype.so.6": "the system's, which libfontconfig shares",
    "libdbus-1.so.3": "the system's",
    "libsystemd.so.0": "libdbus'",
    "libEGL.so.1": "the system's: belongs to its graphics driver",
    "libGL*.so.*": "the system's: belongs to its graphics driver",
    "libOpenGL.so.0": "the system's: belongs to its graphics driver",
    "PySide6/Qt/plugins/platformthemes/libqgtk3.so": "GTK's theme: the window brings its own look",
    "PySide6/Qt/plugins/egldeviceintegrations/*": "screens without a window system",
    "PySide6/Qt/plugins/platforms/libqeglfs.so": "screens without a window system",
    "PySide6/Qt/plugins/platforms/libqlinuxfb.so": "screens without a window system",
    "PySide6/Qt/plugins/platforms/libqvkkhrdisplay.so": "screens without a window system",
    "PySide6/Qt/plugins/platforms/libqvnc.so": "a screen for other machines",
    "PySide6/Qt/plugins/platforms/libqminimal*": "draws nothing",
    "PySide6/Qt/lib/libQt6EglFS*": "screens without a window system",
    "PySide6/Qt/lib/libQt6Qml*": "interfaces are made of widgets",
    "PySide6/Qt/lib/libQt6Quick*": "interfaces are made of widgets",
    "PySide6/Qt/lib/libQt6VirtualKeyboard*": "needs Qt Quick",
    "PySide6/Qt/plugins/platforminputcontexts/libqtvirtualkeyboardplugin.so": "needs Qt Quick",
    "PySide6/Qt/plugins/generic/*": "mice and tablets without a window system",
    "PySide6/Qt/qml/*": "interfaces are made of widgets",
    "PySide6/Qt/translations/*": "the window speaks English",
    "PySide6/translations/*": "the window speaks English",
    "PySide6/qml/*": "interfaces are made of widgets",
    "PySide6/opengl32sw.dll": "draws with the processor what nobody asks for: widgets need no OpenGL",
    "pyarrow/include/*": "for compilers",
    "pyarrow/src/*": "for compilers",
    "pyarrow/libarrow_flight*": "a server of tables",
    "pyarrow/libarrow_python_flight*": "a server of tables",
    "pyarrow/libarrow_s3*": "tables in Amazon's cloud",
    "pyarrow/_s3fs.*": "tables in Amazon's cloud",
    "pyarrow/_azurefs.*": "tables in Microsoft's cloud",
    "pyarrow/_gcsfs.*": "tables in Google's cloud",
    "pyarrow/_hdfs.*": "tables in Hadoop",
    "pyarrow/libarrow_python.so": "a second copy: the loader asks for the name with a number",
    "pyarrow/libarrow_python_parquet_encryption.so": "a second copy: the loader asks for the name with a number",
    "pyarrow/libarrow_python*.so.*.*.*": "a third copy",
    "libarrow_s3*": "a link to what is left out",
    "pyarrow/*.pxd": "for compilers",
    "pyarrow/*.pyx": "for compilers",
    "pyarrow/*.pxi": "for compilers",
    "*/tests/*": "tests",
    "*/test/*": "tests",
    "*/__pycache__/*": "bytecode of sources that are not there",
    "*.pyi": "for type checkers",
    "*/py.typed": "for type checkers",
    "*.h": "for compilers",
    "*.hpp": "for compilers",
    "*.lib": "for compilers",
    "*.a": "for compilers",
    "sklearn/*.c": "for compilers",
    "sklearn/*.tp": "for compilers",
    "sklearn/*.pyx*": "for compilers",
    "sklearn/*.pxd*": "for compilers",
    "sklearn/*.build": "for compilers",
    "sklearn/datasets/data/*": "sample data",
    "sklearn/datasets/images/*": "sample pictures",
    "sklearn/datasets/descr/*": "sample data",
    "numba/np/ufunc/tbbpool*": "needs a library that is not there (TBB); numba takes its own threads",
    "PIL/_avif*": "pictures of cameras and phones",
    "PIL/_webp*": "pictures of web pages",
    "PIL/_imagingtk*": "pictures in tkinter",
    "PIL/_imagingft*": "texts in pictures",
    "PIL/_imagingcms*": "colours for printers",
    "plotly/package_data/plotly.min.js": "pictures in a browser",
    "plotly/package_data/datasets/*": "sample data",
    "numba/cuda/*": "machine code for graphics cards",
    "distributed/http/static/*": "pages of a Dask scheduler, which a bundle is none of",
    "share/*": "notebooks' files",
}


def is_dropped(name: str) -> bool:
    """Tell whether a collected file, by its path in the bundle, is left out."""
    path = name.replace("\\", "/")
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in DROPPED_FILES)


def standard_library(excluded: Iterable[str] = EXCLUDED_MODULES) -> list[str]:
    """List every module of the standard library that strategies may want, found without importing one."""
    left_out = tuple(excluded)
    found = [name for name in sys.stdlib_module_names if name in sys.builtin_module_names or _is_here(name)]
    folder = Path(ast.__file__).parent
    for name in list(found):
        package = folder / name
        if (package / "__init__.py").is_file():
            found += [".".join(file.relative_to(folder).with_suffix("").parts) for file in package.rglob("*.py")]
    names = {name.removesuffix(".__init__") for name in found if not name.endswith("__main__")}
    return sorted(
        name for name in names if not _is_below(name, left_out) and ".test" not in name and name not in _JOKES
    )


_JOKES = {"antigravity", "this"}  # one opens a browser, the other prints


def _is_here(name: str) -> bool:
    folder = Path(ast.__file__).parent
    if (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file():
        return True
    dynamic = [*folder.glob(f"lib-dynload/{name}.*"), *(Path(sys.base_prefix) / "DLLs").glob(f"{name}.pyd")]
    return bool(dynamic)


def _is_below(name: str, roots: Iterable[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def source_modules(root: Path, package: str) -> list[str]:
    """List the modules of a package of ours by its files."""
    names = (".".join(file.relative_to(root).with_suffix("").parts) for file in (root / package).rglob("*.py"))
    return sorted(name.removesuffix(".__init__") for name in names)


def trim_ccxt(original: Path, target: Path, exchanges: Iterable[str]) -> Path:
    """Copy ccxt with these exchanges alone to target/ccxt, and what they are made of; gives the folder `target`.

    Its packages import all of some hundred exchanges when any is asked for: they are 40 MB, and half a second.
    """
    shutil.rmtree(target, ignore_errors=True)
    package = target / "ccxt"
    kept = _exchange_files(original, list(exchanges))
    for folder in ("", "async_support", "pro"):
        for file in (original / folder).glob("*.py"):
            if file.name.startswith("__") or file.relative_to(original) in kept:
                _copy(file, package / file.relative_to(original))
        _keep_only(package / folder / "__init__.py", {path.stem for path in kept if path.parent == Path(folder)})
    for folder in ("base", "async_support/base", "pro/base", "static_dependencies", "protobuf"):
        for file in (original / folder).rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                _copy(file, package / file.relative_to(original))
    for path in kept:
        abstract = Path("abstract", path.name)
        if (original / abstract).exists():
            _copy(original / abstract, package / abstract)
    _copy(original / "abstract" / "__init__.py", package / "abstract" / "__init__.py")
    return target


def _exchange_files(original: Path, exchanges: list[str]) -> set[Path]:
    """Give the files of exchanges, and of those that they are derived from."""
    waiting = [Path(folder, f"{name}.py") for folder in ("", "async_support", "pro") for name in exchanges]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found or not (original / path).is_file():
            continue
        found.add(path)
        for node in ast.walk(ast.parse((original / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ccxt."):
                parts = node.module.split(".")[1:]
                if len(parts) == 1 or (len(parts) == 2 and parts[0] in ("async_support", "pro")):
                    waiting.append(Path(*parts).with_suffix(".py"))
    return found


def _keep_only(init: Path, names: set[str]) -> None:
    """Take the imports of other exchanges out of a package's __init__, and their names out of its list."""
    lines = init.read_text(encoding="utf-8").splitlines()
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ccxt."):
            last = node.module.split(".")[-1]
            if last not in names and [each.name for each in node.names] == [last] and last not in ("errors", "base"):
                lines[node.lineno - 1] = ""
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List) and _name(node.targets[0]) == "exchanges":
            for each in node.value.elts:
                if isinstance(each, ast.Constant) and each.value not in names:
                    lines[each.lineno - 1] = ""
    init.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
