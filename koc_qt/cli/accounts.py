"""``koc accounts`` and ``koc unlock``: which accounts there are, one more, and the passphrase of the file of keys."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from koc_qt.cli import account_adding
from koc_qt.domain.errors import ConfigError
from koc_qt.paths import profile_paths

if TYPE_CHECKING:  # loaded when the command runs: ``koc --help`` shall not wait for them
    from koc_qt.domain.accounts import AccountDetails, AccountLimits, SecretsState
    from koc_qt.domain.risk import RiskLimits
    from koc_qt.link.client import BlockingClient

_KEYRING_TIMEOUT_S = 90.0  # a keyring may ask its owner
NO_ENGINE = 3


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the commands."""
    accounts = subparsers.add_parser(
        "accounts",
        help="list the accounts",
        description="List the accounts of this profile: what they are for, where their keys are, and whether they can "
        "be used and how much of their limits is used up. Without a running engine, what the files say. Accounts are "
        "added here and in the window, and changed in the window.",
    )
    accounts.add_argument("--json", action="store_true", help="print one JSON object")
    accounts.set_defaults(run=run_accounts)
    actions = accounts.add_subparsers(title="actions", metavar="ACTION", dest="action")
    account_adding.add_parser(actions).set_defaults(run=run_add)
    unlock = subparsers.add_parser(
        "unlock",
        help="unlock the encrypted file of keys",
        description="Unlock the encrypted file in which keys are kept where there is no keyring, for the engine that "
        "runs on this profile. The passphrase is asked for; without a terminal, it is the first line of what comes in.",
    )
    unlock.set_defaults(run=run_unlock)


def run_accounts(args: argparse.Namespace) -> int:
    """Print the accounts. Raises KocError."""
    from koc_qt.link.rendezvous import NoEngineError

    secrets: SecretsState | None = None
    limits: dict[str, AccountLimits] = {}
    risk: RiskLimits | None = None
    try:
        with _connect() as client:
            accounts, secrets = _ask(client)
            limits, risk = {each.account_id: each for each in client.snapshot.limits}, client.snapshot.risk
    except NoEngineError:
        accounts = _from_files()
    if args.json:
        import json

        import msgspec

        where = msgspec.to_builtins(secrets) if secrets else None
        plain = {
            "engine": secrets is not None,
            "keys": where,
            "accounts": msgspec.to_builtins(accounts),
            "limits": msgspec.to_builtins(limits),
            "risk": msgspec.to_builtins(risk),
        }
        print(json.dumps(plain, indent=2, ensure_ascii=False, default=str))
        return 0
    _print(accounts)
    _print_limits(limits, risk)
    if secrets is None:
        print("\nNo engine runs on this profile: this is what its files say.")
    else:
        print(f"\nKeys are kept in: {secrets.title} ({secrets.reason}).")
        if secrets.is_locked:
            print("It is locked: 'koc unlock' opens it.")
    return 0


def run_add(args: argparse.Namespace) -> int:
    """Add an account. Raises KocError."""
    from koc_qt.link.rendezvous import NoEngineError

    try:
        with _connect() as client:
            print(account_adding.add(client, args))
    except NoEngineError as error:
        print(f"koc: {error}", file=sys.stderr)
        return NO_ENGINE
    return 0


def run_unlock(args: argparse.Namespace) -> int:
    """Ask for the passphrase and unlock the keys of the engine that runs. Raises KocError."""
    import msgspec

    from koc_qt.domain.accounts import SecretsState
    from koc_qt.link.account_messages import SecretsStatus, UnlockSecrets
    from koc_qt.link.rendezvous import NoEngineError

    try:
        with _connect() as client:
            state = msgspec.convert(client.request(SecretsStatus(), timeout_s=_KEYRING_TIMEOUT_S), SecretsState)
            if not state.is_locked:
                print(f"Nothing is locked: keys are kept in the {state.title}.")
                return 0
            client.request(UnlockSecrets(_passphrase(state.is_new)), timeout_s=_KEYRING_TIMEOUT_S)
    except NoEngineError as error:
        print(f"koc: {error}", file=sys.stderr)
        return NO_ENGINE
    print("Keys are unlocked until the engine ends.")
    return 0


def _passphrase(is_new: bool) -> str:
    """Have the person type the passphrase, twice where it is chosen. Raises ConfigError."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    import getpass

    if not is_new:
        return getpass.getpass("Passphrase of the file of keys: ")
    print("No keys are kept yet. Choose a passphrase; nobody can read the keys without it, also not you.")
    phrase = getpass.getpass("New passphrase: ")
    if getpass.getpass("The same again: ") != phrase:
        raise ConfigError("these were two different passphrases: nothing has changed")
    return phrase


def _connect() -> BlockingClient:
    from koc_qt.link.client import connect

    paths = profile_paths()
    return connect(paths.run, paths.keys, name="koc command")


def _ask(client: BlockingClient) -> tuple[list[AccountDetails], SecretsState]:
    import msgspec

    from koc_qt.domain.accounts import AccountDetails, SecretsState
    from koc_qt.link.account_messages import ListAccounts, SecretsStatus

    accounts = client.request(ListAccounts(), timeout_s=_KEYRING_TIMEOUT_S)
    secrets = client.request(SecretsStatus(), timeout_s=_KEYRING_TIMEOUT_S)
    return msgspec.convert(accounts, list[AccountDetails]), msgspec.convert(secrets, SecretsState)


def _from_files() -> list[AccountDetails]:
    from koc_qt.accounts_file import AccountsFile, ManagedAccount, with_accounts
    from koc_qt.config import load_config
    from koc_qt.domain.accounts import AccountDetails
    from koc_qt.domain.state import VenueState

    paths = profile_paths()
    AccountsFile(paths.accounts_file).read()  # says what is wrong with it
    return [
        AccountDetails(
            account_id=account.id,
            label=account.label,
            venue=account.venue,
            mode=account.mode,
            enabled=account.enabled,
            is_editable=isinstance(account, ManagedAccount),
            modes=(account.mode,),
            keys_for=(),
            state=VenueState.DISCONNECTED,
            reason="no engine runs",
            paper=None,
        )
        for account in with_accounts(load_config(paths), paths).accounts
    ]


def _print_limits(limits: dict[str, AccountLimits], risk: RiskLimits | None) -> None:
    """Print what venues and the engine let the accounts do, as far as it is known."""
    from koc_qt.link.wording import limit_words, risk_words

    known = {account_id: words for account_id, each in limits.items() if (words := limit_words(each))}
    lines = [f"  {account_id}: {words}" for account_id, words in known.items()]
    lines += [f"  each strategy: {risk_words(risk)}"] if risk is not None else []
    if lines:
        print("\n".join(["", "Limits:", *lines]))


def _print(accounts: list[AccountDetails]) -> None:
    rows: list[tuple[Any, ...]] = [("ACCOUNT", "LABEL", "VENUE", "MODE", "STATE", "KEYS FOR", "")]
    for account in accounts:
        state = account.state.value if account.enabled else "off"
        keys = ", ".join(account.keys_for) or "-"
        rows.append(
            (account.account_id, account.label or "-", account.venue, account.mode, state, keys, account.reason)
        )
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [f"{row[column]!s:<{width}}" for column, width in enumerate(widths)]
        print("  ".join([*cells, str(row[-1])]).rstrip())
