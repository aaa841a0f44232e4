"""The tree itself: no file that is too long, no secret, no registry, no path of somebody's machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FILE = 500  # lines
LONGEST_TEST = 700
# Put together here so that this file does not hold what it looks for.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "/sim" + "ple/",
    "npm" + "js.com",
    "--index" + "-url",
    "--extra-index" + "-url",
]
SECRETS = [
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}",
    r"(?i)\b(api|secret)_?key\s*[:=]\s*[\"'][A-Za-z0-9+/]{40,}[\"']",
]
MACHINE_PATHS = [r"(?<![\w./])/" + r"(work|root|home/\w+|Users/\w+)/"]


def tracked() -> list[Path]:
    """Give the files of the project, as text."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs the git checkout, to know which files are the project's")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    files = {path: path.read_bytes() for path in tracked() if path != Path(__file__)}
    return {
        str(path.relative_to(ROOT)): raw.decode("utf-8")
        for path, raw in files.items()
        if b"\0" not in raw and path.name != "LICENSE"
    }


def test_no_file_of_code_is_too_long() -> None:
    lengths = {name: text.count("\n") for name, text in texts().items() if name.endswith(".py")}
    assert len(lengths) > 50
    limits = {name: LONGEST_TEST if name.startswith("tests/") else LONGEST_FILE for name in lengths}
    assert {name: length for name, length in lengths.items() if length > limits[name]} == {}


@pytest.mark.parametrize("pattern", [*map(re.escape, REGISTRIES), *SECRETS, *MACHINE_PATHS])
def test_what_must_not_be_committed(pattern: str) -> None:
    found = [
        f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group()[:20]}"
        for name, text in texts().items()
        for hit in re.finditer(pattern, text)
    ]
    assert found == []


def test_text_is_utf8_with_plain_line_ends() -> None:
    assert [name for name, text in texts().items() if "\r" in text] == []
    assert [name for name, text in texts().items() if text and not text.endswith("\n")] == []


def test_documents_point_at_what_is_there() -> None:
    documents = {name: text for name, text in texts().items() if name.endswith(".md")}
    broken = [
        f"{name}: {target}"
        for name, text in documents.items()
        for target in re.findall(r"\]\(([^)#:]+)\)", text)
        if not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert "README.md" in documents
    assert broken == []
