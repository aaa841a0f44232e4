"""Signs what was built, for whoever wants to know that it came from you: beside its SHA-256, each in a file of its own.

    python3 installer/building/signing.py FILE ... --gpg KEY           writes FILE.asc
    python3 installer/building/signing.py FILE ... --ed25519 KEY.pem   writes FILE.sig

The Ed25519 key is one that `installer/release.py keygen` made; its phrase is taken from KOC_RELEASE_PHRASE, or asked
for. People check the first with `gpg --verify FILE.asc`, the second with `openssl pkeyutl -verify -rawin -pubin -inkey
PUBLIC.pem -sigfile FILE.sig -in FILE`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PHRASE_VARIABLE = "KOC_RELEASE_PHRASE"


def gpg_command(file: Path, signature: Path, key: str) -> list[str]:
    """Give the command that signs with a key of GnuPG's."""
    return ["gpg", "--yes", "--local-user", key, "--armor", "--detach-sign", "--output", str(signature), str(file)]


def ed25519_command(file: Path, signature: Path, key: Path) -> list[str]:
    """Give the command that signs with a key in a file."""
    phrase = ["-passin", f"env:{PHRASE_VARIABLE}"] if PHRASE_VARIABLE in os.environ else []
    words = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(key), *phrase]
    return [*words, "-in", str(file), "-out", str(signature)]


def sign(file: Path, command: Sequence[str], partial: Path, final: Path) -> str:
    """Sign a file; the signature is there whole or not at all. Gives what went wrong, nothing where it went well."""
    if not file.is_file():
        return f"{file} is not there"
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            return f"{file} was not signed: {done.stderr.strip() or f'{command[0]} ended with code {done.returncode}'}"
        partial.replace(final)
    except OSError as error:
        return f"{file} was not signed: {command[0]}: {error.strerror or error}"
    finally:
        partial.unlink(missing_ok=True)
    return ""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--gpg", metavar="KEY", help="a key that gpg has")
    keys.add_argument("--ed25519", metavar="FILE", type=Path, help="a file with a private key")
    args = parser.parse_args(arguments)
    failed = False
    for file in args.files:
        final = file.with_name(f"{file.name}{'.asc' if args.gpg else '.sig'}")
        partial = final.with_name(f".{final.name}.partial")
        command = gpg_command(file, partial, args.gpg) if args.gpg else ed25519_command(file, partial, args.ed25519)
        wrong = sign(file, command, partial, final)
        failed = failed or bool(wrong)
        print(wrong or final, file=sys.stderr if wrong else sys.stdout)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
