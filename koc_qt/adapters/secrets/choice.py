"""Which store keeps the keys: the keyring, else mounted files in a container, else the encrypted file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from koc_qt.adapters.secrets.encrypted_file import EncryptedFileStore
from koc_qt.adapters.secrets.keyring_store import KeyringStore
from koc_qt.adapters.secrets.mounted_store import FOLDER, MountedStore
from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.paths import Paths
from koc_qt.ports.secrets import SecretStore

DOCKER_VARIABLE = "KOC_DOCKER"
FOLDER_VARIABLE = "KOC_SECRETS_FOLDER"
FILE = "accounts.keys"


class Choice(NamedTuple):
    """A store, and why it is that one: a sentence."""

    store: SecretStore
    reason: str


def mounted_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Give where a container has its keys as files; None where this is no container."""
    if environment.get(DOCKER_VARIABLE) != "1":
        return None
    return Path(environment.get(FOLDER_VARIABLE) or FOLDER)


def choose_store(
    paths: Paths,
    fields: Iterable[str],
    modes: Mapping[str, TradingMode],
    *,
    mounted: Path | None = None,
    keyring_backend: object = None,
) -> Choice:
    """Choose where this profile's keys are kept. May block for as long as the keyring asks its owner.

    `fields` are the names of all that venues ask for; `modes` are those of the accounts that koc.yaml describes. In a
    container (KOC_DOCKER=1) keys come from files where it has no keyring: in `mounted`, else where KOC_SECRETS_FOLDER
    says, else in /run/secrets. Raises SecretsUnavailable when that is meant and there is no such folder: a passphrase
    cannot be asked for there.
    """
    file = paths.keys / FILE
    try:
        keyring = KeyringStore(str(paths.config), keyring_backend)
    except SecretsUnavailable as error:
        why = str(error)
    else:
        reason = f"this system has a {keyring.title}"
        if file.exists():
            reason += f"; {file}, which has keys as well, is not read while there is one"
        return Choice(keyring, reason)
    if (folder := mounted_folder()) is not None:
        store = MountedStore(fields, modes, mounted or folder)
        return Choice(store, f"{DOCKER_VARIABLE}=1 says that keys are mounted here")
    return Choice(EncryptedFileStore(file), f"no keyring can be used: {why}")
