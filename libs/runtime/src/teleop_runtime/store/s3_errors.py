"""What obstore raises, as errors of the store."""

from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import AlreadyExistsError, BaseError

from teleop_runtime.store.errors import StoreUnusable


@contextmanager
def reaching() -> Iterator[None]:
    """Tell a store that can't be reached as StoreUnusable."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except BaseError as error:
        raise StoreUnusable(f"the file store can't be used right now: {type(error).__name__}") from error
