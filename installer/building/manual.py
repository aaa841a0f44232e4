"""The manual page, made of what the program itself says of its commands."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from building.trouble import BuildError

Help = Callable[[list[str]], str]
_COMMAND = re.compile(r"^    ([a-z]+) ", re.MULTILINE)


def help_of(program: Path) -> Help:
    """Give what asks a program for its help, in a form that does not depend on who asks."""
    environment = {**os.environ, "COLUMNS": "78", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}

    def ask(words: list[str]) -> str:
        try:
            said = subprocess.run(
                [program, *words, "--help"], env=environment, capture_output=True, text=True, timeout=120, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildError(f"{program} does not say how it is used: {error}") from error
        return said.stdout

    return ask


def manual(ask: Help, version: str, day: str) -> str:
    """Write the manual page of the program in roff; `day` is the day of its version."""
    whole = ask([])
    commands = _COMMAND.findall(whole.partition("\ncommands:")[2])
    if not commands:
        raise BuildError("the program names no commands in its help")
    parts = [
        f'.TH KOC 1 "{day}" "K.O.C. {version}" "User Commands"',
        ".SH NAME\nkoc \\- a trading desktop with sandboxed strategies",
        f".SH SYNOPSIS\n{_verbatim(_usage(whole))}",
        f".SH DESCRIPTION\n{_verbatim(_rest(whole))}",
        ".SH COMMANDS",
        *(f".SS koc {name}\n{_verbatim(ask([name]))}" for name in commands),
        ".SH ENVIRONMENT\n.TP\nKOC_HOME\nThe folder of all data, configuration, logs and locks.",
        ".SH FILES\n.TP\n~/.config/koc/koc.yaml\nThe configuration; it need not exist.\n"
        ".TP\n~/.local/share/koc\nJournal, bars, strategies, logs. Removing the program leaves it alone.",
        ".SH EXIT STATUS\n0 done, 1 it could not be done, 2 the command line is wrong, 3 no engine runs, "
        "70 an error in K.O.C. itself, 130 stopped with Ctrl-C.",
    ]
    return "\n".join(parts) + "\n"


def _usage(text: str) -> str:
    return text.partition("\n\n")[0].removeprefix("usage: ")


def _rest(text: str) -> str:
    return text.partition("\n\n")[2]


def _verbatim(text: str) -> str:
    """Give text as it stands; lines that begin with what roff takes for a request are shielded."""
    lines = [line.replace("\\", "\\e").replace("-", "\\-") for line in text.rstrip().splitlines()]
    shielded = [f"\\&{line}" if line[:1] in (".", "'") else line for line in lines]
    return "\n".join([".nf", *shielded, ".fi"])
