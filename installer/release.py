#!/usr/bin/env python3
"""Keys and signed notes for "Check for a new release".

    installer/release.py keygen --private FILE    make a key pair: the private half goes to FILE, outside the source
                                                  tree, the public half to resources/release_key.txt
    installer/release.py sign --private FILE --version 0.2.0 --serial 7 --page https://... --notes FILE --out FILE
    installer/release.py verify NOTE              hold a signed note against resources/release_key.txt

Builds embed resources/release_key.txt. Run this in K.O.C.'s environment, which has the library for it (python3
installer/bootstrap.py venv says where). Put the signed note at the address that updates.address in koc.yaml names. Each
note needs a larger serial number than the one before, and has to be replaced before it expires.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_FILE = ROOT / "resources" / "release_key.txt"
VALID_DAYS = 180
PHRASE_VARIABLE = "KOC_RELEASE_PHRASE"


class Refused(Exception):
    """It cannot be done; the text says why and what to do."""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    keygen = commands.add_parser("keygen", help="make a key pair")
    keygen.add_argument("--private", type=Path, required=True, help="a new file outside the source tree")
    keygen.add_argument("--public", type=Path, default=PUBLIC_FILE, help="the file that gets the public half added")
    sign = commands.add_parser("sign", help="write a signed note about a release")
    for name in ("private", "notes", "out"):
        sign.add_argument(f"--{name}", type=Path, required=True)
    sign.add_argument("--version", required=True)
    sign.add_argument("--serial", type=int, required=True, help="larger than that of every note before")
    sign.add_argument("--page", required=True, help="the https address of a page for people")
    sign.add_argument("--days", type=int, default=VALID_DAYS, help=f"how long it is valid (default: {VALID_DAYS})")
    verify = commands.add_parser("verify", help="hold a signed note against the public key")
    verify.add_argument("note", type=Path)
    verify.add_argument("--public", type=Path, default=PUBLIC_FILE)
    args = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    from koc_qt.domain.errors import KocError

    try:
        {"keygen": make_keys, "sign": sign_note, "verify": verify_note}[args.command](args)
    except (Refused, KocError, OSError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def make_keys(args: argparse.Namespace) -> None:
    """Make a key pair. Raises Refused where the private half would lie in the source tree, or over another."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = args.private.expanduser().resolve()
    if private.is_relative_to(ROOT):
        raise Refused(f"{private} is inside the source tree: a private key has no place there; name a file elsewhere")
    if private.exists():
        raise Refused(f"{private} is there already, and is not replaced: name another file")
    phrase = _phrase("Passphrase for the new key: ")
    if not phrase:
        raise Refused("a key that signs releases needs a passphrase")
    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(phrase.encode()),
    )
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    word = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    before = args.public.read_text(encoding="ascii") if args.public.exists() else _HEAD
    args.public.write_text(f"{before}{word}  # {datetime.now(UTC):%Y-%m-%d}\n", encoding="ascii")
    print(f"The private key is {private}: keep it off this machine. {args.public} has the public one: builds embed it.")


_HEAD = """\
# Public keys of whoever publishes K.O.C.'s releases, one a line: Ed25519, 32 bytes in Base64. Any of them may sign.
# Made by installer/release.py. A build without this file cannot verify releases, and says so.
"""


def sign_note(args: argparse.Namespace) -> None:
    """Write a signed note, having read it as the program will. Raises Refused."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from koc_qt.adapters.releases import PREFIX, read_note

    today = datetime.now(UTC).date()
    said = {
        "program": "koc",
        "version": args.version,
        "serial": args.serial,
        "date": today.isoformat(),
        "expires": (today + timedelta(days=args.days)).isoformat(),
        "notes": args.notes.read_text(encoding="utf-8"),
        "page": args.page,
    }
    phrase = _phrase("Passphrase of the key: ")
    try:
        key = serialization.load_pem_private_key(args.private.expanduser().read_bytes(), phrase.encode() or None)
    except (ValueError, TypeError) as error:
        raise Refused(f"{args.private} cannot be opened with that passphrase, or is no key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Refused(f"{args.private} is no Ed25519 key: make one with keygen")
    text = json.dumps(said, ensure_ascii=False)
    signature = base64.b64encode(key.sign(PREFIX + text.encode())).decode()
    note = json.dumps({"signed": text, "signature": signature}).encode()
    read_note(note, [key.public_key().public_bytes_raw()])
    args.out.write_bytes(note)
    print(f"{args.out} says that {args.version} is there, until {said['expires']}.")


def verify_note(args: argparse.Namespace) -> None:
    """Say what a note says, where it is signed by a key that builds embed. Raises KocError."""
    from koc_qt.adapters.releases import read_keys, read_note

    release = read_note(args.note.read_bytes(), read_keys(args.public))
    print(f"signed: {release.version} of {release.released}, serial {release.serial}, until {release.expires}")


def _phrase(prompt: str) -> str:
    """Give the passphrase: from KOC_RELEASE_PHRASE, or typed."""
    return os.environ.get(PHRASE_VARIABLE) or getpass.getpass(prompt)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
