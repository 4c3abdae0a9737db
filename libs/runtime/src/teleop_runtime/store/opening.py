"""Opens a store by its address."""

from pathlib import Path

from teleop_runtime.serving.app import unusable
from teleop_runtime.store.errors import PathTaken
from teleop_runtime.store.local import LocalStore
from teleop_runtime.store.protocol import Store
from teleop_runtime.store.s3 import S3ObjectStore

S3_SCHEME = "s3://"


def open_store(address: str | Path) -> Store:
    """The store at `address`: `s3://bucket/prefix`, or a folder, which is created if it does not exist.

    Endpoint and credentials of S3 come from the usual AWS_* variables of the environment. Raises CannotStart
    if the directory can't be used.
    """
    if isinstance(address, str) and address.startswith(S3_SCHEME):
        return S3ObjectStore.open(address)
    try:
        return LocalStore.open(Path(address))
    except (OSError, PathTaken) as error:
        raise unusable(address, error, setting="STORE_URL") from error
