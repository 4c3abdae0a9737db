"""Translates obstore's errors to errors of the store."""

from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import AlreadyExistsError, BaseError

from teleop_runtime.store.errors import StoreUnusable


@contextmanager
def reaching() -> Iterator[None]:
    """Raise StoreUnusable if the store can't be reached."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except BaseError as error:
        raise StoreUnusable(f"the file store can't be used right now: {type(error).__name__}") from error
