"""``koc keys``: exchange the link's public keys with another machine, by file. No engine need run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from koc_qt.domain.errors import ConfigError
from koc_qt.paths import profile_paths

if TYPE_CHECKING:  # loaded when the command runs: ``koc --help`` shall not wait for them
    from koc_qt.link.keys import ProfileKeys

OWN = "client"  # under this name the engine lets in the windows and commands of its own profile

_EPILOG = """\
To see an engine from another machine:
  1. on the machine with the window:   koc keys export laptop.key
  2. carry the file to the engine's machine, and there:
                                       koc keys import laptop laptop.key
                                       koc keys server engine.key
     and give it an address in koc.yaml, such as engine.link.endpoint: tcp://0.0.0.0:5555
  3. carry engine.key back, and:       koc --connect tcp://HOST:5555 --server-key engine.key
Only public keys travel. What must stay where it is ends in .key_secret.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``koc keys`` and its actions."""
    parser = subparsers.add_parser(
        "keys",
        help="exchange keys with another machine",
        description="Exchange public keys with another machine, so that a window there can show this profile's engine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run_list, json=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action")
    export = actions.add_parser("export", help="write the public key of this profile's windows to a file")
    export.set_defaults(run=run_export)
    server = actions.add_parser("server", help="write the public key of this profile's engine to a file")
    server.set_defaults(run=run_server)
    for one in (export, server):
        one.add_argument("file", metavar="FILE", help="the file to write, such as laptop.key")
    let_in = actions.add_parser("import", help="let the owner of a public key into this profile's engine")
    let_in.set_defaults(run=run_import)
    let_in.add_argument("name", metavar="NAME", help="what to call it, such as laptop")
    let_in.add_argument("file", metavar="FILE", help="the file that was exported on the other machine")
    for one in (export, server, let_in):
        one.add_argument("--force", action="store_true", help="replace what is there")
    remove = actions.add_parser("remove", help="let a key in no more")
    remove.set_defaults(run=run_remove)
    remove.add_argument("name", metavar="NAME", help="as 'koc keys list' shows it")
    listing = actions.add_parser("list", help="show who may enter")
    listing.set_defaults(run=run_list)
    listing.add_argument("--json", action="store_true", help="print one JSON object")


def run_export(args: argparse.Namespace) -> int:
    """Write the public key of this profile's windows and commands. Raises KocError."""
    path = _write(args, _keys().client.public)
    print(f"The public key of this profile is in {path}. On the engine's machine: koc keys import NAME {path.name}")
    return 0


def run_server(args: argparse.Namespace) -> int:
    """Write the public key of this profile's engine. Raises KocError."""
    path = _write(args, _keys().engine.public)
    print(
        f"The engine's public key is in {path}. On the other machine: koc --connect tcp://HOST:PORT --server-key FILE"
    )
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Let the owner of a key in. Raises KocError."""
    from koc_qt.link.keys import authorized_keys, check_key_name, import_authorized, read_public

    keys = _keys()
    check_key_name(args.name)
    if args.name.lower() == OWN:
        raise ConfigError(f"{OWN!r} is this profile's own key: choose another name")
    public = read_public(Path(args.file))
    if public == keys.engine.public:
        raise ConfigError(
            f"{args.file} is this engine's own key: export that of the other machine with 'koc keys export'"
        )
    known = authorized_keys(keys.folder)
    name = known.get(public)
    if name is not None:
        print(f"This key is let in already, as {name}.")
        return 0
    target = keys.authorized_folder / f"{args.name}.key"
    if target.exists() and not args.force:
        raise ConfigError(
            f"another key is called {args.name!r} already: choose another name, or replace it with --force"
        )
    import_authorized(keys.folder, args.name, Path(args.file))
    print(f"{args.name} may enter this profile's engine from now on, also one that runs.")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Let a key in no more. Raises KocError."""
    from koc_qt.link.keys import check_key_name

    keys = _keys()
    check_key_name(args.name)
    if args.name.lower() == OWN:
        raise ConfigError(
            f"{OWN!r} is this profile's own key: without it no window and no command could reach the engine"
        )
    path = keys.authorized_folder / f"{args.name}.key"
    try:
        path.unlink()
    except FileNotFoundError:
        raise ConfigError(f"no key is called {args.name!r}: 'koc keys list' shows those that are let in") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be removed: {error.strerror}") from error
    print(f"{args.name} is let in no more. A window that is connected now stays so until it, or the engine, ends.")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Print who may enter, and what this profile is called by others. Raises KocError."""
    from koc_qt.link.keys import authorized_keys

    keys = _keys()
    names = sorted((name, public.decode()) for public, name in authorized_keys(keys.folder).items())
    if args.json:
        import json

        letting_in = [{"name": name, "public_key": public} for name, public in names]
        own = {"engine": keys.engine.public.decode(), "client": keys.client.public.decode()}
        print(json.dumps({**own, "authorized": letting_in}, indent=2))
        return 0
    print(f"this profile's engine  {keys.engine.public.decode()}")
    print(f"this profile's window  {keys.client.public.decode()}")
    print("\nThe engine lets in:")
    width = max(len(name) for name, _ in names) if names else 0
    for name, public in names:
        print(f"  {name:<{width}}  {public}" + ("  (this profile)" if name == OWN else ""))
    return 0


def _keys() -> ProfileKeys:
    """Give the profile's keys, made where there are none yet. Raises KocError."""
    from koc_qt.link.keys import load_or_create_keys

    paths = profile_paths()
    paths.ensure()
    return load_or_create_keys(paths.keys)


def _write(args: argparse.Namespace, public: bytes) -> Path:
    from koc_qt.link.keys import write_public

    path = Path(args.file).absolute()
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file in it, such as {path / 'koc.key'}")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}: make it, or name another file")
    if os.path.lexists(path) and not args.force:
        raise ConfigError(f"{path} is there already: name another file, or replace it with --force")
    write_public(public, path)
    return path
