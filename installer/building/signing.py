"""Signs what was built, for whoever wants to know that it came from you: beside its SHA-256, each in a file of its own.

    python3 installer/building/signing.py FILE ... --gpg KEY           writes FILE.asc
    python3 installer/building/signing.py FILE ... --ed25519 KEY.pem   writes FILE.sig

`installer/build.py TARGET` takes the same two options. The Ed25519 key is one that `installer/release.py keygen` made;
its phrase is taken from KOC_RELEASE_PHRASE, or asked for. People check the first with `gpg --verify FILE.asc`, the
second with `openssl pkeyutl -verify -rawin -pubin -inkey PUBLIC.pem -sigfile FILE.sig -in FILE`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PHRASE_VARIABLE = "KOC_RELEASE_PHRASE"
GPG_ENDING, ED25519_ENDING = SIGNATURES = (".asc", ".sig")


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


@dataclass(frozen=True)
class Signer:
    """Signs with a key of GnuPG's, or with one in a file."""

    gpg: str | None = None
    ed25519: Path | None = None

    def sign(self, file: Path) -> tuple[Path, str]:
        """Write the signature beside a file; gives where it is, and what went wrong, nothing where it went well."""
        final = file.with_name(f"{file.name}{GPG_ENDING if self.gpg else ED25519_ENDING}")
        partial = final.with_name(f".{final.name}.partial")
        if self.gpg:
            command = gpg_command(file, partial, self.gpg)
        else:
            assert self.ed25519 is not None
            command = ed25519_command(file, partial, self.ed25519)
        return final, sign(file, command, partial, final)


def add_keys(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Register the options that name a key."""
    keys = parser.add_mutually_exclusive_group(required=required)
    keys.add_argument("--gpg", metavar="KEY", help="sign with a key that gpg has")
    keys.add_argument("--ed25519", metavar="FILE", type=Path, help="sign with a private key in a file")


def signer_of(args: argparse.Namespace) -> Signer | None:
    """Give what signs, None where the command line names no key."""
    return Signer(args.gpg, args.ed25519) if args.gpg or args.ed25519 else None


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    add_keys(parser, required=True)
    args = parser.parse_args(arguments)
    signer = signer_of(args)
    assert signer is not None
    failed = False
    for file in args.files:
        signature, wrong = signer.sign(file)
        failed = failed or bool(wrong)
        print(wrong or signature, file=sys.stderr if wrong else sys.stdout)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
