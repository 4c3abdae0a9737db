"""A bucket: the requests to S3, or to a compatible store, whose failures become those of the store."""

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from teleop_runtime.store.errors import StoreUnusable

# The smallest part of a multipart upload that S3 accepts, and the most of an upload in memory.
PART_BYTES = 5 * 1024 * 1024
# S3's own limit.
MAX_MULTIPART_PARTS = 10_000
# Bytes read at a time; they are hashed or sent on at once.
READ_BYTES = 1024 * 1024
# Retries by obstore, with growing pauses, so that nobody notices the restart of a node.
MAX_RETRIES = 5
# After this time the caller gets the error, and asks the client to retry.
RETRY_TIMEOUT = timedelta(seconds=30)
# S3's own code.
NO_BUCKET = "NoSuchBucket"
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class Bucket:
    """Objects by their keys. Everything raises StoreUnusable if S3 can't be reached."""

    def __init__(self, bucket: S3Store) -> None:
        self._bucket = bucket

    @classmethod
    def open(cls, address: str) -> "Bucket":
        """The one at `s3://bucket/prefix`; endpoint and credentials are those of the environment."""
        bucket, _, prefix = address.removeprefix("s3://").strip("/").partition("/")
        endpoint = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
        options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        store = S3Store(
            bucket,
            prefix=prefix or None,
            # Only an admin who names such an endpoint sends keys and data in the clear.
            client_options={"allow_http": (endpoint or "").startswith("http://")},
            retry_config={"max_retries": MAX_RETRIES, "retry_timeout": RETRY_TIMEOUT},
            **options,
        )
        return cls(store)

    async def size(self, key: str) -> int | None:
        """Bytes of an object; None if there is none."""
        try:
            with _reaching():
                return (await obstore.head_async(self._bucket, key))["size"]
        except FileNotFoundError:
            return None

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Bytes [start, end) of an object; raises FileNotFoundError."""
        if end is not None and start >= end:
            return
        with _reaching():
            options: Any = {} if end is None else {"range": (start, end)}
            found = await obstore.get_async(self._bucket, key, options=options)
            async for block in found.stream(min_chunk_size=READ_BYTES):
                yield bytes(block)

    async def small(self, key: str) -> bytes | None:
        """A small object as a whole; None if there is none."""
        try:
            with _reaching():
                found = await obstore.get_async(self._bucket, key)
                return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None

    async def put(self, key: str, content: bytes) -> None:
        """Store an object by one request, in place of what was there."""
        with _reaching():
            await obstore.put_async(self._bucket, key, content, use_multipart=False)

    async def put_new(self, key: str, content: bytes | bytearray) -> None:
        """The same, if nothing is there; else raises AlreadyExistsError."""
        with _reaching():
            await obstore.put_async(self._bucket, key, content, mode="create", use_multipart=False)

    async def put_large(self, key: str, blocks: AsyncIterator[bytes], size_bytes: int) -> None:
        """Store an object in parts: it is there once the last one is, unless `blocks` raises.

        Raises FileNotFoundError if S3 does not know the upload any more: it may have completed it.
        """
        with _reaching():
            await obstore.put_async(
                self._bucket,
                key,
                blocks,
                use_multipart=True,
                chunk_size=max(PART_BYTES, -(-size_bytes // MAX_MULTIPART_PARTS)),
                max_concurrency=1,
            )

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        if keys:
            with _reaching():
                await obstore.delete_async(self._bucket, keys)

    async def list(self, prefix: str) -> AsyncGenerator[tuple[str, int, datetime]]:
        """(key, bytes, when it was put) of everything below a prefix."""
        with _reaching():
            async for page in obstore.list(self._bucket, prefix=prefix):
                for found in page:
                    yield found["path"], found["size"], found["last_modified"]


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    # An answer, not a failure: it is how one of two writers loses.
    except AlreadyExistsError:
        raise
    except BaseError as error:
        raise StoreUnusable(f"the file store can't be used right now: {reason_of(error)}") from error
    except FileNotFoundError as error:
        # Without its bucket no object is there, but none of them is missing.
        if NO_BUCKET in str(error):
            raise StoreUnusable(f"the file store can't be used right now: {NO_BUCKET}") from error
        raise


def reason_of(error: Exception) -> str:
    """Why S3 did not do it, in a few words: what it or the network said, which obstore has in its text only.

    Without the address, as strangers may ask whether the service is ready.
    """
    said, _, source = str(error).partition("\n\nDebug source:")
    if code := re.search(r"<Code>(\w{1,64})</Code>", said):
        return code[1]
    if status := re.search(r"status code: (\d{3} [A-Za-z ]{1,32})", said):
        return f"it answers {status[1].strip()}"
    if system := re.search(r'(?:message|error): "([^"\\]{1,200})"', source):
        return system[1]
    if "TimedOut" in source:
        return "it does not answer"
    return type(error).__name__
