"""Where accounts' keys are kept: the system's keyring, files that are mounted, or an encrypted file."""

from koc_qt.adapters.secrets.choice import Choice, choose_store
from koc_qt.adapters.secrets.encrypted_file import EncryptedFileStore
from koc_qt.adapters.secrets.keyring_store import KeyringStore
from koc_qt.adapters.secrets.mounted_store import MountedStore

__all__ = ["Choice", "EncryptedFileStore", "KeyringStore", "MountedStore", "choose_store"]
