"""Files and folders that somebody names on the command line: what cannot be is refused before anything is run."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from koc_qt.domain.errors import ConfigError


def strategy_file(name: str) -> Path:
    """Give the full path of a strategy file. Raises ConfigError where there is none."""
    path = Path(name).absolute()
    with _explained(str(path)):
        if not path.is_file():
            raise ConfigError(f"there is no strategy file {path}: name a .py file that is there")
    return path


def output_file(option: str, name: str, endings: Collection[str] = ()) -> Path:
    """Give the file that an option names, to be written later. Raises ConfigError for what cannot become one."""
    file, said = Path(name), f"--{option} {name}"
    with _explained(said):
        if name == "-" or (file.exists() and not file.is_file()):
            raise ConfigError(f"{said}: that is {'a folder' if file.is_dir() else 'no file'}; name a file")
        if endings and file.suffix.lower() not in endings:
            raise ConfigError(f"{said}: let its name end in {next(iter(endings))}")
        _check_parent(said, file)
    return file


def output_folder(option: str, name: str) -> Path:
    """Give the folder that an option names, to be made later. Raises ConfigError for what cannot become one."""
    folder, said = Path(name), f"--{option} {name}"
    with _explained(said):
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{said}: that is a file; name a folder")
        _check_parent(said, folder)
    return folder


def _check_parent(said: str, path: Path) -> None:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise ConfigError(f"{said}: there is no folder {parent}")


@contextlib.contextmanager
def _explained(said: str) -> Iterator[None]:
    """Say of a name that the system does not even look up what is wrong: too long, or in a folder that is closed."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{said}: {error.strerror or error}") from error
