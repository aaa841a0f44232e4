"""``koc accounts add``: what it needs is asked for at the terminal, or comes in as JSON, or is mounted as files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from koc_qt.domain.errors import ConfigError, SecretsUnavailable

if TYPE_CHECKING:  # loaded when the command runs: ``koc --help`` shall not wait for them
    from koc_qt.domain.accounts import KeyFiles, PaperOptions
    from koc_qt.domain.state import Balance, TradingMode
    from koc_qt.domain.venues import CredentialField, VenueAbilities
    from koc_qt.link.client import BlockingClient

MODES = ("simulated", "paper", "testnet", "live", "data")
_ANSWER_S = 90.0  # a keyring may ask its owner

_EPILOG = """\
Keys are asked for. Without a terminal they are one JSON object that comes in, such as {"key": "...", "secret": "..."}.
In a container whose keys are mounted as files none are asked for: the files are named, and what is missing among them.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Register ``add``."""
    parser = subparsers.add_parser(
        "add",
        help="add an account",
        description="Add an account to the engine that runs on this profile, and open it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("venue", metavar="VENUE", help="where orders go, such as binance")
    parser.add_argument("mode", metavar="MODE", choices=MODES, help=f"one of {', '.join(MODES)}")
    parser.add_argument("--id", default="", help="what orders are kept under, for ever (default: of venue and mode)")
    parser.add_argument("--label", default="", help="what people call it")
    parser.add_argument(
        "--balance",
        metavar="CURRENCY=AMOUNT",
        type=_balance,
        action="append",
        help="what a simulated or paper account begins with; may be repeated (default: USDT=100000)",
    )
    parser.add_argument(
        "--confirm", metavar="NAME", help="the account's label, or its id: to go live without a question"
    )
    return parser


def add(client: BlockingClient, args: argparse.Namespace) -> str:
    """Add an account; gives what is to be said of that. Raises KocError."""
    import msgspec

    from koc_qt.domain.accounts import KeyFiles, needs_keys
    from koc_qt.domain.state import TradingMode
    from koc_qt.domain.venues import VenueAbilities
    from koc_qt.link.account_messages import AddAccount, ListKeyFiles, ListVenues

    mode = TradingMode(args.mode)
    answer = client.request(ListKeyFiles(args.venue, mode, args.id), timeout_s=_ANSWER_S)  # knows venue and mode
    files = msgspec.convert(answer, KeyFiles)
    venues = msgspec.convert(client.request(ListVenues(), timeout_s=_ANSWER_S), list[VenueAbilities])
    abilities = next(each for each in venues if each.venue == args.venue)
    if files.files:
        _show_files(files)
    credentials: dict[str, str] = {}
    if needs_keys(abilities, mode) and not files.files:
        _require_store(client)
        credentials = _ask_for(abilities.credentials)
    name = args.label.strip() or files.account_id
    command = AddAccount(
        args.venue,
        mode,
        files.account_id,
        args.label,
        credentials,
        _paper(args.balance) if mode in (TradingMode.PAPER, TradingMode.SIMULATED) else None,
        _confirmed(args.confirm, name) if mode is TradingMode.LIVE else "",
    )
    account_id = client.request(command, timeout_s=_ANSWER_S)
    return f"Account {account_id} was added: {_where(abilities, mode)}. 'koc accounts' says whether it can be used."


def _require_store(client: BlockingClient) -> None:
    """Raise SecretsUnavailable where no key can be kept now: nobody shall type one for nothing."""
    import msgspec

    from koc_qt.domain.accounts import SecretsState
    from koc_qt.link.account_messages import SecretsStatus

    state = msgspec.convert(client.request(SecretsStatus(), timeout_s=_ANSWER_S), SecretsState)
    if state.is_locked:
        raise SecretsUnavailable(f"the {state.title} is locked: 'koc unlock' opens it. Nothing was added")
    if not state.is_writable:
        raise SecretsUnavailable(f"no key can be kept here: {state.reason}")


def _where(abilities: VenueAbilities, mode: TradingMode) -> str:
    return f"{mode} on {abilities.title}"


def _show_files(files: KeyFiles) -> None:
    """Print which files the account needs. Raises SecretsUnavailable where they are not all there."""
    print(f"Keys of account {files.account_id} are read from files in {files.folder}:")
    width = max(len(file.name) for file in files.files)
    for file in files.files:
        print(f"  {file.name:<{width}}  {file.problem or 'it is there'}")
    if missing := [file.name for file in files.files if file.problem]:
        raise SecretsUnavailable(f"mount {' and '.join(missing)} in {files.folder}, and try again: nothing was added")


def _ask_for(fields: Sequence[CredentialField]) -> dict[str, str]:
    """Have the person type keys, of which the terminal shows nothing; else read them. Raises ConfigError."""
    if not sys.stdin.isatty():
        return _read([field.name for field in fields])
    import getpass

    typed = {}
    for field in fields:
        hint = f" ({field.help})" if field.help else ""
        lines = "; write \\n for the end of a line" if field.is_multiline else ""
        typed[field.name] = getpass.getpass(f"{field.title}{hint}{lines}: ").strip().replace("\\n", "\n")
    return typed


def _read(names: Sequence[str]) -> dict[str, str]:
    """Read keys as JSON. What came in is in no text of an error."""
    import msgspec

    try:
        return msgspec.json.decode(sys.stdin.read(), type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeError):
        raise ConfigError(
            f"no keys came in: without a terminal they are one JSON object with the fields {' and '.join(names)}"
        ) from None


def _confirmed(typed: str | None, name: str) -> str:
    """Have the person type the account's name, unless that was done on the command line."""
    if typed is not None or not sys.stdin.isatty():
        return typed or ""
    return input(f"This trades with real money. Type the account's name, {name!r}, to confirm it: ")


def _paper(balances: list[Balance] | None) -> PaperOptions:
    from koc_qt.domain.accounts import PaperOptions

    return PaperOptions(balances=tuple(balances)) if balances else PaperOptions()


def _balance(text: str) -> Balance:
    from koc_qt.domain.state import Balance

    currency, _, amount = text.partition("=")
    try:
        value = Decimal(amount)
    except InvalidOperation:
        value = Decimal("NaN")
    if not currency or not value.is_finite() or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no money: write it like USDT=10000")
    return Balance(currency, value)
